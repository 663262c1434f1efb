#include "fwdecode.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fwread.h"

/* A key of `set`, read field by field from its start. */
struct cursor {
	const uint8_t *at;
};

static void take(struct cursor *c, void *to, size_t len)
{
	memcpy(to, c->at, len);
	c->at += (len + 3) & ~(size_t)3;
}

static void take_addr(struct cursor *c, struct addr *addr, sa_family_t family)
{
	addr->family = family;
	take(c, addr->bytes, family == AF_INET ? 4 : 16);
}

static struct tunnel take_name(struct cursor *c)
{
	struct tunnel t = { .prefix = false };

	take(c, t.name, IFNAMSIZ);
	t.name[IFNAMSIZ - 1] = '\0';
	return t;
}

static int take_tunnel(struct policy *p, struct cursor *c, sa_family_t family)
{
	const struct tunnel t = take_name(c);

	(void)family;
	return policy_add_tunnel(p, &t);
}

static int take_inside(struct policy *p, struct cursor *c, sa_family_t family)
{
	const struct tunnel t = take_name(c);

	(void)family;
	return policy_add_inside(p, &t);
}

static int take_lan(struct policy *p, struct cursor *c, sa_family_t family)
{
	const struct tunnel t = take_name(c);

	(void)family;
	return policy_add_lan(p, &t);
}

static int take_exempt(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct addr addr = { 0 };

	take_addr(c, &addr, family);
	return policy_add_exempt(p, &addr);
}

static int take_exempt_mac(struct policy *p, struct cursor *c, sa_family_t family)
{
	(void)family;
	return policy_add_exempt_mac(p, c->at);
}

static int take_kind(struct policy *p, struct cursor *c, sa_family_t family)
{
	char kind[IFNAMSIZ];

	(void)family;
	take(c, kind, IFNAMSIZ);
	kind[IFNAMSIZ - 1] = '\0';
	return policy_add_kind(p, kind);
}

static int take_resolver(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct resolver r = { .path = RESOLVER_PATH_STICKY };

	take_addr(c, &r.addr, family);
	return policy_add_resolver(p, &r);
}

/* Approved, but only through tunnels: no other set has it in mode either. */
static int take_tied(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct resolver r = { .path = RESOLVER_PATH_TUNNEL };

	take_addr(c, &r.addr, family);
	return policy_add_resolver(p, &r);
}

static int take_resolver_port(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct resolver r = { .path = RESOLVER_PATH_STICKY };
	uint16_t port_be;

	take_addr(c, &r.addr, family);
	take(c, &port_be, sizeof(port_be));
	r.port = ntohs(port_be);
	return policy_add_resolver(p, &r);
}

/* The same, where LAN clients may ask it. */
static int take_keep(struct policy *p, struct cursor *c, sa_family_t family)
{
	int err = take_resolver_port(p, c, family);

	if (!err)
		p->resolvers[p->resolvers_len - 1].path = RESOLVER_PATH_TUNNEL;
	return err;
}

static int take_resolver_link(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct resolver r = { .path = RESOLVER_PATH_LINK };
	uint16_t port_be;

	take(c, r.link, IFNAMSIZ);
	r.link[IFNAMSIZ - 1] = '\0';
	take_addr(c, &r.addr, family);
	take(c, &port_be, sizeof(port_be));
	r.port = ntohs(port_be);
	return policy_add_resolver(p, &r);
}

static int take_endpoint(struct policy *p, struct cursor *c, sa_family_t family)
{
	struct endpoint e = { 0 };
	uint16_t port_be;

	take_addr(c, &e.addr, family);
	take(c, &e.proto, sizeof(e.proto));
	take(c, &port_be, sizeof(port_be));
	e.port = ntohs(port_be);
	return policy_add_endpoint(p, &e);
}

static int take_endpoint_mark(struct policy *p, struct cursor *c, sa_family_t family)
{
	int err = take_endpoint(p, c, family);

	if (!err)
		take(c, &p->endpoints[p->endpoints_len - 1].mark, sizeof(uint32_t));
	return err;
}

/* The sets of ruleset.c, by name; a set of another key length is somebody else's. */
static const struct {
	char name[16];
	sa_family_t family;
	uint32_t key_len;
	int (*take)(struct policy *p, struct cursor *c, sa_family_t family);
} sets[] = {
	{ "tunnel", AF_UNSPEC, 16, take_tunnel },
	{ "inside", AF_UNSPEC, 16, take_inside },
	{ "tunnel_kind", AF_UNSPEC, 16, take_kind },
	{ "resolver4", AF_INET, 4, take_resolver },
	{ "resolver6", AF_INET6, 16, take_resolver },
	{ "resolver4_port", AF_INET, 8, take_resolver_port },
	{ "resolver6_port", AF_INET6, 20, take_resolver_port },
	{ "resolver4_link", AF_INET, 24, take_resolver_link },
	{ "resolver6_link", AF_INET6, 36, take_resolver_link },
	{ "tied4", AF_INET, 4, take_tied },
	{ "tied6", AF_INET6, 16, take_tied },
	{ "endpoint4", AF_INET, 12, take_endpoint },
	{ "endpoint6", AF_INET6, 24, take_endpoint },
	{ "endpoint4_mark", AF_INET, 16, take_endpoint_mark },
	{ "endpoint6_mark", AF_INET6, 28, take_endpoint_mark },
	{ "lan", AF_UNSPEC, 16, take_lan },
	{ "lan_keep4", AF_INET, 8, take_keep },
	{ "lan_keep6", AF_INET6, 20, take_keep },
	{ "lan_exempt4", AF_INET, 4, take_exempt },
	{ "lan_exempt6", AF_INET6, 16, take_exempt },
	{ "lan_exempt_mac", AF_UNSPEC, MAC_LEN, take_exempt_mac },
};

#define PORTS_COMMENT "] \"S1 any port but "

static void read_ports(struct policy *p, const char *list)
{
	unsigned int port;
	int n;

	while (sscanf(list, "%5u%n", &port, &n) == 1 && port <= 65535) {
		(void)policy_add_port(p, (uint16_t)port);
		list += n + (list[n] == ',');
	}
}

/* Each stands there for UDP and for TCP. */
static void read_redirect(struct policy *p, const char *comment)
{
	struct redirect r = { 0 };
	char addr[ADDR_TEXT];
	unsigned int port;

	if (sscanf(comment, "] \"S5 LAN clients ask %45[0-9a-f:.], port %5u", addr, &port) == 2) {
		if (addr_parse(addr, &r.addr))
			return;
		r.port = (uint16_t)port;
	} else if (strcmp(comment, "] \"S5 LAN clients ask this host\"")) {
		return;
	}
	for (size_t i = 0; i < p->redirects_len; i++)
		if (p->redirects[i].addr.family == r.addr.family)
			return;
	(void)policy_add_redirect(p, &r);
}

/* As fwrule_format() writes NFTA_LIMIT_RATE, NFTA_LOG_GROUP and NFT_META_RTCLASSID. */
#define LIMIT_WORDS "[limit b="
#define LOG_WORDS   "[log b="
#define ROUTE_WORDS "[meta b=00000001 c=0000000d]"

/* Of so many bytes; those at its end that are zero are not in the text. */
static uint64_t read_number(const char *text, size_t bytes)
{
	uint64_t number = 0;
	unsigned int byte;

	for (size_t i = 0; i < bytes; i++) {
		number <<= 8;
		if (isxdigit((unsigned char)*text) && sscanf(text, "%2x", &byte) == 1) {
			number |= byte;
			text += 2;
		}
	}
	return number;
}

/* Ports, tunnel prefixes and the log stand in rules alone; their text carries them. */
static void read_comment(struct policy *p, const char *rule)
{
	struct tunnel t = { .prefix = true };
	const char *comment = strrchr(rule, ']');
	const char *log = strstr(rule, LOG_WORDS);
	char name[IFNAMSIZ + 1];

	if (!comment)
		return;
	if (!strncmp(rule, LIMIT_WORDS, strlen(LIMIT_WORDS)) && log) {
		p->log_rate = (uint32_t)read_number(rule + strlen(LIMIT_WORDS), 8);
		p->log_group = (uint32_t)read_number(log + strlen(LOG_WORDS), 2);
	}
	if (!strncmp(comment, PORTS_COMMENT, strlen(PORTS_COMMENT)))
		read_ports(p, comment + strlen(PORTS_COMMENT));
	if (sscanf(comment, "] \"S4 through tunnel %15[^*\"]*", name) == 1 &&
	    !tunnel_name_parse(name, t.name)) {
		t.prefix = !ipsec_is_name(t.name);
		(void)policy_add_tunnel(p, &t);
		return;
	}
	if (sscanf(comment, "] \"S2 stays on the host, inside %15[^*\"]*", name) == 1 &&
	    !ifname_parse(name, t.name))
		(void)policy_add_inside(p, &t);
	if (sscanf(comment, "] \"S5 of LAN %15[^*\"]*", name) == 1 && !ifname_parse(name, t.name))
		(void)policy_add_lan(p, &t);
	read_redirect(p, comment);
}

/* Whether a rule of this chain holds these words. */
static bool has_words(const struct fwtable *table, const char *name, const char *words)
{
	const struct fwchain *chain = fwtable_chain(table, name);

	for (size_t i = 0; chain && i < chain->rules_len; i++)
		if (strstr(chain->rules[i], words))
			return true;
	return false;
}

static enum frames decode_frames(const struct fwtables *tables)
{
	const struct fwtable *some = tables->of[FAMILY_NETDEV].present ?
					     &tables->of[FAMILY_NETDEV] :
					     &tables->of[FAMILY_BRIDGE];

	if (!some->present)
		return FRAMES_OFF;
	return has_words(some, "frame", "behind an authentication header") ? FRAMES_STRICT :
									     FRAMES_AUTO;
}

int fwdecode_policy(const struct fwtables *tables, struct policy *ret_policy)
{
	const struct fwtable *table = &tables->of[FAMILY_INET];
	static const char told[][14] = { "postrouting", "verdict", "lan", "lan_redirect" };
	const bool both = fwtable_chain(table, "approved") != NULL;
	const bool reject = fwtable_chain(table, "refuse") != NULL;
	char why[256];
	int err = 0;

	policy_init(ret_policy);
	ret_policy->ports_len = 0;
	for (size_t i = 0; !err && i < sizeof(sets) / sizeof(sets[0]); i++) {
		const struct fwset *set = fwtable_set(table, sets[i].name);

		if (!set || set->odd || set->key_len != sets[i].key_len ||
		    (both && sets[i].take == take_tied) ||
		    ((both || reject) && sets[i].take == take_keep))
			continue;
		for (size_t k = 0; !err && k < set->elems_len; k++) {
			struct cursor c = { set->elems + k * set->key_len };

			err = sets[i].take(ret_policy, &c, sets[i].family);
		}
		if (err == -E2BIG)
			err = 0; /* somebody else's elements: as many as we can hold */
	}
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		const struct fwchain *chain = fwtable_chain(table, told[i]);

		for (size_t k = 0; chain && k < chain->rules_len; k++)
			read_comment(ret_policy, chain->rules[k]);
	}
	if (both)
		ret_policy->mode = POLICY_MODE_BOTH;
	if (reject)
		ret_policy->action = POLICY_ACTION_REJECT;
	if (fwtable_chain(table, "slow_path"))
		ret_policy->flow_offload = FLOW_OFFLOAD_PREVENT;
	ret_policy->fragments = fwdecode_fragments(tables);
	ret_policy->frames = decode_frames(tables);
	if (err) {
		policy_fini(ret_policy);
		return err;
	}
	(void)policy_validate(ret_policy, why, sizeof(why));
	return 0;
}

enum fragments fwdecode_fragments(const struct fwtables *tables)
{
	const struct fwchain *defrag = fwtable_chain(&tables->of[FAMILY_INET], "defrag");

	if (!defrag || !defrag->rules_len)
		return FRAGMENTS_DROP;
	return !strncmp(defrag->rules[0], "[ct ", 4) ? FRAGMENTS_CONNTRACK : FRAGMENTS_DEFRAG;
}

struct parts fwdecode_parts(const struct fwtables *tables)
{
	const struct fwtable *netdev = &tables->of[FAMILY_NETDEV];
	const enum fragments how = fwdecode_fragments(tables);

	return (struct parts){
		.fragments = how == FRAGMENTS_DROP ? FRAGMENTS_AUTO : how,
		.egress = netdev->present ? PART_HAS : PART_UNKNOWN,
		.bridge = tables->of[FAMILY_BRIDGE].present ? PART_HAS : PART_UNKNOWN,
		.route = has_words(netdev, "fragment", ROUTE_WORDS) ? PART_HAS : PART_UNKNOWN,
	};
}
