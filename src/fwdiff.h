/* fwdiff.h - the kernel's tables and the wanted rulesets -> the transaction between them */
#ifndef FWDIFF_H
#define FWDIFF_H

#include <stdbool.h>

#include "ruleset.h"

struct fwtables;
struct fwtxn;

/*
 * Fill an initialised transaction with what makes `want` of `have`, and with
 * nothing else: chains whose rules differ are flushed and refilled, sets get
 * and lose single elements (or are made anew, where old rules could otherwise
 * meet new elements), base chains stay.  A chain of a link is known by its link,
 * whatever its name.  An empty transaction means that the two are the same; the
 * first message's note names the first difference.
 *
 * With FWDIFF_OWN a new table is made owned by the socket that commits, and an orphan
 * is adopted even if nothing else differs; an ordinary table stays ordinary
 * (apply.h has the way).  Where flags of tables must change, the transaction is
 * that alone, and the next one has the rest.
 */
enum fwdiff_flag {
	FWDIFF_OWN = 1 << 0,
	/*
	 * What follows from the links that are there is left as it is: chains of links,
	 * elements of sets that name links below others.
	 */
	FWDIFF_LINKS_ASIDE = 1 << 1,
};

struct fwdiff_found {
	/*
	 * Nothing but elements are missing: a hash set that grew a moment ago may hide
	 * some from a dump, so look again before believing it (adding one that is
	 * there does no harm).
	 */
	bool settling;
	/* A base chain stands at another place: it cannot be moved without letting packets out. */
	bool rehooked;
	bool devices_only; /* nothing but chains of links differ, or what links make of sets */
	bool flags_first;  /* the transaction changes flags of tables, and no more */
};

/* 0, or -ENOMEM. */
int fwdiff_build(const struct fwtables *have, const struct ruleset want[FAMILIES],
		 unsigned int flags, struct fwtxn *txn, struct fwdiff_found *ret_found);

/*
 * The same of table inet, without knowing what is there: what keeps packets in,
 * chains with their rules, is put in place whatever stood there.  Of sets, which
 * only ever allow, just the small ones are filled.  What else differs is left
 * for a look.  0 or -ENOMEM.
 */
int fwdiff_build_blind(const struct ruleset *want, bool own, struct fwtxn *txn);

#endif
