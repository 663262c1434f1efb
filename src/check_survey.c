/* check_run_survey(): what there is to try. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check_find.h"
#include "check_leases.h"
#include "check_run.h"
#include "frames.h"
#include "nameservers.h"
#include "netstate.h"
#include "netwatch.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define RUN	    "/run"

/* Why nothing is tried on a link; NULL where it is. */
static const char *why_skipped(const struct link *link, struct check_link *at)
{
	bool running = false;

	if (!link->up)
		return "down";
	if (check_find_state(link->name, &at->type, &running))
		return "gone";
	return running ? NULL : "no carrier";
}

/* Links of names and kinds that nothing can leak by are left out, those that are down are not. */
static void add_links(struct check_plan *plan, const struct policy *p, const struct netstate *net)
{
	for (size_t i = 0; i < net->links_len; i++) {
		const struct link *link = &net->links[i];
		const enum frames_role role = frames_role(p, net, link);
		struct check_link *at = &plan->links[plan->links_len];

		if (role != FRAMES_ROLE_GUARDED && role != FRAMES_ROLE_CARRIER)
			continue;
		if (plan->links_len == CHECK_MAX_LINKS) {
			plan->links_out += link->up;
			continue;
		}
		*at = (struct check_link){ .index = link->index };
		memcpy(at->name, link->name, sizeof(at->name));
		at->skipped = why_skipped(link, at);
		plan->links_len++;
	}
}

static const struct check_link *find_link(const struct check_plan *plan, int index)
{
	for (size_t i = 0; i < plan->links_len; i++)
		if (plan->links[i].index == index && !plan->links[i].skipped)
			return &plan->links[i];
	return NULL;
}

static void take_gateway(void *ctx, int link, const struct addr *gateway)
{
	struct check_plan *plan = ctx;
	size_t known = 0;

	if (!find_link(plan, link) || !addr_is_unicast(gateway))
		return;
	for (size_t i = 0; i < plan->targets_len; i++)
		known += plan->targets[i].link == link &&
			 plan->targets[i].addr.family == gateway->family;
	/* A router with a thousand peers: two are enough to tell. */
	if (known < CHECK_MAX_GATEWAYS)
		check_plan_add_target(plan, gateway, CHECK_KIND_GATEWAY, link, "");
}

static int add_resolvers(struct check_plan *plan, struct netstate *net)
{
	struct nameservers *servers = calloc(1, sizeof(*servers));
	struct addr addrs[NAMESERVERS_MAX];
	int err;

	if (!servers)
		return -ENOMEM;
	nameservers_read(servers, RESOLV_CONF);
	nameservers_read_upstream(servers, RUN, net);
	check_leases_read(servers, "");
	for (size_t i = 0; i < servers->len; i++)
		addrs[i] = servers->list[i].addr;
	err = netwatch_lookup_routes(net, addrs, servers->len);
	for (size_t i = 0; !err && i < servers->len; i++) {
		const struct nameserver *s = &servers->list[i];
		const struct link *link = *s->link ? netstate_link_named(net, s->link) : NULL;

		/* One on this host asks others, who are in the list as well. */
		if (addr_is_loopback(&s->addr) || net->routes[i].hops[0] == LOOPBACK_IFINDEX ||
		    (*s->link && (!link || !find_link(plan, link->index))))
			continue;
		check_plan_add_target(plan, &s->addr, CHECK_KIND_RESOLVER, link ? link->index : 0,
				      s->source);
	}
	plan->targets_out += servers->more;
	free(servers);
	return err;
}

static bool is_on_link(const struct check_plan *plan, const struct addr *addr)
{
	struct addr hop;

	for (size_t i = 0; i < plan->links_len; i++)
		if (!plan->links[i].skipped && !check_find_hop(plan->links[i].index, addr, &hop) &&
		    !addr_cmp(&hop, addr))
			return true;
	return false;
}

/* One of each family that is far away: where somebody uses the range, the next one. */
static void add_nobodies(struct check_plan *plan)
{
	static const char texts[][20] = { "198.51.100.253", "203.0.113.253", "192.0.2.253",
					  "2001:db8:ffff::253", "2001:db8:fffe::253" };
	bool has[2] = { false, false };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct addr addr;

		if (addr_parse(texts[i], &addr) || has[addr.family == AF_INET6] ||
		    is_on_link(plan, &addr))
			continue;
		has[addr.family == AF_INET6] = true;
		check_plan_add_target(plan, &addr, CHECK_KIND_NOBODY, 0, "");
	}
}

static void find_reach(const struct check_plan *plan, struct check_link *link)
{
	struct addr hop;

	for (size_t t = 0; t < plan->targets_len; t++) {
		const struct check_target *target = &plan->targets[t];

		if ((target->link && target->link != link->index) ||
		    check_find_hop(link->index, &target->addr, &hop))
			continue;
		link->reach |= (uint64_t)1 << t;
	}
}

int check_run_survey(struct check_plan *plan, const struct policy *p, struct netstate *net)
{
	int err;

	add_links(plan, p, net);
	err = check_find_gateways(take_gateway, plan);
	if (!err)
		err = add_resolvers(plan, net);
	if (err)
		return err;
	add_nobodies(plan);
	for (size_t i = 0; i < plan->links_len; i++)
		if (!plan->links[i].skipped)
			find_reach(plan, &plan->links[i]);
	return 0;
}
