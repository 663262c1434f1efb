#include "check_system.h"

#include <time.h>

#include "check_doh.h"
#include "check_guests.h"
#include "check_ipv6.h"
#include "check_pushed.h"
#include "check_report.h"
#include "check_resolved.h"
#include "check_servers.h"

int check_system(const char *root, const struct policy *p, const struct netstate *ns,
		 finding_fn *found, void *ctx)
{
	const struct check c = {
		.root = root,
		.policy = p,
		.links = ns,
		.now = time(NULL),
		.found = found,
		.ctx = ctx,
	};
	int err, later;

	err = check_servers(&c);
	check_resolved(&c);
	check_ipv6(&c);
	later = check_routes(&c);
	check_pushed(&c);
	check_guests(&c);
	check_doh(&c);
	return err ?: later;
}
