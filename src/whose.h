/* whose.h - whose packet it was: its socket, by sock_diag(7), and who has that open, by /proc */
#ifndef WHOSE_H
#define WHOSE_H

#include "blocked.h"

#define WHOSE_AT_ONCE 64 /* sockets that are looked for by one walk through /proc */

/*
 * Fill in program and pid of what this host's programs sent, where they are
 * certain: exactly one socket could have sent the packet (or several of one
 * program), and the processes that have it open all go by one name (the pid is
 * 0 where they are several).  The others are left alone: their socket is closed
 * by now, another namespace's, a packet socket, or not to be looked at without
 * CAP_SYS_PTRACE.  To be called at once: what ends before is not found.  Takes
 * as long as a walk through /proc, whatever n, which is at most WHOSE_AT_ONCE.
 */
void whose_find(struct blocked *blocked, size_t n);

#endif
