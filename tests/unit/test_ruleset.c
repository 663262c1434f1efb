/* ruleset.h: what holds for the rules of every policy, in all combinations of options */
#include "unit.h"

#include <netinet/in.h>

#include "combinations.h"

typedef void check_fn(const struct combination *c, const struct ruleset *rs);

/* Of all tables, in all combinations. */
static void for_all(check_fn *const *checks, size_t n)
{
	struct combination c;

	for (size_t i = 0; i < COMBINATIONS; i++) {
		combination_init(&c, i);
		for (enum family f = 0; f < FAMILIES; f++)
			for (size_t k = 0; k < n; k++)
				checks[k](&c, &c.rules[f]);
		combination_fini(&c);
	}
}

/* The number of what is blocked at the end. */
static unsigned int blocking_promise(const struct ruleset *rs)
{
	return rs->family == FAMILY_INET ? 7 : 11;
}

static bool is_blocking(enum verdict verdict)
{
	return verdict == VERDICT_DROP || verdict == VERDICT_REJECT_RESET ||
	       verdict == VERDICT_REJECT_ADMIN;
}

static bool leads_on(const struct rule *r)
{
	return r->verdict == VERDICT_JUMP || r->verdict == VERDICT_GOTO;
}

static bool has_match(const struct rule *r, enum match_kind kind)
{
	for (size_t i = 0; i < r->matches_len; i++)
		if (r->matches[i].kind == kind)
			return true;
	return false;
}

/* Its comment starts with the number, and its matches and target are all there. */
static void check_rules(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];
			char number[16];

			snprintf(number, sizeof(number), "S%u ", r->promise);
			assert_row(!strncmp(r->comment, number, strlen(number)), c->text, "%s",
				   r->comment);
			assert_row(r->matches_len <= RULE_MAX_MATCHES, c->text, "%s", r->comment);
			assert_row(leads_on(r) == !!r->target, c->text, "%s", r->comment);
			for (size_t m = 0; m < r->matches_len; m++)
				assert_row(r->matches[m].kind != MATCH_SET ||
						   r->matches[m].set < rs->sets_len,
					   c->text, "%s", r->comment);
		}
}

/* In the order of the promises, but where the kernel must be asked first. */
static void check_order(const struct combination *c, const struct ruleset *rs)
{
	static const char *const ordered[] = { "postrouting", "output",	  "forward", "verdict",
					       "refuse",      "approved", "fragment" };

	for (size_t i = 0; i < LEN(ordered); i++) {
		const struct chain *chain = chain_named(rs, ordered[i]);

		for (size_t k = 1; chain && k < chain->rules_len; k++)
			assert_row(chain->rules[k - 1].promise <= chain->rules[k].promise, c->text,
				   "chain %s: S%u before S%u", chain->name,
				   chain->rules[k - 1].promise, chain->rules[k].promise);
	}
}

/* The chain's end is a drop without condition: nothing falls off it. */
static const struct chain *assert_floor(const struct combination *c, const struct ruleset *rs,
					const char *name)
{
	const struct chain *chain = chain_named(rs, name);
	const struct rule *last;

	assert_row(chain && chain->rules_len, c->text, "no %s", name);
	last = &chain->rules[chain->rules_len - 1];
	assert_row(last->verdict == VERDICT_DROP && !last->matches_len && last->counted &&
			   last->promise == (!strcmp(name, "verdict")  ? blocking_promise(rs) :
					     rs->family == FAMILY_INET ? 9 :
									 11),
		   c->text, "%s ends in %s", name, last->comment);
	return chain;
}

/* So do `verdict` and `fragment`, and in tables of frames whatever reads an IP header in its place. */
static void check_floor(const struct combination *c, const struct ruleset *rs)
{
	const struct chain *chain = assert_floor(c, rs, "verdict");

	assert_floor(c, rs, "fragment");
	for (size_t i = 0; i < rs->chains_len; i++)
		if (!strncmp(rs->chains[i].name, "ip4_", 4) ||
		    !strncmp(rs->chains[i].name, "ip6_", 4))
			assert_floor(c, rs, rs->chains[i].name);
	if (rs->family != FAMILY_INET)
		assert_floor(c, rs, "frame6");
	for (size_t k = 0; k + 1 < chain->rules_len; k++)
		assert_row(!is_blocking(chain->rules[k].verdict), c->text, "%s",
			   chain->rules[k].comment);
}

/*
 * A set looked into while a transaction commits can miss: sets only ever allow.
 * So no rule that blocks has one, and what a rule with one leads to only allows.
 */
static void check_sets_allow(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];
			const struct chain *next;

			if (!has_match(r, MATCH_SET))
				continue;
			/* To be looked at as the kernel does, not as a stranger's, is less strict. */
			if (!strcmp(rs->chains[i].name, "frame6") && r->verdict == VERDICT_GOTO)
				continue;
			assert_row(r->verdict == VERDICT_ACCEPT || r->verdict == VERDICT_RETURN ||
					   r->verdict == VERDICT_JUMP,
				   c->text, "%s", r->comment);
			next = r->target ? chain_named(rs, r->target) : NULL;
			for (size_t n = 0; next && n < next->rules_len; n++)
				assert_row(next->rules[n].verdict == VERDICT_ACCEPT, c->text,
					   "behind %s: %s", r->comment, next->rules[n].comment);
		}
}

/* Chains exist, once, and stand after those they are jumped to from: nothing loops. */
static void check_chains(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++) {
		assert_row(chain_named(rs, rs->chains[i].name) == &rs->chains[i], c->text,
			   "two chains %s", rs->chains[i].name);
		/* Mode both without resolvers approves of none. */
		assert_row(rs->chains[i].rules_len || !strncmp(rs->chains[i].name, "approved", 8),
			   c->text, "%s is empty", rs->chains[i].name);
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];

			assert_row(!r->target || chain_named(rs, r->target) > &rs->chains[i],
				   c->text, "%s leads to %s", r->comment, r->target);
		}
	}
}

static void check_sets(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->sets_len; i++) {
		const struct set *set = &rs->sets[i];

		assert_row(set_named(rs, set->name) == set, c->text, "two sets %s", set->name);
		assert_row(set->elems_len || set->timed || set->counts ||
				   !strcmp(set->name, "bonded") || !strcmp(set->name, "stacked"),
			   c->text, "%s is empty", set->name);
		assert_row((set->fields_len == 1 ||
			    set->key_len == set_field_offset(set, set->fields_len)) &&
				   set->key_len <= SET_MAX_KEY,
			   c->text, "%s has keys of %zu bytes", set->name, set->key_len);
		for (size_t k = 1; k < set->elems_len; k++)
			assert_row(memcmp(set->elems + (k - 1) * set->key_len,
					  set->elems + k * set->key_len, set->key_len) < 0,
				   c->text, "%s is not sorted", set->name);
	}
}

static bool has_elem(const struct ruleset *rs, const char *name, const char *text)
{
	const struct set *set = set_named(rs, name);
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	for (size_t i = 0; set && i < set->elems_len; i++)
		if (!memcmp(set->elems + i * set->key_len, addr.bytes, addr_len(&addr)))
			return true;
	return false;
}

/* What a path ties down is in no set that allows every path. */
static void check_resolvers(const struct combination *c, const struct ruleset *rs)
{
	static const char *const open[] = { "resolver4", "resolver4_port", "resolver6",
					    "resolver6_port" };
	static const char *const tied[] = { "10.64.0.7", "10.64.0.8", "10.64.0.9", "10.64.0.10" };
	static const char *const tied6[] = { "fd64::9", "fe80::7" };
	const bool either = c->policy.mode == POLICY_MODE_EITHER;

	for (size_t i = 0; i < LEN(open); i++) {
		const bool v6 = i >= 2;

		assert_row(!has_elem(rs, open[i], v6 ? "::1" : "127.0.0.53"), c->text,
			   "loopback in %s", open[i]);
		for (size_t k = 0; either && k < (v6 ? LEN(tied6) : LEN(tied)); k++)
			assert_row(!has_elem(rs, open[i], v6 ? tied6[k] : tied[k]), c->text,
				   "%s in %s", v6 ? tied6[k] : tied[k], open[i]);
	}
	for (size_t k = 0; k < rs->sets_len; k++)
		assert_row(strncmp(rs->sets[k].name, "tied", 4) ||
				   (c->policy.action == POLICY_ACTION_REJECT &&
				    rs->family == FAMILY_INET),
			   c->text, "%s without reject", rs->sets[k].name);
}

/*
 * With kinds asked for, no rule and no element allows a link for its tunnel's name alone.
 * In mode both `approved` does, but is entered by name and kind only.
 */
static void check_kinds(const struct combination *c, const struct ruleset *rs)
{
	const struct set *kinds = set_named(rs, "tunnel_kind"), *tunnel = set_named(rs, "tunnel");

	assert_row(!kinds == !(c->policy.kinds_len && c->policy.tunnels_len), c->text, "%s kinds",
		   kinds ? "has" : "lacks");
	for (size_t i = 0; kinds && i < rs->chains_len; i++)
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];
			bool by_name = false, by_kind = false;

			for (size_t m = 0; m < r->matches_len; m++) {
				const struct match *match = &r->matches[m];
				const struct set *set =
					match->kind == MATCH_SET ? &rs->sets[match->set] : NULL;

				by_name |= match->kind == MATCH_OIFNAME || (set && set == tunnel);
				by_kind |= set == kinds;
			}
			/* Guests' links are known by their name. */
			assert_row(by_name == by_kind || r->promise == 2, c->text, "%s",
				   r->comment);
		}
	for (size_t v6 = 0; kinds && v6 < 2; v6++) {
		const struct set *set = set_named(rs, v6 ? "resolver6_link" : "resolver4_link");

		for (size_t i = 0; set && i < set->elems_len; i++)
			assert_row(c->policy.mode == POLICY_MODE_BOTH ||
					   !policy_is_tunnel(&c->policy,
							     (char *)set->elems + i * set->key_len),
				   c->text, "a tunnel's name in %s", set->name);
	}
}

/* S6 stands between what is allowed and what is not, and is empty until a pause is asked for. */
static void check_pause(const struct combination *c, const struct ruleset *rs)
{
	static const char *const chains[] = { "verdict", "refuse" };
	const struct set *set = set_named(rs, "pause");

	assert_row(set && set->timed && !set->elems_len, c->text, "no set, or open");
	for (size_t i = 0; i < LEN(chains); i++) {
		const struct chain *chain = chain_named(rs, chains[i]);
		size_t found = 0;

		for (size_t k = 0; chain && k < chain->rules_len; k++)
			if (chain->rules[k].promise == 6) {
				found++;
				assert_row(chain->rules[k].counted ==
						   (!i && rs->family == FAMILY_INET),
					   c->text, "%s", chains[i]);
				assert_row(chain->rules[k + 1].promise == blocking_promise(rs),
					   c->text, "before %s", chain->rules[k + 1].comment);
			}
		assert_row(found == !!chain, c->text, "%zu times in %s", found, chains[i]);
	}
}

/* Nothing is dropped unseen where blocked packets are logged, and nothing is logged else. */
static void check_log(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];
			const struct rule *before = k ? r - 1 : NULL;

			if (before && before->verdict == VERDICT_COUNT)
				before = k > 1 ? r - 2 : NULL;
			assert_row(c->policy.log_group || r->verdict != VERDICT_LOG, c->text, "%s",
				   r->comment);
			if (!c->policy.log_group || r->verdict != VERDICT_DROP)
				continue;
			assert_row(before && !before->matches_len &&
					   (before->verdict == VERDICT_LOG ||
					    (before->verdict == VERDICT_JUMP &&
					     !strcmp(before->target, "sample"))),
				   c->text, "chain %s: %s", rs->chains[i].name, r->comment);
		}
}

static void check_counters(const struct combination *c, const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		for (size_t k = 0; k < rs->chains[i].rules_len; k++) {
			const struct rule *r = &rs->chains[i].rules[k];
			bool found = false;

			for (size_t n = 0; n < rs->counters_len; n++)
				found |= rs->counters[n] == r->promise;
			assert_row(!r->counted || found, c->text, "no counter for %s", r->comment);
		}
}

static void test_rules(void **state)
{
	static check_fn *const checks[] = { check_rules, check_order, check_log, check_counters };

	(void)state;
	for_all(checks, LEN(checks));
}

static void test_floor(void **state)
{
	static check_fn *const checks[] = { check_floor };

	(void)state;
	for_all(checks, LEN(checks));
}

static void test_sets(void **state)
{
	static check_fn *const checks[] = { check_sets_allow, check_sets, check_resolvers,
					    check_kinds, check_pause };

	(void)state;
	for_all(checks, LEN(checks));
}

static void test_chains(void **state)
{
	static check_fn *const checks[] = { check_chains };

	(void)state;
	for_all(checks, LEN(checks));
}

/* A rule as bytes to compare; its fields only, for padding may differ. */
static void append_rules(char *text, size_t size, const struct chain *chain)
{
	size_t at = strlen(text);

	at += (size_t)snprintf(text + at, size - at, "%s %d\n", chain->name, chain->hook);
	for (size_t k = 0; k < chain->rules_len; k++) {
		const struct rule *r = &chain->rules[k];

		at += (size_t)snprintf(text + at, size - at, "%u %d %s %s %d:", r->promise,
				       r->verdict, r->target ?: "", r->comment, r->counted);
		for (size_t m = 0; m < r->matches_len; m++)
			at += (size_t)snprintf(text + at, size - at, " %d %u", r->matches[m].kind,
					       r->matches[m].kind == MATCH_DPORT ?
						       r->matches[m].port :
						       0);
	}
}

/* Base chains hang on ports, action and the way for fragments alone: they never change. */
static void test_base_chains(void **state)
{
	static char seen[LEN(some_ports)][LEN(some_actions)][3][4096];
	struct combination c;

	(void)state;
	for (size_t i = 0; i < COMBINATIONS; i++) {
		char text[4096] = "", *before;
		size_t ports = 0;

		combination_init(&c, i);
		for (enum family f = 0; f < FAMILIES; f++)
			for (size_t k = 0; k < c.rules[f].chains_len; k++)
				if (c.rules[f].chains[k].hook != HOOK_NONE)
					append_rules(text, sizeof(text), &c.rules[f].chains[k]);
		while (!strstr(c.text, some_ports[ports]))
			ports++;
		before = seen[ports][c.policy.action]
			     [c.rules[FAMILY_INET].fragments - FRAGMENTS_DEFRAG];
		if (!*before)
			strcpy(before, text);
		assert_row(!strcmp(before, text), c.text, "base chains were\n%s and are\n%s",
			   before, text);
		combination_fini(&c);
	}
}

/* Both protocols at once, in every table, for as long as is said; and shut again. */
static void test_pause(void **state)
{
	static const uint8_t keys[FAMILIES][4] = { { 2, 10 }, /* NFPROTO_IPV4, NFPROTO_IPV6 */
						   { 0x08, 0x00, 0x86, 0xdd },
						   { 0x08, 0x00, 0x86, 0xdd } };
	struct combination c;

	(void)state;
	combination_init(&c, 1);
	for (enum family f = 0; f < FAMILIES; f++) {
		struct ruleset *rs = &c.rules[f];
		const struct set *set = set_named(rs, "pause");

		for (uint64_t i = 0; i < 2; i++) {
			assert_int_equal(ruleset_pause(rs, 300000 + i, false), 0);
			assert_int_equal(set->elems_len, 2);
			assert_int_equal(set->timeout_ms, 300000 + i);
			assert_int_equal(set->key_len, f == FAMILY_INET ? 1 : 2);
			assert_memory_equal(set->elems, keys[f], 2 * set->key_len);
		}
		assert_int_equal(ruleset_pause(rs, 0, false), 0);
		assert_int_equal(set->elems_len, 0);
		assert_int_equal(set->timeout_ms, 0);
		for (size_t i = 0; i < rs->sets_len; i++)
			assert_int_equal(rs->sets[i].timed, &rs->sets[i] == set);
	}
	combination_fini(&c);
}

/* nft pads the fields of a key of several only: else what it loads of a listing is another set. */
static void test_key_of_one_field(void **state)
{
	struct combination c;

	(void)state;
	for (size_t i = 0; i < COMBINATIONS; i += 13) {
		combination_init(&c, i);
		for (size_t k = 0; k < FAMILIES * RULESET_MAX_SETS; k++) {
			const struct ruleset *rs = &c.rules[k / RULESET_MAX_SETS];
			const struct set *set = &rs->sets[k % RULESET_MAX_SETS];

			assert_row(k % RULESET_MAX_SETS >= rs->sets_len || set->fields_len != 1 ||
					   set->key_len == field_len(set->fields[0]),
				   set->name, "key of %zu bytes", set->key_len);
		}
		combination_fini(&c);
	}
}

/* The limits of a policy fit a ruleset. */
static void test_limits(void **state)
{
	struct pins pins = { 0 };
	struct policy p;
	struct ruleset rs;
	struct resolver r = { .addr = { .family = AF_INET } };
	struct tunnel t = { .prefix = true };
	char why[64];

	(void)state;
	policy_init(&p);
	for (unsigned int i = 0; i < POLICY_MAX_TUNNELS; i++) {
		snprintf(t.name, sizeof(t.name), "longest-name-%02u", i);
		assert_int_equal(policy_add_tunnel(&p, &t), 0);
	}
	for (uint32_t i = 0; i < POLICY_MAX_RESOLVERS; i++) {
		const uint32_t be = htonl(0x0a000000 + i);

		memcpy(r.addr.bytes, &be, sizeof(be));
		assert_int_equal(policy_add_resolver(&p, &r), 0);
	}
	assert_int_equal(policy_validate(&p, why, sizeof(why)), 0);
	assert_int_equal(ruleset_build(&p, &pins, FRAGMENTS_DEFRAG, &rs), 0);
	assert_int_equal(set_named(&rs, "resolver4")->elems_len, POLICY_MAX_RESOLVERS);
	assert_int_equal(chain_named(&rs, "verdict")->rules_len,
			 1 + POLICY_MAX_TUNNELS + 1 + 1 + 1 + 1);
	ruleset_fini(&rs);
	ruleset_fini(&rs); /* one of all zeros is fine */
	policy_fini(&p);
}

static void test_sizes(void **state)
{
	static const struct {
		size_t len;
		uint32_t size;
	} rows[] = { { 0, 0 },	     { 1023, 0 },	 { 1024, 2048 },    { 1638, 2048 },
		     { 1640, 4096 }, { 100000, 131072 }, { 131072, 262144 } };

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const struct set set = { .elems_len = rows[i].len };

		assert_int_equal(set_size(&set), rows[i].size);
	}
	assert_int_equal(set_size(&(struct set){ .counts = true }), RULESET_MAX_BLOCKED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),	    cmocka_unit_test(test_floor),
		cmocka_unit_test(test_sets),	    cmocka_unit_test(test_chains),
		cmocka_unit_test(test_base_chains), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_pause),	    cmocka_unit_test(test_key_of_one_field),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
