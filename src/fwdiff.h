/* fwdiff.h - the kernel's table and the wanted ruleset -> the transaction between them */
#ifndef FWDIFF_H
#define FWDIFF_H

struct fwtable;
struct fwtxn;
struct ruleset;

/*
 * Fill an initialised transaction with what makes `want` of `have`, and with
 * nothing else: chains whose rules differ are flushed and refilled, sets get
 * and lose single elements, base chains stay.  An empty transaction means
 * that the two are the same; the first message's note names the first
 * difference.  0, or -ENOMEM.
 */
int fwdiff_build(const struct fwtable *have, const struct ruleset *want, struct fwtxn *txn);

#endif
