#include "netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>

#include "ask.h"
#include "netstate.h"
#include "routefilter.h"

#define DUMP_TRIES    16
/* Some 2,500 events: a link brings up to 13 each time it changes. */
#define EVENTS_BYTES  (1 << 20)
#define EVENTS_A_READ 4096 /* 5 ms of recv(2) */

/* The start of an event about a link. */
struct event {
	struct nlmsghdr nlh;
	struct ifinfomsg info;
};

/* Room for a request of ours: a header, an address, a number. */
struct request {
	_Alignas(struct nlmsghdr) char buf[128];
};

/* Returns the header of this size behind the message's own, all zeros. */
static void *begin(struct request *r, uint16_t type, uint16_t flags, size_t header)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(r->buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	return mnl_nlmsg_put_extra_header(nlh, header);
}

static struct nlmsghdr *message(struct request *r)
{
	return (void *)r->buf;
}

static void copy_name(char *name, size_t size, const struct nlattr *attr)
{
	const size_t len = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));

	memcpy(name, mnl_attr_get_payload(attr), len < size ? len : size - 1);
}

/* What a callback returns then. */
static int fail_memory(void)
{
	errno = ENOMEM;
	return MNL_CB_ERROR;
}

static int take_link(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr, *kind, *parent = NULL;
	bool elsewhere = false;
	struct link *link;

	if (nlh->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(nlh) < sizeof(*info))
		return MNL_CB_OK;
	link = netstate_add_link(data);
	if (!link)
		return fail_memory();
	*link = (struct link){ .index = info->ifi_index, .up = (info->ifi_flags & IFF_UP) != 0 };

	mnl_attr_for_each(attr, nlh, sizeof(*info)) {
		const bool number = mnl_attr_get_payload_len(attr) >= sizeof(uint32_t);

		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			copy_name(link->name, sizeof(link->name), attr);
			break;
		case IFLA_LINKINFO:
			mnl_attr_for_each_nested(kind, attr)
				if (mnl_attr_get_type(kind) == IFLA_INFO_KIND)
					copy_name(link->kind, sizeof(link->kind), kind);
			break;
		case IFLA_MASTER:
			link->master = number ? (int)mnl_attr_get_u32(attr) : 0;
			break;
		case IFLA_LINK:
			parent = number ? attr : NULL;
			break;
		case IFLA_LINK_NETNSID:
			elsewhere = true;
			break;
		default:
			break;
		}
	}
	/* With the second attribute the index is one of another namespace. */
	if (parent && !elsewhere)
		link->parent = (int)mnl_attr_get_u32(parent);
	return MNL_CB_OK;
}

/*
 * A dump on a socket of its own; of one link's routes if the kernel can (`strict`;
 * refused before Linux 4.20).  0, -ENOMEM, -EINTR where it was disturbed, -ENODEV, or -EIO.
 */
static int dump(struct request *r, bool strict, mnl_cb_t take, void *data)
{
	int on = strict, err;
	struct ask a;

	err = ask_open(&a, NETLINK_ROUTE);
	if (!err) {
		if (strict)
			(void)mnl_socket_setsockopt(a.nl, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
		err = ask_one(&a, message(r), take, data);
		ask_close(&a);
	}
	return !err || err == -ENOMEM || err == -EINTR || err == -ENODEV ? err : -EIO;
}

int netwatch_dump_links(struct netstate *ns)
{
	struct request r;
	int tries = DUMP_TRIES, err;

	begin(&r, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(message(&r), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	do {
		ns->links_len = 0;
		err = dump(&r, false, take_link, ns);
	} while (err == -EINTR && --tries);
	if (err)
		netstate_fini(ns);
	return err && err != -ENOMEM ? -EIO : err;
}

/* Calls `use` for the link of each next hop. */
static void each_hop(const struct nlmsghdr *nlh, void (*use)(void *data, int link), void *data)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct rtmsg)) {
		const uint16_t type = mnl_attr_get_type(attr);

		if (type == RTA_OIF && mnl_attr_get_payload_len(attr) >= sizeof(uint32_t)) {
			use(data, (int)mnl_attr_get_u32(attr));
		} else if (type == RTA_MULTIPATH) {
			const struct rtnexthop *hop = mnl_attr_get_payload(attr);
			int left = mnl_attr_get_payload_len(attr);

			for (; left >= (int)sizeof(*hop) && RTNH_OK(hop, left);
			     left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop))
				use(data, hop->rtnh_ifindex);
		}
	}
}

/* A question, and where its answer goes. */
struct question {
	struct route_to *to;
	size_t hops_len;
	/*
	 * For the route itself, with all its next hops (RTM_F_FIB_MATCH), not for
	 * the one that a packet would take by chance.
	 */
	bool match;
};

static void add_hop(void *data, int link)
{
	struct question *q = data;

	if (q->hops_len < ROUTE_MAX_HOPS)
		q->to->hops[q->hops_len++] = link;
}

static int take_route(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct question *q = data;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm))
		return MNL_CB_OK;
	/* What stays on this host has lo for its link, which only a packet's answer says. */
	if (rtm->rtm_type == RTN_UNICAST || (rtm->rtm_type == RTN_LOCAL && !q->match))
		each_hop(nlh, add_hop, data);
	return MNL_CB_OK;
}

static int ask_route(struct ask *a, struct route_to *to, bool match)
{
	struct question question = { .to = to, .match = match };
	struct request r;
	struct rtmsg *rtm = begin(&r, RTM_GETROUTE, 0, sizeof(*rtm));
	int err;

	rtm->rtm_family = (unsigned char)to->addr.family;
	rtm->rtm_dst_len = (unsigned char)(addr_len(&to->addr) * 8);
	rtm->rtm_flags = match ? RTM_F_FIB_MATCH : 0;
	mnl_attr_put(message(&r), RTA_DST, addr_len(&to->addr), to->addr.bytes);
	err = ask_one(a, message(&r), take_route, &question);
	/* Any other error of the kernel's means that no packet would go: unreachable, prohibited, ... */
	return err == -ENOMEM || err == -EIO ? err : err && !a->answered ? -EIO : 0;
}

int netwatch_lookup_routes(struct netstate *ns, const struct addr *addrs, size_t n)
{
	struct route_to *routes = calloc(n + 1, sizeof(*routes));
	struct ask a = { .nl = NULL };
	int err;

	if (!routes)
		return -ENOMEM;
	err = n ? ask_open(&a, NETLINK_ROUTE) : 0;
	err = err && err != -ENOMEM ? -EIO : err;
	for (size_t i = 0; i < n && !err; i++) {
		routes[i].addr = addrs[i];
		err = ask_route(&a, &routes[i], true);
		/* None: unreachable; local; or nexthop objects, which are not in the route. */
		if (!err && !routes[i].hops[0])
			err = ask_route(&a, &routes[i], false);
	}
	ask_close(&a);
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
	bool through;
};

static void note_link(void *data, int link)
{
	struct wide_search *search = data;

	search->through |= link == search->link;
}

static int take_wide(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct wide_search *search = data;
	struct wide_route wide = { .link = search->link }, *added;
	const struct nlattr *attr;

	/* Without the kernel's help there may be a million: most go by their header alone. */
	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm) ||
	    rtm->rtm_family != search->family || rtm->rtm_type != RTN_UNICAST ||
	    rtm->rtm_flags & RTM_F_CLONED ||
	    rtm->rtm_dst_len > (rtm->rtm_family == AF_INET ? WIDE_BITS_IPV4 : WIDE_BITS_IPV6))
		return MNL_CB_OK;
	wide.bits = rtm->rtm_dst_len;
	wide.dst.family = rtm->rtm_family;
	wide.table = rtm->rtm_table;
	mnl_attr_for_each(attr, nlh, sizeof(*rtm)) {
		const size_t len = mnl_attr_get_payload_len(attr);

		if (mnl_attr_get_type(attr) == RTA_DST && len == addr_len(&wide.dst))
			memcpy(wide.dst.bytes, mnl_attr_get_payload(attr), len);
		if (mnl_attr_get_type(attr) == RTA_TABLE && len >= sizeof(uint32_t))
			wide.table = mnl_attr_get_u32(attr);
	}
	search->through = false;
	each_hop(nlh, note_link, search);
	if (!search->through)
		return MNL_CB_OK;
	added = netstate_add_wide(search->ns);
	if (!added)
		return fail_memory();
	*added = wide;
	return MNL_CB_OK;
}

static int dump_wide(struct wide_search *search)
{
	struct request r;
	struct rtmsg *rtm = begin(&r, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm));

	rtm->rtm_family = search->family;
	mnl_attr_put_u32(message(&r), RTA_OIF, (uint32_t)search->link);
	return dump(&r, true, take_wide, search);
}

int netwatch_dump_wide(struct netstate *ns, int link)
{
	static const unsigned char families[] = { AF_INET, AF_INET6 };
	const size_t before = ns->wides_len;
	struct wide_search search = { .ns = ns, .link = link };
	int err = 0;

	for (int tries = 0; tries < DUMP_TRIES; tries++) {
		ns->wides_len = before;
		err = 0;
		for (size_t i = 0; !err && i < sizeof(families); i++) {
			search.family = families[i];
			err = dump_wide(&search);
		}
		if (err != -EINTR)
			break;
	}
	if (err)
		ns->wides_len = before;
	/* -ENODEV: it has gone, and its routes with it. */
	return !err || err == -ENODEV ? 0 : err == -ENOMEM ? err : -EIO;
}

static int join_groups(struct mnl_socket *nl)
{
	static const int groups[] = {
		RTNLGRP_LINK,	    RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
		RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,	 RTNLGRP_IPV6_RULE,
	};
	int group = RTNLGRP_NEXTHOP;

	/* Linux 5.3 and later; before, all nexthops are in the routes. */
	(void)mnl_socket_setsockopt(nl, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group));
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		group = groups[i];
		if (mnl_socket_setsockopt(nl, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			return -EIO;
	}
	return 0;
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
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int err;

	if (!nl)
		return errno == ENOMEM ? -ENOMEM : -EIO;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(nl);
		return -EIO;
	}
	err = size_buffer(mnl_socket_get_fd(nl)); /* before there are events */
	if (!err)
		err = join_groups(nl);
	if (err) {
		mnl_socket_close(nl);
		return err;
	}
	ret_nw->events = nl;
	return 0;
}

void netwatch_close(struct netwatch *nw)
{
	if (nw->events)
		mnl_socket_close(nw->events);
	*nw = (struct netwatch){ 0 };
}

int netwatch_fd(const struct netwatch *nw)
{
	return nw->events ? mnl_socket_get_fd(nw->events) : -1;
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
