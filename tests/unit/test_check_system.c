/* check_system.h: what is found on made-up machines, and what is not */
#include "unit.h"

#include "check_file.h"
#include "check_system.h"
#include "netstate.h"
#include "policies.h"
#include "tree.h"

#define POLICY "tunnel = wg0\nresolver = 10.64.0.1 via any\n"
#define OUT    16384

/* eth0 and wlan0 are the world; wg0 is the tunnel. */
static const struct link links[] = {
	{ .index = 1, .name = "lo", .up = true },
	{ .index = 2, .name = "eth0", .up = true },
	{ .index = 3, .name = "wlan0", .up = true },
	{ .index = 4, .name = "wg0", .kind = "wireguard", .up = true },
	{ .index = 5, .name = "eth9" },
	{ .index = 6, .name = "docker0", .kind = "bridge", .up = true },
	{ .index = 7, .name = "virbr0", .kind = "bridge", .up = true },
	{ .index = 8, .name = "vnet0", .kind = "tun", .up = true, .master = 7 },
};
#define NO_GUESTS 5 /* of the links */

/* All that was found, "topic subject" with a '!' behind what is a risk, and with its sentences. */
struct told {
	char short_text[OUT], long_text[OUT];
};

static void take(void *ctx, const struct finding *f)
{
	struct told *const t = ctx;
	const size_t s = strlen(t->short_text), l = strlen(t->long_text);

	assert_true(*f->topic && *f->subject && *f->text && *f->advice);
	for (const char *at = f->text; *at; at++)
		assert_in_range(*at, ' ', '~');
	for (const char *at = f->advice; *at; at++)
		assert_in_range(*at, ' ', '~');
	for (const char *at = f->subject; *at; at++)
		assert_in_range(*at, ' ', '~');
	snprintf(t->short_text + s, OUT - s, "%s%s %s%s", s ? ", " : "", f->topic, f->subject,
		 f->risk ? "!" : "");
	snprintf(t->long_text + l, OUT - l, "%s\n  %s\n", f->text, f->advice);
}

static struct told look(const char *root, const char *lines, size_t n)
{
	struct policy p = policy_from_lines(lines);
	const struct netstate ns = { .links = (struct link *)links, .links_len = n };
	struct told t = { .short_text = "", .long_text = "" };

	assert_int_equal(check_system(root, &p, &ns, take, &t), 0);
	policy_fini(&p);
	return t;
}

struct row {
	const char *what;
	struct {
		const char *path, *text; /* NULL: a folder */
	} files[6];
	const char *found, *says; /* the short text; what is somewhere in the long one */
	const char *policy;	  /* NULL: the one above */
	bool guests;		  /* the links of guests are there, too */
};

static void test_row(const struct row *row)
{
	void *root = NULL;
	struct told t;

	assert_int_equal(make_dir(&root), 0);
	for (size_t i = 0; i < LEN(row->files) && row->files[i].path; i++)
		put(root, row->files[i].path, row->files[i].text, strlen(row->files[i].text));
	t = look(root, row->policy ?: POLICY, row->guests ? LEN(links) : NO_GUESTS);
	assert_row(!strcmp(t.short_text, row->found), row->what, "found \"%s\"\n%s", t.short_text,
		   t.long_text);
	assert_row(!row->says || strstr(t.long_text, row->says), row->what, "says %s", t.long_text);
	assert_int_equal(remove_tree(&root), 0);
}

static void test_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		test_row(&rows[i]);
}

static void test_nothing(void **state)
{
	static const struct row rows[] = {
		{ .what = "an empty machine", .found = "" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

/* --- name servers --- */

#define RESOLV_CONF   "/etc/resolv.conf"
#define RESOLVED_LINK "/run/systemd/resolve/netif/2"
#define NETWORKD_LINK "/run/systemd/netif/links/2"

static void test_servers(void **state)
{
	static const struct row rows[] = {
		{ .what = "the provider's",
		  .files = { { RESOLV_CONF, "nameserver 192.0.2.1\n" } },
		  .found = "resolver /etc/resolv.conf!",
		  .says = "the system asks 192.0.2.1, which the policy does" },
		{ .what = "an approved one",
		  .files = { { RESOLV_CONF, "nameserver 10.64.0.1\n" } },
		  .found = "" },
		{ .what = "a stub",
		  .files = { { RESOLV_CONF, "nameserver 127.0.0.53\nnameserver ::1\n" } },
		  .found = "" },
		{ .what = "NetworkManager's list",
		  .files = { { "/run/NetworkManager/no-stub-resolv.conf",
			       "nameserver 192.0.2.1\n" } },
		  .found = "resolver /run/NetworkManager/no-stub-resolv.conf!" },
		{ .what = "OpenWrt's list",
		  .files = { { "/tmp/resolv.conf.d/resolv.conf.auto", "nameserver 192.0.2.1\n" } },
		  .found = "resolver /tmp/resolv.conf.d/resolv.conf.auto!" },
		{ .what = "a link of resolved's",
		  .files = { { RESOLVED_LINK, "SERVERS=192.0.2.1\n" } },
		  .found = "resolver eth0!",
		  .says = "eth0 asks 192.0.2.1" },
		{ .what = "a link of networkd's",
		  .files = { { NETWORKD_LINK, "ADMIN_STATE=configured\nDNS=192.0.2.1\n" } },
		  .found = "resolver eth0!",
		  .says = "eth0 asks 192.0.2.1" },
		{ .what = "the tunnel's own",
		  .files = { { "/run/systemd/resolve/netif/4", "SERVERS=192.0.2.1\n" } },
		  .found = "" },
		{ .what = "the tunnel's own, where the mode asks for approval",
		  .files = { { "/run/systemd/resolve/netif/4", "SERVERS=192.0.2.1\n" } },
		  .found = "resolver wg0!",
		  .policy = "tunnel = wg0\nresolver = 10.64.0.1 via tunnel\nmode = both\n" },
		{ /* nameservers.h reads resolved's for all that. */
		  .what = "a link that networkd has is not resolved's",
		  .files = { { RESOLVED_LINK, "SERVERS=192.0.2.1\n" },
			     { NETWORKD_LINK, "ADMIN_STATE=configured\nDNS=10.64.0.1\n" } },
		  .found = "resolver eth0!" },
		{ .what = "approved for another link",
		  .files = { { RESOLVED_LINK, "SERVERS=192.0.2.1\n" } },
		  .found = "resolver eth0!",
		  .policy = "tunnel = wg0\nresolver = 192.0.2.1 via wlan0\n" },
		{ .what = "approved for this link",
		  .files = { { RESOLVED_LINK, "SERVERS=192.0.2.1\n" } },
		  .found = "",
		  .policy = "tunnel = wg0\nresolver = 192.0.2.1 via eth0\n" },
		{ .what = "a port of its own",
		  .files = { { NETWORKD_LINK, "DNS=192.0.2.1:5300\n" } },
		  .found = "port systemd-resolved!",
		  .says = "192.0.2.1 on port 5300, which the policy does not" },
		{ .what = "a port that is guarded",
		  .files = { { NETWORKD_LINK, "DNS=192.0.2.1:5300\n" } },
		  .found = "resolver eth0!",
		  .policy = POLICY "ports = 53,5300\n" },
		{ .what = "terminal escapes in a name",
		  .files = { { "/etc/dnsmasq.d/\033[31m\n\xff", "server=192.0.2.1\n" } },
		  .found = "resolver /etc/dnsmasq.d/?[31m?\?!" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

static void test_too_many_servers(void **state)
{
	char *const text = malloc(1000 * 32);
	struct told t;
	size_t len = 0, n = 0;

	assert_non_null(text);
	for (int i = 0; i < 1000; i++)
		len += (size_t)sprintf(text + len, "nameserver 192.0.%d.%d\n", i >> 8, i & 255);
	put(*state, RESOLV_CONF, text, len);
	free(text);
	t = look(*state, POLICY, NO_GUESTS);
	for (const char *at = t.short_text; (at = strstr(at, "resolver ")); at++)
		n++;
	assert_int_equal(n, 65); /* and one that says how many more there are */
	assert_non_null(strstr(t.long_text, "936 more"));
}

/* --- systemd-resolved --- */

#define RUNS                                                                       \
	{                                                                          \
		"/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n" \
	}
#define CONF  "/etc/systemd/resolved.conf"
#define QUIET "FallbackDNS=\nLLMNR=no\nMulticastDNS=no\n"

static void test_fallback(void **state)
{
	static const struct row rows[] = {
		{ .what = "compiled in, and nothing known of it",
		  .files = { RUNS, { CONF, "[Resolve]\nLLMNR=no\nMulticastDNS=no\n" } },
		  .found = "fallback systemd-resolved!",
		  .says = "FallbackDNS= is not set" },
		{ .what = "compiled in, and said in the vendor's file",
		  .files = { RUNS,
			     { "/usr/lib/systemd/resolved.conf",
			       "[Resolve]\n#FallbackDNS=192.0.2.8#x 192.0.2.9#y\n" },
			     { CONF ".d/a.conf", "[Resolve]\nLLMNR=no\nMulticastDNS=no\n" } },
		  .found = "fallback systemd-resolved!",
		  .says = "asks 192.0.2.8 192.0.2.9, as it was built with" },
		{ .what = "built without",
		  .files = { RUNS,
			     { CONF,
			       "[Resolve]\n#FallbackDNS=\n#DNS=192.0.2.1\nLLMNR=no\nMulticastDNS=no\n" } },
		  .found = "" },
		{ .what = "set",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "FallbackDNS=192.0.2.8\n" } },
		  .found = "fallback systemd-resolved!",
		  .says = "asks 192.0.2.8, as FallbackDNS= says" },
		{ .what = "set to one approved",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "FallbackDNS=10.64.0.1\n" } },
		  .found = "" },
		{ .what = "emptied", .files = { RUNS, { CONF, "[Resolve]\n" QUIET } }, .found = "" },
		{ .what = "emptied by a drop-in",
		  .files = { RUNS,
			     { CONF, "[Resolve]\nFallbackDNS=192.0.2.8\n" },
			     { "/run/systemd/resolved.conf.d/a.conf", "[Resolve]\n" QUIET } },
		  .found = "" },
		{ .what = "a drop-in behind wins",
		  .files = { RUNS,
			     { "/etc/systemd/resolved.conf.d/a.conf", "[Resolve]\n" QUIET },
			     { "/usr/lib/systemd/resolved.conf.d/b.conf",
			       "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "fallback systemd-resolved!" },
		{ .what = "of one name, /etc's counts",
		  .files = { RUNS,
			     { "/etc/systemd/resolved.conf.d/b.conf", "[Resolve]\n" QUIET },
			     { "/usr/lib/systemd/resolved.conf.d/b.conf",
			       "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "" },
		{ .what = "an empty file hides one of its name",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { "/etc/systemd/resolved.conf.d/b.conf", "" },
			     { "/usr/lib/systemd/resolved.conf.d/b.conf",
			       "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "" },
		{ .what = "of main files, the first alone",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { "/usr/lib/systemd/resolved.conf",
			       "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "" },
		{ .what = "no drop-in by its name",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { CONF ".d/b.conf~", "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "" },
		{ .what = "it does not run",
		  .files = { { CONF, "[Resolve]\nFallbackDNS=192.0.2.8\n" } },
		  .found = "" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

static void test_neighbours(void **state)
{
	static const struct row rows[] = {
		{ .what = "both by default",
		  .files = { RUNS, { CONF, "[Resolve]\nFallbackDNS=\n" } },
		  .found = "llmnr systemd-resolved!, mdns systemd-resolved!",
		  .says = "network of eth0 wlan0, to" },
		{ .what = "off by how it was built",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n#FallbackDNS=\n#LLMNR=no\n#MulticastDNS=no\n" } },
		  .found = "" },
		{ .what = "LLMNR set",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "LLMNR=resolve\n" } },
		  .found = "llmnr systemd-resolved!",
		  .says = "LLMNR is on (to ask, not to answer)" },
		{ .what = "mDNS set",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "MulticastDNS=yes\n" } },
		  .found = "mdns systemd-resolved!",
		  .says = "multicast DNS is on (set so)" },
		{ .what = "both off",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET } },
		  .found = "" },
		{ .what = "off on one link",
		  .files = { RUNS,
			     { CONF, "[Resolve]\nFallbackDNS=\nMulticastDNS=no\n" },
			     { RESOLVED_LINK, "LLMNR=no\n" } },
		  .found = "llmnr systemd-resolved!",
		  .says = "network of wlan0, to" },
		{ .what = "off on each link",
		  .files = { RUNS,
			     { CONF, "[Resolve]\nFallbackDNS=\n" },
			     { RESOLVED_LINK, "LLMNR=no\nMDNS=no\n" },
			     { "/run/systemd/netif/links/3",
			       "ADMIN_STATE=configured\nLLMNR=no\nMDNS=no\n" } },
		  .found = "" },
		{ .what = "the ports are guarded",
		  .files = { RUNS, { CONF, "[Resolve]\nFallbackDNS=\n" } },
		  .found = "llmnr systemd-resolved, mdns systemd-resolved",
		  .policy = POLICY "ports = 53,5353,5355\n" },
		{ .what = "guests are no neighbours",
		  .files = { RUNS,
			     { CONF, "[Resolve]\nFallbackDNS=\nMulticastDNS=no\n" },
			     { "/run/systemd/resolve/resolv.conf", "nameserver 10.64.0.1\n" } },
		  .found = "llmnr systemd-resolved!",
		  .says = "network of eth0 wlan0, to",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
		{ .what = "avahi-daemon runs",
		  .files = { { "/run/avahi-daemon/pid", "7\n" } },
		  .found = "mdns avahi-daemon!" },
		{ .what = "avahi-daemon is installed",
		  .files = { { "/etc/avahi/avahi-daemon.conf", "[server]\n" } },
		  .found = "" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

static void test_domains(void **state)
{
	static const struct row rows[] = {
		{ .what = "a link takes every name",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { RESOLVED_LINK, "DOMAINS=~.\n" } },
		  .found = "domains eth0!",
		  .says = "eth0 has the domain \"~.\"" },
		{ .what = "one of networkd's does",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { NETWORKD_LINK, "ADMIN_STATE=configured\nROUTE_DOMAINS=.\n" } },
		  .found = "domains eth0!" },
		{ .what = "one that networkd leaves to resolved does",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { NETWORKD_LINK, "ADMIN_STATE=unmanaged\n" },
			     { RESOLVED_LINK, "DOMAINS=~.\n" } },
		  .found = "domains eth0!" },
		{ .what = "the tunnel does",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { "/run/systemd/resolve/netif/4", "DOMAINS=~.\n" } },
		  .found = "" },
		{ .what = "a link takes some",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { RESOLVED_LINK, "DOMAINS=~lan x\n" } },
		  .found = "" },
		{ .what = "a link that is down",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { "/run/systemd/resolve/netif/5", "DOMAINS=~.\n" } },
		  .found = "" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

static void test_tls(void **state)
{
	static const struct row rows[] = {
		{ .what = "where its port is guarded",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "DNSOverTLS=yes\n" } },
		  .found = "" },
		{ .what = "where it is not",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "DNSOverTLS=yes\n" } },
		  .found = "tls resolved.conf!",
		  .policy = POLICY "ports = 53\n" },
		{ .what = "of a link",
		  .files = { RUNS,
			     { CONF, "[Resolve]\n" QUIET },
			     { RESOLVED_LINK, "DNSOVERTLS=opportunistic\n" } },
		  .found = "tls eth0!",
		  .policy = POLICY "ports = 53\n" },
		{ .what = "off",
		  .files = { RUNS, { CONF, "[Resolve]\n" QUIET "DNSOverTLS=no\n" } },
		  .found = "",
		  .policy = POLICY "ports = 53\n" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

/* --- IPv6 --- */

#define ADDRESS(bytes, link) bytes "0000000000000000000001 02 40 00 80 " link "\n"
#define ROUTE(link)                                                                \
	"00000000000000000000000000000000 00 00000000000000000000000000000000 00 " \
	"fe800000000000000000000000000002 00000400 00000001 00000000 00450003     " link "\n"

static void test_ipv6(void **state)
{
	static const struct row rows[] = {
		{ .what = "an address",
		  .files = { { "/proc/net/if_inet6", ADDRESS("20010db800", "eth0") } },
		  .found = "ipv6 eth0!",
		  .says = "eth0 has a global IPv6 address" },
		{ .what = "a default route",
		  .files = { { "/proc/net/ipv6_route", ROUTE("wlan0") } },
		  .found = "ipv6 wlan0!" },
		{ .what = "the tunnel has it, too",
		  .files = { { "/proc/net/if_inet6",
			       ADDRESS("20010db800", "eth0") ADDRESS("fd00000000", "wg0") } },
		  .found = "" },
		{ .what = "a private address",
		  .files = { { "/proc/net/if_inet6", ADDRESS("fd00000000", "eth0") } },
		  .found = "" },
		{ .what = "no tunnel is there",
		  .files = { { "/proc/net/if_inet6", ADDRESS("20010db800", "eth0") } },
		  .found = "",
		  .policy = "tunnel = tun7\nresolver = 10.64.0.1 via any\n" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

/* --- DHCP --- */

#define LEASES	 "/run/systemd/netif/leases/2"
#define DHCLIENT "/var/lib/dhcp/dhclient.wlan0.leases"
#define LOG(link, routes)                                                                    \
	"lease {\n interface \"" link "\";\n option rfc3442-classless-static-routes " routes \
	";\n expire never;\n}\n"

static void test_leases(void **state)
{
	static const struct row rows[] = {
		{ .what = "networkd",
		  .files = { { LEASES, "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "dhcp-routes eth0!",
		  .says = "pushes routes past the tunnel (option 121): 8.8.8.0/24" },
		{ .what = "half of all addresses",
		  .files = { { LEASES, "CLASSLESS_ROUTES=0.0.0.0/1,10.0.0.1\n" } },
		  .found = "dhcp-routes eth0!" },
		{ .what = "a private network",
		  .files = { { LEASES, "CLASSLESS_ROUTES=192.168.9.0/24,10.0.0.1\n" } },
		  .found = "dhcp-routes eth0" },
		{ .what = "the one that the approved resolver is in",
		  .files = { { LEASES, "CLASSLESS_ROUTES=10.64.0.0/16,10.0.0.1\n" } },
		  .found = "dhcp-routes eth0!" },
		{ .what = "a default route",
		  .files = { { LEASES, "CLASSLESS_ROUTES=0.0.0.0/0,10.0.0.1\n" } },
		  .found = "" },
		{ .what = "no option",
		  .files = { { LEASES, "ADDRESS=10.0.0.2\nROUTER=10.0.0.1\n" } },
		  .found = "" },
		{ .what = "of the tunnel",
		  .files = { { "/run/systemd/netif/leases/4",
			       "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "" },
		{ .what = "of a link that is down",
		  .files = { { "/run/systemd/netif/leases/5",
			       "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "" },
		{ .what = "of a link that is away",
		  .files = { { "/run/systemd/netif/leases/77",
			       "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "" },
		{ .what = "NetworkManager",
		  .files = { { "/run/NetworkManager/devices/3",
			       "[device]\nmanaged=true\n[dhcp4]\n"
			       "dhcp4.rfc3442_classless_static_routes=8.8.8.0/24 10.0.0.1\n" } },
		  .found = "dhcp-routes wlan0!" },
		{ .what = "NetworkManager's older file",
		  .files = { { "/var/lib/NetworkManager/internal-4a3f-eth0.lease",
			       "ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "dhcp-routes eth0!" },
		{ .what = "NetworkManager's of a link that is away",
		  .files = { { "/var/lib/NetworkManager/internal-4a3f-eth7.lease",
			       "ROUTES=8.8.8.0/24,10.0.0.1\n" } },
		  .found = "" },
		{ .what = "dhclient",
		  .files = { { DHCLIENT, LOG("wlan0", "24,8,8,8,10,0,0,1") } },
		  .found = "dhcp-routes wlan0!" },
		{ .what = "dhclient, without",
		  .files = { { DHCLIENT, "lease {\n interface \"wlan0\";\n}\n" } },
		  .found = "" },
		{ .what = "dhclient for NetworkManager",
		  .files = { { "/var/lib/NetworkManager/dhclient-4a3f-eth0.lease",
			       LOG("eth0", "24,8,8,8,10,0,0,1") } },
		  .found = "dhcp-routes eth0!" },
		{ .what = "two of one link",
		  .files = { { LEASES, "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" },
			     { "/var/lib/dhcp/dhclient.leases", LOG("eth0", "24,8,8,8,10,0,0,1") } },
		  .found = "dhcp-routes eth0!" },
		{ .what = "two links",
		  .files = { { LEASES, "CLASSLESS_ROUTES=8.8.8.0/24,10.0.0.1\n" },
			     { DHCLIENT, LOG("wlan0", "24,8,8,4,10,0,0,1") } },
		  .found = "dhcp-routes eth0!, dhcp-routes wlan0!, dhcp-routes several!",
		  .says = "(option 121): eth0 wlan0;" },
#ifndef WITHOUT_JSON
		{ .what = "networkd's JSON",
		  .files = { { LEASES,
			       "{\"Classless_Routes\":[{\"Destination\":[8,8,8,0],"
			       "\"DestinationPrefixLength\":24,\"Gateway\":[10,0,0,1]}]}" } },
		  .found = "dhcp-routes eth0!" },
#endif
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

/* dhcpcd's file is the message; it is good for so long since it was written. */
static void test_dhcpcd(void **state)
{
	static const char options[] = "\x63\x82\x53\x63\x33\x04\x00\x00\x0e\x10"
				      "\x79\x08\x18\x08\x08\x08\x0a\x00\x00\x01\xff";
	char bytes[236 + sizeof(options) - 1] = "", path[PATH_SIZE * 2];
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };

	memcpy(bytes + 236, options, sizeof(options) - 1);
	put(*state, "/var/lib/dhcpcd/wlan0-a network.lease", bytes, sizeof(bytes));
	assert_string_equal(look(*state, POLICY, NO_GUESTS).short_text, "dhcp-routes wlan0!");

	make_folders(*state, "/var/lib/dhcpcd/wlan0-a network.lease", path);
	times[1].tv_sec = time(NULL) - 3700;
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_string_equal(look(*state, POLICY, NO_GUESTS).short_text, "");
}

/* --- guests --- */

static void test_guests(void **state)
{
	static const struct row rows[] = {
		{ .what = "bridges",
		  .files = { { RESOLV_CONF, "nameserver 10.64.0.1\n" } },
		  .found = "guests docker0, guests virbr0",
		  .guests = true },
		{ .what = "bridges that are named",
		  .files = { { RESOLV_CONF, "nameserver 10.64.0.1\n" } },
		  .found = "",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
		{ .what = "docker and a stub",
		  .files = { { RESOLV_CONF, "nameserver 127.0.0.1\n" } },
		  .found = "guests docker!",
		  .says = "containers on docker0 ask 8.8.8.8",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
		{ .what = "docker and resolved",
		  .files = { { RESOLV_CONF, "nameserver 127.0.0.53\n" },
			     { "/run/systemd/resolve/resolv.conf", "nameserver 10.64.0.1\n" },
			     { CONF, "[Resolve]\n" QUIET } },
		  .found = "",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
		{ .what = "libvirt's dnsmasq",
		  .files = { { "/var/lib/libvirt/dnsmasq/default.conf",
			       "strict-order\nserver=192.0.2.1\ninterface=virbr0\n" } },
		  .found = "resolver /var/lib/libvirt/dnsmasq/default.conf!",
		  .says = "dnsmasq asks 192.0.2.1 on port 53, which the policy does not approve" },
		{ .what = "dnsmasq with a port",
		  .files = { { "/etc/dnsmasq.conf", "server=192.0.2.1#5300\n" } },
		  .found = "resolver /etc/dnsmasq.conf!",
		  .says = "on port 5300, which is a port that the policy" },
		{ .what = "OpenWrt's dnsmasq",
		  .files = { { "/var/etc/dnsmasq.conf.cfg01411c", "server=192.0.2.1\n" } },
		  .found = "resolver /var/etc/dnsmasq.conf.cfg01411c!" },
		{ .what = "another's file beside it",
		  .files = { { "/var/etc/other.conf", "server=192.0.2.1\n" } },
		  .found = "" },
		{ .what = "dnsmasq and an approved one",
		  .files = { { "/etc/dnsmasq.conf", "server=10.64.0.1\nserver=127.0.0.1#5300\n" } },
		  .found = "" },
#ifdef WITHOUT_JSON
		{ .what = "daemon.json, and no JSON in this build",
		  .files = { { "/etc/docker/daemon.json", "{\"dns\":[\"192.0.2.1\"]}" } },
		  .found = "unreadable /etc/docker/daemon.json",
		  .says = "this build of leakguard reads no JSON" },
#else
		{ .what = "daemon.json, and no JSON",
		  .files = { { "/etc/docker/daemon.json", "{\"dns\":" } },
		  .found = "unreadable /etc/docker/daemon.json",
		  .says = "no JSON" },
		{ .what = "daemon.json",
		  .files = { { "/etc/docker/daemon.json",
			       "{\"dns\":[\"10.64.0.1\",\"192.0.2.1\"]}" } },
		  .found = "guests docker!",
		  .says = "containers ask 192.0.2.1, as" },
		{ .what = "daemon.json, approved",
		  .files = { { RESOLV_CONF, "nameserver 127.0.0.1\n" },
			     { "/etc/docker/daemon.json", "{\"dns\":[\"10.64.0.1\"]}" } },
		  .found = "",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
		{ .what = "daemon.json without",
		  .files = { { RESOLV_CONF, "nameserver 127.0.0.1\n" },
			     { "/etc/docker/daemon.json", "{\"debug\":true}" } },
		  .found = "guests docker!",
		  .policy = POLICY "inside = docker0\ninside = virbr*\n",
		  .guests = true },
#endif
	};

	(void)state;
	test_rows(rows, LEN(rows));
}

/* --- browsers --- */

#ifndef WITHOUT_JSON
#define FIREFOX "/etc/firefox/policies/policies.json"
#define CHROME	"/etc/opt/chrome/policies/managed/doh.json"

static void test_doh(void **state)
{
	static const struct row rows[] = {
		{ .what = "Firefox",
		  .files = { { FIREFOX, "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":true,"
					"\"ProviderURL\":\"https://dns.example/\"}}}" } },
		  .found = "doh " FIREFOX "!",
		  .says = "turns DNS over HTTPS on: https://dns.example/" },
		{ .what = "Firefox, off",
		  .files = { { FIREFOX, "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":false}}}" } },
		  .found = "" },
		{ .what = "Firefox, a server alone",
		  .files = { { FIREFOX,
			       "{\"policies\":{\"DNSOverHTTPS\":{\"ProviderURL\":\"https://a/\"}}}" } },
		  .found = "doh " FIREFOX },
		{ .what = "Firefox, something else",
		  .files = { { FIREFOX, "{\"policies\":{}}" } },
		  .found = "" },
		{ .what = "Firefox's installation",
		  .files = { { "/usr/lib/firefox-esr/distribution/policies.json",
			       "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":true}}}" } },
		  .found = "doh /usr/lib/firefox-esr/distribution/policies.json!" },
		{ .what = "Chrome",
		  .files = { { CHROME, "{\"DnsOverHttpsMode\":\"automatic\"}" } },
		  .found = "doh " CHROME "!",
		  .says = "set DnsOverHttpsMode to \"off\"" },
		{ .what = "Chrome, off",
		  .files = { { CHROME, "{\"DnsOverHttpsMode\":\"off\"}" } },
		  .found = "" },
		{ .what = "Chromium, recommended",
		  .files = { { "/etc/chromium/policies/recommended/a.json",
			       "{\"DnsOverHttpsMode\":\"secure\"}" } },
		  .found = "doh /etc/chromium/policies/recommended/a.json!" },
		{ .what = "no policy file by its name",
		  .files = { { "/etc/chromium/policies/managed/a.json.bak",
			       "{\"DnsOverHttpsMode\":\"secure\"}" } },
		  .found = "" },
		{ .what = "no JSON",
		  .files = { { FIREFOX, "{\"policies\":" } },
		  .found = "unreadable " FIREFOX,
		  .says = "no JSON; what it sets is not known" },
		{ .what = "nothing", .files = { { FIREFOX, " \n" } }, .found = "" },
		{ .what = "escapes",
		  .files = { { CHROME,
			       "{\"DnsOverHttpsMode\":\"secure\","
			       "\"DnsOverHttpsTemplates\":\"\\u001b]0;x\\u0007\\n\xc2\x9b\"}" } },
		  .found = "doh " CHROME "!",
		  .says = "on: ?]0;x????" },
	};

	(void)state;
	test_rows(rows, LEN(rows));
}
#endif

/* --- files of any kind --- */

/* Each path that is read, as what it should not be: nothing is waited for, each is told of. */
static void test_irregular(void **state)
{
	static const char *const paths[] = {
		"/etc/resolv.conf",
		"/etc/systemd/resolved.conf.d/a.conf",
		"/run/systemd/netif/links/2",
		"/run/systemd/resolve/netif/2",
		"/run/systemd/netif/leases/2",
		"/var/lib/dhcp/dhclient.leases",
		"/var/lib/dhcpcd/eth0.lease",
		"/etc/docker/daemon.json",
		"/etc/dnsmasq.conf",
		"/etc/firefox/policies/policies.json",
		"/etc/chromium/policies/managed/a.json",
	};
	char joined[PATH_SIZE * 2], expected[256];
	struct told t;

	for (int kind = 0; kind < 4; kind++)
		for (size_t i = 0; i < LEN(paths); i++) {
			put(*state, "/run/systemd/resolve/stub-resolv.conf", "", 0);
			make_folders(*state, "/etc/systemd/resolved.conf", joined);
			write_file(joined, "[Resolve]\n" QUIET, strlen("[Resolve]\n" QUIET));
			make_folders(*state, paths[i], joined);
			assert_int_equal(kind == 0 ? mkfifo(joined, 0600) :
					 kind == 1 ? mkdir(joined, 0700) :
					 kind == 2 ? symlink(joined, joined) :
						     symlink("/dev/zero", joined),
					 0);
			t = look(*state, POLICY, NO_GUESTS);
			snprintf(expected, sizeof(expected), "unreadable %s", paths[i]);
			assert_row(!strcmp(t.short_text, expected), paths[i], "kind %d: found %s",
				   kind, t.short_text);
			assert_int_equal(remove(joined), 0);
		}
}

/* /dev/null is how people mask a file. */
static void test_masked(void **state)
{
	char joined[PATH_SIZE * 2];

	put(*state, "/run/systemd/resolve/stub-resolv.conf", "", 0);
	put(*state, CONF, "[Resolve]\n" QUIET, strlen("[Resolve]\n" QUIET));
	put(*state, "/usr/lib/systemd/resolved.conf.d/b.conf", "[Resolve]\nLLMNR=yes\n", 20);
	assert_string_equal(look(*state, POLICY, NO_GUESTS).short_text, "llmnr systemd-resolved!");
	make_folders(*state, "/etc/systemd/resolved.conf.d/b.conf", joined);
	assert_int_equal(symlink("/dev/null", joined), 0);
	assert_string_equal(look(*state, POLICY, NO_GUESTS).short_text, "");
}

/* Half of a long file is said to be one; a crowd in a folder as well. */
static void test_too_much(void **state)
{
	static const char half[] = "\nserver=192.0.2.1";
	char *const text = malloc(3 << 20), path[64];
	struct told t;

	assert_non_null(text);
	memset(text, '#', 3 << 20);
	memcpy(text, "server=192.0.2.1\n", 17);
	/* The limit falls in the middle of 192.0.2.199. */
	memcpy(text + CHECK_FILE_BYTES - strlen(half), half, strlen(half));
	memcpy(text + CHECK_FILE_BYTES, "99\n", 3);
	put(*state, "/etc/dnsmasq.conf", text, 3 << 20);
	free(text);
	for (int i = 0; i < 400; i++) {
		sprintf(path, "/var/lib/libvirt/dnsmasq/%d.conf", i);
		put(*state, path, "", 0);
	}
	t = look(*state, POLICY, NO_GUESTS);
	assert_string_equal(t.short_text,
			    "unreadable /etc/dnsmasq.conf, resolver /etc/dnsmasq.conf!, "
			    "unreadable /var/lib/libvirt/dnsmasq");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_servers),
		cmocka_unit_test_setup_teardown(test_too_many_servers, make_dir, remove_tree),
		cmocka_unit_test(test_fallback),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_domains),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_leases),
		cmocka_unit_test_setup_teardown(test_dhcpcd, make_dir, remove_tree),
		cmocka_unit_test(test_guests),
#ifndef WITHOUT_JSON
		cmocka_unit_test(test_doh),
#endif
		cmocka_unit_test_setup_teardown(test_irregular, make_dir, remove_tree),
		cmocka_unit_test_setup_teardown(test_masked, make_dir, remove_tree),
		cmocka_unit_test_setup_teardown(test_too_much, make_dir, remove_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
