#include "follow.h"

#include <string.h>

#include "apply.h"
#include "clock.h"
#include "log.h"
#include "netwatch.h"
#include "ruleset.h"
#include "watch_status.h"

#define PINS_SAID 8

/* Whether this resolver is closed on any way but a tunnel. */
static bool is_tied(const struct policy *p, const struct pins *pins, const struct resolver *r)
{
	switch (r->path) {
	case RESOLVER_PATH_STICKY:
		return p->mode == POLICY_MODE_BOTH || pins_has(pins, &r->addr);
	case RESOLVER_PATH_TUNNEL:
		return true;
	case RESOLVER_PATH_LINK:
		return policy_is_tunnel(p, r->link);
	case RESOLVER_PATH_ANY:
		break;
	}
	return false;
}

static void note_tried(struct watch_status *st, const struct addr *addr, const char *link)
{
	memmove(&st->tried[1], &st->tried[0], sizeof(st->tried) - sizeof(st->tried[0]));
	st->tried[0] = (struct watch_tried){ .addr = *addr, .at_ms = clock_boottime_ms() };
	memcpy(st->tried[0].link, link, IFNAMSIZ);
	if (st->tried_len < WATCH_STATUS_TRIED)
		st->tried_len++;
}

static bool was_outside(const struct follow *f, const struct addr *addr, const char *link)
{
	for (size_t i = 0; i < f->outside_len; i++)
		if (!addr_cmp(&f->outside[i].addr, addr) &&
		    !strncmp(f->outside[i].link, link, IFNAMSIZ))
			return true;
	return false;
}

/* Say which route would lead a tied resolver outside, once for each that tries. */
static void follow_routes(struct follow *f, const struct plan *plan, const struct pins *pins,
			  struct watch_status *st)
{
	typeof(f->outside[0]) now[FOLLOW_MAX];
	struct addr addrs[FOLLOW_MAX];
	const struct policy *p = &plan->policy;
	struct netstate routes = { 0 };
	size_t n = 0, now_len = 0;
	char text[ADDR_TEXT];

	/* No route tells what an IPsec policy takes. */
	for (size_t i = 0; !policy_has_ipsec(p) && i < p->resolvers_len && n < FOLLOW_MAX; i++)
		if (is_tied(p, pins, &p->resolvers[i]) && !addr_is_linklocal(&p->resolvers[i].addr))
			addrs[n++] = p->resolvers[i].addr;
	if (n && netwatch_lookup_routes(&routes, addrs, n))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct link *link = route_outside(p, &plan->net, &routes.routes[i]);

		if (!link)
			continue;
		if (!was_outside(f, &addrs[i], link->name)) {
			note_tried(st, &addrs[i], link->name);
			log_event(LOG_LEVEL_WARNING, "route-outside",
				  "a route leads resolver %s outside the tunnel, through %s: queries to it are blocked there",
				  addr_format(&addrs[i], text), link->name);
		}
		now[now_len].addr = addrs[i];
		memcpy(now[now_len++].link, link->name, IFNAMSIZ);
	}
	memcpy(f->outside, now, now_len * sizeof(now[0]));
	f->outside_len = now_len;
	netstate_fini(&routes);
}

/* Say which link has a tunnel's name alone, once for each; and when the first comes, the last goes. */
static void follow_links(struct follow *f, const struct plan *plan)
{
	const struct policy *p = &plan->policy;
	int odd[sizeof(f->odd_links) / sizeof(f->odd_links[0])] = { 0 };
	size_t n = 0;
	bool up = false;

	for (size_t i = 0; i < plan->net.links_len; i++) {
		const struct link *l = &plan->net.links[i];
		bool known = false, accepted;

		if (!policy_is_tunnel(p, l->name))
			continue;
		accepted = policy_is_tunnel_link(p, l->name, l->kind);
		up |= l->up && accepted;
		if (!policy_is_tunnel_by_name(p, l->name, l->kind) ||
		    n == sizeof(odd) / sizeof(odd[0]))
			continue;
		for (size_t k = 0; k < sizeof(odd) / sizeof(odd[0]); k++)
			known |= f->odd_links[k] == l->index;
		if (!known)
			log_event(LOG_LEVEL_WARNING, "tunnel-kind",
				  "link %s has a tunnel's name, but is %s%s: %s", l->name,
				  *l->kind ? "of kind " : "hardware", l->kind,
				  accepted ? "accepted, as tunnel-kind = any says" :
					     "refused, as tunnel-kind says");
		odd[n++] = l->index;
	}
	memcpy(f->odd_links, odd, sizeof(odd));
	if (up != f->tunnel_up)
		log_event(LOG_LEVEL_NOTICE, up ? "guarded" : "locked",
			  up ? "a tunnel is up" :
			       "no tunnel is up: name traffic goes to approved resolvers alone");
	f->tunnel_up = up;
}

void follow_plan(struct follow *f, const struct plan *plan, const struct pins *pins,
		 struct watch_status *st)
{
	follow_routes(f, plan, pins, st);
	follow_links(f, plan);
}

/* Which pins are new; with many at once the first ones stand for all. */
void follow_pins(const struct pins *before, const struct pins *now)
{
	char text[ADDR_TEXT];
	size_t said = 0;

	for (size_t i = 0; i < now->len && before->len + said < now->len; i++) {
		if (pins_has(before, &now->addrs[i]))
			continue;
		if (++said > PINS_SAID)
			break;
		log_event(LOG_LEVEL_NOTICE, "pinned",
			  "a route leads resolver %s through a tunnel: from now on it is open there only",
			  addr_format(&now->addrs[i], text));
	}
	if (now->len > before->len + PINS_SAID)
		log_event(LOG_LEVEL_NOTICE, "pinned", "and %zu more",
			  now->len - before->len - PINS_SAID);
}
