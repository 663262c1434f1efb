/*
 * check_pushed.h - routes that DHCP servers push: option 121 (RFC 3442), and 249 as Microsoft has it
 *
 * Formats: dhclient.leases(5); dhcpcd's files, which are the server's message
 * (RFC 2131); systemd-networkd's as lines (CLASSLESS_ROUTES=, ROUTES=) and, in newer
 * versions, JSON; NetworkManager's keys of a device's state.  udhcpc keeps none.
 * All but check_pushed() is pure.
 */
#ifndef CHECK_PUSHED_H
#define CHECK_PUSHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "text.h"

#define LEASE_ROUTES 32

struct lease_route {
	struct addr dst; /* IPv4 */
	unsigned int bits;
};

struct lease {
	char link[IFNAMSIZ]; /* "": not known */
	struct lease_route routes[LEASE_ROUTES];
	size_t len, more; /* that found no room */
};

struct check_json;

/* The option's bytes.  0; -EINVAL at the first that are none, with those before. */
int lease_take_option(struct lease *l, const uint8_t *bytes, size_t len);

/*
 * The option as text: "10.0.0.0/8,10.0.0.1 ...", "10.0.0.0/8 10.0.0.1, ...", or its
 * bytes as numbers with blanks, commas or colons between.  The text is changed.
 */
void lease_take_text(struct lease *l, char *text);

/* Lines of systemd-networkd and NetworkManager. */
void lease_take_lines(struct lease *l, char *text, size_t len);

/* systemd-networkd's object. */
void lease_take_json(struct lease *l, struct check_json *json);

/* A server's message; *ret_s: how long it was good for, UINT32_MAX for ever.  0, or -EINVAL. */
int lease_take_message(struct lease *l, const uint8_t *bytes, size_t len, uint32_t *ret_s);

/*
 * dhclient's log of leases: the last of each link, when it has not ended at `now`.
 * Returns how many, up to `max`.  The text is changed.
 */
size_t lease_parse_dhclient(char *text, size_t len, time_t now, struct lease *ret_list, size_t max);

/* Whether it leads elsewhere than to a private network, and is no default route. */
bool lease_route_is_public(const struct lease_route *r);

/* Whether it covers this address. */
bool lease_route_covers(const struct lease_route *r, const struct addr *addr);

struct check;

/* Tell of each lease that has such routes, and when more than one has. */
void check_pushed(const struct check *c);

#endif
