/* ask.h - questions to the kernel by netlink */
#ifndef ASK_H
#define ASK_H

#include <stdbool.h>

#include <libmnl/libmnl.h>

/* A socket to ask on, one question after the other. */
struct ask {
	struct mnl_socket *nl;
	char *buf;	  /* owned; for what the kernel answers */
	size_t most;	  /* bytes of it that were used */
	unsigned int seq; /* of the last question */
	bool answered;	  /* the last one was; else an error is the socket's */
};

/* To this bus (NETLINK_GENERIC, ...).  0 and something for ask_close(), or -errno. */
int ask_open(struct ask *ret_ask, int bus);

/* Accepts one of all zeros. */
void ask_close(struct ask *a);

/*
 * Send the request, and give every message of the answer to `cb`, which returns as
 * for mnl_cb_run(3); MNL_CB_STOP leaves the rest of a dump unread.  Blocks until
 * the kernel has answered, at most 2 s a message.  0, or the -errno of the kernel,
 * the socket or `cb`, and -EINTR of a dump that changes disturbed; what `cb` was
 * given before that may be a part.
 */
int ask_one(struct ask *a, struct nlmsghdr *request, mnl_cb_t cb, void *data);

/* One question on a socket of its own, to this bus; else the same. */
int ask_kernel(int bus, struct nlmsghdr *request, mnl_cb_t cb, void *data);

/*
 * What the attribute of this type holds, behind a header of that size: NULL where
 * there is none, or it has less than `len` bytes.  Points into the message.
 */
const void *ask_attr(const struct nlmsghdr *nlh, size_t header, uint16_t type, size_t len);

#endif
