/* policy.h: order, duplicates, limits, mode both's check, printing */
#include "unit.h"

#include <errno.h>

#include "policies.h"

#define CHOICES                                                                          \
	"mode = either\naction = drop\nfragments = auto\nframes = auto\nlog-group = 0\n" \
	"log-rate = 10\nownership = auto\npause-max = 3600\nwatch-quiet = 50\nwatch-late = 500\n"
#define TAIL "ports = 53,853\n" CHOICES

static void test_defaults(void **state)
{
	struct policy p = policy_from_lines("");
	char *text = policy_text(&p);

	(void)state;
	assert_string_equal(text, TAIL);
	free(text);
	policy_fini(&p);
}

/* Sorted, and only once what is there twice or under a wider entry. */
static void test_order(void **state)
{
	static const struct {
		const char *lines, *expected;
	} rows[] = {
		{ "tunnel = wg1\ntunnel = tun0\ntunnel = wg1\n",
		  "tunnel = tun0\ntunnel = wg1\n" TAIL },
		{ "tunnel = wg0\ntunnel = wg*\n", "tunnel = wg*\n" TAIL },
		{ "tunnel = wg*\ntunnel = wg1*\ntunnel = wg\n", "tunnel = wg*\n" TAIL },
		{ "tunnel = a\ntunnel = ab*\ntunnel = abc\ntunnel = ac\n",
		  "tunnel = a\ntunnel = ab*\ntunnel = ac\n" TAIL },
		/* A name is no prefix of itself. */
		{ "tunnel = wg\ntunnel = wg0\n", "tunnel = wg\ntunnel = wg0\n" TAIL },
		{ "inside = veth1\ninside = docker0\ninside = veth*\ninside = docker0\n",
		  "inside = docker0\ninside = veth*\n" TAIL },
		/* Each list of its own: what is wider in one covers nothing of the other. */
		{ "inside = wg0\ntunnel = wg*\n", "tunnel = wg*\ninside = wg0\n" TAIL },
		{ "resolver = 2001:db8::1\nresolver = 10.0.0.2\nresolver = 10.0.0.1\nresolver = 10.0.0.2\n",
		  "resolver = 10.0.0.1\nresolver = 10.0.0.2\nresolver = 2001:db8::1\n" TAIL },
		{ "resolver = ::ffff:10.0.0.1\nresolver = 10.0.0.1\n",
		  "resolver = 10.0.0.1\n" TAIL },
		{ "resolver = 10.0.0.1 via wg0\nresolver = 10.0.0.1 via any\nresolver = 10.0.0.1 via tunnel\n",
		  "resolver = 10.0.0.1 via tunnel\nresolver = 10.0.0.1 via any\nresolver = 10.0.0.1 via wg0\n" TAIL },
		{ "resolver = fe80::1%eth0\nresolver = fe80::1 via eth0\nresolver = fe80::1%eth1\n",
		  "resolver = fe80::1 via eth0\nresolver = fe80::1 via eth1\n" TAIL },
		{ "resolver = [2001:db8::1]@5353\n", "resolver = [2001:db8::1]@5353\n" TAIL },
		{ "endpoint = 192.0.2.9:853/udp\nendpoint = 192.0.2.9:53/tcp\nendpoint = 192.0.2.9:853/udp\n",
		  "endpoint = 192.0.2.9:53/tcp\nendpoint = 192.0.2.9:853/udp\n" TAIL },
		{ "endpoint = [2001:db8::9]:853/udp,mark=255\n",
		  "endpoint = [2001:db8::9]:853/udp,mark=0xff\n" TAIL },
		/* A carrier on a port that is not guarded needs no leave. */
		{ "endpoint = 192.0.2.9:51820/udp\nendpoint = 192.0.2.9:53/udp\n",
		  "endpoint = 192.0.2.9:53/udp\n" TAIL },
		{ "tunnel = ipsec:7\ntunnel = ipsec:007\n", "tunnel = ipsec:7\n" TAIL },
		{ "tunnel = ipsec:7\ntunnel = ipsec:any\n", "tunnel = ipsec:any\n" TAIL },
		/* A prefix is of links. */
		{ "tunnel = ipsec:7\ntunnel = ipsec*\ntunnel = ipsec0\n",
		  "tunnel = ipsec*\ntunnel = ipsec:7\n" TAIL },
		{ "ports = 853,53,853\n", TAIL },
		{ "ports = 5353, 53\n", "ports = 53,5353\n" CHOICES },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct policy p = policy_from_lines(rows[i].lines);
		char *text = policy_text(&p);

		assert_row(!strcmp(text, rows[i].expected), rows[i].lines, "became\n%s", text);
		free(text);
		policy_fini(&p);
	}
}

/* What is printed, read again, prints the same: the record of the run directory rests on it. */
static void test_round_trip(void **state)
{
	static const char lines[] =
		"tunnel = wg0\ntunnel = tun*\nresolver = 10.64.0.1\nresolver = 192.0.2.1@53 via any\n"
		"resolver = 2001:db8::1\nresolver = [2001:db8::1]@853 via tunnel\n"
		"resolver = fe80::1%eth0\nresolver = 198.51.100.1 via eth1\n"
		"endpoint = 203.0.113.7:853/udp,mark=0xca6c\nendpoint = [2001:db8::7]:53/tcp\n"
		"ports = 53,853,5353\nmode = either\naction = reject\nfragments = drop\n"
		"frames = strict\ninside = veth*\ninside = docker0\n"
		"log-group = 7\nlog-rate = 100000\nownership = off\npause-max = 90\n"
		"watch-quiet = 1\nwatch-late = 60000\ntunnel-kind = wireguard\ntunnel-kind = tun\n";
	struct policy p = policy_from_lines(lines), again;
	char *first = policy_text(&p), *second;

	(void)state;
	again = policy_from_lines(first);
	second = policy_text(&again);
	assert_string_equal(first, second);
	assert_int_equal(p.resolvers_len, 6);
	assert_memory_equal(p.resolvers, again.resolvers, 6 * sizeof(*p.resolvers));
	assert_memory_equal(p.endpoints, again.endpoints, 2 * sizeof(*p.endpoints));
	assert_memory_equal(p.tunnels, again.tunnels, 2 * sizeof(*p.tunnels));
	assert_memory_equal(p.insides, again.insides, 2 * sizeof(*p.insides));
	assert_int_equal(again.frames, FRAMES_STRICT);
	assert_int_equal(again.kinds_len, 2);
	assert_memory_equal(p.kinds, again.kinds, sizeof(p.kinds));
	assert_non_null(strstr(first,
			       "ownership = off\npause-max = 90\nwatch-quiet = 1\n"
			       "watch-late = 60000\ntunnel-kind = wireguard\ntunnel-kind = tun\n"));
	free(first);
	free(second);
	policy_fini(&p);
	policy_fini(&again);
}

static void test_mode_both(void **state)
{
	static const struct {
		const char *lines, *why; /* NULL: accepted */
	} rows[] = {
		{ "tunnel = wg0\nresolver = 10.0.0.1\n", NULL },
		{ "tunnel = wg0\nresolver = 10.0.0.1 via tunnel\n", NULL },
		{ "tunnel = wg0\nresolver = 10.0.0.1 via wg0\n", NULL },
		{ "tunnel = wg*\nresolver = fe80::1%wg7\n", NULL },
		{ "", NULL },
		{ "tunnel = wg0\nresolver = 10.0.0.1 via any\n",
		  "resolver \"10.0.0.1 via any\": expected a path through a tunnel, mode both allows no other" },
		{ "tunnel = wg0\nresolver = 10.0.0.1@53 via eth0\n",
		  "resolver \"10.0.0.1@53 via eth0\": expected a path through a tunnel, mode both allows no other" },
		{ "tunnel = wg0\nresolver = fe80::1%wg00\n",
		  "resolver \"fe80::1 via wg00\": expected a path through a tunnel, mode both allows no other" },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char why[CONFIG_ERR] = "";
		struct policy p;
		int err;

		policy_init(&p);
		policy_set_lines(&p, rows[i].lines);
		/* The same lines are good in mode either. */
		assert_row(!policy_validate(&p, why, sizeof(why)), rows[i].lines, "either: %s",
			   why);
		policy_set_lines(&p, "mode = both\n");
		err = policy_validate(&p, why, sizeof(why));
		assert_row(err == (rows[i].why ? -EINVAL : 0), rows[i].lines, "returned %d", err);
		assert_row(!strcmp(why, rows[i].why ?: ""), rows[i].lines, "said %s", why);
		policy_fini(&p);
	}
}

static void test_limits(void **state)
{
	struct policy p;
	struct resolver r = { .addr = { .family = AF_INET } };
	struct endpoint e = { .addr = { .family = AF_INET }, .port = 1, .proto = 17 };
	struct endpoint_host h = { .name = "vpn.example", .port = 1, .proto = 17 };
	struct tunnel t = { .name = "tun" };

	(void)state;
	policy_init(&p);
	for (unsigned int i = 0; i <= POLICY_MAX_TUNNELS; i++) {
		snprintf(t.name, sizeof(t.name), "tun%u", i);
		assert_int_equal(policy_add_tunnel(&p, &t), i < POLICY_MAX_TUNNELS ? 0 : -E2BIG);
		assert_int_equal(policy_add_inside(&p, &t), i < POLICY_MAX_TUNNELS ? 0 : -E2BIG);
	}
	/* One that is there already is never one too many. */
	assert_int_equal(policy_add_tunnel(&p, &p.tunnels[0]), 0);
	assert_int_equal(policy_add_inside(&p, &p.insides[0]), 0);
	p.ports_len = 0;
	for (uint16_t i = 0; i <= POLICY_MAX_PORTS; i++)
		assert_int_equal(policy_add_port(&p, (uint16_t)(i + 1)),
				 i < POLICY_MAX_PORTS ? 0 : -E2BIG);
	assert_int_equal(policy_add_port(&p, 1), 0);
	for (uint32_t i = 0; i <= POLICY_MAX_RESOLVERS; i++) {
		memcpy(r.addr.bytes, &i, sizeof(i));
		assert_int_equal(policy_add_resolver(&p, &r),
				 i < POLICY_MAX_RESOLVERS ? 0 : -E2BIG);
	}
	for (uint32_t i = 0; i <= POLICY_MAX_ENDPOINTS; i++) {
		memcpy(e.addr.bytes, &i, sizeof(i));
		assert_int_equal(policy_add_endpoint(&p, &e),
				 i < POLICY_MAX_ENDPOINTS ? 0 : -E2BIG);
	}
	for (unsigned int i = 0; i <= POLICY_MAX_KINDS; i++) {
		snprintf(t.name, sizeof(t.name), "kind%u", i);
		assert_int_equal(policy_add_kind(&p, t.name), i < POLICY_MAX_KINDS ? 0 : -E2BIG);
	}
	assert_int_equal(policy_add_kind(&p, "kind0"), 0);
	for (uint32_t i = 0; i <= POLICY_MAX_HOSTS; i++)
		assert_int_equal(policy_add_host(&p, &h), i < POLICY_MAX_HOSTS ? 0 : -E2BIG);
	assert_int_equal(p.tunnels_len, POLICY_MAX_TUNNELS);
	assert_int_equal(p.resolvers_len, POLICY_MAX_RESOLVERS);
	policy_fini(&p);
}

/* The same of links that lead to guests. */
static void test_is_tunnel(void **state)
{
	static const struct {
		const char *ifname;
		bool expected;
	} rows[] = {
		{ "wg0", true },   { "wg", false },  { "wg00", false },
		{ "tun", true },   { "tun0", true }, { "tu", false },
		{ "eth0", false }, { "", false },    { "xwg0", false },
	};
	struct policy p = policy_from_lines("tunnel = wg0\ntunnel = tun*\n"),
		      q = policy_from_lines("inside = wg0\ninside = tun*\n");

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		assert_row(policy_is_tunnel(&p, rows[i].ifname) == rows[i].expected, rows[i].ifname,
			   "expected %d", rows[i].expected);
		assert_row(policy_is_inside(&q, rows[i].ifname) == rows[i].expected, rows[i].ifname,
			   "expected %d", rows[i].expected);
		assert_false(policy_is_tunnel(&q, rows[i].ifname));
		assert_false(policy_is_inside(&p, rows[i].ifname));
	}
	policy_fini(&p);
	policy_fini(&q);
}

/* No link has such a name; whatever kinds are asked for, a policy is one. */
static void test_ipsec(void **state)
{
	struct policy any = policy_from_lines("tunnel = ipsec:any\ntunnel-kind = tun\n"),
		      one = policy_from_lines("tunnel = ipsec:7\n"),
		      links = policy_from_lines("tunnel = ipsec*\n");

	(void)state;
	assert_true(policy_has_ipsec(&any) && policy_has_ipsec(&one) && !policy_has_ipsec(&links));
	assert_true(policy_is_tunnel(&any, "ipsec:7") && policy_is_tunnel(&any, "ipsec:0"));
	assert_true(policy_is_tunnel_link(&any, "ipsec:7", "xfrm"));
	assert_false(policy_is_tunnel(&any, "ipsec0"));
	assert_true(policy_is_tunnel(&one, "ipsec:7"));
	assert_false(policy_is_tunnel(&one, "ipsec:70"));
	assert_false(policy_is_tunnel(&links, "ipsec:7"));
	policy_fini(&any);
	policy_fini(&one);
	policy_fini(&links);
}

/* All that "strict" stands for fits, and nothing that VPNs in containers run over is among it. */
static void test_kinds(void **state)
{
	static const char *const others[] = { "",     "veth", "bridge",	  "dummy", "macvlan",
					      "vlan", "tu",   "wireguar", "tun0" };
	size_t n = 0;

	(void)state;
	for (; policy_tunnel_kinds[n]; n++) {
		assert_true(strlen(policy_tunnel_kinds[n]) < IFNAMSIZ);
		assert_true(policy_is_tunnel_kind(policy_tunnel_kinds[n]));
	}
	assert_true(n && n <= POLICY_MAX_KINDS);
	for (size_t i = 0; i < LEN(others); i++)
		assert_row(!policy_is_tunnel_kind(others[i]), others[i], "is a tunnel");
}

/* A copy shares nothing with its original; both are freed. */
static void test_copy(void **state)
{
	struct policy p = policy_from_lines("resolver = 10.0.0.1\nendpoint = 192.0.2.9:1/udp\n"),
		      copy;
	struct resolver more = { .addr = { .family = AF_INET, .bytes = { 10, 0, 0, 9 } } };

	(void)state;
	assert_int_equal(policy_copy(&p, &copy), 0);
	assert_int_equal(policy_add_resolver(&copy, &more), 0);
	copy.resolvers[0].port = 9;
	copy.endpoints[0].port = 9;
	assert_int_equal(p.resolvers_len, 1);
	assert_int_equal(p.resolvers[0].port, 0);
	assert_int_equal(p.endpoints[0].port, 1);
	policy_fini(&copy);
	policy_fini(&p);
	assert_int_equal(policy_copy(&p, &copy), 0); /* an empty one, too */
	policy_fini(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),   cmocka_unit_test(test_order),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_mode_both),
		cmocka_unit_test(test_limits),	   cmocka_unit_test(test_is_tunnel),
		cmocka_unit_test(test_kinds),	   cmocka_unit_test(test_copy),
		cmocka_unit_test(test_ipsec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
