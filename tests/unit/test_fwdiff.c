/* fwdiff.h: what a transaction holds, against tables made up as the kernel would dump them */
#include "unit.h"

#include <arpa/inet.h>

#include "tables.h"

static void test_nothing_differs(void **state)
{
	struct combination c;

	(void)state;
	for (size_t i = 0; i < COMBINATIONS; i += 7) {
		char notes[8192];
		struct fwtables have;

		combination_init(&c, i);
		have = tables_of(c.rules);
		diff_all(&have, c.rules, 0, notes, sizeof(notes));
		assert_row(!*notes, c.text, "differs by\n%s", notes);
		fwtables_fini(&have);
		combination_fini(&c);
	}
}

/* The rules that hang on the guarded ports. */
#define ADD_HOOK(ports)                                             \
	"rule \"S1 any port but " ports "\" of chain postrouting\n" \
	"rule \"S1 any port but " ports "\" of chain postrouting\n" \
	"rule \"S1 the rest is looked at\" of chain postrouting\n"
#define ADD_NAMES(ports)                                                   \
	"rule \"S9 a later fragment has no port\" of chain name_traffic\n" \
	"rule \"S9 a later fragment has no port\" of chain name_traffic\n" \
	"rule \"S1 any port but " ports "\" of chain name_traffic\n"       \
	"rule \"S1 only udp goes further\" of chain name_traffic\n"        \
	"rule \"S1 only tcp goes further\" of chain name_traffic\n"

/* From nothing to the least policy: table first, each part before what uses it. */
static void test_from_nothing(void **state)
{
	const struct fwtable nothing = { 0 };
	struct ruleset want = rules_of("tunnel = wg0\nports = 53\n");

	(void)state;
	assert_diff(
		&nothing, &want, "from nothing",
		"table leakguard\n"
		"chain postrouting\nchain name_traffic\nchain verdict\nchain fragment\nchain defrag\n"
		"counter S2\ncounter S3\ncounter S4\ncounter S5\ncounter S6\ncounter S7\ncounter S9\n"
		"set tunnel\n1 elements into set tunnel\nset pause\nset blocked\n" ADD_HOOK("53") ADD_NAMES(
			"53") "rule \"S2 stays on the host\" of chain verdict\n"
			      "rule \"S4 through a tunnel\" of chain verdict\n"
			      "rule \"S6 in a pause that the user asked for\" of chain verdict\n"
			      "rule \"S7 counted by link and port\" of chain verdict\n"
			      "rule \"S7 any other name traffic\" of chain verdict\n"
			      "rule \"S1 another protocol's\" of chain fragment\n"
			      "rule \"S2 stays on the host\" of chain fragment\n"
			      "rule \"S4 through a tunnel\" of chain fragment\n"
			      "rule \"S9 a fragment without a port\" of chain fragment\n"
			      "rule \"S9 never reached: turns reassembly on\" of chain defrag\n"
			      "rule \"S9 never reached: turns reassembly on\" of chain defrag\n");
	ruleset_fini(&want);
}

/* From one policy to another: no more than what differs, and never a base chain. */
static void test_policy_changes(void **state)
{
	static const struct {
		const char *from, *to, *expected;
	} rows[] = {
		{ "resolver = 10.0.0.1\n", "resolver = 10.0.0.1\nresolver = 10.0.0.2\n",
		  "1 elements into set resolver4\n" },
		{ "resolver = 10.0.0.1\nresolver = 10.0.0.2\n", "resolver = 10.0.0.2\n",
		  "1 elements out of set resolver4\n" },
		/* Into before out of: the new resolver works before the old one stops. */
		{ "resolver = 10.0.0.1\n", "resolver = 10.0.0.2\n",
		  "1 elements into set resolver4\n1 elements out of set resolver4\n" },
		{ "tunnel = wg0\n", "tunnel = wg0\ntunnel = wg1\n",
		  "1 elements into set tunnel\n" },
		{ "resolver = 10.0.0.1\n", "resolver = 10.0.0.1\nresolver = fd00::1\n",
		  "rules of chain verdict\nset resolver6\n1 elements into set resolver6\n"
		  "rule \"S2 stays on the host\" of chain verdict\n"
		  "rule \"S5 approved resolver\" of chain verdict\n"
		  "rule \"S5 approved resolver\" of chain verdict\n"
		  "rule \"S6 in a pause that the user asked for\" of chain verdict\n"
		  "rule \"S7 counted by link and port\" of chain verdict\n"
		  "rule \"S7 any other name traffic\" of chain verdict\n" },
		{ "resolver = 10.0.0.1\n", "",
		  "rules of chain verdict\nremoval of set resolver4\n"
		  "rule \"S2 stays on the host\" of chain verdict\n"
		  "rule \"S6 in a pause that the user asked for\" of chain verdict\n"
		  "rule \"S7 counted by link and port\" of chain verdict\n"
		  "rule \"S7 any other name traffic\" of chain verdict\n" },
		{ "ports = 53\n", "ports = 53,853\n",
		  "rules of chain postrouting\nrules of chain name_traffic\n" ADD_HOOK("53,853")
			  ADD_NAMES("53,853") },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct ruleset from = rules_of(rows[i].from), to = rules_of(rows[i].to);
		struct fwtable have = table_of(&from);

		assert_diff(&have, &to, rows[i].to, rows[i].expected);
		fwtable_fini(&have);
		ruleset_fini(&from);
		ruleset_fini(&to);
	}
}

/* Missing elements alone may be a dump's fault; nothing else may. */
static void test_settling(void **state)
{
	struct ruleset one = rules_of("resolver = 10.0.0.1\n"),
		       two = rules_of("resolver = 10.0.0.1\nresolver = 10.0.0.2\n"),
		       port = rules_of("resolver = 10.0.0.1\nresolver = 10.0.0.2\nports = 53\n");
	struct fwtable have = table_of(&one);
	char notes[8192];

	(void)state;
	assert_false(diff(&have, &one, false, notes, sizeof(notes)));
	assert_true(diff(&have, &two, false, notes, sizeof(notes)));
	assert_false(diff(&have, &port, false, notes, sizeof(notes)));
	fwtable_fini(&have);
	ruleset_fini(&one);
	ruleset_fini(&two);
	ruleset_fini(&port);
}

static char *many_resolvers(unsigned int n)
{
	char *lines = malloc(32 * (size_t)n + 1);
	size_t at = 0;

	assert_non_null(lines);
	for (unsigned int i = 0; i < n; i++)
		at += (size_t)sprintf(lines + at, "resolver = 10.%u.%u.%u\n", i >> 16, i >> 8 & 255,
				      i & 255 ?: 1);
	return lines;
}

/* Issue 2: one resolver more in a list of 100,000 is one element. */
static void test_one_of_many(void **state)
{
	char *lines = many_resolvers(100000);
	struct policy p, more;
	struct pins none = { 0 };
	struct ruleset from, to;
	struct fwtable have;

	(void)state;
	p = policy_from_lines(lines);
	assert_int_equal(ruleset_build(&p, &none, FRAGMENTS_DEFRAG, &from), 0);
	assert_int_equal(policy_copy(&p, &more), 0);
	policy_set_lines(&more, "resolver = 9.9.9.10\n");
	assert_int_equal(ruleset_build(&more, &none, FRAGMENTS_DEFRAG, &to), 0);
	have = table_of(&from);
	assert_diff(&have, &to, "one more", "1 elements into set resolver4\n");
	fwtable_fini(&have);
	have = table_of(&to);
	assert_diff(&have, &from, "one less", "1 elements out of set resolver4\n");
	fwtable_fini(&have);
	ruleset_fini(&from);
	ruleset_fini(&to);
	policy_fini(&p);
	policy_fini(&more);
	free(lines);
}

/* --- what others did to the table --- */

static void set_dormant(struct fwtable *t)
{
	t->flags = NFT_TABLE_F_DORMANT;
}

static void add_foreign_chain(struct fwtable *t)
{
	add_rule_text(t, add_chain(t, "evil", NF_INET_POST_ROUTING, RULESET_PRIORITY, NULL),
		      strdup("[x]"));
}

static void add_foreign_set(struct fwtable *t)
{
	add_set(t, "evil")->key_len = 4;
}

static void add_foreign_objects(struct fwtable *t)
{
	add_object(t, "S77", NFT_OBJECT_COUNTER);
	add_object(t, "S7", NFT_OBJECT_QUOTA); /* ours by name only */
}

static void add_foreign_rule(struct fwtable *t)
{
	add_rule_text(t, chain_of(t, "postrouting"), strdup("[immediate accept] \"S1\""));
}

static void take_rule_away(struct fwtable *t)
{
	struct fwchain *c = chain_of(t, "name_traffic");

	c->rules_len--;
}

static void reorder_rules(struct fwtable *t)
{
	struct fwchain *c = chain_of(t, "name_traffic");
	const char *first = c->rules[0];

	c->rules[0] = c->rules[1];
	c->rules[1] = first;
}

static void change_policy(struct fwtable *t)
{
	chain_of(t, "postrouting")->policy = NF_DROP;
}

static void add_foreign_elem(struct fwtable *t)
{
	struct fwset *s = set_of(t, "resolver4");

	s->elems = realloc(s->elems, 8);
	memcpy(s->elems + 4, "\x7f\x7f\x7f\x7f", 4);
	s->elems_len = 2;
}

static void empty_set(struct fwtable *t)
{
	set_of(t, "resolver4")->elems_len = 0;
}

static void make_set_odd(struct fwtable *t)
{
	set_of(t, "resolver4")->flags = NFT_SET_TIMEOUT;
}

static void count_nothing(struct fwtable *t)
{
	set_of(t, "blocked")->flags = 0;
}

static void end_no_pause(struct fwtable *t)
{
	set_of(t, "pause")->flags = 0;
}

static void take_counter_away(struct fwtable *t)
{
	free(t->objects[--t->objects_len].name);
}

#define REFILL_VERDICT                                                      \
	"rule \"S2 stays on the host\" of chain verdict\n"                  \
	"rule \"S5 approved resolver\" of chain verdict\n"                  \
	"rule \"S6 in a pause that the user asked for\" of chain verdict\n" \
	"rule \"S7 counted by link and port\" of chain verdict\n"           \
	"rule \"S7 any other name traffic\" of chain verdict\n"
#define REFILL_NAMES "rules of chain name_traffic\n" ADD_NAMES("53")
#define REFILL_HOOK  "rules of chain postrouting\n" ADD_HOOK("53")

static void test_repairs(void **state)
{
	static const struct {
		const char *what;
		void (*spoil)(struct fwtable *t);
		const char *expected; /* NULL: see the checks below */
	} rows[] = {
		{ "dormant", set_dormant, "table leakguard\n" },
		{ "foreign chain", add_foreign_chain,
		  "rules of chain evil\nremoval of chain evil\n" },
		{ "foreign set", add_foreign_set, "removal of set evil\n" },
		{ "foreign objects", add_foreign_objects,
		  "removal of object S77\nremoval of object S7\n" },
		{ "foreign rule", add_foreign_rule, REFILL_HOOK },
		{ "rule gone", take_rule_away, REFILL_NAMES },
		{ "rules reordered", reorder_rules, REFILL_NAMES },
		{ "foreign element", add_foreign_elem, "1 elements out of set resolver4\n" },
		{ "emptied set", empty_set, "1 elements into set resolver4\n" },
		{ "nothing is counted", count_nothing,
		  "rules of chain verdict\nremoval of set blocked\nset blocked\n" REFILL_VERDICT },
		{ "pause without an end", end_no_pause,
		  "rules of chain verdict\nremoval of set pause\nset pause\n" REFILL_VERDICT },
		{ "set of another kind", make_set_odd,
		  "rules of chain verdict\nremoval of set resolver4\n"
		  "set resolver4\n1 elements into set resolver4\n" REFILL_VERDICT },
		{ "counter gone", take_counter_away, "counter S9\n" },
		{ "base chain's policy", change_policy, NULL },
	};
	struct ruleset want = rules_of("resolver = 10.0.0.1\nports = 53\n");

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtable have = table_of(&want);
		char notes[8192];

		rows[i].spoil(&have);
		if (rows[i].expected)
			assert_diff(&have, &want, rows[i].what, rows[i].expected);
		diff(&have, &want, false, notes, sizeof(notes));
		assert_row(*notes, rows[i].what, "not seen");
		/* However it is repaired: a chain that is hooked stays hooked or comes back. */
		assert_row(!strstr(notes, "removal of chain postrouting\n") ||
				   strstr(notes, "\nchain postrouting\n"),
			   rows[i].what, "%s", notes);
		fwtable_fini(&have);
	}
	ruleset_fini(&want);
}

/* A set that is full is made anew; one that took all that came so far, for a long list. */
static void test_sizes(void **state)
{
	static const struct {
		uint32_t size;
		size_t before, after;
		bool anew;
	} rows[] = {
		{ 2048, 1400, 1401, false }, { 2048, 1400, 1400, false },
		{ 2048, 1400, 2048, false }, { 2048, 1400, 2049, true },
		{ 2048, 2047, 2049, true },  { 2048, 2048, 1200, false },
		{ 1, 1400, 1400, false },    { 0, 1400, 1401, false },
		{ 0, 1, 1023, false },	     { 0, 1, 1025, true },
		{ 0, 1400, 1, false },
	};
	struct ruleset many = rules_of("resolver = 10.0.0.1\nports = 53\n");
	struct set *set = (struct set *)ruleset_set(&many, "resolver4");
	struct fwtxn txn;

	(void)state;
	set->elems = realloc(set->elems, 4096 * 4);
	assert_non_null(set->elems);
	for (uint32_t i = 0; i < 4096; i++) {
		const uint32_t key = htonl(0x0a000000 + i);

		memcpy(set->elems + (size_t)i * 4, &key, 4);
	}
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtable have;
		bool anew = false;

		set->elems_len = rows[i].before;
		have = table_of(&many);
		set_of(&have, "resolver4")->size = rows[i].size;
		set->elems_len = rows[i].after;
		build_diff(&have, &many, false, &txn);
		for (size_t k = 0; k < fwtxn_len(&txn); k++)
			anew |= !strcmp(txn.notes[k].text, "removal of set resolver4");
		assert_row(anew == rows[i].anew, "size", "row %zu", i);
		fwtxn_fini(&txn);
		fwtable_fini(&have);
	}
	ruleset_fini(&many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_differs), cmocka_unit_test(test_from_nothing),
		cmocka_unit_test(test_policy_changes),	cmocka_unit_test(test_one_of_many),
		cmocka_unit_test(test_settling),	cmocka_unit_test(test_repairs),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
