/* fwdiff.h: what is put in place without a look at what is there */
#include "unit.h"

#include <arpa/inet.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "tables.h"

#define SMALL 64 /* elements; of a set with more none is put: they would keep the rules waiting */

static void blind(const struct ruleset *want, bool own, struct fwtxn *txn)
{
	fwtxn_init(txn);
	assert_int_equal(fwdiff_build_blind(want, own, txn), 0);
	assert_int_equal(txn->err, 0);
}

static bool has_note(const struct fwtxn *txn, const char *text)
{
	for (size_t i = 0; i < fwtxn_len(txn); i++)
		if (!strcmp(txn->notes[i].text, text))
			return true;
	return false;
}

/* All of them in order: each thing before what uses it, and no rule of before beside one of ours. */
static void test_messages(void **state)
{
	static const char expected[] =
		"table leakguard\n"
		"chain postrouting\nchain name_traffic\nchain verdict\nchain fragment\nchain defrag\n"
		"rules of chain postrouting\nrules of chain name_traffic\nrules of chain verdict\n"
		"rules of chain fragment\nrules of chain defrag\n"
		"counter S2\ncounter S3\ncounter S4\ncounter S5\ncounter S6\ncounter S7\ncounter S9\n"
		"set tunnel\n1 elements into set tunnel\n"
		"set resolver4\n1 elements into set resolver4\nset pause\nset blocked\n"
		"rule \"S1 any port but 53\" of chain postrouting\n"
		"rule \"S1 any port but 53\" of chain postrouting\n"
		"rule \"S1 the rest is looked at\" of chain postrouting\n"
		"rule \"S9 a later fragment has no port\" of chain name_traffic\n"
		"rule \"S9 a later fragment has no port\" of chain name_traffic\n"
		"rule \"S1 any port but 53\" of chain name_traffic\n"
		"rule \"S1 only udp goes further\" of chain name_traffic\n"
		"rule \"S1 only tcp goes further\" of chain name_traffic\n"
		"rule \"S2 stays on the host\" of chain verdict\n"
		"rule \"S4 through a tunnel\" of chain verdict\n"
		"rule \"S5 approved resolver\" of chain verdict\n"
		"rule \"S6 in a pause that the user asked for\" of chain verdict\n"
		"rule \"S7 counted by link and port\" of chain verdict\n"
		"rule \"S7 any other name traffic\" of chain verdict\n"
		"rule \"S1 another protocol's\" of chain fragment\n"
		"rule \"S2 stays on the host\" of chain fragment\n"
		"rule \"S4 through a tunnel\" of chain fragment\n"
		"rule \"S9 a fragment without a port\" of chain fragment\n"
		"rule \"S9 never reached: turns reassembly on\" of chain defrag\n"
		"rule \"S9 never reached: turns reassembly on\" of chain defrag\n";
	struct ruleset want = rules_of("tunnel = wg0\nresolver = 10.0.0.1\nports = 53\n");
	char notes[8192] = "";
	struct fwtxn txn;

	(void)state;
	blind(&want, false, &txn);
	for (size_t i = 0; i < fwtxn_len(&txn); i++)
		strcat(strcat(notes, txn.notes[i].text), "\n");
	assert_string_equal(notes, expected);
	fwtxn_fini(&txn);
	ruleset_fini(&want);
}

/*
 * Nothing is taken for absent (NLM_F_EXCL), nor for present: it is right on an empty
 * host as on one with anything in its place.
 */
static void test_flags(void **state)
{
	struct combination c;
	struct fwtxn txn;

	(void)state;
	for (size_t i = 0; i < COMBINATIONS; i += 13) {
		const struct nlmsghdr *nlh;
		size_t flushes = 0, rules = 0;
		int left;

		combination_init(&c, i);
		blind(&c.rules[FAMILY_INET], i % 2, &txn);
		left = (int)txn.len;
		for (nlh = (const void *)txn.buf; mnl_nlmsg_ok(nlh, left);
		     nlh = mnl_nlmsg_next(nlh, &left)) {
			const int type = nlh->nlmsg_type & 0xff;

			assert_row(!(nlh->nlmsg_flags & NLM_F_EXCL), c.text, "type %d", type);
			assert_row(type != NFT_MSG_DELTABLE && type != NFT_MSG_DELCHAIN &&
					   type != NFT_MSG_DELSET && type != NFT_MSG_DELSETELEM &&
					   type != NFT_MSG_DELOBJ,
				   c.text, "takes something away: type %d", type);
			assert_row(type != NFT_MSG_DELRULE || !rules, c.text, "a flush too late");
			flushes += type == NFT_MSG_DELRULE;
			rules += type == NFT_MSG_NEWRULE;
		}
		assert_row(flushes == c.rules[FAMILY_INET].chains_len, c.text, "%zu flushes",
			   flushes);
		for (size_t k = 0; k < c.rules[FAMILY_INET].chains_len; k++)
			rules -= c.rules[FAMILY_INET].chains[k].rules_len;
		assert_row(!rules, c.text, "rules too many or too few");
		fwtxn_fini(&txn);
		combination_fini(&c);
	}
}

static uint32_t table_flags(const struct ruleset *want, bool own)
{
	const struct nlattr *attr;
	uint32_t flags = UINT32_MAX;
	struct fwtxn txn;

	blind(want, own, &txn);
	mnl_attr_for_each(attr, (const struct nlmsghdr *)txn.buf, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_TABLE_FLAGS)
			flags = ntohl(mnl_attr_get_u32(attr));
	fwtxn_fini(&txn);
	return flags;
}

static void test_owned(void **state)
{
	struct ruleset want = rules_of("tunnel = wg0\n");

	(void)state;
	assert_int_equal(table_flags(&want, false), 0);
	assert_int_equal(table_flags(&want, true), FWTXN_TABLE_OWNED);
	ruleset_fini(&want);
}

/* What only allows may come a moment later: large sets, and pauses, whose end needs a look. */
static void test_elements(void **state)
{
	char lines[SMALL + 1][32], all[sizeof(lines)] = "", note[64];
	struct ruleset want;
	struct fwtxn txn;

	(void)state;
	for (unsigned int n = 1; n <= SMALL + 1; n++) {
		snprintf(lines[n - 1], sizeof(lines[0]), "resolver = 10.1.0.%u\n", n);
		strcat(all, lines[n - 1]);
		if (n < SMALL)
			continue;
		want = rules_of(all);
		assert_int_equal(ruleset_pause(&want, 60000, false), 0);
		blind(&want, false, &txn);
		snprintf(note, sizeof(note), "%u elements into set resolver4", n);
		assert_int_equal(has_note(&txn, note), n == SMALL);
		assert_true(has_note(&txn, "set resolver4"));
		assert_true(has_note(&txn, "set pause"));
		assert_false(has_note(&txn, "2 elements into set pause"));
		fwtxn_fini(&txn);
		ruleset_fini(&want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_owned),
		cmocka_unit_test(test_elements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
