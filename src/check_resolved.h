/*
 * check_resolved.h - systemd-resolved: whom it asks, when, and what it asks the neighbours
 *
 * Formats: resolved.conf(5), and the files of /run/systemd/resolve/netif and
 * /run/systemd/netif/links as systemd 252 writes them.  The first part is pure.
 */
#ifndef CHECK_RESOLVED_H
#define CHECK_RESOLVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define RESOLVED_SERVERS 16

/* One word of DNS=, FallbackDNS=, SERVERS=: "ADDR", "ADDR:PORT", "[V6]:PORT", "%LINK", "#NAME". */
struct resolved_server {
	struct addr addr;
	uint16_t port; /* host order; 0: the protocol's own */
	char link[IFNAMSIZ];
};

/* 0, or -EINVAL.  The word is changed. */
int resolved_server_parse(char *word, struct resolved_server *ret_server);

struct resolved_servers {
	struct resolved_server list[RESOLVED_SERVERS];
	size_t len;
	bool set; /* the list was given, be it an empty one */
};

/* In the order of how much is let: a link does the less of its own setting and the common one. */
enum resolved_support {
	RESOLVED_SUPPORT_UNSET,
	RESOLVED_SUPPORT_NO,
	RESOLVED_SUPPORT_ASK, /* "resolve": it asks, and does not answer */
	RESOLVED_SUPPORT_YES,
};

struct resolved_settings {
	struct resolved_servers dns;
	struct resolved_servers fallback; /* resolved.conf alone */
	enum resolved_support llmnr, mdns;
	bool tls;	/* opportunistic too: queries go to port 853 */
	bool all;	/* the domain "~.": takes every name */
	bool unmanaged; /* networkd says that it leaves this link alone */
};

/*
 * Take one file's lines in, over what is there: call for the main file, then for
 * its drop-ins in their order.  Lists grow, an empty value empties them.
 * `comments`: take "#Key=value" in their place, by which a vendor's file says what was
 * compiled in.  The text is changed.
 */
void resolved_conf_take(struct resolved_settings *s, char *text, size_t len, bool comments);

/* The same of a link's file; resolved's own and networkd's have no key in common that differs. */
void resolved_link_take(struct resolved_settings *s, char *text, size_t len);

struct check;

/* Of one link, networkd's file if it manages it, or resolved's own.  False: there is neither. */
bool check_resolved_link(const struct check *c, int index, struct resolved_settings *ret_settings);

/* What resolved.conf and its drop-ins say together. */
void check_resolved_conf(const struct check *c, struct resolved_settings *ret_settings);

/*
 * Tell of fallback, tls, domains, llmnr, mdns (avahi-daemon too); not of files that
 * cannot be read, which check_servers() does.
 */
void check_resolved(const struct check *c);

#endif
