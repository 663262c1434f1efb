/*
 * bytecode - print the expressions of the rules that a configuration makes
 *
 *	bytecode FILE
 *
 * In libnftnl's own words, one expression a line under each rule's family, chain
 * and comment: what nft itself shows with --debug=netlink.  No kernel is asked: it
 * is taken to have everything, and no links.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>

#include "config.h"
#include "fwexpr.h"
#include "ruleset.h"

static int print_expr(struct nftnl_expr *e, void *data)
{
	char buf[1024];

	(void)data;
	if (nftnl_expr_snprintf(buf, sizeof(buf), e, NFTNL_OUTPUT_DEFAULT, 0) < 0)
		return -1;
	printf("  [ %s %s]\n", nftnl_expr_get_str(e, NFTNL_EXPR_NAME), buf);
	return 0;
}

static int find_comment(const struct nftnl_udata *attr, void *ret_comment)
{
	const uint8_t len = nftnl_udata_len(attr);
	const char *text = nftnl_udata_get(attr);

	if (nftnl_udata_type(attr) == NFTNL_UDATA_RULE_COMMENT && len && !text[len - 1])
		*(const char **)ret_comment = text;
	return 0;
}

/* "" for none; points into the rule. */
static const char *comment_of(const struct nftnl_rule *rule)
{
	const char *comment = "";
	uint32_t len = 0;
	const void *data = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &len);

	if (data)
		nftnl_udata_parse(data, len, find_comment, &comment);
	return comment;
}

static int print_rules(const struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++) {
		const struct chain *chain = &rs->chains[i];

		/* Of these there is one for each link. */
		for (size_t k = 0; chain->hook != HOOK_EGRESS && k < chain->rules_len; k++) {
			struct nftnl_rule *rule;
			int bad;

			if (fwexpr_build_rule(RULESET_TABLE, rs, chain, &chain->rules[k], &rule))
				return -ENOMEM;
			printf("%s %s \"%s\"\n", family_format(rs->family), chain->name,
			       comment_of(rule));
			bad = nftnl_expr_foreach(rule, print_expr, NULL) < 0;
			nftnl_rule_free(rule);
			if (bad)
				return -EIO;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct parts parts = { .egress = PART_HAS, .bridge = PART_HAS, .route = PART_HAS };
	const struct netstate no_links = { 0 };
	const struct pins no_pins = { 0 };
	char text[CONFIG_ERR] = "out of memory";
	struct policy policy;
	struct ruleset rules[FAMILIES];
	int err;

	if (argc != 2) {
		fputs("usage: bytecode FILE\n", stderr);
		return 2;
	}
	policy_init(&policy);
	err = config_read_file(argv[1], &policy, text);
	if (!err)
		err = policy_validate(&policy, text, sizeof(text));
	parts.fragments = policy.fragments == FRAGMENTS_AUTO ? FRAGMENTS_DEFRAG : policy.fragments;
	if (!err)
		err = rulesets_build(&policy, &no_pins, &no_links, &parts, rules);
	if (!err) {
		for (enum family f = 0; !err && f < FAMILIES; f++)
			err = print_rules(&rules[f]);
		rulesets_fini(rules);
	}
	if (err)
		fprintf(stderr, "bytecode: %s\n", text);
	policy_fini(&policy);
	return err || fflush(stdout) ? 1 : 0;
}
