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
struct rule *rules_counted(struct rule *rule, bool yes);

/* S9, S11: the end of a chain, [a sample for the log, and] a counted drop. */
void rules_add_floor(struct builder *b, unsigned int promise, const char *comment);

/*
 * S11, in tables of frames: a counted drop of what the caller makes it match, or the
 * way to one where it is logged; those chains.
 */
struct rule *rules_add_drop(struct builder *b, unsigned int promise, const char *comment);
void rules_add_drop_chains(struct builder *b);

/* goto TARGET */
struct rule *rules_add_goto(struct builder *b, unsigned int promise, const char *target,
			    const char *comment);

/*
 * One more match of a rule, RULE_MAX_MATCHES in all; they return the rule.  The
 * value is that of the kind: a port, a protocol, a family, a type, a set's index, a
 * reqid; 0 for those that have none.
 */
struct rule *rules_match(struct rule *rule, enum match_kind kind, uint32_t value);
struct rule *rules_match_link(struct rule *rule, enum match_kind kind, const struct tunnel *link);

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

/* All that packets which are no name traffic ever meet, but for rare ones. */
void rules_add_other_traffic(struct builder *b);

/* meta l4proto udp goto verdict; the same for tcp */
void rules_add_protocols(struct builder *b);

/*
 * Later fragments: goto fragment; `sound`: only where the kernel finds the whole
 * header to be one, for else the bytes of a tag may look like it.
 */
void rules_add_fragments(struct builder *b, bool sound);

/* Mode both, behind a tunnel's name: only approved resolvers. */
void rules_add_approved_chains(struct builder *b);

/* A place of the frame: AT_NH + 9 is nft's @nh,72,8 as a byte and @nh,72,16 as a word. */
enum { AT_LL = RAW_LINK << 8, AT_NH = RAW_NETWORK << 8, AT_TH = RAW_TRANSPORT << 8 };

/*
 * One more match, of bytes at a place: a byte, or a word of two, that is equal to a
 * value; a byte that is none of some, which have to be static; a word that is no
 * guarded port.  The caller may set mask and differs of the first two.
 */
struct raw *rules_match_byte(struct rule *rule, int at, uint8_t value);
struct raw *rules_match_word(struct rule *rule, int at, uint16_t value);
void rules_match_none_of(struct rule *rule, int at, const uint16_t *values, uint8_t n);
void rules_match_other_port(struct rule *rule, int at);

#endif
