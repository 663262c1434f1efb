#include "check_plan.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *check_way_format(enum check_way way)
{
	static const char *const names[CHECK_WAYS] = {
		[CHECK_WAY_PLAIN] = "plain", [CHECK_WAY_BOUND] = "bound",
		[CHECK_WAY_RAW] = "raw",     [CHECK_WAY_PIECES] = "fragments",
		[CHECK_WAY_FRAME] = "frame", [CHECK_WAY_FRAME_PIECES] = "frame-fragments",
	};

	return names[way];
}

bool check_way_is_frame(enum check_way way)
{
	return way == CHECK_WAY_FRAME || way == CHECK_WAY_FRAME_PIECES;
}

bool check_way_is_cut(enum check_way way)
{
	return way == CHECK_WAY_PIECES || way == CHECK_WAY_FRAME_PIECES;
}

const char *check_kind_format(enum check_kind kind)
{
	static const char names[][10] = {
		[CHECK_KIND_GATEWAY] = "gateway",
		[CHECK_KIND_RESOLVER] = "resolver",
		[CHECK_KIND_NOBODY] = "nobody",
	};

	return names[kind];
}

void check_plan_add_target(struct check_plan *plan, const struct addr *addr, enum check_kind kind,
			   int link, const char *source)
{
	struct check_target *t = &plan->targets[plan->targets_len];
	size_t resolvers = 0;

	for (size_t i = 0; i < plan->targets_len; i++) {
		const struct check_target *one = &plan->targets[i];

		if (!addr_cmp(&one->addr, addr) && (one->link == link || !one->link))
			return;
		resolvers += one->kind == CHECK_KIND_RESOLVER;
	}
	if (plan->targets_len == CHECK_MAX_TARGETS ||
	    (kind == CHECK_KIND_RESOLVER && resolvers == CHECK_MAX_RESOLVERS)) {
		plan->targets_out++;
		return;
	}
	plan->targets_len++;
	*t = (struct check_target){ .addr = *addr, .kind = kind, .link = link };
	snprintf(t->source, sizeof(t->source), "%s", source);
}

/* splitmix64: what it makes has to be unlike other people's labels, not secret. */
static uint64_t next_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

struct builder {
	struct check_plan *plan;
	const struct policy *policy;
	uint64_t seed;
	/* Source ports taken, of UDP and TCP over IPv4, then over IPv6. */
	size_t ports_taken[4];
};

static size_t port_space(sa_family_t family, uint8_t proto)
{
	return (family == AF_INET6 ? 2u : 0u) + (proto == IPPROTO_TCP ? 1u : 0u);
}

static void add_shot(struct builder *b, struct check_shot model, uint16_t port)
{
	struct check_plan *plan = b->plan;
	const uint64_t random = next_random(&b->seed);
	size_t *taken =
		&b->ports_taken[port_space(plan->targets[model.target].addr.family, model.proto)];

	model.port = port;
	model.sport = (uint16_t)(plan->base_port + (*taken)++);
	model.tag = (uint32_t)next_random(&b->seed);
	snprintf(model.label, sizeof(model.label), "q%016llx", (unsigned long long)random);
	plan->shots[plan->shots_len++] = model;
}

/* The queries of one link, way, target and protocol, and their control; all or none. */
static void add_row(struct builder *b, struct check_shot model)
{
	const struct policy *p = b->policy;
	struct check_plan *plan = b->plan;
	const bool cut = check_way_is_cut(model.way);
	/* One port stands for all where it cannot be seen. */
	const size_t ports = cut && p->ports_len ? 1 : p->ports_len, n = ports + 1;
	const size_t space = port_space(plan->targets[model.target].addr.family, model.proto);

	if (plan->shots_len + n > CHECK_MAX_SHOTS || b->ports_taken[space] + n > CHECK_PORT_BLOCK) {
		plan->shots_out += n;
		return;
	}
	model.control = plan->shots_len + ports;
	for (size_t i = 0; i < ports; i++)
		add_shot(b, model, p->ports[i]);
	model.is_control = true;
	if (cut)
		model.proto = CHECK_PACKET_OTHER;
	add_shot(b, model, plan->control_port);
}

static void add_way(struct builder *b, int link, enum check_way way)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP };
	const struct check_plan *plan = b->plan;
	const struct check_link *at = link < 0 ? NULL : &plan->links[link];

	if (at && at->skipped)
		return;
	for (size_t t = 0; t < plan->targets_len; t++) {
		const bool reached = !at || check_way_is_frame(way) || at->reach >> t & 1;

		if (at && plan->targets[t].link && plan->targets[t].link != at->index)
			continue;
		for (size_t i = 0; i < (check_way_is_cut(way) ? 1 : sizeof(protos)); i++)
			add_row(b, (struct check_shot){ .link = link,
							.way = way,
							.target = t,
							.proto = protos[i],
							.no_route = !reached });
	}
}

int check_plan_build(struct check_plan *plan, const struct policy *p, uint64_t seed)
{
	struct builder b = { .plan = plan, .policy = p, .seed = seed };
	const unsigned int blocks = 32768 / CHECK_PORT_BLOCK - CHECK_PORT_FIRST / CHECK_PORT_BLOCK;

	plan->shots = calloc(CHECK_MAX_SHOTS, sizeof(*plan->shots));
	if (!plan->shots)
		return -ENOMEM;
	plan->base_port =
		(uint16_t)(CHECK_PORT_FIRST + next_random(&b.seed) % blocks * CHECK_PORT_BLOCK);
	plan->control_port =
		policy_is_guarded(p, CHECK_CONTROL_PORT) ? CHECK_CONTROL_OTHER : CHECK_CONTROL_PORT;
	add_way(&b, -1, CHECK_WAY_PLAIN);
	for (size_t i = 0; i < plan->links_len; i++) {
		add_way(&b, (int)i, CHECK_WAY_BOUND);
		add_way(&b, (int)i, CHECK_WAY_RAW);
		add_way(&b, (int)i, CHECK_WAY_PIECES);
	}
	/* Last: by now the link-layer addresses of gateways are known. */
	for (size_t i = 0; i < plan->links_len; i++) {
		add_way(&b, (int)i, CHECK_WAY_FRAME);
		add_way(&b, (int)i, CHECK_WAY_FRAME_PIECES);
	}
	return 0;
}

void check_plan_fini(struct check_plan *plan)
{
	free(plan->shots);
	plan->shots = NULL;
	plan->shots_len = 0;
}

struct check_shot *check_plan_find(const struct check_plan *plan, sa_family_t family, uint8_t proto,
				   uint16_t sport)
{
	for (size_t i = 0; i < plan->shots_len; i++) {
		struct check_shot *s = &plan->shots[i];

		if (s->sport == sport && s->proto == proto &&
		    plan->targets[s->target].addr.family == family)
			return s;
	}
	return NULL;
}
