/*
 * reconcile.h - keep the kernel at what was asked for, whatever happens around it
 *
 * What the kernel holds, by state:
 *
 *	OFF	no rules of ours; nothing was asked for
 *	LOCKED	the rules of the record; no tunnel is up
 *	GUARDED	the same; a tunnel is up
 *	STALE	the rules before; a change of them was refused, and is tried again
 *
 * What happens, and what the next packet meets:
 *
 *	links, addresses, routes change	once they are quiet: dump, build, compare, commit
 *					what differs: pins, which only ever narrow, and
 *					chains of links (S11).  Until then: the rules before;
 *					frames leave a new link unjudged
 *	somebody changes our table	at once, at a bounded rate: the rules of the last
 *					look are put back in one transaction.  Until then:
 *					what they left.  Not possible where we own it
 *	events were lost		the same as if links had changed
 *	nothing				now and then the generation is compared, and the rules
 *	a dump or a commit fails	the rules before stand; tried again, later each time
 *	the record cannot be written	a change that was asked for is refused; a pin is in force
 *					and written later.  Killed before that it is
 *					forgotten, until its route is seen again
 *	we are killed			the rules stand, also against others as long as a keeper
 *					holds our socket; the next watcher starts from the record
 */
#ifndef RECONCILE_H
#define RECONCILE_H

#include <stdbool.h>
#include <stdint.h>

#include "apply.h"
#include "follow.h"
#include "fwtxn.h"
#include "fwwatch.h"
#include "netwatch.h"
#include "pace.h"
#include "session.h"
#include "watch_status.h"

struct reconcile {
	struct session ss; /* ss.before: what was asked for, if ss.recorded */
	struct netwatch nw;
	struct fwwatch fw;  /* open only where the table is not owned */
	struct plan plan;   /* of the last look that went well, if `planned` */
	struct fwtxn ready; /* of that plan, where the table is not owned: see undo() */
	bool planned;
	bool can_own;
	unsigned int
		opened; /* times that one of the two was opened: the same number may be another */
	struct debounce links;
	struct backoff retry;
	struct bucket undos, fights;
	struct fwevent undo;			 /* what is to be undone, if undo.touched */
	uint64_t audit_ms, record_ms, undone_ms; /* CLOCK_MONOTONIC; 0: none */
	uint64_t looked_ms;			 /* the same: when the last look began */
	uint64_t skew_ms;			 /* time spent suspended so far */
	uint32_t generation;			 /* after the last look; 0: not known */
	unsigned int audits;
	struct follow follow;
	struct watch_status status;
};

/*
 * Open everything, read what was asked for.  `fd` is the socket of a watcher
 * before this one, or -1.  0, or -errno with a text and nothing to close.
 */
int reconcile_open(struct reconcile *rc, const char *run_dir, int fd, char reterr_text[CONFIG_ERR]);
void reconcile_close(struct reconcile *rc);

/* Descriptors to wait on, -1 for none now; call the function below when one is readable. */
int reconcile_links_fd(const struct reconcile *rc);
int reconcile_rules_fd(const struct reconcile *rc);
void reconcile_read_links(struct reconcile *rc);
void reconcile_read_rules(struct reconcile *rc);

/* When reconcile_run() has something to do; CLOCK_MONOTONIC, PACE_NEVER for never. */
uint64_t reconcile_due(const struct reconcile *rc);

/* Do what is due.  Blocks for what the kernel is asked only. */
void reconcile_run(struct reconcile *rc);

/*
 * Make the record that a command has prepared be in force, or have the kernel
 * validate it.  As session_commit() and session_check().
 */
int reconcile_commit(struct reconcile *rc, char reterr_text[CONFIG_ERR]);
int reconcile_check(struct reconcile *rc, char reterr_text[CONFIG_ERR]);

/* Lower the guard.  As session_remove(). */
int reconcile_remove(struct reconcile *rc, char reterr_text[CONFIG_ERR]);

/* Write the record again where it belongs: the run directory was lost.  0 or -errno with a text. */
int reconcile_record(struct reconcile *rc, char reterr_text[CONFIG_ERR]);

/* What a watcher tells of itself, as far as it is known here. */
void reconcile_status(const struct reconcile *rc, struct watch_status *ret_status);

#endif
