/* The sets of a ruleset: tunnels, endpoints, resolvers by the way they may be reached. */
#include "ruleset_sets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"
#include "netstate.h"

enum { PROTO_IPV4 = 2, PROTO_IPV6 = 10 }; /* NFPROTO_*, linux/netfilter.h */
enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_IPV6 = 0x86dd };

const char *family_format(enum family family)
{
	static const char *const names[] = {
		[FAMILY_INET] = "inet",
		[FAMILY_NETDEV] = "netdev",
		[FAMILY_BRIDGE] = "bridge",
	};

	return names[family];
}

size_t field_len(enum field field)
{
	static const uint8_t lens[] = {
		[FIELD_OIFNAME] = IFNAMSIZ, [FIELD_IIFNAME] = IFNAMSIZ, [FIELD_OIFKIND] = IFNAMSIZ,
		[FIELD_NFPROTO] = 1,	    [FIELD_SADDR4] = 4,		[FIELD_SADDR6] = 16,
		[FIELD_SMAC] = MAC_LEN,	    [FIELD_PROTOCOL] = 2,	[FIELD_DADDR4] = 4,
		[FIELD_DADDR6] = 16,	    [FIELD_L4PROTO] = 1,	[FIELD_DPORT] = 2,
		[FIELD_MARK] = 4,
	};

	return lens[field];
}

size_t set_field_offset(const struct set *set, size_t i)
{
	size_t offset = 0;

	while (i--)
		offset += (field_len(set->fields[i]) + 3) & ~(size_t)3;
	return offset;
}

uint32_t set_size(const struct set *set)
{
	uint32_t size = RULESET_LARGE;

	if (set->counts)
		return RULESET_MAX_BLOCKED;
	if (set->elems_len < RULESET_LARGE)
		return 0;
	/* A quarter of it for what comes later; the kernel rounds its table up likewise. */
	while (size < set->elems_len + set->elems_len / 4)
		size *= 2;
	return size;
}

bool pins_has(const struct pins *pins, const struct addr *addr)
{
	size_t low = 0, high = pins->len;

	while (low < high) {
		const size_t mid = low + (high - low) / 2;
		const int c = addr_cmp(&pins->addrs[mid], addr);

		if (!c)
			return true;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

/* The sets under construction.  The first error sticks and every later call does nothing. */
struct filler {
	struct set *sets; /* room for RULESET_MAX_SETS */
	size_t sets_len;
	const struct policy *policy;
	const struct pins *pins;
	enum family family;
	const struct netstate *ns; /* NULL: for table inet */
	int err;
	struct set scratch; /* what calls after an error get */
};

/* Index of a set made on first use; its name tells its fields. */
static struct set *use_set(struct filler *f, const char *name, size_t fields_len,
			   const enum field *fields)
{
	struct set *set;

	for (size_t i = 0; i < f->sets_len; i++)
		if (!strcmp(f->sets[i].name, name))
			return &f->sets[i];
	if (f->err || f->sets_len == RULESET_MAX_SETS) {
		f->err = f->err ?: -ENOMEM;
		return &f->scratch;
	}
	set = &f->sets[f->sets_len++];
	set->name = name;
	set->fields_len = fields_len;
	memcpy(set->fields, fields, fields_len * sizeof(*fields));
	/* As nft has it: padded only where another field follows. */
	set->key_len = fields_len == 1 ? field_len(fields[0]) : set_field_offset(set, fields_len);
	return set;
}

static void add_elem(struct filler *f, struct set *set, const void *const *values)
{
	uint8_t *key;

	if (f->err)
		return;
	if (set->elems_len == set->elems_room) {
		const size_t room = set->elems_room ? set->elems_room * 2 : 16;
		uint8_t *elems = realloc(set->elems, room * set->key_len);

		if (!elems) {
			f->err = -ENOMEM;
			return;
		}
		set->elems = elems;
		set->elems_room = room;
	}
	key = set->elems + set->elems_len++ * set->key_len;
	memset(key, 0, set->key_len);
	for (size_t i = 0; i < set->fields_len; i++) /* a caller gives a value for each field */
		/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
		memcpy(key + set_field_offset(set, i), values[i], field_len(set->fields[i]));
}

static int compare_keys(const void *a, const void *b, void *len)
{
	return memcmp(a, b, *(size_t *)len);
}

size_t keys_sort_unique(uint8_t *keys, size_t n, size_t key_len)
{
	size_t kept = 0, sorted = 1;

	while (sorted < n &&
	       memcmp(keys + (sorted - 1) * key_len, keys + sorted * key_len, key_len) < 0)
		sorted++;
	if (sorted >= n)
		return n;
	qsort_r(keys, n, key_len, compare_keys, &key_len);
	for (size_t i = 1; i < n; i++) {
		uint8_t *last = keys + kept * key_len;

		if (memcmp(last, keys + i * key_len, key_len)) {
			kept++;
			memmove(last + key_len, keys + i * key_len, key_len);
		}
	}
	return kept + 1;
}

static void fill_tunnels(struct filler *f)
{
	static const enum field fields[] = { FIELD_OIFNAME };
	const struct policy *p = f->policy;

	for (size_t i = 0; i < p->tunnels_len; i++)
		if (!p->tunnels[i].prefix && !ipsec_is_name(p->tunnels[i].name))
			add_elem(f, use_set(f, "tunnel", 1, fields),
				 (const void *[]){ p->tunnels[i].name });
}

static void fill_insides(struct filler *f)
{
	static const enum field fields[] = { FIELD_OIFNAME };
	const struct policy *p = f->policy;

	for (size_t i = 0; i < p->insides_len; i++)
		if (!p->insides[i].prefix)
			add_elem(f, use_set(f, "inside", 1, fields),
				 (const void *[]){ p->insides[i].name });
}

/* There whatever the links are: rules do not change because of them. */
static void fill_links(struct filler *f, const char *name,
		       bool (*is)(const struct netstate *, const struct link *))
{
	static const enum field fields[] = { FIELD_OIFNAME };
	struct set *set;

	if (f->family != FAMILY_NETDEV)
		return;
	set = use_set(f, name, 1, fields);
	for (size_t i = 0; i < f->ns->links_len; i++)
		if (is(f->ns, &f->ns->links[i]))
			add_elem(f, set, (const void *[]){ f->ns->links[i].name });
}

static void fill_kinds(struct filler *f)
{
	static const enum field fields[] = { FIELD_OIFKIND };
	const struct policy *p = f->policy;

	for (size_t i = 0; p->tunnels_len && i < p->kinds_len; i++)
		add_elem(f, use_set(f, "tunnel_kind", 1, fields), (const void *[]){ p->kinds[i] });
}

static void fill_endpoints(struct filler *f)
{
	static const char *const names[2][2] = { { "endpoint4", "endpoint4_mark" },
						 { "endpoint6", "endpoint6_mark" } };
	const struct policy *p = f->policy;

	for (size_t i = 0; i < p->endpoints_len; i++) {
		const struct endpoint *e = &p->endpoints[i];
		const bool v6 = e->addr.family == AF_INET6;
		const enum field fields[] = { v6 ? FIELD_DADDR6 : FIELD_DADDR4, FIELD_L4PROTO,
					      FIELD_DPORT, FIELD_MARK };
		const uint16_t port_be = htons(e->port);

		add_elem(f, use_set(f, names[v6][e->mark != 0], e->mark ? 4 : 3, fields),
			 (const void *[]){ e->addr.bytes, &e->proto, &port_be, &e->mark });
	}
}

static void fill_tied(struct filler *f, const struct resolver *r)
{
	const bool v6 = r->addr.family == AF_INET6;
	const enum field fields[] = { v6 ? FIELD_DADDR6 : FIELD_DADDR4 };

	if (f->policy->action == POLICY_ACTION_REJECT && f->family == FAMILY_INET)
		add_elem(f, use_set(f, v6 ? "tied6" : "tied4", 1, fields),
			 (const void *[]){ r->addr.bytes });
}

static void add_link_resolver(struct filler *f, const struct resolver *r, const char *link)
{
	const struct policy *p = f->policy;
	const bool v6 = r->addr.family == AF_INET6;
	const enum field fields[] = { FIELD_OIFNAME, v6 ? FIELD_DADDR6 : FIELD_DADDR4,
				      FIELD_DPORT };
	struct set *set = use_set(f, v6 ? "resolver6_link" : "resolver4_link", 3, fields);

	for (size_t i = 0; i < p->ports_len; i++) {
		const uint16_t port_be = htons(r->port ? r->port : p->ports[i]);

		add_elem(f, set, (const void *[]){ link, r->addr.bytes, &port_be });
	}
}

static void fill_link_resolver(struct filler *f, const struct resolver *r)
{
	const struct link *upper =
		f->family != FAMILY_INET ? netstate_link_named(f->ns, r->link) : NULL;

	add_link_resolver(f, r, r->link);
	for (size_t i = 0; upper && i < f->ns->links_len; i++)
		if (frames_is_below(f->ns, upper, &f->ns->links[i]))
			add_link_resolver(f, r, f->ns->links[i].name);
}

static void fill_resolvers(struct filler *f)
{
	static const char *const names[2][2] = { { "resolver4", "resolver4_port" },
						 { "resolver6", "resolver6_port" } };
	const struct policy *p = f->policy;

	for (size_t i = 0; i < p->resolvers_len; i++) {
		const struct resolver *r = &p->resolvers[i];
		const bool v6 = r->addr.family == AF_INET6;
		const enum field fields[] = { v6 ? FIELD_DADDR6 : FIELD_DADDR4, FIELD_DPORT };
		const uint16_t port_be = htons(r->port);
		/* A policy is no link: what is tied to one is tied to tunnels. */
		const bool by_link = r->path == RESOLVER_PATH_LINK && !ipsec_is_name(r->link);
		const bool pinned =
			r->path == RESOLVER_PATH_TUNNEL ||
			(r->path == RESOLVER_PATH_LINK && !by_link) ||
			(r->path == RESOLVER_PATH_STICKY && pins_has(f->pins, &r->addr));

		if (addr_is_loopback(&r->addr))
			continue; /* S2 has it; on any other link it would be forged */
		/* With kinds asked for, a tunnel's name alone is no way: S4 has the true one. */
		if (by_link && !(p->kinds_len && p->mode == POLICY_MODE_EITHER &&
				 policy_is_tunnel(p, r->link)))
			fill_link_resolver(f, r);
		if (pinned || by_link || p->mode == POLICY_MODE_BOTH)
			fill_tied(f, r);
		if (by_link)
			continue;
		if (pinned && p->mode == POLICY_MODE_EITHER)
			continue; /* S4 has it, through any tunnel */
		add_elem(f, use_set(f, names[v6][r->port != 0], r->port ? 2 : 1, fields),
			 (const void *[]){ r->addr.bytes, &port_be });
	}
}

/* Of LAN clients; only where they are redirected. */
static void fill_lan(struct filler *f)
{
	static const enum field in[] = { FIELD_IIFNAME }, out[] = { FIELD_OIFNAME };
	static const enum field mac[] = { FIELD_SMAC };
	const struct policy *p = f->policy;
	const bool local = p->redirects_len && p->redirects[0].addr.family == AF_UNSPEC;

	if (f->family != FAMILY_INET || !p->redirects_len)
		return;
	for (size_t i = 0; i < p->lans_len; i++) {
		const void *const name[] = { p->lans[i].name };

		if (p->lans[i].prefix)
			continue;
		add_elem(f, use_set(f, "lan", 1, in), name);
		if (!local)
			add_elem(f, use_set(f, "lan_out", 1, out), name);
	}
	for (size_t i = 0; i < p->exempts_len; i++) {
		const bool v6 = p->exempts[i].family == AF_INET6;
		const enum field saddr[] = { v6 ? FIELD_SADDR6 : FIELD_SADDR4 };

		add_elem(f, use_set(f, v6 ? "lan_exempt6" : "lan_exempt4", 1, saddr),
			 (const void *[]){ p->exempts[i].bytes });
	}
	for (size_t i = 0; i < p->exempt_macs_len; i++)
		add_elem(f, use_set(f, "lan_exempt_mac", 1, mac),
			 (const void *[]){ p->exempt_macs[i] });
	for (size_t i = 0; i < p->resolvers_len; i++) {
		const struct resolver *r = &p->resolvers[i];
		const bool v6 = r->addr.family == AF_INET6;
		const enum field asked[] = { v6 ? FIELD_DADDR6 : FIELD_DADDR4, FIELD_DPORT };

		for (size_t k = 0; k < p->ports_len; k++) {
			const uint16_t port_be = htons(p->ports[k]);

			if (!r->port || r->port == p->ports[k])
				add_elem(f, use_set(f, v6 ? "lan_keep6" : "lan_keep4", 2, asked),
					 (const void *[]){ r->addr.bytes, &port_be });
		}
	}
}

static void fill_pause(struct filler *f)
{
	static const enum field nfproto[] = { FIELD_NFPROTO }, protocol[] = { FIELD_PROTOCOL };

	use_set(f, "pause", 1, f->family == FAMILY_INET ? nfproto : protocol)->timed = true;
}

static void fill_blocked(struct filler *f)
{
	static const enum field fields[] = { FIELD_OIFNAME, FIELD_DPORT };

	use_set(f, RULESET_BLOCKED, 2, fields)->counts = true;
}

int ruleset_pause_sets(struct set *sets, size_t n, uint64_t left_ms, bool lapsing)
{
	static const uint8_t nfprotos[] = { PROTO_IPV4, PROTO_IPV6 };
	const uint16_t protocols[] = { htons(ETHERTYPE_IPV4), htons(ETHERTYPE_IPV6) };

	for (size_t i = 0; i < n; i++) {
		struct set *set = &sets[i];

		if (!set->timed)
			continue;
		if (!set->elems)
			set->elems = calloc(2, set->key_len);
		if (!set->elems)
			return -ENOMEM;
		memcpy(set->elems, set->key_len == 1 ? (const void *)nfprotos : protocols,
		       2 * set->key_len);
		set->elems_room = 2;
		set->elems_len = left_ms ? 2 : 0;
		set->timeout_ms = left_ms;
		set->lapsing = lapsing;
	}
	return 0;
}

int ruleset_build_sets(enum family family, const struct policy *p, const struct pins *pins,
		       const struct netstate *ns, struct set ret_sets[RULESET_MAX_SETS],
		       size_t *ret_len)
{
	struct filler f = {
		.sets = ret_sets, .policy = p, .pins = pins, .family = family, .ns = ns
	};

	fill_tunnels(&f);
	fill_kinds(&f);
	fill_insides(&f);
	fill_links(&f, "bonded", frames_is_bonded);
	fill_links(&f, "stacked", frames_is_stacked);
	fill_endpoints(&f);
	fill_resolvers(&f);
	fill_lan(&f);
	fill_pause(&f);
	fill_blocked(&f);
	for (size_t i = 0; i < f.sets_len; i++) {
		struct set *set = &f.sets[i];

		set->elems_len = keys_sort_unique(set->elems, set->elems_len, set->key_len);
	}
	*ret_len = f.sets_len;
	return f.err;
}
