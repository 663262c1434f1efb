/* fwdiff.h: links that come and go, are renamed, change masters; the tables of frames */
#include "unit.h"

#include "links.h"

/* --- what happens to links --- */

static void one_more(struct netstate *ns)
{
	ns->links[ns->links_len++] = (struct link){ .index = 9, .name = "eth9" };
}

static void one_less(struct netstate *ns)
{
	ns->links[1] = ns->links[--ns->links_len];
	ns->links[1].master = 4;
}

static void rename_one(struct netstate *ns)
{
	strcpy(ns->links[1].name, "wan0");
}

static void rename_to_tunnel(struct netstate *ns)
{
	strcpy(ns->links[1].name, "wg0");
}

static void swap_names(struct netstate *ns)
{
	strcpy(ns->links[1].name, "eth1");
	strcpy(ns->links[2].name, "eth0");
}

/* The number that a link had, another has, while a link has the name: made anew both. */
static void swap_one(struct netstate *ns)
{
	ns->links[1].index = 9;
	ns->links[ns->links_len++] = (struct link){ .index = 2, .name = "eth9" };
}

static void enslave(struct netstate *ns)
{
	ns->links[2].master = 4;
}

static void enslave_to_bond(struct netstate *ns)
{
	ns->links[2].master = 5;
}

static void leave_bridge(struct netstate *ns)
{
	ns->links[5].master = 0;
}

static void shut(struct netstate *ns)
{
	ns->links[1].up = true;
}

static void test_links(void **state)
{
	static const struct {
		const char *what;
		void (*change)(struct netstate *ns);
		const char *expected;
	} rows[] = {
		{ "one more", one_more, ADD("egress_9", "eth9") },
		{ "one less", one_less, REMOVE("egress_2") },
		{ "renamed", rename_one, REMOVE("egress_2") ADD("egress_2", "wan0") },
		{ "takes a tunnel's name", rename_to_tunnel, REMOVE("egress_2") },
		{ "two swap names", swap_names, "" },
		{ "takes another's number", swap_one, ADD("egress_2x2", "eth9") },
		{ "becomes a port", enslave, ELEMS("into") },
		{ "is no port any more", leave_bridge, ELEMS("out of") },
		{ "becomes a bond's port", enslave_to_bond,
		  "netdev: 1 elements into set bonded\n" },
		{ "comes up", shut, "" },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct link old[LEN(before) + 1], new[LEN(before) + 1];
		struct netstate from = links_of(old), to = links_of(new);
		struct ruleset was[FAMILIES], want[FAMILIES];
		struct fwdiff_found found;
		struct fwtables have;
		char notes[8192];

		rows[i].change(&to);
		all_rules_of(POLICY, &from, was);
		all_rules_of(POLICY, &to, want);
		have = tables_of(was);
		found = diff_all(&have, want, 0, notes, sizeof(notes));
		assert_row(!strcmp(notes, rows[i].expected), rows[i].what, "differs by\n%s", notes);
		assert_row(found.devices_only, rows[i].what, "not by links alone");
		/* What follows from links alone is none of status's business. */
		(void)diff_all(&have, want, FWDIFF_LINKS_ASIDE, notes, sizeof(notes));
		assert_row(!*notes, rows[i].what, "differs aside by\n%s", notes);
		fwtables_fini(&have);
		rulesets_fini(was);
		rulesets_fini(want);
	}
}

/* A new policy with no other links: every chain at a hook stays; other ports alone refill it. */
static void test_policy_changes(void **state)
{
	static const char *const lines[] = {
		POLICY "ports = 53,853\n",
		POLICY "action = reject\nlog-group = 5\n",
		POLICY "resolver = 10.0.0.9\ntunnel = tun*\n",
		POLICY "frames = strict\n",
		POLICY "inside = docker0\n",
		"tunnel = wg0\nports = 53\nmode = both\nresolver = 10.0.0.9\n",
	};
	struct link links[LEN(before) + 1];
	struct netstate ns = links_of(links);
	struct ruleset was[FAMILIES];
	struct fwtables have;

	(void)state;
	all_rules_of(POLICY, &ns, was);
	have = tables_of(was);
	for (size_t i = 0; i < LEN(lines); i++) {
		struct ruleset want[FAMILIES];
		struct fwdiff_found found;
		char notes[32768];

		all_rules_of(lines[i], &ns, want);
		found = diff_all(&have, want, 0, notes, sizeof(notes));
		assert_row(*notes && !strstr(notes, "netdev: chain egress_") &&
				   !strstr(notes, "removal of chain egress_") &&
				   !strstr(notes, "bridge: chain forward") &&
				   !strstr(notes, "of chain egress_") == (i != 0) &&
				   !strstr(notes, "bridge: rules of chain forward") == (i != 0),
			   lines[i], "differs by\n%s", notes);
		assert_row(!found.devices_only, lines[i], "by links");
		/* The same is missed with links aside. */
		diff_all(&have, want, FWDIFF_LINKS_ASIDE, notes, sizeof(notes));
		assert_row(*notes, lines[i], "not seen aside");
		rulesets_fini(want);
	}
	fwtables_fini(&have);
	rulesets_fini(was);
}

/* frames = off takes both tables away, and their stand-ins; nothing else. */
static void test_off(void **state)
{
	struct link links[LEN(before) + 1];
	struct netstate ns = links_of(links);
	struct ruleset was[FAMILIES], want[FAMILIES];
	struct fwdiff_found found;
	struct fwtables have;
	char notes[8192];

	(void)state;
	all_rules_of(POLICY, &ns, was);
	all_rules_of(POLICY "frames = off\n", &ns, want);
	have = tables_of(was);
	found = diff_all(&have, want, 0, notes, sizeof(notes));
	assert_string_equal(notes, "netdev: removal of table leakguard\n"
				   "bridge: removal of table leakguard\n");
	assert_false(found.devices_only);
	assert_false(found.settling);
	have.of[FAMILY_NETDEV].standin = true;
	diff_all(&have, want, FWDIFF_OWN, notes, sizeof(notes));
	assert_string_equal(notes, "netdev: removal of table leakguard\n"
				   "netdev: removal of table leakguard_standin\n"
				   "bridge: removal of table leakguard\n");
	fwtables_fini(&have);
	rulesets_fini(was);
	rulesets_fini(want);
}

/* The flags of every table that needs it change first, together; an owned one is as it should be. */
static void test_flags(void **state)
{
	enum { ORPHAN = FWTXN_TABLE_PERSIST, OWNED = FWTXN_TABLE_OWNED, DORMANT = 1 };
	static const struct {
		const char *what;
		uint32_t flags[FAMILIES];
		bool own, one_more;
		const char *expected;
	} rows[] = {
		{ "all owned", { OWNED, OWNED, OWNED }, true, false, "" },
		{ "orphans, looked at", { ORPHAN, ORPHAN, ORPHAN }, false, false, "" },
		{ "orphans",
		  { ORPHAN, ORPHAN, ORPHAN },
		  true,
		  false,
		  "table leakguard\nnetdev: table leakguard\nbridge: table leakguard\n" },
		{ "one orphan", { OWNED, ORPHAN, OWNED }, true, false, "netdev: table leakguard\n" },
		{ "one to wake", { 0, 0, DORMANT }, false, false, "bridge: table leakguard\n" },
		{ "owned, a link more",
		  { OWNED, OWNED, OWNED },
		  true,
		  true,
		  ADD("egress_9", "eth9") },
		{ "orphans, a link more",
		  { ORPHAN, ORPHAN, ORPHAN },
		  false,
		  true,
		  "netdev: table leakguard\n" },
		{ "ordinary, a link more", { 0, 0, 0 }, true, true, ADD("egress_9", "eth9") },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct link old[LEN(before) + 1], new[LEN(before) + 1];
		struct netstate from = links_of(old), to = links_of(new);
		struct ruleset was[FAMILIES], want[FAMILIES];
		struct fwdiff_found found;
		struct fwtables have;
		char notes[8192];

		if (rows[i].one_more)
			one_more(&to);
		all_rules_of(POLICY, &from, was);
		all_rules_of(POLICY, &to, want);
		have = tables_of(was);
		for (enum family f = 0; f < FAMILIES; f++)
			have.of[f].flags = rows[i].flags[f];
		found = diff_all(&have, want, rows[i].own ? FWDIFF_OWN : 0, notes, sizeof(notes));
		assert_row(!strcmp(notes, rows[i].expected), rows[i].what, "differs by\n%s", notes);
		assert_row(!strstr(notes, "table leakguard") || !found.devices_only, rows[i].what,
			   "by links");
		fwtables_fini(&have);
		rulesets_fini(was);
		rulesets_fini(want);
	}
}

/* --- many --- */

static size_t count_messages(const struct fwtables *have, const struct ruleset want[FAMILIES])
{
	struct fwdiff_found found;
	struct fwtxn txn;
	size_t n;

	fwtxn_init(&txn);
	assert_int_equal(fwdiff_build(have, want, 0, &txn, &found), 0);
	n = fwtxn_len(&txn);
	fwtxn_fini(&txn);
	return n;
}

/* As many messages a link from nothing as for one more of a thousand: its chain and three rules. */
static void test_many(void **state)
{
	static struct link links[1001];
	const struct fwtables nothing = { .generation = 1 };
	size_t none = 0;

	(void)state;
	for (int i = 0; i < (int)LEN(links); i++) {
		links[i] = (struct link){ .index = i + 2, .kind = "veth" };
		snprintf(links[i].name, IFNAMSIZ, "veth%d", i);
	}
	for (size_t n = 0; n < LEN(links); n = n ? n * 10 : 1) {
		const struct netstate ns = { .links = links, .links_len = n },
				      more = { .links = links, .links_len = n + 1 };
		struct ruleset rules[FAMILIES], want[FAMILIES];
		struct fwtables have;

		all_rules_of(POLICY, &ns, rules);
		all_rules_of(POLICY, &more, want);
		none = n ? none : count_messages(&nothing, rules);
		assert_int_equal(count_messages(&nothing, rules), none + 4 * n);
		have = tables_of(rules);
		assert_int_equal(count_messages(&have, rules), 0);
		assert_int_equal(count_messages(&have, want), 4);
		fwtables_fini(&have);
		have = tables_of(want);
		assert_int_equal(count_messages(&have, rules), 2);
		fwtables_fini(&have);
		rulesets_fini(rules);
		rulesets_fini(want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links), cmocka_unit_test(test_policy_changes),
		cmocka_unit_test(test_off),   cmocka_unit_test(test_flags),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
