/* fwdecode.h - the kernel's table -> struct policy, as far as its rules tell */
#ifndef FWDECODE_H
#define FWDECODE_H

#include "ruleset.h"

struct fwtables;

/*
 * Read back which tunnels, resolvers, endpoints, ports, mode, action and ways
 * for fragments and frames the rules in the kernel stand for.  What rules do not need is
 * not in them: resolvers that any tunnel leads to, names of endpoints, whether
 * an address is sticky or "via any" (decoded as sticky).
 * 0 and a policy for policy_fini(), or -ENOMEM.
 */
int fwdecode_policy(const struct fwtables *tables, struct policy *ret_policy);

/* The way S9 is kept by these rules: never FRAGMENTS_AUTO. */
enum fragments fwdecode_fragments(const struct fwtables *tables);

/*
 * What the kernel must have, by what these rules use: PART_HAS or PART_UNKNOWN.
 * FRAGMENTS_DROP is no news: it is also what rules say that somebody took the others from.
 */
struct parts fwdecode_parts(const struct fwtables *tables);

#endif
