/*
 * routefilter.h: no route that covers an address is dropped, others are
 *
 * The kernel itself runs the program, on a socket pair of AF_UNIX: datagrams
 * meet a socket's filter there as they do on netlink.
 */
#include "unit.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "routefilter.h"
#include "text.h"

#define RTNL_FAMILY_OF_IPMR 128 /* RTNL_FAMILY_IPMR, as multicast routes are announced */

struct message {
	struct nlmsghdr nlh;
	struct rtmsg rtm;
	uint8_t attrs[64];
};

struct pair {
	int in, out;
};

static int make_pair(void **state)
{
	static struct pair pair;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds))
		return -1;
	pair = (struct pair){ .in = fds[0], .out = fds[1] };
	*state = &pair;
	return 0;
}

static int close_pair(void **state)
{
	const struct pair *pair = *state;

	close(pair->in);
	close(pair->out);
	return 0;
}

static void attach(const struct pair *pair, const struct addr *addrs, size_t n)
{
	struct routefilter rf;
	struct sock_fprog program;

	routefilter_build(&rf, addrs, n);
	assert_in_range(rf.len, 1, ROUTEFILTER_MAX_CODE);
	program = (struct sock_fprog){ .len = rf.len, .filter = rf.code };
	assert_int_equal(setsockopt(pair->out, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				    sizeof(program)),
			 0);
}

static bool passes(const struct pair *pair, const void *data, size_t len)
{
	char buf[sizeof(struct message)];

	assert_int_equal(send(pair->in, data, len, 0), len);
	if (recv(pair->out, buf, sizeof(buf), MSG_DONTWAIT) < 0) {
		assert_int_equal(errno, EAGAIN);
		return false;
	}
	return true;
}

static void put_attr(struct message *m, unsigned short type, const void *data, size_t len)
{
	const struct rtattr rta = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type };
	uint8_t *at = (uint8_t *)m + m->nlh.nlmsg_len;

	memcpy(at, &rta, sizeof(rta));
	memcpy(at + RTA_LENGTH(0), data, len);
	m->nlh.nlmsg_len += (uint32_t)RTA_SPACE(len);
}

static struct message route_message(const struct addr *dst, unsigned char dst_len)
{
	const uint32_t table = RT_TABLE_MAIN;
	struct message m = {
		.nlh = { .nlmsg_len = NLMSG_LENGTH(sizeof(m.rtm)), .nlmsg_type = RTM_NEWROUTE },
		.rtm = { .rtm_family = (unsigned char)dst->family, .rtm_dst_len = dst_len },
	};

	put_attr(&m, RTA_TABLE, &table, sizeof(table)); /* before RTA_DST, as the kernel does */
	if (dst_len)
		put_attr(&m, RTA_DST, dst->bytes, addr_len(dst));
	return m;
}

static struct addr parsed(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static bool route_passes(const struct pair *pair, const char *text)
{
	char dst[ADDR_TEXT];
	const char *slash = strchr(text, '/');
	struct message m;
	struct addr addr;

	snprintf(dst, sizeof(dst), "%.*s", (int)(slash - text), text);
	addr = parsed(dst);
	m = route_message(&addr, (unsigned char)atoi(slash + 1));
	return passes(pair, &m, m.nlh.nlmsg_len);
}

static void test_rows(void **state)
{
	static const struct {
		const char *route;
		bool passes;
	} rows[] = {
		{ "0.0.0.0/0", true },	   { "0.0.0.0/1", true },      { "128.0.0.0/1", false },
		{ "10.0.0.0/8", true },	   { "10.64.0.0/10", true },   { "10.64.0.0/31", true },
		{ "10.64.0.1/32", true },  { "10.64.0.2/32", false },  { "10.64.0.2/31", false },
		{ "10.128.0.0/9", false }, { "11.0.0.0/8", false },    { "192.0.2.0/24", false },
		{ "::/0", true },	   { "2000::/3", true },       { "fc00::/7", true },
		{ "fd64::/16", true },	   { "fd64::1/128", true },    { "fd65::/16", false },
		{ "fe80::/64", false },	   { "2001:db8::/32", false }, { "ff00::/8", false },
		{ "fd64::2/128", true }, /* agrees in 32 bits: let through for nothing */
	};
	const struct addr addrs[] = { parsed("10.64.0.1"), parsed("fd64::1"), parsed("2a00::53") };

	attach(*state, addrs, LEN(addrs));
	for (size_t i = 0; i < LEN(rows); i++)
		assert_row(route_passes(*state, rows[i].route) == rows[i].passes, rows[i].route,
			   "%s", rows[i].passes ? "dropped" : "let through");
}

static void test_no_addresses(void **state)
{
	attach(*state, NULL, 0);
	assert_true(route_passes(*state, "0.0.0.0/0"));
	assert_true(route_passes(*state, "::/0"));
	assert_false(route_passes(*state, "0.0.0.0/1"));
	assert_false(route_passes(*state, "::/1"));
	assert_false(route_passes(*state, "10.64.0.1/32"));
}

static void test_one_family_only(void **state)
{
	const struct addr addr = parsed("10.64.0.1");

	attach(*state, &addr, 1);
	assert_true(route_passes(*state, "10.64.0.1/32"));
	assert_false(route_passes(*state, "0a40:0001::/32")); /* the same first bits */
}

static void test_other_messages_pass(void **state)
{
	static const uint16_t types[] = { RTM_NEWLINK, RTM_DELLINK,   RTM_NEWADDR,    RTM_DELADDR,
					  RTM_NEWRULE, RTM_DELRULE,   RTM_NEWNEXTHOP, RTM_GETROUTE,
					  NLMSG_ERROR, NLMSG_OVERRUN, RTM_NEWNEIGH,   0x1800 };
	const struct addr addr = parsed("192.0.2.1");
	struct message m = route_message(&addr, 32);

	attach(*state, NULL, 0);
	for (size_t i = 0; i < LEN(types); i++) {
		m.nlh.nlmsg_type = types[i];
		assert_true(passes(*state, &m, m.nlh.nlmsg_len));
	}
	m.nlh.nlmsg_type = RTM_DELROUTE;
	assert_false(passes(*state, &m, m.nlh.nlmsg_len));
}

/* What the filter cannot read is let through. */
static void test_malformed_pass(void **state)
{
	const struct addr addr = parsed("192.0.2.1"), addr6 = parsed("2001:db8::1");
	const struct message whole = route_message(&addr, 32), whole6 = route_message(&addr6, 128);
	struct message m = whole;

	attach(*state, NULL, 0);
	for (size_t len = 1; len < whole.nlh.nlmsg_len; len++)
		assert_true(passes(*state, &whole, len));
	for (size_t len = 1; len < whole6.nlh.nlmsg_len; len++)
		assert_true(passes(*state, &whole6, len));
	assert_false(passes(*state, &whole, whole.nlh.nlmsg_len));
	assert_false(passes(*state, &whole6, whole6.nlh.nlmsg_len));

	m.rtm.rtm_family = AF_INET6; /* an IPv4 address as IPv6 destination, and the reverse */
	assert_true(passes(*state, &m, m.nlh.nlmsg_len));
	m = whole6;
	m.rtm.rtm_family = AF_INET;
	assert_true(passes(*state, &m, m.nlh.nlmsg_len));

	m = whole;
	m.rtm.rtm_dst_len = 255;
	assert_false(passes(*state, &m, m.nlh.nlmsg_len));
}

static void test_what_never_matters_is_dropped(void **state)
{
	const struct addr addr = parsed("10.64.0.1");
	struct message m = route_message(&addr, 32);

	attach(*state, &addr, 1);
	assert_true(passes(*state, &m, m.nlh.nlmsg_len));
	m.rtm.rtm_flags = RTM_F_CLONED;
	assert_false(passes(*state, &m, m.nlh.nlmsg_len));
	m.rtm.rtm_flags = (unsigned)~RTM_F_CLONED;
	assert_true(passes(*state, &m, m.nlh.nlmsg_len));
	m.rtm.rtm_flags = 0;
	m.rtm.rtm_family = RTNL_FAMILY_OF_IPMR;
	assert_false(passes(*state, &m, m.nlh.nlmsg_len));
	m.rtm.rtm_family = AF_MPLS;
	m.rtm.rtm_dst_len = 0;
	assert_false(passes(*state, &m, m.nlh.nlmsg_len));
}

/* The next number of a fixed sequence (Knuth's MMIX), so that a failure can be had again. */
static uint32_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005U + 1442695040888963407U;
	return (uint32_t)(*seed >> 32);
}

static struct addr random_addr(uint64_t *seed, uint32_t spread)
{
	struct addr addr = { .family = next_random(seed) % 2 ? AF_INET : AF_INET6 };
	uint32_t word = next_random(seed) & spread;

	for (int i = 0; i < 4; i++)
		addr.bytes[i] = (uint8_t)(word >> (24 - 8 * i));
	return addr;
}

static bool covers(const struct addr *dst, unsigned dst_len, const struct addr *addr)
{
	if (dst->family != addr->family)
		return false;
	for (unsigned bit = 0; bit < dst_len; bit++)
		if ((dst->bytes[bit / 8] ^ addr->bytes[bit / 8]) >> (7 - bit % 8) & 1)
			return false;
	return true;
}

/* Any number of addresses, near and far: never too little, and exact while they are few. */
static void test_against_a_model(void **state)
{
	static const size_t counts[] = { 1, 3, ROUTEFILTER_MAX_PREFIXES, 200, 5000 };
	static const uint32_t spreads[] = { UINT32_MAX, 0xff00ffff, 0x0000000f, 0xf00000ff };
	struct addr *addrs = calloc(5000, sizeof(*addrs));
	uint64_t seed = 1;

	assert_non_null(addrs);
	for (size_t i = 0; i < LEN(counts) * LEN(spreads); i++) {
		const size_t n = counts[i / LEN(spreads)];
		const uint32_t spread = spreads[i % LEN(spreads)];

		for (size_t j = 0; j < n; j++)
			addrs[j] = random_addr(&seed, spread);
		attach(*state, addrs, n);
		for (int j = 0; j < 300; j++) {
			const struct addr dst =
				j % 2 ? addrs[next_random(&seed) % n] : random_addr(&seed, spread);
			const unsigned char len = (unsigned char)(next_random(&seed) % 33);
			const struct message m = route_message(&dst, len);
			bool covered = len == 0;

			for (size_t k = 0; k < n && !covered; k++)
				covered = covers(&dst, len, &addrs[k]);
			if (covered || n <= ROUTEFILTER_MAX_PREFIXES)
				assert_int_equal(passes(*state, &m, m.nlh.nlmsg_len), covered);
		}
	}
	free(addrs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_no_addresses),
		cmocka_unit_test(test_one_family_only),
		cmocka_unit_test(test_other_messages_pass),
		cmocka_unit_test(test_malformed_pass),
		cmocka_unit_test(test_what_never_matters_is_dropped),
		cmocka_unit_test(test_against_a_model),
	};

	return cmocka_run_group_tests(tests, make_pair, close_pair);
}
