/*
 * fwrule.h - one rule -> text to compare
 *
 * By the attributes of its message, which are the same in what is sent and in what
 * is dumped: neither their order nor a default that only the kernel writes shows.
 * Two rules of the same text do the same.
 */
#ifndef FWRULE_H
#define FWRULE_H

struct chain;
struct nlmsghdr;
struct rule;
struct ruleset;

/*
 * Of a rule that the kernel has dumped: "[NAME TYPE=BYTES ...]" an expression, then
 * the comment in quotes.  0 and a string for free(3), or -ENOMEM.
 */
int fwrule_format(const struct nlmsghdr *nlh, char **ret_text);

/* Of a rule of ours, as the kernel would dump it.  The same. */
int fwrule_expect(const struct ruleset *rs, const struct chain *chain, const struct rule *rule,
		  char **ret_text);

#endif
