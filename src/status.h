/* status.h - what is in force, read from the kernel, and what looks wrong */
#ifndef STATUS_H
#define STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "fwblocked.h"
#include "netstate.h"
#include "policy.h"
#include "watch_status.h"

struct fwsock;
struct rundir;

/* design.md section 5; ALTERED is this program's own: somebody changed the rules. */
enum guard_state {
	GUARD_STATE_OFF,     /* no table */
	GUARD_STATE_LOCKED,  /* guarded, no tunnel is up */
	GUARD_STATE_GUARDED, /* guarded, a tunnel is up */
	GUARD_STATE_STALE,   /* the last change was refused; the rules before are in force */
	GUARD_STATE_ALTERED, /* our table is there, but not as leakguard made it */
};

enum warning_code {
	WARNING_RESOLV_CONF,	  /* resolv.conf names a resolver that is not approved */
	WARNING_RESOLVER_OUTSIDE, /* an approved resolver is routed outside the tunnel */
	WARNING_NO_TUNNEL,	  /* no link matches a tunnel entry */
	WARNING_FLOWTABLE,   /* one forwards packets past the rules, and frames are not judged */
	WARNING_LATE_CHAIN,  /* a chain after ours could rewrite the packet */
	WARNING_IPV6_LACKS,  /* IPv6 is on, the kernel lacks a part for it */
	WARNING_ALTERED,     /* the rules are not those of the policy */
	WARNING_TUNNEL_KIND, /* a link of a tunnel's name is none by its kind */
	WARNING_IPSEC_LINK,  /* a tunnel hands its packets on to IPsec, which is none */
	WARNING_PAUSED,	     /* name traffic goes anywhere for a while */
	WARNING_STALE,	     /* a change was refused, and is tried again */
	WARNING_FIGHT,	     /* somebody changes the rules again and again */
	WARNING_ROUTE_TRIED, /* a route led, or leads, a closed resolver outside */
	WARNING_NO_WATCHER,  /* nobody follows routes or undoes what others change */
	WARNING_NO_RECORD,   /* the run directory does not say what was asked for */
	WARNING_FRAMES_LACK, /* the kernel cannot judge frames */
	WARNING_REDIRECT_CLOSED, /* LAN clients are led to a resolver that is not approved */
	WARNING_LINK_UNCOVERED,	 /* frames leave by this link unjudged */
};

#define STATUS_MAX_WARNINGS 32
#define STATUS_MAX_COUNTERS 16
#define STATUS_WATCHER_MS   3000
#define STATUS_MAX_ROUTES   1024 /* resolvers whose route is looked up */

struct status_warning {
	enum warning_code code;
	char text[CONFIG_ERR + 64];
};

struct status_counter {
	char name[8]; /* "S7" */
	uint64_t packets, bytes;
};

struct status_resolver {
	struct resolver resolver;
	bool pinned;
	bool looked_up;	      /* the route below was asked for */
	char route[IFNAMSIZ]; /* the link its route takes now; "" for none */
	bool through_tunnel;
};

/* What becomes of frames at a link (S11). */
enum link_cover {
	LINK_COVER_COVERED,
	LINK_COVER_LOOPBACK,
	LINK_COVER_TUNNEL,
	LINK_COVER_INSIDE,
	LINK_COVER_CARRIER, /* a tunnel stands on it: what it carries is let go */
	LINK_COVER_NONE,
};

struct status_link {
	const struct link *link; /* of status.net */
	enum link_cover cover;
	const char *why; /* LINK_COVER_NONE only; static */
};

/* What the kernel lets others do to our table. */
enum table_owner {
	TABLE_OWNER_NONE,   /* an ordinary table: whoever is root may change it */
	TABLE_OWNER_SOCKET, /* nobody but the process that has the owning socket */
	TABLE_OWNER_ORPHAN, /* it outlived that: whoever is root may change it, or adopt it */
};

struct status {
	enum guard_state state;
	enum table_owner owner;
	uint64_t pause_left_ms; /* 0: no pause */
	bool egress, bridge;	/* whether there are tables netdev and bridge */
	bool watched;		/* a watcher has answered, see below */
	struct netstate net;
	struct status_link *links;	   /* owned; one for each of the netstate's */
	struct status_resolver *resolvers; /* owned; one for each of the policy's */
	struct fwblocked *blocked;	   /* owned; what S7 and S11 blocked, by link and port */
	size_t blocked_len;
	size_t counters_len;
	size_t warnings_len; /* more than STATUS_MAX_WARNINGS are left out */

	/* What is large comes last: the rest is near, and reached by short instructions. */
	struct status_counter counters[STATUS_MAX_COUNTERS];
	struct watch_status watch; /* what the watcher tells */
	struct policy policy;	   /* in force; of the kernel's rules where nothing else tells */
	struct status_warning warnings[STATUS_MAX_WARNINGS];
};

/*
 * Read it all; changes nothing but may load a kernel module to probe for.
 * Asks the watcher of the run directory too, and waits STATUS_WATCHER_MS for it.
 * `rd` is NULL without a run directory, and
 * its lock is not held.  0 and a status for status_fini(), or
 * -errno with a text.
 */
int status_read(struct fwsock *fs, struct rundir *rd, struct status *ret_status,
		char reterr_text[CONFIG_ERR]);
void status_fini(struct status *st);

/* Whether the rules of a policy of ours are in force; STALE too has some. */
bool status_is_guarded(const struct status *st);

const char *guard_state_format(enum guard_state state);	 /* "LOCKED" */
const char *warning_code_format(enum warning_code code); /* "resolv-conf" */
const char *link_cover_format(enum link_cover cover);	 /* "covered" */

#endif
