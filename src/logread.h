/* logread.h - what the kernel logs of blocked packets (nflog), as data */
#ifndef LOGREAD_H
#define LOGREAD_H

#include <stdint.h>

#include "blocked.h"

struct mnl_socket;

struct logread {
	struct mnl_socket *nl; /* owned */
	uint16_t group;
	bool has_seq;
	uint32_t seq;  /* of the last message */
	uint64_t lost; /* messages that the socket had no room for */
};

/*
 * Listen to this group from now on.  0 and a reader for logread_close(); or
 * -EPERM without CAP_NET_ADMIN, and where another process listens to the group
 * (the kernel has one word for both: nfnetlink_rcv(), nfulnl_recv_config());
 * -ENOTSUP where the kernel has no nflog, -ENOSYS where the build has none,
 * another -errno.
 */
int logread_open(struct logread *lr, uint16_t group);

/* Readable when something was logged. */
int logread_fd(const struct logread *lr);

/*
 * Fill ret_blocked with what waits, at most `room`; does not block.  How many,
 * 0 when nothing waits, or -errno.  What others log to the group is left out.
 */
int logread_read(struct logread *lr, struct blocked *ret_blocked, size_t room);

/* Accepts one of all zeros. */
void logread_close(struct logread *lr);

#endif
