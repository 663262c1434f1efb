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

#include "fwread.h"
#include "fwsock.h"
#include "state.h"

struct apply_report;
struct plan;

#define SESSION_WATCHER_MS 60000 /* a transaction of 131,072 addresses takes a second or two */

struct session {
	struct rundir rundir;
	struct fwsock fs;
	struct state before;	  /* what was in force; empty where nothing was */
	bool recorded;		  /* before was read from the run directory */
	bool guarded;		  /* the kernel has our table */
	bool ownable;		  /* and it is, or was, owned: so the kernel can do that */
	struct parts parts;	  /* what the kernel is known to have, by what is in force */
	enum fragments fragments; /* how it keeps S9 */
	bool own;		  /* make the table owned by this session's socket */
	bool guess;		  /* whether the kernel can do all that the plan asks for */
	struct fwknown known;	  /* of what is in force, until the next commit */
	struct ruleset *held;	  /* owned; where a command has it from, or NULL */
	bool watched;		  /* a watcher has answered: it commits, and this session asks it */
};

/*
 * Take the lock (blocks, at most RUNDIR_LOCK_MS), open the socket, finish what a
 * killed command left, and read what is in force.  0, or -errno with a text
 * and nothing to close.
 */
int session_open(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR]);
void session_close(struct session *ss);

/* The same without reading: for `disable`, which no broken record shall keep from its work. */
int session_open_unread(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR]);

/*
 * The same for a watcher, which holds no lock while it waits, and whose socket
 * `fd` may be that of one before it (-1: a new one; taken also on failure).
 * Where a command holds the lock, that command's record is left to it.
 */
int session_open_watch(struct session *ss, const char *run_dir, int fd,
		       char reterr_text[CONFIG_ERR]);

/* How this session commits a policy, as far as ownership goes: of enum apply_flag. */
unsigned int session_apply_flags(const struct session *ss, const struct policy *p);

/*
 * Commit the plan, and make `after` the record of it; or have the watcher do
 * so, where one runs.  Blocks for the commit, at most SESSION_WATCHER_MS.
 * 0, or 1 with a text: it is in force, but see apply_commit().  -errno with a
 * text: the rules and the record before are; but for -EBUSY, when somebody else
 * changes the rules again and again, and the record is that of the plan.
 */
int session_commit(struct session *ss, struct plan *plan, const struct state *after,
		   char reterr_text[CONFIG_ERR]);

/* Forget the flows that the policy would judge anew; says so once, in a line, where it cannot. */
void session_forget_flows(const struct policy *p);

/* The same, but never through a watcher: for itself.  The report (apply.h) may be NULL. */
int session_commit_here(struct session *ss, struct plan *plan, const struct state *after,
			struct apply_report *ret_report, char reterr_text[CONFIG_ERR]);

/* The same up to the commit, which the kernel validates and forgets; the record stays. */
int session_check(struct session *ss, const struct plan *plan, const struct state *after,
		  char reterr_text[CONFIG_ERR]);

/*
 * Remove the rules, then the record; through a watcher where one runs, or never.
 * 0, or -errno with a text: the rules stand, or only the record does.
 */
int session_remove(struct session *ss, char reterr_text[CONFIG_ERR]);
int session_remove_here(struct session *ss, char reterr_text[CONFIG_ERR]);

#endif
