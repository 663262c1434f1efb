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
	enum raw_base base;
	uint8_t at;
	const char *ip4, *ip6;
};

static const struct place places[] = {
	{ RAW_LINK, ETHER_LEN, "ip4_at_14", "ip6_at_14" },	      /* called something else */
	{ RAW_LINK, ETHER_LEN + VLAN_LEN, "ip4_at_18", "ip6_at_18" }, /* one tag */
	{ RAW_LINK, ETHER_LEN + 2 * VLAN_LEN, "ip4_at_22", "ip6_at_22" }, /* two tags, or PPPoE */
	{ RAW_LINK, ETHER_LEN + VLAN_LEN + PPPOE_LEN, "ip4_at_26", "ip6_at_26" },
	{ RAW_LINK, ETHER_LEN + 2 * VLAN_LEN + PPPOE_LEN, "ip4_at_30", "ip6_at_30" },
	{ RAW_LINK, ETHER_LEN + PPPOE_LEN - 1, "ip4_at_21", "ip6_at_21" },
	{ RAW_NETWORK, 0, "ip4_bare", "ip6_bare" }, /* a link without headers of its own */
};

enum {
	PLACE_PLAIN,
	PLACE_TAG,
	PLACE_TAGS,
	PLACE_TAG_PPPOE,
	PLACE_TAGS_PPPOE,
	PLACE_PPPOE_SHORT,
	PLACE_BARE
};

#define PLACES (sizeof(places) / sizeof(places[0]))

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
	static const uint16_t plain = 0x45, first = 0; /* version 4, no options; offset 0 */
	static const uint16_t ah = IPPROTO_AH;
	const int at = place->at, proto = at + 9, behind = at + 20;
	struct rule *r;

	rules_add_chain(b, place->ip4, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_add_match(r, rules_raw_none_of(place->base, proto, hiding4,
					     hiding_len(b->policy, hiding4)));
	for (size_t i = 0; i < 2; i++) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_add_match(r, rules_raw(place->base, at, 1, &plain));
		rules_add_match(r, rules_raw(place->base, proto, 1, &odd_protos[i]));
		rules_add_match(r, rules_raw_masked(place->base, at + 6, 2, 0x1fff, &first));
		rules_add_match(r, rules_raw_other_port(place->base, behind));
	}
	if (b->policy->frames == FRAMES_STRICT) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol, authenticated");
		rules_add_match(r, rules_raw(place->base, at, 1, &plain));
		rules_add_match(r, rules_raw(place->base, proto, 1, &ah));
		rules_add_match(r, rules_raw_none_of(place->base, behind, odd_protos, 2));
	}
	rules_add_drop(b, "a name query, or one could hide here");
}

static void add_ip6_chain(struct builder *b, const struct place *place)
{
	const int at = place->at, next = at + 6, behind = at + 40;
	const uint8_t n = hiding_len(b->policy, hiding6);
	struct rule *r;

	rules_add_chain(b, place->ip6, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_add_match(r, rules_raw_none_of(place->base, next, hiding6, n));
	for (size_t i = 0; i < 2; i++) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_add_match(r, rules_raw(place->base, next, 1, &odd_protos[i]));
		rules_add_match(r, rules_raw_other_port(place->base, behind));
	}
	/* Every extension header begins with the next one's number (RFC 8200, 4). */
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol behind one extension header");
	rules_add_match(r, rules_raw_none_of(place->base, next, odd_protos, 2));
	rules_add_match(r, rules_raw_none_of(place->base, behind, hiding6, n));
	rules_add_drop(b, "a name query, or one could hide here");
}

/* What a type or protocol of `base` at `at` leads to. */
static void add_ip_gotos(struct builder *b, const struct match *before, int at, uint8_t len,
			 const uint16_t types[2], const struct place *place, const char *comment)
{
	for (size_t i = 0; i < 2; i++) {
		const struct match type = rules_raw(RAW_LINK, at, len, &types[i]);

		rules_add_goto(b, before ? *before : type, before ? &type : NULL,
			       i ? place->ip6 : place->ip4, comment);
	}
}

static const uint16_t ip_types[] = { ETHERTYPE_IPV4, ETHERTYPE_IPV6 };
static const uint16_t ppp_types[] = { PPP_IPV4, PPP_IPV6 };
static const uint16_t pppoe_type = ETHERTYPE_PPPOE;

/* Those that the kernel knows, and takes off and puts on by itself. */
static const uint16_t tag_types[] = { ETHERTYPE_VLAN, ETHERTYPE_SVLAN };

#define TAGS (sizeof(tag_types) / sizeof(tag_types[0]))

static void add_tag_gotos(struct builder *b, int at, const char *target)
{
	static const uint16_t old_tag = ETHERTYPE_OLDVLAN;

	for (size_t i = 0; i < TAGS; i++)
		rules_add_goto(b, rules_raw(RAW_LINK, at, 2, &tag_types[i]), NULL, target,
			       "in a VLAN");
	rules_add_goto(b, rules_raw(RAW_LINK, at, 2, &old_tag), NULL, target, "in a VLAN");
}

/* Rules that tell the host's own by the kind of frame count as bridged what has another address. */
static const struct match not_bridged = { .kind = MATCH_NOT_BRIDGED };

static bool trusts_own(const struct builder *b)
{
	return b->rs->family == FAMILY_NETDEV && b->policy->frames != FRAMES_STRICT;
}

static struct rule *add_own_rule(struct builder *b, enum verdict verdict, const char *target,
				 const char *comment)
{
	struct rule *r = rules_add(b, 8, verdict, "%s", comment);

	r->target = target;
	return r;
}

void odd_add_own_rules(struct builder *b, const struct parts *parts, enum verdict verdict,
		       const char *target)
{
	size_t set;
	struct rule *r;

	if (!trusts_own(b))
		return;
	/* meta rtclassid != 4294967295, or meta pkttype host */
	r = add_own_rule(b, verdict, target, "decided above");
	rules_add_match(r, parts->route == PART_HAS ? (struct match){ .kind = MATCH_ROUTED } :
						      not_bridged);
	if (parts->route != PART_HAS || !rules_has_set(b, "bonded", &set))
		return;
	/* oifname @bonded meta pkttype host: a bond takes routes off */
	r = add_own_rule(b, verdict, target, "decided above the bond");
	rules_add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
	rules_add_match(r, not_bridged);
}

void odd_add_stamp(struct builder *b, const struct parts *parts)
{
	const uint16_t ppp = 512; /* ARPHRD_PPP, linux/if_arp.h */
	struct rule *r;

	if (!trusts_own(b) || parts->route != PART_HAS)
		return;
	/* meta oiftype 512 meta rtclassid != 4294967295 meta priority set 6c67:0 */
	r = rules_add(b, 8, VERDICT_STAMP, "for the link below PPP");
	rules_add_match(r, (struct match){ .kind = MATCH_OIFTYPE, .port = ppp });
	rules_add_match(r, (struct match){ .kind = MATCH_ROUTED });
}

void odd_add_tagged_rules(struct builder *b, enum verdict verdict, const char *target)
{
	for (size_t i = 0; trusts_own(b) && i < TAGS; i++) {
		/* @ll,96,16 0x8100 meta pkttype host */
		struct rule *r = add_own_rule(b, verdict, target, "decided above the VLAN");

		rules_add_match(r, rules_raw(RAW_LINK, ETHER_LEN - 2, 2, &tag_types[i]));
		rules_add_match(r, not_bridged);
	}
}

/*
 * The same of what is not called IP: PPPoE in a tag, and a tag in a tag where the
 * host has such links.  (A frame that is called by its tag has that in itself.)
 */
static void add_own_tag_rules(struct builder *b)
{
	const struct match pppoe = rules_raw(RAW_LINK, ETHER_LEN + VLAN_LEN - 2, 2, &pppoe_type);
	const struct match tag = rules_raw(RAW_LINK, ETHER_LEN + VLAN_LEN - 2, 2, &tag_types[0]);
	size_t set;
	struct rule *r;

	if (!trusts_own(b))
		return;
	/* meta protocol 0x8864 @ll,128,16 0x8864 meta pkttype host accept */
	r = add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above PPPoE and the VLAN");
	rules_add_match(r, (struct match){ .kind = MATCH_PROTOCOL, .port = ETHERTYPE_PPPOE });
	rules_add_match(r, pppoe);
	rules_add_match(r, not_bridged);
	if (!rules_has_set(b, "stacked", &set))
		return;
	/* oifname @stacked meta protocol 8021q @ll,128,16 0x8100 meta pkttype host accept */
	r = add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above the VLANs");
	rules_add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
	rules_add_match(r, (struct match){ .kind = MATCH_PROTOCOL, .port = ETHERTYPE_VLAN });
	rules_add_match(r, tag);
	rules_add_match(r, not_bridged);
}

static void add_tag_chains(struct builder *b)
{
	const int type = ETHER_LEN + VLAN_LEN - 2;
	const struct match pppoe = rules_raw(RAW_LINK, type, 2, &pppoe_type);
	const struct match inner_pppoe = rules_raw(RAW_LINK, type + VLAN_LEN, 2, &pppoe_type);

	rules_add_chain(b, "tag", HOOK_NONE);
	add_own_tag_rules(b);
	add_ip_gotos(b, NULL, type, 2, ip_types, &places[PLACE_TAG], "in a VLAN");
	add_ip_gotos(b, &pppoe, type + PPPOE_LEN, 2, ppp_types, &places[PLACE_TAG_PPPOE],
		     "in PPPoE in a VLAN");
	add_tag_gotos(b, type, "tags");

	rules_add_chain(b, "tags", HOOK_NONE);
	add_ip_gotos(b, NULL, type + VLAN_LEN, 2, ip_types, &places[PLACE_TAGS],
		     "in a VLAN in a VLAN");
	add_ip_gotos(b, &inner_pppoe, type + VLAN_LEN + PPPOE_LEN, 2, ppp_types,
		     &places[PLACE_TAGS_PPPOE], "in PPPoE in two VLANs");
}

/*
 * PACKET_QDISC_BYPASS leaves a frame's link header unset (packet_direct_xmit()), so
 * that no rule can read it.  VERDICT is of those that can be read.
 */
static void add_readable_rules(struct builder *b, enum verdict verdict, const char *target)
{
	static const uint16_t bits[] = { 0, 1 };

	for (size_t i = 0; i < 2; i++) {
		struct rule *r = rules_add(b, 1, verdict, "can be read");

		r->target = target;
		rules_add_match(r, rules_raw_masked(RAW_LINK, 0, 1, 1, &bits[i]));
	}
}

/* ARPHRD_ETHER, linux/if_arp.h */
static const struct match on_ethernet = { .kind = MATCH_OIFTYPE, .port = 1 };

/* Called IP by its sender, and is not: what has a link header tells what it is. */
static void add_misnamed_chain(struct builder *b)
{
	rules_add_chain(b, "misnamed", HOOK_NONE);
	add_readable_rules(b, VERDICT_GOTO, "odd");
	rules_add_match(rules_counted(rules_add(b, 11, VERDICT_DROP, "cannot be read"), true),
			on_ethernet);
	rules_add(b, 11, VERDICT_GOTO, "on a link without a header")->target = "odd";
}

/* An IP header at the network header that is of a name query beyond doubt. */
static void add_exact_drops(struct builder *b)
{
	static const uint16_t plain = 0x45, version6 = 0x60;

	for (size_t i = 0; i < 2; i++) {
		/* @nh,0,8 0x45 @nh,72,8 17 @nh,176,16 53 drop */
		for (size_t k = 0; k < b->rs->ports_len; k++) {
			struct rule *r = rules_add(b, 11, VERDICT_DROP, "a name query");

			rules_counted(r, true);
			rules_add_match(r, on_ethernet);
			rules_add_match(r, rules_raw(RAW_NETWORK, 0, 1, &plain));
			rules_add_match(r, rules_raw(RAW_NETWORK, 9, 1, &odd_protos[i]));
			rules_add_match(r, rules_raw_port(RAW_NETWORK, 20, b->policy->ports[k]));
			r = rules_add(b, 11, VERDICT_DROP, "a name query");
			rules_counted(r, true);
			rules_add_match(r, on_ethernet);
			rules_add_match(r, rules_raw_masked(RAW_NETWORK, 0, 1, 0xf0, &version6));
			rules_add_match(r, rules_raw(RAW_NETWORK, 6, 1, &odd_protos[i]));
			rules_add_match(r, rules_raw_port(RAW_NETWORK, 40, b->policy->ports[k]));
		}
	}
}

/*
 * What is not called IP and cannot be read.  Fieldbuses are driven that way: only
 * strict drops all of it, but ARP.
 */
static void add_unread_rules(struct builder *b)
{
	static const uint16_t ether = 0, type = 0x08, lengths = 0x0604;
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
	rules_add_match(r, rules_raw(RAW_NETWORK, 0, 1, &ether));
	rules_add_match(r, rules_raw(RAW_NETWORK, 2, 1, &type));
	rules_add_match(r, rules_raw(RAW_NETWORK, 4, 2, &lengths));
	r = rules_counted(rules_add(b, 11, VERDICT_DROP, "cannot be read, and is not called IP"),
			  true);
	rules_add_match(r, on_ethernet);
}

static void add_odd_chain(struct builder *b, const struct parts *parts)
{
	/* ARPHRD_NONE, ARPHRD_RAWIP: linux/if_arp.h */
	static const uint16_t bare[] = { 0xfffe, 519 }, versions[] = { 0x40, 0x60 };
	const struct match pppoe = rules_raw(RAW_LINK, ETHER_LEN - 2, 2, &pppoe_type);

	rules_add_chain(b, "odd", HOOK_NONE);
	rules_add_by_link(b);
	odd_add_own_rules(b, parts, VERDICT_ACCEPT, NULL);
	/* meta priority 6c67:0 accept */
	if (trusts_own(b) && parts->route == PART_HAS)
		rules_add_match(add_own_rule(b, VERDICT_ACCEPT, NULL, "decided above PPP"),
				(struct match){ .kind = MATCH_STAMPED });
	add_ip_gotos(b, NULL, ETHER_LEN - 2, 2, ip_types, &places[PLACE_PLAIN],
		     "called something else by its sender");
	add_tag_gotos(b, ETHER_LEN - 2, "tag");
	add_ip_gotos(b, &pppoe, ETHER_LEN - 2 + PPPOE_LEN, 2, ppp_types, &places[PLACE_TAGS],
		     "in PPPoE");
	add_ip_gotos(b, &pppoe, ETHER_LEN - 2 + PPPOE_LEN, 1, ppp_types, &places[PLACE_PPPOE_SHORT],
		     "in PPPoE, its protocol in one byte");
	for (size_t i = 0; i < 4; i++) {
		const struct place *place = &places[PLACE_BARE];
		const struct match version =
			rules_raw_masked(RAW_NETWORK, 0, 1, 0xf0, &versions[i % 2]);

		rules_add_goto(b, (struct match){ .kind = MATCH_OIFTYPE, .port = bare[i / 2] },
			       &version, i % 2 ? place->ip6 : place->ip4,
			       "called something else by its sender");
	}
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
