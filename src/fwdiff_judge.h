/*
 * fwdiff_judge.h - what has to change in one table, before it is put into messages
 *
 * The part of fwdiff.h that stands below its transaction; for fwdiff's files only.
 */
#ifndef FWDIFF_JUDGE_H
#define FWDIFF_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ruleset.h"

struct fwchain;
struct fwset;
struct fwtable;

enum change {
	CHANGE_NONE,
	CHANGE_ADD,    /* it is not there */
	CHANGE_REFILL, /* a chain: its rules differ */
	CHANGE_REMAKE, /* its nature differs: somebody else made it */
};

/* A chain that shall be, and the one that is. */
struct wanted {
	struct chain chain; /* its rules are the ruleset's; its name the kernel's, if it is there */
	char name[RULESET_NAME];    /* of one that is not */
	const struct fwchain *have; /* or NULL */
	enum change change;
};

struct diff {
	const struct fwtable *have;
	const struct ruleset *want;
	struct fwtxn *txn;
	bool own, links_aside; /* FWDIFF_OWN, FWDIFF_LINKS_ASIDE */
	struct wanted *chains; /* owned; of each link that has one, and the others */
	size_t chains_len;
	/* Rules as fwrule_expect() has them, once: the chains of all links have the same. */
	struct expected {
		const struct rule *rules; /* of these */
		char **texts;		  /* owned; len of them, owned as well */
		size_t len;
	} expected;
	bool rehooked; /* a base chain has to be made anew */
	bool *kept;    /* owned; which of have's chains are wanted */
	enum change sets[RULESET_MAX_SETS];
	struct elem_changes {
		size_t fresh, gone; /* keys */
	} elems[RULESET_MAX_SETS];  /* of sets that stay */
};

/* Frees what the diff owns. */
void diff_fini(struct diff *d);

/*
 * What becomes of each chain; and of each set, which needs to know of the chains.
 * 0 or -ENOMEM.
 */
int diff_judge_chains(struct diff *d);
void diff_judge_sets(struct diff *d);

/* Whether the ruleset has a chain, not of a link, or a set of this name. */
bool diff_wants_chain(const struct diff *d, const char *name);
bool diff_wants_set(const struct diff *d, const char *name);

/* Whether what changes in the sets follows from links that came, went or moved. */
bool diff_sets_follow_links(const struct diff *d);

/*
 * Keys that `want` has and `have` lacks, and the reverse; both are sorted.
 * Counts them, and copies them where there are buffers to take them.
 */
struct elem_changes diff_compare_elems(const struct fwset *have, const struct set *want,
				       uint8_t *ret_fresh, uint8_t *ret_gone);

#endif
