#include "fwprobe.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>

#include "fwtxn.h"
#include "ruleset.h"

#define KERNEL_ENOTSUPP 524 /* beside EOPNOTSUPP, include/linux/errno.h */

static const struct rule parts[] = {
	[FWPROBE_DEFRAG4] = {
		.matches = { { .kind = MATCH_NFPROTO, .family = AF_INET },
			     { .kind = MATCH_L4PROTO, .proto = IPPROTO_UDP } },
		.matches_len = 2,
		.verdict = VERDICT_TPROXY4,
	},
	[FWPROBE_DEFRAG6] = {
		.matches = { { .kind = MATCH_NFPROTO, .family = AF_INET6 },
			     { .kind = MATCH_L4PROTO, .proto = IPPROTO_UDP } },
		.matches_len = 2,
		.verdict = VERDICT_TPROXY6,
	},
	[FWPROBE_CONNTRACK] = {
		.matches = { { .kind = MATCH_CT_INVALID } },
		.matches_len = 1,
		.verdict = VERDICT_RETURN,
	},
};

/* One rule, or none, in one chain, in a transaction without an end. */
static int try_rule(struct fwsock *fs, const struct rule *rule)
{
	static const struct chain chain = { .name = "probe" };
	static const struct ruleset empty = { 0 };
	struct fwtxn_fail fail;
	struct fwtxn t;
	int err;

	fwtxn_init(&t);
	t.table = RULESET_PROBE; /* our own may be owned by a watcher */
	fwtxn_add_table(&t, 0);
	fwtxn_add_chain(&t, &chain);
	if (rule)
		fwtxn_add_rule(&t, &empty, &chain, rule);
	err = fwtxn_validate(fs, &t, &fail);
	fwtxn_fini(&t);
	return err;
}

/* What a kernel answers to a family, an expression or a key of one that it lacks. */
static bool means_lack(int err)
{
	return err == -ENOENT || err == -EOPNOTSUPP || err == -EINVAL || err == -EAFNOSUPPORT ||
	       err == -EPROTONOSUPPORT || err == -KERNEL_ENOTSUPP;
}

int fwprobe_part(struct fwsock *fs, enum fwprobe_part part, bool *ret_has)
{
	int err = try_rule(fs, &parts[part]);

	if (err && !means_lack(err))
		return err;
	*ret_has = !err;
	if (!err)
		return 0;
	/* Is it the part that is missing, or everything? */
	err = try_rule(fs, NULL);
	return means_lack(err) ? -EOPNOTSUPP : err;
}

int fwprobe_ownership(struct fwsock *fs, bool *ret_has)
{
	struct fwtxn_fail fail;
	struct fwtxn t;
	int err;

	fwtxn_init(&t);
	t.table = RULESET_PROBE;
	fwtxn_add_table(&t, FWTXN_TABLE_OWNED);
	err = fwtxn_validate(fs, &t, &fail);
	fwtxn_fini(&t);
	if (err && !means_lack(err))
		return err;
	*ret_has = !err;
	return 0;
}

int fwprobe_fragments(struct fwsock *fs, enum fragments wanted, enum fragments *ret_how)
{
	static const struct {
		enum fragments how;
		enum fwprobe_part needs[2];
	} ways[] = {
		{ FRAGMENTS_DEFRAG, { FWPROBE_DEFRAG4, FWPROBE_DEFRAG6 } },
		{ FRAGMENTS_CONNTRACK, { FWPROBE_CONNTRACK, FWPROBE_CONNTRACK } },
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool has = true;

		if (wanted != FRAGMENTS_AUTO && wanted != ways[i].how)
			continue;
		for (size_t k = 0; has && k < 2; k++) {
			int err = fwprobe_part(fs, ways[i].needs[k], &has);

			if (err)
				return err;
		}
		if (has) {
			*ret_how = ways[i].how;
			return 0;
		}
		if (wanted == ways[i].how)
			return -FWPROBE_ENOWAY;
	}
	*ret_how = FRAGMENTS_DROP;
	return 0;
}
