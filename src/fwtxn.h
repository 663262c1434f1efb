/*
 * fwtxn.h - one transaction: messages gathered in one buffer, sent by one sendmsg()
 *
 * Build it with the calls below; an error sticks and shows at the end.  All
 * take effect together, at fwtxn_commit(), or none does.
 */
#ifndef FWTXN_H
#define FWTXN_H

#include <stddef.h>
#include <stdint.h>

#include "ruleset.h"

struct fwsock;

#ifndef ERESTART /* the kernel's own, missing from user space (include/linux/errno.h) */
#define ERESTART 85
#endif

/* Missing from older headers than the kernel (include/uapi/linux/netfilter/nf_tables.h). */
#define FWTXN_TABLE_OWNER   0x2u
#define FWTXN_TABLE_PERSIST 0x4u
#define FWTXN_TABLE_OWNED   (FWTXN_TABLE_OWNER | FWTXN_TABLE_PERSIST)

#define FWTXN_NOTE 128

/* What one message was for, to name it when the kernel refuses it. */
struct fwtxn_note {
	uint32_t seq;
	enum family family;
	char text[FWTXN_NOTE];
};

struct fwtxn {
	const char *table;  /* what the messages are about; RULESET_TABLE */
	enum family family; /* and of which family; FAMILY_INET */
	uint8_t *buf;	    /* owned; the messages, without batch begin's place at the front */
	size_t len, room;
	struct fwtxn_note *notes; /* owned; one a message, in order */
	size_t notes_len, notes_room;
	uint32_t seq;
	int err; /* 0, or -errno: the first failure while building */
};

/* Why a transaction was refused. */
struct fwtxn_fail {
	enum family family;
	char what[FWTXN_NOTE]; /* the message the kernel refused first, or "" */
	char reason[128];      /* its own words (extended ack), or "" */
};

/* An empty transaction; the first allocation happens with the first message. */
void fwtxn_init(struct fwtxn *t);
void fwtxn_fini(struct fwtxn *t);

/* Number of messages so far.  0: nothing to do. */
size_t fwtxn_len(const struct fwtxn *t);

/* Flags NFT_TABLE_F_*; of a table that is there it only changes them. */
void fwtxn_add_table(struct fwtxn *t, uint32_t flags);
void fwtxn_del_table(struct fwtxn *t, const char *table);
void fwtxn_add_chain(struct fwtxn *t, const struct chain *chain);
void fwtxn_del_chain(struct fwtxn *t, const char *chain);
void fwtxn_flush_chain(struct fwtxn *t, const char *chain);
void fwtxn_add_rule(struct fwtxn *t, const struct ruleset *rs, const struct chain *chain,
		    const struct rule *rule);
void fwtxn_add_counter(struct fwtxn *t, const char *name);
/* The object RULESET_NO_OFFLOAD. */
void fwtxn_add_no_offload(struct fwtxn *t);
void fwtxn_del_object(struct fwtxn *t, const char *name, uint32_t type);
void fwtxn_add_set(struct fwtxn *t, const struct set *set);
void fwtxn_flush_set(struct fwtxn *t, const char *name);
void fwtxn_del_set(struct fwtxn *t, const char *name);

/* Keys of key_len bytes each, as struct set holds them; with a timeout, 0 for none. */
void fwtxn_add_elems(struct fwtxn *t, const char *set, const uint8_t *keys, size_t n,
		     size_t key_len, uint64_t timeout_ms);
void fwtxn_del_elems(struct fwtxn *t, const char *set, const uint8_t *keys, size_t n,
		     size_t key_len);

/* nf_tables' number for a hook of the family (linux/netfilter.h and others); 0 for HOOK_NONE. */
uint32_t fwtxn_hook(enum family family, enum hook hook);

/* The type of a base chain there, as nf_tables names it. */
const char *fwtxn_chain_type(enum hook hook);

/* nf_tables' number for a set's key type (nft's datatype.h: 6 bits a field). */
uint32_t fwtxn_key_type(const struct set *set);

/* NFT_SET_* of a set. */
uint32_t fwtxn_set_flags(const struct set *set);

/*
 * Send the transaction.  With a generation other than 0 the kernel takes it
 * only if no commit came between (-ERESTART; read again and build anew).
 * Blocks for the commit only.
 *
 * 0: committed.  -errno: refused, nothing changed, *reterr_fail says what and
 * why.  -ENOBUFS, -EBADMSG, -EIO: answers were lost, the outcome is unknown and the
 * caller has to read the table.
 */
int fwtxn_commit(struct fwsock *fs, struct fwtxn *t, uint32_t generation,
		 struct fwtxn_fail *reterr_fail);

/* The same, but the kernel only validates it and commits nothing. */
int fwtxn_validate(struct fwsock *fs, struct fwtxn *t, struct fwtxn_fail *reterr_fail);

#endif
