/*
 * session.h - what one change holds: the lock, the socket, what was in force
 *
 * The order of its steps is what a crash is judged by.  The new record is
 * written and synced before the commit and renamed after it, so that nothing
 * which can fail for want of space is left to do once the kernel has the rules:
 *
 *	killed before the commit	old rules, old record
 *	killed between the two		new rules, old record and the new one beside
 *					it; the next session_open() renames it
 *	killed after			new rules, new record
 */
#ifndef SESSION_H
#define SESSION_H

#include <stdbool.h>

#include "fwsock.h"
#include "state.h"

struct plan;

struct session {
	struct rundir rundir;
	struct fwsock fs;
	struct state before;	  /* what was in force; empty where nothing was */
	bool recorded;		  /* before was read from the run directory */
	bool guarded;		  /* the kernel has our table */
	enum fragments fragments; /* how it keeps S9 */
};

/*
 * Take the lock (blocks, see rundir_open()), open the socket, finish what a
 * killed command left, and read what is in force.  0, or -errno with a text
 * and nothing to close.
 */
int session_open(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR]);
void session_close(struct session *ss);

/*
 * Commit the plan, and make `after` the record of it.
 * 0, or 1 with a text: it is in force, but see apply_commit().  -errno with a
 * text: the rules and the record before are; but for -EBUSY, when somebody else
 * changes the rules again and again, and the record is that of the plan.
 */
int session_commit(struct session *ss, const struct plan *plan, const struct state *after,
		   char reterr_text[CONFIG_ERR]);

#endif
