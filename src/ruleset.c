#include "ruleset.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Why RULESET_PRIORITY is 99 (srcnat - 1):
 *
 * - At postrouting every routing mark, DNAT (prerouting and output, -100) and
 *   re-routing has been done; device and destination are final.
 * - Later than mangle (-150), filter (0) and security (50), so that what such
 *   chains at postrouting still write into the packet is seen.
 * - Earlier than srcnat (100), ours or anyone's: a forwarded client's own
 *   address is still there for the log.  Source NAT does not change what the
 *   verdict looks at.
 *
 * At output the same number stands after DNAT (-100), so that a refusal is
 * decided on the last destination; the last device is not known there, and
 * add_refusals() allows for that.
 */

/* The ruleset under construction.  The first error sticks and every later call does nothing. */
struct builder {
	struct ruleset *rs;
	const struct policy *policy;
	int err;
	struct rule scratch; /* what calls after an error write into */
};

static void add_chain(struct builder *b, const char *name, enum hook hook)
{
	struct ruleset *rs = b->rs;

	if (rs->chains_len == RULESET_MAX_CHAINS)
		b->err = b->err ?: -ENOMEM;
	if (!b->err)
		rs->chains[rs->chains_len++] = (struct chain){ .name = name, .hook = hook };
}

/* A rule at the end of the chain begun last; its comment is "S<promise> ...". */
static struct rule *__attribute__((format(printf, 4, 5)))
add_rule(struct builder *b, unsigned int promise, enum verdict verdict, const char *comment, ...)
{
	struct ruleset *rs = b->rs;
	struct chain *c = rs->chains_len ? &rs->chains[rs->chains_len - 1] : NULL;
	struct rule *rule;
	va_list args;
	int n;

	if (!b->err && c && c->rules_len == c->rules_room) {
		const size_t room = c->rules_room ? c->rules_room * 2 : 8;
		struct rule *rules = realloc(c->rules, room * sizeof(*rules));

		if (rules) {
			c->rules = rules;
			c->rules_room = room;
		} else {
			b->err = -ENOMEM;
		}
	}
	if (b->err || !c) {
		b->scratch = (struct rule){ 0 };
		return &b->scratch;
	}

	rule = &c->rules[c->rules_len++];
	*rule = (struct rule){ .promise = promise, .verdict = verdict };
	n = snprintf(rule->comment, sizeof(rule->comment), "S%u ", promise);
	va_start(args, comment);
	vsnprintf(rule->comment + n, sizeof(rule->comment) - (size_t)n, comment, args);
	va_end(args);
	return rule;
}

static void add_match(struct rule *rule, struct match match)
{
	/* RULE_MAX_MATCHES is the most that any rule below has. */
	rule->matches[rule->matches_len++] = match;
}

static struct rule *counted(struct rule *rule, bool yes)
{
	rule->counted = yes;
	return rule;
}

static bool has_set(const struct builder *b, const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < b->rs->sets_len; i++)
		if (!strcmp(b->rs->sets[i].name, name)) {
			*ret_index = i;
			return true;
		}
	return false;
}

/* FIELDS @name VERDICT, if there is the set. */
static void add_set_rule(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
			 const char *name, const char *comment)
{
	size_t set;

	if (has_set(b, name, &set)) {
		struct rule *r = counted(add_rule(b, promise, verdict, "%s", comment), count);

		add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
	}
}

/* --- the rules, in the order of the promises --- */

/* To an approved resolver: S5, or S4 behind a tunnel's name in mode both. */
static void add_resolver_rules(struct builder *b, unsigned int promise, bool count)
{
	static const struct {
		const char *set, *comment;
	} rules[] = {
		{ "resolver4", "approved resolver" },
		{ "resolver6", "approved resolver" },
		{ "resolver4_port", "approved resolver, one port" },
		{ "resolver6_port", "approved resolver, one port" },
		{ "resolver4_link", "approved resolver, by its link" },
		{ "resolver6_link", "approved resolver, by its link" },
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		add_set_rule(b, promise, count, VERDICT_ACCEPT, rules[i].set, rules[i].comment);
}

/* tunnel-kind: meta oifkind @tunnel_kind, a link of that name that is a tunnel */
static void add_kind_match(struct builder *b, struct rule *r)
{
	size_t set;

	if (has_set(b, "tunnel_kind", &set))
		add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
}

/* oifname @tunnel VERDICT, and one rule for each prefix: oifname "tun*" VERDICT */
static void add_tunnel_rules(struct builder *b, unsigned int promise, bool count,
			     enum verdict verdict, const char *target)
{
	const struct policy *p = b->policy;
	char text[POLICY_TEXT];
	struct rule *r;
	size_t set;

	if (has_set(b, "tunnel", &set)) {
		r = counted(add_rule(b, promise, verdict, "through a tunnel"), count);
		r->target = target;
		add_match(r, (struct match){ .kind = MATCH_SET, .set = set });
		add_kind_match(b, r);
	}
	for (size_t i = 0; i < p->tunnels_len; i++) {
		if (!p->tunnels[i].prefix)
			continue;
		r = counted(add_rule(b, promise, verdict, "through tunnel %s",
				     tunnel_format(&p->tunnels[i], text)),
			    count);
		r->target = target;
		add_match(r, (struct match){ .kind = MATCH_OIFNAME, .link = p->tunnels[i] });
		add_kind_match(b, r);
	}
}

/* S2 to S6.  `count` is false where a later hook counts the same packet. */
static void add_allowances(struct builder *b, bool count)
{
	struct rule *r;

	/* oif "lo" */
	r = counted(add_rule(b, 2, VERDICT_ACCEPT, "stays on the host"), count);
	add_match(r, (struct match){ .kind = MATCH_OIF_LO });

	/* ip daddr . meta l4proto . th dport [ . meta mark ] @endpoint4 */
	add_set_rule(b, 3, count, VERDICT_ACCEPT, "endpoint4", "the VPN's carrier");
	add_set_rule(b, 3, count, VERDICT_ACCEPT, "endpoint6", "the VPN's carrier");
	add_set_rule(b, 3, count, VERDICT_ACCEPT, "endpoint4_mark",
		     "the VPN's carrier, by its mark");
	add_set_rule(b, 3, count, VERDICT_ACCEPT, "endpoint6_mark",
		     "the VPN's carrier, by its mark");

	if (b->policy->mode == POLICY_MODE_BOTH) {
		/* oifname @tunnel jump approved */
		add_tunnel_rules(b, 4, false, VERDICT_JUMP, count ? "approved" : "approved_early");
	} else {
		/* oifname @tunnel accept */
		add_tunnel_rules(b, 4, count, VERDICT_ACCEPT, NULL);
		/* ip daddr @resolver4 accept */
		add_resolver_rules(b, 5, count);
	}
	/* meta nfproto @pause accept: elements that the kernel itself takes away */
	add_set_rule(b, 6, count, VERDICT_ACCEPT, "pause", "in a pause that the user asked for");
}

/* limit rate N/second log prefix "leakguard S7 " group G */
static void add_log_rule(struct builder *b)
{
	if (b->policy->log_group)
		add_rule(b, 7, VERDICT_LOG, "a sample of what is blocked");
}

static void add_verdict_chain(struct builder *b)
{
	add_chain(b, "verdict", HOOK_NONE);
	add_allowances(b, true);
	add_log_rule(b);
	/* drop */
	counted(add_rule(b, 7, VERDICT_DROP, "any other name traffic"), true);
}

/* th dport N jump TARGET, for each guarded port: where only what is known to be refused counts */
static void add_port_rules(struct builder *b, const char *target)
{
	for (size_t i = 0; i < b->policy->ports_len; i++) {
		struct rule *r = add_rule(b, 1, VERDICT_JUMP, "only port %u goes further",
					  b->policy->ports[i]);

		r->target = target;
		add_match(r, (struct match){ .kind = MATCH_DPORT, .port = b->policy->ports[i] });
	}
}

/* th dport != 53 th dport != 853 VERDICT */
static struct rule *add_other_port_rule(struct builder *b, enum verdict verdict)
{
	char ports[RULESET_TEXT] = "";
	size_t at = 0;
	struct rule *r;

	for (size_t i = 0; i < b->policy->ports_len; i++)
		at += (size_t)snprintf(ports + at, sizeof(ports) - at, "%s%u", i ? "," : "",
				       b->policy->ports[i]);
	r = add_rule(b, 1, verdict, "any port but %s", ports);
	add_match(r, (struct match){ .kind = MATCH_OTHER_DPORT });
	return r;
}

/*
 * The hot path: all that other packets ever meet.  A later fragment has to be
 * told first: for a field of two bytes the kernel takes whatever stands where
 * the port would be (nft_payload_fast_eval()), and lets a name's bytes pass.
 */
static void add_hot_path(struct builder *b)
{
	static const enum match_kind has_port[] = { MATCH_HAS_PORT4, MATCH_HAS_PORT6 };
	struct rule *r;

	for (size_t i = 0; i < 2; i++) {
		/* ip frag-off & 0x1fff == 0 th dport != 53 th dport != 853 accept */
		/* exthdr frag missing th dport != 53 th dport != 853 accept */
		r = add_other_port_rule(b, VERDICT_ACCEPT);
		r->matches[r->matches_len++] = r->matches[0];
		r->matches[0].kind = has_port[i];
	}
	/* jump name_traffic */
	r = add_rule(b, 1, VERDICT_JUMP, "the rest is looked at");
	r->target = "name_traffic";
}

/* meta l4proto udp goto verdict: other protocols have other things at the port's offset */
static void add_protocol_rules(struct builder *b)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP };

	for (size_t i = 0; i < sizeof(protos); i++) {
		struct rule *r = add_rule(b, 1, VERDICT_GOTO, "only %s goes further",
					  proto_format(protos[i]));

		r->target = "verdict";
		add_match(r, (struct match){ .kind = MATCH_L4PROTO, .proto = protos[i] });
	}
}

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
	add_chain(b, "defrag", HOOK_NONE);
	if (b->rs->fragments == FRAGMENTS_CONNTRACK) {
		/* ct state invalid return */
		r = add_rule(b, 9, VERDICT_RETURN, "never reached: turns reassembly on");
		add_match(r, (struct match){ .kind = MATCH_CT_INVALID });
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		/* meta nfproto ipv4 meta l4proto udp tproxy ip to :1 */
		r = add_rule(b, 9, tproxy[i].verdict, "never reached: turns reassembly on");
		add_match(r, (struct match){ .kind = MATCH_NFPROTO, .family = tproxy[i].family });
		add_match(r, (struct match){ .kind = MATCH_L4PROTO, .proto = IPPROTO_UDP });
	}
}

/* ip frag-off & 0x1fff != 0 goto fragment; frag frag-off != 0 goto fragment */
static void add_fragment_rules(struct builder *b)
{
	static const enum match_kind kinds[] = { MATCH_LATER_FRAG4, MATCH_LATER_FRAG6 };

	for (size_t i = 0; i < 2; i++) {
		struct rule *r = add_rule(b, 9, VERDICT_GOTO, "a later fragment has no port");

		r->target = "fragment";
		add_match(r, (struct match){ .kind = kinds[i] });
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
	struct rule *r;

	add_chain(b, "fragment", HOOK_NONE);
	/* meta l4proto != udp meta l4proto != tcp return */
	r = add_rule(b, 1, VERDICT_RETURN, "another protocol's");
	add_match(r, (struct match){ .kind = MATCH_NO_PORTS });
	r = add_rule(b, 2, VERDICT_ACCEPT, "stays on the host");
	add_match(r, (struct match){ .kind = MATCH_OIF_LO });
	if (b->policy->mode == POLICY_MODE_EITHER)
		add_tunnel_rules(b, 4, false, VERDICT_ACCEPT, NULL);
	/* drop */
	counted(add_rule(b, 9, VERDICT_DROP, "a fragment without a port"), true);
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
	static const struct {
		uint8_t proto;
		enum verdict verdict;
	} rejects[] = { { IPPROTO_TCP, VERDICT_REJECT_RESET },
			{ IPPROTO_UDP, VERDICT_REJECT_ADMIN } };
	struct rule *r;

	if (b->policy->action != POLICY_ACTION_REJECT)
		return;

	add_chain(b, "output", HOOK_OUTPUT);
	add_port_rules(b, "refuse_output");
	add_chain(b, "forward", HOOK_FORWARD);
	add_port_rules(b, "refuse");

	/*
	 * The output hook still knows the device of the first route only: a mark
	 * or DNAT may have led the packet to another, an allowed one, since.  What
	 * might be allowed by its last device is left to postrouting.
	 */
	add_chain(b, "refuse_output", HOOK_NONE);
	for (size_t i = 0; i < sizeof(undecided) / sizeof(undecided[0]); i++) {
		/* ip daddr 127.0.0.0/8 return; ip6 daddr ::1 return; meta mark != 0 return */
		r = add_rule(b, 8, VERDICT_RETURN, "%s", undecided[i].comment);
		add_match(r, (struct match){ .kind = undecided[i].kind });
	}
	/* ip daddr @tied4 return */
	add_set_rule(b, 8, false, VERDICT_RETURN, "tied4",
		     "approved by its path, known only later");
	add_set_rule(b, 8, false, VERDICT_RETURN, "tied6",
		     "approved by its path, known only later");
	r = add_rule(b, 7, VERDICT_GOTO, "the rest can be told now");
	r->target = "refuse";

	add_chain(b, "refuse", HOOK_NONE);
	add_allowances(b, false);
	add_log_rule(b);
	for (size_t i = 0; i < 2; i++) {
		/* meta l4proto tcp reject with tcp reset; meta l4proto udp reject with icmpx admin-prohibited */
		r = counted(add_rule(b, 7, rejects[i].verdict, "any other name traffic"), true);
		add_match(r, (struct match){ .kind = MATCH_L4PROTO, .proto = rejects[i].proto });
	}
}

/* Mode both, behind a tunnel's name: only approved resolvers. */
static void add_approved_chains(struct builder *b)
{
	if (b->policy->mode != POLICY_MODE_BOTH || !b->policy->tunnels_len)
		return;
	add_chain(b, "approved", HOOK_NONE);
	add_resolver_rules(b, 4, true);
	if (b->policy->action != POLICY_ACTION_REJECT)
		return;
	add_chain(b, "approved_early", HOOK_NONE);
	add_resolver_rules(b, 4, false);
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

	*rs = (struct ruleset){ .log_group = p->log_group,
				.log_rate = p->log_rate,
				.fragments = how };
	memcpy(rs->ports, p->ports, sizeof(rs->ports));
	rs->ports_len = p->ports_len;
	choose_counters(rs);

	b.err = ruleset_build_sets(p, pins, rs->sets, &rs->sets_len);
	add_chain(&b, "postrouting", HOOK_POSTROUTING);
	add_hot_path(&b);
	add_refusals(&b);
	add_chain(&b, "name_traffic", HOOK_NONE);
	add_fragment_rules(&b);
	add_other_port_rule(&b, VERDICT_RETURN);
	add_protocol_rules(&b);
	add_verdict_chain(&b);
	add_approved_chains(&b);
	add_fragment_chain(&b);
	add_defrag_chain(&b);

	if (b.err)
		ruleset_fini(rs);
	return b.err;
}

int ruleset_pause(struct ruleset *rs, uint64_t left_ms, bool lapsing)
{
	return ruleset_pause_sets(rs->sets, rs->sets_len, left_ms, lapsing);
}

void ruleset_fini(struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		free(rs->chains[i].rules);
	for (size_t i = 0; i < rs->sets_len; i++)
		free(rs->sets[i].elems);
	*rs = (struct ruleset){ 0 };
}
