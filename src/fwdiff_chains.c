/* Chains: which are there, which are missing, whose rules differ. */
#include "fwdiff_judge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>

#include "fwread.h"
#include "fwrule.h"
#include "fwtxn.h"

static void expected_fini(struct expected *e)
{
	for (size_t i = 0; e->texts && i < e->len; i++)
		free(e->texts[i]);
	free(e->texts);
	*e = (struct expected){ 0 };
}

void diff_fini(struct diff *d)
{
	expected_fini(&d->expected);
	free(d->chains);
	free(d->kept);
}

static bool is_kept(const struct diff *d, const struct fwchain *chain)
{
	return d->kept[chain - d->have->chains];
}

bool diff_wants_chain(const struct diff *d, const char *name)
{
	for (size_t i = 0; i < d->want->chains_len; i++)
		if (d->want->chains[i].hook != HOOK_EGRESS &&
		    !strcmp(d->want->chains[i].name, name))
			return true;
	return false;
}

/*
 * A base chain that IPsec once needed behind source NAT stays there (ruleset_inet.c):
 * a VPN that comes and goes does not make the table anew each time.
 */
static bool same_place(const struct fwchain *have, const struct chain *want)
{
	return have->priority == want->priority ||
	       (have->priority == RULESET_IPSEC_PRIORITY && want->priority == RULESET_PRIORITY);
}

static bool same_nature(const struct diff *d, const struct fwchain *have, const struct chain *want)
{
	if (have->base != (want->hook != HOOK_NONE))
		return false;
	return !have->base ||
	       (have->hook == fwtxn_hook(d->want->family, want->hook) && same_place(have, want) &&
		have->policy == NF_ACCEPT && !strcmp(have->type, fwtxn_chain_type(want->hook)));
}

/* A chain of the kernel's that has a link. */
struct entry {
	const struct fwchain *chain;
};

static int compare_by_device(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->chain->device,
		      ((const struct entry *)b)->chain->device);
}

/* The kernel's chains of links, sorted by these. */
struct device_index {
	struct entry *entries; /* owned */
	size_t len;
};

static int index_devices(const struct diff *d, struct device_index *ret_index)
{
	struct device_index index = { calloc(d->have->chains_len + 1, sizeof(*index.entries)), 0 };

	if (!index.entries)
		return -ENOMEM;
	for (size_t i = 0; i < d->have->chains_len; i++)
		if (d->have->chains[i].device)
			index.entries[index.len++].chain = &d->have->chains[i];
	qsort(index.entries, index.len, sizeof(*index.entries), compare_by_device);
	*ret_index = index;
	return 0;
}

static const struct fwchain *find_device(const struct diff *d, const struct device_index *index,
					 const struct chain *want)
{
	const struct fwchain model = { .device = (char *)want->device };
	const struct entry key = { &model };
	const struct entry *found =
		bsearch(&key, index->entries, index->len, sizeof(key), compare_by_device);
	const struct entry *const end = index->entries + index->len;

	/* Others may have put more beside ours: it is any of those. */
	while (found && found > index->entries && !compare_by_device(found - 1, &key))
		found--;
	for (; found && found < end && !compare_by_device(found, &key); found++)
		if (same_nature(d, found->chain, want))
			return found->chain;
	return NULL;
}

static void add_wanted(struct diff *d, const struct chain *chain, const char *name,
		       const struct fwchain *have)
{
	struct wanted *w = &d->chains[d->chains_len++];

	w->chain = *chain;
	snprintf(w->name, sizeof(w->name), "%s", name);
	w->chain.name = have ? have->name : w->name;
	w->have = have;
	if (have)
		d->kept[have - d->have->chains] = true;
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
		const size_t len = strlen(w->name);
		const struct fwchain *other;

		for (unsigned int n = 2; !w->have && w->chain.device; n++) {
			other = fwtable_chain(d->have, w->name);
			if ((!other || !is_kept(d, other)) && !diff_wants_chain(d, w->name))
				break;
			snprintf(w->name + len, sizeof(w->name) - len, "x%u", n);
		}
	}
}

/* One for each chain of the ruleset, and for each link of the one of hook HOOK_EGRESS. */
static int list_chains(struct diff *d)
{
	const struct ruleset *want = d->want;
	struct device_index index = { 0 };
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
		for (size_t k = 0; d->links_aside && k < d->have->chains_len; k++)
			keep_device(d, &chain, &d->have->chains[k]);
		for (size_t k = 0; !d->links_aside && k < want->devices_len; k++) {
			chain.device = want->devices[k].name;
			add_wanted(d, &chain, ruleset_device_chain(&want->devices[k], name),
				   find_device(d, &index, &chain));
		}
	}
	if (!err) {
		free(index.entries);
		avoid_names(d);
	}
	return err;
}

/* 0 or -ENOMEM. */
static int expect_rules(struct diff *d, const struct chain *want)
{
	struct expected *e = &d->expected;

	if (e->texts && e->rules == want->rules)
		return 0;
	expected_fini(e);
	*e = (struct expected){ want->rules, calloc(want->rules_len + 1, sizeof(*e->texts)), 0 };
	if (!e->texts)
		return -ENOMEM;
	for (size_t i = 0; i < want->rules_len; i++) {
		int err = fwrule_expect(d->want, want, &want->rules[i], &e->texts[i]);

		if (err) {
			expected_fini(e); /* not to be taken for whole */
			return err;
		}
		e->len = i + 1;
	}
	return 0;
}

/* Whether the kernel's chain has exactly these rules.  0 or -ENOMEM. */
static int compare_rules(struct diff *d, const struct fwchain *have, const struct chain *want,
			 bool *ret_same)
{
	int err = 0;

	*ret_same = have->rules_len == want->rules_len;
	if (*ret_same)
		err = expect_rules(d, want);
	for (size_t i = 0; !err && *ret_same && i < d->expected.len; i++)
		*ret_same = !strcmp(d->expected.texts[i], have->rules[i]);
	return err;
}

int diff_judge_chains(struct diff *d)
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
			d->rehooked |= w->have->base && w->chain.hook != HOOK_NONE;
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
