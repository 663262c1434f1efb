/*
 * The rules, run on packets as the kernel would, against the promises as rules/README.md
 * words them: for combinations of all options, all sorts of destinations and devices.
 */
#include "unit.h"

#include <netinet/in.h>

#include "combinations.h"

struct packet {
	char link[IFNAMSIZ]; /* its last device */
	char kind[IFNAMSIZ]; /* of that device; "" for hardware */
	struct addr addr;
	const char *addr_text;
	uint8_t proto;
	uint16_t port; /* of a later fragment: what stands where a port would be */
	uint32_t mark;
	bool later_fragment;
};

enum outcome { OUTCOME_ALLOWED, OUTCOME_DROPPED, OUTCOME_REJECTED };

/* --- the kernel's part: nf_tables in small --- */

static bool is_in_set(const struct set *set, const struct packet *p)
{
	/* NFPROTO_IPV4, NFPROTO_IPV6; linux/netfilter.h and netinet/in.h do not go together */
	const uint8_t family = p->addr.family == AF_INET ? 2 : 10;
	const uint16_t port_be = htons(p->port);
	uint8_t key[SET_MAX_KEY] = { 0 };

	for (size_t i = 0; i < set->fields_len; i++) {
		const enum field field = set->fields[i];
		const void *value = field == FIELD_OIFNAME ? (const void *)p->link :
				    field == FIELD_OIFKIND ? (const void *)p->kind :
				    field == FIELD_NFPROTO ? (const void *)&family :
				    field == FIELD_L4PROTO ? (const void *)&p->proto :
				    field == FIELD_DPORT   ? (const void *)&port_be :
				    field == FIELD_MARK	   ? (const void *)&p->mark :
							     (const void *)p->addr.bytes;

		/* What a packet does not have, nothing of it matches. */
		if ((field == FIELD_DADDR4 && p->addr.family != AF_INET) ||
		    (field == FIELD_DADDR6 && p->addr.family != AF_INET6))
			return false;
		memcpy(key + set_field_offset(set, i), value, field_len(field));
	}
	for (size_t i = 0; i < set->elems_len; i++)
		if (!memcmp(set->elems + i * set->key_len, key, set->key_len))
			return true;
	return false;
}

/* The byte at which IPv6 has its next header, and IPv4 flags and a fragment's offset. */
static bool is_byte6_matched(const struct ruleset *rs, const struct raw *raw,
			     const struct packet *p)
{
	const uint8_t byte = p->addr.family == AF_INET ? (p->later_fragment ? 0x00 : 0x40) :
			     p->later_fragment	       ? IPPROTO_FRAGMENT :
							 p->proto;
	const uint16_t *values;

	assert_int_equal(raw->base, RAW_NETWORK);
	assert_int_equal(raw->at, 6);
	assert_int_equal(raw->len, 1);
	assert_int_equal(ruleset_raw_values(rs, raw, &values), 1);
	return ((byte & (raw->mask ?: 0xff)) == values[0]) != raw->differs;
}

static bool is_matched(const struct ruleset *rs, const struct match *m, const struct packet *p)
{
	const size_t name_len =
		m->kind == MATCH_OIFNAME && m->link.prefix ? strlen(m->link.name) : IFNAMSIZ;

	switch (m->kind) {
	case MATCH_DPORT:
		return p->port == m->port;
	case MATCH_OTHER_DPORT:
		for (size_t i = 0; i < rs->ports_len; i++)
			if (p->port == rs->ports[i])
				return false;
		return true;
	case MATCH_NO_PORTS:
		return p->proto != IPPROTO_UDP && p->proto != IPPROTO_TCP;
	case MATCH_HAS_PORT4:
		return !p->later_fragment && p->addr.family == AF_INET;
	case MATCH_RAW:
		return is_byte6_matched(rs, &m->raw, p);
	case MATCH_L4PROTO:
		return p->proto == m->proto;
	case MATCH_FAMILY:
		return p->addr.family == m->family;
	case MATCH_OIF_LO:
		return !strcmp(p->link, "lo");
	case MATCH_OIFNAME:
		return !memcmp(p->link, m->link.name, name_len);
	case MATCH_SET:
		return is_in_set(&rs->sets[m->set], p);
	case MATCH_DADDR_LO4:
		return p->addr.family == AF_INET && p->addr.bytes[0] == 127;
	case MATCH_DADDR_LO6:
		return p->addr.family == AF_INET6 && addr_is_loopback(&p->addr);
	case MATCH_MARKED:
		return p->mark != 0;
	case MATCH_LATER_FRAG4:
		return p->later_fragment && p->addr.family == AF_INET;
	case MATCH_LATER_FRAG6:
		return p->later_fragment && p->addr.family == AF_INET6;
	case MATCH_CT_INVALID:
		return false;
	case MATCH_FRAG6:
	case MATCH_ANY_L4PROTO:
	case MATCH_ROUTED:
	case MATCH_NOT_BRIDGED:
	case MATCH_STAMPED:
	case MATCH_OIFTYPE:
	case MATCH_PROTOCOL:
		fail_msg("of frames only");
		break;
	case MATCH_SPORT:
	case MATCH_IIFNAME:
	case MATCH_LOCAL:
	case MATCH_CT_DNAT:
		fail_msg("of LAN clients only");
		break;
	case MATCH_IPSEC:
		fail_msg("no packet here meets a policy of IPsec");
	}
	return false;
}

/* Whether the chain decides; its outcome then. */
static bool run_chain(const struct ruleset *rs, const char *name, const struct packet *p,
		      enum outcome *ret_outcome)
{
	const struct chain *chain = chain_named(rs, name);

	for (size_t i = 0; i < chain->rules_len; i++) {
		const struct rule *r = &chain->rules[i];
		bool all = true;

		for (size_t m = 0; m < r->matches_len; m++)
			all &= is_matched(rs, &r->matches[m], p);
		if (!all)
			continue;
		switch (r->verdict) {
		case VERDICT_ACCEPT:
			*ret_outcome = OUTCOME_ALLOWED;
			return true;
		case VERDICT_DROP:
			*ret_outcome = OUTCOME_DROPPED;
			return true;
		case VERDICT_REJECT_RESET:
		case VERDICT_REJECT_ADMIN:
			*ret_outcome = OUTCOME_REJECTED;
			return true;
		case VERDICT_RETURN:
			return false;
		case VERDICT_JUMP:
			if (run_chain(rs, r->target, p, ret_outcome))
				return true;
			break;
		case VERDICT_GOTO:
			return run_chain(rs, r->target, p, ret_outcome);
		case VERDICT_COUNT:
		case VERDICT_LOG:
			break;
		case VERDICT_TPROXY4:
		case VERDICT_TPROXY6:
			fail_msg("a packet reached the unreached rule");
			break;
		case VERDICT_STAMP:
			fail_msg("of frames only");
			break;
		case VERDICT_DNAT:
		case VERDICT_REDIRECT:
		case VERDICT_MASQUERADE:
		case VERDICT_NO_OFFLOAD:
			fail_msg("of LAN clients only");
		}
	}
	return false;
}

static enum outcome run_hook(const struct ruleset *rs, const char *chain, const struct packet *p)
{
	enum outcome outcome;

	return run_chain(rs, chain, p, &outcome) ? outcome : OUTCOME_ALLOWED;
}

/* --- the promises --- */

static bool is_name_traffic(const struct policy *policy, const struct packet *p)
{
	bool guarded = false;

	for (size_t i = 0; i < policy->ports_len; i++)
		guarded |= policy->ports[i] == p->port;
	return guarded && (p->proto == IPPROTO_UDP || p->proto == IPPROTO_TCP);
}

static bool is_carrier(const struct policy *policy, const struct packet *p)
{
	for (size_t i = 0; i < policy->endpoints_len; i++) {
		const struct endpoint *e = &policy->endpoints[i];

		if (!addr_cmp(&e->addr, &p->addr) && e->port == p->port && e->proto == p->proto &&
		    (!e->mark || e->mark == p->mark))
			return true;
	}
	return false;
}

/* To an approved resolver; `pinned`: by a path approved for it. */
static bool is_approved(const struct policy *policy, const struct packet *p, bool any_path)
{
	struct addr addrs[2];
	const struct pins pins = test_pins_of(addrs);

	for (size_t i = 0; i < policy->resolvers_len; i++) {
		const struct resolver *r = &policy->resolvers[i];
		const bool pinned = r->path == RESOLVER_PATH_TUNNEL ||
				    (r->path == RESOLVER_PATH_STICKY && pins_has(&pins, &r->addr));

		if (addr_cmp(&r->addr, &p->addr) || (r->port && r->port != p->port) ||
		    addr_is_loopback(&r->addr))
			continue;
		/* With kinds asked for, a tunnel's name is no path by itself. */
		if (r->path != RESOLVER_PATH_LINK ?
			    any_path || !pinned :
			    !strcmp(r->link, p->link) && (any_path || !policy->kinds_len ||
							  !policy_is_tunnel(policy, r->link)))
			return true;
	}
	return false;
}

static bool is_allowed(const struct combination *c, const struct packet *p)
{
	const struct policy *policy = &c->policy;
	const bool either = policy->mode == POLICY_MODE_EITHER;
	const bool tunnelled = policy_is_tunnel(policy, p->link) &&
			       (!policy->kinds_len || !strcmp(p->kind, policy->kinds[0]));

	if (p->later_fragment) {
		if (p->proto == IPPROTO_ICMP)
			return true;					/* S1 */
		return !strcmp(p->link, "lo") || (tunnelled && either); /* S2, S4, or S9 */
	}
	if (!is_name_traffic(policy, p))
		return true; /* S1 */
	if (!strcmp(p->link, "lo") || is_carrier(policy, p) || c->paused)
		return true; /* S2, S3, S6 */
	if (tunnelled)
		return either || is_approved(policy, p, true); /* S4 */
	return either && is_approved(policy, p, false);	       /* S5, or S7 */
}

/* --- both against each other --- */

static void describe(const struct combination *c, const struct packet *p, const char *hook,
		     enum outcome outcome)
{
	static const char *const words[] = { "allowed", "dropped", "rejected" };

	fail_msg("%s%s%s through %s (%s), protocol %u port %u mark %u%s: %s at %s", c->text,
		 c->paused ? "paused: " : "", p->addr_text, p->link, p->kind, p->proto, p->port,
		 p->mark, p->later_fragment ? " later fragment" : "", words[outcome], hook);
}

/* One that a path ties down: its last device decides, and that is not known at output. */
static bool is_tied(const struct combination *c, const struct packet *p)
{
	struct addr addrs[2];
	const struct pins pins = test_pins_of(addrs);

	for (size_t i = 0; i < c->policy.resolvers_len; i++) {
		const struct resolver *r = &c->policy.resolvers[i];

		if (!addr_cmp(&r->addr, &p->addr) && !addr_is_loopback(&p->addr) &&
		    (c->policy.mode == POLICY_MODE_BOTH || r->path == RESOLVER_PATH_LINK ||
		     r->path == RESOLVER_PATH_TUNNEL ||
		     (r->path == RESOLVER_PATH_STICKY && pins_has(&pins, &r->addr))))
			return true;
	}
	return false;
}

static void check_packet(const struct combination *c, const struct packet *p)
{
	const bool allowed = is_allowed(c, p);
	enum outcome outcome = run_hook(&c->rules[FAMILY_INET], "postrouting", p);

	if (outcome != (allowed ? OUTCOME_ALLOWED : OUTCOME_DROPPED))
		describe(c, p, "postrouting", outcome);
	if (c->policy.action != POLICY_ACTION_REJECT)
		return;

	/* What is forwarded has its last address and device by then. */
	outcome = run_hook(&c->rules[FAMILY_INET], "forward", p);
	if (outcome == OUTCOME_DROPPED || (outcome == OUTCOME_REJECTED && allowed) ||
	    (outcome == OUTCOME_ALLOWED && !allowed && !p->later_fragment))
		describe(c, p, "forward", outcome);

	/* At output only what no re-routing can save is refused. */
	outcome = run_hook(&c->rules[FAMILY_INET], "output", p);
	if (outcome == OUTCOME_DROPPED ||
	    (outcome == OUTCOME_REJECTED &&
	     (allowed || p->mark || addr_is_loopback(&p->addr) || is_tied(c, p))))
		describe(c, p, "output", outcome);
	if (outcome == OUTCOME_ALLOWED && !allowed && !p->mark && !p->later_fragment &&
	    !addr_is_loopback(&p->addr) && !is_tied(c, p))
		describe(c, p, "output", outcome);
}

static void check_all_packets(const struct combination *c)
{
	static const struct {
		const char *name, *kind;
	} links[] = { { "lo", "" },   { "wg0", "wireguard" },  { "wg0", "veth" },
		      { "wg00", "" }, { "tun0", "wireguard" }, { "tun0", "tun" },
		      { "eth0", "" } };
	static const char *const addrs[] = {
		"127.0.0.53",	"192.0.2.53",	"10.64.0.7",   "10.64.0.8",   "10.64.0.9",
		"10.64.0.10",	"8.8.4.4",	"203.0.113.7", "203.0.113.8", "::1",
		"fe80::7",	"fd64::9",	"2001:db8::7", "2001:db8::8", "2001:db8::53",
		"2001:db8::54", "2001:db8::99",
	};
	static const uint16_t ports[] = { 53, 853, 1, 443 };
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP };

	for (size_t a = 0; a < LEN(addrs); a++)
		for (size_t l = 0; l < LEN(links); l++)
			for (size_t i = 0; i < LEN(ports) * LEN(protos) * 4; i++) {
				struct packet p = { .addr_text = addrs[a],
						    .port = ports[i / 12],
						    .proto = protos[i / 4 % 3],
						    .mark = i % 2 ? 7 : 0,
						    .later_fragment = i / 2 % 2 };

				strcpy(p.link, links[l].name);
				strcpy(p.kind, links[l].kind);
				addr_parse(addrs[a], &p.addr);
				check_packet(c, &p);
			}
}

static void test_verdicts(void **state)
{
	struct combination c;

	(void)state;
	/* Every thirteenth: coprime to the number of each choice, so that all pairs come. */
	for (size_t i = 0; i < COMBINATIONS; i += 13) {
		combination_init(&c, i);
		check_all_packets(&c);
		c.paused = true;
		assert_int_equal(ruleset_pause(&c.rules[FAMILY_INET], 60000, false), 0);
		if (i % 2)
			check_all_packets(&c);
		combination_fini(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdicts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
