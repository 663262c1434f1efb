#include "fwdiff.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "fwexpr.h"
#include "fwread.h"
#include "fwtxn.h"
#include "ruleset.h"

#define TIMED_SLACK_MS 1000 /* between our clock and the kernel's, a reading or a commit apart */
#define TIMED_LAST_MS  100  /* of so little a pause nothing is added any more */
#define BLIND_ELEMS    64   /* more of them would keep the rules waiting: 5 to 10 us each */

enum change {
	CHANGE_NONE,
	CHANGE_ADD,    /* it is not there */
	CHANGE_REFILL, /* a chain: its rules differ */
	CHANGE_REMAKE, /* its nature differs: somebody else made it */
};

struct diff {
	const struct fwtable *have;
	const struct ruleset *want;
	struct fwtxn *txn;
	enum change chains[RULESET_MAX_CHAINS]; /* of want's */
	enum change sets[RULESET_MAX_SETS];
	struct elem_changes {
		size_t fresh, gone; /* keys */
	} elems[RULESET_MAX_SETS];  /* of sets that stay */
};

static const struct chain *wanted_chain(const struct ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		if (!strcmp(rs->chains[i].name, name))
			return &rs->chains[i];
	return NULL;
}

static bool wanted_set(const struct ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->sets_len; i++)
		if (!strcmp(rs->sets[i].name, name))
			return true;
	return false;
}

static bool wanted_counter(const struct ruleset *rs, const struct fwobject *object)
{
	char name[RULESET_NAME];

	for (size_t i = 0; i < rs->counters_len; i++) {
		snprintf(name, sizeof(name), "S%u", rs->counters[i]);
		if (object->type == NFT_OBJECT_COUNTER && !strcmp(object->name, name))
			return true;
	}
	return false;
}

static bool has_counter(const struct fwtable *have, const char *name)
{
	for (size_t i = 0; i < have->objects_len; i++)
		if (have->objects[i].type == NFT_OBJECT_COUNTER &&
		    !strcmp(have->objects[i].name, name))
			return true;
	return false;
}

static bool same_nature(const struct fwchain *have, const struct chain *want)
{
	if (have->base != (want->hook != HOOK_NONE))
		return false;
	return !have->base ||
	       (have->hook == fwtxn_hook(want->hook) && have->priority == RULESET_PRIORITY &&
		have->policy == NF_ACCEPT && !strcmp(have->type, "filter"));
}

/* Whether the kernel's chain has exactly these rules.  0 or -ENOMEM. */
static int compare_rules(const struct diff *d, const struct fwchain *have, const struct chain *want,
			 bool *ret_same)
{
	*ret_same = have->rules_len == want->rules_len;
	for (size_t i = 0; *ret_same && i < want->rules_len; i++) {
		struct nftnl_rule *rule;
		char *text;
		int err = fwexpr_build_rule(RULESET_TABLE, d->want, want, &want->rules[i], &rule);

		if (err)
			return err;
		err = fwexpr_format_rule(rule, &text);
		nftnl_rule_free(rule);
		if (err)
			return err;
		*ret_same = !strcmp(text, have->rules[i]);
		free(text);
	}
	return 0;
}

static int judge_chains(struct diff *d)
{
	bool remake = false, same;

	for (size_t i = 0; i < d->want->chains_len; i++) {
		const struct chain *want = &d->want->chains[i];
		const struct fwchain *have = fwtable_chain(d->have, want->name);
		int err;

		if (!have) {
			d->chains[i] = CHANGE_ADD;
			continue;
		}
		if (!same_nature(have, want)) {
			d->chains[i] = CHANGE_REMAKE;
			remake = true;
			continue;
		}
		err = compare_rules(d, have, want, &same);
		if (err)
			return err;
		d->chains[i] = same ? CHANGE_NONE : CHANGE_REFILL;
	}
	/* A chain that is made anew must not be jumped to meanwhile: all are refilled. */
	for (size_t i = 0; remake && i < d->want->chains_len; i++)
		if (d->chains[i] == CHANGE_NONE)
			d->chains[i] = CHANGE_REFILL;
	return 0;
}

static bool looks_into(const struct chain *chain, size_t set)
{
	for (size_t i = 0; i < chain->rules_len; i++)
		for (size_t k = 0; k < chain->rules[i].matches_len; k++)
			if (chain->rules[i].matches[k].kind == MATCH_SET &&
			    chain->rules[i].matches[k].set == set)
				return true;
	return false;
}

/*
 * Keys that `want` has and `have` lacks, and the reverse; both are sorted.
 * Counts them, and copies them where there are buffers to take them.
 */
static struct elem_changes compare_elems(const struct fwset *have, const struct set *want,
					 uint8_t *ret_fresh, uint8_t *ret_gone)
{
	const size_t len = want->key_len;
	struct elem_changes n = { 0 };
	size_t h = 0, w = 0;

	while (h < have->elems_len || w < want->elems_len) {
		const uint8_t *hk = have->elems + h * len, *wk = want->elems + w * len;
		const int c = h == have->elems_len ? 1 :
			      w == want->elems_len ? -1 :
						     memcmp(hk, wk, len);

		if (c < 0 && ret_gone)
			memcpy(ret_gone + n.gone * len, hk, len);
		if (c > 0 && ret_fresh)
			memcpy(ret_fresh + n.fresh * len, wk, len);
		n.gone += c < 0;
		n.fresh += c > 0;
		h += c <= 0;
		w += c >= 0;
	}
	return n;
}

/* Mode both and tunnel-kind ask two sets about one packet. */
static bool looks_up_two(const struct diff *d)
{
	return wanted_chain(d->want, "approved") || fwtable_chain(d->have, "approved") ||
	       wanted_set(d->want, "tunnel_kind") || fwtable_set(d->have, "tunnel_kind");
}

/*
 * A packet takes its rules when it enters the base chain, but looks into sets
 * as they are by the time it gets there: old rules can meet new elements, or
 * of two lookups the second a newer set than the first.  Where that could let
 * out what neither the old nor the new policy would, a set that gains elements
 * is made anew in the same transaction: the old rules keep the old one.
 * It could where rules change, and where two things are looked up, if elements
 * go as others come.
 */
static void judge_mixtures(struct diff *d)
{
	const bool both = looks_up_two(d);
	bool changed = false;
	size_t gone = 0;

	for (size_t i = 0; i < d->want->chains_len; i++)
		changed |= d->chains[i] != CHANGE_NONE;
	for (size_t i = 0; i < d->have->chains_len; i++)
		changed |= !wanted_chain(d->want, d->have->chains[i].name);
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];

		if (d->sets[i] == CHANGE_NONE)
			d->elems[i] =
				compare_elems(fwtable_set(d->have, want->name), want, NULL, NULL);
		gone += d->elems[i].gone;
	}
	for (size_t i = 0; i < d->have->sets_len; i++)
		gone += !wanted_set(d->want, d->have->sets[i].name);

	for (size_t i = 0; (changed || (both && gone)) && i < d->want->sets_len; i++)
		if (d->elems[i].fresh)
			d->sets[i] = CHANGE_REMAKE;
}

static bool lasts_otherwise(const struct fwset *have, const struct set *want)
{
	const uint64_t wanted = want->timeout_ms;

	if (!want->timed || !have->elems_len || !want->elems_len)
		return false;
	return have->expires_max_ms > wanted + TIMED_SLACK_MS ||
	       have->expires_min_ms + TIMED_SLACK_MS < wanted;
}

/* What the kernel ends, or has just ended, by itself is no difference. */
static void judge_timed(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];
		const struct fwset *have = fwtable_set(d->have, want->name);

		if (!want->timed || !have)
			continue;
		if (want->timeout_ms <= TIMED_LAST_MS)
			d->elems[i].fresh = 0;
		if (want->lapsing && have->elems_len && have->expires_max_ms <= TIMED_SLACK_MS)
			d->elems[i].gone = 0;
	}
}

static void judge_sets(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];
		const struct fwset *have = fwtable_set(d->have, want->name);

		if (!have)
			d->sets[i] = CHANGE_ADD;
		else if (have->odd || have->flags != (want->timed ? NFT_SET_TIMEOUT : 0) ||
			 have->key_len != want->key_len || have->key_type != fwtxn_key_type(want) ||
			 lasts_otherwise(have, want))
			d->sets[i] = CHANGE_REMAKE;
	}
	judge_mixtures(d);
	judge_timed(d);

	for (size_t i = 0; i < d->want->sets_len; i++)
		for (size_t c = 0; c < d->want->chains_len; c++)
			if (d->sets[i] == CHANGE_REMAKE && d->chains[c] == CHANGE_NONE &&
			    looks_into(&d->want->chains[c], i))
				d->chains[c] = CHANGE_REFILL;
}

/* Empty every chain that goes or gets new rules, then take away what is not wanted. */
static void put_removals(struct diff *d)
{
	struct fwtxn *t = d->txn;

	for (size_t i = 0; i < d->want->chains_len; i++)
		if (d->chains[i] == CHANGE_REFILL || d->chains[i] == CHANGE_REMAKE)
			fwtxn_flush_chain(t, d->want->chains[i].name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!wanted_chain(d->want, d->have->chains[i].name))
			fwtxn_flush_chain(t, d->have->chains[i].name);

	for (size_t i = 0; i < d->want->chains_len; i++)
		if (d->chains[i] == CHANGE_REMAKE)
			fwtxn_del_chain(t, d->want->chains[i].name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!wanted_chain(d->want, d->have->chains[i].name))
			fwtxn_del_chain(t, d->have->chains[i].name);
	for (size_t i = 0; i < d->want->sets_len; i++)
		if (d->sets[i] == CHANGE_REMAKE)
			fwtxn_del_set(t, d->want->sets[i].name);
	for (size_t i = 0; i < d->have->sets_len; i++)
		if (!wanted_set(d->want, d->have->sets[i].name))
			fwtxn_del_set(t, d->have->sets[i].name);
	for (size_t i = 0; i < d->have->objects_len; i++)
		if (!wanted_counter(d->want, &d->have->objects[i]))
			fwtxn_del_object(t, d->have->objects[i].name, d->have->objects[i].type);
}

static void put_additions(struct diff *d)
{
	struct fwtxn *t = d->txn;
	char name[RULESET_NAME];

	for (size_t i = 0; i < d->want->chains_len; i++)
		if (d->chains[i] == CHANGE_ADD || d->chains[i] == CHANGE_REMAKE)
			fwtxn_add_chain(t, &d->want->chains[i]);
	for (size_t i = 0; i < d->want->counters_len; i++) {
		snprintf(name, sizeof(name), "S%u", d->want->counters[i]);
		if (!has_counter(d->have, name))
			fwtxn_add_counter(t, name);
	}
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *set = &d->want->sets[i];

		if (d->sets[i] == CHANGE_NONE)
			continue;
		fwtxn_add_set(t, set);
		fwtxn_add_elems(t, set->name, set->elems, set->elems_len, set->key_len,
				set->timeout_ms);
	}
	for (size_t i = 0; i < d->want->chains_len; i++) {
		const struct chain *chain = &d->want->chains[i];

		for (size_t k = 0; d->chains[i] != CHANGE_NONE && k < chain->rules_len; k++)
			fwtxn_add_rule(t, d->want, chain, &chain->rules[k]);
	}
}

static void put_elem_changes(struct fwtxn *t, const struct fwset *have, const struct set *want,
			     const struct elem_changes *n)
{
	uint8_t *fresh, *gone;

	if (!n->fresh && !n->gone)
		return;
	/* One element more than needed: calloc(0) may return NULL. */
	fresh = calloc(n->fresh + 1, want->key_len);
	gone = calloc(n->gone + 1, want->key_len);
	if (fresh && gone) {
		compare_elems(have, want, n->fresh ? fresh : NULL, n->gone ? gone : NULL);
		fwtxn_add_elems(t, want->name, fresh, n->fresh, want->key_len, want->timeout_ms);
		/* A timed one may go by itself before we come: all at once needs none by name. */
		if (want->timed && n->gone && !n->fresh)
			fwtxn_flush_set(t, want->name);
		else
			fwtxn_del_elems(t, want->name, gone, n->gone, want->key_len);
	} else {
		t->err = t->err ?: -ENOMEM;
	}
	free(fresh);
	free(gone);
}

/*
 * Whether the table's flags have to change first: an orphan is adopted, if it is
 * to be owned or changed; a table that somebody set dormant is woken.
 */
static bool needs_flags(const struct fwtable *have, bool own, size_t changes)
{
	if (!have->present)
		return false;
	if (have->flags == FWTXN_TABLE_PERSIST)
		return own || changes;
	return have->flags & FWTXN_TABLE_PERSIST ? have->flags != FWTXN_TABLE_OWNED : have->flags;
}

/*
 * A transaction of their own: the kernel takes no new base chain beside a change
 * of flags (nf_tables_addchain(), __NFT_TABLE_F_UPDATE).  The rest comes next.
 */
static void put_flags(struct fwtxn *txn, const struct fwtable *have)
{
	fwtxn_fini(txn);
	fwtxn_add_table(txn, have->flags & FWTXN_TABLE_PERSIST ? FWTXN_TABLE_OWNED : 0);
}

int fwdiff_build(const struct fwtable *have, const struct ruleset *want, bool own,
		 struct fwtxn *txn, bool *ret_settling)
{
	struct diff d = { .have = have, .want = want, .txn = txn };
	size_t other, gone = 0;
	int err = judge_chains(&d);

	if (err)
		return err;
	judge_sets(&d);

	if (!have->present)
		fwtxn_add_table(txn, own ? FWTXN_TABLE_OWNED : 0);
	put_removals(&d);
	put_additions(&d);
	/* It stands in for a table that somebody took away meanwhile, until that is back. */
	if (have->bridge && have->present)
		fwtxn_del_table(txn, RULESET_BRIDGE);
	other = fwtxn_len(txn);
	for (size_t i = 0; i < want->sets_len; i++) {
		if (d.sets[i] != CHANGE_NONE)
			continue;
		put_elem_changes(txn, fwtable_set(have, want->sets[i].name), &want->sets[i],
				 &d.elems[i]);
		gone += d.elems[i].gone;
	}
	*ret_settling = !other && !gone && fwtxn_len(txn);
	if (!txn->err && needs_flags(have, own, fwtxn_len(txn))) {
		put_flags(txn, have);
		*ret_settling = false;
	}
	return txn->err;
}

int fwdiff_build_blind(const struct ruleset *want, bool own, struct fwtxn *txn)
{
	char name[RULESET_NAME];

	fwtxn_add_table(txn, own ? FWTXN_TABLE_OWNED : 0);
	for (size_t i = 0; i < want->chains_len; i++)
		fwtxn_add_chain(txn, &want->chains[i]);
	for (size_t i = 0; i < want->chains_len; i++)
		fwtxn_flush_chain(txn, want->chains[i].name);
	for (size_t i = 0; i < want->counters_len; i++) {
		snprintf(name, sizeof(name), "S%u", want->counters[i]);
		fwtxn_add_counter(txn, name);
	}
	for (size_t i = 0; i < want->sets_len; i++) {
		const struct set *set = &want->sets[i];

		fwtxn_add_set(txn, set);
		if (set->elems_len <= BLIND_ELEMS && !set->timed)
			fwtxn_add_elems(txn, set->name, set->elems, set->elems_len, set->key_len,
					0);
	}
	for (size_t i = 0; i < want->chains_len; i++)
		for (size_t k = 0; k < want->chains[i].rules_len; k++)
			fwtxn_add_rule(txn, want, &want->chains[i], &want->chains[i].rules[k]);
	return txn->err;
}
