/* check_find.h - what rtnetlink knows of ways out: gateways, their link-layer addresses, routes of a link */
#ifndef CHECK_FIND_H
#define CHECK_FIND_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

/*
 * All but the last block for some milliseconds, or seconds with very many routes:
 * there is no asking for gateways alone.
 */

typedef void check_gateway_fn(void *ctx, int link, const struct addr *gateway);

/* Every gateway of every route of any table, as often as it is named.  0 or -errno. */
int check_find_gateways(check_gateway_fn *found, void *ctx);

/* The Ethernet address of a neighbour.  0; -ENOENT: not known; another -errno. */
int check_find_mac(int link, const struct addr *neighbour, uint8_t ret_mac[MAC_LEN]);

/*
 * The neighbour that packets of this link to this address are handed to: a
 * gateway, or the address itself.  0; -ENETUNREACH: no route leads there by this
 * link (where IPv4 would take the address to be on the link); another -errno.
 */
int check_find_hop(int link, const struct addr *to, struct addr *ret_hop);

/*
 * The link's hardware type (ARPHRD_*), and whether it has a carrier: without one
 * nothing leaves.  0 or -errno (netdevice(7)).
 */
int check_find_state(const char *link, uint16_t *ret_type, bool *ret_running);

#endif
