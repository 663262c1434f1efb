#include "fwdiff.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "fwdiff_judge.h"
#include "fwread.h"
#include "fwtxn.h"

#define BLIND_ELEMS 64 /* more of them would keep the rules waiting: 5 to 10 us each */

static bool is_wanted(const struct ruleset *rs, const struct fwobject *object)
{
	char name[RULESET_NAME];

	if (object->type == NFT_OBJECT_CT_EXPECT)
		return rs->no_offload && !strcmp(object->name, RULESET_NO_OFFLOAD);
	for (size_t i = 0; i < rs->counters_len; i++) {
		snprintf(name, sizeof(name), "S%u", rs->counters[i]);
		if (object->type == NFT_OBJECT_COUNTER && !strcmp(object->name, name))
			return true;
	}
	return false;
}

static bool has_object(const struct fwtable *have, uint32_t type, const char *name)
{
	for (size_t i = 0; i < have->objects_len; i++)
		if (have->objects[i].type == type && !strcmp(have->objects[i].name, name))
			return true;
	return false;
}

/* Empty every chain that goes or gets new rules, then take away what is not wanted. */
static void put_removals(struct diff *d)
{
	struct fwtxn *t = d->txn;

	for (size_t i = 0; i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_REFILL || d->chains[i].change == CHANGE_REMAKE)
			fwtxn_flush_chain(t, d->chains[i].chain.name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!d->kept[i])
			fwtxn_flush_chain(t, d->have->chains[i].name);

	for (size_t i = 0; i < d->chains_len; i++)
		if (d->chains[i].change == CHANGE_REMAKE)
			fwtxn_del_chain(t, d->chains[i].chain.name);
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (!d->kept[i])
			fwtxn_del_chain(t, d->have->chains[i].name);
	for (size_t i = 0; i < d->want->sets_len; i++)
		if (d->sets[i] == CHANGE_REMAKE)
			fwtxn_del_set(t, d->want->sets[i].name);
	for (size_t i = 0; i < d->have->sets_len; i++)
		if (!diff_wants_set(d, d->have->sets[i].name))
			fwtxn_del_set(t, d->have->sets[i].name);
	for (size_t i = 0; i < d->have->objects_len; i++)
		if (!is_wanted(d->want, &d->have->objects[i]))
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
		if (!has_object(d->have, NFT_OBJECT_COUNTER, name))
			fwtxn_add_counter(t, name);
	}
	if (d->want->no_offload && !has_object(d->have, NFT_OBJECT_CT_EXPECT, RULESET_NO_OFFLOAD))
		fwtxn_add_no_offload(t);
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
		diff_compare_elems(have, want, n->fresh ? fresh : NULL, n->gone ? gone : NULL);
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

/* Whether only links have changed: chains of theirs, or what of the sets names them. */
static bool is_by_links(const struct diff *d)
{
	bool by_links = d->want->family == FAMILY_NETDEV || d->want->family == FAMILY_BRIDGE;

	for (size_t i = 0; i < d->chains_len; i++)
		by_links &= d->chains[i].change == CHANGE_NONE ||
			    (d->chains[i].chain.device && d->chains[i].change == CHANGE_ADD);
	for (size_t i = 0; i < d->have->chains_len; i++)
		by_links &=
			d->kept[i] || (d->have->chains[i].base && d->want->family == FAMILY_NETDEV);
	return by_links && diff_sets_follow_links(d);
}

/* One table's part. */
static int build_table(struct diff *d, struct fwdiff_found *found)
{
	struct fwtxn *txn = d->txn;
	const size_t before = fwtxn_len(txn);
	size_t other, gone = 0;
	int err = diff_judge_chains(d);

	if (err)
		return err;
	diff_judge_sets(d);

	if (!d->have->present)
		fwtxn_add_table(txn, d->own ? FWTXN_TABLE_OWNED : 0);
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
	found->rehooked |= d->rehooked;
	return txn->err;
}

int fwdiff_build(const struct fwtables *have, const struct ruleset want[FAMILIES],
		 unsigned int flags, struct fwtxn *txn, struct fwdiff_found *ret_found)
{
	struct fwdiff_found found = { .settling = true, .devices_only = true };
	bool needs[FAMILIES], any = false;
	int err = 0;

	for (enum family f = 0; !err && f < FAMILIES; f++) {
		struct diff d = {
			.have = &have->of[f],
			.want = &want[f],
			.txn = txn,
			.own = flags & FWDIFF_OWN,
			.links_aside = flags & FWDIFF_LINKS_ASIDE,
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
		found = (struct fwdiff_found){ .flags_first = true };
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
	if (want->no_offload)
		fwtxn_add_no_offload(txn);
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
