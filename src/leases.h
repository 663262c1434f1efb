/* leases.h - names of clients, from the lease files of DHCP servers on this host */
#ifndef LEASES_H
#define LEASES_H

#include <sys/types.h>
#include <time.h>

#include "text.h"

#define LEASES_MAX  1024 /* more are left out */
#define LEASES_NAME 64	 /* with NUL */

struct lease {
	struct addr addr; /* AF_UNSPEC: by its MAC only */
	bool has_mac;
	uint8_t mac[MAC_LEN];
	char name[LEASES_NAME]; /* chosen by the client: any bytes */
};

struct leases {
	struct lease list[LEASES_MAX];
	size_t len;
	struct leases_file {
		struct timespec changed;
		off_t size;
	} files[8];
	bool was_read;
};

/*
 * Add what a file says, in the format of dnsmasq, of odhcpd or of ISC's dhcpd,
 * told apart by their lines; what is none of them is passed by.  0, or -errno of
 * opening it.  A later entry for an address replaces an earlier one.
 */
int leases_read_file(struct leases *l, const char *path);

/* The files where those servers keep their leases; read again only if one of them has changed. */
void leases_refresh(struct leases *l);

/*
 * Who has this address; or, where nobody has, who has this MAC (which may be
 * NULL): a client has more addresses than leases.  NULL: nobody known.
 */
const char *leases_find(const struct leases *l, const struct addr *addr,
			const uint8_t mac[MAC_LEN]);

#endif
