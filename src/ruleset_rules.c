#include "ruleset_rules.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int base_priority(const struct ruleset *rs, enum hook hook)
{
	return hook == HOOK_DNAT	  ? RULESET_DNAT_PRIORITY :
	       hook == HOOK_SNAT	  ? RULESET_SNAT_PRIORITY :
	       hook == HOOK_EARLY_FORWARD ? RULESET_OFFLOAD_PRIORITY :
					    rs->priority;
}

void rules_add_chain(struct builder *b, const char *name, enum hook hook)
{
	struct ruleset *rs = b->rs;

	if (rs->chains_len == RULESET_MAX_CHAINS)
		b->err = b->err ?: -ENOMEM;
	if (!b->err)
		rs->chains[rs->chains_len++] = (struct chain){
			.name = name, .hook = hook, .priority = base_priority(rs, hook)
		};
}

/* A rule at the end of the chain begun last; its comment is "S<promise> ...". */
struct rule *__attribute__((format(printf, 4, 5)))
rules_add(struct builder *b, unsigned int promise, enum verdict verdict, const char *comment, ...)
{
	struct ruleset *rs = b->rs;
	struct chain *c = rs->chains_len ? &rs->chains[rs->chains_len - 1] : NULL;
	struct rule *rule;
	va_list args;
	int n;

	if (!b->err && c && c->rules_len == c->rules_room) {
		const size_t room = c->rules_room ? c->rules_room * 2 : 1;
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

struct rule *rules_counted(struct rule *rule, bool yes)
{
	rule->counted = yes;
	return rule;
}

struct rule *rules_add_goto(struct builder *b, unsigned int promise, const char *target,
			    const char *comment)
{
	struct rule *r = rules_add(b, promise, VERDICT_GOTO, "%s", comment);

	r->target = target;
	return r;
}

static void add_log(struct builder *b, unsigned int promise)
{
	/* limit rate N/second log prefix "leakguard S7 " group G */
	if (b->policy->log_group)
		rules_add(b, promise, VERDICT_LOG, "a sample of what is blocked");
}

void rules_add_floor(struct builder *b, unsigned int promise, const char *comment)
{
	/* jump sample: one limit for all of them */
	if (b->rs->family == FAMILY_INET)
		add_log(b, promise);
	else if (b->policy->log_group)
		rules_add(b, promise, VERDICT_JUMP, "a sample of it is logged")->target = "sample";
	rules_counted(rules_add(b, promise, VERDICT_DROP, "%s", comment), true);
}

struct rule *rules_add_drop(struct builder *b, unsigned int promise, const char *comment)
{
	if (b->policy->log_group)
		return rules_add_goto(b, promise, "dropped", comment);
	return rules_counted(rules_add(b, promise, VERDICT_DROP, "%s", comment), true);
}

void rules_add_drop_chains(struct builder *b)
{
	if (!b->policy->log_group)
		return;
	rules_add_chain(b, "dropped", HOOK_NONE);
	rules_add_floor(b, 11, "as the rule says that led here");
	rules_add_chain(b, "sample", HOOK_NONE);
	add_log(b, 11);
}

/* --- matches: RULE_MAX_MATCHES is the most that any rule below has --- */

static struct match *add_match(struct rule *rule, enum match_kind kind)
{
	struct match *m = &rule->matches[rule->matches_len++];

	m->kind = kind;
	return m;
}

struct rule *rules_match(struct rule *rule, enum match_kind kind, uint32_t value)
{
	struct match *m = add_match(rule, kind);

	if (kind == MATCH_SET)
		m->set = value;
	else if (kind == MATCH_IPSEC)
		m->reqid = value;
	else if (kind == MATCH_FAMILY)
		m->family = (sa_family_t)value;
	else if (kind == MATCH_L4PROTO)
		m->proto = (uint8_t)value;
	else
		m->port = (uint16_t)value;
	return rule;
}

struct rule *rules_match_link(struct rule *rule, enum match_kind kind, const struct tunnel *link)
{
	add_match(rule, kind)->link = *link;
	return rule;
}

static struct raw *match_raw(struct rule *rule, int at, uint8_t len)
{
	struct raw *raw = &add_match(rule, MATCH_RAW)->raw;

	raw->base = (enum raw_base)(at >> 8);
	raw->at = (uint8_t)at;
	raw->len = len;
	return raw;
}

static struct raw *match_value(struct rule *rule, int at, uint8_t len, uint16_t value)
{
	static const uint16_t zero;
	struct raw *raw = match_raw(rule, at, len);

	raw->only = value;
	/* An `only` of 0 is none. */
	raw->values = &zero;
	raw->values_len = 1;
	return raw;
}

struct raw *rules_match_byte(struct rule *rule, int at, uint8_t value)
{
	return match_value(rule, at, 1, value);
}

struct raw *rules_match_word(struct rule *rule, int at, uint16_t value)
{
	return match_value(rule, at, 2, value);
}

void rules_match_none_of(struct rule *rule, int at, const uint16_t *values, uint8_t n)
{
	struct raw *raw = match_raw(rule, at, 1);

	raw->values = values;
	raw->values_len = n;
	raw->differs = true;
}

void rules_match_other_port(struct rule *rule, int at)
{
	match_raw(rule, at, 2)->differs = true;
}

bool rules_has_set(const struct builder *b, const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < b->rs->sets_len; i++)
		if (!strcmp(b->rs->sets[i].name, name)) {
			*ret_index = i;
			return true;
		}
	return false;
}

/* FIELDS @name VERDICT, if there is the set. */
void rules_add_set(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
		   const char *name, const char *comment)
{
	size_t set;

	if (rules_has_set(b, name, &set))
		rules_match(rules_counted(rules_add(b, promise, verdict, "%s", comment), count),
			    MATCH_SET, set);
}

/* --- the rules, in the order of the promises --- */

/* To an approved resolver: S5, or S4 behind a tunnel's name in mode both. */
void rules_add_resolvers(struct builder *b, unsigned int promise, bool count)
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
		rules_add_set(b, promise, count, VERDICT_ACCEPT, rules[i].set, rules[i].comment);
}

/* tunnel-kind: meta oifkind @tunnel_kind, a link of that name that is a tunnel */
static void add_kind_match(struct builder *b, struct rule *r)
{
	size_t set;

	if (rules_has_set(b, "tunnel_kind", &set))
		rules_match(r, MATCH_SET, set);
}

/* rt ipsec exists VERDICT; ipsec out reqid 7 VERDICT */
static void add_ipsec(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
		      const char *target)
{
	const struct policy *p = b->policy;
	uint32_t reqid;
	struct rule *r;

	for (size_t i = 0; i < p->tunnels_len; i++) {
		if (ipsec_parse(p->tunnels[i].name, &reqid))
			continue;
		r = rules_counted(rules_add(b, promise, verdict, "through tunnel %s",
					    p->tunnels[i].name),
				  count);
		r->target = target;
		rules_match(r, MATCH_IPSEC, reqid);
	}
}

/* oifname @tunnel VERDICT, and one rule for each prefix: oifname "tun*" VERDICT */
void rules_add_tunnels(struct builder *b, unsigned int promise, bool count, enum verdict verdict,
		       const char *target)
{
	const struct policy *p = b->policy;
	char text[POLICY_TEXT];
	struct rule *r;
	size_t set;

	if (rules_has_set(b, "tunnel", &set)) {
		r = rules_counted(rules_add(b, promise, verdict, "through a tunnel"), count);
		r->target = target;
		add_kind_match(b, rules_match(r, MATCH_SET, set));
	}
	for (size_t i = 0; i < p->tunnels_len; i++) {
		if (!p->tunnels[i].prefix)
			continue;
		r = rules_counted(rules_add(b, promise, verdict, "through tunnel %s",
					    tunnel_format(&p->tunnels[i], text)),
				  count);
		r->target = target;
		add_kind_match(b, rules_match_link(r, MATCH_OIFNAME, &p->tunnels[i]));
	}
	/* No frame is transformed any more. */
	if (b->rs->family == FAMILY_INET)
		add_ipsec(b, promise, count, verdict, target);
}

void rules_add_insides(struct builder *b, bool count)
{
	const struct policy *p = b->policy;
	char text[POLICY_TEXT];
	struct rule *r;

	/* oif "lo" */
	if (b->rs->family == FAMILY_INET)
		rules_match(rules_counted(rules_add(b, 2, VERDICT_ACCEPT, "stays on the host"),
					  count),
			    MATCH_OIF_LO, 0);
	/* oifname @inside */
	rules_add_set(b, 2, count, VERDICT_ACCEPT, "inside", "stays on the host, in a guest");
	for (size_t i = 0; i < p->insides_len; i++) {
		if (!p->insides[i].prefix)
			continue;
		r = rules_counted(rules_add(b, 2, VERDICT_ACCEPT, "stays on the host, inside %s",
					    tunnel_format(&p->insides[i], text)),
				  count);
		rules_match_link(r, MATCH_OIFNAME, &p->insides[i]);
	}
}

/* Whatever it is: a tunnel takes all but in mode both. */
void rules_add_by_link(struct builder *b)
{
	rules_add_insides(b, false);
	if (b->policy->mode == POLICY_MODE_EITHER)
		rules_add_tunnels(b, 4, false, VERDICT_ACCEPT, NULL);
}

/* S2 to S6.  `count` is false where a later hook counts the same packet. */
void rules_add_allowances(struct builder *b, bool count)
{
	const bool inet = b->rs->family == FAMILY_INET;

	rules_add_insides(b, count);

	/* ip daddr . meta l4proto . th dport [ . meta mark ] @endpoint4 */
	rules_add_set(b, 3, count, VERDICT_ACCEPT, "endpoint4", "the VPN's carrier");
	rules_add_set(b, 3, count, VERDICT_ACCEPT, "endpoint6", "the VPN's carrier");
	rules_add_set(b, 3, count, VERDICT_ACCEPT, "endpoint4_mark",
		      "the VPN's carrier, by its mark");
	rules_add_set(b, 3, count, VERDICT_ACCEPT, "endpoint6_mark",
		      "the VPN's carrier, by its mark");

	if (b->policy->mode == POLICY_MODE_BOTH) {
		/* oifname @tunnel jump approved */
		rules_add_tunnels(b, 4, false, VERDICT_JUMP,
				  inet && !count ? "approved_early" : "approved");
	} else {
		/* oifname @tunnel accept */
		rules_add_tunnels(b, 4, count, VERDICT_ACCEPT, NULL);
		/* ip daddr @resolver4 accept */
		rules_add_resolvers(b, 5, count);
	}
	/* meta nfproto @pause accept: elements that the kernel itself takes away */
	rules_add_set(b, 6, count, VERDICT_ACCEPT, "pause", "in a pause that the user asked for");
}

void rules_add_ports(struct builder *b, const char *target)
{
	for (size_t i = 0; i < b->policy->ports_len; i++) {
		struct rule *r = rules_add(b, 1, VERDICT_JUMP, "only port %u goes further",
					   b->policy->ports[i]);

		r->target = target;
		rules_match(r, MATCH_DPORT, b->policy->ports[i]);
	}
}

/* Frames are counted apart: the same verdict, at another place (S11). */
static unsigned int blocking_promise(const struct builder *b)
{
	return b->rs->family == FAMILY_INET ? 7 : 11;
}

/* Where a packet shows its port and its last link: a packet counts once. */
static void add_count(struct builder *b)
{
	/* update @blocked { oifname . th dport counter } */
	rules_add(b, blocking_promise(b), VERDICT_COUNT, "counted by link and port");
}

void rules_add_rejects(struct builder *b, const char *comment)
{
	static const struct {
		uint8_t proto;
		enum verdict verdict;
	} rejects[] = { { IPPROTO_TCP, VERDICT_REJECT_RESET },
			{ IPPROTO_UDP, VERDICT_REJECT_ADMIN } };

	add_count(b);
	for (size_t i = 0; i < 2; i++) {
		/* meta l4proto tcp reject with tcp reset; meta l4proto udp reject with icmpx admin-prohibited */
		struct rule *r =
			rules_counted(rules_add(b, 7, rejects[i].verdict, "%s", comment), true);

		rules_match(r, MATCH_L4PROTO, rejects[i].proto);
	}
}

void rules_add_log(struct builder *b)
{
	add_log(b, blocking_promise(b));
}

void rules_add_verdict_chain(struct builder *b, bool count)
{
	rules_add_chain(b, "verdict", HOOK_NONE);
	rules_add_allowances(b, count);
	rules_add_log(b);
	add_count(b);
	/* drop */
	rules_counted(rules_add(b, blocking_promise(b), VERDICT_DROP, "any other name traffic"),
		      true);
}

/* A rule that does not look at the port yet. */
static struct rule *add_port_rule(struct builder *b, enum verdict verdict)
{
	char ports[RULESET_TEXT] = "";
	size_t at = 0;

	for (size_t i = 0; i < b->policy->ports_len; i++)
		at += (size_t)snprintf(ports + at, sizeof(ports) - at, "%s%u", i ? "," : "",
				       b->policy->ports[i]);
	return rules_add(b, 1, verdict, "any port but %s", ports);
}

/* th dport != 53 th dport != 853 VERDICT */
struct rule *rules_add_other_port(struct builder *b, enum verdict verdict)
{
	return rules_match(add_port_rule(b, verdict), MATCH_OTHER_DPORT, 0);
}

/*
 * IPv4: a later fragment has to be told first: for a field of two bytes the kernel
 * takes whatever stands where the port would be (nft_payload_fast_eval()), and lets
 * a name's bytes pass.
 */
static void add_other_traffic4(struct builder *b)
{
	/* [@nh,72,8 != 51] ip frag-off & 0x1fff == 0 th dport != 53 th dport != 853 accept */
	struct rule *r = add_port_rule(b, VERDICT_ACCEPT);

	/* Authenticated frames are for those rules that know of `frames`. */
	if (b->rs->family != FAMILY_INET)
		rules_match_byte(r, AT_NH + 9, IPPROTO_AH)->differs = true;
	rules_match(r, MATCH_HAS_PORT4, 0);
	rules_match(r, MATCH_OTHER_DPORT, 0);
}

/*
 * IPv6 without an extension header, so without a fragment: to have the kernel look
 * for a fragment header takes longer than all the rest of the rule.  Below 32, which
 * TCP and UDP are, no number but 0 (hop-by-hop options) is an extension header's.
 */
static void add_other_traffic6(struct builder *b)
{
	const bool inet = b->rs->family == FAMILY_INET;
	struct rule *r = add_port_rule(b, VERDICT_ACCEPT);

	/* [@nh,0,8 & 0xf0 == 0x60] @nh,48,8 & 0xe0 == 0 @nh,48,8 != 0 */
	if (!inet)
		rules_match_byte(r, AT_NH, 0x60)->mask = 0xf0;
	rules_match_byte(r, AT_NH + 6, 0)->mask = 0xe0;
	rules_match_byte(r, AT_NH + 6, 0)->differs = true;
	/* th dport != 53 th dport != 853, or @nh,336,16 != 53 ...; meta nfproto ipv6 accept */
	if (inet)
		rules_match(r, MATCH_OTHER_DPORT, 0);
	else
		rules_match_other_port(r, AT_NH + 42);
	rules_match(r, MATCH_FAMILY, AF_INET6);
}

/*
 * These stand at the hook itself, for a way to another chain costs as much as a
 * rule; and depend on the ports alone, so that the hook's chain hardly changes.
 */
void rules_add_other_traffic(struct builder *b)
{
	add_other_traffic4(b);
	add_other_traffic6(b);
}

/* meta l4proto udp goto verdict: other protocols have other things at the port's offset */
void rules_add_protocols(struct builder *b)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP };

	for (size_t i = 0; i < sizeof(protos); i++) {
		struct rule *r = rules_add(b, 1, VERDICT_GOTO, "only %s goes further",
					   proto_format(protos[i]));

		r->target = "verdict";
		rules_match(r, MATCH_L4PROTO, protos[i]);
	}
}

/* ip frag-off & 0x1fff != 0 goto fragment; frag frag-off != 0 goto fragment */
void rules_add_fragments(struct builder *b, bool sound)
{
	static const enum match_kind kinds[] = { MATCH_LATER_FRAG4, MATCH_LATER_FRAG6 };

	for (size_t i = 0; i < 2; i++) {
		struct rule *r = rules_add_goto(b, 9, "fragment", "a later fragment has no port");

		rules_match(r, kinds[i], 0);
		/* An IPv6 header has to be sound for its fragment header to be found. */
		if (sound && kinds[i] == MATCH_LATER_FRAG4)
			rules_match(r, MATCH_ANY_L4PROTO, 0);
	}
}

/* For a frame only links are tunnels. */
static bool has_tunnels(const struct builder *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->policy->tunnels_len; i++)
		n += b->rs->family == FAMILY_INET || !ipsec_is_name(b->policy->tunnels[i].name);
	return n;
}

/* Mode both, behind a tunnel's name: only approved resolvers. */
void rules_add_approved_chains(struct builder *b)
{
	const bool inet = b->rs->family == FAMILY_INET;

	if (b->policy->mode != POLICY_MODE_BOTH || !has_tunnels(b))
		return;
	rules_add_chain(b, "approved", HOOK_NONE);
	rules_add_resolvers(b, 4, inet);
	if (!inet || b->policy->action != POLICY_ACTION_REJECT)
		return;
	rules_add_chain(b, "approved_early", HOOK_NONE);
	rules_add_resolvers(b, 4, false);
}
