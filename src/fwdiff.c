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

/* A chain that shall be, and the one that is. */
struct wanted {
	struct chain chain; /* its rules are the ruleset's */
	char name[RULESET_NAME];
	int index;		    /* of the link, if it is a link's */
	const struct fwchain *have; /* or NULL */
	enum change change;
};

struct diff {
	const struct fwtable *have;
	const struct ruleset *want;
	struct fwtxn *txn;
	unsigned int flags;
	struct wanted *chains; /* owned; of each link that has one, and the others */
	size_t chains_len;
	bool *kept; /* owned; which of have's chains are wanted */
	enum change sets[RULESET_MAX_SETS];
	struct elem_changes {
		size_t fresh, gone; /* keys */
	} elems[RULESET_MAX_SETS];  /* of sets that stay */
};

static void diff_fini(struct diff *d)
{
	free(d->chains);
	free(d->kept);
}

static bool is_kept(const struct diff *d, const struct fwchain *chain)
{
	return d->kept[chain - d->have->chains];
}

static bool is_wanted_name(const struct diff *d, const char *name)
{
	for (size_t i = 0; i < d->want->chains_len; i++)
		if (d->want->chains[i].hook != HOOK_EGRESS &&
		    !strcmp(d->want->chains[i].name, name))
			return true;
	return false;
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

static bool same_nature(const struct diff *d, const struct fwchain *have, const struct chain *want)
{
	if (have->base != (want->hook != HOOK_NONE))
		return false;
	return !have->base || (have->hook == fwtxn_hook(d->want->family, want->hook) &&
			       have->priority == ruleset_priority(d->want->family) &&
			       have->policy == NF_ACCEPT && !strcmp(have->type, "filter"));
}

static int compare_by_device(const void *va, const void *vb)
{
	const struct fwchain *a = *(const struct fwchain *const *)va;
	const struct fwchain *b = *(const struct fwchain *const *)vb;

	return strcmp(a->device, b->device);
}

/* The kernel's chains of links, sorted by these. */
struct device_index {
	const struct fwchain **chains; /* owned */
	size_t len;
};

static int index_devices(const struct diff *d, struct device_index *ret_index)
{
	struct device_index index = { calloc(d->have->chains_len + 1, sizeof(*index.chains)), 0 };

	if (!index.chains)
		return -ENOMEM;
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (d->have->chains[i].device)
			index.chains[index.len++] = &d->have->chains[i];
	qsort(index.chains, index.len, sizeof(*index.chains), compare_by_device);
	*ret_index = index;
	return 0;
}

static const struct fwchain *find_device(const struct diff *d, const struct device_index *index,
					 const struct chain *want)
{
	const struct fwchain key = { .device = (char *)want->device }, *pkey = &key;
	const struct fwchain **found = bsearch(&pkey, index->chains, index->len,
					       sizeof(*index->chains), compare_by_device);

	return found && same_nature(d, *found, want) ? *found : NULL;
}

static struct wanted *add_wanted(struct diff *d, const struct chain *chain, const char *name,
				 const struct fwchain *have)
{
	struct wanted *w = &d->chains[d->chains_len++];

	w->chain = *chain;
	snprintf(w->name, sizeof(w->name), "%s", have ? have->name : name);
	w->chain.name = w->name;
	w->have = have;
	if (have)
		d->kept[have - d->have->chains] = true;
	return w;
}

/* FWDIFF_LINKS_ASIDE: one that has a link, and one that lost it. */
static void keep_device(struct diff *d, const struct chain *model, const struct fwchain *have)
{
	struct chain chain = *model;

	chain.device = have->device;
	if (have->base && same_nature(d, have, model) && have->devices_len < 2)
		add_wanted(d, &chain, have->name, have);
}

/* A new chain of a link must not take the name of one that stays. */
static void avoid_names(struct diff *d)
{
	for (size_t i = 0; i < d->chains_len; i++) {
		struct wanted *w = &d->chains[i];
		const struct fwchain *other;

		for (unsigned int n = 2; !w->have && w->chain.device; n++) {
			other = fwtable_chain(d->have, w->name);
			if ((!other || !is_kept(d, other)) && !is_wanted_name(d, w->name))
				break;
			ruleset_device_chain(&(struct device){ .index = w->index }, w->name);
			snprintf(w->name + strlen(w->name), 8, "x%u", n % 1000);
		}
	}
}

/* One for each chain of the ruleset, and for each link of the one of hook HOOK_EGRESS. */
static int list_chains(struct diff *d)
{
	const struct ruleset *want = d->want;
	struct device_index index;
	char name[RULESET_NAME];
	int err;

	d->chains = calloc(want->chains_len + want->devices_len + d->have->chains_len + 1,
			   sizeof(*d->chains));
	d->kept = calloc(d->have->chains_len + 1, sizeof(*d->kept));
	if (!d->chains || !d->kept)
		return -ENOMEM;
	err = index_devices(d, &index);
	for (size_t i = 0; !err && i < want->chains_len; i++) {
		struct chain chain = want->chains[i];

		if (chain.hook != HOOK_EGRESS) {
			add_wanted(d, &chain, chain.name, fwtable_chain(d->have, chain.name));
			continue;
		}
		for (size_t k = 0; d->flags & FWDIFF_LINKS_ASIDE && k < d->have->chains_len; k++)
			keep_device(d, &chain, &d->have->chains[k]);
		for (size_t k = 0; !(d->flags & FWDIFF_LINKS_ASIDE) && k < want->devices_len; k++) {
			chain.device = want->devices[k].name;
			add_wanted(d, &chain, ruleset_device_chain(&want->devices[k], name),
				   find_device(d, &index, &chain))
				->index = want->devices[k].index;
		}
	}
	if (!err) {
		free(index.chains);
		avoid_names(d);
	}
	return err;
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
	int err = list_chains(d);

	for (size_t i = 0; !err && i < d->chains_len; i++) {
		struct wanted *w = &d->chains[i];

		if (!w->have) {
			w->change = CHANGE_ADD;
		} else if (!same_nature(d, w->have, &w->chain)) {
			w->change = CHANGE_REMAKE;
			remake = true;
		} else {
			err = compare_rules(d, w->have, &w->chain, &same);
			w->change = same ? CHANGE_NONE : CHANGE_REFILL;
		}
	}
	/* A chain that is made anew must not be jumped to meanwhile: all are refilled. */
	for (size_t i = 0; remake && i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_NONE)
			d->chains[i].change = CHANGE_REFILL;
	return err;
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

/* The sets of frames that name links below others, or ports of bonds. */
static bool names_links(const struct diff *d, const struct set *set)
{
	return d->want->family != FAMILY_INET &&
	       (!strcmp(set->name, "bonded") || strstr(set->name, "_link"));
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

static void judge_links_aside(struct diff *d)
{
	for (size_t i = 0; d->flags & FWDIFF_LINKS_ASIDE && i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];
		const struct fwset *have = fwtable_set(d->have, want->name);
		bool known = true;

		if (!names_links(d, want) || d->sets[i] != CHANGE_NONE)
			continue;
		for (size_t k = 0; k < have->elems_len; k++)
			known &= is_of_other_link(want, have->elems + k * have->key_len);
		if (known)
			d->elems[i] = (struct elem_changes){ 0 };
	}
}

static void count_elems(struct diff *d)
{
	for (size_t i = 0; i < d->want->sets_len; i++) {
		const struct set *want = &d->want->sets[i];

		if (d->sets[i] == CHANGE_NONE)
			d->elems[i] =
				compare_elems(fwtable_set(d->have, want->name), want, NULL, NULL);
	}
	judge_links_aside(d);
}

/* Mode both and tunnel-kind ask two sets about one packet. */
static bool looks_up_two(const struct diff *d)
{
	return is_wanted_name(d, "approved") || fwtable_chain(d->have, "approved") ||
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

	/* Chains of links only lead to the others. */
	for (size_t i = 0; i < d->chains_len; i++)
		changed |= d->chains[i].change != CHANGE_NONE && !d->chains[i].chain.device;
	for (size_t i = 0; i < d->have->chains_len; i++)
		changed |= !d->kept[i] && !d->have->chains[i].device;
	for (size_t i = 0; i < d->want->sets_len; i++)
		gone += d->elems[i].gone;
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
	count_elems(d);
	judge_mixtures(d);
	judge_timed(d);

	for (size_t i = 0; i < d->want->sets_len; i++)
		for (size_t c = 0; c < d->chains_len; c++)
			if (d->sets[i] == CHANGE_REMAKE && d->chains[c].change == CHANGE_NONE &&
			    looks_into(&d->chains[c].chain, i))
				d->chains[c].change = CHANGE_REFILL;
}

/* Empty every chain that goes or gets new rules, then take away what is not wanted. */
static void put_removals(struct diff *d)
{
	struct fwtxn *t = d->txn;

	for (size_t i = 0; i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_REFILL || d->chains[i].change == CHANGE_REMAKE)
			fwtxn_flush_chain(t, d->chains[i].name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!d->kept[i])
			fwtxn_flush_chain(t, d->have->chains[i].name);

	for (size_t i = 0; i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_REMAKE)
			fwtxn_del_chain(t, d->chains[i].name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!d->kept[i])
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

	for (size_t i = 0; i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_ADD || d->chains[i].change == CHANGE_REMAKE)
			fwtxn_add_chain(t, &d->chains[i].chain);
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
	for (size_t i = 0; i < d->chains_len; i++) {
		const struct chain *chain = &d->chains[i].chain;

		for (size_t k = 0; d->chains[i].change != CHANGE_NONE && k < chain->rules_len; k++)
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
static void put_flags(struct fwtxn *txn, const struct fwtables *have, const bool needs[FAMILIES])
{
	fwtxn_fini(txn);
	for (enum family f = 0; f < FAMILIES; f++) {
		txn->family = f;
		if (needs[f])
			fwtxn_add_table(txn, have->of[f].flags & FWTXN_TABLE_PERSIST ?
						     FWTXN_TABLE_OWNED :
						     0);
	}
}

/* Whether only links have changed: chains of theirs, or elements of frames' sets. */
static bool is_by_links(const struct diff *d)
{
	bool by_links = d->want->family != FAMILY_INET;

	for (size_t i = 0; i < d->chains_len; i++)
		by_links &= d->chains[i].change == CHANGE_NONE ||
			    (d->chains[i].chain.device && d->chains[i].change == CHANGE_ADD);
	for (size_t i = 0; i < d->have->chains_len; i++)
		by_links &= d->kept[i] || d->have->chains[i].base;
	return by_links;
}

/* One table's part. */
static int build_table(struct diff *d, struct fwdiff_found *found)
{
	struct fwtxn *txn = d->txn;
	const size_t before = fwtxn_len(txn);
	size_t other, gone = 0;
	int err = judge_chains(d);

	if (err)
		return err;
	judge_sets(d);

	if (!d->have->present)
		fwtxn_add_table(txn, d->flags & FWDIFF_OWN ? FWTXN_TABLE_OWNED : 0);
	put_removals(d);
	put_additions(d);
	/* It stands in for a table that somebody took away meanwhile, until that is back. */
	if (d->have->standin && d->have->present)
		fwtxn_del_table(txn, RULESET_STANDIN);
	other = fwtxn_len(txn);
	for (size_t i = 0; i < d->want->sets_len; i++) {
		if (d->sets[i] != CHANGE_NONE)
			continue;
		put_elem_changes(txn, fwtable_set(d->have, d->want->sets[i].name),
				 &d->want->sets[i], &d->elems[i]);
		gone += d->elems[i].gone;
	}
	found->settling &= other == before && !gone;
	found->devices_only &= fwtxn_len(txn) == before || is_by_links(d);
	return txn->err;
}

int fwdiff_build(const struct fwtables *have, const struct ruleset want[FAMILIES],
		 unsigned int flags, struct fwtxn *txn, struct fwdiff_found *ret_found)
{
	struct fwdiff_found found = { true, true };
	bool needs[FAMILIES], any = false;
	int err = 0;

	for (enum family f = 0; !err && f < FAMILIES; f++) {
		struct diff d = {
			.have = &have->of[f], .want = &want[f], .txn = txn, .flags = flags
		};
		const size_t before = fwtxn_len(txn);

		txn->family = f;
		if (want[f].chains_len) {
			err = build_table(&d, &found);
		} else {
			if (d.have->present)
				fwtxn_del_table(txn, RULESET_TABLE);
			if (d.have->standin)
				fwtxn_del_table(txn, RULESET_STANDIN);
			found.settling &= fwtxn_len(txn) == before;
			found.devices_only &= fwtxn_len(txn) == before;
		}
		diff_fini(&d);
		needs[f] = want[f].chains_len &&
			   needs_flags(d.have, flags & FWDIFF_OWN, fwtxn_len(txn) - before);
		any |= needs[f];
	}
	err = err ?: txn->err;
	found.settling &= fwtxn_len(txn) > 0;
	if (!err && any) {
		put_flags(txn, have, needs);
		found = (struct fwdiff_found){ 0 };
		err = txn->err;
	}
	*ret_found = found;
	return err;
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
