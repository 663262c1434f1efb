/* check_plan.h: links, targets -> shots, each with its control, within bounds */
#include "unit.h"

#include <netinet/in.h>

#include "check_plan.h"
#include "policies.h"

static struct addr addr(const char *text)
{
	struct addr a;

	if (addr_parse(text, &a))
		fail_msg("%s", text);
	return a;
}

static void add_target(struct check_plan *plan, const char *text, enum check_kind kind, int link)
{
	const struct addr a = addr(text);

	check_plan_add_target(plan, &a, kind, link, "");
}

static struct check_plan *make_plan(void)
{
	struct check_plan *plan = calloc(1, sizeof(*plan));

	assert_non_null(plan);
	plan->links[0] = (struct check_link){ .index = 2, .name = "eth0", .reach = 7 };
	plan->links[1] = (struct check_link){ .index = 3, .name = "eth1", .skipped = "down" };
	plan->links[2] = (struct check_link){ .index = 4, .name = "br0" };
	plan->links_len = 3;
	add_target(plan, "192.0.2.1", CHECK_KIND_GATEWAY, 2);
	add_target(plan, "fe80::1", CHECK_KIND_GATEWAY, 2);
	add_target(plan, "198.51.100.53", CHECK_KIND_RESOLVER, 0);
	return plan;
}

static void free_plan(struct check_plan *plan)
{
	check_plan_fini(plan);
	free(plan);
}

/* How many queries there are of this way and link, to this target. */
static size_t count(const struct check_plan *plan, int link, enum check_way way, size_t target)
{
	size_t n = 0;

	for (size_t i = 0; i < plan->shots_len; i++) {
		const struct check_shot *s = &plan->shots[i];

		n += s->link == link && s->way == way && s->target == target && !s->is_control;
	}
	return n;
}

static void test_every_way(void **state)
{
	struct policy p = policy_from_lines("tunnel = wg0\n");
	struct check_plan *plan = make_plan();

	(void)state;
	assert_int_equal(check_plan_build(plan, &p, 1), 0);
	for (size_t t = 0; t < 3; t++) {
		/* Two protocols, two ports. */
		assert_int_equal(count(plan, -1, CHECK_WAY_PLAIN, t), 4);
		assert_int_equal(count(plan, -1, CHECK_WAY_FRAME, t), 0);
		for (enum check_way way = CHECK_WAY_BOUND; way < CHECK_WAYS; way++) {
			/* Fragments are UDP's, to one port. */
			const size_t n = check_way_is_cut(way) ? 1 : 4;

			assert_int_equal(count(plan, 0, way, t), n);
			assert_int_equal(count(plan, 1, way, t), 0);
			assert_int_equal(count(plan, 2, way, t), t == 2 ? n : 0);
		}
	}
	assert_int_equal(plan->shots_len, 6 * (3 + 9 + 3) + 2 * (6 + 2));
	free_plan(plan);
	policy_fini(&p);
}

static void test_controls(void **state)
{
	struct policy p = policy_from_lines("ports = 53,853,9953\n");
	struct check_plan *plan = make_plan();

	(void)state;
	assert_int_equal(check_plan_build(plan, &p, 1), 0);
	for (size_t i = 0; i < plan->shots_len; i++) {
		const struct check_shot *s = &plan->shots[i], *c = &plan->shots[s->control];

		assert_true(c->is_control && c->port == 9 && s->control >= i);
		assert_true(c->link == s->link && c->way == s->way && c->target == s->target &&
			    c->no_route == s->no_route);
		assert_int_equal(c->proto,
				 check_way_is_cut(s->way) ? CHECK_PACKET_OTHER : s->proto);
		assert_true(s->is_control || policy_is_guarded(&p, s->port));
	}
	free_plan(plan);
	policy_fini(&p);
}

static void test_control_port_is_not_guarded(void **state)
{
	struct policy p = policy_from_lines("ports = 9,53\n");
	struct check_plan *plan = make_plan();

	(void)state;
	assert_int_equal(check_plan_build(plan, &p, 1), 0);
	assert_false(policy_is_guarded(&p, plan->shots[plan->shots[0].control].port));
	free_plan(plan);
	policy_fini(&p);
}

/* Found again by source port, and by label: no two have the same. */
static void test_none_is_like_another(void **state)
{
	struct policy p = policy_from_lines("tunnel = wg0\n");
	struct check_plan *plan = make_plan();

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		assert_int_equal(check_plan_build(plan, &p, seed), 0);
		assert_int_equal(plan->base_port % CHECK_PORT_BLOCK, 0);
		assert_in_range(plan->base_port, CHECK_PORT_FIRST, 32768 - CHECK_PORT_BLOCK);
		for (size_t i = 0; i < plan->shots_len; i++) {
			const struct check_shot *s = &plan->shots[i];

			assert_int_equal(strlen(s->label), 17);
			assert_in_range(s->sport, plan->base_port,
					plan->base_port + CHECK_PORT_BLOCK - 1);
			assert_ptr_equal(check_plan_find(plan, plan->targets[s->target].addr.family,
							 s->proto, s->sport),
					 s);
			for (size_t k = 0; k < i; k++)
				assert_string_not_equal(plan->shots[k].label, s->label);
		}
		check_plan_fini(plan);
	}
	free_plan(plan);
	policy_fini(&p);
}

static void test_no_route(void **state)
{
	struct policy p = policy_from_lines("tunnel = wg0\n");
	struct check_plan *plan = make_plan();

	(void)state;
	assert_int_equal(check_plan_build(plan, &p, 1), 0);
	for (size_t i = 0; i < plan->shots_len; i++) {
		const struct check_shot *s = &plan->shots[i];

		/* br0 reaches nothing; a frame needs no route. */
		assert_int_equal(s->no_route, s->link == 2 && !check_way_is_frame(s->way));
	}
	free_plan(plan);
	policy_fini(&p);
}

static void test_targets(void **state)
{
	struct check_plan *plan = calloc(1, sizeof(*plan));
	char text[ADDR_TEXT];

	(void)state;
	assert_non_null(plan);
	add_target(plan, "192.0.2.1", CHECK_KIND_GATEWAY, 2);
	add_target(plan, "192.0.2.1", CHECK_KIND_GATEWAY, 2);
	assert_int_equal(plan->targets_len, 1);
	add_target(plan, "192.0.2.1", CHECK_KIND_GATEWAY, 3);
	assert_int_equal(plan->targets_len, 2);
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "198.51.100.%d", i);
		add_target(plan, text, CHECK_KIND_RESOLVER, 0);
	}
	assert_int_equal(plan->targets_len, 2 + CHECK_MAX_RESOLVERS);
	assert_int_equal(plan->targets_out, 100 - CHECK_MAX_RESOLVERS);
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "203.0.113.%d", i);
		add_target(plan, text, CHECK_KIND_GATEWAY, 0);
	}
	assert_int_equal(plan->targets_len, CHECK_MAX_TARGETS);
	free_plan(plan);
}

/* Rows are whole or left out, and what is left out is counted. */
static void test_limits(void **state)
{
	struct policy p = policy_from_lines("ports = 1,2,3,4,5,6,7,8,10,11,12,13,14,15,16,17\n");
	struct check_plan *plan = make_plan();
	const size_t row = p.ports_len + 1;

	(void)state;
	for (size_t i = 0; i < CHECK_MAX_LINKS; i++)
		plan->links[i] = (struct check_link){ .index = 2 + (int)i };
	plan->links_len = CHECK_MAX_LINKS;
	for (int i = 0; i < CHECK_MAX_RESOLVERS; i++) {
		char text[ADDR_TEXT];

		snprintf(text, sizeof(text), "203.0.113.%d", i);
		add_target(plan, text, CHECK_KIND_RESOLVER, 0);
	}
	assert_int_equal(check_plan_build(plan, &p, 1), 0);
	assert_true(plan->shots_out > row && plan->shots_len <= CHECK_MAX_SHOTS);
	for (size_t i = 0; i < plan->shots_len; i++)
		assert_in_range(plan->shots[i].sport, plan->base_port,
				plan->base_port + CHECK_PORT_BLOCK - 1);
	/* Whole to the end: each has its control. */
	for (size_t i = 0; i < plan->shots_len; i++)
		assert_true(plan->shots[i].control < plan->shots_len &&
			    plan->shots[plan->shots[i].control].is_control);
	free_plan(plan);
	policy_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_way),
		cmocka_unit_test(test_controls),
		cmocka_unit_test(test_control_port_is_not_guarded),
		cmocka_unit_test(test_none_is_like_another),
		cmocka_unit_test(test_no_route),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
