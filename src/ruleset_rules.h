/*
 * ruleset_rules.h - rules that several tables have, and how any is written down.  Pure.
 *
 * The part of ruleset.h that stands below its tables; for these only.
 */
#ifndef RULESET_RULES_H
#define RULESET_RULES_H

#include <stdbool.h>

#include "ruleset.h"

/* The ruleset under construction.  The first error sticks and every later call does nothing. */
struct builder {
	struct ruleset *rs;
	const struct policy *policy;
	int err;
	struct rule scratch; /* what calls after an error write into */
};

void rules_add_chain(struct builder *b, const char *name, enum hook hook);

/* The chains of LAN clients: how they are redirected, and what they are refused (ruleset_lan.c). */
void rules_add_lan_chains(struct builder *b);

/* th dport N jump TARGET, for each guarded port: where only what is known to be refused counts */
void rules_add_ports(struct builder *b, const char *target);

/* meta l4proto tcp reject with tcp reset; meta l4proto udp reject with icmpx admin-prohibited */
void rules_add_rejects(struct builder *b, const char *comment);

/* A rule at the end of the chain begun last; its comment is "S<promise> ...".  Never NULL. */
struct rule *__attribute__((format(printf, 4, 5)))
rules_add(struct builder *b, unsigned int promise, enum verdict verdict, const char *comment, ...);
void rules_add_match(struct rule *rule, struct match match);
struct rule *rules_counted(struct rule *rule, bool yes);

/* Whether the ruleset has this set, and which it is. */
bool rules_has_set(const struct builder *b, const char *name, size_t *ret_index);

/* FIELDS @name VERDICT, if there is the set. */
void rules_add_set(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
		   const char *name, const char *comment);

/* To an approved resolver: S5, or S4 behind a tunnel's name in mode both. */
void rules_add_resolvers(struct builder *b, unsigned int promise, bool count);

/* oifname @tunnel VERDICT, and one rule for each prefix. */
void rules_add_tunnels(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
		       const char *target);

/* S2: what stays on this host, by the loopback device or towards a guest. */
void rules_add_insides(struct builder *b, bool count);

/* S2 and S4 for what shows no port, by its link alone. */
void rules_add_by_link(struct builder *b);

/* S2 to S6.  `count` is false where a later hook counts the same packet. */
void rules_add_allowances(struct builder *b, bool count);
void rules_add_log(struct builder *b);

/* Chain "verdict": S2 to S6, and the drop, which is counted. */
void rules_add_verdict_chain(struct builder *b, bool count);

/* th dport != 53 th dport != 853 VERDICT */
struct rule *rules_add_other_port(struct builder *b, enum verdict verdict);

/* What can be seen to have a port, by MATCH_HAS_PORT4 or 6, and goes to another: accept. */
void rules_add_other_traffic(struct builder *b, enum match_kind has_port);

/* meta l4proto udp goto verdict; the same for tcp */
void rules_add_protocols(struct builder *b);

/*
 * Later fragments: goto fragment; `sound`: only where the kernel finds the whole
 * header to be one, for else the bytes of a tag may look like it.
 */
void rules_add_fragments(struct builder *b, bool sound);

/* Mode both, behind a tunnel's name: only approved resolvers. */
void rules_add_approved_chains(struct builder *b);

/*
 * Bytes of the frame at a place: one or two that are equal to a value, which has
 * to be static; none of some; equal but for the bits of a mask.
 */
struct match rules_raw(enum raw_base base, int at, uint8_t len, const uint16_t *value);
struct match rules_raw_none_of(enum raw_base base, int at, const uint16_t *values, uint8_t n);
struct match rules_raw_masked(enum raw_base base, int at, uint8_t len, uint16_t mask,
			      const uint16_t *value);

/* The port of a transport header at a place: any but the guarded ones; this one. */
struct match rules_raw_other_port(enum raw_base base, int at);
struct match rules_raw_port(enum raw_base base, int at, uint16_t port);

/* S11: a counted drop; FIRST [SECOND] goto TARGET. */
void rules_add_drop(struct builder *b, const char *comment);
void rules_add_goto(struct builder *b, struct match first, const struct match *second,
		    const char *target, const char *comment);

#endif
