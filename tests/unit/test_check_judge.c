/* check_judge.h: what was seen where -> a verdict; closed never without its control */
#include "unit.h"

#include <errno.h>
#include <netinet/in.h>

#include "check_judge.h"
#include "policies.h"

/* wg0 is the tunnel; br1, of a tunnel's name too, stands on eth2; br0 on eth1. */
enum { LO = 1, ETH0, ETH1, BR0, WG0, VETH0, TUNBR, ETH2, GONE = 99 };

static struct link links[] = {
	{ .index = LO, .name = "lo", .up = true },
	{ .index = ETH0, .name = "eth0", .up = true },
	{ .index = ETH1, .name = "eth1", .up = true, .master = BR0 },
	{ .index = BR0, .name = "br0", .kind = "bridge", .up = true },
	{ .index = WG0, .name = "wg0", .kind = "wireguard", .up = true },
	{ .index = VETH0, .name = "veth0", .kind = "veth", .up = true },
	{ .index = TUNBR, .name = "tunbr", .kind = "bridge", .up = true },
	{ .index = ETH2, .name = "eth2", .up = true, .master = TUNBR },
};

#define TUNNELS	 "tunnel = wg0\ntunnel = tunbr\ninside = veth0\n"
#define RESOLVER "resolver = 192.0.2.1"
#define WAY(w)	 .way = CHECK_WAY_##w

/* The query is udp/53 to 192.0.2.1. */
static const struct {
	const char *what, *policy;
	enum check_way way;
	int left[3];	/* by which links the query was seen leaving */
	int control[2]; /* and its control */
	int err, control_err;
	unsigned int counted;
	bool no_route, lost, paused, pinned;
	struct check_finding want;
} rows[] = {
#define SEEN(v, l) .want = { .verdict = CHECK_VERDICT_##v, .left = (l) }
#define APPROVED(a, l) \
	.want = { .verdict = CHECK_VERDICT_APPROVED, .approval = CHECK_APPROVAL_##a, .left = (l) }
	/* clang-format off */
	{ "nothing was seen", TUNNELS, WAY(BOUND), SEEN(UNSURE, 0) },
	{ "its control was", TUNNELS, WAY(BOUND), .control = { ETH0 }, SEEN(STOPPED, 0) },
	{ "by whom", TUNNELS, WAY(BOUND), .control = { ETH0 }, .counted = 7,
	  .want = { .verdict = CHECK_VERDICT_STOPPED, .stopped_by = 7 } },
	{ "counted, no control", TUNNELS, WAY(BOUND), .counted = 7, SEEN(UNSURE, 0) },
	{ "refused, no control", TUNNELS, WAY(BOUND), .err = -EPERM, SEEN(UNSURE, 0) },
	{ "refused", TUNNELS, WAY(BOUND), .err = -EPERM, .control = { ETH0 }, SEEN(STOPPED, 0) },
	{ "packets were lost", TUNNELS, WAY(BOUND), .control = { ETH0 }, .lost = true,
	  SEEN(UNSURE, 0) },
	{ "seen, though some were lost", TUNNELS, WAY(BOUND), .left = { ETH0 }, .lost = true,
	  SEEN(LEAK, ETH0) },
	{ "the control went into the tunnel", TUNNELS, WAY(BOUND), .control = { WG0 },
	  SEEN(UNSURE, 0) },
	{ "routes may lead it there", TUNNELS, WAY(PLAIN), .control = { WG0 }, SEEN(STOPPED, 0) },
	{ "no route", TUNNELS, WAY(BOUND), .no_route = true, SEEN(NO_ROUTE, 0) },
	{ "the kernel has none", TUNNELS, WAY(PLAIN), .err = -ENETUNREACH,
	  .control_err = -ENETUNREACH, SEEN(NO_ROUTE, 0) },
	{ "only the query has none", TUNNELS, WAY(PLAIN), .err = -ENETUNREACH, SEEN(UNSURE, 0) },
	{ "both were refused", TUNNELS, WAY(PLAIN), .err = -EPERM, .control_err = -EPERM,
	  SEEN(UNSURE, 0) },

	{ "it leaked", TUNNELS, WAY(PLAIN), .left = { ETH0 }, SEEN(LEAK, ETH0) },
	{ "whatever its control did", TUNNELS, WAY(RAW), .left = { ETH0 }, .control = { ETH0 },
	  .counted = 7, SEEN(LEAK, ETH0) },
	{ "by a new link", TUNNELS, WAY(PLAIN), .left = { GONE }, SEEN(LEAK, GONE) },
	{ "through the tunnel", TUNNELS, WAY(PLAIN), .left = { WG0 }, SEEN(INSIDE, WG0) },
	{ "and beside it", TUNNELS, WAY(PLAIN), .left = { WG0, ETH0 }, SEEN(LEAK, ETH0) },
	{ "on the host", TUNNELS, WAY(PLAIN), .left = { LO }, SEEN(INSIDE, LO) },
	{ "to a guest", TUNNELS, WAY(PLAIN), .left = { VETH0 }, SEEN(INSIDE, VETH0) },
	{ "below a tunnel", TUNNELS, WAY(PLAIN), .left = { TUNBR, ETH2 }, SEEN(INSIDE, TUNBR) },
	{ "past the tunnel above", TUNNELS, WAY(BOUND), .left = { ETH2 }, SEEN(LEAK, ETH2) },
	{ "a frame below a tunnel", TUNNELS, WAY(FRAME), .left = { ETH2 }, SEEN(INSIDE, ETH2) },
	{ "IPsec took both", "tunnel = ipsec:any\n", WAY(PLAIN), .counted = 4, SEEN(INSIDE, 0) },
	{ "nobody is a tunnel", "ports = 53\n", WAY(PLAIN), .left = { WG0 }, SEEN(LEAK, WG0) },

	{ "approved", TUNNELS RESOLVER "\n", WAY(BOUND), .left = { ETH0 },
	  APPROVED(RESOLVER, ETH0) },
	{ "another one is", TUNNELS "resolver = 192.0.2.2\n", WAY(BOUND), .left = { ETH0 },
	  SEEN(LEAK, ETH0) },
	{ "its port", TUNNELS RESOLVER "@53\n", WAY(BOUND), .left = { ETH0 },
	  APPROVED(RESOLVER, ETH0) },
	{ "another port", TUNNELS RESOLVER "@853\n", WAY(BOUND), .left = { ETH0 },
	  SEEN(LEAK, ETH0) },
	{ "pinned", TUNNELS RESOLVER "\n", WAY(BOUND), .left = { ETH0 }, .pinned = true,
	  SEEN(LEAK, ETH0) },
	{ "pinned, and inside", TUNNELS RESOLVER "\n", WAY(PLAIN), .left = { WG0 },
	  .pinned = true, SEEN(INSIDE, WG0) },
	{ "any way", TUNNELS RESOLVER " via any\n", WAY(BOUND), .left = { ETH0 }, .pinned = true,
	  APPROVED(RESOLVER, ETH0) },
	{ "tunnels only", TUNNELS RESOLVER " via tunnel\n", WAY(BOUND), .left = { ETH0 },
	  SEEN(LEAK, ETH0) },
	{ "its link", TUNNELS RESOLVER " via eth0\n", WAY(BOUND), .left = { ETH0 },
	  APPROVED(RESOLVER, ETH0) },
	{ "another link", TUNNELS RESOLVER " via eth1\n", WAY(BOUND), .left = { ETH0 },
	  SEEN(LEAK, ETH0) },
	{ "below its link", TUNNELS RESOLVER " via br0\n", WAY(PLAIN), .left = { BR0, ETH1 },
	  APPROVED(RESOLVER, ETH1) },
	{ "the carrier", TUNNELS "endpoint = 192.0.2.1:53/udp\n", WAY(PLAIN), .left = { ETH0 },
	  APPROVED(CARRIER, ETH0) },
	{ "carrier by TCP", TUNNELS "endpoint = 192.0.2.1:53/tcp\n", WAY(PLAIN),
	  .left = { ETH0 }, SEEN(LEAK, ETH0) },
	{ "carrier with a mark", TUNNELS "endpoint = 192.0.2.1:53/udp,mark=7\n", WAY(PLAIN),
	  .left = { ETH0 }, SEEN(LEAK, ETH0) },
	{ "a pause", TUNNELS, WAY(FRAME), .left = { ETH0 }, .paused = true,
	  APPROVED(PAUSE, ETH0) },

	{ "both, approved inside", TUNNELS "mode = both\n" RESOLVER "\n", WAY(PLAIN),
	  .left = { WG0 }, SEEN(INSIDE, WG0) },
	{ "both, approved and pinned inside", TUNNELS "mode = both\n" RESOLVER "\n", WAY(PLAIN),
	  .left = { WG0 }, .pinned = true, SEEN(INSIDE, WG0) },
	{ "both, not approved", TUNNELS "mode = both\nresolver = 10.0.0.1\n", WAY(PLAIN),
	  .left = { WG0 }, SEEN(LEAK, WG0) },
	{ "both, approved, but outside", TUNNELS "mode = both\n" RESOLVER "\n", WAY(PLAIN),
	  .left = { ETH0 }, SEEN(LEAK, ETH0) },
	{ "both, in a pause", TUNNELS "mode = both\nresolver = 10.0.0.1\n", WAY(PLAIN),
	  .left = { WG0 }, .paused = true, SEEN(INSIDE, WG0) },
	/* clang-format on */
};

static void see(struct check_shot *s, const int *left, size_t n)
{
	for (size_t i = 0; i < n && left[i]; i++)
		s->left[s->left_len++] = left[i];
}

static struct check_finding judge(size_t i, size_t counts[CHECK_VERDICTS])
{
	struct policy p = policy_from_lines(rows[i].policy);
	struct netstate net = { .links = links, .links_len = LEN(links) };
	struct check_plan *plan = calloc(1, sizeof(*plan));
	struct check_shot shots[2] = {
		{ .way = rows[i].way,
		  .proto = IPPROTO_UDP,
		  .port = 53,
		  .control = 1,
		  .no_route = rows[i].no_route,
		  .err = rows[i].err,
		  .counted = rows[i].counted },
		{ .way = rows[i].way,
		  .proto = IPPROTO_UDP,
		  .port = 9,
		  .control = 1,
		  .is_control = true,
		  .no_route = rows[i].no_route,
		  .err = rows[i].control_err },
	};
	struct addr to;
	struct pins pins = { .addrs = &to, .len = rows[i].pinned };
	const struct check_law law = { &p, &pins, &net, rows[i].paused };
	struct check_finding f;

	assert_non_null(plan);
	assert_int_equal(addr_parse("192.0.2.1", &to), 0);
	check_plan_add_target(plan, &to, CHECK_KIND_GATEWAY, 0, "");
	see(&shots[0], rows[i].left, 3);
	see(&shots[1], rows[i].control, 2);
	plan->shots = shots;
	plan->shots_len = 2;
	plan->lost = rows[i].lost;
	f = check_judge(&law, plan, &shots[0]);
	check_judge_all(&law, plan, counts);
	free(plan);
	policy_fini(&p);
	return f;
}

static void test_verdicts(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		size_t counts[CHECK_VERDICTS];
		const struct check_finding f = judge(i, counts), *want = &rows[i].want;

		assert_row(f.verdict == want->verdict, rows[i].what, "%s",
			   check_verdict_format(f.verdict));
		assert_row(f.approval == want->approval, rows[i].what, "approved by %s",
			   check_approval_format(f.approval));
		assert_row(f.left == want->left, rows[i].what, "left by %d", f.left);
		assert_row(f.stopped_by == want->stopped_by, rows[i].what, "S%u", f.stopped_by);
		for (enum check_verdict v = 0; v < CHECK_VERDICTS; v++)
			assert_int_equal(counts[v], v == want->verdict);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdicts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
