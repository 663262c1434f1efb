/* Table inet: what passes the IP stack. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "ruleset.h"
#include "ruleset_rules.h"

/*
 * Why RULESET_PRIORITY is 99 (srcnat - 1):
 *
 * - At postrouting every routing mark, DNAT (prerouting and output, -100) and
 *   re-routing has been done; device and destination are final.
 * - Later than mangle (-150), filter (0) and security (50), so that what such
 *   chains at postrouting still write into the packet is seen.
 * - Earlier than srcnat (100), ours or anyone's: a forwarded client's own
 *   address is still there for the log.  Source NAT does not change what the
 *   verdict looks at; but which IPsec policy a packet meets depends on its source:
 *   where such policies count as tunnels it is RULESET_IPSEC_PRIORITY, 101.
 *   (nf_xfrm_me_harder(): source NAT looks the policy up again, and what it led out
 *   of one leaves in plain and meets no hook any more.)
 *
 * At output the same number stands after DNAT (-100), so that a refusal is
 * decided on the last destination; the last device is not known there, and
 * add_refusals() allows for that.
 */

/*
 * S9.  A rule that no packet ever reaches, whose mere presence makes the kernel
 * reassemble datagrams before any other hook.  With FRAGMENTS_DROP there is no
 * such rule, and every later fragment meets the chain `fragment`.
 */
static void add_defrag_chain(struct builder *b)
{
	static const struct {
		sa_family_t family;
		enum verdict verdict;
	} tproxy[] = { { AF_INET, VERDICT_TPROXY4 }, { AF_INET6, VERDICT_TPROXY6 } };
	struct rule *r;

	if (b->rs->fragments == FRAGMENTS_DROP)
		return;
	rules_add_chain(b, "defrag", HOOK_NONE);
	if (b->rs->fragments == FRAGMENTS_CONNTRACK) {
		/* ct state invalid return */
		rules_match(rules_add(b, 9, VERDICT_RETURN, "never reached: turns reassembly on"),
			    MATCH_CT_INVALID, 0);
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		/* meta nfproto ipv4 meta l4proto udp tproxy ip to :1 */
		r = rules_add(b, 9, tproxy[i].verdict, "never reached: turns reassembly on");
		rules_match(r, MATCH_FAMILY, tproxy[i].family);
		rules_match(r, MATCH_L4PROTO, IPPROTO_UDP);
	}
}

/*
 * What comes here although the kernel reassembles is a fragment that its sender
 * kept from it (IP_NODEFRAG of raw sockets, an early notrack rule).  With no
 * port to go by, of TCP, UDP and what hides its protocol only what stays
 * inside passes.
 */
static void add_fragment_chain(struct builder *b)
{
	rules_add_chain(b, "fragment", HOOK_NONE);
	/* meta l4proto != udp meta l4proto != tcp return */
	rules_match(rules_add(b, 1, VERDICT_RETURN, "another protocol's"), MATCH_NO_PORTS, 0);
	rules_add_by_link(b);
	/* drop */
	rules_add_floor(b, 9, "a fragment without a port");
}

/*
 * action = reject.  Refuses early what postrouting would drop, so that the
 * sender is told; the drop there stays as the floor.
 */
static void add_refusals(struct builder *b)
{
	static const struct {
		enum match_kind kind;
		const char *comment;
	} undecided[] = {
		{ MATCH_DADDR_LO4, "redirected to this host" },
		{ MATCH_DADDR_LO6, "redirected to this host" },
		{ MATCH_MARKED, "may have been re-routed by its mark" },
	};
	/* Source NAT may yet lead what is forwarded into an IPsec policy. */
	const bool forward =
		b->policy->action == POLICY_ACTION_REJECT && !policy_has_ipsec(b->policy);

	if (b->policy->action == POLICY_ACTION_REJECT) {
		rules_add_chain(b, "output", HOOK_OUTPUT);
		rules_add_ports(b, "refuse_output");
	}
	if (forward || b->policy->redirects_len)
		rules_add_chain(b, "forward", HOOK_FORWARD);
	if (b->policy->redirects_len)
		rules_add_ports(b, "lan_refuse");
	if (forward)
		rules_add_ports(b, "refuse");
	if (b->policy->action != POLICY_ACTION_REJECT)
		return;

	/*
	 * The output hook still knows the device of the first route only: a mark
	 * or DNAT may have led the packet to another, an allowed one, since.  What
	 * might be allowed by its last device is left to postrouting.
	 */
	rules_add_chain(b, "refuse_output", HOOK_NONE);
	for (size_t i = 0; i < sizeof(undecided) / sizeof(undecided[0]); i++)
		/* ip daddr 127.0.0.0/8 return; ip6 daddr ::1 return; meta mark != 0 return */
		rules_match(rules_add(b, 8, VERDICT_RETURN, "%s", undecided[i].comment),
			    undecided[i].kind, 0);
	/* ip daddr @tied4 return */
	rules_add_set(b, 8, false, VERDICT_RETURN, "tied4",
		      "approved by its path, known only later");
	rules_add_set(b, 8, false, VERDICT_RETURN, "tied6",
		      "approved by its path, known only later");
	rules_add_goto(b, 7, "refuse", "the rest can be told now");

	rules_add_chain(b, "refuse", HOOK_NONE);
	rules_add_allowances(b, false);
	rules_add_log(b);
	rules_add_rejects(b, "any other name traffic");
}

static void choose_counters(struct ruleset *rs)
{
	static const unsigned int numbers[] = { 2, 3, 4, 5, 6, 7, 9 };

	memcpy(rs->counters, numbers, sizeof(numbers));
	rs->counters_len = sizeof(numbers) / sizeof(numbers[0]);
}

int ruleset_build(const struct policy *p, const struct pins *pins, enum fragments how,
		  struct ruleset *ret_ruleset)
{
	struct ruleset *rs = ret_ruleset;
	struct builder b = { .rs = rs, .policy = p };

	*rs = (struct ruleset){ .priority = policy_has_ipsec(p) ? RULESET_IPSEC_PRIORITY :
								  RULESET_PRIORITY,
				.log_group = p->log_group,
				.log_rate = p->log_rate,
				.fragments = how };
	memcpy(rs->ports, p->ports, sizeof(rs->ports));
	rs->ports_len = p->ports_len;
	choose_counters(rs);

	b.err = ruleset_build_sets(FAMILY_INET, p, pins, NULL, rs->sets, &rs->sets_len);
	rules_add_chain(&b, "postrouting", HOOK_POSTROUTING);
	rules_add_other_traffic(&b);
	/* jump name_traffic */
	rules_add(&b, 1, VERDICT_JUMP, "the rest is looked at")->target = "name_traffic";
	add_refusals(&b);
	rules_add_lan_chains(&b);
	rules_add_chain(&b, "name_traffic", HOOK_NONE);
	rules_add_fragments(&b, false);
	rules_add_other_port(&b, VERDICT_RETURN);
	rules_add_protocols(&b);
	rules_add_verdict_chain(&b, true);
	rules_add_approved_chains(&b);
	add_fragment_chain(&b);
	add_defrag_chain(&b);

	if (b.err)
		ruleset_fini(rs);
	return b.err;
}
