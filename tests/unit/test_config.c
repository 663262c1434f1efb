/* config.h: every key with good and bad values, the exact words of each refusal */
#include "unit.h"

#include <errno.h>

#include "policies.h"

#define INSIDE "expected a link name of 1 to 15 bytes, or a prefix of one and \"*\""
#define IFNAME \
	"expected a link name of 1 to 15 bytes, a prefix of one and \"*\", ipsec:any or ipsec:REQID"
#define ADDRESS	 "expected an IPv4 or IPv6 address"
#define ONE_HOST "expected the address of one host"
#define ENDPOINT \
	"expected ADDR:PORT/PROTO, [v6]:PORT/PROTO or HOST:PORT/PROTO with PROTO udp or tcp"
#define MARK	 "expected \",mark=N\" with N from 1 to 0xffffffff after the protocol"
#define PORTS	 "expected 1 to 16 ports from 1 to 65535, separated by commas"
#define KINDS	 "expected any, strict, or kinds of links as 'ip -d link' names them"
#define PAUSE	 "expected 1 s to 24 h: 90, 90s, 30m, 1h"
#define FRAMES	 "expected auto, off, require or strict"
#define MS	 "expected milliseconds, 1 to 60000"
#define PATHS	 "expected \"via IF\", \"via tunnel\" or \"via any\" after the address"
#define ZONE	 "expected a zone (fe80::1%eth0) or a path (via eth0): every link has such addresses"
#define ONE_ZONE "expected one link by its name as the zone, and no other path"

/* How a good value is printed back; the keys' own parsers are the inverse. */
static void test_good_values(void **state)
{
	static const struct {
		const char *key, *value, *printed; /* printed: NULL for the value itself */
	} rows[] = {
		{ "tunnel", "wg0", NULL },
		{ "tunnel", "tun*", NULL },
		{ "tunnel", "auto*", NULL },
		{ "tunnel", "auto0", NULL },
		{ "tunnel", "fifteen-bytes-x", NULL },
		{ "tunnel", "fifteen-bytes-x*", NULL },
		{ "tunnel", "lon0", NULL },
		{ "tunnel", "lo0", NULL },
		{ "resolver", "10.64.0.1", NULL },
		{ "resolver", "10.64.0.1@53", NULL },
		{ "resolver", "10.64.0.1@0x35", "10.64.0.1@53" },
		{ "resolver", "2001:db8::1", NULL },
		{ "resolver", "[2001:db8::1]", "2001:db8::1" },
		{ "resolver", "[2001:db8::1]@853", NULL },
		{ "resolver", "2001:db8::1@853", "[2001:db8::1]@853" },
		{ "resolver", "[10.64.0.1]@53", "10.64.0.1@53" },
		{ "resolver", "::ffff:10.64.0.1", "10.64.0.1" },
		{ "resolver", "10.64.0.1 via any", NULL },
		{ "resolver", "10.64.0.1@53\tvia  tunnel", "10.64.0.1@53 via tunnel" },
		{ "resolver", "10.64.0.1 via eth1", NULL },
		{ "resolver", "fe80::1%eth0", "fe80::1 via eth0" },
		{ "resolver", "[fe80::1%eth0]@53", "[fe80::1]@53 via eth0" },
		{ "resolver", "fe80::1%eth0 via eth0", "fe80::1 via eth0" },
		{ "resolver", "fe80::1 via tunnel", NULL },
		{ "resolver", "127.0.0.53", NULL },
		{ "endpoint", "192.0.2.9:51820/udp", NULL },
		{ "endpoint", "192.0.2.9:443/tcp", NULL },
		{ "endpoint", "[2001:db8::9]:51820/udp", NULL },
		{ "endpoint", "[::ffff:192.0.2.9]:51820/udp", "192.0.2.9:51820/udp" },
		{ "endpoint", "192.0.2.9:51820/udp,mark=51820", "192.0.2.9:51820/udp,mark=0xca6c" },
		{ "ports", "53", NULL },
		{ "ports", "53, 853", "53,853" },
		{ "ports", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", NULL },
		{ "ports", "53,53,53", "53" },
		{ "mode", "either", NULL },
		{ "mode", "both", NULL },
		{ "action", "drop", NULL },
		{ "action", "reject", NULL },
		{ "fragments", "auto", NULL },
		{ "fragments", "defrag", NULL },
		{ "fragments", "conntrack", NULL },
		{ "fragments", "drop", NULL },
		{ "frames", "auto", NULL },
		{ "frames", "off", NULL },
		{ "frames", "require", NULL },
		{ "frames", "strict", NULL },
		{ "inside", "docker0", NULL },
		{ "inside", "veth*", NULL },
		{ "inside", "fifteen-bytes-x*", NULL },
		{ "tunnel-kind", "wireguard", NULL },
		{ "tunnel-kind", "tun, ppp", "tun\ntunnel-kind = ppp" },
		{ "tunnel-kind", "tun\tppp tun", "tun\ntunnel-kind = ppp" },
		{ "tunnel-kind", "amneziawg-2.0", NULL }, /* a kind that we never heard of */
		{ "ownership", "auto", NULL },
		{ "ownership", "off", NULL },
		{ "pause-max", "1", NULL },
		{ "pause-max", "90s", "90" },
		{ "pause-max", "30m", "1800" },
		{ "pause-max", "24h", "86400" },
		{ "watch-quiet", "1", NULL },
		{ "watch-quiet", "60000", NULL },
		{ "watch-late", "1", NULL },
		{ "watch-late", "60000", NULL },
		{ "log-group", "0", NULL },
		{ "log-group", "65535", NULL },
		{ "log-rate", "1", NULL },
		{ "log-rate", "100000", NULL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char line[256], err[CONFIG_ERR] = "", *text;
		struct policy p;

		policy_init(&p);
		assert_row(!config_set(&p, rows[i].key, rows[i].value, err), rows[i].value, "%s",
			   err);
		text = policy_text(&p);
		snprintf(line, sizeof(line), "%s = %s\n", rows[i].key,
			 rows[i].printed ?: rows[i].value);
		assert_row(strstr(text, line), rows[i].value, "printed as\n%s", text);
		free(text);
		policy_fini(&p);
	}
}

static void test_bad_values(void **state)
{
	static const struct {
		const char *key, *value, *expected;
	} rows[] = {
		{ "tunnel", "auto",
		  "expected the name of a link: only enable and rules look for one, by --tunnel auto" },
		{ "tunnel", "", IFNAME },
		{ "tunnel", "sixteen-bytes-xx", IFNAME },
		{ "tunnel", "sixteen-bytes-xx*", IFNAME },
		{ "tunnel", "wg0 wg1", IFNAME },
		{ "tunnel", "wg0,wg1", IFNAME },
		{ "tunnel", "w*g", IFNAME },
		{ "tunnel", "**", IFNAME },
		{ "tunnel", "\"wg0\"", IFNAME },
		{ "tunnel", "..", IFNAME },
		{ "tunnel", "*", "expected a link name before the \"*\": every link would be one" },
		{ "tunnel", "lo", "expected another link; this one takes in the loopback device" },
		{ "tunnel", "l*", "expected another link; this one takes in the loopback device" },
		{ "tunnel", "lo*", "expected another link; this one takes in the loopback device" },
		{ "resolver", "", ADDRESS },
		{ "resolver", "10.0.0", ADDRESS },
		{ "resolver", "dns.example", ADDRESS },
		{ "resolver", "10.0.0.0/24", ADDRESS },
		{ "resolver", "10.0.0.1:53", ADDRESS },
		{ "resolver", "[2001:db8::1", ADDRESS },
		{ "resolver", "[2001:db8::1]53", ADDRESS },
		{ "resolver", "10.0.0.1 10.0.0.2", ADDRESS },
		{ "resolver", "10.0.0.1,10.0.0.2", ADDRESS },
		{ "resolver", "10.0.0.1 through wg0", ADDRESS },
		{ "resolver", "10.0.0.1 via", ADDRESS },
		{ "resolver", "10.0.0.1 via wg0 now", ADDRESS },
		{ "resolver", "10.0.0.1@", "expected a port, 1 to 65535, after the \"@\"" },
		{ "resolver", "10.0.0.1@0", "expected a port, 1 to 65535, after the \"@\"" },
		{ "resolver", "10.0.0.1@65536", "expected a port, 1 to 65535, after the \"@\"" },
		{ "resolver", "10.0.0.1@domain", "expected a port, 1 to 65535, after the \"@\"" },
		{ "resolver", "10.0.0.1 via wg*", PATHS },
		{ "resolver", "10.0.0.1 via sixteen-bytes-xx", PATHS },
		{ "resolver", "0.0.0.0", ONE_HOST },
		{ "resolver", "224.0.0.251", ONE_HOST },
		{ "resolver", "255.255.255.255", ONE_HOST },
		{ "resolver", "::", ONE_HOST },
		{ "resolver", "ff02::fb", ONE_HOST },
		{ "resolver", "fe80::1", ZONE },
		{ "resolver", "10.0.0.1%eth0",
		  "expected no zone (%...) on an address that is not link-local" },
		{ "resolver", "2001:db8::1%eth0",
		  "expected no zone (%...) on an address that is not link-local" },
		{ "resolver", "fe80::1%2", ONE_ZONE },
		{ "resolver", "fe80::1%", ONE_ZONE },
		{ "resolver", "fe80::1%eth0 via eth1", ONE_ZONE },
		{ "resolver", "fe80::1%eth0 via any", ONE_ZONE },
		{ "endpoint", "", ENDPOINT },
		{ "endpoint", "192.0.2.9", ENDPOINT },
		{ "endpoint", "192.0.2.9:51820", ENDPOINT },
		{ "endpoint", "192.0.2.9:51820/", ENDPOINT },
		{ "endpoint", "192.0.2.9:51820/icmp", ENDPOINT },
		{ "endpoint", "192.0.2.9:51820/UDP", ENDPOINT },
		{ "endpoint", "192.0.2.9/udp", ENDPOINT },
		{ "endpoint", "192.0.2.9:0/udp", ENDPOINT },
		{ "endpoint", "192.0.2.9:65536/udp", ENDPOINT },
		{ "endpoint", "2001:db8::9:51820/udp", ENDPOINT },
		{ "endpoint", "192.0.2:51820/udp",
		  ENDPOINT }, /* a name of digits is a broken address */
		{ "endpoint", "-vpn.example:51820/udp", ENDPOINT },
		{ "endpoint", "vpn example:51820/udp", ENDPOINT },
		{ "endpoint", "[vpn.example]:51820/udp", ENDPOINT },
		{ "endpoint", "224.0.0.1:51820/udp", ONE_HOST },
		{ "endpoint", "[ff02::1]:51820/udp", ONE_HOST },
		{ "endpoint", "192.0.2.9:51820/udp,mark=0", MARK },
		{ "endpoint", "192.0.2.9:51820/udp,mark=", MARK },
		{ "endpoint", "192.0.2.9:51820/udp,mark=0x100000000", MARK },
		{ "endpoint", "192.0.2.9:51820/udp,7", MARK },
		{ "endpoint", "192.0.2.9:51820/udp,mark=1,mark=2", MARK },
		{ "ports", "", PORTS },
		{ "ports", ",", PORTS },
		{ "ports", "0", PORTS },
		{ "ports", "65536", PORTS },
		{ "ports", "53;853", PORTS },
		{ "ports", "53-853", PORTS },
		{ "ports", "domain", PORTS },
		{ "ports", "53,x", PORTS },
		{ "mode", "", "expected either or both" },
		{ "mode", "Both", "expected either or both" },
		{ "action", "deny", "expected drop or reject" },
		{ "fragments", "yes", "expected auto, defrag, conntrack or drop" },
		{ "frames", "", FRAMES },
		{ "frames", "on", FRAMES },
		{ "frames", "Strict", FRAMES },
		{ "inside", "", INSIDE },
		{ "inside", "sixteen-bytes-xx", INSIDE },
		{ "inside", "docker0,virbr0", INSIDE },
		{ "inside", "*", "expected a link name before the \"*\": every link would be one" },
		{ "inside", "lo", "expected another link; this one takes in the loopback device" },
		{ "inside", "l*", "expected another link; this one takes in the loopback device" },
		{ "tunnel-kind", "", KINDS },
		{ "tunnel-kind", ",", KINDS },
		{ "tunnel-kind", "tun;ppp", KINDS },
		{ "tunnel-kind", "sixteen-bytes-xx", KINDS },
		{ "tunnel-kind", "\"tun\"", KINDS },
		{ "ownership", "", "expected auto or off" },
		{ "ownership", "on", "expected auto or off" },
		{ "ownership", "Off", "expected auto or off" },
		{ "pause-max", "", PAUSE },
		{ "pause-max", "0", PAUSE },
		{ "pause-max", "off", PAUSE },
		{ "pause-max", "1d", PAUSE },
		{ "pause-max", "25h", PAUSE },
		{ "pause-max", "86401", PAUSE },
		{ "watch-quiet", "0", MS },
		{ "watch-quiet", "60001", MS },
		{ "watch-quiet", "50ms", MS },
		{ "watch-late", "0", MS },
		{ "watch-late", "60001", MS },
		{ "watch-late", "-1", MS },
		{ "log-group", "65536", "expected an nflog group, 1 to 65535, or 0 for off" },
		{ "log-group", "-1", "expected an nflog group, 1 to 65535, or 0 for off" },
		{ "log-rate", "0", "expected packets per second, 1 to 100000" },
		{ "log-rate", "100001", "expected packets per second, 1 to 100000" },
		{ "log-rate", "10/second", "expected packets per second, 1 to 100000" },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct policy p = policy_from_lines("tunnel = tun0\nresolver = 10.9.9.9\n");
		char err[CONFIG_ERR] = "", text[CONFIG_ERR], *before = policy_text(&p), *after;
		const int rc = config_set(&p, rows[i].key, rows[i].value, err);

		snprintf(text, sizeof(text), "%s \"%s\": %s", rows[i].key, rows[i].value,
			 rows[i].expected);
		assert_row(rc == -EINVAL, rows[i].value, "%s returned %d", rows[i].key, rc);
		assert_row(!strcmp(err, text), rows[i].value, "said %s", err);
		after = policy_text(&p);
		assert_row(!strcmp(before, after), rows[i].value, "changed the policy");
		/* The same on the command line, named as it was typed there. */
		assert_int_equal(config_set_option(&p, rows[i].key, rows[i].value, err), -EINVAL);
		assert_true(!strncmp(err, "--", 2) && !strcmp(err + 2, text));
		free(before);
		free(after);
		policy_fini(&p);
	}
}

static void test_one_too_many(void **state)
{
	static const char *const limits =
		": one too many, expected at most 64 links of a sort, 131072 resolvers, 1024 endpoints, "
		"16 endpoint names, 16 ports, 32 kinds, 64 exempt clients, 2 redirections";
	struct policy p;
	char value[64], err[CONFIG_ERR] = "";

	(void)state;
	policy_init(&p);
	for (int i = 0; i < POLICY_MAX_TUNNELS; i++) {
		snprintf(value, sizeof(value), "tun%d", i);
		assert_int_equal(config_set(&p, "tunnel", value, err), 0);
	}
	assert_int_equal(config_set(&p, "tunnel", "tun0", err), 0);
	assert_int_equal(config_set(&p, "tunnel", "wg0", err), -E2BIG);
	assert_true(!strncmp(err, "tunnel \"wg0\"", 12) && !strcmp(err + 12, limits));
	for (int i = 0; i < POLICY_MAX_HOSTS; i++) {
		snprintf(value, sizeof(value), "vpn%d.example:1194/udp", i);
		assert_int_equal(config_set(&p, "endpoint", value, err), 0);
	}
	assert_int_equal(config_set(&p, "endpoint", "vpn.example:1/udp", err), -E2BIG);
	assert_int_equal(config_set(&p, "ports", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", err),
			 -E2BIG);
	assert_int_equal(p.ports_len, 2); /* as it was */
	policy_fini(&p);
}

static void assert_kinds(const struct policy *p, const char *what, const char *expected)
{
	char found[POLICY_MAX_KINDS * IFNAMSIZ] = "";

	for (size_t i = 0; i < p->kinds_len; i++) {
		strcat(found, i ? " " : "");
		strcat(found, p->kinds[i]);
	}
	assert_row(!strcmp(found, expected), what, "is %s", found);
}

/* Line after line of one key. */
static void test_tunnel_kind(void **state)
{
	static const char strict[] =
		"tun wireguard amneziawg ovpn ovpn-dco ppp ipip ip6tnl sit gre "
		"gretap ip6gre ip6gretap vti vti6 xfrm";
	static const struct {
		const char *what, *lines, *expected;
	} rows[] = {
		{ "default", "", "" },
		{ "any", "tunnel-kind = any\n", "" },
		{ "lines add", "tunnel-kind = tun\ntunnel-kind = ppp,tun\n", "tun ppp" },
		{ "any forgets", "tunnel-kind = tun\ntunnel-kind = any\n", "" },
		{ "any forgets strict", "tunnel-kind = strict\ntunnel-kind = any\n", "" },
		{ "after any", "tunnel-kind = strict\ntunnel-kind = any\ntunnel-kind = veth\n",
		  "veth" },
		{ "strict", "tunnel-kind = strict\n", strict },
		{ "strict twice", "tunnel-kind = strict\ntunnel-kind = strict\n", strict },
	};
	char err[CONFIG_ERR], value[16];
	struct policy p;

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		p = policy_from_lines(rows[i].lines);
		assert_kinds(&p, rows[i].what, rows[i].expected);
		policy_fini(&p);
	}
	/* What the command line does with the file's. */
	p = policy_from_lines("tunnel-kind = strict\n");
	config_clear(&p, config_key_find("tunnel-kind"));
	assert_kinds(&p, "cleared", "");
	for (int i = 0; i < POLICY_MAX_KINDS; i++) {
		snprintf(value, sizeof(value), "kind%d", i);
		assert_int_equal(config_set(&p, "tunnel-kind", value, err), 0);
	}
	assert_int_equal(config_set(&p, "tunnel-kind", "kind0", err), 0);
	assert_int_equal(config_set(&p, "tunnel-kind", "tun,kind", err), -E2BIG);
	assert_int_equal(p.kinds_len, POLICY_MAX_KINDS);
	policy_fini(&p);
}

/* A list is taken whole or not at all, and the two words that stand for lists are in none. */
static void test_tunnel_kind_lists(void **state)
{
	static const char *const bad[] = { "tun,a/b", "any,tun", "tun,any", "strict,veth",
					   "veth strict" };

	(void)state;
	for (size_t i = 0; i < LEN(bad); i++) {
		struct policy p = policy_from_lines("tunnel-kind = wireguard\n");
		char err[CONFIG_ERR] = "";

		assert_row(config_set(&p, "tunnel-kind", bad[i], err) == -EINVAL, bad[i],
			   "is taken");
		assert_row(p.kinds_len == 1, bad[i], "leaves %zu kinds", p.kinds_len);
		policy_fini(&p);
	}
}

static void test_unknown_key(void **state)
{
	struct policy p;
	char err[CONFIG_ERR] = "";

	(void)state;
	policy_init(&p);
	assert_int_equal(config_set(&p, "tunel", "wg0", err), -ENOENT);
	assert_string_equal(err,
			    "\"tunel\": unknown key, expected one of those in leakguard.conf(5)");
	assert_null(config_key_find(""));
	assert_null(config_key_find("Tunnel"));
	for (const struct config_key *k = config_keys; k->name; k++) {
		assert_ptr_equal(config_key_find(k->name), k);
		assert_true(k->arg && k->expects && k->help && k->parse &&
			    k->repeats == !!k->lists[0]);
	}
	policy_fini(&p);
}

/* What is not printable or too long is never repeated as it is. */
static void test_quoting(void **state)
{
	struct policy p;
	char err[CONFIG_ERR] = "", longer[4096];

	(void)state;
	policy_init(&p);
	assert_int_equal(config_set(&p, "mode", "a\x1b[31mb\n", err), -EINVAL);
	assert_string_equal(err, "mode \"a?[31mb?\": expected either or both");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	for (const struct config_key *k = config_keys; k->name; k++) {
		assert_row(config_set(&p, k->name, longer, err) == -EINVAL, k->name, "accepted");
		assert_row(strlen(err) < CONFIG_ERR - 1, k->name, "not cut");
	}
	assert_int_equal(config_set(&p, longer, "", err), -ENOENT);
	policy_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_values),	  cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_one_too_many),	  cmocka_unit_test(test_unknown_key),
		cmocka_unit_test(test_quoting),		  cmocka_unit_test(test_tunnel_kind),
		cmocka_unit_test(test_tunnel_kind_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
