#include "check_pushed.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_json.h"
#include "check_report.h"
#include "netstate.h"
#include "policy.h"

#define LEASES	     16 /* of one file, and those that are told of */
#define ROUTES_SHOWN 4

/* The leases that were told of, by their links. */
struct telling {
	char links[LEASES][IFNAMSIZ];
	size_t len;
};

static bool is_risk(const struct check *c, const struct lease *l)
{
	for (size_t i = 0; i < l->len; i++) {
		if (lease_route_is_public(&l->routes[i]))
			return true;
		for (size_t j = 0; l->routes[i].bits && j < c->policy->resolvers_len; j++)
			if (lease_route_covers(&l->routes[i], &c->policy->resolvers[j].addr))
				return true;
	}
	return l->more > 0;
}

/* "10.0.0.0/8 192.0.2.0/24 and 7 more"; how many they are. */
static size_t format_routes(const struct lease *l, char *buf, size_t size)
{
	char addr[ADDR_TEXT];
	size_t n = l->more, len = 0;

	*buf = '\0';
	for (size_t i = 0; i < l->len; i++) {
		if (!l->routes[i].bits) /* a default route is every lease's right */
			continue;
		n++;
		if (n - l->more <= ROUTES_SHOWN)
			len += (size_t)snprintf(buf + len, size - len, "%s%s/%u", len ? " " : "",
						addr_format(&l->routes[i].dst, addr),
						l->routes[i].bits);
	}
	if (n > ROUTES_SHOWN)
		snprintf(buf + len, size - len, " and %zu more", n - ROUTES_SHOWN);
	return n;
}

static bool was_told(const struct telling *t, const char *link)
{
	for (size_t i = 0; i < t->len; i++)
		if (!strcmp(t->links[i], link))
			return true;
	return false;
}

static void tell_lease(const struct check *c, struct telling *t, const struct lease *l,
		       const char *path)
{
	const struct link *const link = netstate_link_named(c->links, l->link);
	struct finding f = check_finding("dhcp-routes", is_risk(c, l), *l->link ? l->link : path);
	char routes[ROUTES_SHOWN * 20 + 32];

	/* Of a link that is away, down, or a tunnel, nothing is in force. */
	if ((*l->link && (!link || !check_is_outside(c, link))) || was_told(t, l->link) ||
	    !format_routes(l, routes, sizeof(routes)))
		return;
	check_say(&f, "the DHCP server of %s pushes routes past the tunnel (option 121): %s, in %s",
		  *l->link ? l->link : "a link", routes, path);
	check_advise(
		&f,
		"take none of them: UseRoutes=no (systemd-networkd), ipv4.ignore-auto-routes yes (nmcli), no request of option 121 (dhclient, dhcpcd)");
	check_tell(c, &f);
	if (t->len < LEASES)
		memcpy(t->links[t->len++], l->link, IFNAMSIZ);
}

static void tell_second(const struct check *c, const struct telling *t)
{
	struct finding f = check_finding("dhcp-routes", true, "several");
	char links[LEASES * IFNAMSIZ] = "";
	size_t len = 0;

	if (t->len < 2)
		return;
	for (size_t i = 0; i < t->len; i++)
		len += (size_t)snprintf(links + len, sizeof(links) - len, "%s%s", i ? " " : "",
					*t->links[i] ? t->links[i] : "?");
	check_say(&f,
		  "more than one DHCP server pushes routes (option 121): %s; one of them can be an intruder's",
		  links);
	check_advise(&f,
		     "see which of these networks is to be trusted, and take routes of no other");
	check_tell(c, &f);
}

/* "eth0.lease", "eth0-NETWORK.lease", "dhcpcd-eth0.lease", "internal-UUID-eth0.lease" */
static void find_link(const struct check *c, const char *path, struct lease *l)
{
	const char *const slash = strrchr(path, '/'), *const name = slash ? slash + 1 : path;
	const char *const dot = strrchr(name, '.');
	const size_t len = dot ? (size_t)(dot - name) : strlen(name);

	for (size_t i = 0; i < c->links->links_len; i++) {
		const char *const link = c->links->links[i].name;
		const size_t n = strlen(link);
		const bool first =
			len >= n && !memcmp(name, link, n) && (len == n || name[n] == '-');
		const bool last =
			len > n && !memcmp(name + len - n, link, n) && name[len - n - 1] == '-';

		if ((first || last) && n >= strlen(l->link))
			snprintf(l->link, sizeof(l->link), "%s", link);
	}
}

static void read_dhclient(const struct check *c, const char *path, struct check_file *file,
			  void *ctx)
{
	struct lease *const list = calloc(LEASES, sizeof(*list));
	size_t n;

	if (!list)
		return;
	n = lease_parse_dhclient(file->text, file->len, c->now, list, LEASES);
	for (size_t i = 0; i < n; i++)
		tell_lease(c, ctx, &list[i], path);
	free(list);
}

/* dhcpcd counts from when it wrote the file. */
static void read_dhcpcd(const struct check *c, const char *path, struct check_file *file, void *ctx)
{
	struct lease l = { .len = 0 };
	uint32_t good_s;

	if (lease_take_message(&l, (const uint8_t *)file->text, file->len, &good_s) ||
	    (good_s != UINT32_MAX && c->now > file->changed &&
	     (uint64_t)(c->now - file->changed) > good_s))
		return;
	find_link(c, path, &l);
	if (*l.link)
		tell_lease(c, ctx, &l, path);
}

/* The file's name is the link's number. */
static void read_numbered(const struct check *c, const char *path, struct check_file *file,
			  void *ctx)
{
	const struct link *const link = netstate_link(c->links, atoi(strrchr(path, '/') + 1));
	struct check_json *json = NULL;
	struct lease l = { .len = 0 };

	if (!link)
		return;
	memcpy(l.link, link->name, sizeof(l.link));
	if (*file->text == '{') {
		if (check_take_json(c, path, file, &json))
			lease_take_json(&l, json);
		check_json_free(json);
	} else {
		lease_take_lines(&l, file->text, file->len);
	}
	tell_lease(c, ctx, &l, path);
}

static void read_internal(const struct check *c, const char *path, struct check_file *file,
			  void *ctx)
{
	struct lease l = { .len = 0 };

	/* dhclient's, when NetworkManager starts it. */
	if (strstr(path, "/dhclient-")) {
		read_dhclient(c, path, file, ctx);
		return;
	}
	find_link(c, path, &l);
	lease_take_lines(&l, file->text, file->len);
	if (*l.link)
		tell_lease(c, ctx, &l, path);
}

void check_pushed(const struct check *c)
{
	static const struct {
		char folder[32], suffix[8];
		check_file_fn *read;
	} places[] = {
		{ "/run/systemd/netif/leases", "", read_numbered },
		{ "/run/NetworkManager/devices", "", read_numbered },
		{ "/var/lib/NetworkManager", ".lease", read_internal },
		{ "/var/lib/dhcp", ".leases", read_dhclient },
		{ "/var/lib/dhclient", ".leases", read_dhclient },
		{ "/var/lib/dhclient", ".lease", read_dhclient },
		{ "/var/lib/dhcpcd", ".lease", read_dhcpcd },
		{ "/var/lib/dhcpcd5", ".lease", read_dhcpcd },
		{ "/var/db/dhcpcd", ".lease", read_dhcpcd },
	};
	struct telling t = { .len = 0 };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		check_each(c, places[i].folder, places[i].suffix, places[i].read, &t);
	tell_second(c, &t);
}
