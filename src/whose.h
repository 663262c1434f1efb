/* whose.h - whose packet it was: its socket, by sock_diag(7), and who has that open, by /proc */
#ifndef WHOSE_H
#define WHOSE_H

#include "blocked.h"

#define WHOSE_AT_ONCE	 64   /* sockets that are looked for by one walk through /proc */
#define WHOSE_STRANGERS	 64   /* senders that are remembered as no namespace's, */
#define WHOSE_STRANGE_MS 1000 /* and for how long */

/* What is remembered between calls; all zeros to begin with. */
struct whose {
	struct whose_stranger {
		uint8_t mac[MAC_LEN];
		uint64_t until_ms;
	} strangers[WHOSE_STRANGERS];
	size_t next;
};

/*
 * Fill in program and pid where they are certain: exactly one socket could have
 * sent the packet (or several of one program), and the processes that have it
 * open all go by one name (the pid is 0 where they are several).
 *
 * What this namespace's programs sent is looked for here.  What came from
 * elsewhere may be a container's: that is the one network namespace which has a
 * link with the sender's Ethernet address and the source address for its own
 * (a bridged veth, macvlan); its user (as ours has it) is filled in as well, and
 * has_mac set.  It is left alone where several have both, or not all could be
 * looked into (netns.h).
 *
 * The others are left alone: their socket is closed by now, a packet socket, or
 * not to be looked at without CAP_SYS_PTRACE.  To be called at once: what ends
 * before is not found.  Takes as long as a walk through /proc, whatever n, which
 * is at most WHOSE_AT_ONCE, and another one for containers.  0, or -errno where
 * we could not come back from a namespace: the process must end.
 */
int whose_find(struct whose *w, struct blocked *blocked, size_t n);

#endif
