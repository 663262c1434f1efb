/*
 * daemon.h - the watcher's process: the loop, the control socket, its place in the run directory
 *
 * reconcile decides what to do and when; this wires it to the world.
 */
#ifndef DAEMON_H
#define DAEMON_H

#include <stdbool.h>

struct daemon_options {
	const char *run_dir;
	int fd;		    /* the owning socket, from whoever held it before; -1: none */
	bool until_disable; /* end when the guard is lowered */
	bool held;	    /* a keeper holds `fd` and starts a new one of us */
	bool policy_comes;  /* not ready before a policy was handed over */
};

/*
 * Watch until SIGTERM, SIGINT or, if so asked, the end of the guard.  Drops
 * privileges.  Blocks.  0, or 1 after an error that was logged.  The rules stay
 * in any case.
 */
int daemon_run(const struct daemon_options *options);

#endif
