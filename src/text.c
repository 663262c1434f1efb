#include "text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int addr_parse(const char *text, struct addr *ret_addr)
{
	static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	struct addr a = { .family = AF_INET };

	if (inet_pton(AF_INET, text, a.bytes) == 1) {
		*ret_addr = a;
		return 0;
	}

	a.family = AF_INET6;
	if (inet_pton(AF_INET6, text, a.bytes) != 1)
		return -EINVAL;
	if (!memcmp(a.bytes, mapped, sizeof(mapped))) {
		a.family = AF_INET;
		memmove(a.bytes, a.bytes + 12, 4);
		memset(a.bytes + 4, 0, 12);
	}
	*ret_addr = a;
	return 0;
}

/* inet_ntop(3) takes ten times as long, and there may be 131,072 of them. */
static const char *format_ipv4(const uint8_t bytes[4], char *buf)
{
	char *at = buf;

	for (int i = 0; i < 4; i++) {
		const unsigned int n = bytes[i];

		if (n >= 100)
			*at++ = (char)('0' + n / 100);
		if (n >= 10)
			*at++ = (char)('0' + n / 10 % 10);
		*at++ = (char)('0' + n % 10);
		*at++ = i < 3 ? '.' : '\0';
	}
	return buf;
}

const char *addr_format(const struct addr *addr, char *buf)
{
	if (addr->family == AF_INET)
		return format_ipv4(addr->bytes, buf);
	if (!inet_ntop(addr->family, addr->bytes, buf, ADDR_TEXT))
		strcpy(buf, "?");
	return buf;
}

size_t addr_len(const struct addr *addr)
{
	return addr->family == AF_INET ? 4 : 16;
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
	if (a->family != b->family)
		return a->family == AF_INET ? -1 : 1;
	return memcmp(a->bytes, b->bytes, addr_len(a));
}

bool addr_is_loopback(const struct addr *addr)
{
	if (addr->family == AF_INET)
		return addr->bytes[0] == 127;
	return !memcmp(addr->bytes, &in6addr_loopback, 16);
}

bool addr_is_linklocal(const struct addr *addr)
{
	return addr->family == AF_INET6 && addr->bytes[0] == 0xfe &&
	       (addr->bytes[1] & 0xc0) == 0x80;
}

bool addr_is_unicast(const struct addr *addr)
{
	if (addr->family == AF_INET)
		return addr->bytes[0] != 0 && addr->bytes[0] < 224;
	return addr->bytes[0] != 0xff && memcmp(addr->bytes, &in6addr_any, 16) != 0;
}

int mac_parse(const char *text, uint8_t ret_mac[MAC_LEN])
{
	static const uint8_t nobody[MAC_LEN];
	unsigned int bytes[MAC_LEN];
	uint8_t mac[MAC_LEN];

	if (strlen(text) != MAC_TEXT - 1)
		return -EINVAL;
	for (size_t i = 0; i < MAC_LEN; i++) {
		const char *at = text + i * 3;

		if (!isxdigit((unsigned char)at[0]) || !isxdigit((unsigned char)at[1]) ||
		    (i + 1 < MAC_LEN && at[2] != ':' && at[2] != '-') ||
		    sscanf(at, "%2x", &bytes[i]) != 1)
			return -EINVAL;
		mac[i] = (uint8_t)bytes[i];
	}
	if (mac[0] & 1 || !memcmp(mac, nobody, MAC_LEN)) /* IEEE 802, the group bit */
		return -EINVAL;
	memcpy(ret_mac, mac, MAC_LEN);
	return 0;
}

const char *mac_format(const uint8_t mac[MAC_LEN], char *buf)
{
	snprintf(buf, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	return buf;
}

int ifname_parse(const char *text, char ret_name[IFNAMSIZ])
{
	const size_t len = strnlen(text, IFNAMSIZ);

	if (len == 0 || len == IFNAMSIZ || !strcmp(text, ".") || !strcmp(text, ".."))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c <= ' ' || c == 0x7f || strchr("/:\"\\*%@,;#{}[]", c))
			return -EINVAL;
	}

	/* Padded with zeros: rules compare all 16 bytes. */
	memset(ret_name, 0, IFNAMSIZ);
	memcpy(ret_name, text, len);
	return 0;
}

int number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number)
{
	const int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, base);
	if (errno || *end || n < min || n > max)
		return -EINVAL;
	*ret_number = (uint32_t)n;
	return 0;
}

#define IPSEC "ipsec:"

bool ipsec_is_name(const char *name)
{
	return !strncmp(name, IPSEC, strlen(IPSEC));
}

int ipsec_parse(const char *text, uint32_t *ret_reqid)
{
	const char *which = text + strlen(IPSEC);

	if (!ipsec_is_name(text))
		return -EINVAL;
	if (!strcmp(which, "any")) {
		*ret_reqid = 0;
		return 0;
	}
	return which[strspn(which, "0123456789")] ?
		       -EINVAL :
		       number_parse(which, 1, IPSEC_MAX_REQID, ret_reqid);
}

const char *ipsec_format(uint32_t reqid, char ret_name[IFNAMSIZ])
{
	memset(ret_name, 0, IFNAMSIZ);
	/* The remainder tells the compiler what the caller has promised. */
	snprintf(ret_name, IFNAMSIZ, IPSEC "%" PRIu32, reqid % (IPSEC_MAX_REQID + 1));
	return ret_name;
}

int tunnel_name_parse(const char *text, char ret_name[IFNAMSIZ])
{
	uint32_t reqid;

	if (ipsec_parse(text, &reqid))
		return ifname_parse(text, ret_name);
	ipsec_format(reqid, ret_name);
	if (!reqid)
		strcpy(ret_name, IPSEC "any");
	return 0;
}

int duration_parse(const char *text, uint32_t max_s, uint32_t *ret_s)
{
	static const struct {
		char unit;
		uint32_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 } };
	const size_t len = strlen(text);
	uint32_t number, unit = 1;
	char digits[12];

	if (!len || len >= sizeof(digits))
		return -EINVAL;
	strcpy(digits, text);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (digits[len - 1] == units[i].unit) {
			digits[len - 1] = '\0';
			unit = units[i].seconds;
			break;
		}
	if (digits[strspn(digits, "0123456789")] || number_parse(digits, 1, max_s / unit, &number))
		return -EINVAL;
	*ret_s = number * unit;
	return 0;
}

int proto_parse(const char *text, uint8_t *ret_proto)
{
	if (!strcmp(text, "udp"))
		*ret_proto = IPPROTO_UDP;
	else if (!strcmp(text, "tcp"))
		*ret_proto = IPPROTO_TCP;
	else
		return -EINVAL;
	return 0;
}

const char *proto_format(uint8_t proto)
{
	return proto == IPPROTO_UDP ? "udp" : proto == IPPROTO_TCP ? "tcp" : "?";
}

const char *text_quotable(const char *text, char *buf, size_t size)
{
	size_t i = 0;

	for (; text[i] && i + 1 < size; i++)
		buf[i] = (char)(iscntrl((unsigned char)text[i]) ? '?' : text[i]);
	buf[i] = '\0';
	return buf;
}
