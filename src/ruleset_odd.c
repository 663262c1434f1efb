/* Frames that are not what their sender calls them, or wrapped: read at fixed places. */
#include "ruleset_odd.h"

#include <netinet/in.h>

#include "ruleset_rules.h"

enum {
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_IPV6 = 0x86dd,
	ETHERTYPE_VLAN = 0x8100,    /* 802.1Q */
	ETHERTYPE_SVLAN = 0x88a8,   /* 802.1ad */
	ETHERTYPE_OLDVLAN = 0x9100, /* before 802.1ad */
	ETHERTYPE_PPPOE = 0x8864,   /* RFC 2516: 6 bytes, then PPP's protocol */
	PPP_IPV4 = 0x0021,
	PPP_IPV6 = 0x0057,
	ETHER_LEN = 14, /* where an Ethernet header ends; its type is the last two bytes of it */
	VLAN_LEN = 4,
	PPPOE_LEN = 8, /* with PPP's protocol, of which one byte may be left out */
};

/* Where an IP header may stand, and the chains that read it there. */
struct place {
	uint16_t at;
	char ip4[10], ip6[10];
};

enum {
	PLACE_PLAIN,	   /* called something else */
	PLACE_TAG,	   /* one tag */
	PLACE_TAGS,	   /* two tags, or PPPoE */
	PLACE_TAG_PPPOE,   /* PPPoE in a tag */
	PLACE_TAGS_PPPOE,  /* PPPoE in two */
	PLACE_PPPOE_SHORT, /* PPP's protocol in one byte */
	PLACE_BARE,	   /* a link without headers of its own */
};

static const struct place places[] = {
	[PLACE_PLAIN] = { AT_LL + ETHER_LEN, "ip4_at_14", "ip6_at_14" },
	[PLACE_TAG] = { AT_LL + ETHER_LEN + VLAN_LEN, "ip4_at_18", "ip6_at_18" },
	[PLACE_TAGS] = { AT_LL + ETHER_LEN + 2 * VLAN_LEN, "ip4_at_22", "ip6_at_22" },
	[PLACE_TAG_PPPOE] = { AT_LL + ETHER_LEN + VLAN_LEN + PPPOE_LEN, "ip4_at_26", "ip6_at_26" },
	[PLACE_TAGS_PPPOE] = { AT_LL + ETHER_LEN + 2 * VLAN_LEN + PPPOE_LEN, "ip4_at_30",
			       "ip6_at_30" },
	[PLACE_PPPOE_SHORT] = { AT_LL + ETHER_LEN + PPPOE_LEN - 1, "ip4_at_21", "ip6_at_21" },
	[PLACE_BARE] = { AT_NH, "ip4_bare", "ip6_bare" },
};

#define PLACES (sizeof(places) / sizeof(places[0]))

enum { PLAIN4 = 0x45 }; /* version 4, no options */

/* What a next header may be that hides a port: UDP, TCP, and what may stand before them. */
static const uint16_t hiding4[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_AH };
static const uint16_t hiding6[] = { IPPROTO_UDP,     IPPROTO_TCP,      IPPROTO_HOPOPTS,
				    IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS,
				    IPPROTO_AH };

/* AH, the last of each, is looked for by `frames = strict` alone. */
static uint8_t hiding_len(const struct policy *p, const uint16_t *list)
{
	const size_t all = list == hiding4 ? sizeof(hiding4) : sizeof(hiding6);

	return (uint8_t)(all / sizeof(*list) - (p->frames != FRAMES_STRICT));
}

const uint16_t odd_protos[2] = { IPPROTO_UDP, IPPROTO_TCP };

static void add_ip4_chain(struct builder *b, const struct place *place)
{
	const int at = place->at, proto = at + 9, behind = at + 20;
	struct rule *r;

	rules_add_chain(b, place->ip4, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_match_none_of(r, proto, hiding4, hiding_len(b->policy, hiding4));
	for (size_t i = 0; i < 2; i++) {
		/* version 4 without options, UDP, fragment offset 0, another port */
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_match_byte(r, at, PLAIN4);
		rules_match_byte(r, proto, odd_protos[i]);
		rules_match_word(r, at + 6, 0)->mask = 0x1fff;
		rules_match_other_port(r, behind + 2);
	}
	if (b->policy->frames == FRAMES_STRICT) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol, authenticated");
		rules_match_byte(r, at, PLAIN4);
		rules_match_byte(r, proto, IPPROTO_AH);
		rules_match_none_of(r, behind, odd_protos, 2);
	}
	rules_add_floor(b, 11, "a name query, or one could hide here");
}

static void add_ip6_chain(struct builder *b, const struct place *place)
{
	const int next = place->at + 6, behind = place->at + 40;
	const uint8_t n = hiding_len(b->policy, hiding6);
	struct rule *r;

	rules_add_chain(b, place->ip6, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_match_none_of(r, next, hiding6, n);
	for (size_t i = 0; i < 2; i++) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_match_byte(r, next, odd_protos[i]);
		rules_match_other_port(r, behind + 2);
	}
	/* Every extension header begins with the next one's number (RFC 8200, 4). */
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol behind one extension header");
	rules_match_none_of(r, next, odd_protos, 2);
	rules_match_none_of(r, behind, hiding6, n);
	rules_add_floor(b, 11, "a name query, or one could hide here");
}

/* Where a type stands: in front of what it is the type of. */
enum { TYPE = AT_LL + ETHER_LEN - 2, TAG_TYPE = TYPE + VLAN_LEN, TAGS_TYPE = TAG_TYPE + VLAN_LEN };

/* @ll,96,16 0x800 goto ip4_at_14; @ll,96,16 0x86dd goto ip6_at_14 */
static void add_ip_gotos(struct builder *b, int type, size_t place, const char *comment)
{
	rules_match_word(rules_add_goto(b, 11, places[place].ip4, comment), type, ETHERTYPE_IPV4);
	rules_match_word(rules_add_goto(b, 11, places[place].ip6, comment), type, ETHERTYPE_IPV6);
}

/* @ll,96,16 0x8864 @ll,160,16 0x21 goto ip4_at_22; @ll,96,16 0x8864 @ll,160,16 0x57 goto ip6_at_22 */
static void add_pppoe_gotos(struct builder *b, int type, size_t place, const char *comment)
{
	for (size_t i = 0; i < 2; i++) {
		const uint8_t proto = i ? PPP_IPV6 : PPP_IPV4;
		struct rule *r =
			rules_add_goto(b, 11, i ? places[place].ip6 : places[place].ip4, comment);

		rules_match_word(r, type, ETHERTYPE_PPPOE);
		if (place == PLACE_PPPOE_SHORT)
			rules_match_byte(r, type + PPPOE_LEN, proto);
		else
			rules_match_word(r, type + PPPOE_LEN, proto);
	}
}

/* Those that the kernel knows, and takes off and puts on by itself; and one more. */
static const uint16_t tag_types[] = { ETHERTYPE_VLAN, ETHERTYPE_SVLAN, ETHERTYPE_OLDVLAN };

enum { TAGS_KNOWN = 2, TAGS_ALL };

static void add_tag_gotos(struct builder *b, int type, const char *target)
{
	for (size_t i = 0; i < TAGS_ALL; i++)
		rules_match_word(rules_add_goto(b, 11, target, "in a VLAN"), type, tag_types[i]);
}

static bool trusts_own(const struct builder *b)
{
	return b->rs->family == FAMILY_NETDEV && b->policy->frames != FRAMES_STRICT;
}

/* PPP's packets are told on the link below by a stamp. */
static bool stamps_own(const struct builder *b, const struct parts *parts)
{
	return trusts_own(b) && parts->route == PART_HAS;
}

static struct rule *add_own_rule(struct builder *b, enum verdict verdict, const char *target,
				 const char *comment)
{
	struct rule *r = rules_add(b, 8, verdict, "%s", comment);

	r->target = target;
	return r;
}

/*
 * meta pkttype host: rules that tell the host's own by the kind of frame count as
 * bridged what has another address.
 */
static void match_not_bridged(struct rule *r)
{
	rules_match(r, MATCH_NOT_BRIDGED, 0);
}

void odd_add_own_rules(struct builder *b, const struct parts *parts, enum verdict verdict,
		       const char *target)
{
	size_t set;

	if (!trusts_own(b))
		return;
	/* meta rtclassid != 4294967295, or meta pkttype host */
	rules_match(add_own_rule(b, verdict, target, "decided above"),
		    parts->route == PART_HAS ? MATCH_ROUTED : MATCH_NOT_BRIDGED, 0);
	/* oifname @bonded meta pkttype host: a bond takes routes off */
	if (parts->route == PART_HAS && rules_has_set(b, "bonded", &set))
		match_not_bridged(
			rules_match(add_own_rule(b, verdict, target, "decided above the bond"),
				    MATCH_SET, set));
}

void odd_add_stamp(struct builder *b, const struct parts *parts)
{
	const uint16_t ppp = 512; /* ARPHRD_PPP, linux/if_arp.h */

	/* meta oiftype 512 meta rtclassid != 4294967295 meta priority set 6c67:0 */
	if (stamps_own(b, parts))
		rules_match(rules_match(rules_add(b, 8, VERDICT_STAMP, "for the link below PPP"),
					MATCH_OIFTYPE, ppp),
			    MATCH_ROUTED, 0);
}

void odd_add_tagged_rules(struct builder *b, enum verdict verdict, const char *target)
{
	for (size_t i = 0; trusts_own(b) && i < TAGS_KNOWN; i++) {
		/* @ll,96,16 0x8100 meta pkttype host */
		struct rule *r = add_own_rule(b, verdict, target, "decided above the VLAN");

		rules_match_word(r, TYPE, tag_types[i]);
		match_not_bridged(r);
	}
}

/*
 * The same of what is not called IP: PPPoE in a tag, and a tag in a tag where the
 * host has such links.  (A frame that is called by its tag has that in itself.)
 */
static void add_own_tag_rules(struct builder *b)
{
	size_t set;
	struct rule *r;

	if (!trusts_own(b))
		return;
	/* meta protocol 0x8864 @ll,128,16 0x8864 meta pkttype host accept */
	r = add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above PPPoE and the VLAN");
	rules_match(r, MATCH_PROTOCOL, ETHERTYPE_PPPOE);
	rules_match_word(r, TAG_TYPE, ETHERTYPE_PPPOE);
	match_not_bridged(r);
	if (!rules_has_set(b, "stacked", &set))
		return;
	/* oifname @stacked meta protocol 8021q @ll,128,16 0x8100 meta pkttype host accept */
	r = add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above the VLANs");
	rules_match(r, MATCH_SET, set);
	rules_match(r, MATCH_PROTOCOL, ETHERTYPE_VLAN);
	rules_match_word(r, TAG_TYPE, ETHERTYPE_VLAN);
	match_not_bridged(r);
}

static void add_tag_chains(struct builder *b)
{
	rules_add_chain(b, "tag", HOOK_NONE);
	add_own_tag_rules(b);
	add_ip_gotos(b, TAG_TYPE, PLACE_TAG, "in a VLAN");
	add_pppoe_gotos(b, TAG_TYPE, PLACE_TAG_PPPOE, "in PPPoE in a VLAN");
	add_tag_gotos(b, TAG_TYPE, "tags");

	rules_add_chain(b, "tags", HOOK_NONE);
	add_ip_gotos(b, TAGS_TYPE, PLACE_TAGS, "in a VLAN in a VLAN");
	add_pppoe_gotos(b, TAGS_TYPE, PLACE_TAGS_PPPOE, "in PPPoE in two VLANs");
}

/*
 * PACKET_QDISC_BYPASS leaves a frame's link header unset (packet_direct_xmit()), so
 * that no rule can read it.  VERDICT is of those that can be read.
 */
static void add_readable_rules(struct builder *b, enum verdict verdict, const char *target)
{
	/* @ll,0,8 & 0x1 == 0 VERDICT; @ll,0,8 & 0x1 == 0x1 VERDICT */
	for (uint8_t bit = 0; bit < 2; bit++) {
		struct rule *r = rules_add(b, 1, verdict, "can be read");

		r->target = target;
		rules_match_byte(r, AT_LL, bit)->mask = 1;
	}
}

static struct rule *match_ethernet(struct rule *r)
{
	return rules_match(r, MATCH_OIFTYPE, 1); /* ARPHRD_ETHER, linux/if_arp.h */
}

/* Called IP by its sender, and is not: what has a link header tells what it is. */
static void add_misnamed_chain(struct builder *b)
{
	rules_add_chain(b, "misnamed", HOOK_NONE);
	add_readable_rules(b, VERDICT_GOTO, "odd");
	match_ethernet(rules_add_drop(b, 11, "cannot be read"));
	rules_add_goto(b, 11, "odd", "on a link without a header");
}

/* An IP header at the network header that is of a name query beyond doubt. */
static void add_exact_drops(struct builder *b)
{
	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < b->rs->ports_len; k++) {
			/* @nh,0,8 0x45 @nh,72,8 17 @nh,176,16 53 drop */
			struct rule *r = match_ethernet(rules_add_drop(b, 11, "a name query"));

			rules_match_byte(r, AT_NH, PLAIN4);
			rules_match_byte(r, AT_NH + 9, odd_protos[i]);
			rules_match_word(r, AT_NH + 22, b->policy->ports[k]);
			/* @nh,0,8 & 0xf0 == 0x60 @nh,48,8 17 @nh,336,16 53 drop */
			r = match_ethernet(rules_add_drop(b, 11, "a name query"));
			rules_match_byte(r, AT_NH, 0x60)->mask = 0xf0;
			rules_match_byte(r, AT_NH + 6, odd_protos[i]);
			rules_match_word(r, AT_NH + 42, b->policy->ports[k]);
		}
	}
}

/*
 * What is not called IP and cannot be read.  Fieldbuses are driven that way: only
 * strict drops all of it, but ARP.
 */
static void add_unread_rules(struct builder *b)
{
	struct rule *r;

	if (b->rs->family != FAMILY_NETDEV)
		return;
	add_readable_rules(b, VERDICT_RETURN, NULL);
	if (b->policy->frames != FRAMES_STRICT) {
		add_exact_drops(b);
		return;
	}
	/* 0001 0800 0604, and nothing else that is of use; nft would join what is in a row */
	r = rules_add(b, 1, VERDICT_RETURN, "ARP");
	rules_match_byte(r, AT_NH, 0);
	rules_match_byte(r, AT_NH + 2, 0x08);
	rules_match_word(r, AT_NH + 4, 0x0604);
	match_ethernet(rules_add_drop(b, 11, "cannot be read, and is not called IP"));
}

static void add_bare_gotos(struct builder *b)
{
	/* ARPHRD_NONE, ARPHRD_RAWIP: linux/if_arp.h */
	static const uint16_t types[] = { 0xfffe, 519 };

	for (size_t i = 0; i < 4; i++) {
		/* meta oiftype 519 @nh,0,8 & 0xf0 == 0x40 goto ip4_bare */
		struct rule *r =
			rules_add_goto(b, 11,
				       i % 2 ? places[PLACE_BARE].ip6 : places[PLACE_BARE].ip4,
				       "called something else by its sender");

		rules_match(r, MATCH_OIFTYPE, types[i / 2]);
		rules_match_byte(r, AT_NH, i % 2 ? 0x60 : 0x40)->mask = 0xf0;
	}
}

static void add_odd_chain(struct builder *b, const struct parts *parts)
{
	rules_add_chain(b, "odd", HOOK_NONE);
	rules_add_by_link(b);
	odd_add_own_rules(b, parts, VERDICT_ACCEPT, NULL);
	/* meta priority 6c67:0 accept */
	if (stamps_own(b, parts))
		rules_match(add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above PPP"),
			    MATCH_STAMPED, 0);
	add_ip_gotos(b, TYPE, PLACE_PLAIN, "called something else by its sender");
	add_tag_gotos(b, TYPE, "tag");
	add_pppoe_gotos(b, TYPE, PLACE_TAGS, "in PPPoE");
	add_pppoe_gotos(b, TYPE, PLACE_PPPOE_SHORT, "in PPPoE, its protocol in one byte");
	add_bare_gotos(b);
	add_unread_rules(b);
}

uint8_t odd_hiding6(const struct policy *p, const uint16_t **ret_list)
{
	*ret_list = hiding6;
	return hiding_len(p, hiding6);
}

void odd_add_chains(struct builder *b, const struct parts *parts)
{
	add_misnamed_chain(b);
	add_odd_chain(b, parts);
	add_tag_chains(b);
	for (size_t i = 0; i < PLACES; i++) {
		add_ip4_chain(b, &places[i]);
		add_ip6_chain(b, &places[i]);
	}
}
