#include "netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/socket.h>

#include "netstate.h"
#include "routefilter.h"

#define ANSWER_TIMEOUT_S 2 /* the kernel answers at once */
#define DUMP_TRIES	 16
/* Some 2,500 events: a link brings up to 13 each time it changes. */
#define EVENTS_BYTES	 (1 << 20)
#define EVENTS_A_READ	 4096 /* 5 ms of recv(2) */

/* The start of an event about a link. */
struct event {
	struct nlmsghdr nlh;
	struct ifinfomsg info;
};

/* libnl says NLE_NOMEM for ENOBUFS, too. */
static int errno_of(int nlerr)
{
	if (nlerr >= 0)
		return 0;
	return nlerr == -NLE_NOMEM ? -ENOMEM : -EIO;
}

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
	nl_socket_disable_auto_ack(sk);
	*ret_sk = sk;
	return 0;
}

static int take_link(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	const struct ifinfomsg *info = nlmsg_data(nlh);
	struct nlattr *name, *linkinfo, *master, *parent, *kind = NULL;
	struct link *link;

	if (nlh->nlmsg_type != RTM_NEWLINK || !nlmsg_valid_hdr(nlh, sizeof(*info)))
		return NL_SKIP;
	link = netstate_add_link(arg);
	if (!link)
		return -NLE_NOMEM;
	*link = (struct link){ .index = info->ifi_index, .up = (info->ifi_flags & IFF_UP) != 0 };

	name = nlmsg_find_attr(nlh, sizeof(*info), IFLA_IFNAME);
	linkinfo = nlmsg_find_attr(nlh, sizeof(*info), IFLA_LINKINFO);
	if (linkinfo)
		kind = nla_find(nla_data(linkinfo), nla_len(linkinfo), IFLA_INFO_KIND);
	if (name)
		nla_strlcpy(link->name, name, sizeof(link->name));
	if (kind)
		nla_strlcpy(link->kind, kind, sizeof(link->kind));
	master = nlmsg_find_attr(nlh, sizeof(*info), IFLA_MASTER);
	if (master && nla_len(master) >= (int)sizeof(uint32_t))
		link->master = (int)nla_get_u32(master);
	parent = nlmsg_find_attr(nlh, sizeof(*info), IFLA_LINK);
	/* With the second attribute the index is one of another namespace. */
	if (parent && nla_len(parent) >= (int)sizeof(uint32_t) &&
	    !nlmsg_find_attr(nlh, sizeof(*info), IFLA_LINK_NETNSID))
		link->parent = (int)nla_get_u32(parent);
	return NL_OK;
}

/* A dump that fails on its way says so in its last message only, which libnl does not read. */
static int take_end(struct nl_msg *msg, void *arg)
{
	const struct nlmsghdr *nlh = nlmsg_hdr(msg);
	int err = 0;

	(void)arg;
	if (nlmsg_datalen(nlh) >= (int)sizeof(err))
		memcpy(&err, nlmsg_data(nlh), sizeof(err));
	return err == -ENODEV ? -NLE_NODEV : err < 0 ? -NLE_FAILURE : NL_STOP;
}

static int ask_links(struct nl_sock *sk)
{
	struct ifinfomsg request = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_DUMP);
	int err = -NLE_NOMEM;

	if (!msg)
		return err;
	if (!nlmsg_append(msg, &request, sizeof(request), NLMSG_ALIGNTO) &&
	    !nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS))
		err = nl_send_auto(sk, msg);
	nlmsg_free(msg);
	return err < 0 ? err : nl_recvmsgs_default(sk);
}

int netwatch_dump_links(struct netstate *ns)
{
	struct nl_sock *sk;
	int tries = DUMP_TRIES, err = open_socket(&sk);

	if (err)
		return err;
	nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, take_link, ns);
	nl_socket_modify_cb(sk, NL_CB_FINISH, NL_CB_CUSTOM, take_end, NULL);
	do {
		ns->links_len = 0;
		err = ask_links(sk);
	} while (err == -NLE_DUMP_INTR && --tries); /* read to its end: the socket is as new */
	nl_socket_free(sk);
	if (err < 0)
		netstate_fini(ns);
	return errno_of(err);
}

/* A question, and where its answer goes. */
struct question {
	struct route_to *to;
	/*
	 * For the route itself, with all its next hops (RTM_F_FIB_MATCH), not for
	 * the one that a packet would take by chance.
	 */
	bool match;
};

static int take_route(struct nl_msg *msg, void *arg)
{
	const struct question *q = arg;
	struct rtnl_route *route = NULL;
	int type, n;

	if (rtnl_route_parse(nlmsg_hdr(msg), &route) < 0)
		return NL_SKIP;
	type = rtnl_route_get_type(route);
	n = rtnl_route_get_nnexthops(route);
	/* What stays on this host has lo for its link, which only a packet's answer says. */
	if (type != RTN_UNICAST && (type != RTN_LOCAL || q->match))
		n = 0;
	for (int i = 0; i < n && i < ROUTE_MAX_HOPS; i++)
		q->to->hops[i] = rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, i));
	rtnl_route_put(route);
	return NL_STOP;
}

static int ask_route(struct nl_sock *sk, struct route_to *to, bool match)
{
	struct rtmsg request = {
		.rtm_family = (unsigned char)to->addr.family,
		.rtm_dst_len = (unsigned char)(addr_len(&to->addr) * 8),
		.rtm_flags = match ? RTM_F_FIB_MATCH : 0,
	};
	struct question question = { to, match };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_REQUEST);
	int err;

	if (!msg)
		return -ENOMEM;
	if (nlmsg_append(msg, &request, sizeof(request), NLMSG_ALIGNTO) < 0 ||
	    nla_put(msg, RTA_DST, (int)addr_len(&to->addr), to->addr.bytes) < 0) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, take_route, &question);
	err = nl_send_auto(sk, msg);
	nlmsg_free(msg);
	if (err < 0)
		return errno_of(err);

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
	for (size_t i = 0; i < n && !err; i++) {
		routes[i].addr = addrs[i];
		err = ask_route(sk, &routes[i], true);
		/* None: unreachable; local; or nexthop objects, which are not in the route. */
		if (!err && !routes[i].hops[0])
			err = ask_route(sk, &routes[i], false);
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

struct wide_search {
	struct netstate *ns;
	int link;
	unsigned char family; /* without IPv6 the kernel answers with IPv4's once more */
};

static int take_wide(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *nlh = nlmsg_hdr(msg);
	const struct rtmsg *rtm = nlmsg_data(nlh);
	const struct wide_search *search = arg;
	struct rtnl_route *route = NULL;
	struct wide_route wide = { .link = search->link };
	const struct nlattr *dst;
	bool through = false;

	/* Without the kernel's help there may be a million: most go by their header alone. */
	if (nlh->nlmsg_type != RTM_NEWROUTE || !nlmsg_valid_hdr(nlh, sizeof(*rtm)) ||
	    rtm->rtm_family != search->family || rtm->rtm_type != RTN_UNICAST ||
	    rtm->rtm_flags & RTM_F_CLONED ||
	    rtm->rtm_dst_len > (rtm->rtm_family == AF_INET ? WIDE_BITS_IPV4 : WIDE_BITS_IPV6))
		return NL_SKIP;
	wide.bits = rtm->rtm_dst_len;
	wide.dst.family = rtm->rtm_family;
	dst = nlmsg_find_attr(nlh, sizeof(*rtm), RTA_DST);
	if (dst && nla_len(dst) == (int)addr_len(&wide.dst))
		memcpy(wide.dst.bytes, nla_data(dst), addr_len(&wide.dst));
	if (rtnl_route_parse(nlh, &route) < 0)
		return NL_SKIP;
	wide.table = rtnl_route_get_table(route);
	for (int i = 0; i < rtnl_route_get_nnexthops(route); i++)
		through |=
			rtnl_route_nh_get_ifindex(rtnl_route_nexthop_n(route, i)) == search->link;
	rtnl_route_put(route);
	if (through) {
		struct wide_route *added = netstate_add_wide(search->ns);

		if (!added)
			return -NLE_NOMEM;
		*added = wide;
	}
	return NL_OK;
}

static int ask_wide(struct nl_sock *sk, const struct wide_search *search)
{
	struct rtmsg request = { .rtm_family = search->family };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_DUMP);
	int err = -NLE_NOMEM;

	if (!msg)
		return err;
	if (!nlmsg_append(msg, &request, sizeof(request), NLMSG_ALIGNTO) &&
	    !nla_put_u32(msg, RTA_OIF, (uint32_t)search->link))
		err = nl_send_auto(sk, msg);
	nlmsg_free(msg);
	return err < 0 ? err : nl_recvmsgs_default(sk);
}

int netwatch_dump_wide(struct netstate *ns, int link)
{
	static const unsigned char families[] = { AF_INET, AF_INET6 };
	const size_t before = ns->wides_len;
	struct wide_search search = { .ns = ns, .link = link };
	const int on = 1;
	struct nl_sock *sk;
	int err = open_socket(&sk);

	if (err)
		return err;
	/* Refused before Linux 4.20, where take_wide() has to look at all routes. */
	(void)setsockopt(nl_socket_get_fd(sk), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on,
			 sizeof(on));
	nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, take_wide, &search);
	nl_socket_modify_cb(sk, NL_CB_FINISH, NL_CB_CUSTOM, take_end, NULL);
	for (int tries = 0; tries < DUMP_TRIES; tries++) {
		ns->wides_len = before;
		err = 0;
		for (size_t i = 0; err >= 0 && i < sizeof(families); i++) {
			search.family = families[i];
			err = ask_wide(sk, &search);
		}
		if (err != -NLE_DUMP_INTR)
			break;
	}
	nl_socket_free(sk);
	if (err < 0)
		ns->wides_len = before;
	return err == -NLE_NODEV ? 0 : errno_of(err); /* it has gone, and its routes with it */
}

static int join_groups(struct nl_sock *sk)
{
	static const int groups[] = {
		RTNLGRP_LINK,	    RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
		RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,	 RTNLGRP_IPV6_RULE,
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]) && !err; i++)
		err = nl_socket_add_membership(sk, groups[i]);
	/* Linux 5.3 and later; before, all nexthops are in the routes. */
	(void)nl_socket_add_membership(sk, RTNLGRP_NEXTHOP);
	return errno_of(err);
}

static int size_buffer(int fd)
{
	const int bytes = EVENTS_BYTES;

	if (!setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) ||
	    !setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)))
		return 0;
	return -errno;
}

int netwatch_open(struct netwatch *ret_nw)
{
	struct nl_sock *sk;
	int err = open_socket(&sk);

	if (err)
		return err;
	err = size_buffer(nl_socket_get_fd(sk)); /* before there are events */
	if (!err)
		err = errno_of(nl_socket_set_nonblocking(sk));
	if (!err)
		err = join_groups(sk);
	if (err) {
		nl_socket_free(sk);
		return err;
	}
	ret_nw->events = sk;
	return 0;
}

void netwatch_close(struct netwatch *nw)
{
	nl_socket_free(nw->events);
	*nw = (struct netwatch){ 0 };
}

int netwatch_fd(const struct netwatch *nw)
{
	return nw->events ? nl_socket_get_fd(nw->events) : -1;
}

int netwatch_filter(struct netwatch *nw, const struct addr *addrs, size_t n)
{
	struct routefilter rf;
	struct sock_fprog program;

	routefilter_build(&rf, addrs, n);
	program = (struct sock_fprog){ .len = rf.len, .filter = rf.code };
	if (setsockopt(netwatch_fd(nw), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		return -errno;
	return 0;
}

/* A link that is registered, or comes from another namespace, is told of with all flags changed. */
static bool is_new_link(const struct event *ev, ssize_t len)
{
	return len >= (ssize_t)sizeof(*ev) && ev->nlh.nlmsg_type == RTM_NEWLINK &&
	       ev->info.ifi_change == UINT32_MAX;
}

/* Not by libnl, which would allocate, copy and parse each of them. */
int netwatch_read(struct netwatch *nw, bool *ret_changed, bool *ret_lost)
{
	const int fd = netwatch_fd(nw);
	bool changed = false, lost = false;
	struct event ev;

	nw->appeared = false;
	for (int i = 0; i < EVENTS_A_READ; i++) {
		const ssize_t len = recv(fd, &ev, sizeof(ev), MSG_DONTWAIT | MSG_TRUNC);

		nw->appeared |= is_new_link(&ev, len);
		if (len >= 0)
			changed = true;
		else if (errno == ENOBUFS)
			changed = lost = true;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			return -errno;
	}
	*ret_changed = changed;
	*ret_lost = lost;
	return 0;
}
