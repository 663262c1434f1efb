/*
 * check_system.h - the system's own settings, as far as names leak by them
 *
 * Reads files of others below `root`, and changes nothing: their size, bytes and
 * kind are anybody's.  What does not exist gives no finding; what is there and
 * cannot be read gives one.
 *
 * Topics: "resolver", "port", "tls", "fallback", "domains", "llmnr", "mdns",
 * "ipv6", "route", "dhcp-routes", "guests", "doh", "unreadable".
 */
#ifndef CHECK_SYSTEM_H
#define CHECK_SYSTEM_H

#include "check_finding.h"

struct netstate;
struct policy;

/*
 * Tell of all that is found, each through found(ctx, ...), in a fixed order of
 * topics.  `root` is put before every path; "" is the machine itself, and then the
 * kernel is asked for routes as well.  `ns` has the links (netwatch_dump_links()).
 * Waits for no file.  0; -errno where the kernel or memory failed, after what was
 * found until then.
 */
int check_system(const char *root, const struct policy *p, const struct netstate *ns,
		 finding_fn *found, void *ctx);

#endif
