/*
 * ipsec.h - outgoing IPsec policies: as data, and as links of a netstate
 *
 * The only file that speaks NETLINK_XFRM.
 */
#ifndef IPSEC_H
#define IPSEC_H

#include <stdbool.h>
#include <stdint.h>

#include "text.h"

struct netstate;
struct policy;

/* What an outgoing policy protects; it never lets a packet go as it is. */
struct ipsec_policy {
	uint32_t reqid; /* of its first template; 0: none */
	struct addr dst;
	unsigned int bits; /* dst's prefix; 0: everything */
	bool whole;	   /* all packets to there, whatever their protocol, port, mark or device */
};

/*
 * Call `found` for each outgoing policy that lets packets out under its
 * protection alone: not for one without a template, or with an optional one.
 * It returns 0, or -errno, which ends the reading.  Blocks until the kernel has
 * answered, at most 2 s a message.  0, -EPERM without CAP_NET_ADMIN, -EINTR when
 * policies changed meanwhile, or another -errno.
 */
typedef int ipsec_found_fn(void *ctx, const struct ipsec_policy *policy);
int ipsec_read(ipsec_found_fn *found, void *ctx);

/*
 * Append one link of kind "xfrm", up, for each outgoing IPsec policy that is a
 * tunnel by this policy of ours: named like the tunnel ("ipsec:7" by its reqid,
 * text.h), with a negative index, which no link of the kernel's has.  Those that
 * let packets out as they are (without a template, or with an optional one) do
 * not count.  No rule depends on them, only what is said of tunnels.  Asks nobody
 * where the policy has no such tunnel; else as ipsec_read() does.  Without an
 * answer, or in a kernel without IPsec, there are none.
 */
void ipsec_add_links(const struct policy *p, struct netstate *ns);

#endif
