/* Tables netdev and bridge: what goes round the IP stack (S11). */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "ruleset.h"
#include "ruleset_odd.h"
#include "ruleset_rules.h"

/*
 * Why RULESET_FRAME_PRIORITY is 400: behind every named priority of both
 * families (srcnat of bridge tables is 300), so that what such chains still
 * write into a frame is seen.
 *
 * A frame of IPv4 is read as in table inet, one of IPv6 at its places (chain
 * frame6).  One whose sender called it something else, or wrapped it in tags that
 * the kernel does not look into, is read at fixed places too (chain odd and those
 * behind it).  Nothing there can be compared with the sets, so nothing is
 * approved; what the host's own links wrap (VLANs on VLANs, PPPoE) met the
 * verdict above them and passes by having a route, or a tag that the kernel put on.
 */

/*
 * frames = strict: what is behind an authentication header is not looked at.  (By
 * what it is not: nft 1.0.6 dies of a rule that says what it is.)
 */
static void add_ah_rules(struct builder *b)
{
	struct rule *r;

	if (b->policy->frames != FRAMES_STRICT)
		return;
	/* meta protocol ip meta l4proto ah @th,0,8 != 17 @th,0,8 != 6 accept */
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol, authenticated");
	rules_match(r, MATCH_FAMILY, AF_INET);
	rules_match(r, MATCH_L4PROTO, IPPROTO_AH);
	rules_match_none_of(r, AT_TH, odd_protos, 2);
	/* meta protocol ip meta l4proto ah drop */
	r = rules_add_drop(b, 11, "behind an authentication header");
	rules_match(r, MATCH_FAMILY, AF_INET);
	rules_match(r, MATCH_L4PROTO, IPPROTO_AH);
}

/* meta protocol ip @nh,0,8 & 0xf0 != 0x40 goto misnamed: nothing but the version tells */
static void add_version_rule(struct builder *b, sa_family_t family)
{
	struct rule *r = rules_add_goto(b, 11, "misnamed", "called IP by its sender, and is not");
	struct raw *version;

	rules_match(r, MATCH_FAMILY, family);
	version = rules_match_byte(r, AT_NH, family == AF_INET6 ? 0x60 : 0x40);
	version->mask = 0xf0;
	version->differs = true;
}

/* S2 to S6 for what shows no port: a resolver is approved by its address alone. */
static void add_portless_allowances(struct builder *b, bool ip4)
{
	rules_add_by_link(b);
	if (ip4 && b->policy->mode == POLICY_MODE_EITHER)
		rules_add_set(b, 5, false, VERDICT_ACCEPT, "resolver4", "approved resolver");
	if (b->policy->mode == POLICY_MODE_EITHER)
		rules_add_set(b, 5, false, VERDICT_ACCEPT, "resolver6", "approved resolver");
	rules_add_set(b, 6, false, VERDICT_ACCEPT, "pause", "in a pause that the user asked for");
}

/*
 * IPv6 is read at its places: the kernel looks for a header of it where the
 * packet need not be (ipv6_find_hdr() and a frame of PACKET_TX_RING, or one that a
 * bridge hands on).  What came by this host's IP stack is where it looks.
 */
static void add_frame6_chain(struct builder *b, const struct parts *parts)
{
	const int next = AT_NH + 6, behind = AT_NH + 40;
	const uint16_t *hiding;
	const uint8_t n = odd_hiding6(b->policy, &hiding);
	struct rule *r;

	rules_add_chain(b, "frame6", HOOK_NONE);
	add_version_rule(b, AF_INET6);
	/* @nh,48,8 != 17 @nh,48,8 != 6 ... accept */
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol");
	rules_match_none_of(r, next, hiding, n);
	odd_add_stamp(b, parts);
	for (size_t i = 0; i < 2; i++)
		/* @nh,48,8 17 goto verdict */
		rules_match_byte(rules_add_goto(b, 11, "verdict", "a name query"), next,
				 odd_protos[i]);
	if (b->policy->frames == FRAMES_STRICT) {
		/* @nh,48,8 51 @nh,320,8 != 17 ... accept; @nh,48,8 51 drop */
		r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol, authenticated");
		rules_match_byte(r, next, IPPROTO_AH);
		rules_match_none_of(r, behind, hiding, n);
		r = rules_add_drop(b, 11, "behind an authentication header");
		rules_match_byte(r, next, IPPROTO_AH);
	}
	odd_add_own_rules(b, parts, VERDICT_GOTO, "name_traffic");
	odd_add_tagged_rules(b, VERDICT_GOTO, "name_traffic");
	r = rules_add(b, 1, VERDICT_ACCEPT, "another protocol behind one extension header");
	rules_match_none_of(r, behind, hiding, n);
	for (size_t i = 0; i < 2; i++) {
		/* @nh,48,8 44 @nh,320,8 17 @nh,336,16 & 0xfff8 == 0 @nh,400,16 != 53 ... accept */
		r = rules_add(b, 1, VERDICT_ACCEPT, "another port in a first fragment");
		rules_match_byte(r, next, IPPROTO_FRAGMENT);
		rules_match_byte(r, behind, odd_protos[i]);
		rules_match_word(r, behind + 2, 0)->mask = 0xfff8;
		rules_match_other_port(r, behind + 10);
	}
	add_portless_allowances(b, false);
	rules_add_floor(b, 11, "a name query, or one could hide here");
}

static void add_name_chain(struct builder *b, const struct parts *parts)
{
	rules_add_chain(b, "name_traffic", HOOK_NONE);
	odd_add_stamp(b, parts);
	add_version_rule(b, AF_INET);
	rules_add_fragments(b, true);
	rules_add_other_port(b, VERDICT_RETURN);
	rules_add_protocols(b);
	/* meta l4proto != 255 return */
	rules_match(rules_add(b, 1, VERDICT_RETURN, "another protocol"), MATCH_ANY_L4PROTO, 0);
	/* exthdr frag exists goto verdict: RFC 7112 has all headers in the first fragment */
	rules_match(rules_add_goto(b, 9, "verdict", "a first fragment that hides its port"),
		    MATCH_FRAG6, 0);
	rules_add_goto(b, 11, "misnamed", "called IP by its sender, and is not");
}

static void add_fragment_chain(struct builder *b, const struct parts *parts)
{
	rules_add_chain(b, "fragment", HOOK_NONE);
	/* meta l4proto != udp meta l4proto != tcp return */
	rules_match(rules_add(b, 1, VERDICT_RETURN, "another protocol's"), MATCH_NO_PORTS, 0);
	add_portless_allowances(b, true);
	odd_add_own_rules(b, parts, VERDICT_ACCEPT, NULL);
	odd_add_tagged_rules(b, VERDICT_ACCEPT, NULL);
	rules_add_floor(b, 11, "a fragment without a port");
}

static void add_frame_chain(struct builder *b)
{
	rules_add_chain(b, "frame", HOOK_NONE);
	add_ah_rules(b);
	/* meta protocol ip goto name_traffic; meta protocol ip6 goto frame6 */
	rules_match(rules_add_goto(b, 1, "name_traffic", "the rest is looked at"), MATCH_FAMILY,
		    AF_INET);
	rules_match(rules_add_goto(b, 1, "frame6", "the rest is looked at"), MATCH_FAMILY,
		    AF_INET6);
	rules_add_goto(b, 11, "odd", "not called IP by its sender");
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
				.priority = RULESET_FRAME_PRIORITY,
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

	if (family == FAMILY_NETDEV)
		rules_add_chain(&b, "egress", HOOK_EGRESS);
	else
		rules_add_chain(&b, "forward", HOOK_FORWARD);
	rules_add_other_traffic(&b);
	/* goto frame */
	rules_add_goto(&b, 11, "frame", "the rest is looked at");
	add_frame_chain(&b);
	add_frame6_chain(&b, parts);
	add_name_chain(&b, parts);
	rules_add_verdict_chain(&b, false);
	rules_add_approved_chains(&b);
	add_fragment_chain(&b, parts);
	odd_add_chains(&b, parts);
	rules_add_drop_chains(&b);
	if (!b.err)
		b.err = ruleset_choose_devices(rs, p, ns);
	if (b.err)
		ruleset_fini(rs);
	return b.err;
}
