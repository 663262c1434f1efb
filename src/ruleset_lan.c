/*
 * LAN clients: what they ask other resolvers is led to ours; other ports than 53 are
 * refused.  And what is forwarded is kept from passing by the rules.
 */
#include <netinet/in.h>

#include "ruleset.h"
#include "ruleset_rules.h"

/*
 * Only here is a packet's way changed, and none of this allows anything: where a
 * query goes in the end is judged at postrouting like any other.
 *
 * RULESET_DNAT_PRIORITY is dstnat - 1: of several chains that would give a flow
 * another destination the first does.
 */

/* iifname @lan [th dport 53] VERDICT, and one rule for each prefix */
static void add_links(struct builder *b, const char *set, enum match_kind kind,
		      enum verdict verdict, const char *target)
{
	const struct policy *p = b->policy;
	char text[POLICY_TEXT];
	struct rule *r;
	size_t at;

	if (rules_has_set(b, set, &at)) {
		r = rules_match(rules_add(b, 5, verdict, "of a LAN"), MATCH_SET, at);
		r->target = target;
		if (verdict == VERDICT_JUMP)
			rules_match(r, MATCH_DPORT, POLICY_DNS_PORT);
	}
	for (size_t i = 0; i < p->lans_len; i++) {
		if (!p->lans[i].prefix)
			continue;
		r = rules_add(b, 5, verdict, "of LAN %s", tunnel_format(&p->lans[i], text));
		r->target = target;
		rules_match_link(r, kind, &p->lans[i]);
		if (verdict == VERDICT_JUMP)
			rules_match(r, MATCH_DPORT, POLICY_DNS_PORT);
	}
}

/* Who and what is left alone. */
static void add_exemptions(struct builder *b)
{
	static const char *const clients[] = { "lan_exempt4", "lan_exempt6", "lan_exempt_mac" };
	static const char *const resolvers[] = { "lan_keep4", "lan_keep6" };

	/* meta nfproto @pause return */
	rules_add_set(b, 6, false, VERDICT_RETURN, "pause", "in a pause that the user asked for");
	/* ip saddr @lan_exempt4 return; ip6 saddr @lan_exempt6 return; ether saddr @lan_exempt_mac return */
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++)
		rules_add_set(b, 5, false, VERDICT_RETURN, clients[i], "an exempt client");
	/* ip daddr . th dport @lan_keep4 return */
	for (size_t i = 0; i < sizeof(resolvers) / sizeof(resolvers[0]); i++)
		rules_add_set(b, 5, false, VERDICT_RETURN, resolvers[i],
			      "asks an approved resolver");
}

/* meta nfproto ipv4 meta l4proto udp dnat ip to 10.64.0.1:53; meta l4proto udp redirect */
static void add_redirections(struct builder *b)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP };
	const struct policy *p = b->policy;
	char text[ADDR_TEXT];
	struct rule *r;

	for (size_t i = 0; i < 2 * p->redirects_len; i++) {
		struct redirect to = p->redirects[i / 2];

		to.port = to.port ?: POLICY_DNS_PORT;
		if (to.addr.family == AF_UNSPEC) {
			r = rules_add(b, 5, VERDICT_REDIRECT, "LAN clients ask this host");
		} else {
			r = rules_add(b, 5, VERDICT_DNAT, "LAN clients ask %s, port %u",
				      addr_format(&to.addr, text), to.port);
			rules_match(r, MATCH_FAMILY, to.addr.family);
		}
		rules_match(r, MATCH_L4PROTO, protos[i % 2]);
		r->to = to;
	}
}

/*
 * A resolver in a LAN would answer its neighbour directly, and from an address that
 * was not asked: it shall see the router as the one who asks.
 */
static void add_way_back(struct builder *b)
{
	if (b->policy->redirects[0].addr.family == AF_UNSPEC)
		return;
	rules_add_chain(b, "lan_back", HOOK_SNAT);
	/* ct status dnat th dport 53 jump lan_back_in */
	for (size_t i = 0; i < b->policy->redirects_len; i++) {
		const uint16_t port = b->policy->redirects[i].port ?: POLICY_DNS_PORT;
		struct rule *r;

		if (i && port == (b->policy->redirects[0].port ?: POLICY_DNS_PORT))
			continue;
		r = rules_add(b, 5, VERDICT_JUMP, "redirected to port %u", port);
		r->target = "lan_back_in";
		rules_match(r, MATCH_DPORT, port);
		rules_match(r, MATCH_CT_DNAT, 0);
	}
	rules_add_chain(b, "lan_back_in", HOOK_NONE);
	add_links(b, "lan", MATCH_IIFNAME, VERDICT_GOTO, "lan_back_out");
	rules_add_chain(b, "lan_back_out", HOOK_NONE);
	add_links(b, "lan_out", MATCH_OIFNAME, VERDICT_MASQUERADE, NULL);
}

/*
 * th dport 53 ct expectation set "no_offload"; th sport 53 the same, for each guarded
 * port: where a server was let in first, what the client asks is the flow's answer.
 */
static void add_no_offload(struct builder *b)
{
	if (b->policy->flow_offload != FLOW_OFFLOAD_PREVENT)
		return;
	b->rs->no_offload = true;
	rules_add_chain(b, "slow_path", HOOK_EARLY_FORWARD);
	for (size_t i = 0; i < 2 * b->policy->ports_len; i++)
		rules_match(rules_add(b, 7, VERDICT_NO_OFFLOAD, "flows are not offloaded"),
			    i % 2 ? MATCH_SPORT : MATCH_DPORT, b->policy->ports[i / 2]);
}

void rules_add_lan_chains(struct builder *b)
{
	add_no_offload(b);
	if (!b->policy->redirects_len)
		return;
	rules_add_chain(b, "lan", HOOK_DNAT);
	/* iifname @lan th dport 53 jump lan_redirect */
	add_links(b, "lan", MATCH_IIFNAME, VERDICT_JUMP, "lan_redirect");
	rules_add_chain(b, "lan_redirect", HOOK_NONE);
	/* fib daddr type local return */
	rules_match(rules_add(b, 5, VERDICT_RETURN, "asks this host"), MATCH_LOCAL, 0);
	add_exemptions(b);
	add_redirections(b);
	add_way_back(b);

	/* From the chain "forward": what is not redirected by now never will be. */
	rules_add_chain(b, "lan_refuse", HOOK_NONE);
	/* iifname @lan goto lan_refused */
	add_links(b, "lan", MATCH_IIFNAME, VERDICT_GOTO, "lan_refused");
	rules_add_chain(b, "lan_refused", HOOK_NONE);
	add_exemptions(b);
	rules_add_log(b);
	rules_add_rejects(b, "LAN clients ask what is approved");
}
