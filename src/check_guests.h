/*
 * check_guests.h - containers and virtual machines of this host, and whom they ask
 *
 * Formats: Docker's daemon.json, dnsmasq.conf of libvirt's networks and of the host
 * (dnsmasq(8)).
 */
#ifndef CHECK_GUESTS_H
#define CHECK_GUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define DNSMASQ_SERVERS 16

struct dnsmasq_server {
	struct addr addr;
	uint16_t port;	     /* host order; 0: 53 */
	char link[IFNAMSIZ]; /* asked through it; "": wherever routes lead */
};

/*
 * The servers of a dnsmasq.conf: "server=[/DOMAIN/]ADDR[#PORT][@LINK]", "local=" for
 * addresses too.  Returns how many, up to DNSMASQ_SERVERS.  Pure; the text is changed.
 */
size_t dnsmasq_parse_servers(char *text, size_t len,
			     struct dnsmasq_server ret_list[DNSMASQ_SERVERS]);

/* Whether a link of this name is a bridge that Docker or libvirt made.  Pure. */
bool check_is_guests_bridge(const char *name);

struct check;

void check_guests(const struct check *c);

#endif
