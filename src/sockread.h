/* sockread.h - who is connected to which port, and which process holds a tunnel's device */
#ifndef SOCKREAD_H
#define SOCKREAD_H

#include <stdint.h>

#include "text.h"

#define SOCKREAD_NAME 16 /* TASK_COMM_LEN */

struct connection {
	struct addr addr; /* of the other end */
	uint16_t port;	  /* host order */
	uint8_t proto;
	uint32_t inode;
};

/* A process that has a socket, or the device of a tunnel, open. */
struct process {
	int pid;
	char name[SOCKREAD_NAME]; /* chosen by itself: any bytes */
};

/*
 * Call `found` for each connected TCP and UDP socket of this network namespace
 * (sock_diag(7)).  0 or -errno.
 */
typedef void sockread_found_fn(void *ctx, const struct connection *c);
int sockread_connections(sockread_found_fn *found, void *ctx);

/*
 * Walk through /proc: `socket` for each socket that a process has open, by its
 * inode, and `device` for each tun device, by its link's name.  0; -EACCES where
 * some processes were not to be looked at, as all but root's own; -E2BIG past a
 * million open files, when the rest is left out; another -errno.
 */
struct sockread_holder {
	void (*socket)(void *ctx, const struct process *p, uint32_t inode);
	void (*device)(void *ctx, const struct process *p, const char link[IFNAMSIZ]);
	void *ctx;
};
int sockread_processes(const struct sockread_holder *holder);

#endif
