/* frames.h: which links get a chain, and which stand below which */
#include "unit.h"

#include "frames.h"
#include "policies.h"
#include "ruleset.h"

/*
 *	v10.20  mv0                    ipv0 wg0.5 mvgone   tun0      red
 *	   |     |                      |     |     |                 :
 *	  v10 ───┘   br0 ──┬─ tap0      |    wg0  (none)             eth5
 *	   |          |    ├─ veth0 - - ┼ - another namespace
 *	  bond0      eth3  └─ v30       |
 *	  |   |             |           |
 *	eth1 eth2          eth4 <───────┘
 */
enum {
	LO = 1,
	ETH0,
	ETH1,
	ETH2,
	ETH3,
	ETH4,
	ETH5,
	BOND0,
	V10,
	V10_20,
	MV0,
	BR0,
	TAP0,
	VETH0,
	V30,
	IPV0,
	WG0,
	WG0_5,
	MVGONE,
	TUN0,
	RED,
};
#define GONE 99 /* no link has this index */

static struct link links[] = {
	{ .index = LO, .name = "lo" },
	{ .index = ETH0, .name = "eth0" },
	{ .index = ETH1, .name = "eth1", .master = BOND0 },
	{ .index = ETH2, .name = "eth2", .master = BOND0 },
	{ .index = ETH3, .name = "eth3", .master = BR0 },
	{ .index = ETH4, .name = "eth4" },
	{ .index = ETH5, .name = "eth5", .master = RED },
	{ .index = BOND0, .name = "bond0", .kind = "bond" },
	{ .index = V10, .name = "v10", .kind = "vlan", .parent = BOND0 },
	{ .index = V10_20, .name = "v10.20", .kind = "vlan", .parent = V10 },
	{ .index = MV0, .name = "mv0", .kind = "macvlan", .parent = V10 },
	{ .index = BR0, .name = "br0", .kind = "bridge" },
	{ .index = TAP0, .name = "tap0", .kind = "tun", .master = BR0 },
	/* Its peer is in another namespace, so netwatch leaves the index out. */
	{ .index = VETH0, .name = "veth0", .kind = "veth", .master = BR0 },
	{ .index = V30, .name = "v30", .kind = "vlan", .parent = ETH4, .master = BR0 },
	{ .index = IPV0, .name = "ipv0", .kind = "ipvlan", .parent = ETH4 },
	{ .index = WG0, .name = "wg0", .kind = "wireguard" },
	{ .index = WG0_5, .name = "wg0.5", .kind = "vlan", .parent = WG0 },
	{ .index = MVGONE, .name = "mvgone", .kind = "macvlan", .parent = GONE },
	{ .index = TUN0, .name = "tun0", .kind = "tun" },
	{ .index = RED, .name = "red", .kind = "vrf" },
};
static const struct netstate net = { .links = links, .links_len = LEN(links) };

#define NAMES 256

/* The links below that of this name, in words; all others are asked for, too. */
static void list_below(const struct netstate *ns, const char *name, char ret_text[NAMES])
{
	const struct link *upper = netstate_link_named(ns, name);

	assert_non_null(upper);
	ret_text[0] = '\0';
	for (size_t i = 0; i < ns->links_len; i++)
		if (frames_is_below(ns, upper, &ns->links[i]))
			strcat(strcat(ret_text, *ret_text ? " " : ""), ns->links[i].name);
}

static void test_below(void **state)
{
	static const struct {
		const char *upper, *expected;
	} rows[] = {
		{ "lo", "" },
		{ "eth0", "" },
		{ "eth1", "" },
		{ "bond0", "eth1 eth2" },
		{ "v10", "eth1 eth2 bond0" },
		{ "v10.20", "eth1 eth2 bond0 v10" },
		{ "mv0", "eth1 eth2 bond0 v10" },
		{ "br0", "eth3 eth4 tap0 veth0 v30" },
		{ "v30", "eth4" },
		{ "ipv0", "eth4" },
		{ "wg0", "" }, /* what a tunnel makes of a packet is another packet */
		{ "wg0.5", "wg0" },
		{ "mvgone", "" }, /* in another namespace, or gone meanwhile */
		{ "veth0", "" },
		{ "red", "" }, /* a vrf's packets leave through the ports as those' own */
	};
	char found[NAMES];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		list_below(&net, rows[i].upper, found);
		assert_row(!strcmp(found, rows[i].expected), rows[i].upper, "found %s", found);
	}
}

/* Of each kind that has what it needs: a parent, or a port. */
static void test_kinds(void **state)
{
	static const struct {
		const char *kind;
		bool has_parent, has_port, bonded;
	} rows[] = {
		{ "vlan", true, false, false },	   { "macvlan", true, false, false },
		{ "macvtap", true, false, false }, { "ipvlan", true, false, false },
		{ "ipvtap", true, false, false },  { "dsa", true, false, false },
		{ "bridge", false, true, false },  { "bond", false, true, true },
		{ "team", false, true, true },	   { "hsr", false, true, false },
		{ "vrf", false, false, false },	   { "veth", false, false, false },
		{ "gre", false, false, false },	   { "vxlan", false, false, false },
		{ "vlans", false, false, false },  { "wireguard", false, false, false },
		{ "", false, false, false },	   { "openvswitch", false, false, false },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct link two[] = { { .index = 2, .name = "upper" },
				      { .index = 3, .name = "lower" } };
		const struct netstate ns = { .links = two, .links_len = 2 };

		strcpy(two[0].kind, rows[i].kind);
		assert_row(!frames_is_below(&ns, &two[0], &two[1]), rows[i].kind, "unrelated");
		two[0].parent = 3;
		assert_row(frames_is_below(&ns, &two[0], &two[1]) == rows[i].has_parent,
			   rows[i].kind, "parent");
		two[0].parent = 0;
		two[1].master = 2;
		assert_row(frames_is_below(&ns, &two[0], &two[1]) == rows[i].has_port, rows[i].kind,
			   "port");
		assert_row(!frames_is_below(&ns, &two[1], &two[0]), rows[i].kind, "upside down");
		assert_row(frames_is_bonded(&ns, &two[1]) == rows[i].bonded, rows[i].kind,
			   "bonded");
		assert_false(frames_is_bonded(&ns, &two[0]));
		two[1].master = GONE;
		assert_false(frames_is_bonded(&ns, &two[1]));
	}
}

/* A dump that is none: links that stand on each other.  It ends, and soon. */
static void test_circles(void **state)
{
	static struct link circles[] = {
		{ .index = 2, .name = "v0", .kind = "vlan", .parent = 3 },
		{ .index = 3, .name = "v1", .kind = "vlan", .parent = 2 },
		{ .index = 4, .name = "self", .kind = "macvlan", .parent = 4 },
		{ .index = 5, .name = "br0", .kind = "bridge", .master = 6 },
		{ .index = 6, .name = "br1", .kind = "bridge", .master = 5 },
		{ .index = 7, .name = "br2", .kind = "bridge", .master = 7 },
		{ .index = 8, .name = "eth0", .master = 5 },
		{ .index = 9, .name = "apart" },
	};
	const struct netstate ns = { .links = circles, .links_len = LEN(circles) };
	struct policy p = policy_from_lines("tunnel = self\n");
	char found[NAMES];

	(void)state;
	for (size_t i = 0; i < LEN(circles); i++) {
		list_below(&ns, circles[i].name, found);
		assert_row(!strstr(found, "apart"), circles[i].name, "found %s", found);
		assert_int_equal(frames_role(&p, &ns, &circles[i]),
				 i == 2 ? FRAMES_ROLE_TUNNEL : FRAMES_ROLE_GUARDED);
	}
	list_below(&ns, "br0", found);
	assert_non_null(strstr(found, "eth0"));
	policy_fini(&p);
}

/* As many on each other as a host may have; more than that are taken for unrelated. */
static void test_stack(void **state)
{
	struct link stack[14] = { { .index = 2, .name = "eth0" } };
	const struct netstate ns = { .links = stack, .links_len = LEN(stack) };

	(void)state;
	for (int i = 1; i < (int)LEN(stack); i++) {
		stack[i] = (struct link){ .index = i + 2, .kind = "vlan", .parent = i + 1 };
		snprintf(stack[i].name, IFNAMSIZ, "v%d", i);
		if (i <= 8)
			assert_true(frames_is_below(&ns, &stack[i], &stack[0]));
	}
	assert_false(frames_is_below(&ns, &stack[LEN(stack) - 1], &stack[0]));
}

static const char *const role_words[] = {
	[FRAMES_ROLE_GUARDED] = "guarded", [FRAMES_ROLE_LOOPBACK] = "loopback",
	[FRAMES_ROLE_TUNNEL] = "tunnel",   [FRAMES_ROLE_INSIDE] = "inside",
	[FRAMES_ROLE_CARRIER] = "carrier",
};

static void test_roles(void **state)
{
	static const struct {
		const char *lines;
		/* Of the links that are not guarded, but for lo. */
		const char *expected;
	} rows[] = {
		{ "", "" },
		{ "tunnel = wg0\n", "wg0 tunnel, " },
		{ "tunnel = wg0\ninside = veth*\ninside = tap0\n",
		  "tap0 inside, veth0 inside, wg0 tunnel, " },
		{ "tunnel = veth0\ninside = veth*\n", "veth0 tunnel, " },
		/* A tunnel that hands its packets on as they are: what carries them sees them so. */
		{ "tunnel = v10\n", "eth1 carrier, eth2 carrier, bond0 carrier, v10 tunnel, " },
		{ "tunnel = br0\ninside = veth0\n",
		  "eth3 carrier, eth4 carrier, br0 tunnel, tap0 carrier, veth0 inside, v30 carrier, " },
		{ "tunnel = wg0.5\n", "wg0 carrier, wg0.5 tunnel, " },
		{ "tunnel = mvgone\n", "mvgone tunnel, " },
		{ "tunnel = red\n", "red tunnel, " },
		{ "inside = br0\n", "br0 inside, " }, /* nothing goes for its ports by that */
		/* By its name it is one, by its kind it is none. */
		{ "tunnel = v10\ntunnel-kind = wireguard\n", "" },
		{ "tunnel = v10\ntunnel-kind = vlan\n",
		  "eth1 carrier, eth2 carrier, bond0 carrier, v10 tunnel, " },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct policy p = policy_from_lines(rows[i].lines);
		char found[NAMES] = "";

		for (size_t k = 0; k < LEN(links); k++) {
			const enum frames_role role = frames_role(&p, &net, &links[k]);

			assert_int_equal(role == FRAMES_ROLE_LOOPBACK, links[k].index == LO);
			if (role != FRAMES_ROLE_GUARDED && role != FRAMES_ROLE_LOOPBACK)
				sprintf(strchr(found, '\0'), "%s %s, ", links[k].name,
					role_words[role]);
		}
		assert_row(!strcmp(found, rows[i].expected), rows[i].lines, "found %s", found);
		policy_fini(&p);
	}
}

/* --- what the rules make of it --- */

static void build(const char *lines, enum family family, const struct parts *parts,
		  struct ruleset *ret_rules)
{
	const struct pins none = { 0 };
	struct policy p = policy_from_lines(lines);

	assert_int_equal(ruleset_build_frames(family, &p, &none, &net, parts, ret_rules), 0);
	policy_fini(&p);
}

static const struct parts all_parts = { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS };

/* A chain for each guarded link, sorted by name; of the bridge's table there is one. */
static void test_devices(void **state)
{
	static const char lines[] = "tunnel = wg0\ninside = veth*\n";
	struct policy p = policy_from_lines(lines);
	struct ruleset rs;

	(void)state;
	build(lines, FAMILY_NETDEV, &all_parts, &rs);
	for (size_t i = 0; i < rs.devices_len; i++) {
		const struct link *link = netstate_link_named(&net, rs.devices[i].name);

		assert_non_null(link);
		assert_int_equal(link->index, rs.devices[i].index);
		assert_int_equal(frames_role(&p, &net, link), FRAMES_ROLE_GUARDED);
		assert_true(!i || strcmp(rs.devices[i - 1].name, rs.devices[i].name) < 0);
	}
	assert_int_equal(rs.devices_len, LEN(links) - 3);
	ruleset_fini(&rs);
	build(lines, FAMILY_BRIDGE, &all_parts, &rs);
	assert_int_equal(rs.devices_len, 0);
	assert_int_equal(rs.chains[0].hook, HOOK_FORWARD);
	ruleset_fini(&rs);
	policy_fini(&p);
}

/* Chosen anew: only the links differ, and none at all is a choice as well. */
static void test_choose_devices(void **state)
{
	struct policy p = policy_from_lines("tunnel = wg0\n");
	const struct netstate none = { 0 }, three = { .links = links, .links_len = 3 };
	struct ruleset rs;
	size_t chains, sets;

	(void)state;
	build("tunnel = wg0\n", FAMILY_NETDEV, &all_parts, &rs);
	chains = rs.chains_len;
	sets = rs.sets_len;
	assert_int_equal(ruleset_choose_devices(&rs, &p, &three), 0);
	assert_int_equal(rs.devices_len, 2);
	assert_string_equal(rs.devices[1].name, "eth1");
	assert_int_equal(ruleset_choose_devices(&rs, &p, &none), 0);
	assert_int_equal(rs.devices_len, 0);
	assert_int_equal(rs.chains_len, chains);
	assert_int_equal(rs.sets_len, sets);
	ruleset_fini(&rs);
	/* Where there is no such table, there is nothing to choose. */
	assert_int_equal(ruleset_choose_devices(&rs, &p, &three), 0);
	assert_int_equal(rs.devices_len, 0);
	policy_fini(&p);
}

/* What the kernel lacks, and what is not wanted, is no table: never half of one. */
static void test_tables(void **state)
{
	static const char *const values[] = { "auto", "off", "require", "strict" };
	char lines[64];

	(void)state;
	for (size_t i = 0; i < LEN(values) * 4; i++) {
		const bool off = i / 4 == 1;
		const struct parts parts = { .fragments = FRAGMENTS_DEFRAG,
					     .egress = i & 1 ? PART_HAS : PART_LACKS,
					     .bridge = i & 2 ? PART_HAS : PART_LACKS };
		struct ruleset rs;

		snprintf(lines, sizeof(lines), "frames = %s\n", values[i / 4]);
		build(lines, FAMILY_NETDEV, &parts, &rs);
		assert_row(!!rs.chains_len == (i & 1 && !off), lines, "netdev, %zu", i % 4);
		ruleset_fini(&rs);
		build(lines, FAMILY_BRIDGE, &parts, &rs);
		assert_row(!!rs.chains_len == (i & 2 && !off), lines, "bridge, %zu", i % 4);
		ruleset_fini(&rs);
	}
}

/* The links of which a set has an element, in the order it keeps them. */
static void list_links(const struct ruleset *rs, const char *name, char ret_text[NAMES])
{
	ret_text[0] = '\0';
	for (size_t i = 0; i < rs->sets_len; i++) {
		const struct set *set = &rs->sets[i];

		for (size_t k = 0; !strcmp(set->name, name) && k < set->elems_len; k++)
			sprintf(strchr(ret_text, '\0'), "%s%s", k ? " " : "",
				(const char *)set->elems + k * set->key_len);
	}
}

/* What is approved "via L" must pass the links below L as well, and those alone. */
static void test_resolvers_below(void **state)
{
	static const struct {
		const char *resolver, *set, *expected;
	} rows[] = {
		{ "10.0.0.7@53 via br0", "resolver4_link", "br0 eth3 eth4 tap0 v30 veth0" },
		{ "fd00::7@53 via v10", "resolver6_link", "bond0 eth1 eth2 v10" },
		{ "10.0.0.7@53 via eth0", "resolver4_link", "eth0" },
		{ "fe80::7%red", "resolver6_link", "red red" }, /* two ports */
		{ "10.0.0.7@53 via nowhere0", "resolver4_link", "nowhere0" },
		{ "10.0.0.7@53", "resolver4_link", "" },
	};
	static const enum family families[] = { FAMILY_NETDEV, FAMILY_BRIDGE };
	char lines[64], found[NAMES];

	(void)state;
	for (size_t i = 0; i < LEN(rows) * 2; i++) {
		struct ruleset rs;

		snprintf(lines, sizeof(lines), "resolver = %s\n", rows[i / 2].resolver);
		build(lines, families[i % 2], &all_parts, &rs);
		list_links(&rs, rows[i / 2].set, found);
		assert_row(!strcmp(found, rows[i / 2].expected), lines, "%s: found %s",
			   family_format(families[i % 2]), found);
		list_links(&rs, "bonded", found);
		assert_string_equal(found, i % 2 ? "" : "eth1 eth2");
		ruleset_fini(&rs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_below),		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_circles),		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_roles),		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_choose_devices),	cmocka_unit_test(test_tables),
		cmocka_unit_test(test_resolvers_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
