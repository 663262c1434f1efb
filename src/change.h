/*
 * change.h - what the commands that change the rules have in common
 *
 * They print: a summary on stdout, or one line on stderr.
 */
#ifndef CHANGE_H
#define CHANGE_H

#include <stdbool.h>

struct cmdline;
struct session;
struct state;

/* session_open() for this command line.  0, or -errno, and said. */
int change_open(struct session *ss, const struct cmdline *cl);

/*
 * Make `after` be in force, or have the kernel check it (dry_run), through the
 * watcher where one runs.  Where none does and one is wanted, it is left behind;
 * the lock is given up then.  Returns a cmd_exit; what it means has been said, in
 * a line that ends with `more`.
 */
int change_commit(struct session *ss, struct state *after, bool dry_run, const char *more);

/* The cmd_exit of a configuration that could not be read: the user's error, or the machine's. */
int change_exit(int err);

#endif
