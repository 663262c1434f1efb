#include "check_count.h"

/* The only one of its sort that grew, if by no more than that; *ret_grew: any did. */
static unsigned int only_one(const struct fwcounts *before, const struct fwcounts *after,
			     bool blocking, uint64_t packets, bool *ret_grew)
{
	unsigned int found = 0, numbers = 0;
	uint64_t grown = 0;

	for (unsigned int n = 0; n < FWCOUNT_NUMBERS; n++) {
		if (fwcount_is_blocking(n) != blocking || after->packets[n] <= before->packets[n])
			continue;
		grown += after->packets[n] - before->packets[n];
		found = n;
		numbers++;
	}
	*ret_grew = grown;
	return numbers == 1 && grown <= packets ? found : 0;
}

unsigned int check_counts_step(struct check_counts *counts, struct fwsock *fs, uint64_t packets)
{
	struct fwcounts now;
	unsigned int found = 0;
	bool blocked = false, passed;

	if (!fs || fwcount_read(fs, &now)) {
		counts->known = false;
		return 0;
	}
	if (counts->known) {
		found = only_one(&counts->last, &now, true, packets, &blocked);
		if (!blocked)
			found = only_one(&counts->last, &now, false, packets, &passed);
	}
	*counts = (struct check_counts){ .last = now, .known = true };
	return found;
}
