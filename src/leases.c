#include "leases.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LINES 65536
#define LINE_ROOM 1024

static const char paths[][32] = {
	"/tmp/dhcp.leases", /* OpenWrt's dnsmasq */
	"/var/lib/misc/dnsmasq.leases",
	"/var/lib/dnsmasq/dnsmasq.leases",
	"/tmp/hosts/odhcpd", /* OpenWrt */
	"/tmp/odhcpd.leases",
	"/var/lib/dhcp/dhcpd.leases",
	"/var/lib/dhcp/dhcpd6.leases",
};

#define PATHS (sizeof(paths) / sizeof(paths[0]))
_Static_assert(PATHS <= sizeof(((struct leases *)0)->files) / sizeof(struct leases_file),
	       "a place for each file");

static bool is_same(const struct lease *a, const struct lease *b)
{
	if (a->addr.family || b->addr.family)
		return a->addr.family == b->addr.family && !addr_cmp(&a->addr, &b->addr);
	return a->has_mac && b->has_mac && !memcmp(a->mac, b->mac, MAC_LEN);
}

static void add(struct leases *l, const struct lease *lease)
{
	/* "*" is dnsmasq's word for none, "-" odhcpd's. */
	if (!*lease->name || !strcmp(lease->name, "*") || !strcmp(lease->name, "-"))
		return;
	for (size_t i = 0; i < l->len; i++)
		if (is_same(&l->list[i], lease)) {
			l->list[i] = *lease;
			return;
		}
	if (l->len < LEASES_MAX)
		l->list[l->len++] = *lease;
}

static void set_name(struct lease *lease, const char *name)
{
	snprintf(lease->name, sizeof(lease->name), "%s", name);
}

/* An address, with a length of its prefix or without. */
static bool set_addr(struct lease *lease, const char *text)
{
	char addr[ADDR_TEXT];

	snprintf(addr, sizeof(addr), "%.*s", (int)strcspn(text, "/"), text);
	return !addr_parse(addr, &lease->addr);
}

/* dnsmasq: EXPIRES MAC ADDRESS NAME CLIENT-ID, with an IAID for the MAC of IPv6 */
static bool take_dnsmasq(struct leases *l, char *const *words, size_t n)
{
	struct lease lease = { 0 };

	if (n < 4 || words[0][strspn(words[0], "0123456789")] || !set_addr(&lease, words[2]))
		return false;
	lease.has_mac = !mac_parse(words[1], lease.mac);
	set_name(&lease, words[3]);
	add(l, &lease);
	return true;
}

/* odhcpd: # LINK DUID|MAC IAID|ipv4 NAME VALID ASSIGNED LENGTH ADDRESS... */
static bool take_odhcpd(struct leases *l, char *const *words, size_t n)
{
	struct lease lease = { 0 };

	if (n < 8 || strcmp(words[0], "#") != 0)
		return false;
	if (!strcmp(words[3], "ipv4") && strlen(words[2]) == (size_t)2 * MAC_LEN) {
		char mac[MAC_TEXT];

		snprintf(mac, sizeof(mac), "%.2s:%.2s:%.2s:%.2s:%.2s:%.2s", words[2], words[2] + 2,
			 words[2] + 4, words[2] + 6, words[2] + 8, words[2] + 10);
		lease.has_mac = !mac_parse(mac, lease.mac);
	}
	set_name(&lease, words[4]);
	for (size_t i = 8; i < n; i++)
		if (set_addr(&lease, words[i]))
			add(l, &lease);
	return true;
}

/* ISC's dhcpd: lease ADDRESS { ... hardware ethernet MAC; ... client-hostname "NAME"; } */
static void take_isc(struct leases *l, struct lease *open, char *const *words, size_t n)
{
	if (n == 3 && (!strcmp(words[0], "lease") || !strcmp(words[0], "iaaddr")) &&
	    !strcmp(words[2], "{")) {
		*open = (struct lease){ 0 };
		(void)set_addr(open, words[1]);
	} else if (n == 3 && !strcmp(words[0], "hardware") && !strcmp(words[1], "ethernet")) {
		words[2][strcspn(words[2], ";")] = '\0';
		open->has_mac = !mac_parse(words[2], open->mac);
	} else if (n == 2 && !strcmp(words[0], "client-hostname") && *words[1] == '"') {
		words[1][strcspn(words[1] + 1, "\"") + 1] = '\0';
		set_name(open, words[1] + 1);
	} else if (n == 1 && !strcmp(words[0], "}")) {
		if (open->addr.family)
			add(l, open);
		*open = (struct lease){ 0 };
	}
}

int leases_read_file(struct leases *l, const char *path)
{
	FILE *const in = fopen(path, "re");
	struct lease open = { 0 };
	char line[LINE_ROOM];

	if (!in)
		return -errno;
	for (int i = 0; i < MAX_LINES && fgets(line, sizeof(line), in); i++) {
		char *words[16], *rest = line;
		size_t n = 0;

		while (n < sizeof(words) / sizeof(words[0]) &&
		       (words[n] = strtok_r(NULL, " \t\r\n", &rest)))
			n++;
		if (!take_dnsmasq(l, words, n) && !take_odhcpd(l, words, n))
			take_isc(l, &open, words, n);
	}
	fclose(in);
	return 0;
}

void leases_refresh(struct leases *l)
{
	struct leases_file now[PATHS] = { { .size = -1 } };
	bool changed = !l->was_read;

	for (size_t i = 0; i < PATHS; i++) {
		struct stat st;

		now[i] = (struct leases_file){ .size = -1 };
		if (!stat(paths[i], &st))
			now[i] = (struct leases_file){ st.st_mtim, st.st_size };
		changed |= now[i].size != l->files[i].size ||
			   now[i].changed.tv_sec != l->files[i].changed.tv_sec ||
			   now[i].changed.tv_nsec != l->files[i].changed.tv_nsec;
	}
	if (!changed)
		return;
	memcpy(l->files, now, sizeof(now));
	l->was_read = true;
	l->len = 0;
	for (size_t i = 0; i < PATHS; i++)
		if (now[i].size >= 0)
			(void)leases_read_file(l, paths[i]);
}

const char *leases_find(const struct leases *l, const struct addr *addr, const uint8_t mac[MAC_LEN])
{
	for (size_t i = 0; i < l->len; i++)
		if (l->list[i].addr.family && !addr_cmp(&l->list[i].addr, addr))
			return l->list[i].name;
	for (size_t i = 0; mac && i < l->len; i++)
		if (l->list[i].has_mac && !memcmp(l->list[i].mac, mac, MAC_LEN))
			return l->list[i].name;
	return NULL;
}
