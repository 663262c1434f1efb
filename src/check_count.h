/* check_count.h - which of our counters grew */
#ifndef CHECK_COUNT_H
#define CHECK_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "fwcount.h"

struct check_counts {
	struct fwcounts last;
	bool known;
};

/*
 * Read the counters.  The S number of the only one that has grown since the last
 * time, by at most so many packets: of those that block, or else of those that let go.  0 where
 * that cannot be told, also the first time and where there is no table.
 */
unsigned int check_counts_step(struct check_counts *counts, struct fwsock *fs, uint64_t packets);

#endif
