/* links.h - a host's links, and what differs when they or their chains do */
#ifndef LINKS_H
#define LINKS_H

#include "tables.h"

#define POLICY		      "tunnel = wg0\nports = 53\nresolver = 10.0.0.7@53 via br0\n"
/* The rules of a chain at a hook, all of them. */
#define RULE(table, text, of) table ": rule \"" text "\" of chain " of "\n"
#define RULES(table, of)                      \
	RULE(table, "S1 any port but 53", of) \
	RULE(table, "S1 any port but 53", of) \
	RULE(table, "S11 the rest is looked at", of)
#define ADD(name, link) "netdev: chain " name " of link " link "\n" RULES("netdev", name)
#define REMOVE(name)	"netdev: rules of chain " name "\nnetdev: removal of chain " name "\n"
/* Both tables know which links are below br0. */
#define ELEMS(what)                                        \
	"netdev: 1 elements " what " set resolver4_link\n" \
	"bridge: 1 elements " what " set resolver4_link\n"

static const struct link before[] = {
	{ .index = 1, .name = "lo" },
	{ .index = 2, .name = "eth0" },
	{ .index = 3, .name = "eth1" },
	{ .index = 4, .name = "br0", .kind = "bridge" },
	{ .index = 5, .name = "bond0", .kind = "bond" },
	{ .index = 6, .name = "eth2", .master = 4 },
};

static inline struct netstate links_of(struct link links[LEN(before) + 1])
{
	memset(links, 0, (LEN(before) + 1) * sizeof(*links));
	memcpy(links, before, sizeof(before));
	return (struct netstate){ .links = links, .links_len = LEN(before) };
}

#endif
