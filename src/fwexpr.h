/*
 * fwexpr.h - one rule -> libnftnl expressions
 *
 * The expressions are those that nft(8) itself makes of the same words, in the
 * same registers, so that `nft list` reads our rules back as we print them.
 */
#ifndef FWEXPR_H
#define FWEXPR_H

#include <stddef.h>
#include <stdint.h>

#include "ruleset.h"

struct chain;
struct nftnl_rule;
struct rule;
struct ruleset;

/* NFPROTO_*, linux/netfilter.h */
uint8_t fwexpr_family(enum family family);

/*
 * Build rule `rule` of chain `chain` in this table, with its comment.
 * 0 and a rule for nftnl_rule_free(), or -ENOMEM and nothing.  A rule with one
 * of its expressions missing never comes out: it would match more.
 */
int fwexpr_build_rule(const char *table, const struct ruleset *rs, const struct chain *chain,
		      const struct rule *rule, struct nftnl_rule **ret_rule);

#endif
