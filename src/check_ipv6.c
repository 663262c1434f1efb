#include "check_ipv6.h"

#include <stdio.h>
#include <string.h>

#include "check_report.h"
#include "netstate.h"
#include "policy.h"

/* linux/ipv6_route.h, linux/route.h: a route that refuses. */
#define RTF_REJECT 0x200

static struct ipv6_link *link_of(struct ipv6_links *l, const char *name)
{
	char checked[IFNAMSIZ] = "";

	if (ifname_parse(name, checked))
		return NULL;
	for (size_t i = 0; i < l->len; i++)
		if (!strcmp(l->list[i].name, checked))
			return &l->list[i];
	if (l->len == IPV6_LINKS)
		return NULL;
	memcpy(l->list[l->len].name, checked, sizeof(checked));
	return &l->list[l->len++];
}

/* Each line, a NUL behind it; NULL: no more. */
static char *next_line(char **at, char *end)
{
	char *const line = *at;
	char *newline;

	if (line >= end)
		return NULL;
	newline = memchr(line, '\n', (size_t)(end - line));
	*at = newline ? newline + 1 : end;
	if (newline)
		*newline = '\0';
	return line;
}

void ipv6_take_addresses(struct ipv6_links *l, char *text, size_t len)
{
	char *at = text, *const end = text + len, *line;
	char addr[33], name[IFNAMSIZ];
	unsigned int scope;

	/* The address, the link's number, the prefix, the scope (0 but for local ones), flags. */
	while ((line = next_line(&at, end))) {
		struct ipv6_link *link;

		if (sscanf(line, "%32[0-9a-f] %*x %*x %x %*x %15s", addr, &scope, name) != 3 ||
		    scope != 0 || !(link = link_of(l, name)))
			continue;
		link->any = true;
		link->global |= *addr == '2' || *addr == '3';
	}
}

void ipv6_take_routes(struct ipv6_links *l, char *text, size_t len)
{
	char *at = text, *const end = text + len, *line;
	unsigned int bits, flags;
	char name[IFNAMSIZ];

	/* Where to, prefix, where from, prefix, next hop, metric, counts, flags, link. */
	while ((line = next_line(&at, end))) {
		struct ipv6_link *link;

		if (sscanf(line,
			   "%*32[0-9a-f] %x %*32[0-9a-f] %*x %*32[0-9a-f] %*x %*x %*x %x %15s",
			   &bits, &flags, name) != 3 ||
		    bits || (flags & RTF_REJECT) || !(link = link_of(l, name)))
			continue;
		link->route = true;
	}
}

static void tell_ipv6(const struct check *c, const struct ipv6_link *link)
{
	struct finding f = check_finding("ipv6", true, link->name);

	check_say(&f,
		  "%s has %s, and no tunnel has IPv6: what asks or is reached by IPv6 goes past the tunnel",
		  link->name,
		  link->global && link->route ? "an IPv6 address and a default route" :
		  link->global		      ? "a global IPv6 address" :
						"a default route for IPv6");
	check_advise(&f,
		     "let the VPN carry IPv6, or turn it off there: sysctl net.ipv6.conf.%s.disable_ipv6=1",
		     link->name);
	check_tell(c, &f);
}

static void read_files(const struct check *c, struct ipv6_links *l)
{
	struct check_file file;

	/* The kernel's, and long where there are many routes: its beginning has the default ones. */
	if (!check_file_read(c->root, "/proc/net/if_inet6", &file)) {
		ipv6_take_addresses(l, file.text, file.len);
		check_file_fini(&file);
	}
	if (!check_file_read(c->root, "/proc/net/ipv6_route", &file)) {
		ipv6_take_routes(l, file.text, file.len);
		check_file_fini(&file);
	}
}

void check_ipv6(const struct check *c)
{
	struct ipv6_links l = { .len = 0 };
	bool has_tunnel = false;

	read_files(c, &l);
	for (size_t i = 0; i < c->links->links_len; i++) {
		const struct link *const link = &c->links->links[i];

		if (!link->up || !check_is_tunnel(c, link))
			continue;
		has_tunnel = true;
		for (size_t j = 0; j < l.len; j++)
			if (!strcmp(l.list[j].name, link->name) && l.list[j].any)
				return;
	}
	for (size_t i = 0; has_tunnel && i < l.len; i++) {
		const struct link *const link = netstate_link_named(c->links, l.list[i].name);

		if (link && check_is_outside(c, link) && (l.list[i].global || l.list[i].route))
			tell_ipv6(c, &l.list[i]);
	}
}
