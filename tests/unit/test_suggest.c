/* suggest.h: facts -> lines; every line parses, none opens a way to the provider */
#include "unit.h"

#include "files.h"
#include "policies.h"
#include "suggest.h"

enum { LO = 1, ETH0, WG0, TUN0, PPP0, GRE0, BR0, VETH1, BR1, ETH1 };

/* A host with everything; tests take from it, or spoil it. */
struct host {
	struct survey sv;
	struct link links[10];
	struct wide_route wides[8];
	struct route_to routes[NAMESERVERS_MAX + SURVEY_MAX_SOCKETS];
};

static struct host *make_host(void)
{
	static const struct link links[] = {
		{ .index = LO, .name = "lo", .up = true },
		{ .index = ETH0, .name = "eth0", .up = true },
		{ .index = WG0, .name = "wg0", .kind = "wireguard", .up = true },
		{ .index = TUN0, .name = "tun0", .kind = "tun", .up = true },
		{ .index = PPP0, .name = "ppp0", .kind = "ppp", .up = true },
		{ .index = GRE0, .name = "gre0", .kind = "gre", .up = true },
		{ .index = BR0, .name = "docker0", .kind = "bridge", .up = true },
		{ .index = VETH1, .name = "veth1", .kind = "veth", .up = true, .master = BR0 },
		{ .index = BR1, .name = "br1", .kind = "bridge", .up = true },
		{ .index = ETH1, .name = "eth1", .up = true, .master = BR1 },
	};
	struct host *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	memcpy(h->links, links, sizeof(links));
	h->sv.net = (struct netstate){
		.links = h->links, .links_len = LEN(links), .routes = h->routes, .wides = h->wides
	};
	return h;
}

static struct addr addr(const char *text)
{
	struct addr a;

	if (addr_parse(text, &a))
		fail_msg("%s", text);
	return a;
}

static void add_wide(struct host *h, int link, const char *dst, unsigned int bits, uint32_t table)
{
	h->wides[h->sv.net.wides_len++] =
		(struct wide_route){ .link = link, .dst = addr(dst), .bits = bits, .table = table };
}

static void add_server(struct host *h, const char *text, const char *link, int hop)
{
	struct nameserver *s = &h->sv.servers.list[h->sv.servers.len];

	s->addr = addr(text);
	strcpy(s->link, link);
	strcpy(s->source, "/etc/resolv.conf");
	h->routes[h->sv.servers.len++].hops[0] = hop;
	h->sv.net.routes_len++;
}

/* What is printed, for free(3); it must be clean, and the file's reader must take it. */
static char *print(const struct host *h, const char *dir, bool expect_found)
{
	char path[PATH_SIZE + 64], err[CONFIG_ERR], *text = NULL;
	struct policy defaults, read;
	bool found = !expect_found;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	policy_init(&defaults);
	assert_int_equal(suggest_print(&h->sv, &defaults, out, &found), 0);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(found, expect_found);
	for (size_t i = 0; i < len; i++)
		assert_true(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));

	snprintf(path, sizeof(path), "%s/suggested.conf", dir);
	write_file(path, text, len);
	policy_init(&read);
	if (config_read_file(path, &read, err) || policy_validate(&read, err, sizeof(err)))
		fail_msg("%s in\n%s", err, text);
	assert_int_equal(read.tunnels_len != 0, expect_found);
	for (size_t i = 0; i < read.resolvers_len; i++)
		assert_int_equal(read.resolvers[i].path, RESOLVER_PATH_TUNNEL);
	policy_fini(&read);
	return text;
}

/* The lines that are no plain comments. */
static char *lines(const struct host *h, const char *dir, bool found)
{
	char *text = print(h, dir, found), *save = NULL, *kept = calloc(1, strlen(text) + 1);

	assert_non_null(kept);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (line[0] != '#' || line[1] != ' ')
			strcat(strcat(kept, line), "\n");
	free(text);
	return kept;
}

#define assert_lines(host, found, expected)                                           \
	do {                                                                          \
		char *is = lines(host, *state, found);                                \
		assert_string_equal(is, expected "frames = auto\n#log-group = 53\n"); \
		free(is);                                                             \
	} while (0)

#define GUESTS "#inside = docker0\n#inside = veth*\n"

/* All of it, once, to be read. */
static void test_whole(void **state)
{
	struct host *h = make_host();
	char *text;

	h->sv.net.links_len = 3;
	add_wide(h, WG0, "0.0.0.0", 0, 51820);
	add_wide(h, WG0, "::", 0, 51820);
	add_server(h, "127.0.0.53", "", LO);
	add_server(h, "10.64.0.1", "", WG0);
	add_server(h, "192.168.1.1", "", ETH0);
	h->sv.peers[0] = (struct survey_peer){
		.link = "wg0",
		.endpoint = { addr("203.0.113.7"), 53, 17, 0xca6c },
	};
	h->sv.peers_len = 1;
	text = print(h, *state, true);
	assert_string_equal(
		text,
		"# Suggested by 'leakguard suggest' from what ran on this machine at that moment;\n"
		"# leakguard.conf(5) tells of each key. See what it does before it does it:\n"
		"# leakguard rules -c FILE; leakguard enable -c FILE --dry-run\n"
		"\n# --- tunnels ---\n"
		"# wg0: a tunnel by its kind, wireguard, and up. Routed are 0.0.0.0/0 of table 51820, ::/0 of\n"
		"# table 51820 through it.\n"
		"tunnel = wg0\n"
		"# Whatever else takes such a name must be a tunnel by its kind as well.\n"
		"tunnel-kind = strict\n"
		"\n# --- resolvers ---\n"
		"# 127.0.0.53 (/etc/resolv.conf): on this host itself, which needs no line.\n"
		"# /etc/resolv.conf: routed through wg0.\n"
		"resolver = 10.64.0.1 via tunnel\n"
		"# /etc/resolv.conf: routed through eth0, outside of the tunnels: whoever runs the network there\n"
		"# would see each name, so it stays closed.\n"
		"#resolver = 192.168.1.1 via eth0\n"
		"# Through a tunnel any other server may be asked as well; with \"mode = both\" only these.\n"
		"\n# --- the VPN's own packets ---\n"
		"# They need a line only where they go to a guarded port.\n"
		"# wg0 says that it sends its packets there, and marks them.\n"
		"endpoint = 203.0.113.7:53/udp,mark=0xca6c\n"
		"\n# --- what goes round the IP stack: packet sockets, bridged guests, macvlan ---\n"
		"# auto: judged as far as the kernel can. require: or the guard does not rise.\n"
		"frames = auto\n"
		"\n# --- log ---\n"
		"# For 'leakguard monitor', which shows blocked attempts as they happen.\n"
		"#log-group = 53\n");
	free(text);
	free(h);
}

static void test_tunnels(void **state)
{
	struct host *h = make_host();
	const struct link *found[POLICY_MAX_TUNNELS];

	assert_lines(h, false, "#tunnel = wg0\n" GUESTS);
	assert_int_equal(suggest_tunnels(&h->sv, found), 0);
	assert_null(suggest_unsure(&h->sv));

	/* A default route makes no tunnel of what may be the provider's line, or is none. */
	add_wide(h, ETH0, "0.0.0.0", 0, 254);
	add_wide(h, PPP0, "0.0.0.0", 0, 254);
	add_wide(h, GRE0, "0.0.0.0", 0, 254);
	assert_lines(h, false, "#tunnel = ppp0\n#tunnel = gre0\n#tunnel = wg0\n" GUESTS);
	assert_int_equal(suggest_tunnels(&h->sv, found), 0);
	assert_ptr_equal(suggest_unsure(&h->sv), &h->links[4]);

	/* The way to a name server does; --tunnel auto prefers a wide route. */
	add_server(h, "10.8.0.1", "", TUN0);
	assert_lines(h, true,
		     "tunnel = tun0\n#tunnel = ppp0\n#tunnel = gre0\ntunnel-kind = strict\n"
		     "resolver = 10.8.0.1 via tunnel\n" GUESTS);
	assert_int_equal(suggest_tunnels(&h->sv, found), 1);
	assert_ptr_equal(found[0], &h->links[3]);
	add_wide(h, WG0, "0.0.0.0", 1, 254);
	assert_int_equal(suggest_tunnels(&h->sv, found), 1);
	assert_ptr_equal(found[0], &h->links[2]);
	add_wide(h, TUN0, "2000::", 3, 254);
	assert_int_equal(suggest_tunnels(&h->sv, found), 2);

	h->links[2].up = h->links[3].up = false;
	assert_int_equal(suggest_tunnels(&h->sv, found), 0);
	free(h);
}

/* Each name server by where it is asked. */
static void test_servers(void **state)
{
	struct host *h = make_host();

	h->sv.net.links_len = 6;
	add_wide(h, WG0, "0.0.0.0", 0, 254);
	add_wide(h, PPP0, "0.0.0.0", 0, 254);
	add_server(h, "10.0.0.1", "eth0", WG0); /* by its link, whatever its route */
	add_server(h, "10.0.0.2", "wg0", ETH0); /* the same the other way round */
	add_server(h, "10.0.0.3", "", 0);	/* no route */
	add_server(h, "10.0.0.4", "", PPP0);	/* a doubtful tunnel is none */
	add_server(h, "192.168.1.5", "", LO);	/* an address of this host */
	add_server(h, "fe80::6", "eth0", 0);	/* link-local */
	add_server(h, "fe80::7", "wg0", 0);
	add_server(h, "fe80::8", "", WG0); /* on no link that is known */
	add_server(h, "fe80::9", "gone0", 0);
	add_server(h, "10.0.0.10", "", WG0); /* spread over two, one of them outside */
	h->routes[9].hops[1] = ETH0;
	add_server(h, "224.0.0.11", "", WG0); /* no host's address */
	assert_lines(h, true,
		     "tunnel = wg0\n#tunnel = ppp0\ntunnel-kind = strict\n"
		     "#resolver = 10.0.0.1 via eth0\n"
		     "resolver = 10.0.0.2 via tunnel\n"
		     "#resolver = 10.0.0.3 via tunnel\n"
		     "#resolver = 10.0.0.4 via ppp0\n"
		     "#resolver = fe80::6 via eth0\n"
		     "resolver = fe80::7 via tunnel\n"
		     "#resolver = fe80::8 via tunnel\n"
		     "#resolver = fe80::9 via tunnel\n"
		     "#resolver = 10.0.0.10 via tunnel\n");
	free(h);
}

static void test_ipsec(void **state)
{
	struct host *h = make_host();

	h->sv.net.links_len = 2;
	h->sv.ipsecs[0] = (struct ipsec_policy){ 3, addr("10.7.0.0"), 16, true };
	h->sv.ipsecs[1] = (struct ipsec_policy){ 4, addr("10.8.0.0"), 16, true };
	h->sv.ipsecs[2] = (struct ipsec_policy){ 4, addr("10.9.0.0"), 16, true };
	h->sv.ipsecs[3] = (struct ipsec_policy){ 0, addr("::"), 0, true };
	h->sv.ipsecs[4] = (struct ipsec_policy){ 4000000000, addr("::"), 0, true };
	h->sv.ipsecs_len = 5;
	add_server(h, "10.9.255.1", "", ETH0);
	add_server(h, "10.9.255.2", "eth0", ETH0);
	add_server(h, "2001:db8::1", "", ETH0);
	assert_lines(h, true,
		     "tunnel = ipsec:4\n#tunnel = ipsec:any\n#tunnel = ipsec:any\n"
		     "tunnel-kind = strict\n"
		     "resolver = 10.9.255.1 via tunnel\n"
		     "#resolver = 10.9.255.2 via eth0\n"
		     "#resolver = 2001:db8::1 via eth0\n");
	free(h);
}

/* WireGuard says it; a socket is anybody's. */
static void test_endpoints(void **state)
{
	struct host *h = make_host();
	char *text;

	h->sv.net.links_len = 4;
	add_wide(h, WG0, "0.0.0.0", 0, 254);
	add_server(h, "9.9.9.9", "", ETH0);
	h->sv.peers[0] = (struct survey_peer){ "wg0", { addr("203.0.113.7"), 51820, 17, 1 } };
	h->sv.peers[1] = (struct survey_peer){ "wg0", { addr("2001:db8::7"), 853, 17, 0 } };
	h->sv.peers[2] = (struct survey_peer){ "wg0", { addr("255.255.255.255"), 53, 17, 0 } };
	h->sv.peers_len = 3;
	/* To a name server; through a tunnel; twice the same; of nobody known. */
	h->sv.sockets[0].connection = (struct connection){ addr("9.9.9.9"), 853, 6, 1 };
	h->sv.sockets[1].connection = (struct connection){ addr("8.8.8.8"), 853, 6, 2 };
	h->sv.sockets[2].connection = (struct connection){ addr("7.7.7.7"), 53, 6, 3 };
	h->sv.sockets[2].process = (struct process){ 12, "\x1b[0mvpn\n" };
	h->sv.sockets[3] = h->sv.sockets[2];
	h->sv.sockets[4].connection = (struct connection){ addr("6.6.6.6"), 53, 17, 4 };
	h->sv.sockets_len = 5;
	for (size_t i = 0; i < 5; i++)
		h->routes[1 + i].hops[0] = i == 1 ? WG0 : ETH0;
	assert_lines(h, true,
		     "tunnel = wg0\ntunnel-kind = strict\n#resolver = 9.9.9.9 via eth0\n"
		     "endpoint = [2001:db8::7]:853/udp\n"
		     "#endpoint = 7.7.7.7:53/tcp\n#endpoint = 6.6.6.6:53/udp\n");
	text = print(h, *state, true);
	assert_non_null(strstr(text, "?[0mvpn? (process 12) is connected there"));
	assert_non_null(strstr(text, "203.0.113.7:51820/udp, which is no guarded port"));
	assert_non_null(strstr(text, "Left out: endpoint \"255.255.255.255:53/udp\""));
	free(text);
	free(h);
}

/* The kernel takes nearly any byte in a link's name. */
static void test_odd_names(void **state)
{
	static const char *const names[] = { "wg*",	 "*",	 "a b",	    "a;b",  "a#b",
					     "a\nb",	 "a\"b", "\x1b[2J", "\x9b", "auto",
					     "\xc3\xa9", "a,b",	 "%s%s%s",  "a\\",  "ipsec:1" };

	for (size_t i = 0; i < LEN(names); i++) {
		const struct link *found[POLICY_MAX_TUNNELS];
		struct host *h = make_host();

		h->sv.net.links_len = 9;
		memset(h->links[2].name, 0, IFNAMSIZ);
		strcpy(h->links[2].name, names[i]);
		memcpy(h->links[6].name, h->links[2].name, IFNAMSIZ);
		h->links[7].master = 0;
		add_wide(h, WG0, "0.0.0.0", 0, 254);
		add_server(h, "10.0.0.1", "", WG0);
		assert_int_equal(suggest_tunnels(&h->sv, found), 0);
		h->links[8].up = false;
		assert_lines(h, false,
			     "#tunnel = wg0\n#resolver = 10.0.0.1 via tunnel\n#inside = br1\n");
		free(h);
	}
}

/* More than the file takes: the rest is left out, and the file still parses. */
static void test_too_many(void **state)
{
	static struct link links[POLICY_MAX_TUNNELS + 8];
	static struct wide_route wides[LEN(links)];
	const struct link *found[POLICY_MAX_TUNNELS];
	struct host *h = make_host();
	char *text;

	for (size_t i = 0; i < LEN(links); i++) {
		links[i] = (struct link){ .index = (int)i + 2, .kind = "tun", .up = true };
		snprintf(links[i].name, IFNAMSIZ, "tun%zu", i);
		wides[i] = (struct wide_route){ .link = links[i].index, .dst = addr("0.0.0.0") };
	}
	h->sv.net.links = links;
	h->sv.net.wides = wides;
	h->sv.net.links_len = h->sv.net.wides_len = LEN(links);
	text = print(h, *state, true);
	assert_non_null(strstr(text, "Left out: tunnel \"tun64\""));
	free(text);
	assert_int_equal(suggest_tunnels(&h->sv, found), POLICY_MAX_TUNNELS);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_whole, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_tunnels, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_servers, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_ipsec, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_endpoints, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_odd_names, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_too_many, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
