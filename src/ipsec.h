/*
 * ipsec.h - outgoing IPsec policies as links of a netstate
 *
 * The only file that speaks NETLINK_XFRM.
 */
#ifndef IPSEC_H
#define IPSEC_H

struct netstate;
struct policy;

/*
 * Append one link of kind "xfrm", up, for each outgoing IPsec policy that is a
 * tunnel by this policy of ours: named like the tunnel ("ipsec:7" by its reqid,
 * text.h), with a negative index, which no link of the kernel's has.  Those that
 * let packets out as they are (without a template, or with an optional one) do
 * not count.  No rule depends on them, only what is said of tunnels.  Asks nobody
 * where the policy has no such tunnel; else blocks until the kernel has answered,
 * at most 2 s a message, and needs CAP_NET_ADMIN.  Without an answer, or in a kernel without
 * IPsec, there are none.
 */
void ipsec_add_links(const struct policy *p, struct netstate *ns);

#endif
