/* netns.h - network namespaces of this machine's other processes, looked at from within */
#ifndef NETNS_H
#define NETNS_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

#define NETNS_MOST    64   /* namespaces looked into at a time */
#define NETNS_MOST_MS 1000 /* and how long that may take */

/*
 * Call `visit` in each network namespace that a process has, by /proc/PID/ns/net
 * (namespaces(7)), but for our own: whatever it asks the kernel there by netlink
 * is about that one.  1: it was called in all; 0: not in all, since there are too
 * many, they took too long or we may not enter them without CAP_SYS_ADMIN; -errno:
 * we could not come back, and must do nothing more.  Those of processes that we
 * may not look at (CAP_SYS_PTRACE) do not count.  For a process of one thread.
 */
typedef void netns_visit_fn(void *ctx);
int netns_visit_others(netns_visit_fn *visit, void *ctx);

/*
 * Call `found` with the Ethernet address of each link of the namespace that we
 * are in.  0 or -errno.
 */
typedef void netns_mac_fn(void *ctx, const uint8_t mac[MAC_LEN]);
int netns_list_macs(netns_mac_fn *found, void *ctx);

/* Whether the namespace that we are in has this address for its own, by its routes. */
bool netns_is_local(const struct addr *addr);

#endif
