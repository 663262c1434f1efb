/* netstate.h - links, and the routes of the few addresses that matter.  Pure data. */
#ifndef NETSTATE_H
#define NETSTATE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "text.h"

#define LOOPBACK_IFINDEX 1 /* net/core/dev.c: the loopback device is a namespace's first */

struct link {
	int index;
	char name[IFNAMSIZ];
	char kind[IFNAMSIZ]; /* rtnetlink's IFLA_INFO_KIND: "tun", "wireguard"; "" for hardware */
	bool up;	     /* administratively; IFF_UP */
	int master;	     /* of which bridge, bond, ... it is a port, by index; 0: none */
	int parent;	     /* the link of this namespace below it, as IFLA_LINK has it; 0: none */
};

#define ROUTE_MAX_HOPS 8

/* By which links packets to this address would leave now: several, where a route spreads them. */
struct route_to {
	struct addr addr;
	int hops[ROUTE_MAX_HOPS]; /* interface indexes; 0 behind the last: no route */
};

/*
 * A route that takes in more than any private network does: a default route, or a
 * large part of one.  10.0.0.0/8 and fc00::/7 are the largest private ones.
 */
#define WIDE_BITS_IPV4 7
#define WIDE_BITS_IPV6 6

struct wide_route {
	int link; /* interface index */
	struct addr dst;
	unsigned int bits; /* its prefix; 0: a default route */
	uint32_t table;
};

struct netstate {
	struct link *links; /* owned */
	size_t links_len, links_room;
	struct route_to *routes; /* owned; in the order they were asked for */
	size_t routes_len;
	struct wide_route *wides; /* owned; of those links that were asked for */
	size_t wides_len, wides_room;
};

/* Frees what it owns.  Accepts one of all zeros. */
void netstate_fini(struct netstate *ns);

/* Room for one more, not set yet; NULL: out of memory. */
struct link *netstate_add_link(struct netstate *ns);
struct wide_route *netstate_add_wide(struct netstate *ns);

const struct link *netstate_link(const struct netstate *ns, int index);		     /* or NULL */
const struct link *netstate_link_named(const struct netstate *ns, const char *name); /* or NULL */

#endif
