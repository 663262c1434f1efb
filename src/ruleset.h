/*
 * ruleset.h - the rules, as data.  Pure: policy, links -> ordered rules with S numbers.
 *
 * Three tables of one name: inet has what passes the IP stack, netdev and bridge
 * what goes round it (S11).
 *
 * All order that matters for safety is decided here and nowhere else; the
 * numbers S1 to S15 are those of the promises in rules/README.md.  A ruleset
 * can be printed (ruleset_print.h), turned into expressions (fwexpr.h) and
 * compared with the kernel's (fwdiff.h).
 *
 * Three properties of the kernel shape it (each has a test in tests/lab):
 * - No blocking decision looks into a set or a map: such a lookup can miss
 *   while a transaction commits.  Ports and protocols are compares; sets only
 *   ever allow, so a miss fails closed.
 * - Base chains never change.  What changes are the rules of regular chains
 *   and the elements of sets.
 * - Packets that are no name traffic meet the compares of one base chain and
 *   nothing else.  They let go what can be seen to go elsewhere; a packet whose
 *   port cannot be seen (a later fragment) is looked at, not let go.
 */
#ifndef RULESET_H
#define RULESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netstate.h"
#include "policy.h"
#include "ruleset_sets.h"

/*
 * RULESET_STANDIN holds the same rules for the moment in which RULESET_TABLE is
 * made anew; RULESET_PROBE is never committed.
 */
#define RULESET_TABLE	"leakguard"
#define RULESET_STANDIN "leakguard_standin"
#define RULESET_PROBE	"leakguard_probe"
#define RULESET_NAME	32  /* chain, set and counter names, with NUL */
#define RULESET_TEXT	128 /* a rule's comment, with NUL; nft takes no longer one */

/* Whether the kernel has a part whose lack has a fallback. */
enum part { PART_UNKNOWN, PART_LACKS, PART_HAS };

struct parts {
	enum fragments fragments; /* the way for S9; FRAGMENTS_AUTO: not known */
	enum part egress;	  /* chains at a link's way out, Linux 5.16 */
	enum part bridge;	  /* tables of the bridge family */
	enum part route; /* meta rtclassid: whether a packet has a route (CONFIG_IP_ROUTE_CLASSID) */
};

enum match_kind {
	MATCH_DPORT,	   /* th dport N: two bytes at the transport header, of any protocol */
	MATCH_SPORT,	   /* th sport N */
	MATCH_OTHER_DPORT, /* th dport != N for each guarded port */
	MATCH_L4PROTO,	   /* meta l4proto N */
	MATCH_NO_PORTS,	   /* meta l4proto != udp meta l4proto != tcp */
	MATCH_FAMILY,	   /* meta nfproto ipv4|ipv6; meta protocol ip|ip6 but in inet tables */
	MATCH_OIF_LO,	   /* oif "lo", by its index, which is 1 in every namespace */
	MATCH_OIFNAME,	   /* oifname "wg0" or "tun*" */
	MATCH_IIFNAME,	   /* iifname, the same */
	MATCH_LOCAL,	   /* fib daddr type local: this host's address */
	MATCH_CT_DNAT,	   /* ct status dnat: its destination is another than it was sent to */
	MATCH_SET,	   /* the fields of a set @set */
	MATCH_DADDR_LO4,   /* ip daddr 127.0.0.0/8 */
	MATCH_DADDR_LO6,   /* ip6 daddr ::1 */
	MATCH_MARKED,	   /* meta mark != 0 */
	MATCH_HAS_PORT4,   /* ip frag-off & 0x1fff == 0: IPv4, and no later fragment */
	MATCH_LATER_FRAG4, /* ip frag-off & 0x1fff != 0 */
	MATCH_LATER_FRAG6, /* frag frag-off != 0 */
	MATCH_CT_INVALID,  /* ct state invalid */
	MATCH_FRAG6,	   /* exthdr frag exists: IPv6, and a fragment */
	MATCH_ANY_L4PROTO, /* meta l4proto != 255: the kernel has found a transport header */
	MATCH_ROUTED, /* meta rtclassid != 0xffffffff: it has a route, so it came by the IP stack */
	MATCH_NOT_BRIDGED, /* meta pkttype host */
	MATCH_STAMPED,	   /* meta priority RULESET_STAMP */
	MATCH_OIFTYPE,	   /* meta oiftype N; ARPHRD_* */
	MATCH_PROTOCOL,	   /* meta protocol N; ETH_P_*, as the sender calls it */
	MATCH_RAW,	   /* bytes at a fixed place of the frame */
	MATCH_IPSEC, /* rt ipsec exists: an outgoing policy will transform it; ipsec out reqid N */
};

enum raw_base { RAW_LINK, RAW_NETWORK, RAW_TRANSPORT };

/* @ll,96,16 0x0800; all numbers in bytes, values in host order */
struct raw {
	enum raw_base base;
	uint8_t at, len;	/* 1 or 2 */
	bool differs;		/* != each of the values, instead of == the only one */
	uint16_t mask;		/* 0: all bits */
	uint16_t only;		/* the one value, where it is not static; 0: */
	const uint16_t *values; /* static; NULL: the guarded ports */
	uint8_t values_len;
};

struct match {
	enum match_kind kind;
	union {
		struct raw raw; /* MATCH_RAW */
		uint16_t port; /* MATCH_DPORT, MATCH_SPORT, host order; MATCH_OIFTYPE, MATCH_PROTOCOL */
		uint8_t proto;	    /* MATCH_L4PROTO */
		sa_family_t family; /* MATCH_FAMILY */
		struct tunnel link; /* MATCH_OIFNAME, MATCH_IIFNAME */
		size_t set;	    /* MATCH_SET: index into ruleset.sets */
		uint32_t reqid;	    /* MATCH_IPSEC; 0: any */
	};
};

enum verdict {
	VERDICT_ACCEPT,
	VERDICT_DROP,
	VERDICT_RETURN,
	VERDICT_JUMP,
	VERDICT_GOTO,
	VERDICT_REJECT_RESET, /* TCP reset */
	VERDICT_REJECT_ADMIN, /* ICMP and ICMPv6 administratively prohibited */
	VERDICT_LOG,	      /* to nflog, and on to the next rule */
	VERDICT_TPROXY4,      /* tproxy ip to :1; never reached */
	VERDICT_TPROXY6,      /* tproxy ip6 to :1; never reached */
	VERDICT_DNAT,	      /* dnat ip to ADDR:PORT */
	VERDICT_REDIRECT,     /* redirect: to this host */
	VERDICT_MASQUERADE,   /* masquerade */
	VERDICT_COUNT,	      /* update @blocked { oifname . th dport counter }, and on */
	VERDICT_STAMP,	      /* meta priority set RULESET_STAMP, and on to the next rule */
	VERDICT_NO_OFFLOAD,   /* ct expectation set RULESET_NO_OFFLOAD, and on to the next rule */
};

#define RULE_MAX_MATCHES 5

struct rule {
	unsigned int promise; /* the S number */
	struct match matches[RULE_MAX_MATCHES];
	size_t matches_len;
	bool counted; /* counter name "S<promise>" */
	enum verdict verdict;
	const char *target;	    /* VERDICT_JUMP, VERDICT_GOTO: a chain's name */
	struct redirect to;	    /* VERDICT_DNAT, with a port */
	char comment[RULESET_TEXT]; /* starts with the S number */
};

enum hook {
	HOOK_NONE,
	HOOK_POSTROUTING,
	HOOK_OUTPUT,
	HOOK_FORWARD,
	HOOK_EGRESS,
	HOOK_DNAT,	    /* chains of type nat: at prerouting, */
	HOOK_SNAT,	    /* and at postrouting */
	HOOK_EARLY_FORWARD, /* forward, before anybody else's */
};

struct chain {
	const char *name;
	const char *device; /* of a chain made for one; NULL: none, or HOOK_EGRESS's model */
	enum hook hook;	    /* HOOK_NONE: a regular chain; HOOK_EGRESS: one for each device */
	int priority;	    /* of a base chain */
	struct rule *rules; /* owned */
	size_t rules_len, rules_room;
};

#define RULESET_MAX_CHAINS 32

/* A link with a chain of its own, made like the one of hook HOOK_EGRESS. */
struct device {
	char name[IFNAMSIZ];
	int index;
};

struct ruleset {
	enum family family;
	int priority;				 /* of its base chains */
	struct chain chains[RULESET_MAX_CHAINS]; /* a chain stands after those it is jumped to from */
	size_t chains_len;			 /* 0: no such table is wanted */
	struct device *devices;			 /* owned; FAMILY_NETDEV only; sorted by name */
	size_t devices_len;
	struct set sets[RULESET_MAX_SETS]; /* only those with elements */
	size_t sets_len;
	unsigned int counters[8]; /* S numbers that have a counter */
	size_t counters_len;
	bool no_offload;		  /* has the object RULESET_NO_OFFLOAD */
	uint16_t ports[POLICY_MAX_PORTS]; /* for MATCH_OTHER_DPORT, host order */
	size_t ports_len;
	uint32_t log_group, log_rate; /* for VERDICT_LOG */
	enum fragments fragments;     /* how S9 is kept: never FRAGMENTS_AUTO */
};

/* Priority of our base chains; why, is said in ruleset_inet.c and ruleset_frames.c. */
#define RULESET_PRIORITY       99
#define RULESET_IPSEC_PRIORITY 101
#define RULESET_DNAT_PRIORITY  (-101)
/*
 * An expectation of no packets: it expects nothing, but to refer to it gives a flow
 * what the kernel keeps for helpers, and such a flow is never offloaded
 * (nft_ct_expect_obj_eval(), nft_flow_offload_eval()).
 */
#define RULESET_NO_OFFLOAD     "no_offload"

/*
 * What is behind a PPP link's egress hook and has a route met the verdict; PPP takes
 * the route off (ppp_start_xmit()), but leaves the priority, which tells the link
 * below it.  "lg", and 0 where queues look for a class of their own: best effort.
 */
#define RULESET_STAMP	   0x6c670000
#define RULESET_STAMP_TEXT "6c67:0" /* as nft writes it */

#define RULESET_OFFLOAD_PRIORITY (-300)
#define RULESET_SNAT_PRIORITY	 100
#define RULESET_FRAME_PRIORITY	 400

/* The set of this name, or NULL. */
const struct set *ruleset_set(const struct ruleset *rs, const char *name);

/* What the bytes of a MATCH_RAW are compared with; returns how many. */
size_t ruleset_raw_values(const struct ruleset *rs, const struct raw *raw,
			  const uint16_t **ret_values);

/* The name of a device's chain, into buf of RULESET_NAME bytes; returns buf. */
const char *ruleset_device_chain(const struct device *device, char *buf);

/*
 * Build the rules of a validated policy, for table inet.  `how` says which way
 * for fragments the kernel has (not FRAGMENTS_AUTO).
 * 0 and a ruleset to free with ruleset_fini(), or -ENOMEM and nothing to free.
 */
int ruleset_build(const struct policy *p, const struct pins *pins, enum fragments how,
		  struct ruleset *ret_ruleset);

/*
 * The same for the table of family FAMILY_NETDEV or FAMILY_BRIDGE, and these links.
 * Without chains (chains_len is 0) where frames are off or the kernel lacks the
 * parts.
 */
int ruleset_build_frames(enum family family, const struct policy *p, const struct pins *pins,
			 const struct netstate *ns, const struct parts *parts,
			 struct ruleset *ret_ruleset);

/*
 * Choose the links that have a chain anew; nothing else of the rules changes.
 * 0, or -ENOMEM and they are as before.
 */
int ruleset_choose_devices(struct ruleset *rs, const struct policy *p, const struct netstate *ns);

/* All tables; the same returns. */
int rulesets_build(const struct policy *p, const struct pins *pins, const struct netstate *ns,
		   const struct parts *parts, struct ruleset ret_rulesets[FAMILIES]);

/* Accepts rulesets of all zeros. */
void rulesets_fini(struct ruleset rulesets[FAMILIES]);

/*
 * Open for `left_ms` more, or not (0): by elements of the set "pause" that the
 * kernel takes away itself; `lapsing` for the moment behind it, in which they may
 * still be there.  0 or -ENOMEM.
 */
int ruleset_pause(struct ruleset *rs, uint64_t left_ms, bool lapsing);

/* Frees what the ruleset owns.  Accepts one of all zeros. */
void ruleset_fini(struct ruleset *rs);

#endif
