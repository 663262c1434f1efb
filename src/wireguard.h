/* wireguard.h - where WireGuard's links send their packets: the kernel's, and user-space ones */
#ifndef WIREGUARD_H
#define WIREGUARD_H

#include "config.h"
#include "netstate.h"
#include "policy.h"

/*
 * Call `found` for each peer of this link whose address is known.  Of the kernel
 * by generic netlink (linux/wireguard.h), of wireguard-go and its like by the
 * socket that wg(8) uses (https://www.wireguard.com/xplatform/).  Blocks some
 * seconds at most.  0, also for a link that is not WireGuard's; -EPERM or -EACCES
 * to all but root; another -errno.
 */
typedef void wireguard_found_fn(void *ctx, const struct link *link, const struct endpoint *peer);
int wireguard_read_peers(const struct link *link, wireguard_found_fn *found, void *ctx);

#endif
