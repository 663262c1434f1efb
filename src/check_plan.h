/*
 * check_plan.h - which packets `check` sends: links, targets -> shots.  Pure.
 *
 * A shot is one packet.  The queries of one link, way, target and protocol stand
 * together, one for each guarded port, and behind them their control: the same
 * to a port where nobody minds.  The control leaves by whatever way the queries
 * would have taken, later: once it was seen, what was not seen will not come.
 */
#ifndef CHECK_PLAN_H
#define CHECK_PLAN_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check_packet.h"
#include "policy.h"
#include "text.h"

#define CHECK_MAX_LINKS	    32
#define CHECK_MAX_TARGETS   64 /* a link's reach is a mask of them */
#define CHECK_MAX_GATEWAYS  2  /* of one link and family */
#define CHECK_MAX_RESOLVERS 16
#define CHECK_MAX_SHOTS	    8192
#define CHECK_MAX_LEFT	    4	  /* links that one packet was seen on */
#define CHECK_PORT_BLOCK    2048  /* source ports, a power of two; see check_plan_build() */
#define CHECK_PORT_FIRST    10240 /* below those that kernels choose themselves (32768 and up) */
#define CHECK_CONTROL_PORT  9	  /* discard, RFC 863 */
#define CHECK_CONTROL_OTHER 11113 /* no service has it; where 9 is guarded */
#define CHECK_LABEL	    24	  /* "q", then 16 hexadecimal digits, with NUL */
#define CHECK_SOURCE	    96

enum check_way {
	CHECK_WAY_PLAIN,  /* a socket; routes decide */
	CHECK_WAY_BOUND,  /* a socket bound to the link (SO_BINDTODEVICE) */
	CHECK_WAY_RAW,	  /* a raw IP socket bound to the link: headers by hand */
	CHECK_WAY_PIECES, /* the same, a datagram in two fragments: the later one shows no port */
	CHECK_WAY_FRAME,  /* a packet socket of the link: past the IP stack */
	CHECK_WAY_FRAME_PIECES,
	CHECK_WAYS,
};

enum check_kind {
	CHECK_KIND_GATEWAY,
	CHECK_KIND_RESOLVER,
	CHECK_KIND_NOBODY, /* of a range for documentation (RFC 5737, RFC 3849) */
};

struct check_target {
	struct addr addr;
	enum check_kind kind;
	int link;		   /* by index: asked through this one alone; 0: any */
	char source[CHECK_SOURCE]; /* of a resolver: the file that names it */
};

struct check_link {
	int index;
	char name[IFNAMSIZ];
	uint16_t type;	     /* ARPHRD_* */
	uint64_t reach;	     /* targets that a route by this link leads to, by their numbers */
	const char *skipped; /* static: why nothing is tried here; NULL: it is */
};

struct check_shot {
	int link; /* number of the plan's; -1: where routes lead */
	enum check_way way;
	size_t target;
	uint8_t proto;
	uint16_t port, sport; /* host order */
	uint32_t tag;	      /* where we make the headers: TCP's sequence number, IPv4's id */
	char label[CHECK_LABEL];
	bool is_control;
	size_t control; /* number of the shot that is its control */

	/* What became of it. */
	bool no_route;		  /* not sent: nothing leads there by this link */
	int err;		  /* -errno of sending it */
	int left[CHECK_MAX_LEFT]; /* links it was seen leaving by, by index */
	size_t left_len;
	unsigned int counted; /* the only S number that has counted it; 0: none, or not to be told */
};

struct check_plan {
	struct check_shot *shots; /* owned */
	size_t shots_len, links_len, targets_len;
	size_t links_out, targets_out, shots_out; /* that found no room */
	uint16_t base_port;			  /* source ports: a block from here on */
	uint16_t control_port;
	bool lost; /* the tap lost packets: what was not seen may have left */
	struct check_link links[CHECK_MAX_LINKS];
	struct check_target targets[CHECK_MAX_TARGETS];
};

/* Add one, if it is not there yet; counted where there is no room. */
void check_plan_add_target(struct check_plan *plan, const struct addr *addr, enum check_kind kind,
			   int link, const char *source);

/*
 * Make the shots from links, targets and the policy's ports.  `seed` are random
 * bytes that labels, tags and the block of source ports are made of.  0 or
 * -ENOMEM.  What has no room is counted.
 */
int check_plan_build(struct check_plan *plan, const struct policy *p, uint64_t seed);

/* Frees what it owns.  Accepts one of all zeros. */
void check_plan_fini(struct check_plan *plan);

/* The shot of this protocol, family and source port; NULL: none of ours. */
struct check_shot *check_plan_find(const struct check_plan *plan, sa_family_t family, uint8_t proto,
				   uint16_t sport);

/* Whether it goes by packet sockets; whether in two fragments. */
bool check_way_is_frame(enum check_way way);
bool check_way_is_cut(enum check_way way);

const char *check_way_format(enum check_way way);    /* "bound" */
const char *check_kind_format(enum check_kind kind); /* "gateway" */

#endif
