/*
 * rundir.h - the run directory: who may use it, and who holds it
 *
 * Two locks: "lock" is held by a command from reading what is in force until the
 * record of its change is in place; "watch.pid" by a watcher as long as one of
 * its processes lives.
 */
#ifndef RUNDIR_H
#define RUNDIR_H

#include <stdbool.h>

#include "config.h"

#define RUNDIR_PATH	    180	  /* with NUL; a line of inih (200 bytes) must hold it */
#define RUNDIR_LOCK_MS	    10000 /* how long one command waits for another */
#define RUNDIR_READ_LOCK_MS 1000  /* how long a reader waits */

struct rundir {
	char path[RUNDIR_PATH];
	int dir_fd, lock_fd; /* owned; -1: not open, not held */
};

#define RUNDIR_CLOSED ((struct rundir){ .dir_fd = -1, .lock_fd = -1 })

/*
 * Make the directory (mode 0700) if need be, and open it without its lock.
 * 0, or -errno with a text.  A directory that somebody else owns or may write
 * to is refused (-EACCES).
 */
int rundir_open(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR]);

/* Open it for a reader, who makes nothing: -ENOENT if it is not there. */
int rundir_open_read(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR]);

/* Gives back its locks too, but for a claim.  Accepts RUNDIR_CLOSED. */
void rundir_close(struct rundir *rd);

/* Take the lock; waits for another command, limit_ms at most.  0, -EAGAIN or another -errno, with a text. */
int rundir_lock(struct rundir *rd, int limit_ms, char reterr_text[CONFIG_ERR]);
void rundir_unlock(struct rundir *rd);

/*
 * For a reader: wait at most RUNDIR_READ_LOCK_MS for a change to finish, so as
 * not to see rules and record of different moments, and go on without the lock.
 */
void rundir_lock_read(struct rundir *rd);

/* Whether the path still leads to this directory. */
bool rundir_is_in_place(const struct rundir *rd);

/*
 * Be this directory's watcher, until the last copy of *ret_fd is closed (fork(2)
 * makes one).  0; -EBUSY with a text when there is one; another -errno.
 */
int rundir_claim(const struct rundir *rd, int *ret_fd, char reterr_text[CONFIG_ERR]);

/* Write our process id into a claim, ours or one that was passed on. */
void rundir_sign_claim(int fd);

/* Whether somebody is.  Takes nothing, so that asking disturbs nobody. */
bool rundir_is_claimed(const struct rundir *rd);

#endif
