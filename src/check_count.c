#include "check_count.h"

#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include "fwread.h"
#include "text.h"

/* S7, S9 and S11 block; the others let go. */
static bool is_blocking(unsigned int number)
{
	return number == 7 || number == 9 || number == 11;
}

static bool read_counts(struct fwsock *fs, struct check_counts *ret_counts)
{
	struct check_counts c = { .known = true };
	struct fwtables tables;

	if (!fs || fwtables_read_rules(fs, &tables))
		return false;
	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t i = 0; i < tables.of[f].objects_len; i++) {
			const struct fwobject *o = &tables.of[f].objects[i];
			uint32_t number;

			if (o->type == NFT_OBJECT_COUNTER && o->name[0] == 'S' &&
			    !number_parse(o->name + 1, 0, CHECK_COUNT_NUMBERS - 1, &number))
				c.packets[number] += o->packets;
		}
	fwtables_fini(&tables);
	*ret_counts = c;
	return true;
}

/* The only one of its sort that grew, if by no more than that; *ret_grew: any did. */
static unsigned int only_one(const struct check_counts *before, const struct check_counts *after,
			     bool blocking, uint64_t packets, bool *ret_grew)
{
	unsigned int found = 0, numbers = 0;
	uint64_t grown = 0;

	for (unsigned int n = 0; n < CHECK_COUNT_NUMBERS; n++) {
		if (is_blocking(n) != blocking || after->packets[n] <= before->packets[n])
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
	struct check_counts now;
	unsigned int found = 0;
	bool blocked = false, passed;

	if (!read_counts(fs, &now)) {
		counts->known = false;
		return 0;
	}
	if (counts->known) {
		found = only_one(counts, &now, true, packets, &blocked);
		if (!blocked)
			found = only_one(counts, &now, false, packets, &passed);
	}
	*counts = now;
	return found;
}
