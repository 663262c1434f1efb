#include "fwlate.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h> /* libnftnl/expr.h uses FILE */
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwattr.h"
#include "fwsock.h"
#include "ruleset.h"

#define MAX_CHAINS 64  /* at postrouting, after ours */
#define NAME_ROOM  128 /* of foreign names; longer ones are cut */

struct late_chain {
	uint32_t family;
	int32_t priority;
	char table[NAME_ROOM], name[NAME_ROOM];
	bool rewrites;
};

struct search {
	struct late_chain *chains;
	size_t len;
};

static bool is_inet_family(uint32_t family)
{
	return family == NFPROTO_INET || family == NFPROTO_IPV4 || family == NFPROTO_IPV6;
}

static int take_chain(const struct nlmsghdr *nlh, void *data)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *hook = fwattr_find(nlh, NFTA_CHAIN_HOOK);
	const char *table = fwattr_str(fwattr_find(nlh, NFTA_CHAIN_TABLE));
	const char *name = fwattr_str(fwattr_find(nlh, NFTA_CHAIN_NAME));
	const int32_t priority = (int32_t)fwattr_u32(fwattr_nested(hook, NFTA_HOOK_PRIORITY));
	struct search *search = data;
	struct late_chain *late;

	/* Same priority: which of the two runs first depends on who came first. */
	if (!hook || !table || !name || !strcmp(table, RULESET_TABLE) ||
	    fwattr_u32(fwattr_nested(hook, NFTA_HOOK_HOOKNUM)) != NF_INET_POST_ROUTING ||
	    !is_inet_family(nfg->nfgen_family) || priority < RULESET_PRIORITY ||
	    search->len == MAX_CHAINS)
		return MNL_CB_OK;
	late = &search->chains[search->len++];
	*late = (struct late_chain){ .family = nfg->nfgen_family, .priority = priority };
	snprintf(late->table, NAME_ROOM, "%s", table);
	snprintf(late->name, NAME_ROOM, "%s", name);
	return MNL_CB_OK;
}

/* Bytes [start, start + len) meet [from, to). */
static bool overlaps(uint32_t start, uint32_t len, uint32_t from, uint32_t to)
{
	return start < to && start + len > from;
}

/*
 * A write to the destination address (IPv4 16 to 19, IPv6 24 to 39) or port
 * (2 to 3); the family is NFPROTO_INET where the rule does not tell.
 */
static bool writes_destination(const struct nftnl_expr *e, uint32_t family)
{
	const uint32_t base = nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_BASE);
	const uint32_t offset = nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET);
	const uint32_t len = nftnl_expr_get_u32(e, NFTNL_EXPR_PAYLOAD_LEN);

	if (!nftnl_expr_is_set(e, NFTNL_EXPR_PAYLOAD_SREG))
		return false;
	if (base == NFT_PAYLOAD_NETWORK_HEADER)
		return (family != NFPROTO_IPV6 && overlaps(offset, len, 16, 20)) ||
		       (family != NFPROTO_IPV4 && overlaps(offset, len, 24, 40));
	return base != NFT_PAYLOAD_TRANSPORT_HEADER || overlaps(offset, len, 2, 4);
}

static bool is_harmless_target(const char *name)
{
	static const char harmless[][12] = {
		"MASQUERADE", "SNAT",	 "NETMAP",   "LOG",  "NFLOG", "MARK",
		"CONNMARK",   "TCPMSS",	 "REJECT",   "DSCP", "TOS",   "CLASSIFY",
		"TRACE",      "SECMARK", "CHECKSUM", "TTL",  "HL",
	};

	for (size_t i = 0; name && i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (!strcmp(name, harmless[i]))
			return true;
	return false;
}

/* What has been seen of one rule. */
struct scan {
	uint32_t family; /* the table's, until the rule itself asks for one */
	bool asks_family;
	bool rewrites;
};

/* meta nfproto and the compare behind it: nft puts them before every look at a header. */
static void take_family(struct scan *scan, const struct nftnl_expr *e, const char *kind)
{
	const uint8_t *proto;
	uint32_t len = 0;

	if (scan->asks_family && !strcmp(kind, "cmp")) {
		proto = nftnl_expr_get(e, NFTNL_EXPR_CMP_DATA, &len);
		if (proto && len >= 1 && nftnl_expr_get_u32(e, NFTNL_EXPR_CMP_OP) == NFT_CMP_EQ)
			scan->family = *proto;
	}
	scan->asks_family = !strcmp(kind, "meta") &&
			    nftnl_expr_get_u32(e, NFTNL_EXPR_META_KEY) == NFT_META_NFPROTO;
}

static int take_expr(struct nftnl_expr *e, void *data)
{
	const char *kind = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
	struct scan *scan = data;

	take_family(scan, e, kind);

	if ((!strcmp(kind, "payload") && writes_destination(e, scan->family)) ||
	    !strcmp(kind, "dup") || !strcmp(kind, "queue") ||
	    (!strcmp(kind, "target") &&
	     !is_harmless_target(nftnl_expr_get_str(e, NFTNL_EXPR_TG_NAME))))
		scan->rewrites = true;
	return 0;
}

/*
 * Rules of regular chains count for every late chain of their table: which
 * jumps lead where is not worth following for a warning.
 */
static int take_rule(const struct nlmsghdr *nlh, void *data)
{
	struct search *search = data;
	struct nftnl_rule *r = nftnl_rule_alloc();
	const char *table;
	struct scan scan = { 0 };

	if (!r)
		return MNL_CB_OK;
	if (nftnl_rule_nlmsg_parse(nlh, r) < 0)
		goto out;
	scan.family = nftnl_rule_get_u32(r, NFTNL_RULE_FAMILY);
	nftnl_expr_foreach(r, take_expr, &scan);
	table = nftnl_rule_get_str(r, NFTNL_RULE_TABLE);
	for (size_t i = 0; scan.rewrites && table && i < search->len; i++)
		if (search->chains[i].family == nftnl_rule_get_u32(r, NFTNL_RULE_FAMILY) &&
		    !strncmp(search->chains[i].table, table, NAME_ROOM - 1))
			search->chains[i].rewrites = true;
out:
	nftnl_rule_free(r);
	return MNL_CB_OK;
}

/* Foreign names go to a terminal: letters, digits and the usual marks only. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr("-_./ ,", *text))
			*text = '?';
}

int fwlate_read(struct fwsock *fs, struct fwlate *ret_late, size_t max)
{
	_Alignas(struct nlmsghdr) char buf[64];
	struct search search = { .chains = calloc(MAX_CHAINS, sizeof(*search.chains)) };
	size_t n = 0;
	int err;

	if (!search.chains)
		return -ENOMEM;
	err = fwsock_query(fs, fwsock_begin(fs, buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NLM_F_DUMP),
			   take_chain, &search);
	if (!err && search.len)
		err = fwsock_query(fs,
				   fwsock_begin(fs, buf, NFT_MSG_GETRULE, NFPROTO_UNSPEC,
						NLM_F_DUMP),
				   take_rule, &search);
	for (size_t i = 0; !err && i < search.len && n < max; i++) {
		const struct late_chain *c = &search.chains[i];

		if (!c->rewrites)
			continue;
		snprintf(ret_late[n].text, sizeof(ret_late[n].text),
			 "chain %.60s of table %s %.60s, priority %d", c->name,
			 c->family == NFPROTO_INET ? "inet" :
			 c->family == NFPROTO_IPV4 ? "ip" :
						     "ip6",
			 c->table, c->priority);
		make_printable(ret_late[n++].text);
	}
	free(search.chains);
	return err ? err : (int)n;
}

static int take_flowtable(const struct nlmsghdr *nlh, void *data)
{
	(void)nlh;
	*(bool *)data = true;
	return MNL_CB_OK;
}

int fwlate_has_flowtable(struct fwsock *fs, bool *ret_has)
{
	_Alignas(struct nlmsghdr) char buf[64];

	*ret_has = false;
	return fwsock_query(fs,
			    fwsock_begin(fs, buf, NFT_MSG_GETFLOWTABLE, NFPROTO_UNSPEC, NLM_F_DUMP),
			    take_flowtable, ret_has);
}
