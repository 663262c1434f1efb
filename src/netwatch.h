/*
 * netwatch.h - the kernel's links and routes -> struct netstate; its events -> "look again"
 *
 * The only file that speaks rtnetlink.  Needs no capability.
 */
#ifndef NETWATCH_H
#define NETWATCH_H

#include <stdbool.h>
#include <stddef.h>

struct addr;
struct netstate;
struct mnl_socket;

struct netwatch {
	struct mnl_socket *events; /* owned; NULL: not open */
	bool appeared;		   /* the last netwatch_read() was told of a new link */
};

/*
 * Dump all links into an empty netstate, as one consistent whole.  Blocks
 * until the kernel has answered, at most 2 s a message.  0, or -errno (-ENOMEM,
 * or -EIO for what could not be read, or when links came and went during
 * every one of 16 dumps) and nothing to free.
 */
int netwatch_dump_links(struct netstate *ns);

/*
 * Ask the kernel where packets to each address would go now, as local programs
 * without a mark of their own send them (RTM_GETROUTE, rtnetlink(7)); fills
 * ns->routes in the same order.  An address without a route, or whose route
 * refuses, gets no hops.  0 or -errno as above.
 */
int netwatch_lookup_routes(struct netstate *ns, const struct addr *addrs, size_t n);

/*
 * Add to ns->wides what leads through this link in any routing table.  Of
 * others' routes the kernel sends none (NETLINK_GET_STRICT_CHK, Linux 4.20), or
 * they are passed by.  0 or -errno as above; what was there stays.
 */
int netwatch_dump_wide(struct netstate *ns, int link);

/*
 * Open a socket that becomes readable when links, addresses, routes, rules or
 * nexthops change.  It does not block, and keeps 1 MiB of events (what
 * net.core.rmem_max allows, without CAP_NET_ADMIN).  What changed before is not
 * told: open it, then dump.  0 or -errno as above.
 */
int netwatch_open(struct netwatch *ret_nw);

/* Closes it.  Accepts one of all zeros. */
void netwatch_close(struct netwatch *nw);

/* To poll for reading, level-triggered.  Lent: it lives as long as the netwatch.  -1: not open. */
int netwatch_fd(const struct netwatch *nw);

/*
 * From now on routes that cover none of addrs wake nobody (routefilter.h says
 * which do); without addrs only default routes do.  All other events pass.
 * What changed before is not told: set it, then look the routes of addrs up.
 * 0, or -errno of SO_ATTACH_FILTER (socket(7)), and the filter before stays.
 */
int netwatch_filter(struct netwatch *nw, const struct addr *addrs, size_t n);

/*
 * Take up to 4,096 events off the socket, without blocking; more leave it
 * readable.  What they say is not looked at: links that go down take routes
 * with them unsaid, so any event means no more than "look again"; but nw->appeared
 * tells whether a link seems to be new, so that it is looked at soon.  *ret_changed:
 * there were events, or they were lost; *ret_lost: the kernel had no room for
 * some (ENOBUFS, netlink(7)).  0, or -errno: the socket is broken, open another
 * and look again.
 */
int netwatch_read(struct netwatch *nw, bool *ret_changed, bool *ret_lost);

#endif
