/*
 * fwwatch.h - nf_tables events: has somebody else touched our tables?
 *
 * Needed only where the table is not owned.  Own commits are told from others'
 * by the port of the socket that made them (nlmsg_pid of the notifications).
 */
#ifndef FWWATCH_H
#define FWWATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "fwsock.h"

#define FWWATCH_WHAT 160 /* a message of a log, with NUL */

struct fwwatch {
	struct fwsock events; /* owned; member of NFNLGRP_NFTABLES, non-blocking */
	bool open;
	bool deaf; /* events are dropped until all that are there have been read */
	/* Of the transaction whose end (NEWGEN) has not been read yet. */
	bool touched; /* and was told of */
	char what[FWWATCH_WHAT];
};

/* A commit by somebody else. */
struct fwevent {
	bool touched;  /* our table, or what is in it */
	bool ended;    /* what follows is known; in part until then */
	bool lost;     /* the kernel dropped events, or cut one short: anything may have happened */
	uint32_t pid;  /* of the process that did it; 0 where the kernel does not say */
	char name[16]; /* its name, cleaned; "" likewise */
	char what[FWWATCH_WHAT]; /* "removal of a rule of chain verdict" */
};

/*
 * Listen.  Needs CAP_NET_ADMIN.  0, or -errno (-EPERM) and nothing to close.
 */
int fwwatch_open(struct fwwatch *fw);
void fwwatch_close(struct fwwatch *fw); /* accepts one of all zeros */
int fwwatch_fd(const struct fwwatch *fw);

/*
 * Read until a commit has touched us, or nothing is left; never blocks.
 * own_port is that of the socket that commits.  1 and an event; 0: nothing of
 * ours (any more); -errno: the socket is broken, open it anew and look.
 *
 * An event comes with the commit's first message, so that it can be undone at
 * once, and again with its last, which tells whose it was.  All of them are
 * there when a commit of our own has ended: the kernel sends them before it
 * lets go of commit_mutex (net/netfilter/nf_tables_api.c, nf_tables_commit()).
 */
int fwwatch_read(struct fwwatch *fw, uint32_t own_port, struct fwevent *ret_event);

#endif
