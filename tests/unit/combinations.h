/* combinations.h - every combination of options that shapes the rules */
#ifndef COMBINATIONS_H
#define COMBINATIONS_H

#include <stdbool.h>

#include "policies.h"
#include "ruleset.h"

/* Lines of a configuration, by what they add; each test goes through all products. */
static const char *const some_ports[] = { "ports = 53,853\n", "ports = 53\n",
					  "ports = 1,2,3,4,5,6,7,8,9,10,11,12,13,14,53,853\n" };
static const char *const some_tunnels[] = { "", "tunnel = wg0\n", "tunnel = tun*\n",
					    "tunnel = wg0\ntunnel = tun*\n" };
/* 10.64.0.9 and fd64::9 are pinned below.  All are good in mode both, too. */
static const char *const some_resolvers[] = {
	"",
	"resolver = 127.0.0.53\nresolver = ::1\n",
	"resolver = 192.0.2.53\nresolver = 10.64.0.9\nresolver = fd64::9\n",
	("resolver = 192.0.2.53@53\nresolver = 2001:db8::53\nresolver = [2001:db8::54]@853\n"
	 "resolver = 10.64.0.10 via tunnel\nresolver = 10.64.0.9@53\n"),
};
static const char *const some_links[] = { "",
					  "resolver = 10.64.0.7 via wg0\nresolver = fe80::7%wg0\n"
					  "resolver = 10.64.0.8@853 via wg0\n" };
static const char *const some_endpoints[] = {
	"",
	"endpoint = 203.0.113.7:53/udp\nendpoint = [2001:db8::7]:853/tcp\n",
	"endpoint = 203.0.113.8:53/udp,mark=7\nendpoint = [2001:db8::8]:853/tcp,mark=7\n",
};
static const char *const some_modes[] = { "mode = either\n", "mode = both\n" };
static const char *const some_actions[] = { "action = drop\n", "action = reject\n" };
static const char *const some_logs[] = { "", "log-group = 5\n" };

static const char *const some_kinds[] = { "", "tunnel-kind = wireguard\n" };

/* Of these one is taken by chance, as it were: each pair with another choice comes. */
static const char *const some_frames[] = { "", "frames = strict\n" };
static const char *const some_insides[] = { "", "inside = docker0\ninside = veth*\n" };

/* eth1 stands below br0, eth2 below bond0; what is no link of ours below stands alone. */
static struct link some_of_links[] = {
	{ .index = 1, .name = "lo" },
	{ .index = 2, .name = "eth0" },
	{ .index = 3, .name = "wg0", .kind = "wireguard" },
	{ .index = 4, .name = "br0", .kind = "bridge" },
	{ .index = 5, .name = "eth1", .master = 4 },
	{ .index = 6, .name = "bond0", .kind = "bond" },
	{ .index = 7, .name = "eth2", .master = 6 },
	{ .index = 8, .name = "docker0", .kind = "bridge" },
};
static const struct netstate some_net = { .links = some_of_links, .links_len = LEN(some_of_links) };

#define PINNED "10.64.0.9 fd64::9"

struct combination {
	char text[1024]; /* the configuration */
	struct policy policy;
	struct parts parts;
	struct ruleset rules[FAMILIES];
	bool paused;
};

static inline struct pins test_pins_of(struct addr addrs[2])
{
	assert_int_equal(addr_parse("10.64.0.9", &addrs[0]), 0);
	assert_int_equal(addr_parse("fd64::9", &addrs[1]), 0);
	return (struct pins){ .addrs = addrs, .len = 2 };
}

/* Number of combinations; number `i` of them, to be given to combination_fini(). */
#define COMBINATIONS                                                                   \
	(LEN(some_ports) * LEN(some_tunnels) * LEN(some_resolvers) * LEN(some_links) * \
	 LEN(some_endpoints) * LEN(some_modes) * LEN(some_actions) * LEN(some_logs) *  \
	 LEN(some_kinds) * 3)

static inline const char *pick(size_t *i, const char *const *list, size_t len)
{
	const char *one = list[*i % len];

	*i /= len;
	return one;
}

static inline void combination_init(struct combination *c, size_t i)
{
	struct addr addrs[2];
	const struct pins pins = test_pins_of(addrs);
	const uint32_t chance = (uint32_t)i * 2654435761u >> 29; /* Knuth's: 3 bits */
	enum fragments how;

	c->text[0] = '\0';
	c->paused = false;
	strcat(c->text, some_frames[chance & 1]);
	strcat(c->text, some_insides[chance >> 1 & 1]);
	strcat(c->text, pick(&i, some_tunnels, LEN(some_tunnels)));
	strcat(c->text, pick(&i, some_resolvers, LEN(some_resolvers)));
	strcat(c->text, pick(&i, some_links, LEN(some_links)));
	/* Mode both refuses a path through a link that is no tunnel. */
	if (strstr(c->text, "via wg0") && !strstr(c->text, "tunnel = wg0"))
		strcat(c->text, "tunnel = wg0\n");
	strcat(c->text, pick(&i, some_endpoints, LEN(some_endpoints)));
	strcat(c->text, pick(&i, some_modes, LEN(some_modes)));
	strcat(c->text, pick(&i, some_actions, LEN(some_actions)));
	strcat(c->text, pick(&i, some_logs, LEN(some_logs)));
	strcat(c->text, pick(&i, some_ports, LEN(some_ports)));
	strcat(c->text, pick(&i, some_kinds, LEN(some_kinds)));
	how = (enum fragments)(FRAGMENTS_DEFRAG + i % 3);
	snprintf(strchr(c->text, '\0'), 32, "fragments = %s\n", fragments_format(how));
	c->policy = policy_from_lines(c->text);
	c->parts = (struct parts){ .fragments = how,
				   .egress = PART_HAS,
				   .bridge = PART_HAS,
				   .route = chance >> 2 ? PART_LACKS : PART_HAS };
	assert_int_equal(rulesets_build(&c->policy, &pins, &some_net, &c->parts, c->rules), 0);
}

static inline void combination_fini(struct combination *c)
{
	rulesets_fini(c->rules);
	policy_fini(&c->policy);
}

static inline const struct chain *chain_named(const struct ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		if (!strcmp(rs->chains[i].name, name))
			return &rs->chains[i];
	return NULL;
}

static inline const struct set *set_named(const struct ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->sets_len; i++)
		if (!strcmp(rs->sets[i].name, name))
			return &rs->sets[i];
	return NULL;
}

#endif
