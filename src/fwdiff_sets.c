/* Sets: which are made anew, which gain and lose elements. */
#include "fwdiff_judge.h"

#include <string.h>

#include <linux/netfilter/nf_tables.h>

#include "fwread.h"
#include "fwtxn.h"

#define TIMED_SLACK_MS 1000 /* between our clock and the kernel's, a reading or a commit apart */
#define TIMED_LAST_MS  100  /* of so little a pause nothing is added any more */

bool diff_wants_set(const struct diff *d, const char *name)
{
	for (size_t i = 0; i < d->want->sets_len; i++)
		if (!strcmp(d->want->sets[i].name, name))
			return true;
	return false;
}

static bool looks_into(const struct chain *chain, size_t set, bool counts)
{
	for (size_t i = 0; i < chain->rules_len; i++) {
		const struct rule *r = &chain->rules[i];

		if (r->verdict == VERDICT_COUNT && counts)
			return true;
		for (size_t k = 0; k < r->matches_len; k++)
			if (r->matches[k].kind == MATCH_SET && r->matches[k].set == set)
				return true;
	}
	return false;
}

struct elem_changes diff_compare_elems(const struct fwset *have, const struct set *want,
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

/* The sets of frames that name links below others, or ports of bonds. */
static bool names_links(const struct diff *d, const struct set *set)
{
	return d->want->family != FAMILY_INET &&
	       (!strcmp(set->name, "bonded") || !strcmp(set->name, "stacked") ||
		strstr(set->name, "_link"));
}

/* Whether a key of `have` is one of `want` but for the link, its first field. */
static bool is_of_other_link(const struct set *want, const uint8_t *key)
{
	const size_t skip = field_len(want->fields[0]);

	for (size_t i = 0; i < want->elems_len; i++)
		if (!memcmp(want->elems + i * want->key_len + skip, key + skip,
			    want->key_len - skip))
			return true;
	return want->fields_len == 1;
}

/* Whether all that is in the set is of the ruleset, but for the links that it names. */
static bool differs_by_links(const struct diff *d, size_t i)
{
	const struct set *want = &d->want->sets[i];
	const struct fwset *have = fwtable_set(d->have, want->name);
	bool known = names_links(d, want) && d->sets[i] == CHANGE_NONE && have;

	for (size_t k = 0; known && k < have->elems_len; k++)
		known = is_of_other_link(want, have->elems + k * have->key_len);
	return known;
}

bool diff_sets_follow_links(const struct diff *d)
{
	bool follow = true;

	for (size_t i = 0; i < d->want->sets_len; i++)
		follow &= (d->sets[i] == CHANGE_NONE && !d->elems[i].fresh && !d->elems[i].gone) ||
			  differs_by_links(d, i);
	for (size_t i = 0; i < d->have->sets_len; i++)
		follow &= diff_wants_set(d, d->have->sets[i].name);
	return follow;
}

static void judge_links_aside(struct diff *d)
{
	for (size_t i = 0; d->links_aside && i < d->want->sets_len; i++)
		if (differs_by_links(d, i))
			d->elems[i] = (struct elem_changes){ 0 };
}

static void count_elems(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];

		if (d->sets[i] == CHANGE_NONE)
			d->elems[i] = diff_compare_elems(fwtable_set(d->have, want->name), want,
							 NULL, NULL);
	}
	judge_links_aside(d);
}

/* Mode both and tunnel-kind ask two sets about one packet. */
static bool looks_up_two(const struct diff *d)
{
	return diff_wants_chain(d, "approved") || fwtable_chain(d->have, "approved") ||
	       diff_wants_set(d, "tunnel_kind") || fwtable_set(d->have, "tunnel_kind");
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

	/* Chains of links only lead to the others. */
	for (size_t i = 0; i < d->chains_len; i++)
		changed |= d->chains[i].change != CHANGE_NONE && !d->chains[i].chain.device;
	for (size_t i = 0; i < d->have->chains_len; i++)
		changed |= !d->kept[i] && !d->have->chains[i].device;
	for (size_t i = 0; i < d->want->sets_len; i++)
		gone += d->elems[i].gone;
	for (size_t i = 0; i < d->have->sets_len; i++)
		gone += !diff_wants_set(d, d->have->sets[i].name);

	for (size_t i = 0; (changed || (both && gone)) && i < d->want->sets_len; i++)
		if (d->elems[i].fresh)
			d->sets[i] = CHANGE_REMAKE;
}

/*
 * A set that was made for a number has no room for more; what goes leaves its room
 * only with the transaction.  One that was not is slow to grow (set_size()).
 */
static void judge_sizes(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct fwset *have = fwtable_set(d->have, d->want->sets[i].name);
		const size_t fresh = d->elems[i].fresh;

		if (d->sets[i] == CHANGE_NONE && fresh &&
		    (have->size ? have->elems_len + fresh > have->size : fresh >= RULESET_LARGE))
			d->sets[i] = CHANGE_REMAKE;
	}
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

void diff_judge_sets(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];
		const struct fwset *have = fwtable_set(d->have, want->name);

		if (!have)
			d->sets[i] = CHANGE_ADD;
		else if (have->odd || have->flags != fwtxn_set_flags(want) ||
			 have->key_len != want->key_len || have->key_type != fwtxn_key_type(want) ||
			 lasts_otherwise(have, want))
			d->sets[i] = CHANGE_REMAKE;
	}
	count_elems(d);
	judge_sizes(d);
	judge_mixtures(d);
	judge_timed(d);

	for (size_t i = 0; i < d->want->sets_len; i++)
		for (size_t c = 0; c < d->chains_len; c++)
			if (d->sets[i] == CHANGE_REMAKE && d->chains[c].change == CHANGE_NONE &&
			    looks_into(&d->chains[c].chain, i, d->want->sets[i].counts))
				d->chains[c].change = CHANGE_REFILL;
}
