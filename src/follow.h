/*
 * follow.h - say what a watcher sees around the rules, once each
 *
 * Nothing is decided here.  Routes that would lead closed resolvers outside go
 * into the watcher's status as well.
 */
#ifndef FOLLOW_H
#define FOLLOW_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "text.h"

struct pins;
struct plan;
struct watch_status;

#define FOLLOW_MAX 256 /* resolvers whose route is followed */

/* What has been said.  All zeros at start. */
struct follow {
	struct {
		struct addr addr;
		char link[IFNAMSIZ];
	} outside[FOLLOW_MAX]; /* closed resolvers that are routed outside now */
	size_t outside_len;
	int odd_links[16]; /* indexes of links that have a tunnel's name alone */
	bool tunnel_up;
};

/*
 * After a look: log which routes lead where they must not, which links are no
 * tunnels by their kind, when the first tunnel comes and the last goes.  Asks
 * the kernel for routes.
 */
void follow_plan(struct follow *f, const struct plan *plan, const struct pins *pins,
		 struct watch_status *st);

/* Log which pins are new. */
void follow_pins(const struct pins *before, const struct pins *now);

#endif
