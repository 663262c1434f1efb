/* check_servers.h - the name servers that the system is told to ask, and the way to those approved */
#ifndef CHECK_SERVERS_H
#define CHECK_SERVERS_H

struct check;

/* Tell of those that the policy lets nobody ask, and of ports that are not guarded.  0 or -errno. */
int check_servers(const struct check *c);

/*
 * Tell of approved resolvers that a route leads past the tunnel.  The kernel is asked:
 * for the machine itself only.  0 or -errno.
 */
int check_routes(const struct check *c);

#endif
