/* check_ipv6.h - IPv6 that goes past a tunnel which has none */
#ifndef CHECK_IPV6_H
#define CHECK_IPV6_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#define IPV6_LINKS 64

/* What a link has of IPv6. */
struct ipv6_link {
	char name[IFNAMSIZ];
	bool any;    /* an address that is no link-local one */
	bool global; /* one that the whole internet can answer to (2000::/3) */
	bool route;  /* a default route */
};

struct ipv6_links {
	struct ipv6_link list[IPV6_LINKS];
	size_t len;
};

/* Take the lines of /proc/net/if_inet6 and of /proc/net/ipv6_route in.  Pure; any bytes. */
void ipv6_take_addresses(struct ipv6_links *l, char *text, size_t len);
void ipv6_take_routes(struct ipv6_links *l, char *text, size_t len);

struct check;

void check_ipv6(const struct check *c);

#endif
