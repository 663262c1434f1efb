#include "check_guests.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_json.h"
#include "check_lines.h"
#include "check_report.h"
#include "nameservers.h"
#include "netstate.h"
#include "policy.h"

#define DAEMON_JSON "/etc/docker/daemon.json"

static const char *skip_domains(const char *value)
{
	const char *const slash = strrchr(value, '/');

	return *value == '/' && slash ? slash + 1 : value;
}

/* 0 or -EINVAL. */
static int parse_server(char *value, struct dnsmasq_server *ret_server)
{
	struct dnsmasq_server server = { .port = 0 };
	char *link = strchr(value, '@'), *port;
	uint32_t number = 0;
	int err;

	if (link)
		*link++ = '\0';
	port = strchr(value, '#');
	if (port)
		*port++ = '\0';
	err = addr_parse(value, &server.addr);
	if (!err && port)
		err = number_parse(port, 1, UINT16_MAX, &number);
	/* An address in place of a link is one to ask from. */
	if (!err && link && ifname_parse(link, server.link))
		*server.link = '\0';
	server.port = (uint16_t)number;
	if (!err)
		*ret_server = server;
	return err;
}

size_t dnsmasq_parse_servers(char *text, size_t len,
			     struct dnsmasq_server ret_list[DNSMASQ_SERVERS])
{
	char *key, *value;
	struct lines l;
	size_t n = 0;

	lines_init(&l, text, len);
	while (n < DNSMASQ_SERVERS && lines_next(&l, &key, &value))
		if ((!strcmp(key, "server") || !strcmp(key, "local")) &&
		    !parse_server((char *)skip_domains(value), &ret_list[n]))
			n++;
	return n;
}

static void check_dnsmasq_file(const struct check *c, const char *path, struct check_file *file,
			       void *ctx)
{
	struct dnsmasq_server list[DNSMASQ_SERVERS];
	const size_t n = dnsmasq_parse_servers(file->text, file->len, list);
	char addr[ADDR_TEXT];

	(void)ctx;
	for (size_t i = 0; i < n; i++) {
		const uint16_t port = list[i].port ?: POLICY_DNS_PORT;
		const bool guarded = policy_is_guarded(c->policy, port);
		struct finding f = check_finding("resolver", true, path);

		if (check_is_approved(c, &list[i].addr, list[i].link))
			continue;
		check_say(&f, "dnsmasq asks %s on port %u, which %s (%s)",
			  addr_format(&list[i].addr, addr), port,
			  guarded ? "the policy does not approve" :
				    "is a port that the policy does not guard",
			  path);
		check_advise(&f, "put an approved resolver there, or approve it: resolver = %s",
			     addr);
		check_tell(c, &f);
	}
}

/* OpenWrt makes "dnsmasq.conf.cfg01411c" of /etc/config/dhcp, beside files of others. */
static void check_openwrt_file(const struct check *c, const char *path, struct check_file *file,
			       void *ctx)
{
	if (strstr(path, "/dnsmasq.conf"))
		check_dnsmasq_file(c, path, file, ctx);
}

static void check_dnsmasq(const struct check *c)
{
	struct check_file file;

	if (check_open(c, "/etc/dnsmasq.conf", &file)) {
		check_dnsmasq_file(c, "/etc/dnsmasq.conf", &file, NULL);
		check_file_fini(&file);
	}
	check_each(c, "/etc/dnsmasq.d", "", check_dnsmasq_file, NULL);
	check_each(c, "/etc/NetworkManager/dnsmasq.d", "", check_dnsmasq_file, NULL);
	check_each(c, "/var/etc", "", check_openwrt_file, NULL);
	check_each(c, "/var/lib/libvirt/dnsmasq", ".conf", check_dnsmasq_file, NULL);
}

/* "br-" and twelve hexadecimal digits is a network that a user of Docker made. */
bool check_is_guests_bridge(const char *name)
{
	return !strcmp(name, "docker0") || !strncmp(name, "virbr", 5) ||
	       (!strncmp(name, "br-", 3) && strlen(name) == 15 &&
		strspn(name + 3, "0123456789abcdef") == 12);
}

static void tell_bridge(const struct check *c, const struct link *link)
{
	struct finding f = check_finding("guests", false, link->name);

	check_say(&f,
		  "%s leads to guests of this host: what they ask is judged as it leaves the host",
		  link->name);
	check_advise(&f,
		     "put \"inside = %s\" in leakguard's configuration, and its ports, so that this host may answer them",
		     link->name);
	check_tell(c, &f);
}

/* Docker's own servers, where it cannot use the host's: its daemon's source, libnetwork/resolvconf. */
static void tell_dockers_own(const struct check *c)
{
	struct finding f = check_finding("guests", true, "docker");

	check_say(&f,
		  "/etc/resolv.conf has only addresses of this host and daemon.json sets no \"dns\": containers on docker0 ask 8.8.8.8 and 8.8.4.4");
	check_advise(&f,
		     "set \"dns\" to an approved resolver in " DAEMON_JSON ", and restart docker");
	check_tell(c, &f);
}

/* Whether the host's list names a server that a container can reach. */
static bool has_reachable(const struct check *c)
{
	static const char *const files[] = { "/etc/resolv.conf",
					     /* taken in place of resolved's stub */
					     "/run/systemd/resolve/resolv.conf" };
	struct nameservers *const ns = calloc(1, sizeof(*ns));
	char path[PATH_MAX];
	bool found = !ns;

	for (size_t i = 0; ns && i < 2; i++) {
		if (snprintf(path, sizeof(path), "%s%s", c->root, files[i]) < PATH_MAX)
			nameservers_read(ns, path);
	}
	for (size_t i = 0; ns && i < ns->len; i++)
		found |= !addr_is_loopback(&ns->list[i].addr);
	free(ns);
	return found;
}

/* Returns whether daemon.json names servers, or cannot be understood. */
static bool check_daemon_json(const struct check *c)
{
	struct check_json *json = NULL, *list, *item;
	struct check_file file;
	struct addr addr;
	bool taken;

	if (!check_open(c, DAEMON_JSON, &file))
		return false;
	taken = check_take_json(c, DAEMON_JSON, &file, &json);
	check_file_fini(&file);
	list = check_json_member(json, "dns");
	for (size_t i = 0; (item = check_json_item(list, i)); i++) {
		const char *const text = check_json_text(item);
		struct finding f = check_finding("guests", true, "docker");

		if (!text || addr_parse(text, &addr) || check_is_approved(c, &addr, ""))
			continue;
		check_say(&f,
			  "containers ask %s, as " DAEMON_JSON
			  " says; the policy does not approve it",
			  text);
		check_advise(&f, "put an approved resolver there, and restart docker");
		check_tell(c, &f);
	}
	item = check_json_item(list, 0);
	check_json_free(json);
	return item || !taken;
}

void check_guests(const struct check *c)
{
	bool docker = false, named;

	check_dnsmasq(c);
	named = check_daemon_json(c);
	for (size_t i = 0; i < c->links->links_len; i++) {
		const struct link *const link = &c->links->links[i];

		if (!link->up || !check_is_guests_bridge(link->name))
			continue;
		docker |= !strcmp(link->name, "docker0");
		if (!policy_is_inside(c->policy, link->name))
			tell_bridge(c, link);
	}
	if (docker && !named && !has_reachable(c))
		tell_dockers_own(c);
}
