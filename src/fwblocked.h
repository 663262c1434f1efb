/* fwblocked.h - what the kernel has counted of blocked packets, by link and port */
#ifndef FWBLOCKED_H
#define FWBLOCKED_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

struct fwsock;
struct fwtables;

struct fwblocked {
	char link[IFNAMSIZ];
	uint16_t port; /* host order */
	uint64_t packets, bytes;
};

/*
 * Read the sets RULESET_BLOCKED of the tables that are there, and add up what is of
 * one link and port.  0 and a list for free(3), sorted by link and port, or -errno
 * and nothing to free, as fwsock_query() has it.  A set that goes away meanwhile has
 * counted nothing.
 */
int fwblocked_read(struct fwsock *fs, const struct fwtables *tables, struct fwblocked **ret_list,
		   size_t *ret_len);

#endif
