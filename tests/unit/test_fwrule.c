/* fwrule.h: rules as text, by which they are the same or not */
#include "unit.h"

#include <arpa/inet.h>

#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwattr.h"
#include "fwexpr.h"
#include "tables.h"

#define ROOM 16384

struct message {
	_Alignas(struct nlmsghdr) char buf[ROOM];
};

static struct nlmsghdr *begin(struct message *m)
{
	struct nlmsghdr *nlh;

	memset(m, 0, sizeof(*m)); /* libmnl leaves what is between attributes as it was */
	nlh = mnl_nlmsg_put_header(m->buf);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
	return nlh;
}

static char *format(const struct nlmsghdr *nlh)
{
	char *text;

	assert_int_equal(fwrule_format(nlh, &text), 0);
	assert_true(strlen(text) < 2 * (size_t)nlh->nlmsg_len + 8);
	return text;
}

static void assert_text(const struct nlmsghdr *nlh, const char *expected)
{
	char *text = format(nlh);

	assert_string_equal(text, expected);
	free(text);
}

/* dynset, in the order of the kernel or of libnftnl, with what only the kernel writes. */
static void put_dynset(struct nlmsghdr *nlh, bool by_kernel)
{
	struct nlattr *exprs = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
	struct nlattr *elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM), *data, *inner;

	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, "dynset");
	data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
	if (by_kernel)
		mnl_attr_put_strz(nlh, NFTA_DYNSET_SET_NAME, "set");
	mnl_attr_put_u32(nlh, NFTA_DYNSET_SREG_KEY, htonl(1));
	if (by_kernel)
		mnl_attr_put_u64(nlh, NFTA_DYNSET_TIMEOUT, 0);
	else
		mnl_attr_put(nlh, NFTA_DYNSET_SET_NAME, 3, "set");
	inner = mnl_attr_nest_start(nlh, NFTA_DYNSET_EXPR);
	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, "counter");
	mnl_attr_nest_end(nlh, inner);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, elem);
	mnl_attr_nest_end(nlh, exprs);
}

static void test_order_and_defaults(void **state)
{
	static const char expected[] = "[dynset b=736574 e=00000001 h=[counter]] \"\"";
	struct message m;
	struct nlmsghdr *nlh = begin(&m);

	(void)state;
	put_dynset(nlh, true);
	assert_text(nlh, expected);
	nlh = begin(&m);
	put_dynset(nlh, false);
	assert_text(nlh, expected);
}

/* An expression that none of ours has, or nothing at all. */
static void test_foreign(void **state)
{
	struct message m;
	struct nlmsghdr *nlh = begin(&m);
	struct nlattr *exprs, *elem, *data;

	(void)state;
	assert_text(nlh, " \"\"");
	exprs = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);
	elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	mnl_attr_nest_end(nlh, elem);
	elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, "new");
	data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
	mnl_attr_put(nlh, 0x21, 4, "abcd"); /* a type beyond ours */
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, elem);
	mnl_attr_nest_end(nlh, exprs);
	assert_text(nlh, "[?][new?] \"\"");
}

/* Expressions by their first letters, each with a number: "p1 b2 c3". */
static char *format_some(const char *words)
{
	static const char *const names[] = { "payload", "bitwise", "cmp", "meta", "immediate" };
	struct message m;
	struct nlmsghdr *nlh = begin(&m);
	struct nlattr *exprs = mnl_attr_nest_start(nlh, NFTA_RULE_EXPRESSIONS);

	for (; *words; words += strspn(words, " ")) {
		struct nlattr *elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM), *data;

		for (size_t i = 0; i < LEN(names); i++)
			if (*names[i] == *words)
				mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, names[i]);
		data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
		mnl_attr_put_u8(nlh, 1, (uint8_t)(words[1] - '0'));
		mnl_attr_nest_end(nlh, data);
		mnl_attr_nest_end(nlh, elem);
		words += 2;
	}
	mnl_attr_nest_end(nlh, exprs);
	return format(nlh);
}

/* What the register has already is loaded once, whoever wrote the rule; nothing else is left out. */
static void test_loads(void **state)
{
	static const struct {
		const char *words, *as;
	} rows[] = {
		{ "p1 c1 p1 c2", "p1 c1 c2" },
		{ "p1 c1 p1 c2 p1 c3", "p1 c1 c2 c3" },
		{ "p1 b1 c1 p1 b1 c2", "p1 b1 c1 c2" },
		{ "m1 c1 m1 c2", "m1 c1 c2" },
		{ "p1 c1 p2 c2", NULL },
		{ "p1 b1 c1 p1 c2", NULL },
		{ "p1 c1 p1 b1 c2", NULL },
		{ "p1 b1 c1 p1 b2 c2", NULL },
		{ "p1 c1 i1 p1 c2", NULL },
		{ "p1 c1 m1 p1 c2", NULL },
		{ "p1 c1 p2 c2 p1 c3", NULL },
		{ "p1 p1 c1", NULL },
		{ "p1 c1 b1 c2 p1 c3", NULL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *found = format_some(rows[i].words), *at = found;
		const char *word = rows[i].as ? rows[i].as : rows[i].words;

		for (; *word; word += 2 + strspn(word + 2, " ")) {
			assert_row(at && at[1] == *word && strchr(at, '=')[2] == word[1],
				   rows[i].words, "%s", found);
			at = strchr(at + 1, '[');
		}
		assert_row(!at, rows[i].words, "%s", found);
		free(found);
	}
}

/* Each byte of each attribute's value, but for the one that ends a name. */
static void assert_seen(struct nlmsghdr *nlh, const struct nlattr *in, size_t *bytes)
{
	const struct nlattr *attr;
	char *before = format(nlh);

	mnl_attr_for_each_nested(attr, in) {
		unsigned char *value = mnl_attr_get_payload(attr);

		if (attr->nla_type & NLA_F_NESTED) {
			assert_seen(nlh, attr, bytes);
			continue;
		}
		for (size_t i = 0; i < mnl_attr_get_payload_len(attr); i++) {
			const bool ends = i && value[i - 1] && !value[i];
			char *after;

			value[i] ^= 1;
			after = format(nlh);
			assert_row(ends || strcmp(before, after), before, "type %d byte %zu",
				   mnl_attr_get_type(attr), i);
			value[i] ^= 1;
			free(after);
			++*bytes;
		}
	}
	free(before);
}

static void test_every_byte_counts(void **state)
{
	struct message m;
	struct ruleset rules[FAMILIES];
	size_t bytes = 0;

	(void)state;
	all_rules_of("tunnel = wg0\nresolver = 192.0.2.53\nlog-group = 5\naction = reject\n",
		     &some_net, rules);
	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t i = 0; i < rules[f].chains_len && i < 8; i++)
			for (size_t k = 0; k < rules[f].chains[i].rules_len; k++) {
				const struct chain *chain = &rules[f].chains[i];
				struct nlmsghdr *nlh = begin(&m);
				const struct nlattr *exprs;
				struct nftnl_rule *built;

				assert_int_equal(fwexpr_build_rule(RULESET_TABLE, &rules[f], chain,
								   &chain->rules[k], &built),
						 0);
				nftnl_rule_nlmsg_build_payload(nlh, built);
				nftnl_rule_free(built);
				exprs = fwattr_find(nlh, NFTA_RULE_EXPRESSIONS);
				assert_non_null(exprs);
				assert_seen(nlh, exprs, &bytes);
			}
	assert_true(bytes > 10000);
	rulesets_fini(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_defaults),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_every_byte_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
