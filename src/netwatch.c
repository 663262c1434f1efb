#include "netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/socket.h>

#include "netstate.h"

#define ANSWER_TIMEOUT_S 2 /* the kernel answers at once */

static int open_socket(struct nl_sock **ret_sk)
{
	/* libnl waits for an answer also to a request that it could not send. */
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	struct nl_sock *sk = nl_socket_alloc();

	if (!sk)
		return -ENOMEM;
	if (nl_connect(sk, NETLINK_ROUTE) < 0 || /* sets close-on-exec */
	    setsockopt(nl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout))) {
		nl_socket_free(sk);
		return -EIO;
	}
	*ret_sk = sk;
	return 0;
}

static int take_link(struct netstate *ns, struct rtnl_link *from)
{
	const char *name = rtnl_link_get_name(from), *kind = rtnl_link_get_type(from);
	struct link *link;

	if (ns->links_len == ns->links_room) {
		const size_t room = ns->links_room ? ns->links_room * 2 : 16;
		struct link *links = realloc(ns->links, room * sizeof(*links));

		if (!links)
			return -ENOMEM;
		ns->links = links;
		ns->links_room = room;
	}
	link = &ns->links[ns->links_len++];
	*link = (struct link){
		.index = rtnl_link_get_ifindex(from),
		.up = (rtnl_link_get_flags(from) & IFF_UP) != 0,
	};
	strncpy(link->name, name ? name : "", IFNAMSIZ - 1);
	strncpy(link->kind, kind ? kind : "", IFNAMSIZ - 1);
	return 0;
}

int netwatch_dump_links(struct netstate *ns)
{
	struct nl_cache *cache;
	struct nl_sock *sk;
	int err = open_socket(&sk);

	if (err)
		return err;
	err = rtnl_link_alloc_cache(sk, AF_UNSPEC, &cache);
	nl_socket_free(sk);
	if (err < 0)
		return err == -NLE_NOMEM ? -ENOMEM : -EIO;

	err = 0;
	for (struct nl_object *o = nl_cache_get_first(cache); o && !err; o = nl_cache_get_next(o))
		err = take_link(ns, (struct rtnl_link *)o);
	nl_cache_free(cache);
	if (err)
		netstate_fini(ns);
	return err;
}

/* The link of the answer's first next hop; multipath routes spread over all of them. */
static int take_route(struct nl_msg *msg, void *arg)
{
	struct route_to *to = arg;
	struct rtnl_route *route = NULL;
	struct rtnl_nexthop *hop;

	if (rtnl_route_parse(nlmsg_hdr(msg), &route) < 0)
		return NL_SKIP;
	hop = rtnl_route_nexthop_n(route, 0);
	if (hop &&
	    (rtnl_route_get_type(route) == RTN_UNICAST || rtnl_route_get_type(route) == RTN_LOCAL))
		to->link = rtnl_route_nh_get_ifindex(hop);
	rtnl_route_put(route);
	return NL_STOP;
}

static int ask_route(struct nl_sock *sk, struct route_to *to)
{
	struct rtmsg request = {
		.rtm_family = (unsigned char)to->addr.family,
		.rtm_dst_len = (unsigned char)(addr_len(&to->addr) * 8),
	};
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST);
	int err;

	if (!msg)
		return -ENOMEM;
	if (nlmsg_append(msg, &request, sizeof(request), NLMSG_ALIGNTO) < 0 ||
	    nla_put(msg, RTA_DST, (int)addr_len(&to->addr), to->addr.bytes) < 0) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	err = nl_send_auto(sk, msg);
	nlmsg_free(msg);
	if (err < 0)
		return err == -NLE_NOMEM ? -ENOMEM : -EIO;

	err = nl_recvmsgs_default(sk);
	if (err == -NLE_NOMEM)
		return -ENOMEM;
	/* Any error of the kernel's means that no packet would go: unreachable, prohibited, ... */
	return err == -NLE_AGAIN ? -EIO : 0;
}

int netwatch_lookup_routes(struct netstate *ns, const struct addr *addrs, size_t n)
{
	struct route_to *routes = calloc(n + 1, sizeof(*routes));
	struct nl_sock *sk;
	int err;

	if (!routes)
		return -ENOMEM;
	err = open_socket(&sk);
	if (err) {
		free(routes);
		return err;
	}
	nl_socket_disable_auto_ack(sk);
	for (size_t i = 0; i < n && !err; i++) {
		routes[i].addr = addrs[i];
		nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, take_route, &routes[i]);
		err = ask_route(sk, &routes[i]);
	}
	nl_socket_free(sk);
	if (err) {
		free(routes);
		return err;
	}
	free(ns->routes);
	ns->routes = routes;
	ns->routes_len = n;
	return 0;
}
