/*
 * ruleset_sets.h - the sets of a ruleset, as data.  Pure: policy -> keys in order
 *
 * The part of ruleset.h that stands below its rules.
 */
#ifndef RULESET_SETS_H
#define RULESET_SETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy.h"

struct netstate;

/* The tables, each of another family of nf_tables; "inet". */
enum family { FAMILY_INET, FAMILY_NETDEV, FAMILY_BRIDGE };
#define FAMILIES 3
const char *family_format(enum family family);

#define RULESET_MAX_SETS 32

/* Blocked packets by link and port; of more the kernel counts no more. */
#define RULESET_BLOCKED	    "blocked"
#define RULESET_MAX_BLOCKED 1024

/* The fields a set's key is made of, in the order they are written. */
enum field {
	FIELD_OIFNAME,	/* 16 bytes, padded with zeros */
	FIELD_IIFNAME,	/* the same */
	FIELD_OIFKIND,	/* the same; IFLA_INFO_KIND */
	FIELD_NFPROTO,	/* 1 byte, NFPROTO_IPV4 or NFPROTO_IPV6 */
	FIELD_PROTOCOL, /* 2 bytes, network order; ETH_P_IP or ETH_P_IPV6 */
	FIELD_SADDR4,
	FIELD_SADDR6,
	FIELD_SMAC, /* 6 bytes */
	FIELD_DADDR4,
	FIELD_DADDR6,
	FIELD_L4PROTO, /* 1 byte */
	FIELD_DPORT,   /* 2 bytes, network order */
	FIELD_MARK,    /* 4 bytes, host order */
};

#define SET_MAX_FIELDS 4
#define SET_MAX_KEY    40 /* 16 + 16 + 4 + 4: the widest key below */

struct set {
	const char *name;
	enum field fields[SET_MAX_FIELDS];
	size_t fields_len;
	size_t key_len; /* of several fields each is padded to 4 bytes, as nf_tables registers are */
	uint8_t *elems; /* owned; elems_len keys of key_len bytes, sorted, no two the same */
	size_t elems_len, elems_room;
	bool timed;	     /* its elements go by themselves */
	uint64_t timeout_ms; /* of a timed set's elements, from now */
	bool lapsing;	     /* they were to be gone a moment ago */
	bool counts;	     /* its elements are the kernel's, which counts by them */
};

/* Addresses of resolvers that have been seen inside a tunnel (design.md section 4). */
struct pins {
	struct addr *addrs; /* owned by whoever made it; sorted by addr_cmp() */
	size_t len;
};

bool pins_has(const struct pins *pins, const struct addr *addr);

/* Bytes of one field in a key, without padding. */
size_t field_len(enum field field);

/* From so many elements on a set is large. */
#define RULESET_LARGE 1024

/*
 * For how many elements the kernel makes the set; 0: for as many as come.  One that
 * is made for a number never grows its hash table: it takes half the time to fill,
 * and shows all its elements at once.  It is full then, and made anew.
 */
uint32_t set_size(const struct set *set);

/* Where field number `i` of the set starts in its key, in bytes. */
size_t set_field_offset(const struct set *set, size_t i);

/*
 * Fill sets from a validated policy; only those that get elements are made.
 * `ns` may be NULL for table inet; for those of frames it tells which links stand
 * below others: what was approved on those is approved here.
 * 0, or -ENOMEM; in both cases *ret_len sets are there, whose elements the
 * caller frees.  The sets "pause" and "blocked" are always among them, and empty, and so may be "bonded" and "stacked".
 */
int ruleset_build_sets(enum family family, const struct policy *p, const struct pins *pins,
		       const struct netstate *ns, struct set ret_sets[RULESET_MAX_SETS],
		       size_t *ret_len);

/*
 * Fill the set "pause" of a ruleset's sets for `left_ms` from now, or empty it
 * (0); `lapsing` if it has just come to its end.  0 or -ENOMEM.
 */
int ruleset_pause_sets(struct set *sets, size_t n, uint64_t left_ms, bool lapsing);

/*
 * Sort keys of key_len bytes each as memcmp(3) does and keep one of each.
 * Returns how many are left.
 */
size_t keys_sort_unique(uint8_t *keys, size_t n, size_t key_len);

#endif
