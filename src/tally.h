/* tally.h - what came how often, in bounded memory.  Pure. */
#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>
#include <stdint.h>

#define TALLY_PLACES 512
#define TALLY_TEXT   128 /* with NUL; a longer one is cut and ends in "..." */

/* All zeros is an empty one. */
struct tally {
	struct tally_entry {
		uint64_t count, hash; /* of the whole text */
		char text[TALLY_TEXT];
	} places[TALLY_PLACES];
	size_t len;
	uint64_t others; /* counted once for what had to give up its place */
};

/*
 * Count it once.  Where all places are taken, what has come least gives up its
 * own, and its count goes to the others: a count is never too high, and who
 * comes often is soon back.
 */
void tally_count(struct tally *t, const char *text);

/* Bring the `n` that came most to the front, most first; at most as many as there are. */
size_t tally_sort(struct tally *t, size_t n);

#endif
