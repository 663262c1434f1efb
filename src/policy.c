#include "policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOG_RATE_DEFAULT    10
#define PAUSE_MAX_DEFAULT_S 3600
/* Long enough for what one `ip link set up` sends (9 messages), short for a user. */
#define QUIET_DEFAULT_MS    50
#define LATE_DEFAULT_MS	    500

void policy_init(struct policy *p)
{
	*p = (struct policy){
		.ports = { 53, 853 },
		.ports_len = 2,
		.log_rate = LOG_RATE_DEFAULT,
		.pause_max_s = PAUSE_MAX_DEFAULT_S,
		.watch_quiet_ms = QUIET_DEFAULT_MS,
		.watch_late_ms = LATE_DEFAULT_MS,
	};
}

void policy_fini(struct policy *p)
{
	free(p->resolvers);
	free(p->endpoints);
	policy_init(p);
}

int policy_copy(const struct policy *p, struct policy *ret_copy)
{
	struct policy copy = *p;

	copy.resolvers_room = p->resolvers_len;
	copy.endpoints_room = p->endpoints_len;
	/* One element more than needed: calloc(0) may return NULL. */
	copy.resolvers = calloc(p->resolvers_len + 1, sizeof(*copy.resolvers));
	copy.endpoints = calloc(p->endpoints_len + 1, sizeof(*copy.endpoints));
	if (!copy.resolvers || !copy.endpoints) {
		free(copy.resolvers);
		free(copy.endpoints);
		return -ENOMEM;
	}
	if (p->resolvers_len)
		memcpy(copy.resolvers, p->resolvers, p->resolvers_len * sizeof(*copy.resolvers));
	if (p->endpoints_len)
		memcpy(copy.endpoints, p->endpoints, p->endpoints_len * sizeof(*copy.endpoints));
	*ret_copy = copy;
	return 0;
}

/* One more element of `size` bytes at the end of a list that has room for `max`. */
static int append(void *list, size_t *len, size_t max, size_t size, const void *more)
{
	if (*len == max)
		return -E2BIG;
	memcpy((char *)list + (*len)++ * size, more, size);
	return 0;
}

/* The same of a list in the policy itself. */
#define APPEND(list, len, more) \
	append(list, len, sizeof(list) / sizeof((list)[0]), sizeof((list)[0]), more)

static int add_links(struct tunnel links[POLICY_MAX_TUNNELS], size_t *len,
		     const struct tunnel *more)
{
	for (size_t i = 0; i < *len; i++)
		if (links[i].prefix == more->prefix && !memcmp(links[i].name, more->name, IFNAMSIZ))
			return 0;
	return append(links, len, POLICY_MAX_TUNNELS, sizeof(*links), more);
}

int policy_add_tunnel(struct policy *p, const struct tunnel *tunnel)
{
	return add_links(p->tunnels, &p->tunnels_len, tunnel);
}

int policy_add_inside(struct policy *p, const struct tunnel *inside)
{
	return add_links(p->insides, &p->insides_len, inside);
}

int policy_add_lan(struct policy *p, const struct tunnel *lan)
{
	return add_links(p->lans, &p->lans_len, lan);
}

int policy_add_redirect(struct policy *p, const struct redirect *redirect)
{
	return APPEND(p->redirects, &p->redirects_len, redirect);
}

int policy_add_exempt(struct policy *p, const struct addr *addr)
{
	return APPEND(p->exempts, &p->exempts_len, addr);
}

int policy_add_exempt_mac(struct policy *p, const uint8_t mac[MAC_LEN])
{
	return APPEND(p->exempt_macs, &p->exempt_macs_len, mac);
}

int policy_add_kind(struct policy *p, const char *kind)
{
	char name[IFNAMSIZ] = "";

	strncpy(name, kind, IFNAMSIZ - 1);
	for (size_t i = 0; i < p->kinds_len; i++)
		if (!memcmp(p->kinds[i], name, IFNAMSIZ))
			return 0;
	return APPEND(p->kinds, &p->kinds_len, name);
}

/* rtnl_link_ops.kind of the drivers in drivers/net, net/ipv4, net/ipv6, net/xfrm that make tunnels */
const char *const policy_tunnel_kinds[] = { "tun",    "wireguard", "amneziawg", "ovpn", "ovpn-dco",
					    "ppp",    "ipip",	   "ip6tnl",	"sit",	"gre",
					    "gretap", "ip6gre",	   "ip6gretap", "vti",	"vti6",
					    "xfrm",   NULL };

bool policy_is_tunnel_kind(const char *kind)
{
	for (size_t i = 0; policy_tunnel_kinds[i]; i++)
		if (!strcmp(policy_tunnel_kinds[i], kind))
			return true;
	return false;
}

bool policy_is_ipsec_kind(const char *kind)
{
	return !strcmp(kind, "xfrm") || !strcmp(kind, "vti") || !strcmp(kind, "vti6");
}

bool policy_is_guarded(const struct policy *p, uint16_t port)
{
	for (size_t i = 0; i < p->ports_len; i++)
		if (p->ports[i] == port)
			return true;
	return false;
}

int policy_add_port(struct policy *p, uint16_t port)
{
	return policy_is_guarded(p, port) ? 0 : APPEND(p->ports, &p->ports_len, &port);
}

/* The same of a list on the heap, which is made larger up to `max`. */
static int append_grown(void **list, size_t *len, size_t *room, size_t max, size_t size,
			const void *more)
{
	const size_t wanted = *room ? *room * 2 : 16;
	void *bigger;

	if (*len == *room && *len < max) {
		bigger = realloc(*list, wanted * size);
		if (!bigger)
			return -ENOMEM;
		*list = bigger;
		*room = wanted;
	}
	return append(*list, len, max, size, more);
}

int policy_add_resolver(struct policy *p, const struct resolver *resolver)
{
	void *list = p->resolvers;
	const int err = append_grown(&list, &p->resolvers_len, &p->resolvers_room,
				     POLICY_MAX_RESOLVERS, sizeof(*resolver), resolver);

	p->resolvers = list;
	return err;
}

int policy_add_endpoint(struct policy *p, const struct endpoint *endpoint)
{
	void *list = p->endpoints;
	const int err = append_grown(&list, &p->endpoints_len, &p->endpoints_room,
				     POLICY_MAX_ENDPOINTS, sizeof(*endpoint), endpoint);

	p->endpoints = list;
	return err;
}

int policy_add_host(struct policy *p, const struct endpoint_host *host)
{
	return APPEND(p->hosts, &p->hosts_len, host);
}

/* "tun*" covers "tun0" and "tunnel*"; "ipsec*" has links only, "ipsec:any" all of IPsec. */
bool tunnel_covers(const struct tunnel *entry, const char *name)
{
	uint32_t reqid;

	if (ipsec_is_name(entry->name) && !ipsec_parse(entry->name, &reqid) && !reqid)
		return ipsec_is_name(name);
	if (entry->prefix)
		return !ipsec_is_name(name) && !strncmp(entry->name, name, strlen(entry->name));
	return !strncmp(entry->name, name, IFNAMSIZ);
}

static bool has_link(const struct tunnel *links, size_t len, const char *ifname)
{
	for (size_t i = 0; i < len; i++)
		if (tunnel_covers(&links[i], ifname))
			return true;
	return false;
}

bool policy_is_tunnel(const struct policy *p, const char *ifname)
{
	return has_link(p->tunnels, p->tunnels_len, ifname);
}

bool policy_has_ipsec(const struct policy *p)
{
	for (size_t i = 0; i < p->tunnels_len; i++)
		if (ipsec_is_name(p->tunnels[i].name))
			return true;
	return false;
}

bool policy_is_inside(const struct policy *p, const char *ifname)
{
	return has_link(p->insides, p->insides_len, ifname);
}

bool policy_is_tunnel_link(const struct policy *p, const char *ifname, const char *kind)
{
	bool asked = !p->kinds_len || ipsec_is_name(ifname);

	for (size_t i = 0; i < p->kinds_len; i++)
		asked |= !strncmp(p->kinds[i], kind, IFNAMSIZ);
	return asked && policy_is_tunnel(p, ifname);
}

bool policy_is_tunnel_by_name(const struct policy *p, const char *ifname, const char *kind)
{
	if (!policy_is_tunnel(p, ifname))
		return false;
	return p->kinds_len ? !policy_is_tunnel_link(p, ifname, kind) :
			      !policy_is_tunnel_kind(kind);
}

static int compare_numbers(uint32_t a, uint32_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_ports(const void *va, const void *vb)
{
	return compare_numbers(*(const uint16_t *)va, *(const uint16_t *)vb);
}

static int compare_tunnels(const void *va, const void *vb)
{
	const struct tunnel *a = va, *b = vb;
	const int names = memcmp(a->name, b->name, IFNAMSIZ);

	return names ? names : compare_numbers(b->prefix, a->prefix);
}

static int compare_resolvers(const void *va, const void *vb)
{
	const struct resolver *a = va, *b = vb;
	int c = addr_cmp(&a->addr, &b->addr);

	if (!c)
		c = compare_numbers(a->port, b->port);
	if (!c)
		c = compare_numbers(a->path, b->path);
	return c ? c : memcmp(a->link, b->link, IFNAMSIZ);
}

static int compare_endpoints(const void *va, const void *vb)
{
	const struct endpoint *a = va, *b = vb;
	int c = addr_cmp(&a->addr, &b->addr);

	if (!c)
		c = compare_numbers(a->proto, b->proto);
	if (!c)
		c = compare_numbers(a->port, b->port);
	return c ? c : compare_numbers(a->mark, b->mark);
}

static int compare_redirects(const void *va, const void *vb)
{
	const struct redirect *a = va, *b = vb;

	/* Two of one family are refused: their order does not matter. */
	return compare_numbers(a->addr.family, b->addr.family);
}

static int compare_addrs(const void *a, const void *b)
{
	return addr_cmp(a, b);
}

static int compare_macs(const void *a, const void *b)
{
	return memcmp(a, b, MAC_LEN);
}

/* Sort a list and keep one of each; returns the new length. */
static size_t sort_unique(void *list, size_t len, size_t size,
			  int (*compare)(const void *, const void *))
{
	char *base = list;
	size_t kept = 0, sorted = 1;

	/* Of a long list, which a record or a program wrote, it is the usual case. */
	while (sorted < len && compare(base + (sorted - 1) * size, base + sorted * size) < 0)
		sorted++;
	if (sorted >= len)
		return len;
	qsort(list, len, size, compare);
	for (size_t i = 1; i < len; i++)
		if (compare(base + kept * size, base + i * size)) {
			kept++;
			if (kept != i)
				memcpy(base + kept * size, base + i * size, size);
		}
	return kept + 1;
}

/* Sort, and drop those that another covers: "wg0" beside "wg*", "wg1*" beside "wg*". */
static size_t tidy_links(struct tunnel *links, size_t len)
{
	size_t kept = 0;

	len = sort_unique(links, len, sizeof(*links), compare_tunnels);
	for (size_t i = 0; i < len; i++) {
		bool covered = false;

		for (size_t k = 0; k < len && !covered; k++)
			covered = k != i && (links[k].prefix || ipsec_is_name(links[k].name)) &&
				  tunnel_covers(&links[k], links[i].name);
		if (!covered)
			links[kept++] = links[i];
	}
	return kept;
}

static size_t drop_needless_endpoints(const struct policy *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->endpoints_len; i++)
		if (policy_is_guarded(p, p->endpoints[i].port))
			p->endpoints[kept++] = p->endpoints[i];
	return kept;
}

static int validate_both(const struct policy *p, char *reterr_why, size_t why_size)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->resolvers_len; i++) {
		const struct resolver *r = &p->resolvers[i];

		if (r->path == RESOLVER_PATH_STICKY || r->path == RESOLVER_PATH_TUNNEL)
			continue;
		if (r->path == RESOLVER_PATH_LINK && policy_is_tunnel(p, r->link))
			continue;
		snprintf(reterr_why, why_size,
			 "resolver \"%s\": expected a path through a tunnel, mode both allows no other",
			 resolver_format(r, text));
		return -EINVAL;
	}
	return 0;
}

static int validate_redirects(struct policy *p, char *reterr_why, size_t why_size)
{
	const char *expected = NULL;
	char text[POLICY_TEXT];

	if (!p->redirects_len)
		return 0;
	qsort(p->redirects, p->redirects_len, sizeof(p->redirects[0]), compare_redirects);
	if (!p->lans_len)
		expected = "the links that clients come in by as well, lan = IF";
	else if (!policy_is_guarded(p, POLICY_DNS_PORT))
		expected = "53 among the guarded ports";
	else if (p->redirects_len == 2 &&
		 (p->redirects[0].addr.family == AF_UNSPEC ||
		  p->redirects[0].addr.family == p->redirects[1].addr.family))
		expected = "one of each family, or local alone";
	/* What leaves by another port would be nobody's business any more. */
	for (size_t i = 0; !expected && i < p->redirects_len; i++)
		if (p->redirects[i].port && !policy_is_guarded(p, p->redirects[i].port))
			expected = "a guarded port";
	if (!expected)
		return 0;
	snprintf(reterr_why, why_size, "lan-redirect \"%s\": expected %s",
		 redirect_format(&p->redirects[0], text), expected);
	return -EINVAL;
}

int policy_validate(struct policy *p, char *reterr_why, size_t why_size)
{
	p->tunnels_len = tidy_links(p->tunnels, p->tunnels_len);
	p->insides_len = tidy_links(p->insides, p->insides_len);
	p->lans_len = tidy_links(p->lans, p->lans_len);
	p->exempts_len =
		sort_unique(p->exempts, p->exempts_len, sizeof(p->exempts[0]), compare_addrs);
	p->exempt_macs_len = sort_unique(p->exempt_macs, p->exempt_macs_len,
					 sizeof(p->exempt_macs[0]), compare_macs);
	p->ports_len = sort_unique(p->ports, p->ports_len, sizeof(*p->ports), compare_ports);
	p->resolvers_len = sort_unique(p->resolvers, p->resolvers_len, sizeof(*p->resolvers),
				       compare_resolvers);
	p->endpoints_len = sort_unique(p->endpoints, p->endpoints_len, sizeof(*p->endpoints),
				       compare_endpoints);
	p->endpoints_len = drop_needless_endpoints(p);

	if (p->mode == POLICY_MODE_BOTH && validate_both(p, reterr_why, why_size))
		return -EINVAL;
	return validate_redirects(p, reterr_why, why_size);
}

const char *tunnel_format(const struct tunnel *tunnel, char *buf)
{
	snprintf(buf, POLICY_TEXT, "%s%s", tunnel->name, tunnel->prefix ? "*" : "");
	return buf;
}

const char *resolver_format(const struct resolver *r, char *buf)
{
	static const char *const via[] = {
		[RESOLVER_PATH_STICKY] = "",
		[RESOLVER_PATH_TUNNEL] = " via tunnel",
		[RESOLVER_PATH_ANY] = " via any",
		[RESOLVER_PATH_LINK] = " via ",
	};
	const bool bracket = r->port && r->addr.family == AF_INET6;
	char *at = stpcpy(buf, bracket ? "[" : "");

	at += strlen(addr_format(&r->addr, at));
	if (r->port)
		at += sprintf(at, "%s@%u", bracket ? "]" : "", r->port);
	stpcpy(stpcpy(at, via[r->path]), r->link);
	return buf;
}

const char *endpoint_format(const struct endpoint *e, char *buf)
{
	const bool v6 = e->addr.family == AF_INET6;
	char addr[ADDR_TEXT], mark[24] = "";

	if (e->mark)
		snprintf(mark, sizeof(mark), ",mark=0x%x", e->mark);
	snprintf(buf, POLICY_TEXT, "%s%s%s:%u/%s%s", v6 ? "[" : "", addr_format(&e->addr, addr),
		 v6 ? "]" : "", e->port, proto_format(e->proto), mark);
	return buf;
}

const char *redirect_format(const struct redirect *r, char *buf)
{
	const struct resolver where = { .addr = r->addr, .port = r->port };

	if (r->addr.family != AF_UNSPEC)
		return resolver_format(&where, buf);
	return strcpy(buf, "local");
}

const char *policy_mode_format(enum policy_mode mode)
{
	return mode == POLICY_MODE_BOTH ? "both" : "either";
}

const char *policy_action_format(enum policy_action action)
{
	return action == POLICY_ACTION_REJECT ? "reject" : "drop";
}

const char *fragments_format(enum fragments fragments)
{
	static const char *const words[] = {
		[FRAGMENTS_AUTO] = "auto",
		[FRAGMENTS_DEFRAG] = "defrag",
		[FRAGMENTS_CONNTRACK] = "conntrack",
		[FRAGMENTS_DROP] = "drop",
	};

	return words[fragments];
}

const char *frames_format(enum frames frames)
{
	static const char *const words[] = {
		[FRAMES_AUTO] = "auto",
		[FRAMES_OFF] = "off",
		[FRAMES_REQUIRE] = "require",
		[FRAMES_STRICT] = "strict",
	};

	return words[frames];
}

static void print_line(const char *key, const char *value, FILE *out)
{
	fputs(key, out);
	fputs(value, out);
	fputc('\n', out);
}

int policy_print(const struct policy *p, FILE *out)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->tunnels_len; i++)
		fprintf(out, "tunnel = %s\n", tunnel_format(&p->tunnels[i], text));
	for (size_t i = 0; i < p->insides_len; i++)
		fprintf(out, "inside = %s\n", tunnel_format(&p->insides[i], text));
	for (size_t i = 0; i < p->resolvers_len; i++)
		print_line("resolver = ", resolver_format(&p->resolvers[i], text), out);
	for (size_t i = 0; i < p->endpoints_len; i++)
		print_line("endpoint = ", endpoint_format(&p->endpoints[i], text), out);
	fputs("ports = ", out);
	for (size_t i = 0; i < p->ports_len; i++)
		fprintf(out, "%s%u", i ? "," : "", p->ports[i]);
	fprintf(out, "\nmode = %s\naction = %s\nfragments = %s\nframes = %s\n",
		policy_mode_format(p->mode), policy_action_format(p->action),
		fragments_format(p->fragments), frames_format(p->frames));
	fprintf(out, "log-group = %u\nlog-rate = %u\n", p->log_group, p->log_rate);
	fprintf(out, "ownership = %s\npause-max = %u\nwatch-quiet = %u\nwatch-late = %u\n",
		p->ownership == OWNERSHIP_OFF ? "off" : "auto", p->pause_max_s, p->watch_quiet_ms,
		p->watch_late_ms);
	for (size_t i = 0; i < p->kinds_len; i++)
		fprintf(out, "tunnel-kind = %s\n", p->kinds[i]);
	if (p->flow_offload == FLOW_OFFLOAD_PREVENT)
		fputs("flow-offload = prevent\n", out);
	for (size_t i = 0; i < p->lans_len; i++)
		fprintf(out, "lan = %s\n", tunnel_format(&p->lans[i], text));
	for (size_t i = 0; i < p->redirects_len; i++)
		fprintf(out, "lan-redirect = %s\n", redirect_format(&p->redirects[i], text));
	for (size_t i = 0; i < p->exempts_len; i++)
		fprintf(out, "lan-exempt = %s\n", addr_format(&p->exempts[i], text));
	for (size_t i = 0; i < p->exempt_macs_len; i++)
		fprintf(out, "lan-exempt = %s\n", mac_format(p->exempt_macs[i], text));
	return ferror(out) ? -EIO : 0;
}
