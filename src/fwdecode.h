/* fwdecode.h - the kernel's table -> struct policy, as far as its rules tell */
#ifndef FWDECODE_H
#define FWDECODE_H

#include "policy.h"

struct fwtable;

/*
 * Read back which tunnels, resolvers, endpoints, ports, mode, action and way
 * for fragments the rules in the kernel stand for.  What rules do not need is
 * not in them: resolvers that any tunnel leads to, names of endpoints, whether
 * an address is sticky or "via any" (decoded as sticky).
 * 0 and a policy for policy_fini(), or -ENOMEM.
 */
int fwdecode_policy(const struct fwtable *table, struct policy *ret_policy);

/* The way S9 is kept by these rules: never FRAGMENTS_AUTO. */
enum fragments fwdecode_fragments(const struct fwtable *table);

#endif
