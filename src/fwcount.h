/* fwcount.h - the counters of the S numbers, and nothing else of the tables */
#ifndef FWCOUNT_H
#define FWCOUNT_H

#include <stdbool.h>
#include <stdint.h>

struct fwsock;

#define FWCOUNT_NUMBERS 16 /* S0 to S15 */

struct fwcounts {
	uint64_t packets[FWCOUNT_NUMBERS]; /* of all our tables together, since they were made */
	bool present;			   /* there is any counter: the guard is up */
};

/*
 * Read them.  0; -EPERM without CAP_NET_ADMIN; -EINTR where commits disturbed every
 * try; or another -errno of fwsock_query(), as which it blocks.
 */
int fwcount_read(struct fwsock *fs, struct fwcounts *ret_counts);

/* Whether what this number counts was blocked: S7, S9, S11; the others count what was let go. */
bool fwcount_is_blocking(unsigned int number);

/* All packets that were blocked. */
uint64_t fwcount_blocked(const struct fwcounts *counts);

#endif
