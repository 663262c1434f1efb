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

/* Some rules, or none, in one chain, in a transaction without an end. */
static int try_rules(struct fwsock *fs, const struct rule *rules, size_t n)
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
	for (size_t i = 0; i < n; i++)
		fwtxn_add_rule(&t, &empty, &chain, &rules[i]);
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

static int probe(struct fwsock *fs, enum fwprobe_part first, size_t n, bool *ret_has)
{
	int err = try_rules(fs, &parts[first], n);

	if (err && !means_lack(err))
		return err;
	*ret_has = !err;
	if (!err)
		return 0;
	/* Is it the part that is missing, or everything? */
	err = try_rules(fs, NULL, 0);
	return means_lack(err) ? -EOPNOTSUPP : err;
}

int fwprobe_part(struct fwsock *fs, enum fwprobe_part part, bool *ret_has)
{
	return probe(fs, part, 1, ret_has);
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
		enum fwprobe_part needs; /* this, and those behind it */
		size_t parts;
	} ways[] = {
		{ FRAGMENTS_DEFRAG, FWPROBE_DEFRAG4, 2 },
		{ FRAGMENTS_CONNTRACK, FWPROBE_CONNTRACK, 1 },
	};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool has;
		int err;

		if (wanted != FRAGMENTS_AUTO && wanted != ways[i].how)
			continue;
		err = probe(fs, ways[i].needs, ways[i].parts, &has);
		if (err)
			return err;
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
