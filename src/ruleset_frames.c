/* Tables netdev and bridge: what goes round the IP stack (S11). */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "ruleset.h"
#include "ruleset_rules.h"

/*
 * Why RULESET_FRAME_PRIORITY is 400: behind every named priority of both
 * families (srcnat of bridge tables is 300), so that what such chains still
 * write into a frame is seen.
 *
 * A frame of IPv4 or IPv6 is read as in table inet.  One whose sender called it
 * something else, or wrapped it in tags that the kernel does not look into, is
 * read at fixed places (chain odd and those behind it).  Nothing there can be
 * compared with the sets, so nothing is approved; what the host's own links
 * wrap (VLANs on VLANs, PPPoE) met the verdict above them and passes by having
 * a route.
 */

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
	PPPOE_LEN = 8, /* with PPP's protocol */
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
	{ RAW_NETWORK, 0, "ip4_bare", "ip6_bare" }, /* a link without headers of its own */
};

enum { PLACE_PLAIN, PLACE_TAG, PLACE_TAGS, PLACE_TAG_PPPOE, PLACE_BARE };

#define PLACES (sizeof(places) / sizeof(places[0]))

/* What a next header may be that hides a port: UDP, TCP, and what may stand before them. */
static const uint16_t hiding4[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_AH };
static const uint16_t hiding6[] = { IPPROTO_UDP,     IPPROTO_TCP,      IPPROTO_HOPOPTS,
				    IPPROTO_ROUTING, IPPROTO_FRAGMENT, IPPROTO_DSTOPTS,
				    IPPROTO_AH };

/* AH, the last of each, is looked for by `frames = strict` alone. */
static uint8_t hiding_len(const struct builder *b, const uint16_t *list)
{
	const size_t all = list == hiding4 ? sizeof(hiding4) : sizeof(hiding6);

	return (uint8_t)(all / sizeof(*list) - (b->policy->frames != FRAMES_STRICT));
}

static struct match raw(enum raw_base base, int at, uint8_t len, const uint16_t *value)
{
	return (struct match){ .kind = MATCH_RAW,
			       .raw = { .base = base,
					.at = (uint8_t)at,
					.len = len,
					.values = value,
					.values_len = 1 } };
}

static struct match raw_none_of(enum raw_base base, int at, const uint16_t *values, uint8_t n)
{
	struct match m = raw(base, at, 1, values);

	m.raw.values_len = n;
	m.raw.differs = true;
	return m;
}

static struct match raw_masked(enum raw_base base, int at, uint8_t len, uint16_t mask,
			       const uint16_t *value)
{
	struct match m = raw(base, at, len, value);

	m.raw.mask = mask;
	return m;
}

/* Any port but the guarded ones, two bytes behind `at`. */
static struct match raw_other_port(enum raw_base base, int at)
{
	struct match m = raw(base, at + 2, 2, NULL);

	m.raw.differs = true;
	return m;
}

static void add_drop(struct builder *b, const char *comment)
{
	rules_counted(rules_add(b, 11, VERDICT_DROP, "%s", comment), true);
}

static void add_goto(struct builder *b, struct match first, const struct match *second,
		     const char *target, const char *comment)
{
	struct rule *r = rules_add(b, 11, VERDICT_GOTO, "%s", comment);

	r->target = target;
	rules_add_match(r, first);
	if (second)
		rules_add_match(r, *second);
}

/* --- frames that are read at fixed places --- */

static const uint16_t protos[] = { IPPROTO_UDP, IPPROTO_TCP };

static void add_ip4_chain(struct builder *b, const struct place *place)
{
	static const uint16_t plain = 0x45, first = 0; /* version 4, no options; offset 0 */
	static const uint16_t ah = IPPROTO_AH;
	const int at = place->at, proto = at + 9, behind = at + 20;
	struct rule *r;

	rules_add_chain(b, place->ip4, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_add_match(r, raw_none_of(place->base, proto, hiding4, hiding_len(b, hiding4)));
	for (size_t i = 0; i < 2; i++) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_add_match(r, raw(place->base, at, 1, &plain));
		rules_add_match(r, raw(place->base, proto, 1, &protos[i]));
		rules_add_match(r, raw_masked(place->base, at + 6, 2, 0x1fff, &first));
		rules_add_match(r, raw_other_port(place->base, behind));
	}
	if (b->policy->frames == FRAMES_STRICT) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol, authenticated");
		rules_add_match(r, raw(place->base, at, 1, &plain));
		rules_add_match(r, raw(place->base, proto, 1, &ah));
		rules_add_match(r, raw_none_of(place->base, behind, protos, 2));
	}
	add_drop(b, "a name query, or one could hide here");
}

static void add_ip6_chain(struct builder *b, const struct place *place)
{
	const int at = place->at, next = at + 6, behind = at + 40;
	const uint8_t n = hiding_len(b, hiding6);
	struct rule *r;

	rules_add_chain(b, place->ip6, HOOK_NONE);
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_add_match(r, raw_none_of(place->base, next, hiding6, n));
	for (size_t i = 0; i < 2; i++) {
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port");
		rules_add_match(r, raw(place->base, next, 1, &protos[i]));
		rules_add_match(r, raw_other_port(place->base, behind));
	}
	/* Every extension header begins with the next one's number (RFC 8200, 4). */
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol behind one extension header");
	rules_add_match(r, raw_none_of(place->base, next, protos, 2));
	rules_add_match(r, raw_none_of(place->base, behind, hiding6, n));
	add_drop(b, "a name query, or one could hide here");
}

/* What a type or protocol of `base` at `at` leads to. */
static void add_ip_gotos(struct builder *b, const struct match *before, int at,
			 const uint16_t types[2], const struct place *place, const char *comment)
{
	for (size_t i = 0; i < 2; i++) {
		const struct match type = raw(RAW_LINK, at, 2, &types[i]);

		add_goto(b, before ? *before : type, before ? &type : NULL,
			 i ? place->ip6 : place->ip4, comment);
	}
}

static const uint16_t ip_types[] = { ETHERTYPE_IPV4, ETHERTYPE_IPV6 };
static const uint16_t ppp_types[] = { PPP_IPV4, PPP_IPV6 };
static const uint16_t pppoe_type = ETHERTYPE_PPPOE;

static void add_tag_gotos(struct builder *b, int at, const char *target)
{
	static const uint16_t tags[] = { ETHERTYPE_VLAN, ETHERTYPE_SVLAN, ETHERTYPE_OLDVLAN };

	for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
		add_goto(b, raw(RAW_LINK, at, 2, &tags[i]), NULL, target, "in a VLAN");
}

static void add_tag_chains(struct builder *b)
{
	const int type = ETHER_LEN + VLAN_LEN - 2;
	const struct match pppoe = raw(RAW_LINK, type, 2, &pppoe_type);

	rules_add_chain(b, "tag", HOOK_NONE);
	add_ip_gotos(b, NULL, type, ip_types, &places[PLACE_TAG], "in a VLAN");
	add_ip_gotos(b, &pppoe, type + PPPOE_LEN, ppp_types, &places[PLACE_TAG_PPPOE],
		     "in PPPoE in a VLAN");
	add_tag_gotos(b, type, "tags");

	rules_add_chain(b, "tags", HOOK_NONE);
	add_ip_gotos(b, NULL, type + VLAN_LEN, ip_types, &places[PLACE_TAGS],
		     "in a VLAN in a VLAN");
}

/*
 * What met the verdict above, as a whole: it came by this host's IP stack.  A
 * packet of a packet socket, and a frame that a bridge hands on, has no route.
 * (One of a macvlan's own stack has: strict trusts nobody.)
 */
static void add_own_rules(struct builder *b, const struct parts *parts)
{
	size_t set;
	struct rule *r;

	if (b->rs->family != FAMILY_NETDEV || b->policy->frames == FRAMES_STRICT)
		return;
	/* meta rtclassid != 4294967295, or meta pkttype != other, accept */
	r = rules_add(b, 8, VERDICT_ACCEPT, "decided above");
	rules_add_match(r, (struct match){ .kind = parts->route == PART_HAS ? MATCH_ROUTED :
									      MATCH_NOT_BRIDGED });
	/* oifname @bonded meta pkttype != other accept: a bond takes routes off */
	if (parts->route == PART_HAS && rules_has_set(b, "bonded", &set)) {
		r = rules_add(b, 8, VERDICT_ACCEPT, "decided above the bond");
		rules_add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
		rules_add_match(r, (struct match){ .kind = MATCH_NOT_BRIDGED });
	}
}

static void add_odd_chain(struct builder *b, const struct parts *parts)
{
	/* ARPHRD_NONE, ARPHRD_RAWIP: linux/if_arp.h */
	static const uint16_t bare[] = { 0xfffe, 519 }, versions[] = { 0x40, 0x60 };
	const struct match pppoe = raw(RAW_LINK, ETHER_LEN - 2, 2, &pppoe_type);

	rules_add_chain(b, "odd", HOOK_NONE);
	add_own_rules(b, parts);
	add_ip_gotos(b, NULL, ETHER_LEN - 2, ip_types, &places[PLACE_PLAIN],
		     "called something else by its sender");
	add_tag_gotos(b, ETHER_LEN - 2, "tag");
	add_ip_gotos(b, &pppoe, ETHER_LEN - 2 + PPPOE_LEN, ppp_types, &places[PLACE_TAGS],
		     "in PPPoE");
	for (size_t i = 0; i < 4; i++) {
		const struct place *place = &places[PLACE_BARE];
		const struct match version = raw_masked(RAW_NETWORK, 0, 1, 0xf0, &versions[i % 2]);

		add_goto(b, (struct match){ .kind = MATCH_OIFTYPE, .port = bare[i / 2] }, &version,
			 i % 2 ? place->ip6 : place->ip4, "called something else by its sender");
	}
}

/* --- frames of IPv4 and IPv6 --- */

/*
 * frames = strict: what is behind an authentication header is not looked at.  (By
 * what it is not: nft 1.0.6 dies of a rule that says what it is.)
 */
static void add_ah_rules(struct builder *b)
{
	struct rule *r;

	if (b->policy->frames != FRAMES_STRICT)
		return;
	/* meta l4proto ah @th,0,8 != 17 @th,0,8 != 6 return */
	r = rules_add(b, 1, VERDICT_RETURN, "another protocol, authenticated");
	rules_add_match(r, (struct match){ .kind = MATCH_L4PROTO, .proto = IPPROTO_AH });
	rules_add_match(r, raw_none_of(RAW_TRANSPORT, 0, protos, 2));
	/* meta l4proto ah drop */
	r = rules_counted(rules_add(b, 11, VERDICT_DROP, "behind an authentication header"), true);
	rules_add_match(r, (struct match){ .kind = MATCH_L4PROTO, .proto = IPPROTO_AH });
}

static void add_name_chain(struct builder *b)
{
	struct rule *r;

	rules_add_chain(b, "name_traffic", HOOK_NONE);
	rules_add_fragments(b);
	add_ah_rules(b);
	rules_add_other_port(b, VERDICT_RETURN);
	rules_add_protocols(b);
	/* meta l4proto != 255 return */
	r = rules_add(b, 1, VERDICT_RETURN, "another protocol");
	rules_add_match(r, (struct match){ .kind = MATCH_ANY_L4PROTO });
	/* exthdr frag exists goto verdict: RFC 7112 has all headers in the first fragment */
	r = rules_add(b, 9, VERDICT_GOTO, "a first fragment that hides its port");
	r->target = "verdict";
	rules_add_match(r, (struct match){ .kind = MATCH_FRAG6 });
	rules_add(b, 11, VERDICT_GOTO, "called IP by its sender, and is not")->target = "odd";
}

static void add_fragment_chain(struct builder *b, const struct parts *parts)
{
	struct rule *r;

	rules_add_chain(b, "fragment", HOOK_NONE);
	/* meta l4proto != udp meta l4proto != tcp return */
	r = rules_add(b, 1, VERDICT_RETURN, "another protocol's");
	rules_add_match(r, (struct match){ .kind = MATCH_NO_PORTS });
	rules_add_insides(b, false);
	if (b->policy->mode == POLICY_MODE_EITHER) {
		rules_add_tunnels(b, 4, false, VERDICT_ACCEPT, NULL);
		rules_add_set(b, 5, false, VERDICT_ACCEPT, "resolver4", "approved resolver");
		rules_add_set(b, 5, false, VERDICT_ACCEPT, "resolver6", "approved resolver");
	}
	rules_add_set(b, 6, false, VERDICT_ACCEPT, "pause", "in a pause that the user asked for");
	add_own_rules(b, parts);
	add_drop(b, "a fragment without a port");
}

static void add_frame_chain(struct builder *b)
{
	static const sa_family_t families[] = { AF_INET, AF_INET6 };

	rules_add_chain(b, "frame", HOOK_NONE);
	rules_add_hot_path(b);
	for (size_t i = 0; i < 2; i++) {
		/* meta protocol ip goto name_traffic */
		struct rule *r = rules_add(b, 1, VERDICT_GOTO, "the rest is looked at");

		r->target = "name_traffic";
		rules_add_match(r, (struct match){ .kind = MATCH_FAMILY, .family = families[i] });
	}
	rules_add(b, 11, VERDICT_GOTO, "not called IP by its sender")->target = "odd";
}

static int compare_devices(const void *a, const void *b)
{
	return strncmp(((const struct device *)a)->name, ((const struct device *)b)->name,
		       IFNAMSIZ);
}

static bool is_wanted(enum family family, const struct policy *p, const struct parts *parts)
{
	return p->frames != FRAMES_OFF &&
	       (family == FAMILY_NETDEV ? parts->egress : parts->bridge) == PART_HAS;
}

int ruleset_choose_devices(struct ruleset *rs, const struct policy *p, const struct netstate *ns)
{
	struct device *devices;
	size_t n = 0;

	if (!rs->chains_len || rs->family != FAMILY_NETDEV)
		return 0;
	/* One element more than needed: calloc(0) may return NULL. */
	devices = calloc(ns->links_len + 1, sizeof(*devices));
	if (!devices)
		return -ENOMEM;
	for (size_t i = 0; i < ns->links_len; i++) {
		const struct link *link = &ns->links[i];

		if (frames_role(p, ns, link) != FRAMES_ROLE_GUARDED)
			continue;
		devices[n].index = link->index;
		memcpy(devices[n++].name, link->name, IFNAMSIZ);
	}
	qsort(devices, n, sizeof(*devices), compare_devices);
	free(rs->devices);
	rs->devices = devices;
	rs->devices_len = n;
	return 0;
}

int ruleset_build_frames(enum family family, const struct policy *p, const struct pins *pins,
			 const struct netstate *ns, const struct parts *parts,
			 struct ruleset *ret_ruleset)
{
	struct ruleset *rs = ret_ruleset;
	struct builder b = { .rs = rs, .policy = p };

	*rs = (struct ruleset){ .family = family,
				.log_group = p->log_group,
				.log_rate = p->log_rate,
				.counters = { 11 },
				.counters_len = 1,
				.fragments = parts->fragments };
	if (!is_wanted(family, p, parts))
		return 0;
	memcpy(rs->ports, p->ports, sizeof(rs->ports));
	rs->ports_len = p->ports_len;
	b.err = ruleset_build_sets(family, p, pins, ns, rs->sets, &rs->sets_len);

	if (family == FAMILY_NETDEV) {
		rules_add_chain(&b, "egress", HOOK_EGRESS);
	} else {
		rules_add_chain(&b, "forward", HOOK_FORWARD);
	}
	/* goto frame */
	rules_add(&b, 11, VERDICT_GOTO, "the same verdict for frames")->target = "frame";
	add_frame_chain(&b);
	add_name_chain(&b);
	rules_add_verdict_chain(&b, false);
	rules_add_approved_chains(&b);
	add_fragment_chain(&b, parts);
	add_odd_chain(&b, parts);
	add_tag_chains(&b);
	for (size_t i = 0; i < PLACES; i++) {
		add_ip4_chain(&b, &places[i]);
		add_ip6_chain(&b, &places[i]);
	}
	if (!b.err)
		b.err = ruleset_choose_devices(rs, p, ns);
	if (b.err)
		ruleset_fini(rs);
	return b.err;
}
