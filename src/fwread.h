/* fwread.h - what the kernel has: our tables, as data */
#ifndef FWREAD_H
#define FWREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ruleset.h"

struct fwsock;

struct fwchain {
	char *name;
	bool base; /* hooked; hook, priority, policy and type say how */
	uint32_t hook, policy;
	int32_t priority;
	char *type;
	char *device;	    /* of a chain at a link's way out, if it has just one */
	size_t devices_len; /* 2 stands for more */
	const char **rules; /* as fwrule_format() writes them; they are the table's */
	size_t rules_len, rules_room;
};

struct fwset {
	char *name;
	uint32_t flags, key_type, key_len;
	uint32_t size;	/* it takes no more elements; 0: any number */
	bool odd;	/* a map, or has elements of a kind that none of ours has */
	uint8_t *elems; /* elems_len keys of key_len bytes, sorted */
	size_t elems_len, elems_room;
	/* When the first and the last of a timed set's elements go; UINT64_MAX: never. */
	uint64_t expires_min_ms, expires_max_ms;
};

struct fwobject {
	char *name;
	uint32_t type;		 /* NFT_OBJECT_* */
	uint64_t packets, bytes; /* of counters */
};

/* Table leakguard of one family. */
struct fwtable {
	bool present;
	uint32_t flags; /* NFT_TABLE_F_*, FWTXN_TABLE_* */
	uint32_t owner; /* port of the socket that owns it; 0: nobody's */
	bool standin;	/* RULESET_STANDIN is there as well */
	struct fwchain *chains;
	struct fwset *sets;
	struct fwobject *objects;
	char **texts; /* of rules: chains that have the same share it */
	size_t texts_len, texts_room;
	size_t chains_len, chains_room, sets_len, sets_room, objects_len, objects_room;
};

/* All of them as they stood at one generation. */
struct fwtables {
	struct fwtable of[FAMILIES];
	uint32_t generation; /* 0: commits came in between, the parts may not fit together */
};

/*
 * What large sets hold, and chains, so that they need not be read.  It holds at one
 * generation: no commit of anybody came since.  Or as long as this socket has owned
 * the tables since then: nobody else's can have touched them.  Never known: elements
 * that go by themselves, those that follow from links, and which chains there are,
 * for one goes with its link, of which no generation tells.
 */
struct fwknown {
	const struct ruleset *rules; /* FAMILIES of them */
	uint32_t generation;	     /* 0: nothing is known */
	bool owned;		     /* by the socket that reads, at that generation */
	bool chains;		     /* what is in them has been read, too, not only sent */
};

/*
 * Read the tables whole, but for what is `known` (may be NULL).  0 and tables for fwtables_fini() (present is false of
 * those that are not there), or -errno and nothing to free: -EPERM without
 * CAP_NET_ADMIN, -ENOMEM, -EAGAIN when the kernel did not answer, -EINTR when the
 * tables changed under every try.  Blocks for the dump only; tries again, for 5 s,
 * while commits disturb it.
 */
int fwtables_read(struct fwsock *fs, const struct fwknown *known, struct fwtables *ret_tables);

/* The same without the elements of their sets, which are most of a large table. */
int fwtables_read_rules(struct fwsock *fs, struct fwtables *ret_tables);

/* Only whether they are there, their flags and their owners. */
int fwtables_read_flags(struct fwsock *fs, struct fwtables *ret_tables);

/* Whether any of them is there. */
bool fwtables_present(const struct fwtables *tables);

void fwtables_fini(struct fwtables *tables);
void fwtable_fini(struct fwtable *table);

const struct fwchain *fwtable_chain(const struct fwtable *table, const char *name);
const struct fwset *fwtable_set(const struct fwtable *table, const char *name);

#endif
