/* sockread.h - sockets of this network namespace, and which process has which open */
#ifndef SOCKREAD_H
#define SOCKREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

#define SOCKREAD_NAME	  16	/* TASK_COMM_LEN */
#define SOCKREAD_ANYSTATE (~0U) /* of `states` below */

/* --- sockets --- */

struct sockread_query {
	uint8_t family, proto; /* AF_INET or AF_INET6; IPPROTO_TCP or IPPROTO_UDP */
	uint32_t states; /* bits of TCP_ESTABLISHED and the like; UDP's are that or TCP_CLOSE */
	uint16_t source_port; /* host order; 0: every one */
};

/* Addresses as text.h has them: of an IPv6 socket, too, a mapped one is IPv4. */
struct sockread_socket {
	uint8_t family, proto, state;
	bool v6only; /* takes no IPv4, being bound to any address */
	struct addr source, dest;
	uint16_t source_port, dest_port; /* host order */
	uint32_t uid;			 /* as our user namespace has it */
	uint32_t inode;			 /* 0: no process has it open any more */
};

/*
 * Call `found` for each such socket of the network namespace that we are in
 * (sock_diag(7)); blocks until the kernel has told all.  0; -ENOENT where the
 * kernel is built without the protocol or its part of sock_diag; another -errno.
 */
typedef void sockread_socket_fn(void *ctx, const struct sockread_socket *s);
int sockread_sockets(const struct sockread_query *query, sockread_socket_fn *found, void *ctx);

struct connection {
	struct addr addr; /* of the other end */
	uint16_t port;	  /* host order */
	uint8_t proto;
	uint32_t inode;
};

/*
 * Call `found` for each connected TCP and UDP socket of this network namespace.
 * 0 or -errno.
 */
typedef void sockread_found_fn(void *ctx, const struct connection *c);
int sockread_connections(sockread_found_fn *found, void *ctx);

/* --- processes --- */

/* A process that has a socket, or the device of a tunnel, open. */
struct process {
	int pid;
	char name[SOCKREAD_NAME]; /* chosen by itself: any bytes; "" once it has ended */
};

/* What the process of this folder of /proc calls itself; "" once it has ended. */
void sockread_name(int pid_fd, char ret_name[SOCKREAD_NAME]);

/*
 * Walk through /proc, the youngest processes first, as those may end soonest:
 * `socket` for each socket that a process has open and that is `wanted`, by its
 * inode, and `device` for each tun device, by its link's name.  0; -EACCES where
 * some processes were not to be looked at, as all but root's own; -E2BIG past
 * 65536 processes or a million open files, when the rest is left out; another
 * -errno.
 */
struct sockread_holder {
	bool (*wanted)(void *ctx, uint32_t inode);
	void (*socket)(void *ctx, const struct process *p, uint32_t inode);
	void (*device)(void *ctx, const struct process *p, const char link[IFNAMSIZ]); /* or NULL */
	void *ctx;
};
int sockread_processes(const struct sockread_holder *holder);

#endif
