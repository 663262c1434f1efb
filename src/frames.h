/*
 * frames.h - which links are judged at the device, and which stand below which.  Pure.
 *
 * What leaves through a link that stands on others leaves through those as
 * well: a packet of br0 is a frame of eth0, its port.  What was approved for
 * the upper one must pass the lower one.
 */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>

struct link;
struct netstate;
struct policy;

/* What a link is to the rules at devices (S11). */
enum frames_role {
	FRAMES_ROLE_GUARDED,  /* gets a chain */
	FRAMES_ROLE_LOOPBACK, /* what leaves there stays on the host (S2) */
	FRAMES_ROLE_TUNNEL,   /* what leaves there is let go (S4) */
	FRAMES_ROLE_INSIDE,   /* it leads to guests, as the user said (S2) */
	FRAMES_ROLE_CARRIER,  /* a tunnel stands on it, and its packets are seen here as they are */
};

enum frames_role frames_role(const struct policy *p, const struct netstate *ns,
			     const struct link *link);

/* Whether a packet of `upper` is seen at `lower` as it is, only with other headers around it. */
bool frames_is_below(const struct netstate *ns, const struct link *upper, const struct link *lower);

/* Whether two tags may be put on what leaves here, by a VLAN's link on another. */
bool frames_is_stacked(const struct netstate *ns, const struct link *link);

/* Whether a bond, or what is like one, forgets a packet's route before this link sees it. */
bool frames_is_bonded(const struct netstate *ns, const struct link *link);

#endif
