#include "check_resolved.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "check_report.h"
#include "netstate.h"
#include "policy.h"

#define MAIN_FILE "resolved.conf"
#define DROP_INS  "resolved.conf.d"
#define NAMES	  96 /* bytes of links' or servers' names in one sentence */

/* RFC 4795, 6762, 7858: the ports that these go to. */
#define LLMNR_PORT 5355
#define MDNS_PORT  5353
#define TLS_PORT   853

/* Where systemd looks, the strongest first. */
static const char places[][24] = {
	"/etc/systemd",
	"/run/systemd",
	"/usr/local/lib/systemd",
	"/usr/lib/systemd",
};
#define PLACES (sizeof(places) / sizeof(places[0]))

/* One more word into a list of room for NAMES bytes; cut with "...". */
static void append(char names[NAMES], const char *name)
{
	const size_t len = strlen(names);

	if (len + strlen(name) + sizeof(" ...") + 1 < NAMES)
		snprintf(names + len, NAMES - len, "%s%s", len ? " " : "", name);
	else if (len < 4 || strcmp(names + len - 4, " ..."))
		snprintf(names + len, NAMES - len, " ...");
}

static void read_main(const struct check *c, struct resolved_settings *s)
{
	struct check_file file;
	char path[PATH_MAX];

	for (size_t i = 0; i < PLACES; i++) {
		snprintf(path, sizeof(path), "%s/" MAIN_FILE, places[i]);
		if (!check_file_exists(c->root, path))
			continue;
		if (check_open(c, path, &file)) {
			resolved_conf_take(s, file.text, file.len, false);
			check_file_fini(&file);
		}
		return;
	}
}

static bool has_name(const struct check_dir *dir, const char *name)
{
	for (size_t i = 0; i < dir->len; i++)
		if (!strcmp(dir->names[i], name))
			return true;
	return false;
}

/* The first name behind `last`, over all folders; NULL: no more. */
static const char *next_name(const struct check_dir dirs[PLACES], const char *last)
{
	const char *next = NULL;

	for (size_t i = 0; i < PLACES; i++)
		for (size_t j = 0; j < dirs[i].len; j++) {
			const char *const name = dirs[i].names[j];

			if ((!last || strcmp(name, last) > 0) && (!next || strcmp(name, next) < 0))
				next = name;
		}
	return next;
}

/* In the order of their names, whatever the folder; of one name, the strongest folder's. */
static void read_drop_ins(const struct check *c, struct resolved_settings *s)
{
	struct check_dir dirs[PLACES] = { { .len = 0 } };
	const char *name = NULL;
	struct check_file file;
	char path[PATH_MAX];

	for (size_t i = 0; i < PLACES; i++) {
		snprintf(path, sizeof(path), "%s/" DROP_INS, places[i]);
		(void)check_list(c, path, ".conf", &dirs[i]);
	}
	while ((name = next_name(dirs, name))) {
		size_t i = 0;

		while (!has_name(&dirs[i], name))
			i++;
		snprintf(path, sizeof(path), "%s/" DROP_INS "/%s", places[i], name);
		if (check_open(c, path, &file)) {
			resolved_conf_take(s, file.text, file.len, false);
			check_file_fini(&file);
		}
	}
	for (size_t i = 0; i < PLACES; i++)
		check_dir_fini(&dirs[i]);
}

void check_resolved_conf(const struct check *c, struct resolved_settings *ret_settings)
{
	*ret_settings = (struct resolved_settings){ .tls = false };
	read_main(c, ret_settings);
	read_drop_ins(c, ret_settings);
}

/* The vendor's file has what was compiled in, as comments. */
static void read_compiled_in(const struct check *c, struct resolved_settings *ret_settings)
{
	struct check_file file;
	char path[PATH_MAX];

	*ret_settings = (struct resolved_settings){ .tls = false };
	for (size_t i = PLACES; i-- && !ret_settings->fallback.set;) {
		snprintf(path, sizeof(path), "%s/" MAIN_FILE, places[i]);
		if (check_file_read(c->root, path, &file))
			continue;
		resolved_conf_take(ret_settings, file.text, file.len, true);
		check_file_fini(&file);
	}
}

static bool read_link(const struct check *c, const char *folder, int index,
		      struct resolved_settings *s)
{
	struct check_file file;
	char path[PATH_MAX];

	*s = (struct resolved_settings){ .tls = false };
	snprintf(path, sizeof(path), "%s/%d", folder, index);
	if (!check_open(c, path, &file))
		return false;
	resolved_link_take(s, file.text, file.len);
	check_file_fini(&file);
	return true;
}

bool check_resolved_link(const struct check *c, int index, struct resolved_settings *ret_settings)
{
	if (read_link(c, "/run/systemd/netif/links", index, ret_settings) &&
	    !ret_settings->unmanaged)
		return true;
	return read_link(c, "/run/systemd/resolve/netif", index, ret_settings);
}

/* --- fallback --- */

static void tell_fallback(const struct check *c, const struct resolved_servers *servers,
			  const char *where)
{
	struct finding f = check_finding("fallback", true, "systemd-resolved");
	char names[NAMES] = "", addr[ADDR_TEXT];

	for (size_t i = 0; i < servers->len; i++)
		if (!check_is_approved(c, &servers->list[i].addr, servers->list[i].link))
			append(names, addr_format(&servers->list[i].addr, addr));
	if (!*names)
		return;
	check_say(&f,
		  "when no link has a name server, systemd-resolved asks %s, %s; the policy does not approve that",
		  names, where);
	check_advise(
		&f,
		"put \"FallbackDNS=\" with nothing behind it below [Resolve] in /etc/systemd/resolved.conf.d/leakguard.conf, and restart systemd-resolved");
	check_tell(c, &f);
}

static void check_fallback(const struct check *c, const struct resolved_settings *s,
			   const struct resolved_settings *compiled_in)
{
	struct finding f = check_finding("fallback", true, "systemd-resolved");

	if (s->fallback.set) {
		tell_fallback(c, &s->fallback, "as FallbackDNS= says");
		return;
	}
	if (compiled_in->fallback.set) {
		tell_fallback(c, &compiled_in->fallback, "as it was built with");
		return;
	}
	check_say(&f,
		  "FallbackDNS= is not set: when no link has a name server, systemd-resolved asks those that it was built with, mostly public ones");
	check_advise(
		&f,
		"put \"FallbackDNS=\" with nothing behind it below [Resolve] in /etc/systemd/resolved.conf.d/leakguard.conf, and restart systemd-resolved");
	check_tell(c, &f);
}

/* --- what is said of all links --- */

static bool check_tls(const struct check *c, bool tls, const char *subject)
{
	struct finding f = check_finding("tls", true, subject);

	if (!tls || policy_is_guarded(c->policy, TLS_PORT))
		return false;
	check_say(&f,
		  "systemd-resolved asks by DNS over TLS (%s): port %d, which the policy does not guard",
		  subject, TLS_PORT);
	check_advise(&f, "add %d to \"ports\" in leakguard's configuration", TLS_PORT);
	check_tell(c, &f);
	return true;
}

static void check_domains(const struct check *c, const struct link *link)
{
	struct finding f = check_finding("domains", true, link->name);

	check_say(&f,
		  "%s has the domain \"~.\" in systemd-resolved: its name servers are asked for every name, and it is no tunnel",
		  link->name);
	check_advise(&f,
		     "give it to the tunnel: resolvectl domain TUNNEL '~.'; and take it away: resolvectl domain %s ''",
		     link->name);
	check_tell(c, &f);
}

/* --- the neighbours --- */

struct neighbours {
	const char *topic, *name, *key;
	int port;
	const char *what;
};

static const struct neighbours llmnr = {
	"llmnr", "LLMNR", "LLMNR", LLMNR_PORT, "names without a dot",
};
static const struct neighbours mdns = {
	"mdns", "multicast DNS", "MulticastDNS", MDNS_PORT, "names that end in .local",
};

static void tell_neighbours(const struct check *c, const struct neighbours *n, const char *links,
			    const char *how)
{
	struct finding f = check_finding(n->topic, !policy_is_guarded(c->policy, (uint16_t)n->port),
					 "systemd-resolved");

	check_say(&f, "%s is on (%s): %s are asked of everybody on the network of %s, to port %d",
		  n->name, how, n->what, links, n->port);
	check_advise(&f,
		     "put \"%s=no\" below [Resolve] in /etc/systemd/resolved.conf.d/leakguard.conf, and restart systemd-resolved",
		     n->key);
	check_tell(c, &f);
}

static const char *support_text(enum resolved_support set, enum resolved_support compiled_in)
{
	if (set == RESOLVED_SUPPORT_ASK)
		return "to ask, not to answer";
	if (set != RESOLVED_SUPPORT_UNSET)
		return "set so";
	return compiled_in == RESOLVED_SUPPORT_UNSET ? "not set; systemd's own default" :
						       "not set; built so";
}

static enum resolved_support or_default(enum resolved_support set,
					enum resolved_support compiled_in)
{
	if (set != RESOLVED_SUPPORT_UNSET)
		return set;
	return compiled_in == RESOLVED_SUPPORT_UNSET ? RESOLVED_SUPPORT_YES : compiled_in;
}

/* Each link, and what they have in common. */
static void check_links(const struct check *c, const struct check *quiet,
			const struct resolved_settings *s, const struct resolved_settings *built)
{
	const bool ask_llmnr = or_default(s->llmnr, built->llmnr) > RESOLVED_SUPPORT_NO;
	const bool ask_mdns = or_default(s->mdns, built->mdns) > RESOLVED_SUPPORT_NO;
	char by_llmnr[NAMES] = "", by_mdns[NAMES] = "";
	bool told = check_tls(c, s->tls, "resolved.conf");

	for (size_t i = 0; i < c->links->links_len; i++) {
		const struct link *const link = &c->links->links[i];
		struct resolved_settings own;

		if (!check_is_outside(c, link))
			continue;
		(void)check_resolved_link(quiet, link->index, &own);
		if (own.all)
			check_domains(c, link);
		told = told || check_tls(c, own.tls, link->name);
		/* The port of a bridge has no addresses, so resolved asks nobody there. */
		if (link->master)
			continue;
		/* What a link does not set is on. */
		if (ask_llmnr && own.llmnr != RESOLVED_SUPPORT_NO)
			append(by_llmnr, link->name);
		if (ask_mdns && own.mdns != RESOLVED_SUPPORT_NO)
			append(by_mdns, link->name);
	}
	if (*by_llmnr)
		tell_neighbours(c, &llmnr, by_llmnr, support_text(s->llmnr, built->llmnr));
	if (*by_mdns)
		tell_neighbours(c, &mdns, by_mdns, support_text(s->mdns, built->mdns));
}

static void check_avahi(const struct check *c)
{
	struct finding f =
		check_finding("mdns", !policy_is_guarded(c->policy, MDNS_PORT), "avahi-daemon");

	if (!check_file_exists(c->root, "/run/avahi-daemon/pid") &&
	    !check_file_exists(c->root, "/run/avahi-daemon/socket"))
		return;
	check_say(&f,
		  "avahi-daemon runs: names that end in .local are asked of everybody on the local network, to port %d",
		  MDNS_PORT);
	check_advise(
		&f,
		"systemctl disable --now avahi-daemon.socket avahi-daemon.service; or name the links it may use in allow-interfaces= of /etc/avahi/avahi-daemon.conf");
	check_tell(c, &f);
}

static void tell_nobody(void *ctx, const struct finding *f)
{
	(void)ctx;
	(void)f;
}

void check_resolved(const struct check *c)
{
	struct resolved_settings s, built;
	/* check_servers() has read the same files, and told of those that it could not. */
	struct check quiet = *c;

	quiet.found = tell_nobody;

	/* It writes these when it starts. */
	if (check_file_exists(c->root, "/run/systemd/resolve/stub-resolv.conf") ||
	    check_file_exists(c->root, "/run/systemd/resolve/resolv.conf")) {
		check_resolved_conf(&quiet, &s);
		read_compiled_in(c, &built);
		check_fallback(c, &s, &built);
		check_links(c, &quiet, &s, &built);
	}
	check_avahi(c);
}
