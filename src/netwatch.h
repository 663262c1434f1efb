/*
 * netwatch.h - libnl: the kernel's links and routes -> struct netstate
 *
 * The only file that speaks rtnetlink.  Needs no capability.
 */
#ifndef NETWATCH_H
#define NETWATCH_H

#include <stddef.h>

struct addr;
struct netstate;

/*
 * Dump all links into an empty netstate.  0, or -errno (-ENOMEM, or -EIO for
 * what libnl could not read) and nothing to free.
 */
int netwatch_dump_links(struct netstate *ns);

/*
 * Ask the kernel where packets to each address would go now, as local programs
 * without a mark of their own send them (RTM_GETROUTE, rtnetlink(7)); fills
 * ns->routes in the same order.  An address without a route, or whose route
 * refuses, gets link 0.  0 or -errno as above.
 */
int netwatch_lookup_routes(struct netstate *ns, const struct addr *addrs, size_t n);

#endif
