/* fwprobe.h - which optional parts of nf_tables this kernel has */
#ifndef FWPROBE_H
#define FWPROBE_H

#include <errno.h>
#include <stdbool.h>

#include "ruleset.h"

#define FWPROBE_ENOWAY ENOPROTOOPT

struct fwsock;

/* Parts whose lack has a fallback. */
enum fwprobe_part {
	FWPROBE_DEFRAG4, /* tproxy: reassembly of IPv4 without connection tracking */
	FWPROBE_DEFRAG6, /* the same for IPv6 */
	FWPROBE_CONNTRACK,
	FWPROBE_EGRESS, /* chains at a link's way out */
	FWPROBE_BRIDGE, /* tables of the bridge family */
	FWPROBE_ROUTE,	/* there, to ask whether a packet has a route */
};

/*
 * Have the kernel validate one rule that needs the part, in a transaction that
 * is never committed (versions are not compared).  Needs CAP_NET_ADMIN; loads
 * the kernel module that has the part.  Blocks for an RCU grace period (some 10
 * ms), which the kernel waits for when it throws a transaction away.
 * 0, or -errno: -EPERM; -EOPNOTSUPP without nf_tables or its inet family.
 */
int fwprobe_part(struct fwsock *fs, enum fwprobe_part part, bool *ret_has);

/*
 * Whether a table can be owned and outlive its owner (NFT_TABLE_F_OWNER with
 * NFT_TABLE_F_PERSIST, Linux 6.9).  0 or -errno as above.
 */
int fwprobe_ownership(struct fwsock *fs, bool *ret_has);

/*
 * What the kernel has of what this policy needs: *parts, where it knows already,
 * is believed; the rest is probed, and no more than it must, since a look at
 * conntrack turns it on for a moment.
 * 0; -EOPNOTSUPP as above; -FWPROBE_ENOWAY with the key that asks for more in *reterr_key.
 */
int fwprobe_parts(struct fwsock *fs, const struct policy *p, struct parts *parts,
		  const char **reterr_key);

/* The same of the parts of frames alone. */
int fwprobe_frames(struct fwsock *fs, const struct policy *p, struct parts *parts);

#endif
