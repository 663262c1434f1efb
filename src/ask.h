/* ask.h - one question to the kernel by netlink, on a socket of its own */
#ifndef ASK_H
#define ASK_H

#include <libmnl/libmnl.h>

/*
 * Send the request to this bus (NETLINK_GENERIC, ...) and give every message of
 * the answer to `cb`, as mnl_cb_run(3) does.  Blocks until the kernel has
 * answered, at most 2 s a message.  0, or the -errno of the kernel, the socket or
 * `cb`; what `cb` was given before that may be a part.
 */
int ask_kernel(int bus, struct nlmsghdr *request, mnl_cb_t cb, void *data);

/*
 * What the attribute of this type holds, behind a header of that size: NULL where
 * there is none, or it has less than `len` bytes.  Points into the message.
 */
const void *ask_attr(const struct nlmsghdr *nlh, size_t header, uint16_t type, size_t len);

#endif
