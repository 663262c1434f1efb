/* The pure part of check_pushed.h: files of DHCP clients -> routes */
#include "check_pushed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "check_json.h"
#include "check_lines.h"

#define OPTION_BYTES 1024 /* of one option in all its parts; a message has no more */

/* RFC 2131, 2; RFC 2132, 9.3; RFC 3442. */
#define AT_SNAME	44
#define AT_FILE		108
#define AT_COOKIE	236
#define AT_OPTIONS	240
#define OPTION_PAD	0
#define OPTION_TIME	51
#define OPTION_OVERLOAD 52
#define OPTION_ROUTES	121
#define OPTION_ROUTES_2 249
#define OPTION_END	255

static void add_route(struct lease *l, const uint8_t bytes[4], unsigned int bits)
{
	struct lease_route r = { .dst = { .family = AF_INET }, .bits = bits };

	for (unsigned int i = 0; i < 4; i++) {
		const unsigned int kept = bits > i * 8 ? bits - i * 8 : 0;

		r.dst.bytes[i] = kept >= 8 ? bytes[i] : (uint8_t)(bytes[i] & ~(0xff >> kept));
	}
	if (l->len == LEASE_ROUTES)
		l->more++;
	else
		l->routes[l->len++] = r;
}

int lease_take_option(struct lease *l, const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at < len;) {
		const unsigned int bits = bytes[at++];
		const size_t used = (bits + 7) / 8;
		uint8_t dst[4] = { 0 };

		if (bits > 32 || len - at < used + 4 /* the router */)
			return -EINVAL;
		memcpy(dst, bytes + at, used);
		add_route(l, dst, bits);
		at += used + 4;
	}
	return 0;
}

/* "10.0.0.0/8" */
static bool take_prefix(struct lease *l, char *word)
{
	char *const slash = strchr(word, '/');
	struct addr addr;
	uint32_t bits;

	if (!slash)
		return false;
	*slash = '\0';
	if (!addr_parse(word, &addr) && addr.family == AF_INET &&
	    !number_parse(slash + 1, 0, 32, &bits))
		add_route(l, addr.bytes, bits);
	return true;
}

/* A byte in decimal, or between colons in hexadecimal.  0 or -EINVAL. */
static int parse_byte(const char *word, int base, uint8_t *ret_byte)
{
	char *end;
	unsigned long value;

	if (!strchr("0123456789abcdefABCDEF", *word))
		return -EINVAL;
	value = strtoul(word, &end, base);
	if (*end || value > UINT8_MAX)
		return -EINVAL;
	*ret_byte = (uint8_t)value;
	return 0;
}

void lease_take_text(struct lease *l, char *text)
{
	const int base = strchr(text, ':') ? 16 : 10;
	uint8_t bytes[OPTION_BYTES];
	bool prefixes = false;
	size_t len = 0;
	char *word;

	while ((word = lines_word(&text, ",:"))) {
		if (take_prefix(l, word))
			prefixes = true;
		else if (!prefixes &&
			 (len == sizeof(bytes) || parse_byte(word, base, &bytes[len++])))
			return;
	}
	if (!prefixes)
		(void)lease_take_option(l, bytes, len);
}

/* Whether this is one of the names that clients have for the option. */
static bool is_routes_key(const char *key)
{
	static const char names[][24] = {
		"classless_static_routes",
		"classless-static-routes",
		"classless-routes",
		"unknown-121",
		"unknown-249",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strstr(key, names[i]))
			return true;
	return false;
}

void lease_take_lines(struct lease *l, char *text, size_t len)
{
	struct lines lines;
	char *key, *value;

	lines_init(&lines, text, len);
	while (lines_next(&lines, &key, &value))
		if (!strcmp(key, "CLASSLESS_ROUTES") || !strcmp(key, "ROUTES") ||
		    is_routes_key(key))
			lease_take_text(l, value);
}

void lease_take_json(struct lease *l, struct check_json *json)
{
	struct check_json *const routes = check_json_member(json, "Classless_Routes");
	struct check_json *route;

	for (size_t i = 0; (route = check_json_item(routes, i)); i++) {
		struct check_json *const dst = check_json_member(route, "Destination");
		const int bits =
			check_json_number(check_json_member(route, "DestinationPrefixLength"));
		uint8_t bytes[4];
		size_t n = 0;

		for (; n < 4; n++) {
			const int byte = check_json_number(check_json_item(dst, n));

			if (byte < 0 || byte > UINT8_MAX)
				break;
			bytes[n] = (uint8_t)byte;
		}
		if (n == 4 && bits >= 0 && bits <= 32)
			add_route(l, bytes, (unsigned int)bits);
	}
}

/* --- a server's message --- */

/* An option may come in parts, which are one behind the other (RFC 3396). */
struct parts {
	uint8_t bytes[OPTION_BYTES];
	size_t len;
};

struct options {
	struct parts routes, routes_2;
	uint8_t overload;
	uint32_t time_s;
};

static void add_part(struct parts *p, const uint8_t *bytes, size_t len)
{
	if (len <= sizeof(p->bytes) - p->len) {
		memcpy(p->bytes + p->len, bytes, len);
		p->len += len;
	}
}

static void take_options(struct options *o, const uint8_t *bytes, size_t len)
{
	for (size_t at = 0; at < len && bytes[at] != OPTION_END;) {
		const uint8_t code = bytes[at++];
		const uint8_t *data;
		size_t size;

		if (code == OPTION_PAD)
			continue;
		if (at == len || len - at - 1 < bytes[at])
			return;
		size = bytes[at];
		data = bytes + at + 1;
		at += size + 1;
		if (code == OPTION_ROUTES)
			add_part(&o->routes, data, size);
		else if (code == OPTION_ROUTES_2)
			add_part(&o->routes_2, data, size);
		else if (code == OPTION_OVERLOAD && size == 1)
			o->overload = data[0];
		else if (code == OPTION_TIME && size == 4)
			o->time_s = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 |
				    (uint32_t)data[2] << 8 | data[3];
	}
}

int lease_take_message(struct lease *l, const uint8_t *bytes, size_t len, uint32_t *ret_s)
{
	static const uint8_t cookie[] = { 0x63, 0x82, 0x53, 0x63 };
	struct options o = { .time_s = UINT32_MAX };
	uint8_t overload;

	if (len < AT_OPTIONS || memcmp(bytes + AT_COOKIE, cookie, sizeof(cookie)))
		return -EINVAL;
	take_options(&o, bytes + AT_OPTIONS, len - AT_OPTIONS);
	overload = o.overload;
	if (overload & 1)
		take_options(&o, bytes + AT_FILE, AT_COOKIE - AT_FILE);
	if (overload & 2)
		take_options(&o, bytes + AT_SNAME, AT_FILE - AT_SNAME);
	*ret_s = o.time_s;
	(void)(o.routes.len ? lease_take_option(l, o.routes.bytes, o.routes.len) :
			      lease_take_option(l, o.routes_2.bytes, o.routes_2.len));
	return 0;
}

/* --- dhclient's log --- */

/* A statement up to ';', '{' or '}' outside quotes and comments; ret_end says which, or NUL. */
static char *next_statement(char **at, char *end, char *ret_end)
{
	char *const start = *at;
	bool quoted = false;

	for (char *p = start; p < end; p++) {
		if (quoted) {
			if (*p == '\\' && p + 1 < end)
				p++;
			else if (*p == '"')
				quoted = false;
		} else if (*p == '"') {
			quoted = true;
		} else if (*p == '#') {
			while (p < end && *p != '\n')
				*p++ = ' ';
		} else if (*p == ';' || *p == '{' || *p == '}') {
			*ret_end = *p;
			*p = '\0';
			*at = p + 1;
			return start;
		}
	}
	*at = end;
	*ret_end = '\0';
	return NULL;
}

/* Year to second.  Not as a time_t, which ends in 2038 on some machines. */
static bool is_before(const int at[6], const struct tm *tm)
{
	const int present[] = { tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday,
				tm->tm_hour,	    tm->tm_min,	    tm->tm_sec };
	size_t i = 0;

	while (i < 5 && at[i] == present[i])
		i++;
	return at[i] < present[i];
}

/* "never", "epoch N", "4 2026/11/26 10:00:00" in UTC.  What is none of these has not ended. */
static bool has_ended(const char *value, time_t now)
{
	struct tm tm;
	long long epoch;
	int at[6];

	if (sscanf(value, " epoch %lld", &epoch) == 1)
		return epoch < (long long)now;
	if (sscanf(value, " %*d %d/%d/%d %d:%d:%d", &at[0], &at[1], &at[2], &at[3], &at[4],
		   &at[5]) != 6 ||
	    !gmtime_r(&now, &tm))
		return false;
	return is_before(at, &tm);
}

static void take_statement(struct lease *l, char *statement, time_t now, bool *ended)
{
	char *word = lines_word(&statement, "\n"), *value;

	if (!word)
		return;
	if (!strcmp(word, "expire")) {
		*ended = has_ended(statement, now);
	} else if (!strcmp(word, "interface")) {
		value = lines_word(&statement, "\"");
		if (!value || ifname_parse(value, l->link))
			*l->link = '\0';
	} else if (!strcmp(word, "option")) {
		word = lines_word(&statement, "\n");
		if (word && is_routes_key(word))
			lease_take_text(l, statement);
	}
}

/* In place of the link's one before. */
static size_t keep(struct lease *list, size_t len, size_t max, const struct lease *l, bool ended)
{
	size_t i = 0;

	while (i < len && strcmp(list[i].link, l->link))
		i++;
	if (ended) {
		if (i < len)
			list[i] = list[--len];
		return len;
	}
	if (i == max)
		return len;
	list[i] = *l;
	return i == len ? len + 1 : len;
}

size_t lease_parse_dhclient(char *text, size_t len, time_t now, struct lease *ret_list, size_t max)
{
	char *at = text, *const end = text + len, *statement, sign;
	struct lease l = { .len = 0 };
	bool inside = false, ended = false;
	size_t found = 0;

	while ((statement = next_statement(&at, end, &sign))) {
		if (sign == '{') {
			char *const word = lines_word(&statement, "\n");

			l = (struct lease){ .len = 0 };
			ended = false;
			inside = word && !strcmp(word, "lease");
		} else if (sign == '}') {
			if (inside)
				found = keep(ret_list, found, max, &l, ended);
			inside = false;
		} else if (inside) {
			take_statement(&l, statement, now, &ended);
		}
	}
	return found;
}

/* --- what a route means --- */

bool lease_route_covers(const struct lease_route *r, const struct addr *addr)
{
	const unsigned int bytes = r->bits / 8, rest = r->bits % 8;

	if (addr->family != AF_INET || memcmp(r->dst.bytes, addr->bytes, bytes))
		return false;
	return !rest || !((r->dst.bytes[bytes] ^ addr->bytes[bytes]) >> (8 - rest));
}

bool lease_route_is_public(const struct lease_route *r)
{
	/* RFC 1918, 6598, 3927; 224.0.0.0/4 has no name servers. */
	static const struct lease_route private[] = {
		{ { AF_INET, { 10 } }, 8 },	   { { AF_INET, { 172, 16 } }, 12 },
		{ { AF_INET, { 192, 168 } }, 16 }, { { AF_INET, { 100, 64 } }, 10 },
		{ { AF_INET, { 169, 254 } }, 16 }, { { AF_INET, { 224 } }, 4 },
	};

	for (size_t i = 0; i < sizeof(private) / sizeof(private[0]); i++)
		if (r->bits >= private[i].bits && lease_route_covers(&private[i], &r -> dst))
			return false;
	return r->bits > 0;
}
