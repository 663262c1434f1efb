/* text.h: addresses, link names, numbers, protocols */
#include "unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "text.h"

static void test_addr_parse(void **state)
{
	static const struct {
		const char *text, *expected; /* as formatted; NULL: refused */
	} rows[] = {
		{ "10.64.0.1", "10.64.0.1" },
		{ "0.0.0.0", "0.0.0.0" },
		{ "255.255.255.255", "255.255.255.255" },
		{ "2001:db8::53", "2001:db8::53" },
		{ "2001:DB8:0:0:0:0:0:53", "2001:db8::53" },
		{ "::", "::" },
		{ "::1", "::1" },
		{ "::ffff:192.0.2.1", "192.0.2.1" }, /* v4-mapped: what is on the wire */
		{ "::ffff:c000:201", "192.0.2.1" },
		{ "0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1" },
		{ "::192.0.2.1", "::192.0.2.1" }, /* v4-compatible is IPv6 */
		{ "::fffe:192.0.2.1", "::fffe:c000:201" },
		{ "", NULL },
		{ "10.0.0", NULL },
		{ "10.0.0.0.1", NULL },
		{ "10.0.0.256", NULL },
		{ "010.0.0.1", NULL }, /* octal elsewhere */
		{ "0x0a000001", NULL },
		{ "167772161", NULL },
		{ " 10.0.0.1", NULL },
		{ "10.0.0.1 ", NULL },
		{ "10.0.0.1/32", NULL },
		{ "10.0.0.1@53", NULL },
		{ "[2001:db8::53]", NULL },
		{ "fe80::1%eth0", NULL },
		{ "2001:db8:::1", NULL },
		{ "1:2:3:4:5:6:7:8:9", NULL },
		{ "::ffff:192.0.2", NULL },
		{ "resolver.example", NULL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const struct addr untouched = { .family = 77, .bytes = { 1, 2, 3 } };
		struct addr addr = untouched;
		char buf[ADDR_TEXT];
		const int err = addr_parse(rows[i].text, &addr);

		assert_row(err == (rows[i].expected ? 0 : -EINVAL), rows[i].text, "returned %d",
			   err);
		if (err)
			assert_row(!memcmp(&addr, &untouched, sizeof(addr)), rows[i].text,
				   "wrote its result");
		else
			assert_row(!strcmp(addr_format(&addr, buf), rows[i].expected), rows[i].text,
				   "became %s", buf);
	}
}

/* Bytes that the family does not use are 0: addresses are compared and copied whole. */
static void test_addr_padding(void **state)
{
	static const uint8_t zeros[16];
	struct addr addr;

	(void)state;
	memset(&addr, 0xff, sizeof(addr));
	assert_int_equal(addr_parse("192.0.2.1", &addr), 0);
	assert_memory_equal(addr.bytes + 4, zeros, 12);
	memset(&addr, 0xff, sizeof(addr));
	assert_int_equal(addr_parse("::ffff:192.0.2.1", &addr), 0);
	assert_memory_equal(addr.bytes + 4, zeros, 12);
	assert_int_equal(addr_len(&addr), 4);
	assert_int_equal(addr_parse("::1", &addr), 0);
	assert_int_equal(addr_len(&addr), 16);
}

static struct addr parsed(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static void test_addr_cmp(void **state)
{
	/* In rising order. */
	static const char *const rows[] = {
		"0.0.0.0",     "9.255.255.255",	  "10.0.0.1", "10.0.0.2",
		"127.0.0.1",   "255.255.255.255", "::",	      "::1",
		"2001:db8::1", "ff02::1",
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++)
		for (size_t k = 0; k < LEN(rows); k++) {
			const struct addr a = parsed(rows[i]), b = parsed(rows[k]);
			const int c = addr_cmp(&a, &b);

			assert_row((c > 0) - (c < 0) == (i > k) - (i < k), rows[i],
				   "against %s: %d", rows[k], c);
		}
}

static void test_addr_kinds(void **state)
{
	static const struct {
		const char *text;
		bool loopback, linklocal, unicast;
	} rows[] = {
		{ "127.0.0.1", true, false, true },
		{ "127.255.255.255", true, false, true },
		{ "126.255.255.255", false, false, true },
		{ "128.0.0.0", false, false, true },
		{ "0.0.0.0", false, false, false },
		{ "0.1.2.3", false, false, false },
		{ "1.0.0.0", false, false, true },
		{ "223.255.255.255", false, false, true },
		{ "224.0.0.251", false, false, false },
		{ "240.0.0.1", false, false, false },
		{ "255.255.255.255", false, false, false },
		{ "169.254.1.1", false, false, true }, /* no zones in IPv4 */
		{ "::ffff:127.0.0.1", true, false, true },
		{ "::1", true, false, true },
		{ "::2", false, false, true },
		{ "::", false, false, false },
		{ "fe80::1", false, true, true },
		{ "febf::1", false, true, true },
		{ "fe7f::1", false, false, true },
		{ "fec0::1", false, false, true },
		{ "ff02::fb", false, false, false },
		{ "fd64::1", false, false, true },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const struct addr addr = parsed(rows[i].text);

		assert_row(addr_is_loopback(&addr) == rows[i].loopback, rows[i].text, "loopback");
		assert_row(addr_is_linklocal(&addr) == rows[i].linklocal, rows[i].text,
			   "linklocal");
		assert_row(addr_is_unicast(&addr) == rows[i].unicast, rows[i].text, "unicast");
	}
}

static void test_ifname_parse(void **state)
{
	static const char *const good[] = { "wg0", "tun-corp.1", "a",	 "fifteen-bytes-x",
					    "...", "br_lan",	 "vpn+1" };
	static const char *const bad[] = {
		"",	"sixteen-bytes-xx",
		".",	"..",
		"a/b",	"a:1",
		"a b",	"a\tb",
		"a\nb", "a\x7f",
		"a\"b", "a\\b",
		"tun*", "a%b",
		"a@b",	"a,b",
		"a;b",	"a{b",
		"a}b",	" wg0",
		"wg0 ", "\x01",
	};

	(void)state;
	for (size_t i = 0; i < LEN(good); i++) {
		char name[IFNAMSIZ], padded[IFNAMSIZ] = { 0 };

		memset(name, 0xff, sizeof(name));
		memcpy(padded, good[i], strlen(good[i]));
		assert_row(!ifname_parse(good[i], name), good[i], "refused");
		assert_row(!memcmp(name, padded, IFNAMSIZ), good[i], "not padded with zeros");
	}
	for (size_t i = 0; i < LEN(bad); i++) {
		char name[IFNAMSIZ] = "untouched";

		assert_row(ifname_parse(bad[i], name) == -EINVAL, bad[i], "accepted");
		assert_row(!strcmp(name, "untouched"), bad[i], "wrote its result");
	}
}

static void test_tunnel_name(void **state)
{
	static const struct {
		const char *text, *name; /* NULL: refused */
		uint32_t reqid;
	} rows[] = {
		{ "ipsec:any", "ipsec:any", 0 },
		{ "ipsec:1", "ipsec:1", 1 },
		{ "ipsec:0000000042", "ipsec:42", 42 },
		{ "ipsec:999999999", "ipsec:999999999", 999999999 },
		{ "ipsec:1000000000", NULL, 0 },
		{ "ipsec:0", NULL, 0 },
		{ "ipsec:", NULL, 0 },
		{ "ipsec:0x1", NULL, 0 },
		{ "ipsec:-1", NULL, 0 },
		{ "ipsec: 1", NULL, 0 },
		{ "ipsec:any ", NULL, 0 },
		{ "ipsec:99999999999999999999", NULL, 0 },
		{ "wg0:1", NULL, 0 },
	};
	char name[IFNAMSIZ], padding[IFNAMSIZ] = "";
	uint32_t reqid;

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const char *text = rows[i].text;

		memset(name, 'x', sizeof(name));
		reqid = 12345;
		assert_row(!ipsec_parse(text, &reqid) == !!rows[i].name, text, "became %u", reqid);
		assert_row(!tunnel_name_parse(text, name) == !!rows[i].name, text, "became %.15s",
			   name);
		if (!rows[i].name)
			continue;
		assert_row(!strcmp(name, rows[i].name) && reqid == rows[i].reqid, text,
			   "became %s, %u", name, reqid);
		assert_memory_equal(name + strlen(name), padding, IFNAMSIZ - strlen(name));
		assert_true(ipsec_is_name(name) && ifname_parse(name, name));
	}
	assert_int_equal(tunnel_name_parse("wg0", name), 0);
	assert_false(ipsec_is_name(name));
	assert_false(ipsec_is_name("ipsec0"));
}

static void test_mac_parse(void **state)
{
	static const char *const bad[] = { "",
					   "02:00:5e:10:00",
					   "02:00:5e:10:00:1",
					   "02:00:5e:10:00:012",
					   "02:00:5e:10:00:0g",
					   "02.00.5e.10.00.01",
					   "02:00:5e:10:00: 1",
					   "01:00:5e:00:00:01",
					   "ff:ff:ff:ff:ff:ff",
					   "00:00:00:00:00:00",
					   "0x:00:5e:10:00:01" };
	const uint8_t want[MAC_LEN] = { 0x02, 0x00, 0x5e, 0x10, 0xab, 0x01 };
	uint8_t mac[MAC_LEN] = { 9, 9, 9, 9, 9, 9 };
	char text[MAC_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(mac_parse(bad[i], mac), -EINVAL);
		assert_int_equal(mac[0], 9);
	}
	assert_int_equal(mac_parse("02:00:5E:10:aB:01", mac), 0);
	assert_memory_equal(mac, want, MAC_LEN);
	assert_string_equal(mac_format(mac, text), "02:00:5e:10:ab:01");
	assert_int_equal(mac_parse("02-00-5e-10-ab-01", mac), 0);
	assert_memory_equal(mac, want, MAC_LEN);
}

static void test_number_parse(void **state)
{
	static const struct {
		const char *text;
		uint32_t min, max, expected;
		int err;
	} rows[] = {
		{ "53", 1, 65535, 53, 0 },
		{ "1", 1, 65535, 1, 0 },
		{ "65535", 1, 65535, 65535, 0 },
		{ "0", 0, 65535, 0, 0 },
		{ "010", 0, 65535, 10, 0 }, /* decimal, never octal */
		{ "0x1f", 0, 65535, 31, 0 },
		{ "0X1F", 0, 65535, 31, 0 },
		{ "4294967295", 0, UINT32_MAX, UINT32_MAX, 0 },
		{ "0xffffffff", 0, UINT32_MAX, UINT32_MAX, 0 },
		{ "0", 1, 65535, 0, -EINVAL },
		{ "65536", 1, 65535, 0, -EINVAL },
		{ "4294967296", 0, UINT32_MAX, 0, -EINVAL },
		{ "18446744073709551669", 0, UINT32_MAX, 0, -EINVAL }, /* 53 modulo 2^64 */
		{ "", 0, 9, 0, -EINVAL },
		{ "x", 0, 9, 0, -EINVAL },
		{ "0x", 0, 9, 0, -EINVAL },
		{ "0x-5", 0, 9, 0, -EINVAL },
		{ "-5", 0, UINT32_MAX, 0, -EINVAL },
		{ "+5", 0, 9, 0, -EINVAL },
		{ " 5", 0, 9, 0, -EINVAL },
		{ "5 ", 0, 9, 0, -EINVAL },
		{ "5a", 0, 9, 0, -EINVAL },
		{ "5.0", 0, 9, 0, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		uint32_t number = 77;
		const int err = number_parse(rows[i].text, rows[i].min, rows[i].max, &number);

		assert_row(err == rows[i].err, rows[i].text, "returned %d", err);
		assert_row(number == (err ? 77 : rows[i].expected), rows[i].text, "gave %u",
			   number);
	}
}

static void test_duration_parse(void **state)
{
	static const struct {
		const char *text;
		uint32_t max_s, expected; /* 0: refused */
	} rows[] = {
		{ "90", 3600, 90 },
		{ "90s", 3600, 90 },
		{ "5m", 3600, 300 },
		{ "1h", 3600, 3600 },
		{ "60m", 3600, 3600 },
		{ "3600", 3600, 3600 },
		{ "24h", 86400, 86400 },
		{ "1", 1, 1 },
		{ "1s", 1, 1 },
		{ "007m", 3600, 420 }, /* decimal, never octal */
		{ "4294967295", UINT32_MAX, UINT32_MAX },
		{ "71582788m", UINT32_MAX, 71582788U * 60 },
		{ "1193046h", UINT32_MAX, 1193046U * 3600 },
		/* over the limit, by one, by units, by what 32 and 64 bits hold */
		{ "3601", 3600, 0 },
		{ "61m", 3600, 0 },
		{ "2h", 3600, 0 },
		{ "1m", 59, 0 },
		{ "1h", 3599, 0 },
		{ "4294967296", UINT32_MAX, 0 },
		{ "71582789m", UINT32_MAX, 0 },
		{ "1193047h", UINT32_MAX, 0 },
		{ "4294967297h", UINT32_MAX, 0 },
		{ "99999999999", UINT32_MAX, 0 },
		{ "99999999999999999999999999h", UINT32_MAX, 0 },
		/* none at all */
		{ "0", 3600, 0 },
		{ "0s", 3600, 0 },
		{ "00h", 3600, 0 },
		{ "", 3600, 0 },
		{ "s", 3600, 0 },
		{ "m", 3600, 0 },
		{ "-5", 3600, 0 },
		{ "-5m", 3600, 0 },
		{ "+5m", 3600, 0 },
		{ "5 m", 3600, 0 },
		{ " 5m", 3600, 0 },
		{ "5m ", 3600, 0 },
		{ "5M", 3600, 0 },
		{ "5min", 3600, 0 },
		{ "5ms", 3600, 0 },
		{ "5ss", 3600, 0 },
		{ "1h30m", 86400, 0 },
		{ "1.5h", 86400, 0 },
		{ "1,5h", 86400, 0 },
		{ "1d", 86400, 0 },
		{ "1e3", 3600, 0 },
		{ "five", 3600, 0 },
		{ "5\nm", 3600, 0 },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		uint32_t seconds = 77;
		const int err = duration_parse(rows[i].text, rows[i].max_s, &seconds);

		assert_row(err == (rows[i].expected ? 0 : -EINVAL), rows[i].text, "returned %d",
			   err);
		assert_row(seconds == (rows[i].expected ?: 77), rows[i].text, "gave %u", seconds);
	}
}

static void test_proto(void **state)
{
	static const char *const bad[] = { "", "UDP", "udp ", "icmp", "17", "udplite", "sctp" };
	uint8_t proto = 77;

	(void)state;
	for (size_t i = 0; i < LEN(bad); i++)
		assert_row(proto_parse(bad[i], &proto) == -EINVAL && proto == 77, bad[i],
			   "accepted");
	assert_int_equal(proto_parse("udp", &proto), 0);
	assert_int_equal(proto, IPPROTO_UDP);
	assert_int_equal(proto_parse("tcp", &proto), 0);
	assert_int_equal(proto, IPPROTO_TCP);
	assert_string_equal(proto_format(IPPROTO_UDP), "udp");
	assert_string_equal(proto_format(IPPROTO_TCP), "tcp");
	assert_non_null(proto_format(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr_parse),     cmocka_unit_test(test_addr_padding),
		cmocka_unit_test(test_addr_cmp),       cmocka_unit_test(test_addr_kinds),
		cmocka_unit_test(test_ifname_parse),   cmocka_unit_test(test_mac_parse),
		cmocka_unit_test(test_number_parse),   cmocka_unit_test(test_tunnel_name),
		cmocka_unit_test(test_duration_parse), cmocka_unit_test(test_proto),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
