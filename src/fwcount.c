#include "fwcount.h"

#include <errno.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>

#include "fwattr.h"
#include "fwexpr.h"
#include "fwsock.h"
#include "ruleset.h"
#include "text.h"

#define DUMP_TRIES 20 /* a dump is of one datagram: commits rarely disturb it */

static int take_object(const struct nlmsghdr *nlh, void *data)
{
	const char *table = fwattr_str(fwattr_find(nlh, NFTA_OBJ_TABLE));
	const char *name = fwattr_str(fwattr_find(nlh, NFTA_OBJ_NAME));
	struct fwcounts *counts = data;
	uint32_t number;

	if (!table || strcmp(table, RULESET_TABLE) || !name || name[0] != 'S' ||
	    number_parse(name + 1, 0, FWCOUNT_NUMBERS - 1, &number) ||
	    fwattr_u32(fwattr_find(nlh, NFTA_OBJ_TYPE)) != NFT_OBJECT_COUNTER)
		return MNL_CB_OK;
	counts->packets[number] +=
		fwattr_u64(fwattr_nested(fwattr_find(nlh, NFTA_OBJ_DATA), NFTA_COUNTER_PACKETS));
	counts->present = true;
	return MNL_CB_OK;
}

static int dump(struct fwsock *fs, enum family family, struct fwcounts *counts)
{
	_Alignas(struct nlmsghdr) char buf[256];
	const struct fwcounts before = *counts;
	int err = -EINTR;

	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		struct nlmsghdr *nlh =
			fwsock_begin(fs, buf, NFT_MSG_GETOBJ, fwexpr_family(family), NLM_F_DUMP);

		mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, RULESET_TABLE);
		*counts = before;
		err = fwsock_query(fs, nlh, take_object, counts);
	}
	return err == -ENOENT ? 0 : err;
}

int fwcount_read(struct fwsock *fs, struct fwcounts *ret_counts)
{
	struct fwcounts counts = { 0 };
	int err = 0;

	for (enum family f = 0; !err && f < FAMILIES; f++)
		err = dump(fs, f, &counts);
	if (!err)
		*ret_counts = counts;
	return err;
}

bool fwcount_is_blocking(unsigned int number)
{
	return number == 7 || number == 9 || number == 11;
}

uint64_t fwcount_blocked(const struct fwcounts *counts)
{
	uint64_t packets = 0;

	for (unsigned int n = 0; n < FWCOUNT_NUMBERS; n++)
		if (fwcount_is_blocking(n))
			packets += counts->packets[n];
	return packets;
}
