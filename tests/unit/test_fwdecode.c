/* fwdecode.h: the rules in the kernel, read back, say what policy they were made of */
#include "unit.h"

#include "fwdecode.h"
#include "tables.h"

static struct policy decoded_all(const struct fwtables *tables)
{
	struct policy p;

	assert_int_equal(fwdecode_policy(tables, &p), 0);
	return p;
}

/* Where table inet is the only one. */
static struct policy decoded(const struct fwtable *table)
{
	const struct fwtables tables = { .of = { *table }, .generation = 1 };

	return decoded_all(&tables);
}

/*
 * Whatever the options: the decoded policy makes the same rules again.  But for
 * what no rule needs: resolvers that any tunnel leads to are in none.
 */
static void test_round_trip(void **state)
{
	const struct pins none = { 0 };
	struct combination c;

	(void)state;
	for (size_t i = 0; i < COMBINATIONS; i += 13) {
		struct fwtables first, second;
		struct parts parts;
		struct policy p;
		struct ruleset rules[FAMILIES];
		char notes[8192];

		combination_init(&c, i);
		first = tables_of(c.rules);
		p = decoded_all(&first);
		parts = c.parts;
		parts.fragments = p.fragments;
		assert_row(p.fragments == c.parts.fragments, c.text, "fragments");
		assert_row(p.frames == c.policy.frames, c.text, "frames");
		assert_row(p.insides_len == c.policy.insides_len, c.text, "%zu insides",
			   p.insides_len);
		assert_row(p.mode == c.policy.mode || !c.policy.tunnels_len, c.text, "mode");
		assert_row(p.kinds_len == (c.policy.tunnels_len ? c.policy.kinds_len : 0), c.text,
			   "%zu kinds", p.kinds_len);
		assert_int_equal(rulesets_build(&p, &none, &some_net, &parts, rules), 0);
		second = tables_of(rules);
		/* Without tunnels mode both has no rule of its own. */
		diff_all(&second, c.rules, 0, notes, sizeof(notes));
		assert_row(!*notes || !c.policy.tunnels_len, c.text, "differs by\n%s", notes);
		rulesets_fini(rules);
		policy_fini(&p);
		fwtables_fini(&first);
		fwtables_fini(&second);
		combination_fini(&c);
	}
}

static void test_kinds(void **state)
{
	static const struct {
		const char *lines, *expected;
	} rows[] = {
		{ "tunnel = wg0\n", "" },
		{ "tunnel = wg0\ntunnel-kind = wireguard\n", "wireguard " },
		{ "tunnel = wg*\ntunnel-kind = fifteen-bytes-x,tun\n", "fifteen-bytes-x tun " },
		{ "tunnel = wg0\nmode = both\naction = reject\ntunnel-kind = tun\n", "tun " },
		{ "tunnel-kind = tun\n", "" }, /* without tunnels no rule asks for it */
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct ruleset rules = rules_of(rows[i].lines);
		struct fwtable table = table_of(&rules);
		struct policy p = decoded(&table);
		char found[256] = "";

		for (size_t k = 0; k < p.kinds_len; k++) {
			strcat(found, p.kinds[k]);
			strcat(found, " ");
		}
		assert_row(!strcmp(found, rows[i].expected), rows[i].lines, "is %s", found);
		policy_fini(&p);
		fwtable_fini(&table);
		ruleset_fini(&rules);
	}
}

/* Somebody else's set of that name: as much of it as makes sense, and never more than fits. */
static void test_foreign_kinds(void **state)
{
	struct ruleset rules = rules_of("tunnel = wg0\ntunnel-kind = tun\n");
	struct fwtable table = table_of(&rules);
	struct fwset *set = set_of(&table, "tunnel_kind");
	struct policy p;

	(void)state;
	set->elems_len = POLICY_MAX_KINDS + 5;
	set->elems = realloc(set->elems, set->elems_len * IFNAMSIZ);
	assert_non_null(set->elems);
	for (size_t i = 0; i < set->elems_len; i++) {
		memset(set->elems + i * IFNAMSIZ, 'x', IFNAMSIZ); /* no NUL at the end */
		set->elems[i * IFNAMSIZ] = (uint8_t)('a' + i);
	}
	p = decoded(&table);
	assert_int_equal(p.kinds_len, POLICY_MAX_KINDS);
	assert_int_equal(strlen(p.kinds[0]), IFNAMSIZ - 1);
	policy_fini(&p);
	set->key_len = 4;
	p = decoded(&table);
	assert_int_equal(p.kinds_len, 0);
	policy_fini(&p);
	set->key_len = IFNAMSIZ;
	set->odd = true;
	p = decoded(&table);
	assert_int_equal(p.kinds_len, 0);
	policy_fini(&p);
	fwtable_fini(&table);
	ruleset_fini(&rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_foreign_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
