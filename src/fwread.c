#include "fwread.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "clock.h"
#include "fwattr.h"
#include "fwexpr.h"
#include "fwrule.h"
#include "fwsock.h"
#include "ruleset.h"
#include "ruleset_sets.h"

#define STORM_MS 5000 /* how long commits of others may disturb a reading */

/* Room for one more element at the end of a list; NULL when out of memory. */
static void *append(void *list, size_t *len, size_t *room, size_t size)
{
	char *base = *(void **)list;

	if (*len == *room) {
		const size_t more = *room ? *room * 2 : 8;

		base = realloc(base, more * size);
		if (!base)
			return NULL;
		*(void **)list = base;
		*room = more;
	}
	return memset(base + (*len)++ * size, 0, size);
}

/* What every callback gets: where to put what it read, and the first error. */
struct reading {
	struct fwtables *tables;
	struct fwchain *chain;	     /* of the last rule: they come chain by chain */
	struct fwtable *table;	     /* whose sets are being read */
	struct fwset *set;	     /* whose elements are being read */
	const struct fwknown *known; /* may be NULL */
	uint32_t generation;	     /* when the reading began */
	uint64_t end_ms;	     /* of CLOCK_MONOTONIC: no other try after it */
	int err;
};

static int fail(struct reading *rd, int err)
{
	rd->err = rd->err ?: err;
	errno = -err;
	return MNL_CB_ERROR;
}

/*
 * The one of ours that a message is about, by its family and the name of its table, or NULL.
 * NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE and the others' are all 1.
 */
static struct fwtable *find_table(const struct reading *rd, const struct nlmsghdr *nlh,
				  const char *ours)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const char *name = fwattr_str(fwattr_find(nlh, NFTA_TABLE_NAME));

	for (enum family f = 0; name && f < FAMILIES; f++)
		if (nfg->nfgen_family == fwexpr_family(f) && !strcmp(name, ours))
			return &rd->tables->of[f];
	return NULL;
}

static int take_table(const struct nlmsghdr *nlh, void *data)
{
	struct fwtable *table = find_table(data, nlh, RULESET_TABLE);

	if (table) {
		table->present = true;
		table->flags = fwattr_u32(fwattr_find(nlh, NFTA_TABLE_FLAGS));
		table->owner = fwattr_u32(fwattr_find(nlh, NFTA_TABLE_OWNER));
	}
	table = find_table(data, nlh, RULESET_STANDIN);
	if (table)
		table->standin = true;
	return MNL_CB_OK;
}

/* NULL when out of memory, and for what is no text. */
static char *copy(const struct nlattr *attr)
{
	const char *text = fwattr_str(attr);

	return text ? strdup(text) : NULL;
}

/* The link of a chain at a way out, where it is just one.  0 or -ENOMEM. */
static int copy_device(const struct nlattr *hook, struct fwchain *chain)
{
	const struct nlattr *device = fwattr_nested(hook, NFTA_HOOK_DEV), *attr;
	const struct nlattr *list = fwattr_nested(hook, NFTA_HOOK_DEVS);
	size_t n = device != NULL;

	if (list) {
		n = 0;
		mnl_attr_for_each_nested(attr, list) {
			device = attr;
			/* What is not a whole name stands for several. */
			n += mnl_attr_get_type(attr) == NFTA_DEVICE_NAME ? 1 : 2;
		}
	}
	chain->devices_len = n < 2 ? n : 2;
	if (n == 1)
		chain->device = copy(device);
	return n == 1 && !chain->device ? -ENOMEM : 0;
}

static int take_chain(const struct nlmsghdr *nlh, void *data)
{
	struct reading *rd = data;
	struct fwtable *table = find_table(rd, nlh, RULESET_TABLE);
	const struct nlattr *hook = fwattr_find(nlh, NFTA_CHAIN_HOOK);
	struct fwchain *chain;

	if (!table)
		return MNL_CB_OK;
	chain = append(&table->chains, &table->chains_len, &table->chains_room, sizeof(*chain));
	if (!chain)
		return fail(rd, -ENOMEM);
	chain->name = copy(fwattr_find(nlh, NFTA_CHAIN_NAME));
	if (!chain->name)
		return fail(rd, -ENOMEM);
	chain->base = hook;
	if (!hook)
		return MNL_CB_OK;
	chain->hook = fwattr_u32(fwattr_nested(hook, NFTA_HOOK_HOOKNUM));
	chain->priority = (int32_t)fwattr_u32(fwattr_nested(hook, NFTA_HOOK_PRIORITY));
	chain->policy = fwattr_u32(fwattr_find(nlh, NFTA_CHAIN_POLICY));
	chain->type = copy(fwattr_find(nlh, NFTA_CHAIN_TYPE));
	return copy_device(hook, chain) || !chain->type ? fail(rd, -ENOMEM) : MNL_CB_OK;
}

/* Keep a text, owned; the same one of a chain just before is kept in its place.  NULL: no memory. */
static const char *share_text(struct fwtable *table, char *text)
{
	enum { BACK = 8 }; /* more rules than a link's chain has */
	char **kept;

	for (size_t i = table->texts_len; i && i + BACK > table->texts_len; i--)
		if (!strcmp(table->texts[i - 1], text)) {
			free(text);
			return table->texts[i - 1];
		}
	kept = append(&table->texts, &table->texts_len, &table->texts_room, sizeof(*kept));
	if (!kept) {
		free(text);
		return NULL;
	}
	*kept = text;
	return text;
}

static int add_rule(struct fwchain *chain, const char *text)
{
	const char **rule =
		text ? append(&chain->rules, &chain->rules_len, &chain->rules_room, sizeof(*rule)) :
		       NULL;

	if (!rule)
		return -ENOMEM;
	*rule = text;
	return 0;
}

static int take_rule(const struct nlmsghdr *nlh, void *data)
{
	struct reading *rd = data;
	const char *name = fwattr_str(fwattr_find(nlh, NFTA_RULE_CHAIN));
	struct fwtable *table = find_table(rd, nlh, RULESET_TABLE);
	struct fwchain *chain;
	char *text;

	if (!table || !name)
		return MNL_CB_OK;
	chain = table == rd->table && rd->chain && !strcmp(rd->chain->name, name) ?
			rd->chain :
			(struct fwchain *)fwtable_chain(table, name);
	if (!chain)
		return MNL_CB_OK;
	rd->table = table;
	rd->chain = chain;
	return fwrule_format(nlh, &text) || add_rule(chain, share_text(table, text)) ?
		       fail(rd, -ENOMEM) :
		       MNL_CB_OK;
}

static int take_set(const struct nlmsghdr *nlh, void *data)
{
	struct reading *rd = data;
	struct fwtable *table = find_table(rd, nlh, RULESET_TABLE);
	struct fwset *set;

	if (!table)
		return MNL_CB_OK;
	set = append(&table->sets, &table->sets_len, &table->sets_room, sizeof(*set));
	if (!set)
		return fail(rd, -ENOMEM);
	set->name = copy(fwattr_find(nlh, NFTA_SET_NAME));
	set->flags = fwattr_u32(fwattr_find(nlh, NFTA_SET_FLAGS));
	set->key_type = fwattr_u32(fwattr_find(nlh, NFTA_SET_KEY_TYPE));
	set->key_len = fwattr_u32(fwattr_find(nlh, NFTA_SET_KEY_LEN));
	set->size = fwattr_u32(fwattr_nested(fwattr_find(nlh, NFTA_SET_DESC), NFTA_SET_DESC_SIZE));
	set->odd = fwattr_find(nlh, NFTA_SET_DATA_TYPE);
	return set->name ? MNL_CB_OK : fail(rd, -ENOMEM);
}

static int take_object(const struct nlmsghdr *nlh, void *data)
{
	struct reading *rd = data;
	struct fwtable *table = find_table(rd, nlh, RULESET_TABLE);
	const struct nlattr *value = fwattr_find(nlh, NFTA_OBJ_DATA);
	struct fwobject *object;

	if (!table)
		return MNL_CB_OK;
	object =
		append(&table->objects, &table->objects_len, &table->objects_room, sizeof(*object));
	if (!object)
		return fail(rd, -ENOMEM);
	object->name = copy(fwattr_find(nlh, NFTA_OBJ_NAME));
	object->type = fwattr_u32(fwattr_find(nlh, NFTA_OBJ_TYPE));
	if (object->type == NFT_OBJECT_COUNTER) {
		object->packets = fwattr_u64(fwattr_nested(value, NFTA_COUNTER_PACKETS));
		object->bytes = fwattr_u64(fwattr_nested(value, NFTA_COUNTER_BYTES));
	}
	return object->name ? MNL_CB_OK : fail(rd, -ENOMEM);
}

static void take_expiration(struct fwset *set, const struct nlattr *attr)
{
	const bool first = set->elems_len == 1;
	uint64_t left_ms = UINT64_MAX;

	if (attr && mnl_attr_get_payload_len(attr) == sizeof(left_ms))
		left_ms = be64toh(mnl_attr_get_u64(attr));
	if (first || left_ms < set->expires_min_ms)
		set->expires_min_ms = left_ms;
	if (first || left_ms > set->expires_max_ms)
		set->expires_max_ms = left_ms;
}

/* Read without libnftnl: 131,072 elements as objects of their own would take 40 MiB. */
static int take_elems(const struct nlmsghdr *nlh, void *data)
{
	struct reading *rd = data;
	struct fwset *set = rd->set;
	const struct nlattr *attr, *elem, *key, *value;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(elem, attr) {
			uint8_t *copy;

			key = fwattr_nested(elem, NFTA_SET_ELEM_KEY);
			value = fwattr_nested(key, NFTA_DATA_VALUE);
			if (!value || mnl_attr_get_payload_len(value) != set->key_len) {
				set->odd = true; /* somebody's: ours have plain keys */
				continue;
			}
			copy = append(&set->elems, &set->elems_len, &set->elems_room, set->key_len);
			if (!copy)
				return fail(rd, -ENOMEM);
			memcpy(copy, mnl_attr_get_payload(value), set->key_len);
			take_expiration(set, fwattr_nested(elem, NFTA_SET_ELEM_EXPIRATION));
		}
	}
	return MNL_CB_OK;
}

static void free_rules(struct fwtable *t)
{
	for (size_t i = 0; i < t->chains_len; i++) {
		free(t->chains[i].rules);
		t->chains[i].rules = NULL;
		t->chains[i].rules_len = t->chains[i].rules_room = 0;
	}
	for (size_t i = 0; i < t->texts_len; i++)
		free(t->texts[i]);
	free(t->texts);
	t->texts = NULL;
	t->texts_len = t->texts_room = 0;
}

/* Forget what a dump that was disturbed has brought to one table. */
static void forget(struct fwtable *t, uint16_t type)
{
	struct fwtable gone = { 0 };

	switch (type) {
	case NFT_MSG_GETTABLE:
		t->present = t->standin = false;
		break;
	case NFT_MSG_GETCHAIN:
		gone.chains = t->chains;
		gone.chains_len = t->chains_len;
		t->chains = NULL;
		t->chains_len = t->chains_room = 0;
		break;
	case NFT_MSG_GETRULE:
		free_rules(t);
		break;
	case NFT_MSG_GETSET:
		gone.sets = t->sets;
		gone.sets_len = t->sets_len;
		t->sets = NULL;
		t->sets_len = t->sets_room = 0;
		break;
	case NFT_MSG_GETOBJ:
		gone.objects = t->objects;
		gone.objects_len = t->objects_len;
		t->objects = NULL;
		t->objects_len = t->objects_room = 0;
		break;
	default:
		break;
	}
	fwtable_fini(&gone);
}

/*
 * One dump, asked for again while commits disturb it: of all families
 * (NFPROTO_UNSPEC), or of the table of one.  0, -ENOENT when the table went away
 * meanwhile, or another -errno.
 */
static int dump(struct fwsock *fs, struct reading *rd, uint16_t type, uint8_t family, mnl_cb_t cb)
{
	_Alignas(struct nlmsghdr) char buf[1024];
	int err;

	do {
		struct nlmsghdr *nlh = fwsock_begin(fs, buf, type, family, NLM_F_DUMP);

		/*
		 * NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_OBJ_TABLE and NFTA_SET_ELEM_LIST_TABLE
		 * are all 1 and narrow the dump; tables and chains are dumped whole.
		 */
		if (type != NFT_MSG_GETTABLE && type != NFT_MSG_GETCHAIN)
			mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, RULESET_TABLE);
		if (type == NFT_MSG_GETSETELEM)
			mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, rd->set->name);
		err = fwsock_query(fs, nlh, cb, rd);
		err = rd->err ?: err;
		if (err && type == NFT_MSG_GETSETELEM)
			rd->set->elems_len = 0;
		for (enum family f = 0; err && f < FAMILIES; f++)
			if (family == NFPROTO_UNSPEC || family == fwexpr_family(f))
				forget(&rd->tables->of[f], type);
		rd->chain = NULL;
	} while (err == -EINTR && clock_monotonic_ms() < rd->end_ms);
	return err;
}

static int dump_elems(struct fwsock *fs, struct reading *rd, enum family family, struct fwset *set)
{
	int err;

	if (strlen(set->name) > 512)
		return -EBADMSG; /* NFT_SET_MAXNAMELEN is 256 */
	rd->set = set;
	err = dump(fs, rd, NFT_MSG_GETSETELEM, fwexpr_family(family), take_elems);
	/*
	 * A hash set that grows while it is dumped can list a key twice (rhashtable
	 * moves elements in the background, also after the commit); one is kept.
	 */
	if (!err)
		set->elems_len = keys_sort_unique(set->elems, set->elems_len, set->key_len);
	return err;
}

/* What is known of the table, if anything is, and it is known still. */
static const struct ruleset *find_known(const struct fwsock *fs, const struct reading *rd,
					enum family family)
{
	const struct fwtable *table = &rd->tables->of[family];
	const struct fwknown *known = rd->known;
	const bool owned = known && known->owned && table->flags & NFT_TABLE_F_OWNER &&
			   table->owner == fwsock_port(fs);

	return known && known->generation && (owned || known->generation == rd->generation) ?
		       &known->rules[family] :
		       NULL;
}

static const struct set *find_known_set(const struct ruleset *known, const struct fwset *set)
{
	for (size_t i = 0; known && !set->odd && i < known->sets_len; i++) {
		const struct set *s = &known->sets[i];

		if (!strcmp(s->name, set->name) && s->elems_len >= RULESET_LARGE &&
		    s->key_len == set->key_len && !(set->flags & NFT_SET_TIMEOUT) &&
		    s->fields[0] != FIELD_OIFNAME)
			return s;
	}
	return NULL;
}

static int copy_elems(const struct set *known, struct fwset *set)
{
	set->elems = malloc(known->elems_len * known->key_len);
	if (!set->elems)
		return -ENOMEM;
	memcpy(set->elems, known->elems, known->elems_len * known->key_len);
	set->elems_len = set->elems_room = known->elems_len;
	return 0;
}

static int read_elems(struct fwsock *fs, struct reading *rd, enum family family, struct fwset *set)
{
	const struct set *known = find_known_set(find_known(fs, rd, family), set);

	/* What the kernel itself puts into sets is fwblocked's. */
	if (set->flags & NFT_SET_EVAL)
		return 0;
	return known ? copy_elems(known, set) : dump_elems(fs, rd, family, set);
}

struct listing {
	uint16_t type;
	mnl_cb_t cb;
};

static int dump_parts(struct fwsock *fs, struct reading *rd, uint8_t family,
		      const struct listing *parts, size_t n)
{
	int err = 0;

	for (size_t i = 0; !err && i < n; i++)
		err = dump(fs, rd, parts[i].type, family, parts[i].cb);
	return err;
}

static const struct chain *find_known_chain(const struct ruleset *known,
					    const struct fwchain *chain)
{
	for (size_t i = 0; i < known->chains_len; i++)
		if (chain->base && known->family == FAMILY_NETDEV ?
			    known->chains[i].hook == HOOK_EGRESS :
			    !strcmp(known->chains[i].name, chain->name))
			return &known->chains[i];
	return NULL;
}

/* Rules as they would be read.  0, -ENOMEM, or -ESRCH: there is a chain that is not known. */
static int copy_rules(const struct ruleset *known, struct fwtable *table)
{
	const struct chain *last = NULL;
	size_t first = 0;
	int err = 0;

	for (size_t i = 0; !err && i < table->chains_len; i++) {
		const struct chain *chain = find_known_chain(known, &table->chains[i]);

		if (!chain)
			err = -ESRCH;
		for (size_t k = 0; !err && chain != last && k < chain->rules_len; k++) {
			char **text = append(&table->texts, &table->texts_len, &table->texts_room,
					     sizeof(*text));

			first = k ? first : table->texts_len - 1;
			err = text ? fwrule_expect(known, chain, &chain->rules[k], text) : -ENOMEM;
		}
		last = chain;
		for (size_t k = 0; !err && k < chain->rules_len; k++)
			err = add_rule(&table->chains[i], table->texts[first + k]);
	}
	if (err)
		free_rules(table);
	return err;
}

static int read_rules(struct fwsock *fs, struct reading *rd, enum family family)
{
	const struct ruleset *known =
		rd->known && rd->known->chains ? find_known(fs, rd, family) : NULL;
	int err = known ? copy_rules(known, &rd->tables->of[family]) : -ESRCH;

	return err == -ESRCH ? dump(fs, rd, NFT_MSG_GETRULE, fwexpr_family(family), take_rule) :
			       err;
}

/* What is in one family's table: a dump narrowed by a name ends with the first table of it. */
static int read_table(struct fwsock *fs, struct reading *rd, enum family family, bool elems)
{
	static const struct listing parts[] = {
		{ NFT_MSG_GETSET, take_set },
		{ NFT_MSG_GETOBJ, take_object },
	};
	struct fwtable *table = &rd->tables->of[family];
	int err = read_rules(fs, rd, family);

	if (!err)
		err = dump_parts(fs, rd, fwexpr_family(family), parts,
				 sizeof(parts) / sizeof(parts[0]));
	for (size_t i = 0; elems && !err && i < table->sets_len; i++)
		err = read_elems(fs, rd, family, &table->sets[i]);
	return err;
}

static int read_once(struct fwsock *fs, bool elems, const struct fwknown *known, uint64_t end_ms,
		     struct fwtables *tables)
{
	static const struct listing whole[] = {
		{ NFT_MSG_GETTABLE, take_table },
		{ NFT_MSG_GETCHAIN, take_chain },
	};
	struct reading rd = { .tables = tables, .known = known, .end_ms = end_ms };
	uint32_t after;
	int err = fwsock_read_generation(fs, &rd.generation);

	if (!err)
		err = dump_parts(fs, &rd, NFPROTO_UNSPEC, whole, 2);
	for (enum family f = 0; !err && f < FAMILIES; f++)
		if (tables->of[f].present)
			err = read_table(fs, &rd, f, elems);
	if (!err)
		err = fwsock_read_generation(fs, &after);
	if (!err)
		tables->generation = rd.generation == after ? after : 0;
	return err;
}

static int read_tries(struct fwsock *fs, bool elems, const struct fwknown *known,
		      struct fwtables *ret_tables)
{
	const uint64_t end_ms = clock_monotonic_ms() + STORM_MS;

	while (true) {
		struct fwtables tables = { 0 };
		const int err = read_once(fs, elems, known, end_ms, &tables);
		const bool last = clock_monotonic_ms() >= end_ms;

		if (!err && (tables.generation || last)) {
			*ret_tables = tables;
			return 0;
		}
		fwtables_fini(&tables);
		/* ENOENT: the table, or a set, went away between two dumps; look again. */
		if (err && (last || (err != -EINTR && err != -ENOENT)))
			return err;
	}
}

int fwtables_read(struct fwsock *fs, const struct fwknown *known, struct fwtables *ret_tables)
{
	return read_tries(fs, true, known, ret_tables);
}

int fwtables_read_rules(struct fwsock *fs, struct fwtables *ret_tables)
{
	return read_tries(fs, false, NULL, ret_tables);
}

int fwtables_read_flags(struct fwsock *fs, struct fwtables *ret_tables)
{
	struct fwtables tables = { 0 };
	struct reading rd = { .tables = &tables, .end_ms = clock_monotonic_ms() + STORM_MS };
	int err = dump(fs, &rd, NFT_MSG_GETTABLE, NFPROTO_UNSPEC, take_table);

	if (!err)
		*ret_tables = tables;
	return err;
}

bool fwtables_present(const struct fwtables *tables)
{
	bool present = false;

	for (enum family f = 0; f < FAMILIES; f++)
		present |= tables->of[f].present;
	return present;
}

void fwtables_fini(struct fwtables *tables)
{
	for (enum family f = 0; f < FAMILIES; f++)
		fwtable_fini(&tables->of[f]);
	tables->generation = 0;
}

void fwtable_fini(struct fwtable *table)
{
	free_rules(table);
	for (size_t i = 0; i < table->chains_len; i++) {
		free(table->chains[i].name);
		free(table->chains[i].type);
		free(table->chains[i].device);
	}
	for (size_t i = 0; i < table->sets_len; i++) {
		free(table->sets[i].name);
		free(table->sets[i].elems);
	}
	for (size_t i = 0; i < table->objects_len; i++)
		free(table->objects[i].name);
	free(table->chains);
	free(table->sets);
	free(table->objects);
	*table = (struct fwtable){ 0 };
}

const struct fwchain *fwtable_chain(const struct fwtable *table, const char *name)
{
	for (size_t i = 0; i < table->chains_len; i++)
		if (!strcmp(table->chains[i].name, name))
			return &table->chains[i];
	return NULL;
}

const struct fwset *fwtable_set(const struct fwtable *table, const char *name)
{
	for (size_t i = 0; i < table->sets_len; i++)
		if (!strcmp(table->sets[i].name, name))
			return &table->sets[i];
	return NULL;
}
