/* check_count.h - which of our counters grew */
#ifndef CHECK_COUNT_H
#define CHECK_COUNT_H

#include <stdbool.h>
#include <stdint.h>

struct fwsock;

#define CHECK_COUNT_NUMBERS 16 /* S0 to S15 */

struct check_counts {
	uint64_t packets[CHECK_COUNT_NUMBERS]; /* of all tables together */
	bool known;
};

/*
 * Read the counters.  The S number of the only one that has grown since the last
 * time, by at most so many packets: of those that block, or else of those that let go.  0 where
 * that cannot be told, also the first time and where there is no table.
 */
unsigned int check_counts_step(struct check_counts *counts, struct fwsock *fs, uint64_t packets);

#endif
