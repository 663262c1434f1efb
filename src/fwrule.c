#include "fwrule.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwattr.h"
#include "fwexpr.h"
#include "ruleset.h"

#define RULE_ROOM    16384 /* as in fwtxn.c; a rule of ours is below 2 KiB */
#define MOST_TYPES   16	   /* an expression's attributes; those of ours end at 11 */
#define COMMENT_TYPE 0	   /* of user data: NFTNL_UDATA_RULE_COMMENT, libnftnl/udata.h */

/*
 * Each attribute has a header of four bytes, and is written with as many
 * characters besides its bytes, at two characters each: twice the message is room.
 */
struct text {
	char *at;
};

static void put(struct text *t, const char *s)
{
	t->at = stpcpy(t->at, s);
}

static void put_hex(struct text *t, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*t->at++ = digits[bytes[i] >> 4];
		*t->at++ = digits[bytes[i] & 15];
	}
}

/* Of a number or a name: less the zeros at its end, which a name may have or not. */
static size_t count_bytes(const struct nlattr *attr)
{
	const uint8_t *bytes = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);

	while (len && !bytes[len - 1])
		len--;
	return len;
}

static void put_name(struct text *t, const struct nlattr *attr)
{
	put_hex(t, mnl_attr_get_payload(attr), count_bytes(attr));
}

static void put_expr(struct text *t, const struct nlattr *expr);

/* One attribute of the expression of this name, with what is nested in it. */
static void put_attr(struct text *t, const char *expr, uint16_t type, const struct nlattr *attr)
{
	/* Those whose value is in further attributes, of enum nft_data_attributes. */
	static const struct {
		char expr[10];
		uint8_t type;
	} values[] = {
		{ "cmp", NFTA_CMP_DATA },
		{ "immediate", NFTA_IMMEDIATE_DATA },
		{ "bitwise", NFTA_BITWISE_MASK },
		{ "bitwise", NFTA_BITWISE_XOR },
	};
	const struct nlattr *value = NULL, *verdict = NULL, *chain = NULL;

	*t->at++ = ' ';
	*t->at++ = (char)('a' + type);
	*t->at++ = '=';
	if (type == NFTA_DYNSET_EXPR && !strcmp(expr, "dynset")) {
		put_expr(t, attr);
		return;
	}
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (type == values[i].type && !strcmp(expr, values[i].expr)) {
			value = fwattr_nested(attr, NFTA_DATA_VALUE);
			verdict = fwattr_nested(attr, NFTA_DATA_VERDICT);
		}
	chain = fwattr_nested(verdict, NFTA_VERDICT_CHAIN);
	verdict = fwattr_nested(verdict, NFTA_VERDICT_CODE);
	if (value)
		put_hex(t, mnl_attr_get_payload(value), mnl_attr_get_payload_len(value));
	else
		put_name(t, verdict ? verdict : attr);
	if (chain) {
		*t->at++ = ':';
		put_name(t, chain);
	}
}

/* NFTA_EXPR_NAME, NFTA_EXPR_DATA */
static void put_expr(struct text *t, const struct nlattr *expr)
{
	const char *const given = fwattr_str(fwattr_nested(expr, NFTA_EXPR_NAME));
	const char *const name = given ? given : "?";
	const struct nlattr *data = fwattr_nested(expr, NFTA_EXPR_DATA), *attr;
	const struct nlattr *fields[MOST_TYPES] = { NULL };

	put(t, "[");
	put(t, name);
	if (data)
		mnl_attr_for_each_nested(attr, data) {
			const uint16_t type = mnl_attr_get_type(attr);

			/* None of ours: unlike any, but not to be missed. */
			if (type >= MOST_TYPES || fields[type])
				put(t, "?");
			else
				fields[type] = attr;
		}
	/*
	 * What is not given is 0, and the kernel gives some of that back (a set's
	 * timeout); but for the group of a log, without which it goes elsewhere.
	 */
	for (uint16_t type = 0; type < MOST_TYPES; type++)
		if (fields[type] && (count_bytes(fields[type]) || !strcmp(name, "log")))
			put_attr(t, name, type, fields[type]);
	put(t, "]");
}

/* What the register holds that compares look at: the text of how it was loaded. */
struct held {
	const char *at, *end;
};

static bool is_named(const char *text, const char *name)
{
	return !strncmp(text + 1, name, strlen(name));
}

/*
 * nft loads a value again for each further compare of it, we do not; and what
 * somebody restores from a file is nft's.  The text is what both do: a load, and the
 * mask over it, that the register already has is left out.  *load is the text of the
 * last one as long as nothing else followed, `expr` the expression written last.
 */
static void join_loads(struct text *t, const char *expr, struct held *held, struct held *load)
{
	const size_t held_len = (size_t)(held->end - held->at),
		     load_len = (size_t)(load->end - load->at);

	if (is_named(expr, "payload ") || is_named(expr, "meta ")) {
		if (load_len)
			*held = (struct held){ 0 };
		*load = (struct held){ expr, t->at };
	} else if (load_len && is_named(expr, "bitwise ")) {
		load->end = t->at;
	} else if (!is_named(expr, "cmp ")) {
		*held = *load = (struct held){ 0 };
	} else if (load_len) {
		if (held_len == load_len && !memcmp(held->at, load->at, held_len)) {
			memmove((char *)load->at, expr, (size_t)(t->at - expr));
			t->at -= load_len;
		} else {
			*held = *load;
		}
		*load = (struct held){ 0 };
	}
}

/* User data is a list of: type, length, value. */
static void put_comment(struct text *t, const struct nlattr *attr)
{
	const uint8_t *data = attr ? mnl_attr_get_payload(attr) : NULL;
	size_t left = attr ? mnl_attr_get_payload_len(attr) : 0;

	put(t, " \"");
	while (left >= 2 && left - 2 >= data[1]) {
		const size_t len = data[1];

		if (data[0] == COMMENT_TYPE && len && !data[2 + len - 1])
			put(t, (const char *)data + 2);
		data += 2 + len;
		left -= 2 + len;
	}
	put(t, "\"");
}

int fwrule_format(const struct nlmsghdr *nlh, char **ret_text)
{
	const struct nlattr *exprs = fwattr_find(nlh, NFTA_RULE_EXPRESSIONS), *expr;
	char *text = malloc(2 * (size_t)nlh->nlmsg_len + 8), *trimmed;
	struct held held = { 0 }, load = { 0 };
	struct text t = { text };

	if (!text)
		return -ENOMEM;
	if (exprs)
		mnl_attr_for_each_nested(expr, exprs) {
			const char *at;

			put(&t, mnl_attr_get_type(expr) == NFTA_LIST_ELEM ? "" : "?");
			at = t.at;
			put_expr(&t, expr);
			join_loads(&t, at, &held, &load);
		}
	put_comment(&t, fwattr_find(nlh, NFTA_RULE_USERDATA));
	trimmed = realloc(text, (size_t)(t.at - text) + 1);
	*ret_text = trimmed ? trimmed : text;
	return 0;
}

int fwrule_expect(const struct ruleset *rs, const struct chain *chain, const struct rule *rule,
		  char **ret_text)
{
	_Alignas(struct nlmsghdr) char buf[RULE_ROOM];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nftnl_rule *built;
	int err = fwexpr_build_rule(RULESET_TABLE, rs, chain, rule, &built);

	if (err)
		return err;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
	nftnl_rule_nlmsg_build_payload(nlh, built);
	nftnl_rule_free(built);
	return fwrule_format(nlh, ret_text);
}
