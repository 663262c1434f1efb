/* fwdiff.h: what a watcher meets: orphans, owned tables, the second table, pauses, kinds */
#include "unit.h"

#include <arpa/inet.h>
#include <endian.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "tables.h"

#define DORMANT NFT_TABLE_F_DORMANT
#define OWNER	FWTXN_TABLE_OWNER
#define PERSIST FWTXN_TABLE_PERSIST

#define POLICY	   "resolver = 10.0.0.1\nports = 53\n"
#define ADOPTS	   "table leakguard\n"
#define NO_STANDIN "removal of table leakguard_standin\n"
#define ONE_MORE   "1 elements into set resolver4\n"

static void empty_resolvers(struct fwtable *t)
{
	set_of(t, "resolver4")->elems_len = 0;
}

/* The flags that the first message, for the table, would send. */
static uint32_t table_flags(const struct fwtable *have, const struct ruleset *want, bool own)
{
	const struct nlmsghdr *nlh;
	const struct nlattr *attr;
	uint32_t flags = UINT32_MAX;
	struct fwtxn txn;

	build_diff(have, want, own, &txn);
	assert_true(fwtxn_len(&txn));
	nlh = (const void *)txn.buf;
	assert_int_equal(nlh->nlmsg_type & 0xff, NFT_MSG_NEWTABLE);
	assert_false(nlh->nlmsg_flags & NLM_F_EXCL);
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_TABLE_FLAGS)
			flags = ntohl(mnl_attr_get_u32(attr));
	fwtxn_fini(&txn);
	return flags;
}

/*
 * An orphan is adopted by who wants to own it, and by who has to change it; the
 * rest of its bits are put right as they are in any table.  Either goes alone: the
 * kernel takes no new chain beside it.  And it waits for no dump that may settle.
 */
static void test_table_flags(void **state)
{
	static const struct {
		const char *what;
		uint32_t flags;
		bool own, spoilt;
		const char *expected;
		uint32_t sent; /* where a message is expected for the table */
		bool settling;
	} rows[] = {
		{ .what = "ordinary", .expected = "" },
		/* apply.h has the way to change that: not in place */
		{ .what = "ordinary, own", .own = true, .expected = "" },
		{ .what = "ordinary, spoilt",
		  .spoilt = true,
		  .expected = ONE_MORE,
		  .settling = true },
		{ .what = "dormant", .flags = DORMANT, .expected = ADOPTS },
		{ .what = "dormant, own", .flags = DORMANT, .own = true, .expected = ADOPTS },
		{ .what = "dormant, spoilt", .flags = DORMANT, .spoilt = true, .expected = ADOPTS },
		{ .what = "orphan", .flags = PERSIST, .expected = "" },
		{ .what = "orphan, own",
		  .flags = PERSIST,
		  .own = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "orphan, spoilt",
		  .flags = PERSIST,
		  .spoilt = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "orphan, spoilt, own",
		  .flags = PERSIST,
		  .own = true,
		  .spoilt = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "dormant orphan",
		  .flags = PERSIST | DORMANT,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "dormant orphan, own",
		  .flags = PERSIST | DORMANT,
		  .own = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "dormant orphan, spoilt",
		  .flags = PERSIST | DORMANT,
		  .spoilt = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
		{ .what = "owned", .flags = OWNER | PERSIST, .expected = "" },
		{ .what = "owned, own", .flags = OWNER | PERSIST, .own = true, .expected = "" },
		{ .what = "owned, spoilt",
		  .flags = OWNER | PERSIST,
		  .own = true,
		  .spoilt = true,
		  .expected = ONE_MORE,
		  .settling = true },
		{ .what = "owned, dormant",
		  .flags = OWNER | PERSIST | DORMANT,
		  .own = true,
		  .expected = ADOPTS,
		  .sent = OWNER | PERSIST },
	};
	struct ruleset want = rules_of(POLICY);

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtable have = table_of(&want);
		char notes[8192];
		bool settling;

		have.flags = rows[i].flags;
		if (rows[i].spoilt)
			empty_resolvers(&have);
		assert_diff_own(&have, &want, rows[i].own, rows[i].what, rows[i].expected);
		settling = diff(&have, &want, rows[i].own, notes, sizeof(notes));
		assert_row(settling == rows[i].settling, rows[i].what, "settling %d", settling);
		if (!strncmp(rows[i].expected, ADOPTS, strlen(ADOPTS))) {
			const uint32_t sent = table_flags(&have, &want, rows[i].own);

			assert_row(sent == rows[i].sent, rows[i].what, "sent %u", sent);
		}
		fwtable_fini(&have);
	}
	ruleset_fini(&want);
}

/* A new table is owned from its first moment, or ordinary for ever. */
static void test_new_table(void **state)
{
	const struct fwtable nothing = { 0 };
	struct ruleset want = rules_of(POLICY);

	(void)state;
	assert_int_equal(table_flags(&nothing, &want, false), 0);
	assert_int_equal(table_flags(&nothing, &want, true), OWNER | PERSIST);
	ruleset_fini(&want);
}

/* The second table is there for the moment in which the first is made anew. */
static void test_standin(void **state)
{
	static const struct {
		const char *what;
		uint32_t flags;
		bool own, spoilt;
		const char *expected;
	} rows[] = {
		{ .what = "ordinary", .expected = NO_STANDIN },
		{ .what = "owned", .flags = OWNER | PERSIST, .own = true, .expected = NO_STANDIN },
		{ .what = "orphan", .flags = PERSIST, .expected = ADOPTS },
		{ .what = "orphan, own", .flags = PERSIST, .own = true, .expected = ADOPTS },
		{ .what = "dormant", .flags = DORMANT, .expected = ADOPTS },
		/* In the transaction that puts the rest right, never before it. */
		{ .what = "spoilt", .spoilt = true, .expected = NO_STANDIN ONE_MORE },
	};
	struct ruleset want = rules_of(POLICY);
	struct fwtable standin_alone = { .standin = true };
	char notes[8192];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct fwtable have = table_of(&want);

		have.standin = true;
		have.flags = rows[i].flags;
		if (rows[i].spoilt)
			empty_resolvers(&have);
		assert_diff_own(&have, &want, rows[i].own, rows[i].what, rows[i].expected);
		/* A table too many is no dump that has not settled. */
		assert_row(!diff(&have, &want, rows[i].own, notes, sizeof(notes)), rows[i].what,
			   "settling");
		fwtable_fini(&have);
	}
	/* It stands in for what was taken away: until that is back, and not a moment less. */
	diff(&standin_alone, &want, true, notes, sizeof(notes));
	assert_true(!strncmp(notes, ADOPTS, strlen(ADOPTS)));
	assert_non_null(strstr(notes, "chain postrouting\n"));
	assert_null(strstr(notes, "removal"));
	ruleset_fini(&want);
}

/* --- pauses --- */

#define HOUR	3600000
#define FOREVER UINT64_MAX
#define LAPSED	UINT64_MAX /* not wanted any more, since a moment ago */
#define OPENS	"2 elements into set pause\n"
#define SHUTS	"all elements out of set pause\n"
#define ANEW                                                                \
	"rules of chain verdict\nremoval of set pause\nset pause\n" OPENS   \
	"rule \"S2 stays on the host\" of chain verdict\n"                  \
	"rule \"S5 approved resolver\" of chain verdict\n"                  \
	"rule \"S6 in a pause that the user asked for\" of chain verdict\n" \
	"rule \"S7 counted by link and port\" of chain verdict\n"           \
	"rule \"S7 any other name traffic\" of chain verdict\n"

/* A timeout that every element of a set in the transaction has, 0 for none; -1: they differ. */
static int64_t sent_timeout(const struct fwtxn *txn)
{
	const struct nlattr *attr, *elem, *field;
	const struct nlmsghdr *nlh = (const void *)txn->buf;
	int64_t sent = -2;
	int left = (int)txn->len;

	for (; mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
		if ((nlh->nlmsg_type & 0xff) != NFT_MSG_NEWSETELEM)
			continue;
		mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
			if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
				continue;
			mnl_attr_for_each_nested(elem, attr) {
				int64_t one = 0;

				mnl_attr_for_each_nested(field, elem)
					if (mnl_attr_get_type(field) == NFTA_SET_ELEM_TIMEOUT)
						one = (int64_t)be64toh(mnl_attr_get_u64(field));
				sent = sent == -2 || sent == one ? one : -1;
			}
		}
	}
	return sent == -2 ? 0 : sent;
}

static void set_pause(struct fwtable *have, uint64_t first_ms, uint64_t last_ms)
{
	struct fwset *set = set_of(have, "pause");

	free(set->elems);
	set->elems = calloc(2, set->key_len);
	assert_non_null(set->elems);
	set->elems[0] = NFPROTO_IPV4;
	set->elems[set->key_len] = NFPROTO_IPV6;
	set->elems_len = 2;
	set->expires_min_ms = first_ms;
	set->expires_max_ms = last_ms;
}

/*
 * The kernel's clock and ours are read at different moments: a second is no
 * difference, and what is as good as over is left to end by itself.
 */
static void test_pause(void **state)
{
	static const struct {
		const char *what;
		uint64_t first_ms, last_ms; /* the kernel's; 0: no elements */
		uint64_t left_ms;	    /* wanted */
		const char *expected;
	} rows[] = {
		{ "none", 0, 0, 0, "" },
		{ "begins", 0, 0, HOUR, OPENS },
		{ "goes on", HOUR, HOUR, HOUR, "" },
		{ "read a little later", HOUR - 1000, HOUR - 1000, HOUR, "" },
		{ "read a little earlier", HOUR + 1000, HOUR + 1000, HOUR, "" },
		{ "shorter than wanted", HOUR - 5000, HOUR - 5000, HOUR, ANEW },
		{ "longer than wanted", HOUR + 5000, HOUR + 5000, HOUR, ANEW },
		{ "one family shorter", HOUR - 5000, HOUR, HOUR, ANEW },
		{ "one family longer", HOUR, HOUR + 5000, HOUR, ANEW },
		{ "endless", FOREVER, FOREVER, HOUR, ANEW },
		{ "one family endless", HOUR, FOREVER, HOUR, ANEW },
		{ "ended early", HOUR, HOUR, 0, SHUTS },
		{ "opened by somebody", FOREVER, FOREVER, 0, SHUTS },
		{ "opened by somebody for a minute", 60000, 60000, 0, SHUTS },
		{ "one family about to end", 1, 60000, 0, SHUTS },
		{ "opened by somebody for a second", 1000, 1000, 0, SHUTS },
		{ "ends now, as wanted", 1000, 1000, LAPSED, "" },
		{ "ends soon, but not as wanted", 1001, 1001, LAPSED, SHUTS },
		{ "endless, but for one family", 1, FOREVER, LAPSED, SHUTS },
		{ "has ended, wanted for a moment more", 0, 0, 100, "" },
		{ "has ended, wanted for a second more", 0, 0, 1000, OPENS },
		{ "ends, wanted for a moment more", 200, 200, 1200, "" },
		{ "cut to a second", HOUR, HOUR, 1000, ANEW },
		{ "cut to a moment", HOUR, HOUR, 100, ANEW },
	};
	struct ruleset want = rules_of(POLICY);

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const bool lapsed = rows[i].left_ms == LAPSED;
		struct fwtable have;
		struct fwtxn txn;

		assert_int_equal(ruleset_pause(&want, 0, false), 0);
		have = table_of(&want);
		if (rows[i].first_ms)
			set_pause(&have, rows[i].first_ms, rows[i].last_ms);
		assert_int_equal(ruleset_pause(&want, lapsed ? 0 : rows[i].left_ms, lapsed), 0);
		assert_diff(&have, &want, rows[i].what, rows[i].expected);

		/* What opens, opens for that long: never without an end. */
		build_diff(&have, &want, false, &txn);
		if (strstr(rows[i].expected, OPENS))
			assert_row(sent_timeout(&txn) == (int64_t)rows[i].left_ms, rows[i].what,
				   "for %lld ms", (long long)sent_timeout(&txn));
		fwtxn_fini(&txn);
		fwtable_fini(&have);
	}
	ruleset_fini(&want);
}

/* With other changes beside it: the pause is in the new rules as it was in the old. */
static void test_pause_and_more(void **state)
{
	const struct fwtable nothing = { 0 };
	struct ruleset from = rules_of(POLICY), to = rules_of(POLICY "tunnel = wg0\n");
	struct fwtable have;
	char notes[8192];

	(void)state;
	assert_int_equal(ruleset_pause(&from, HOUR, false), 0);
	assert_int_equal(ruleset_pause(&to, HOUR, false), 0);
	have = table_of(&from);
	diff(&have, &to, false, notes, sizeof(notes));
	assert_non_null(strstr(notes, "set tunnel\n"));
	assert_null(strstr(notes, "set pause"));
	fwtable_fini(&have);

	/* A table made anew in the middle of one: opened for the rest of it. */
	diff(&nothing, &from, true, notes, sizeof(notes));
	assert_non_null(strstr(notes, "set pause\n" OPENS));
	ruleset_fini(&from);
	ruleset_fini(&to);
}

/* --- kinds of tunnels --- */

/*
 * A packet asks two sets: with one element gone and another come, it could meet the
 * old name and the new kind.  Then the sets that gain are made anew, not filled.
 */
static void test_kind_mixtures(void **state)
{
	static const struct {
		const char *from, *to;
		bool anew; /* tunnel_kind, or tunnel, is made anew */
		const char *in, *out;
	} rows[] = {
		{ "tunnel = wg0\ntunnel-kind = tun\n", "tunnel = wg0\ntunnel-kind = tun,ppp\n",
		  false, "1 elements into set tunnel_kind\n", NULL },
		{ "tunnel = wg0\ntunnel-kind = tun,ppp\n", "tunnel = wg0\ntunnel-kind = tun\n",
		  false, NULL, "1 elements out of set tunnel_kind\n" },
		{ "tunnel = wg0\ntunnel-kind = tun\n", "tunnel = wg1\ntunnel-kind = ppp\n", true,
		  "removal of set tunnel_kind\n", "removal of set tunnel\n" },
		{ "tunnel = wg0\ntunnel = tun0\ntunnel-kind = tun\n",
		  "tunnel = wg0\ntunnel-kind = tun,wireguard\n", true,
		  "removal of set tunnel_kind\n", "1 elements out of set tunnel\n" },
		/* Kinds come and go as a whole with the rules that ask for them. */
		{ "tunnel = wg0\n", "tunnel = wg0\ntunnel-kind = tun\n", true,
		  "rules of chain verdict\n", NULL },
		{ "tunnel = wg0\ntunnel-kind = tun\n", "tunnel = wg0\n", true,
		  "rules of chain verdict\n", "removal of set tunnel_kind\n" },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct ruleset from = rules_of(rows[i].from), to = rules_of(rows[i].to);
		struct fwtable have = table_of(&from);
		char notes[8192];

		diff(&have, &to, false, notes, sizeof(notes));
		assert_row(!rows[i].in || strstr(notes, rows[i].in), rows[i].to, "%s", notes);
		assert_row(!rows[i].out || strstr(notes, rows[i].out), rows[i].to, "%s", notes);
		assert_row(rows[i].anew == !!strstr(notes, "rules of chain"), rows[i].to, "%s",
			   notes);
		assert_row(!rows[i].anew || !strstr(notes, "elements into set tunnel_kind") ||
				   strstr(notes, "set tunnel_kind\n"),
			   rows[i].to, "%s", notes);
		fwtable_fini(&have);
		ruleset_fini(&from);
		ruleset_fini(&to);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_flags),    cmocka_unit_test(test_new_table),
		cmocka_unit_test(test_standin),	       cmocka_unit_test(test_pause),
		cmocka_unit_test(test_pause_and_more), cmocka_unit_test(test_kind_mixtures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
