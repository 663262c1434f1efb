#include "fwprobe.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>

#include "fwtxn.h"
#include "ruleset.h"

#define KERNEL_ENOTSUPP 524 /* beside EOPNOTSUPP, include/linux/errno.h */

/* A chain; one without a hook has a rule in it. */
static const struct probe {
	char chain[10];
	uint8_t family;	      /* enum family */
	uint8_t hook;	      /* enum hook */
	uint8_t match, value; /* enum match_kind; AF_*, of MATCH_FAMILY, with meta l4proto udp */
	uint8_t verdict;      /* enum verdict */
} probes[] = {
	[FWPROBE_DEFRAG4] = { .chain = "defrag4",
			      .match = MATCH_FAMILY,
			      .value = AF_INET,
			      .verdict = VERDICT_TPROXY4 },
	[FWPROBE_DEFRAG6] = { .chain = "defrag6",
			      .match = MATCH_FAMILY,
			      .value = AF_INET6,
			      .verdict = VERDICT_TPROXY6 },
	[FWPROBE_CONNTRACK] = { .chain = "conntrack",
				.match = MATCH_CT_INVALID,
				.verdict = VERDICT_RETURN },
	[FWPROBE_EGRESS] = { .chain = "egress", .family = FAMILY_NETDEV, .hook = HOOK_EGRESS },
	[FWPROBE_BRIDGE] = { .chain = "forward", .family = FAMILY_BRIDGE, .hook = HOOK_FORWARD },
	[FWPROBE_ROUTE] = { .chain = "route",
			    .family = FAMILY_NETDEV,
			    .match = MATCH_ROUTED,
			    .verdict = VERDICT_RETURN },
};

/* One bit for each part. */
#define BIT(part) (1u << (part))

static void add_probe(struct fwtxn *t, const struct probe *probe, bool with_table)
{
	const struct ruleset rs = { .family = probe->family };
	/* Every namespace has a loopback device, and nothing is committed. */
	const struct chain chain = { .name = probe->chain,
				     .hook = probe->hook,
				     .device = probe->hook == HOOK_EGRESS ? "lo" : NULL };
	const struct rule rule = { .matches = { { .kind = probe->match, .family = probe->value },
						{ .kind = MATCH_L4PROTO, .proto = IPPROTO_UDP } },
				   .matches_len = probe->match == MATCH_FAMILY ? 2 : 1,
				   .verdict = probe->verdict };

	t->family = probe->family;
	if (with_table)
		fwtxn_add_table(t, 0);
	fwtxn_add_chain(t, &chain);
	if (probe->hook == HOOK_NONE)
		fwtxn_add_rule(t, &rs, &chain, &rule);
}

/* Some parts, or just a table, in a transaction without an end. */
static int try_parts(struct fwsock *fs, unsigned int bits)
{
	bool table[FAMILIES] = { false };
	struct fwtxn_fail fail;
	struct fwtxn t;
	int err;

	fwtxn_init(&t);
	t.table = RULESET_PROBE; /* our own may be owned by a watcher */
	if (!bits)
		fwtxn_add_table(&t, 0);
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (!(bits & BIT(i)))
			continue;
		add_probe(&t, &probes[i], !table[probes[i].family]);
		table[probes[i].family] = true;
	}
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

static int probe(struct fwsock *fs, unsigned int bits, bool *ret_has)
{
	int err = try_parts(fs, bits);

	if (err && !means_lack(err))
		return err;
	*ret_has = !err;
	if (!err)
		return 0;
	/* Is it the part that is missing, or everything? */
	err = try_parts(fs, 0);
	return means_lack(err) ? -EOPNOTSUPP : err;
}

int fwprobe_part(struct fwsock *fs, enum fwprobe_part part, bool *ret_has)
{
	return probe(fs, BIT(part), ret_has);
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

static const struct {
	enum fragments how;
	unsigned int needs;
} ways[] = {
	{ FRAGMENTS_DEFRAG, BIT(FWPROBE_DEFRAG4) | BIT(FWPROBE_DEFRAG6) },
	{ FRAGMENTS_CONNTRACK, BIT(FWPROBE_CONNTRACK) },
};

static int probe_fragments(struct fwsock *fs, enum fragments wanted, enum fragments *ret_how)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool has;
		int err;

		if (wanted != FRAGMENTS_AUTO && wanted != ways[i].how)
			continue;
		err = probe(fs, ways[i].needs, &has);
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

/* The parts of frames, and where each is noted. */
static const struct {
	enum fwprobe_part part;
	size_t at;
} frames_parts[] = {
	{ FWPROBE_EGRESS, offsetof(struct parts, egress) },
	{ FWPROBE_BRIDGE, offsetof(struct parts, bridge) },
	{ FWPROBE_ROUTE, offsetof(struct parts, route) },
};

#define FRAMES_PARTS (sizeof(frames_parts) / sizeof(frames_parts[0]))

static enum part *noted(struct parts *parts, size_t i)
{
	return (enum part *)((char *)parts + frames_parts[i].at);
}

/* Those that this policy needs, and nobody knows of yet. */
static unsigned int unknown_frames(const struct policy *p, struct parts *parts)
{
	unsigned int bits = 0;

	for (size_t i = 0; p->frames != FRAMES_OFF && i < FRAMES_PARTS; i++)
		if (*noted(parts, i) == PART_UNKNOWN &&
		    !(p->frames == FRAMES_STRICT && frames_parts[i].part == FWPROBE_ROUTE))
			bits |= BIT(frames_parts[i].part);
	return bits;
}

static void note_frames(struct parts *parts, unsigned int bits, bool has)
{
	for (size_t i = 0; i < FRAMES_PARTS; i++)
		if (bits & BIT(frames_parts[i].part))
			*noted(parts, i) = has ? PART_HAS : PART_LACKS;
}

int fwprobe_frames(struct fwsock *fs, const struct policy *p, struct parts *parts)
{
	const unsigned int unknown = unknown_frames(p, parts);
	bool has = false;

	for (size_t i = 0; i < FRAMES_PARTS; i++) {
		const unsigned int bit = BIT(frames_parts[i].part);
		const int err = unknown & bit ? probe(fs, bit, &has) : 0;

		if (err)
			return err;
		note_frames(parts, unknown & bit, has);
	}
	if ((p->frames == FRAMES_REQUIRE || p->frames == FRAMES_STRICT) &&
	    (parts->egress != PART_HAS || parts->bridge != PART_HAS))
		return -FWPROBE_ENOWAY;
	return 0;
}

/* Everything at once, as a current kernel has it: one wait instead of one a part. */
static int probe_all(struct fwsock *fs, const struct policy *p, struct parts *parts)
{
	const bool fragments = parts->fragments == FRAGMENTS_AUTO &&
			       (p->fragments == FRAGMENTS_AUTO || p->fragments == FRAGMENTS_DEFRAG);
	const unsigned int frames = unknown_frames(p, parts);
	const unsigned int bits = frames | (fragments ? ways[0].needs : 0);
	bool has = false;
	const int err = bits ? probe(fs, bits, &has) : 0;

	if (err || !has)
		return err;
	if (fragments)
		parts->fragments = FRAGMENTS_DEFRAG;
	note_frames(parts, frames, true);
	return 0;
}

int fwprobe_parts(struct fwsock *fs, const struct policy *p, struct parts *parts,
		  const char **reterr_key)
{
	int err;

	/* Another way than that which is known may be asked for. */
	if (p->fragments != FRAGMENTS_AUTO && p->fragments != parts->fragments)
		parts->fragments = FRAGMENTS_AUTO;
	err = probe_all(fs, p, parts);
	*reterr_key = "fragments";
	if (!err && parts->fragments == FRAGMENTS_AUTO)
		err = probe_fragments(fs, p->fragments, &parts->fragments);
	if (err)
		return err;
	*reterr_key = "frames";
	return fwprobe_frames(fs, p, parts);
}
