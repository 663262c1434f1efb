/*
 * ruleset_odd.h - chains for frames that are not what their sender calls them, or wrapped.  Pure.
 *
 * The part of the tables netdev and bridge that reads bytes at fixed places; for
 * ruleset_frames.c only.
 */
#ifndef RULESET_ODD_H
#define RULESET_ODD_H

#include <stdint.h>

#include "ruleset.h"

struct builder;

/* Chain "odd", for what is not called IP; "misnamed", for what is and has another version. */
void odd_add_chains(struct builder *b, const struct parts *parts);

/*
 * Rules for what met the verdict above, as a whole: it came by this host's IP
 * stack.  A packet of a packet socket, and a frame that a bridge hands on, has no
 * route.  (One of a macvlan's own stack has: strict trusts nobody.)
 */
void odd_add_own_rules(struct builder *b, const struct parts *parts, enum verdict verdict,
		       const char *target);

/*
 * The same of a packet that is IP, and has a tag that is not in the way: so the
 * kernel put it there, below a VLAN's link, whose own chain has seen it.
 */
void odd_add_tagged_rules(struct builder *b, enum verdict verdict, const char *target);

/*
 * A rule before a verdict: what leaves through a PPP link with a route gets
 * RULESET_STAMP, by which chain odd knows it below, in PPPoE.
 */
void odd_add_stamp(struct builder *b, const struct parts *parts);

/* UDP, TCP. */
extern const uint16_t odd_protos[2];

/* What an IPv6 next header may be that hides a port: those, and what may stand before them. */
uint8_t odd_hiding6(const struct policy *p, const uint16_t **ret_list);

#endif
