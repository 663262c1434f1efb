/* fwdiff.h - the kernel's table and the wanted ruleset -> the transaction between them */
#ifndef FWDIFF_H
#define FWDIFF_H

#include <stdbool.h>

struct fwtable;
struct fwtxn;
struct ruleset;

/*
 * Fill an initialised transaction with what makes `want` of `have`, and with
 * nothing else: chains whose rules differ are flushed and refilled, sets get
 * and lose single elements (or are made anew, where old rules could otherwise
 * meet new elements), base chains stay.  An empty transaction means
 * that the two are the same; the first message's note names the first
 * difference.  With `own` a new table is made owned by the socket that commits,
 * and an orphan is adopted even if nothing else differs; an ordinary table stays
 * ordinary (apply.h has the way).  Where the table's own flags must change, the
 * transaction is that alone, and the next one has the rest.  *ret_settling is true if nothing but elements are missing: a
 * hash set that grew a moment ago may hide some from a dump, so look again
 * before believing it (adding one that is there does no harm).  0, or -ENOMEM.
 */
int fwdiff_build(const struct fwtable *have, const struct ruleset *want, bool own,
		 struct fwtxn *txn, bool *ret_settling);

/*
 * The same without knowing what is there: what keeps packets in, chains with
 * their rules, is put in place whatever stood there.  Of sets, which only ever
 * allow, just the small ones are filled.  What else differs is left for a look.
 * 0 or -ENOMEM.
 */
int fwdiff_build_blind(const struct ruleset *want, bool own, struct fwtxn *txn);

#endif
