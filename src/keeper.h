/*
 * keeper.h - the process above the watcher: holds its socket, starts it again
 *
 * A table is owned by a netlink socket, and the socket lives as long as one
 * process has it.  The keeper has it, and a copy goes to each watcher that it
 * starts: killed, the watcher is back within milliseconds and the table was
 * never anybody else's to change.  Killed itself, the watcher goes on.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <sys/types.h>

struct keeper {
	int (*watch)(void *ctx);  /* the watcher; returns its exit status, 0 if it ended as asked */
	int (*start)(void *ctx);  /* run once beside the first watcher; NULL: nothing */
	int (*reload)(void *ctx); /* run at each SIGHUP, beside the watcher */
	void *ctx;
};

/*
 * Run until the watcher ends as asked: SIGTERM and SIGINT ask it.  Each
 * function runs in a child of its own, with default signals.  Blocks.  Returns
 * an exit status: 0; that of the first watcher if it fails at once; or that of
 * `start`, which ends all if it is not 0.
 */
int keeper_run(const struct keeper *k);

/* Names under which it gets what is passed on (notify.h). */
#define KEEPER_SOCKET "nftables" /* the owning socket */
#define KEEPER_CLAIM  "claim"	 /* the run directory's, see rundir_claim() */

/*
 * Leave `leakguard watch --until-disable` for this run directory behind, in a
 * session of its own, with copies of the socket and of the claim.  Returns
 * without waiting for it: its process id, or -errno.
 */
pid_t keeper_spawn(const char *run_dir, int socket_fd, int claim_fd);

#endif
