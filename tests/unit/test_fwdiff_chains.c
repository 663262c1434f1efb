/* fwdiff.h: what becomes of chains of links, and of what others change in the tables of frames */
#include "unit.h"

#include "links.h"

static struct fwchain *chain_of_link(struct fwtable *t, const char *device)
{
	for (size_t i = 0; i < t->chains_len; i++)
		if (t->chains[i].device && !strcmp(t->chains[i].device, device))
			return &t->chains[i];
	fail_msg("no chain of %s", device);
	return NULL;
}

static void lose_link(struct fwtables *have)
{
	struct fwchain *c = chain_of_link(&have->of[FAMILY_NETDEV], "eth0");

	free(c->device);
	c->device = NULL;
	c->devices_len = 0;
}

static void have_two_links(struct fwtables *have)
{
	lose_link(have);
	chain_of(&have->of[FAMILY_NETDEV], "egress_2")->devices_len = 2;
}

static void have_other_priority(struct fwtables *have)
{
	chain_of_link(&have->of[FAMILY_NETDEV], "eth0")->priority = 0;
}

static void have_other_name(struct fwtables *have)
{
	struct fwchain *c = chain_of_link(&have->of[FAMILY_NETDEV], "eth0");

	free(c->name);
	c->name = strdup("egress_eth0");
}

static void take_name(struct fwtables *have)
{
	struct fwtable *t = &have->of[FAMILY_NETDEV];

	have_other_name(have);
	add_rule_text(t, add_chain(t, "egress_2", 0, 0, NULL), strdup("[x]"));
}

static void be_gone(struct fwtables *have)
{
	struct fwtable *t = &have->of[FAMILY_NETDEV];
	struct fwchain *c = chain_of_link(t, "eth0"), last = t->chains[--t->chains_len];

	free(c->name);
	free(c->type);
	free(c->device);
	free(c->rules);
	if (c != &t->chains[t->chains_len])
		*c = last;
}

static void have_other_rules(struct fwtables *have)
{
	struct fwtable *t = &have->of[FAMILY_NETDEV];

	add_rule_text(t, chain_of_link(t, "eth0"), strdup("[x]"));
}

static void be_twice(struct fwtables *have)
{
	struct fwtable *t = &have->of[FAMILY_NETDEV];

	add_rule_text(t, add_chain(t, "evil", 1, RULESET_FRAME_PRIORITY, "eth0"), strdup("[x]"));
	chain_of_link(t, "eth0")->priority = 300;
}

static void spoil_frame(struct fwtables *have)
{
	struct fwchain *c = chain_of(&have->of[FAMILY_BRIDGE], "forward");

	c->rules_len--;
}

static void lose_table(struct fwtables *have)
{
	fwtable_fini(&have->of[FAMILY_BRIDGE]);
	have->of[FAMILY_BRIDGE] = (struct fwtable){ 0 };
}

/* Expected of a look, and, where it is another, with links aside; NULL: see the checks. */
static void test_chains(void **state)
{
	static const char anew[] = REMOVE("egress_2") ADD("egress_2", "eth0");
	static const char forward[] = "bridge: rules of chain forward\n" RULES("bridge", "forward");
	static const char refill[] =
		"netdev: rules of chain egress_2\n" RULES("netdev", "egress_2");
	static const struct {
		const char *what;
		void (*spoil)(struct fwtables *have);
		const char *expected, *aside;
		bool by_links;
	} rows[] = {
		{ "lost its link", lose_link, anew, "", true },
		{ "is gone", be_gone, ADD("egress_2", "eth0"), "", true },
		{ "has two links", have_two_links, anew, REMOVE("egress_2"), true },
		{ "has another priority", have_other_priority, anew, REMOVE("egress_2"), true },
		{ "has another name", have_other_name, "", "", true },
		{ "its name is taken", take_name, REMOVE("egress_2"), REMOVE("egress_2"), false },
		{ "has other rules", have_other_rules, refill, refill, false },
		{ "bridge's chain is empty", spoil_frame, forward, forward, false },
		{ "a second one", be_twice, NULL, NULL, false },
		{ "no table", lose_table, NULL, NULL, false },
	};
	struct link links[LEN(before) + 1];
	struct netstate ns = links_of(links);
	struct ruleset want[FAMILIES];

	(void)state;
	all_rules_of(POLICY, &ns, want);
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtables have = tables_of(want);
		struct fwdiff_found found;
		char notes[16384];

		rows[i].spoil(&have);
		found = diff_all(&have, want, 0, notes, sizeof(notes));
		assert_row(!rows[i].expected || !strcmp(notes, rows[i].expected), rows[i].what,
			   "differs by\n%s", notes);
		assert_row(found.devices_only == rows[i].by_links, rows[i].what, "by links: %d",
			   found.devices_only);
		assert_row(rows[i].expected || *notes, rows[i].what, "not seen");
		diff_all(&have, want, FWDIFF_LINKS_ASIDE, notes, sizeof(notes));
		assert_row(!rows[i].aside || !strcmp(notes, rows[i].aside), rows[i].what,
			   "differs aside by\n%s", notes);
		assert_row(rows[i].aside || *notes, rows[i].what, "not seen aside");
		fwtables_fini(&have);
	}
	rulesets_fini(want);
}

static void add_resolver(struct fwtables *have)
{
	struct fwset *s = set_of(&have->of[FAMILY_NETDEV], "resolver4_link");
	uint8_t *key;

	assert_int_equal(s->key_len, 24); /* link, address, port */
	s->elems = realloc(s->elems, (s->elems_len + 1) * 24);
	assert_non_null(s->elems);
	key = memset(s->elems + s->elems_len++ * 24, 0, 24);
	memcpy(key, "zzz", 3);
	memcpy(key + 16, "\x08\x08\x08\x08\x00\x35", 6);
}

static void add_tunnel(struct fwtables *have)
{
	struct fwset *s = set_of(&have->of[FAMILY_NETDEV], "tunnel");

	s->elems = realloc(s->elems, 2 * IFNAMSIZ);
	assert_non_null(s->elems);
	memset(s->elems + IFNAMSIZ, 'x', IFNAMSIZ - 1);
	s->elems_len = 2;
}

static void add_foreign_hook(struct fwtables *have)
{
	add_chain(&have->of[FAMILY_BRIDGE], "evil", NF_INET_FORWARD, -1, NULL);
}

static void add_foreign_set(struct fwtables *have)
{
	add_set(&have->of[FAMILY_BRIDGE], "evil")->key_len = 4;
}

/* What no link makes of the tables is somebody's doing: seen aside, too, and named as that. */
static void test_foreign_changes(void **state)
{
	static const struct {
		const char *what;
		void (*spoil)(struct fwtables *have);
		const char *expected;
	} rows[] = {
		{ "resolver", add_resolver, "netdev: 1 elements out of set resolver4_link\n" },
		{ "tunnel", add_tunnel, "netdev: 1 elements out of set tunnel\n" },
		{ "hook", add_foreign_hook,
		  "bridge: rules of chain evil\nbridge: removal of chain evil\n" },
		{ "set", add_foreign_set, "bridge: removal of set evil\n" },
	};
	struct link links[LEN(before) + 1];
	struct netstate ns = links_of(links);
	struct ruleset want[FAMILIES];
	bool by_links = false;

	(void)state;
	all_rules_of(POLICY, &ns, want);
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtables have = tables_of(want);
		char notes[8192];

		rows[i].spoil(&have);
		by_links |= diff_all(&have, want, 0, notes, sizeof(notes)).devices_only;
		assert_row(!strcmp(notes, rows[i].expected), rows[i].what, "differs by\n%s", notes);
		diff_all(&have, want, FWDIFF_LINKS_ASIDE, notes, sizeof(notes));
		assert_row(!strcmp(notes, rows[i].expected), rows[i].what, "aside by\n%s", notes);
		fwtables_fini(&have);
	}
	rulesets_fini(want);
	assert_false(by_links);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_foreign_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
