/*
 * netwatch.h: which events wake, what a loss of them does; links as the C library sees them
 *
 * In a network namespace of its own, and without privileges where the kernel
 * lets anyone make one; elsewhere all but the first test are skipped.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "netstate.h"
#include "netwatch.h"

#define FOREIGN_ROUTES 3000 /* more than the event socket could keep */
#define LINKS	       120  /* more than one datagram of a dump holds */

static struct {
	struct mnl_socket *sk; /* asks for what is to happen; NULL: no namespace */
	bool ipv6;
} ns;

/* --- faults: libmnl's recvmsg(2) is this one --- */

static enum { FAULT_NONE, FAULT_INTERRUPTED, FAULT_REFUSED, FAULT_SILENT } fault;
static int faults_left, dumps_seen;

static void spoil(struct nlmsghdr *nlh, int len)
{
	const int err = -EMSGSIZE;

	for (; NLMSG_OK(nlh, (unsigned)len); nlh = NLMSG_NEXT(nlh, len)) {
		if (fault == FAULT_INTERRUPTED)
			nlh->nlmsg_flags |= NLM_F_DUMP_INTR;
		if (nlh->nlmsg_type != NLMSG_DONE)
			continue;
		dumps_seen++;
		if (fault == FAULT_REFUSED)
			memcpy(NLMSG_DATA(nlh), &err, sizeof(err));
		if (--faults_left == 0)
			fault = FAULT_NONE;
	}
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t len;

	if (fault == FAULT_SILENT) {
		errno = EAGAIN;
		return -1;
	}
	len = syscall(SYS_recvmsg, fd, msg, flags);
	if (len > 0 && fault != FAULT_NONE)
		spoil(msg->msg_iov->iov_base, (int)len);
	return len;
}

/* A kernel before 4.20 sends all routes, whatever was asked for. */
static bool no_strict_check;

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (no_strict_check && level == SOL_NETLINK && name == NETLINK_GET_STRICT_CHK) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

/* --- a namespace, and things that happen in it --- */

static bool enter_namespace(void)
{
	struct stat before, after;

	if (stat("/proc/self/ns/net", &before) ||
	    (unshare(CLONE_NEWUSER | CLONE_NEWNET) && unshare(CLONE_NEWNET)) ||
	    stat("/proc/self/ns/net", &after))
		return false;
	return before.st_ino != after.st_ino;
}

static int make_namespace(void **state)
{
	(void)state;
	if (!enter_namespace()) {
		print_message("skipped: no network namespace to be had: %s\n", strerror(errno));
		return 0;
	}
	ns.ipv6 = access("/proc/self/net/if_inet6", F_OK) == 0;
	if (!ns.ipv6)
		print_message("skipped: routes of IPv6, which this kernel has not\n");
	ns.sk = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	return ns.sk && !mnl_socket_bind(ns.sk, 0, MNL_SOCKET_AUTOPID) ? 0 : -1;
}

static int leave_namespace(void **state)
{
	(void)state;
	if (ns.sk)
		mnl_socket_close(ns.sk);
	return 0;
}

static void need_namespace(void)
{
	if (!ns.sk)
		skip();
}

struct message {
	_Alignas(struct nlmsghdr) char buf[256];
};

static struct nlmsghdr *begin(struct message *m, int type, int flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(m->buf);

	nlh->nlmsg_type = (uint16_t)type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return nlh;
}

/* 0, or what the kernel says to it. */
static int send_message(const struct nlmsghdr *nlh)
{
	_Alignas(struct nlmsghdr) char buf[1024];
	ssize_t len;

	assert_int_equal(mnl_socket_sendto(ns.sk, nlh, nlh->nlmsg_len), nlh->nlmsg_len);
	len = mnl_socket_recvfrom(ns.sk, buf, sizeof(buf));
	assert_true(len > 0);
	return mnl_cb_run(buf, (size_t)len, 0, 0, NULL, NULL) < 0 ? -errno : 0;
}

static int change_link(int type, int flags, const char *name, const char *kind, bool up)
{
	struct message m;
	struct nlmsghdr *nlh = begin(&m, type, flags);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));
	struct nlattr *linkinfo;

	info->ifi_flags = up ? IFF_UP : 0;
	info->ifi_change = IFF_UP;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	if (kind) {
		linkinfo = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
		mnl_attr_put_strz(nlh, IFLA_INFO_KIND, kind);
		mnl_attr_nest_end(nlh, linkinfo);
	}
	return send_message(nlh);
}

static void change_route(int type, const struct addr *dst, unsigned char dst_len)
{
	struct message m;
	struct nlmsghdr *nlh = begin(&m, type, type == RTM_NEWROUTE ? NLM_F_CREATE : 0);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

	*rtm = (struct rtmsg){
		.rtm_family = (unsigned char)dst->family,
		.rtm_dst_len = dst_len,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	mnl_attr_put(nlh, RTA_DST, addr_len(dst), dst->bytes);
	mnl_attr_put_u32(nlh, RTA_OIF, if_nametoindex("lo"));
	assert_int_equal(send_message(nlh), 0);
}

static struct addr parsed(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

/* 172.16.0.0/32 and the next ones. */
static void change_foreign_routes(int type)
{
	struct addr dst = parsed("172.16.0.0");

	for (int i = 0; i < FOREIGN_ROUTES; i++) {
		dst.bytes[2] = (uint8_t)(i >> 8);
		dst.bytes[3] = (uint8_t)i;
		change_route(type, &dst, 32);
	}
}

static bool is_readable(const struct netwatch *nw)
{
	struct pollfd pollfd = { .fd = netwatch_fd(nw), .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1;
}

/* What happened has been told by the time that the kernel has answered who asked for it. */
static bool has_changed(struct netwatch *nw)
{
	const bool woke = is_readable(nw);
	bool changed, lost;

	assert_int_equal(netwatch_read(nw, &changed, &lost), 0);
	assert_int_equal(changed, woke);
	assert_false(lost);
	assert_false(is_readable(nw));
	return changed;
}

static struct netwatch opened(void)
{
	struct netwatch nw = { 0 };

	assert_int_equal(netwatch_open(&nw), 0);
	assert_int_equal(change_link(RTM_NEWLINK, 0, "lo", NULL, true), 0);
	(void)has_changed(&nw);
	assert_false(has_changed(&nw));
	return nw;
}

/* --- the tests --- */

static void test_close_nothing(void **state)
{
	struct netwatch nw = { 0 };

	(void)state;
	assert_int_equal(netwatch_fd(&nw), -1);
	netwatch_close(&nw);
	assert_null(nw.events);
}

static void test_descriptor(void **state)
{
	struct netwatch nw;
	int bytes = 0;
	socklen_t len = sizeof(bytes);

	(void)state;
	need_namespace();
	nw = opened();
	assert_true(fcntl(netwatch_fd(&nw), F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(netwatch_fd(&nw), F_GETFD) & FD_CLOEXEC);
	assert_int_equal(getsockopt(netwatch_fd(&nw), SOL_SOCKET, SO_RCVBUF, &bytes, &len), 0);
	assert_true(
		bytes >
		2 * 32768); /* more than a default; how much more is net.core.rmem_max's to say */
	netwatch_close(&nw);
	assert_int_equal(netwatch_fd(&nw), -1);
}

static void test_groups(void **state)
{
	static const unsigned wanted[] = {
		RTNLGRP_LINK,	     RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE,
		RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE,  RTNLGRP_IPV6_RULE,
	};
	uint32_t joined[4] = { 0 };
	socklen_t len = sizeof(joined);
	struct netwatch nw;

	(void)state;
	need_namespace();
	nw = opened();
	assert_int_equal(getsockopt(netwatch_fd(&nw), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, joined,
				    &len),
			 0);
	for (size_t i = 0; i < LEN(wanted); i++)
		assert_true(joined[(wanted[i] - 1) / 32] >> (wanted[i] - 1) % 32 & 1);
	netwatch_close(&nw);
}

static void test_link_wakes(void **state)
{
	struct netwatch nw;

	(void)state;
	need_namespace();
	nw = opened();
	assert_int_equal(netwatch_filter(&nw, NULL, 0), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(change_link(RTM_NEWLINK, 0, "lo", NULL, i % 2), 0);
		assert_true(has_changed(&nw));
	}
	netwatch_close(&nw);
}

static void test_routes_that_cover_wake(void **state)
{
	static const struct {
		const char *dst;
		unsigned char len;
		bool wakes;
	} rows[] = {
		{ "0.0.0.0", 0, true },	    { "0.0.0.0", 1, true },	{ "128.0.0.0", 1, false },
		{ "10.0.0.0", 8, true },    { "10.64.0.1", 32, true },	{ "10.64.0.0", 24, true },
		{ "10.128.0.0", 9, false }, { "10.64.0.2", 32, false }, { "11.0.0.0", 8, false },
		{ "::", 0, true },	    { "fd00::", 8, true },	{ "fd64::1", 128, true },
		{ "fd64::", 64, true },	    { "2000::", 3, false },	{ "fd65::", 16, false },
	};
	const struct addr addrs[] = { parsed("10.64.0.1"), parsed("fd64::1") };
	struct netwatch nw;

	(void)state;
	need_namespace();
	nw = opened();
	assert_int_equal(netwatch_filter(&nw, addrs, LEN(addrs)), 0);
	for (size_t i = 0; i < LEN(rows); i++) {
		const struct addr dst = parsed(rows[i].dst);

		if (dst.family == AF_INET6 && !ns.ipv6)
			continue;
		change_route(RTM_NEWROUTE, &dst, rows[i].len);
		assert_row(has_changed(&nw) == rows[i].wakes, rows[i].dst, "added");
		change_route(RTM_DELROUTE, &dst, rows[i].len);
		assert_row(has_changed(&nw) == rows[i].wakes, rows[i].dst, "deleted");
	}
	netwatch_close(&nw);
}

static void test_foreign_routes_do_not_wake(void **state)
{
	const struct addr addr = parsed("10.64.0.1"), all = parsed("0.0.0.0");
	struct netwatch nw, unfiltered;

	(void)state;
	need_namespace();
	nw = opened();
	unfiltered = opened();
	assert_int_equal(netwatch_filter(&nw, &addr, 1), 0);
	change_foreign_routes(RTM_NEWROUTE);
	assert_true(is_readable(&unfiltered));
	assert_false(has_changed(&nw));
	change_foreign_routes(RTM_DELROUTE);
	assert_false(has_changed(&nw));
	change_route(RTM_NEWROUTE, &all, 0);
	assert_true(has_changed(&nw));
	change_route(RTM_DELROUTE, &all, 0);
	netwatch_close(&unfiltered);
	netwatch_close(&nw);
}

static void test_loss_is_told_once(void **state)
{
	const int bytes = 1 << 17;
	bool changed = false, lost = false;
	struct netwatch nw;

	(void)state;
	need_namespace();
	nw = opened();
	assert_int_equal(setsockopt(netwatch_fd(&nw), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)),
			 0);
	change_foreign_routes(RTM_NEWROUTE);
	assert_int_equal(netwatch_read(&nw, &changed, &lost), 0);
	assert_true(changed);
	assert_true(lost);
	assert_false(has_changed(&nw));
	assert_int_equal(change_link(RTM_NEWLINK, 0, "lo", NULL, false), 0); /* takes the routes */
	assert_true(has_changed(&nw));
	netwatch_close(&nw);
}

static void test_refused_filter_leaves_the_one_before(void **state)
{
	const struct addr addr = parsed("10.64.0.1");
	const int one = 1;
	struct netwatch nw;

	(void)state;
	need_namespace();
	nw = opened();
	assert_int_equal(netwatch_filter(&nw, &addr, 1), 0);
	assert_int_equal(setsockopt(netwatch_fd(&nw), SOL_SOCKET, SO_LOCK_FILTER, &one,
				    sizeof(one)),
			 0);
	assert_int_equal(netwatch_filter(&nw, NULL, 0), -EPERM);
	change_route(RTM_NEWROUTE, &addr, 32);
	assert_true(has_changed(&nw));
	change_route(RTM_DELROUTE, &addr, 32);
	netwatch_close(&nw);
}

static void test_broken_socket_is_told(void **state)
{
	bool changed = false, lost = false;
	struct netwatch nw;
	int fd;

	(void)state;
	need_namespace();
	nw = opened();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(dup3(fd, netwatch_fd(&nw), O_CLOEXEC) >= 0);
	assert_int_equal(netwatch_read(&nw, &changed, &lost), -ENOTSOCK);
	assert_int_equal(netwatch_filter(&nw, NULL, 0), -ENOTSOCK);
	close(fd);
	netwatch_close(&nw);
}

/* A kind of link that this kernel can make, or NULL. */
static const char *make_links(void)
{
	static const char *const kinds[] = { "bridge", "dummy", "ifb", "veth" };
	char name[IFNAMSIZ];
	const char *kind = NULL;

	for (size_t i = 0; i < LEN(kinds) && !kind; i++)
		if (change_link(RTM_NEWLINK, NLM_F_CREATE, "lg0", kinds[i], false) >= 0)
			kind = kinds[i];
	for (int i = 1; kind && i < LINKS; i++) {
		snprintf(name, sizeof(name), i == 99 ? "lg%d-15-bytes-x" : "lg%d", i);
		assert_true(change_link(RTM_NEWLINK, NLM_F_CREATE, name, kind, i % 3 == 0) >= 0);
	}
	return kind;
}

static void assert_links_are_the_c_librarys(const struct netstate *found, const char *kind)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct if_nameindex *names = if_nameindex();
	size_t n = 0;

	assert_true(fd >= 0);
	assert_non_null(names);
	for (; names[n].if_index; n++) {
		const struct link *link = netstate_link(found, (int)names[n].if_index);
		struct ifreq request = { 0 };

		assert_non_null(link);
		assert_string_equal(link->name, names[n].if_name);
		strcpy(request.ifr_name, link->name);
		assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
		assert_int_equal(link->up, (request.ifr_flags & IFF_UP) != 0);
		if (!strncmp(link->name, "lg", 2))
			assert_string_equal(link->kind, kind);
	}
	assert_int_equal(found->links_len, n);
	assert_string_equal(netstate_link_named(found, "lo")->kind, "");
	if_freenameindex(names);
	close(fd);
}

static void test_dump_links(void **state)
{
	struct netstate found = { 0 };
	const char *kind;

	(void)state;
	need_namespace();
	kind = make_links();
	if (!kind)
		SKIP("this kernel makes no kind of link that the test knows");
	assert_int_equal(netwatch_dump_links(&found), 0);
	assert_true(found.links_len >= LINKS);
	assert_links_are_the_c_librarys(&found, kind);
	netstate_fini(&found);

	fault = FAULT_INTERRUPTED; /* three times */
	faults_left = 3;
	dumps_seen = 0;
	assert_int_equal(netwatch_dump_links(&found), 0);
	assert_int_equal(dumps_seen, 3);
	assert_links_are_the_c_librarys(&found, kind);
	netstate_fini(&found);
}

/* "DST/BITS" of each, in the order of the dump. */
static void assert_wides(const struct netstate *found, const char *expected)
{
	char text[256] = "", addr[ADDR_TEXT];
	size_t len = 0;

	for (size_t i = 0; i < found->wides_len; i++) {
		const struct wide_route *w = &found->wides[i];

		assert_int_equal(w->link, if_nametoindex("lo"));
		assert_int_equal(w->table, RT_TABLE_MAIN);
		len += (size_t)snprintf(text + len, sizeof(text) - len, " %s/%u",
					addr_format(&w->dst, addr), w->bits);
	}
	assert_string_equal(text, expected);
}

static void test_dump_wide(void **state)
{
	static const struct {
		const char *dst;
		unsigned char bits;
	} routes[] = { { "0.0.0.0", 1 },    { "64.0.0.0", 2 }, { "10.0.0.0", 8 },
		       { "192.0.2.1", 32 }, { "2000::", 3 },   { "fc00::", 7 } };
	const int lo = (int)if_nametoindex("lo");
	struct netstate found = { 0 };
	const char *wide;

	(void)state;
	need_namespace();
	wide = ns.ipv6 ? " 0.0.0.0/1 64.0.0.0/2 2000::/3" : " 0.0.0.0/1 64.0.0.0/2";
	for (size_t i = 0; i < LEN(routes) - (ns.ipv6 ? 0 : 2); i++) {
		const struct addr dst = parsed(routes[i].dst);

		change_route(RTM_NEWROUTE, &dst, routes[i].bits);
	}
	for (int old = 0; old < 2; old++) {
		no_strict_check = old;
		assert_int_equal(netwatch_dump_wide(&found, lo), 0);
		assert_wides(&found, wide);
		/* Of another link there are none, and what was there stays. */
		assert_int_equal(netwatch_dump_wide(&found, lo + 1000), 0);
		assert_wides(&found, wide);
		netstate_fini(&found);

		fault = FAULT_INTERRUPTED;
		faults_left = 3;
		assert_int_equal(netwatch_dump_wide(&found, lo), 0);
		assert_wides(&found, wide);
		netstate_fini(&found);

		for (fault = FAULT_INTERRUPTED; fault <= FAULT_SILENT; fault++) {
			faults_left = 0;
			assert_int_equal(netwatch_dump_wide(&found, lo), -EIO);
			assert_int_equal(found.wides_len, 0);
		}
		fault = FAULT_NONE;
		netstate_fini(&found);
	}
	no_strict_check = false;
	for (size_t i = 0; i < LEN(routes) - (ns.ipv6 ? 0 : 2); i++) {
		const struct addr dst = parsed(routes[i].dst);

		change_route(RTM_DELROUTE, &dst, routes[i].bits);
	}
}

static void test_dump_fails_whole(void **state)
{
	struct netstate found = { 0 };

	(void)state;
	need_namespace();
	dumps_seen = 0;
	for (fault = FAULT_INTERRUPTED; fault <= FAULT_SILENT; fault++) {
		faults_left = 0; /* without end */
		assert_int_equal(netwatch_dump_links(&found), -EIO);
		assert_null(found.links);
		assert_int_equal(found.links_len, 0);
	}
	fault = FAULT_NONE;
	assert_int_equal(dumps_seen, 16 + 1);
	assert_int_equal(netwatch_dump_links(&found), 0);
	netstate_fini(&found);
}

static void test_lookup_routes(void **state)
{
	const struct addr addrs[] = { parsed("10.64.0.1"), parsed("192.0.2.1") };
	struct netstate found = { 0 };

	(void)state;
	need_namespace();
	assert_int_equal(change_link(RTM_NEWLINK, 0, "lo", NULL, true), 0);
	change_route(RTM_NEWROUTE, &addrs[0], 32);
	assert_int_equal(netwatch_lookup_routes(&found, addrs, LEN(addrs)), 0);
	assert_int_equal(found.routes_len, LEN(addrs));
	assert_int_equal(found.routes[0].hops[0], if_nametoindex("lo"));
	assert_int_equal(found.routes[1].hops[0], 0);
	netstate_fini(&found);
	change_route(RTM_DELROUTE, &addrs[0], 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_nothing),
		cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_link_wakes),
		cmocka_unit_test(test_routes_that_cover_wake),
		cmocka_unit_test(test_foreign_routes_do_not_wake),
		cmocka_unit_test(test_loss_is_told_once),
		cmocka_unit_test(test_refused_filter_leaves_the_one_before),
		cmocka_unit_test(test_broken_socket_is_told),
		cmocka_unit_test(test_lookup_routes),
		cmocka_unit_test(test_dump_links),
		cmocka_unit_test(test_dump_wide),
		cmocka_unit_test(test_dump_fails_whole),
	};

	return cmocka_run_group_tests(tests, make_namespace, leave_namespace);
}
