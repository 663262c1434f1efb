/* check_leases.h - the name servers that DHCP leases brought, as clients keep them */
#ifndef CHECK_LEASES_H
#define CHECK_LEASES_H

struct nameservers;

/*
 * Add those of dhclient, systemd-networkd and NetworkManager below `root` ("" is
 * the machine itself).  Files are somebody else's: any size, any bytes; what is no
 * regular file is passed by, and of a long one the end is read.
 */
void check_leases_read(struct nameservers *ns, const char *root);

#endif
