/* fwlate.h - other people's chains that could undo a verdict, for status to warn of */
#ifndef FWLATE_H
#define FWLATE_H

#include <stdbool.h>
#include <stddef.h>

struct fwsock;

struct fwlate {
	char text[200]; /* "chain CHAIN of table FAMILY TABLE, priority N"; safe to print */
};

/*
 * Find base chains at postrouting that run after ours and could still change
 * where a packet goes: their table holds a write to the address or port, a
 * dup, a queue to a program or an unknown xtables target.
 * Fills at most `max`, returns how many, or -errno as fwtable_read().
 * Only for telling the user: nothing is decided by it (S15).
 */
int fwlate_read(struct fwsock *fs, struct fwlate *ret_late, size_t max);

/* Whether anybody has a flowtable, which forwards packets past our hooks.  The same. */
int fwlate_has_flowtable(struct fwsock *fs, bool *ret_has);

#endif
