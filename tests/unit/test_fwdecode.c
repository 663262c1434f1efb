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

/* What rules use the kernel has; of what they do not, nothing is known. */
static void test_parts(void **state)
{
	static const struct {
		const char *lines;
		struct parts has, expected;
	} rows[] = {
		{ "",
		  { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS },
		  { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS } },
		{ "",
		  { FRAGMENTS_CONNTRACK, PART_HAS, PART_LACKS, PART_LACKS },
		  { FRAGMENTS_CONNTRACK, PART_HAS, PART_UNKNOWN, PART_UNKNOWN } },
		{ "",
		  { FRAGMENTS_DROP, PART_LACKS, PART_HAS, PART_HAS },
		  { FRAGMENTS_AUTO, PART_UNKNOWN, PART_HAS, PART_UNKNOWN } },
		{ "",
		  { FRAGMENTS_DEFRAG, PART_LACKS, PART_LACKS, PART_HAS },
		  { FRAGMENTS_DEFRAG, PART_UNKNOWN, PART_UNKNOWN, PART_UNKNOWN } },
		{ "frames = off\n",
		  { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS },
		  { FRAGMENTS_DEFRAG, PART_UNKNOWN, PART_UNKNOWN, PART_UNKNOWN } },
		{ "frames = strict\n",
		  { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS },
		  { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_UNKNOWN } },
	};
	const struct pins none = { 0 };

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct policy p = policy_from_lines(rows[i].lines);
		struct ruleset rules[FAMILIES];
		struct fwtables tables;
		struct parts found;

		assert_int_equal(rulesets_build(&p, &none, &some_net, &rows[i].has, rules), 0);
		tables = tables_of(rules);
		found = fwdecode_parts(&tables);
		assert_row(!memcmp(&found, &rows[i].expected, sizeof(found)), rows[i].lines,
			   "%zu: %d %d %d %d", i, found.fragments, found.egress, found.bridge,
			   found.route);
		fwtables_fini(&tables);
		rulesets_fini(rules);
		policy_fini(&p);
	}
}

/* Of frames and guests: as far as the tables that are there tell. */
static void test_frames(void **state)
{
	static const struct {
		const char *lines;
		enum part egress, bridge;
		enum frames expected;
	} rows[] = {
		{ "", PART_HAS, PART_HAS, FRAMES_AUTO },
		{ "frames = require\n", PART_HAS, PART_HAS, FRAMES_AUTO }, /* the same rules */
		{ "frames = strict\n", PART_HAS, PART_HAS, FRAMES_STRICT },
		{ "frames = strict\n", PART_LACKS, PART_HAS, FRAMES_STRICT },
		{ "", PART_LACKS, PART_HAS, FRAMES_AUTO },
		{ "", PART_LACKS, PART_LACKS, FRAMES_OFF },
		{ "frames = off\n", PART_HAS, PART_HAS, FRAMES_OFF },
	};
	const struct pins none = { 0 };

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const struct parts parts = { FRAGMENTS_DEFRAG, rows[i].egress, rows[i].bridge,
					     PART_HAS };
		struct policy p = policy_from_lines(rows[i].lines), found;
		struct ruleset rules[FAMILIES];
		struct fwtables tables;

		policy_set_lines(&p, "inside = veth*\ninside = docker0\n");
		assert_int_equal(rulesets_build(&p, &none, &some_net, &parts, rules), 0);
		tables = tables_of(rules);
		found = decoded_all(&tables);
		assert_row(found.frames == rows[i].expected, rows[i].lines, "is %s",
			   frames_format(found.frames));
		assert_int_equal(found.insides_len, 2);
		assert_true(policy_is_inside(&found, "docker0") &&
			    policy_is_inside(&found, "veth7"));
		policy_fini(&found);
		fwtables_fini(&tables);
		rulesets_fini(rules);
		policy_fini(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_foreign_kinds), cmocka_unit_test(test_parts),
		cmocka_unit_test(test_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
