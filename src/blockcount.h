/* blockcount.h - how many packets the guard has blocked, by the kernel's counters */
#ifndef BLOCKCOUNT_H
#define BLOCKCOUNT_H

#include <stdint.h>

/*
 * Packets that S7, S9 and S11 have stopped, since the counters were made.
 * 0; -ENOENT where no such counter is there: the guard is not up; -EPERM without
 * CAP_NET_ADMIN; another -errno.
 */
int blockcount_read(uint64_t *ret_packets);

#endif
