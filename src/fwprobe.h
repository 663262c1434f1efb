/* fwprobe.h - which optional parts of nf_tables this kernel has */
#ifndef FWPROBE_H
#define FWPROBE_H

#include <errno.h>
#include <stdbool.h>

#include "policy.h"

#define FWPROBE_ENOWAY ENOPROTOOPT

struct fwsock;

/* Parts whose lack has a fallback. */
enum fwprobe_part {
	FWPROBE_DEFRAG4, /* tproxy: reassembly of IPv4 without connection tracking */
	FWPROBE_DEFRAG6, /* the same for IPv6 */
	FWPROBE_CONNTRACK,
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
 * The way for S9 that `wanted` and the kernel allow; probes no more than it
 * must, since a look at conntrack turns it on for a moment.
 * 0; -EOPNOTSUPP as above; -FWPROBE_ENOWAY if the kernel lacks the way asked for.
 */
int fwprobe_fragments(struct fwsock *fs, enum fragments wanted, enum fragments *ret_how);

#endif
