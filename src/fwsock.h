/* fwsock.h - the nfnetlink socket that everything about nf_tables goes through */
#ifndef FWSOCK_H
#define FWSOCK_H

#include <stddef.h>
#include <stdint.h>

#include <libmnl/libmnl.h>

struct fwsock {
	struct mnl_socket *nl; /* owned; NETLINK_NETFILTER, close-on-exec */
	uint32_t seq;	       /* of the last message sent */
};

#define FWSOCK_BUF 65536 /* a kernel dump's largest datagram is 32 KiB (net/netlink/af_netlink.c) */

/*
 * Open the socket, with extended acks.  0, or -errno; -EPROTONOSUPPORT where
 * the kernel has no netfilter netlink.  Needs no capability: the kernel checks
 * CAP_NET_ADMIN at every message (-EPERM there).
 */
int fwsock_open(struct fwsock *fs);

/*
 * The same around a descriptor that another process opened: a table is owned
 * by the socket, not by whoever made it.  Takes the descriptor, also on failure.
 */
int fwsock_adopt(struct fwsock *fs, int fd);

/* The socket's port: what the kernel calls the owner of a table. */
uint32_t fwsock_port(const struct fwsock *fs);

/* The network namespace it is in, by a number that no other has until reboot; 0: not known. */
uint64_t fwsock_netns(const struct fwsock *fs);

/* Closes it.  Accepts one of all zeros. */
void fwsock_close(struct fwsock *fs);

/*
 * Start a request of this NFT_MSG_ type in `buf` (of FWSOCK_BUF bytes) for the
 * family; the caller appends attributes.
 */
struct nlmsghdr *fwsock_begin(struct fwsock *fs, void *buf, uint16_t type, uint8_t family,
			      uint16_t flags);

/*
 * Send one request and give every message of the answer to `cb`, as
 * mnl_cb_run(3) does.  Blocks until the kernel has answered, at most 5 s.
 * 0; -EINTR when the dump was disturbed by a change (ask again); -EAGAIN when
 * no answer came; or the -errno that the kernel or `cb` gave.
 */
int fwsock_query(struct fwsock *fs, const struct nlmsghdr *request, mnl_cb_t cb, void *data);

/* The ruleset's generation, which counts commits.  0, or -errno as above. */
int fwsock_read_generation(struct fwsock *fs, uint32_t *ret_generation);

/* Words for a -errno of nf_tables' netlink: strerror(3)'s, but for what the user can mend. */
const char *fwsock_strerror(int err);

#endif
