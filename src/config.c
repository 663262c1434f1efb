#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_value.h"

#define PAUSE_LIMIT_S  86400
#define WATCH_LIMIT_MS 60000

/* One value on its way into the policy. */
struct setting {
	const struct config_key *key;
	const char *text;
	const char *expects; /* the key's, or a narrower one */
};

/* What parse_choice() and parse_number() set: enums are unsigned int here. */
static unsigned int *field(struct policy *p, const struct config_key *key)
{
	return (unsigned int *)((char *)p + key->field);
}

static int parse_tunnel(struct policy *p, struct setting *s)
{
	struct tunnel t = { .prefix = false };
	int err = 0;

	if (!strcmp(s->text, "auto")) {
		s->expects =
			"the name of a link: only enable and rules look for one, by --tunnel auto";
		err = -EINVAL;
	} else if (!ipsec_is_name(s->text)) {
		err = value_parse_links(s->text, &t, &s->expects);
	} else if (tunnel_name_parse(s->text, t.name)) {
		s->expects =
			"\"ipsec:any\", or \"ipsec:N\" with N the reqid of a policy, 1 to 999999999";
		err = -EINVAL;
	}
	return err ? err : policy_add_tunnel(p, &t);
}

static int parse_inside(struct policy *p, struct setting *s)
{
	struct tunnel t;
	const int err = value_parse_links(s->text, &t, &s->expects);

	return err ? err : policy_add_inside(p, &t);
}

static int parse_path(struct resolver *r, const char *word, const char **reterr_expects)
{
	static const char *const expects =
		"\"via IF\", \"via tunnel\" or \"via any\" after the address";

	if (!strcmp(word, "tunnel")) {
		r->path = RESOLVER_PATH_TUNNEL;
	} else if (!strcmp(word, "any")) {
		r->path = RESOLVER_PATH_ANY;
	} else if (!tunnel_name_parse(word, r->link)) {
		r->path = RESOLVER_PATH_LINK;
	} else {
		*reterr_expects = expects;
		return -EINVAL;
	}
	return 0;
}

/* fe80::1%eth0 is fe80::1 via eth0; a zone says nothing for any other address (RFC 4007, 11). */
static int parse_zone(struct resolver *r, const char *zone, const char **reterr_expects)
{
	char link[IFNAMSIZ];

	if (!addr_is_linklocal(&r->addr)) {
		*reterr_expects = "no zone (%...) on an address that is not link-local";
		return -EINVAL;
	}
	if (isdigit((unsigned char)*zone) || ifname_parse(zone, link) ||
	    (r->path == RESOLVER_PATH_LINK && memcmp(link, r->link, IFNAMSIZ)) ||
	    (r->path != RESOLVER_PATH_LINK && r->path != RESOLVER_PATH_STICKY)) {
		*reterr_expects = "one link by its name as the zone, and no other path";
		return -EINVAL;
	}
	r->path = RESOLVER_PATH_LINK;
	memcpy(r->link, link, IFNAMSIZ);
	return 0;
}

static int parse_resolver_addr(struct resolver *r, char *text, const char **reterr_expects)
{
	char *host, *port, *zone;
	uint32_t number = 0;

	if (value_split_port(text, '@', &host, &port))
		return -EINVAL;
	zone = strchr(host, '%');
	if (zone)
		*zone++ = '\0';
	if (addr_parse(host, &r->addr))
		return -EINVAL;
	if (port && number_parse(port, 1, 65535, &number)) {
		*reterr_expects = "a port, 1 to 65535, after the \"@\"";
		return -EINVAL;
	}
	r->port = (uint16_t)number;
	if (!addr_is_unicast(&r->addr)) {
		*reterr_expects = "the address of one host";
		return -EINVAL;
	}
	if (zone)
		return parse_zone(r, zone, reterr_expects);
	if (addr_is_linklocal(&r->addr) && r->path == RESOLVER_PATH_STICKY) {
		*reterr_expects =
			"a zone (fe80::1%eth0) or a path (via eth0): every link has such addresses";
		return -EINVAL;
	}
	return 0;
}

static int parse_resolver(struct policy *p, struct setting *s)
{
	struct resolver r = { .path = RESOLVER_PATH_STICKY };
	char text[POLICY_TEXT], *words[4] = { NULL }, *save = NULL;
	size_t n = 0;
	int err;

	if (strlen(s->text) >= sizeof(text))
		return -EINVAL;
	strcpy(text, s->text);
	for (char *w = strtok_r(text, " \t", &save); w && n < 4; w = strtok_r(NULL, " \t", &save))
		words[n++] = w;
	if (n != 1 && n != 3)
		return -EINVAL;
	if (n == 3 && strcmp(words[1], "via"))
		return -EINVAL;

	err = n == 3 ? parse_path(&r, words[2], &s->expects) : 0;
	if (!err)
		err = parse_resolver_addr(&r, words[0], &s->expects);
	return err ? err : policy_add_resolver(p, &r);
}

/* A host name: letters, digits, '-', '_' and dots; never only digits and dots. */
static bool is_host_name(const char *name)
{
	bool letter = false;

	if (!*name || strlen(name) >= POLICY_HOST_TEXT || *name == '-' || *name == '.')
		return false;
	for (const char *c = name; *c; c++) {
		if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
			return false;
		letter |= isalpha((unsigned char)*c) != 0;
	}
	return letter;
}

static int parse_endpoint(struct policy *p, struct setting *s)
{
	char text[POLICY_HOST_TEXT + 64], *host, *rest, *proto, *mark;
	struct endpoint_host h = { 0 };
	struct endpoint e = { 0 };
	uint32_t number = 0;

	if (strlen(s->text) >= sizeof(text))
		return -EINVAL;
	strcpy(text, s->text);
	mark = strchr(text, ',');
	if (mark) {
		*mark++ = '\0';
		if (strncmp(mark, "mark=", 5) || number_parse(mark + 5, 1, UINT32_MAX, &e.mark)) {
			s->expects = "\",mark=N\" with N from 1 to 0xffffffff after the protocol";
			return -EINVAL;
		}
	}
	if (value_split_port(text, ':', &host, &rest) || !rest)
		return -EINVAL;
	proto = strchr(rest, '/');
	if (!proto)
		return -EINVAL;
	*proto++ = '\0';
	if (number_parse(rest, 1, 65535, &number) || proto_parse(proto, &e.proto))
		return -EINVAL;
	e.port = (uint16_t)number;

	if (!addr_parse(host, &e.addr)) {
		if (!addr_is_unicast(&e.addr)) {
			s->expects = "the address of one host";
			return -EINVAL;
		}
		return policy_add_endpoint(p, &e);
	}
	if (*text == '[' || !is_host_name(host))
		return -EINVAL;
	h.port = e.port;
	h.proto = e.proto;
	h.mark = e.mark;
	strcpy(h.name, host);
	return policy_add_host(p, &h);
}

static int parse_ports(struct policy *p, struct setting *s)
{
	char text[POLICY_TEXT], *save = NULL;
	struct policy scratch = { 0 };
	uint32_t port;

	if (strlen(s->text) >= sizeof(text))
		return -EINVAL;
	strcpy(text, s->text);
	for (char *w = strtok_r(text, ", \t", &save); w; w = strtok_r(NULL, ", \t", &save)) {
		int err = number_parse(w, 1, 65535, &port);

		if (!err)
			err = policy_add_port(&scratch, (uint16_t)port);
		if (err)
			return err;
	}
	if (!scratch.ports_len)
		return -EINVAL;
	memcpy(p->ports, scratch.ports, sizeof(p->ports));
	p->ports_len = scratch.ports_len;
	return 0;
}

/* One of the words that the key may be completed to, which stand in the order of its enum. */
static int parse_choice(struct policy *p, struct setting *s)
{
	const size_t len = strlen(s->text);
	unsigned int n = 0;

	for (const char *w = s->key->values; w; w = strchr(w, ' '), n++) {
		w += *w == ' ';
		if (strcspn(w, " ") == len && !memcmp(w, s->text, len)) {
			*field(p, s->key) = n;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_number(struct policy *p, struct setting *s)
{
	return number_parse(s->text, s->key->min, s->key->max, field(p, s->key));
}

/* Each line adds kinds; "any" forgets those before it. */
static int parse_tunnel_kind(struct policy *p, struct setting *s)
{
	char text[POLICY_MAX_KINDS * IFNAMSIZ], name[IFNAMSIZ], *save = NULL;
	const size_t before = p->kinds_len;
	int err = -EINVAL;

	if (strlen(s->text) >= sizeof(text))
		return -EINVAL;
	if (!strcmp(s->text, "any")) {
		p->kinds_len = 0;
		return 0;
	}
	if (!strcmp(s->text, "strict")) {
		for (size_t i = 0; policy_tunnel_kinds[i]; i++)
			(void)policy_add_kind(p, policy_tunnel_kinds[i]);
		return 0;
	}
	strcpy(text, s->text);
	for (char *w = strtok_r(text, ", \t", &save); w; w = strtok_r(NULL, ", \t", &save)) {
		/* A kind is as long as a link's name may be, and written like one. */
		err = !strcmp(w, "any") || !strcmp(w, "strict") ? -EINVAL : ifname_parse(w, name);
		if (!err)
			err = policy_add_kind(p, name);
		if (err)
			break;
	}
	if (err)
		p->kinds_len = before;
	return err;
}

static int parse_pause_max(struct policy *p, struct setting *s)
{
	return duration_parse(s->text, PAUSE_LIMIT_S, &p->pause_max_s);
}

static int parse_lan(struct policy *p, struct setting *s)
{
	struct tunnel t;
	const int err = value_parse_links(s->text, &t, &s->expects);

	return err ? err : policy_add_lan(p, &t);
}

static int parse_lan_redirect(struct policy *p, struct setting *s)
{
	struct redirect r = { 0 };
	int err = 0;

	/* From another host its own loopback address leads nowhere. */
	if (strcmp(s->text, "local"))
		err = value_parse_host(s->text, &r.addr, &r.port, &s->expects);
	if (!err && r.addr.family != AF_UNSPEC &&
	    (addr_is_linklocal(&r.addr) || addr_is_loopback(&r.addr)))
		err = -EINVAL;
	return err ? err : policy_add_redirect(p, &r);
}

static int parse_lan_exempt(struct policy *p, struct setting *s)
{
	uint8_t mac[MAC_LEN];
	struct addr addr;

	if (!mac_parse(s->text, mac))
		return policy_add_exempt_mac(p, mac);
	if (addr_parse(s->text, &addr) || !addr_is_unicast(&addr))
		return -EINVAL;
	return policy_add_exempt(p, &addr);
}

const struct config_key config_keys[] = {
	{
		.name = "tunnel",
		.arg = "IF",
		.expects =
			"a link name of 1 to 15 bytes, a prefix of one and \"*\", ipsec:any or ipsec:REQID",
		.help = "a link that is a tunnel: wg0, tun*; or policy-mode IPsec: ipsec:any, ipsec:REQID",
		.repeats = true,
		.parse = parse_tunnel,
		.lists = { offsetof(struct policy, tunnels_len) },
	},
	{
		.name = "resolver",
		.arg = "R",
		.expects = "an IPv4 or IPv6 address",
		.help = "an approved resolver: ADDR, ADDR@PORT, [v6]@PORT, then \"via IF\", \"via tunnel\" or \"via any\"",
		.repeats = true,
		.parse = parse_resolver,
		.lists = { offsetof(struct policy, resolvers_len) },
	},
	{
		.name = "endpoint",
		.arg = "E",
		.expects =
			"ADDR:PORT/PROTO, [v6]:PORT/PROTO or HOST:PORT/PROTO with PROTO udp or tcp",
		.help = "the VPN's carrier: ADDR:PORT/PROTO, [v6]:PORT/PROTO or HOST:PORT/PROTO, then \",mark=N\"",
		.repeats = true,
		.parse = parse_endpoint,
		.lists = { offsetof(struct policy, endpoints_len),
			   offsetof(struct policy, hosts_len) },
	},
	{
		.name = "ports",
		.arg = "LIST",
		.expects = "1 to 16 ports from 1 to 65535, separated by commas",
		.help = "the guarded ports, default 53,853",
		.values = "53,853 53",
		.parse = parse_ports,
	},
	{
		.name = "mode",
		.arg = "either|both",
		.expects = "either or both",
		.help = "through the tunnel or to an approved resolver (default), or only both at once",
		.values = "either both",
		.parse = parse_choice,
		.field = offsetof(struct policy, mode),
	},
	{
		.name = "action",
		.arg = "drop|reject",
		.expects = "drop or reject",
		.help = "drop (default), or answer local programs and LAN clients at once",
		.values = "drop reject",
		.parse = parse_choice,
		.field = offsetof(struct policy, action),
	},
	{
		.name = "fragments",
		.arg = "HOW",
		.expects = "auto, defrag, conntrack or drop",
		.help = "later fragments: auto (default), defrag, conntrack or drop",
		.values = "auto defrag conntrack drop",
		.parse = parse_choice,
		.field = offsetof(struct policy, fragments),
	},
	{
		.name = "frames",
		.arg = "auto|off|require|strict",
		.expects = "auto, off, require or strict",
		.help = "packet sockets, bridged guests, macvlan: judged at the devices as far as the kernel can (auto, default), not, or always",
		.values = "auto off require strict",
		.parse = parse_choice,
		.field = offsetof(struct policy, frames),
	},
	{
		.name = "inside",
		.arg = "IF",
		.expects = "a link name of 1 to 15 bytes, or a prefix of one and \"*\"",
		.help = "a link that leads to guests of this host, where nothing leaves it: docker0, veth*",
		.repeats = true,
		.parse = parse_inside,
		.lists = { offsetof(struct policy, insides_len) },
	},
	{
		.name = "tunnel-kind",
		.arg = "any|strict|LIST",
		.expects = "any, strict, or kinds of links as 'ip -d link' names them",
		.help = "what else a link of a tunnel's name must be: any (default), strict, or kinds: tun,wireguard",
		.values = "any strict tun wireguard ppp xfrm",
		.repeats = true,
		.parse = parse_tunnel_kind,
		.lists = { offsetof(struct policy, kinds_len) },
	},
	{
		.name = "lan",
		.arg = "IF",
		.expects = "a link name of 1 to 15 bytes, or a prefix of one and \"*\"",
		.help = "a link that LAN clients come in by, for lan-redirect: br-lan",
		.repeats = true,
		.parse = parse_lan,
		.lists = { offsetof(struct policy, lans_len) },
	},
	{
		.name = "lan-redirect",
		.arg = "ADDR[@PORT]|local",
		.expects = "local, or the address of one host, ADDR, ADDR@PORT or [v6]@PORT",
		.help = "lead what LAN clients ask other resolvers to this one, or to this host (local)",
		.values = "local",
		.repeats = true,
		.parse = parse_lan_redirect,
		.lists = { offsetof(struct policy, redirects_len) },
	},
	{
		.name = "lan-exempt",
		.arg = "ADDR|MAC",
		.expects = "the IPv4, IPv6 or Ethernet address of one client",
		.help = "a LAN client that lan-redirect leaves alone; it stays guarded",
		.repeats = true,
		.parse = parse_lan_exempt,
		.lists = { offsetof(struct policy, exempts_len),
			   offsetof(struct policy, exempt_macs_len) },
	},
	{
		.name = "flow-offload",
		.arg = "ignore|prevent",
		.expects = "ignore or prevent",
		.help = "prevent: flows of guarded ports are kept out of flowtables, which pass by the rules (default ignore)",
		.values = "ignore prevent",
		.parse = parse_choice,
		.field = offsetof(struct policy, flow_offload),
	},
	{
		.name = "pause-max",
		.arg = "DURATION",
		.expects = "1 s to 24 h: 90, 90s, 30m, 1h",
		.help = "the longest pause that may be asked for, default 1h",
		.parse = parse_pause_max,
	},
	{
		.name = "ownership",
		.arg = "auto|off",
		.expects = "auto or off",
		.help = "auto (default): where the kernel can, it keeps others from changing the rules while a watcher runs",
		.values = "auto off",
		.parse = parse_choice,
		.field = offsetof(struct policy, ownership),
	},
	{
		.name = "watch-quiet",
		.arg = "MS",
		.expects = "milliseconds, 1 to 60000",
		.help = "look at links and routes once they have been quiet for so long, default 50",
		.parse = parse_number,
		.field = offsetof(struct policy, watch_quiet_ms),
		.min = 1,
		.max = WATCH_LIMIT_MS,
	},
	{
		.name = "watch-late",
		.arg = "MS",
		.expects = "milliseconds, 1 to 60000",
		.help = "or, where they are never quiet, so long after the first change, default 500",
		.parse = parse_number,
		.field = offsetof(struct policy, watch_late_ms),
		.min = 1,
		.max = WATCH_LIMIT_MS,
	},
	{
		.name = "log-group",
		.arg = "N",
		.expects = "an nflog group, 1 to 65535, or 0 for off",
		.help = "log what is blocked to this nflog group; 0 (default) for off",
		.parse = parse_number,
		.field = offsetof(struct policy, log_group),
		.min = 0,
		.max = 65535,
	},
	{
		.name = "log-rate",
		.arg = "N",
		.expects = "packets per second, 1 to 100000",
		.help = "log at most so many packets per second, default 10",
		.parse = parse_number,
		.field = offsetof(struct policy, log_rate),
		.min = 1,
		.max = 100000,
	},
	{ .name = NULL },
};

const struct config_key *config_key_find(const char *name)
{
	for (const struct config_key *k = config_keys; k->name; k++)
		if (!strcmp(k->name, name))
			return k;
	return NULL;
}

void config_clear(struct policy *p, const struct config_key *key)
{
	for (size_t i = 0; i < sizeof(key->lists) / sizeof(key->lists[0]); i++)
		if (key->lists[i])
			*(size_t *)((char *)p + key->lists[i]) = 0;
}

int config_set(struct policy *p, const char *name, const char *value, char reterr_text[CONFIG_ERR])
{
	const struct config_key *key = config_key_find(name);
	struct setting setting = { .key = key, .text = value };
	char shown[128];
	int err;

	if (!key) {
		snprintf(reterr_text, CONFIG_ERR,
			 "\"%s\": unknown key, expected one of those in leakguard.conf(5)",
			 text_quotable(name, shown, sizeof(shown)));
		return -ENOENT;
	}

	setting.expects = key->expects;
	err = key->parse(p, &setting);
	if (!err)
		return 0;
	text_quotable(value, shown, sizeof(shown));
	if (err == -E2BIG)
		snprintf(reterr_text, CONFIG_ERR,
			 "%s \"%s\": one too many, expected at most %d links of a sort, %d resolvers, %d endpoints, %d endpoint names, %d ports, %d kinds, %d exempt clients, 2 redirections",
			 name, shown, POLICY_MAX_TUNNELS, POLICY_MAX_RESOLVERS,
			 POLICY_MAX_ENDPOINTS, POLICY_MAX_HOSTS, POLICY_MAX_PORTS, POLICY_MAX_KINDS,
			 POLICY_MAX_EXEMPTS);
	else if (err == -ENOMEM)
		snprintf(reterr_text, CONFIG_ERR, "%s \"%s\": out of memory", name, shown);
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "%s \"%s\": expected %s", name, shown,
			 setting.expects);
	return err;
}

int config_set_option(struct policy *p, const char *name, const char *value,
		      char reterr_text[CONFIG_ERR])
{
	char text[CONFIG_ERR];
	const int err = config_set(p, name, value, text);

	if (err)
		snprintf(reterr_text, CONFIG_ERR, "--%.*s", CONFIG_ERR - 3, text);
	return err;
}
