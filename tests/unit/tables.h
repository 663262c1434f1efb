/* tables.h - tables made up as the kernel would dump them, and what differs from them */
#ifndef TABLES_H
#define TABLES_H

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "combinations.h"
#include "fwdiff.h"
#include "fwread.h"
#include "fwrule.h"
#include "fwtxn.h"

/* --- tables as fwtables_read() gives them after these rules were installed --- */

static inline void *grown(void *list, size_t len, size_t size)
{
	void *bigger = realloc(list, (len + 1) * size);

	assert_non_null(bigger);
	memset((char *)bigger + len * size, 0, size);
	return bigger;
}

static inline struct fwchain *add_chain(struct fwtable *t, const char *name, uint32_t hook,
					int priority, const char *device)
{
	const bool base = priority != 0;
	struct fwchain *c;

	t->chains = grown(t->chains, t->chains_len, sizeof(*t->chains));
	c = &t->chains[t->chains_len++];
	c->name = strdup(name);
	c->base = base;
	if (base) {
		c->hook = hook;
		c->policy = NF_ACCEPT;
		c->priority = priority;
		c->type = strdup("filter");
		c->device = device ? strdup(device) : NULL;
		c->devices_len = device != NULL;
	}
	return c;
}

static inline void add_rule_text(struct fwtable *t, struct fwchain *c, char *text)
{
	t->texts = grown(t->texts, t->texts_len, sizeof(*t->texts));
	t->texts[t->texts_len++] = text;
	c->rules = grown(c->rules, c->rules_len, sizeof(*c->rules));
	c->rules[c->rules_len++] = text;
}

static inline struct fwset *add_set(struct fwtable *t, const char *name)
{
	t->sets = grown(t->sets, t->sets_len, sizeof(*t->sets));
	t->sets[t->sets_len].name = strdup(name);
	return &t->sets[t->sets_len++];
}

static inline void add_object(struct fwtable *t, const char *name, uint32_t type)
{
	t->objects = grown(t->objects, t->objects_len, sizeof(*t->objects));
	t->objects[t->objects_len].name = strdup(name);
	t->objects[t->objects_len++].type = type;
}

static inline void add_chain_of(struct fwtable *t, const struct ruleset *rs,
				const struct chain *chain, const struct device *device)
{
	/* NF_BR_FORWARD is NF_INET_FORWARD, too; NF_NETDEV_EGRESS is 1. */
	static const uint32_t hooks[] = { 0, NF_INET_POST_ROUTING, NF_INET_LOCAL_OUT,
					  NF_INET_FORWARD, 1 };
	const int priority = chain->hook == HOOK_NONE  ? 0 :
			     rs->family == FAMILY_INET ? RULESET_PRIORITY :
							 RULESET_FRAME_PRIORITY;
	char name[RULESET_NAME];
	struct fwchain *c = add_chain(t, device ? ruleset_device_chain(device, name) : chain->name,
				      hooks[chain->hook], priority, device ? device->name : NULL);

	for (size_t i = 0; i < chain->rules_len; i++) {
		char *text;

		assert_int_equal(fwrule_expect(rs, chain, &chain->rules[i], &text), 0);
		add_rule_text(t, c, text);
	}
}

static inline struct fwtable table_of(const struct ruleset *rs)
{
	struct fwtable t = { .present = rs->chains_len };
	char name[RULESET_NAME];

	if (!t.present)
		return t;
	for (size_t i = 0; i < rs->chains_len; i++) {
		if (rs->chains[i].hook != HOOK_EGRESS)
			add_chain_of(&t, rs, &rs->chains[i], NULL);
		else
			for (size_t k = 0; k < rs->devices_len; k++)
				add_chain_of(&t, rs, &rs->chains[i], &rs->devices[k]);
	}
	for (size_t i = 0; i < rs->sets_len; i++) {
		const struct set *from = &rs->sets[i];
		struct fwset *to = add_set(&t, from->name);

		to->flags = fwtxn_set_flags(from);
		to->key_type = fwtxn_key_type(from);
		to->key_len = (uint32_t)from->key_len;
		to->elems_len = from->elems_len;
		to->elems = malloc(from->elems_len * from->key_len + 1);
		assert_non_null(to->elems);
		if (from->elems_len)
			memcpy(to->elems, from->elems, from->elems_len * from->key_len);
		to->expires_min_ms = to->expires_max_ms =
			from->timed ? from->timeout_ms : UINT64_MAX;
	}
	for (size_t i = 0; i < rs->counters_len; i++) {
		snprintf(name, sizeof(name), "S%u", rs->counters[i]);
		add_object(&t, name, NFT_OBJECT_COUNTER);
	}
	return t;
}

static inline struct fwtables tables_of(const struct ruleset rules[FAMILIES])
{
	struct fwtables t = { .generation = 1 };

	for (enum family f = 0; f < FAMILIES; f++)
		t.of[f] = table_of(&rules[f]);
	return t;
}

static inline struct fwchain *chain_of(struct fwtable *t, const char *name)
{
	return (struct fwchain *)fwtable_chain(t, name);
}

static inline struct fwset *set_of(struct fwtable *t, const char *name)
{
	return (struct fwset *)fwtable_set(t, name);
}

/* --- what differs, as the notes of the messages, one a line --- */

static inline struct ruleset rules_of(const char *lines)
{
	struct addr addrs[2];
	const struct pins pins = test_pins_of(addrs);
	struct policy p = policy_from_lines(lines);
	struct ruleset rs;

	assert_int_equal(ruleset_build(&p, &pins,
				       p.fragments == FRAGMENTS_AUTO ? FRAGMENTS_DEFRAG :
								       p.fragments,
				       &rs),
			 0);
	policy_fini(&p);
	return rs;
}

/* Of all tables: `lines` is a policy, of a host with these links. */
static inline void all_rules_of(const char *lines, const struct netstate *ns,
				struct ruleset ret_rules[FAMILIES])
{
	const struct parts parts = { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS };
	const struct pins none = { 0 };
	struct policy p = policy_from_lines(lines);

	assert_int_equal(rulesets_build(&p, &none, ns, &parts, ret_rules), 0);
	policy_fini(&p);
}

static inline struct fwdiff_found diff_all(const struct fwtables *have,
					   const struct ruleset want[FAMILIES], unsigned int flags,
					   char *ret_notes, size_t size)
{
	struct fwdiff_found found = { .settling = true, .devices_only = true };
	struct fwtxn txn;
	size_t at = 0;

	fwtxn_init(&txn);
	assert_int_equal(fwdiff_build(have, want, flags, &txn, &found), 0);
	ret_notes[0] = '\0';
	for (size_t i = 0; i < fwtxn_len(&txn) && at < size; i++)
		at += (size_t)snprintf(ret_notes + at, size - at, "%s\n", txn.notes[i].text);
	assert_true(at < size);
	fwtxn_fini(&txn);
	return found;
}

/* Of table inet alone: the transaction, initialised here. */
static inline struct fwdiff_found build_diff(const struct fwtable *have, const struct ruleset *want,
					     bool own, struct fwtxn *txn)
{
	const struct fwtables all = { .of = { *have }, .generation = 1 };
	const struct ruleset wants[FAMILIES] = { *want };
	struct fwdiff_found found = { .settling = true, .devices_only = true };

	fwtxn_init(txn);
	assert_int_equal(fwdiff_build(&all, wants, own ? FWDIFF_OWN : 0, txn, &found), 0);
	return found;
}

/* Returns whether a dump that had not settled could be all that differs. */
static inline bool diff(const struct fwtable *have, const struct ruleset *want, bool own,
			char *ret_notes, size_t size)
{
	const struct fwtables all = { .of = { *have }, .generation = 1 };
	const struct ruleset wants[FAMILIES] = { *want };

	return diff_all(&all, wants, own ? FWDIFF_OWN : 0, ret_notes, size).settling;
}

static inline void assert_diff_own(const struct fwtable *have, const struct ruleset *want, bool own,
				   const char *what, const char *expected)
{
	char notes[8192];

	diff(have, want, own, notes, sizeof(notes));
	assert_row(!strcmp(notes, expected), what, "differs by\n%sexpected\n%s", notes, expected);
}

static inline void assert_diff(const struct fwtable *have, const struct ruleset *want,
			       const char *what, const char *expected)
{
	assert_diff_own(have, want, false, what, expected);
}

#endif
