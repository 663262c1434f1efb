#include "check_servers.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_report.h"
#include "check_resolved.h"
#include "nameservers.h"
#include "netstate.h"
#include "netwatch.h"
#include "policy.h"

#define SERVERS	   64
#define MAX_ROUTES 256 /* of approved resolvers that are looked up */

struct server {
	struct addr addr;
	uint16_t port;	     /* host order; 0: the protocol's own */
	char link[IFNAMSIZ]; /* asked through this link alone; "": wherever routes lead */
	char source[NAMESERVERS_PATH];
};

struct servers {
	struct server list[SERVERS];
	size_t len, more;
	struct nameservers files;
};

/* One of a common list is worth less than the same of a link, which come first. */
static void add(struct servers *s, const struct addr *addr, uint16_t port, const char *link,
		const char *source)
{
	struct server *new;

	for (size_t i = 0; i < s->len; i++)
		if (!addr_cmp(&s->list[i].addr, addr) && s->list[i].port == port &&
		    (!*link || !strcmp(s->list[i].link, link)))
			return;
	if (s->len == SERVERS) {
		s->more++;
		return;
	}
	new = &s->list[s->len++];
	new->addr = *addr;
	new->port = port;
	snprintf(new->link, sizeof(new->link), "%s", link);
	snprintf(new->source, sizeof(new->source), "%s", source);
}

static void add_settings(struct servers *s, const struct resolved_settings *settings,
			 const char *link, const char *source)
{
	for (size_t i = 0; i < settings->dns.len; i++) {
		const struct resolved_server *const r = &settings->dns.list[i];

		add(s, &r->addr, r->port, *r->link ? r->link : link, source);
	}
}

static void read_resolved(const struct check *c, struct servers *s)
{
	struct resolved_settings settings;

	for (size_t i = 0; i < c->links->links_len; i++)
		if (check_resolved_link(c, c->links->links[i].index, &settings))
			add_settings(s, &settings, c->links->links[i].name, "systemd-resolved");
	if (check_file_exists(c->root, "/run/systemd/resolve")) {
		check_resolved_conf(c, &settings);
		add_settings(s, &settings, "", "resolved.conf");
	}
}

/* A path of a made-up machine as that machine would call it. */
static const char *below(const struct check *c, const char *path)
{
	const size_t len = strlen(c->root);

	return strncmp(path, c->root, len) ? path : path + len;
}

static void read_lists(const struct check *c, struct servers *s)
{
	/* The last ones are OpenWrt's. */
	static const char *const files[] = { "/etc/resolv.conf",
					     "/tmp/resolv.conf.d/resolv.conf.auto",
					     "/tmp/resolv.conf.auto" };
	struct nameservers *const ns = &s->files;
	struct check_file file;
	char path[PATH_MAX];

	/* That it cannot be read is worth a word, which nameservers.h has none for. */
	if (check_open(c, files[0], &file))
		check_file_fini(&file);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (snprintf(path, sizeof(path), "%s%s", c->root, files[i]) < PATH_MAX)
			nameservers_read(ns, path);
	if (snprintf(path, sizeof(path), "%s/run", c->root) < PATH_MAX)
		nameservers_read_upstream(ns, path, c->links);
	for (size_t i = 0; i < ns->len; i++)
		add(s, &ns->list[i].addr, 0, ns->list[i].link, below(c, ns->list[i].source));
	s->more += ns->more;
}

/* Of the files that were not opened here as well. */
static void tell_files(const struct check *c, const struct nameservers *ns)
{
	static const char links[] = "/run/systemd/resolve/netif/";

	for (size_t i = 0; i < ns->files_len; i++) {
		const struct nameservers_file *const file = &ns->files[i];
		const char *const path = below(c, file->path);
		struct finding f = check_finding("unreadable", false, path);

		if ((!file->irregular && !file->cut) || !strcmp(path, "/etc/resolv.conf") ||
		    !strncmp(path, links, sizeof(links) - 1))
			continue;
		check_say(&f, "%s: %s; its name servers are not known", path,
			  file->irregular ? "no regular file" : "too long to be read whole");
		check_advise(&f, "see what is there, and why");
		check_tell(c, &f);
	}
}

static void tell_more(const struct check *c, size_t more)
{
	struct finding f = check_finding("resolver", true, "more");

	if (!more)
		return;
	check_say(&f, "%zu more name servers are set than check looks at", more);
	check_advise(&f, "see what sets so many, in /etc/resolv.conf and of each link");
	check_tell(c, &f);
}

static void tell_port(const struct check *c, const struct server *s)
{
	struct finding f = check_finding("port", true, s->source);
	char addr[ADDR_TEXT];

	check_say(&f, "%s: asks %s on port %u, which the policy does not guard", s->source,
		  addr_format(&s->addr, addr), s->port);
	check_advise(&f, "take the port away, or add it to \"ports\" in leakguard's configuration");
	check_tell(c, &f);
}

static void tell_server(const struct check *c, const struct server *s, const char *through)
{
	struct finding f = check_finding("resolver", true, *through ? through : s->source);
	char addr[ADDR_TEXT];

	addr_format(&s->addr, addr);
	check_say(&f, "%s asks %s%s%s, which the policy does not approve (%s)",
		  *s->link ? s->link : "the system", addr, !*s->link && *through ? " through " : "",
		  !*s->link ? through : "", s->source);
	check_advise(&f,
		     "let the VPN set its own name servers there; or, if it is to be asked outside the tunnel, approve it: resolver = %s",
		     addr);
	check_tell(c, &f);
}

/* By which link packets to it leave; "": not known, or none. */
static const char *route_link(const struct check *c, const struct route_to *route)
{
	const struct link *link = netstate_link(c->links, route->hops[0]);

	/* Of several, one that is no tunnel tells. */
	for (size_t i = 0; i < ROUTE_MAX_HOPS && route->hops[i]; i++) {
		const struct link *const hop = netstate_link(c->links, route->hops[i]);

		if (hop && !check_is_tunnel(c, hop))
			link = hop;
	}
	return link ? link->name : "";
}

static bool stays_here(const struct check *c, const char *through)
{
	const struct link *const link = netstate_link_named(c->links, through);

	return link && link->index == LOOPBACK_IFINDEX;
}

static void judge(const struct check *c, const struct server *s, const char *through)
{
	const char *const link = *s->link ? s->link : through;

	if (addr_is_loopback(&s->addr) || stays_here(c, through))
		return;
	if (check_is_approved(c, &s->addr, link))
		return;
	if (s->port && !policy_is_guarded(c->policy, s->port))
		tell_port(c, s);
	else
		tell_server(c, s, link);
}

/* The kernel knows the machine's routes, and none of a tree that was made up. */
static int look_up(const struct check *c, struct netstate *routes, const struct addr *addrs,
		   size_t n)
{
	return *c->root ? 0 : netwatch_lookup_routes(routes, addrs, n);
}

int check_servers(const struct check *c)
{
	struct servers *const s = calloc(1, sizeof(*s));
	struct netstate routes = { .routes_len = 0 };
	struct addr addrs[SERVERS];
	int err;

	if (!s)
		return -ENOMEM;
	read_resolved(c, s);
	read_lists(c, s);
	for (size_t i = 0; i < s->len; i++)
		addrs[i] = s->list[i].addr;
	err = look_up(c, &routes, addrs, s->len);
	for (size_t i = 0; !err && i < s->len; i++)
		judge(c, &s->list[i],
		      i < routes.routes_len ? route_link(c, &routes.routes[i]) : "");
	tell_more(c, s->more);
	tell_files(c, &s->files);
	netstate_fini(&routes);
	free(s);
	return err;
}

/* --- the way to those approved --- */

static void tell_route(const struct check *c, const struct resolver *r, const char *through)
{
	struct finding f = check_finding("route", true, through);
	char text[POLICY_TEXT], addr[ADDR_TEXT];

	check_say(&f, "a route leads the approved resolver %s through %s, past the tunnel",
		  resolver_format(r, text), through);
	check_advise(&f,
		     "see where it comes from: ip route get %s; take it away, or write \"resolver = %s via tunnel\" so that only the tunnel will do",
		     addr_format(&r->addr, addr), addr);
	check_tell(c, &f);
}

/* Whether the user did not say that this is how it should be. */
static bool is_pulled(const struct check *c, const struct resolver *r, const char *through)
{
	const struct link *const link = netstate_link_named(c->links, through);

	if (!link || link->index == LOOPBACK_IFINDEX || check_is_tunnel(c, link))
		return false;
	return r->path == RESOLVER_PATH_STICKY || r->path == RESOLVER_PATH_TUNNEL ||
	       (r->path == RESOLVER_PATH_LINK && strncmp(r->link, through, IFNAMSIZ));
}

/* No route tells what an IPsec policy takes, and without a tunnel there is nothing to leave. */
static bool has_plain_tunnel(const struct check *c)
{
	bool found = false;

	for (size_t i = 0; i < c->links->links_len; i++)
		found |= c->links->links[i].up && check_is_tunnel(c, &c->links->links[i]);
	return found && !policy_has_ipsec(c->policy);
}

int check_routes(const struct check *c)
{
	const struct policy *const p = c->policy;
	const size_t n = p->resolvers_len < MAX_ROUTES ? p->resolvers_len : MAX_ROUTES;
	struct netstate routes = { .routes_len = 0 };
	struct addr addrs[MAX_ROUTES];
	int err;

	if (!has_plain_tunnel(c))
		return 0;
	for (size_t i = 0; i < n; i++)
		addrs[i] = p->resolvers[i].addr;
	err = look_up(c, &routes, addrs, n);
	for (size_t i = 0; !err && i < n && i < routes.routes_len; i++) {
		const char *const through = route_link(c, &routes.routes[i]);

		/* A link-local one has its link, and no route. */
		if (!addr_is_linklocal(&p->resolvers[i].addr) &&
		    is_pulled(c, &p->resolvers[i], through))
			tell_route(c, &p->resolvers[i], through);
	}
	netstate_fini(&routes);
	return err;
}
