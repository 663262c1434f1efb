/* What check reads of others' files, from text to values, and from any bytes at all */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_doh.h"
#include "check_guests.h"
#include "check_ipv6.h"
#include "check_json.h"
#include "check_lines.h"
#include "check_pushed.h"
#include "check_resolved.h"

#define OUT 1024

/* An own copy of exactly its bytes and a NUL, so that a sanitizer sees each one too far. */
static char *copy(const char *text, size_t len)
{
	char *const own = malloc(len + 1);

	assert_non_null(own);
	memcpy(own, text, len);
	own[len] = '\0';
	return own;
}

/* --- lines --- */

static void list_lines(const char *text, size_t len, bool comments, char out[OUT])
{
	char *const own = copy(text, len), *key, *value;
	struct lines l;
	size_t at = 0;

	*out = '\0';
	lines_init(&l, own, len);
	l.comments = comments;
	while (lines_next(&l, &key, &value) && at < OUT - 200)
		at += (size_t)snprintf(out + at, OUT - at, "[%.40s]%.60s=%.60s|", l.section, key,
				       value);
	free(own);
}

static void test_lines(void **state)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{ "a=b", "[]a=b|" },
		{ "a=b\n", "[]a=b|" },
		{ "  a \t=  b c \r\n", "[]a=b c|" },
		{ "a==b\na=\n=b\n", "[]a==b|[]a=|[]=b|" },
		{ "[x]\na=b\n[y\nc=d\n[]\ne=f\n", "[x]a=b|[y]c=d|[]e=f|" },
		{ "#a=b\n;a=b\n #a=b\nc=d # e\nf=g;h\n", "[]c=d # e|[]f=g;h|" },
		{ "a=b\\\nc=d\n", "[]a=b c=d|" },
		{ "a=b\\\n#x=y\n;z\n c\\\nd\ne=f\n", "[]a=b  c d|[]e=f|" },
		{ "a=b\\\n", "[]a=b|" },
		{ "a=b\\", "[]a=b|" },
		{ "a=b\\\n#", "[]a=b|" },
		{ "#a=b\\\nc=d\n", "[]c=d|" },
		{ "nothing\n\n\n[", "" },
		{ "", "" },
		{ "\n", "" },
		{ "=", "[]=|" },
	};
	static const char nuls[] = "a=b\0c=d\ne\0=f\n\0g=h\ni=j";
	static const char comments[] = "[R]\n#a=b\nc=d\n# some words\n;e=f\n# g = h\n";
	char out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		list_lines(rows[i].text, strlen(rows[i].text), false, out);
		assert_row(!strcmp(out, rows[i].found), rows[i].text, "found %s", out);
	}
	list_lines(nuls, sizeof(nuls) - 1, false, out);
	assert_string_equal(out, "[]a=b|[]i=j|");
	list_lines(comments, sizeof(comments) - 1, true, out);
	assert_string_equal(out, "[R]a=b|[R]e=f|[R]g=h|");
}

static void test_words(void **state)
{
	char text[] = " a, b\t,,c ", *at = text, none[] = " ,", *nothing = none;

	(void)state;
	assert_string_equal(lines_word(&at, ","), "a");
	assert_string_equal(lines_word(&at, ","), "b");
	assert_string_equal(lines_word(&at, ","), "c");
	assert_null(lines_word(&at, ","));
	assert_null(lines_word(&at, ","));
	assert_null(lines_word(&nothing, ","));
	assert_int_equal(lines_bool("YES"), 1);
	assert_int_equal(lines_bool("off"), 0);
	assert_int_equal(lines_bool("resolve"), -1);
	assert_int_equal(lines_bool(""), -1);
}

/* --- systemd-resolved --- */

static const char *format_server(const struct resolved_server *s, char *out)
{
	char addr[ADDR_TEXT];

	sprintf(out, "%s %u %s", addr_format(&s->addr, addr), s->port, s->link);
	return out;
}

static void test_servers(void **state)
{
	static const struct {
		const char *word, *found; /* NULL: refused */
	} rows[] = {
		{ "192.0.2.1", "192.0.2.1 0 " },
		{ "192.0.2.1:9953", "192.0.2.1 9953 " },
		{ "192.0.2.1:9953%eth0#dns.example", "192.0.2.1 9953 eth0" },
		{ "192.0.2.1%eth0", "192.0.2.1 0 eth0" },
		{ "192.0.2.1#dns.example", "192.0.2.1 0 " },
		{ "2001:db8::1", "2001:db8::1 0 " },
		{ "[2001:db8::1]", "2001:db8::1 0 " },
		{ "[2001:db8::1]:853%wg0#x", "2001:db8::1 853 wg0" },
		{ "fe80::1%2", "fe80::1 0 " },
		{ "192.0.2.1:0", NULL },
		{ "192.0.2.1:65536", NULL },
		{ "192.0.2.1:", NULL },
		{ "[2001:db8::1", NULL },
		{ "192.0.2.1%a/b", NULL },
		{ "192.0.2.1%", NULL },
		{ "192.0.2", NULL },
		{ "[", NULL },
		{ "", NULL },
	};
	struct resolved_server s;
	char out[128];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].word, strlen(rows[i].word));
		const int err = resolved_server_parse(own, &s);

		free(own);
		assert_row(err == (rows[i].found ? 0 : -EINVAL), rows[i].word, "%d", err);
		if (!err)
			assert_row(!strcmp(format_server(&s, out), rows[i].found), rows[i].word,
				   "found %s", out);
	}
}

static struct resolved_settings conf_of(const char *first, const char *then)
{
	struct resolved_settings s = { .tls = false };
	char *own = copy(first, strlen(first));

	resolved_conf_take(&s, own, strlen(first), false);
	free(own);
	own = copy(then, strlen(then));
	resolved_conf_take(&s, own, strlen(then), false);
	free(own);
	return s;
}

/* Lists grow over files; an empty value empties them; a single value is the last one's. */
static void test_conf(void **state)
{
	const struct resolved_settings s =
		conf_of("[Resolve]\nDNS=192.0.2.1\nDNS=192.0.2.2 x 192.0.2.3\n"
			"FallbackDNS=192.0.2.4\nLLMNR=yes\nMulticastDNS=resolve\n"
			"DNSOverTLS=opportunistic\nDomains=a ~.\n",
			"[Other]\nLLMNR=resolve\n[Resolve]\nLLMNR=no\nFallbackDNS=\n"
			"MulticastDNS=perhaps\n[Other]\nLLMNR=yes\n");
	const struct resolved_settings none =
		conf_of("[Resolve]\nDNS=192.0.2.1\nDomains=~.\n", "[Resolve]\nDNS=\nDomains=\n");

	(void)state;
	assert_int_equal(s.dns.len, 3);
	assert_true(s.fallback.set && !s.fallback.len);
	assert_int_equal(s.llmnr, RESOLVED_SUPPORT_NO);
	assert_int_equal(s.mdns, RESOLVED_SUPPORT_ASK);
	assert_true(s.tls && s.all);
	assert_true(none.dns.set && !none.dns.len && !none.all && !none.fallback.set);
	assert_int_equal(none.llmnr, RESOLVED_SUPPORT_UNSET);
}

/* A line of this length is what distributions ship. */
static void test_long_line(void **state)
{
	static const char text[] =
		"[Resolve]\nFallbackDNS=192.0.2.1#one.resolver.example 192.0.2.2#two.resolver.example "
		"192.0.2.3#three.resolver.example 192.0.2.4#four.resolver.example "
		"2001:db8::1#one.resolver.example 2001:db8::2#two.resolver.example "
		"2001:db8::3#three.resolver.example 2001:db8::4#four.resolver.example\n";

	(void)state;
	assert_int_equal(conf_of(text, "").fallback.len, 8);
}

static void test_too_many_servers(void **state)
{
	char text[4096] = "[Resolve]\nDNS=";

	(void)state;
	for (int i = 0; i < 200; i++)
		sprintf(text + strlen(text), "192.0.2.%d ", i);
	assert_int_equal(conf_of(text, "").dns.len, RESOLVED_SERVERS);
}

static void test_links(void **state)
{
	static const struct {
		const char *text;
		bool all, tls, unmanaged;
		enum resolved_support llmnr;
		size_t servers;
	} rows[] = {
		{ "SERVERS=192.0.2.1 192.0.2.2\nDOMAINS=~. a\nLLMNR=no\nMDNS=yes\n", true, false,
		  false, RESOLVED_SUPPORT_NO, 2 },
		{ "DOMAINS=a ~b\nDNSOVERTLS=yes\n", false, true, false, RESOLVED_SUPPORT_UNSET, 0 },
		{ "ADMIN_STATE=configured\nDNS=192.0.2.1\nDOMAINS=lan\nROUTE_DOMAINS=x .\n"
		  "LLMNR=resolve\nDNS_OVER_TLS=no\n",
		  true, false, false, RESOLVED_SUPPORT_ASK, 1 },
		{ "ADMIN_STATE=unmanaged\nROUTE_DOMAINS=x\n", false, false, true,
		  RESOLVED_SUPPORT_UNSET, 0 },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].text, strlen(rows[i].text));
		struct resolved_settings s = { .tls = false };

		resolved_link_take(&s, own, strlen(rows[i].text));
		free(own);
		assert_row(s.all == rows[i].all && s.tls == rows[i].tls &&
				   s.unmanaged == rows[i].unmanaged && s.llmnr == rows[i].llmnr &&
				   s.dns.len == rows[i].servers,
			   rows[i].text, "all %d tls %d unmanaged %d llmnr %d servers %zu", s.all,
			   s.tls, s.unmanaged, s.llmnr, s.dns.len);
	}
}

/* --- DHCP --- */

static const char *list_routes(const struct lease *l, char out[OUT])
{
	char addr[ADDR_TEXT];
	size_t at = 0;

	*out = '\0';
	for (size_t i = 0; i < l->len; i++)
		at += (size_t)sprintf(out + at, "%s%s/%u", i ? " " : "",
				      addr_format(&l->routes[i].dst, addr), l->routes[i].bits);
	return out;
}

static void test_option(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *found;
		bool refused;
	} rows[] = {
		{ "\x18\x0a\x01\x02\x0a\x00\x00\x01", 8, "10.1.2.0/24", false },
		{ "\x00\x0a\x00\x00\x01\x20\xc0\x00\x02\x05\x0a\x00\x00\x01", 14,
		  "0.0.0.0/0 192.0.2.5/32", false },
		{ "\x01\xff\x0a\x00\x00\x01\x01\x00\x0a\x00\x00\x01", 12, "128.0.0.0/1 0.0.0.0/1",
		  false },
		{ "\x09\x0a\xff\x0a\x00\x00\x01", 7, "10.128.0.0/9", false },
		{ "", 0, "", false },
		{ "\x21\x0a\x01\x02\x03\x04\x0a\x00\x00\x01", 10, "", true },
		{ "\xff\x0a\x01\x02\x03\x04\x0a\x00\x00\x01", 10, "", true },
		{ "\x18\x0a\x01\x02\x0a\x00\x00", 7, "", true },
		{ "\x18", 1, "", true },
		{ "\x00\x0a\x00\x00\x01\x18\x0a", 7, "0.0.0.0/0", true },
	};
	char out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].bytes, rows[i].len);
		struct lease l = { .len = 0 };
		const int err = lease_take_option(&l, (const uint8_t *)own, rows[i].len);

		free(own);
		list_routes(&l, out);
		assert_row(!strcmp(out, rows[i].found) && (err == -EINVAL) == rows[i].refused,
			   rows[i].found, "%d found %s", err, out);
	}
}

static void test_option_text(void **state)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{ "10.0.0.0/8,10.0.0.1 192.0.2.7/32,10.0.0.1", "10.0.0.0/8 192.0.2.7/32" },
		{ "10.0.0.0/8 10.0.0.1, 0.0.0.0/0 10.0.0.1", "10.0.0.0/8 0.0.0.0/0" },
		{ "24,10,1,2,10,0,0,1,0,10,0,0,1", "10.1.2.0/24 0.0.0.0/0" },
		{ "24 10 1 2 10 0 0 1", "10.1.2.0/24" },
		{ "18:a:1:2:a:0:0:1", "10.1.2.0/24" },
		{ "10.0.0.0/33 10.0.0.1", "" },
		{ "10.0.0.0/ 10.0.0.1", "" },
		{ "2001:db8::/32", "" },
		{ "24,10,1,256,10,0,0,1", "" },
		{ "24,10,-1,2,10,0,0,1", "" },
		{ "24,10,1,2,10,0,0", "" },
		{ "", "" },
		{ "/", "" },
		{ "word", "" },
	};
	char out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].text, strlen(rows[i].text));
		struct lease l = { .len = 0 };

		lease_take_text(&l, own);
		free(own);
		assert_row(!strcmp(list_routes(&l, out), rows[i].found), rows[i].text, "found %s",
			   out);
	}
}

static void test_too_many_routes(void **state)
{
	char *const text = malloc(5000 * 24);
	struct lease l = { .len = 0 };
	size_t len = 0;

	(void)state;
	assert_non_null(text);
	for (int i = 0; i < 5000; i++)
		len += (size_t)sprintf(text + len, "10.%d.%d.0/24,10.0.0.1 ", i >> 8, i & 255);
	lease_take_text(&l, text);
	assert_int_equal(l.len, LEASE_ROUTES);
	assert_int_equal(l.more, 5000 - LEASE_ROUTES);
	free(text);

	/* As bytes: what is longer than any message has is not taken for half of it. */
	char *const bytes = malloc(20000);

	assert_non_null(bytes);
	*bytes = '\0';
	for (int i = 0; i < 5000; i++)
		strcpy(bytes + i * 2, "0,");
	l = (struct lease){ .len = 0 };
	lease_take_text(&l, bytes);
	assert_int_equal(l.len, 0);
	free(bytes);
}

static void test_lease_lines(void **state)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{ "# private\nADDRESS=10.0.0.2\nCLASSLESS_ROUTES=10.1.0.0/16,10.0.0.1\n",
		  "10.1.0.0/16" },
		{ "ROUTES=10.1.0.0/16,10.0.0.1\n", "10.1.0.0/16" },
		{ "[device]\nmanaged=true\n[dhcp4]\n"
		  "rfc3442_classless_static_routes=10.1.0.0/16 10.0.0.1\n"
		  "requested_rfc3442_classless_static_routes=1\n",
		  "10.1.0.0/16" },
		{ "dhcp4.rfc3442_classless_static_routes=10.1.0.0/16 10.0.0.1\n"
		  "dhcp4.requested_rfc3442_classless_static_routes=1\n",
		  "10.1.0.0/16" },
		{ "ms_classless_static_routes=16 10 1 10 0 0 1\n", "10.1.0.0/16" },
		{ "ADDRESS=10.0.0.2\nROUTER=10.0.0.1\nSTATIC_ROUTES=10.9.0.0/16,10.0.0.1\n", "" },
	};
	char out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].text, strlen(rows[i].text));
		struct lease l = { .len = 0 };

		lease_take_lines(&l, own, strlen(rows[i].text));
		free(own);
		assert_row(!strcmp(list_routes(&l, out), rows[i].found), rows[i].text, "found %s",
			   out);
	}
}

#ifndef WITHOUT_JSON
static void test_lease_json(void **state)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{ "{\"Classless_Routes\":[{\"Destination\":[10,1,0,0],\"DestinationPrefixLength\":16,"
		  "\"Gateway\":[10,0,0,1]}]}",
		  "10.1.0.0/16" },
		{ "{\"Static_Routes\":[{\"Destination\":[10,1,0,0],\"DestinationPrefixLength\":16}]}",
		  "" },
		{ "{\"Classless_Routes\":[{\"Destination\":[10,1,0],\"DestinationPrefixLength\":16}]}",
		  "" },
		{ "{\"Classless_Routes\":[{\"Destination\":[10,1,0,256],"
		  "\"DestinationPrefixLength\":16}]}",
		  "" },
		{ "{\"Classless_Routes\":[{\"Destination\":[10,1,0,0],"
		  "\"DestinationPrefixLength\":33}]}",
		  "" },
		{ "{\"Classless_Routes\":[null,1,\"x\",[],{}]}", "" },
		{ "{\"Classless_Routes\":{}}", "" },
		{ "[]", "" },
	};
	char out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct lease l = { .len = 0 };
		struct check_json *json = NULL;

		assert_int_equal(check_json_parse(rows[i].text, strlen(rows[i].text), &json), 0);
		lease_take_json(&l, json);
		check_json_free(json);
		assert_row(!strcmp(list_routes(&l, out), rows[i].found), rows[i].text, "found %s",
			   out);
	}
}
#endif

/* A message of 240 bytes and these options behind. */
static size_t message(uint8_t out[512], const char *options, size_t len)
{
	memset(out, 0, 512);
	memcpy(out + 236, "\x63\x82\x53\x63", 4);
	memcpy(out + 240, options, len);
	return 240 + len;
}

#define MESSAGE(options) message(bytes, options, sizeof(options) - 1)

static const char *routes_of(const uint8_t *bytes, size_t len, uint32_t *ret_s, char out[OUT])
{
	char *const own = copy((const char *)bytes, len);
	struct lease l = { .len = 0 };
	const int err = lease_take_message(&l, (const uint8_t *)own, len, ret_s);

	free(own);
	return err ? "refused" : list_routes(&l, out);
}

static void test_message(void **state)
{
	uint8_t bytes[512];
	char out[OUT];
	uint32_t s;
	size_t len;

	(void)state;
	len = MESSAGE("\x33\x04\x00\x00\x0e\x10\x00\x79\x08\x18\x0a\x01\x02\x0a\x00\x00\x01\xff");
	assert_string_equal(routes_of(bytes, len, &s, out), "10.1.2.0/24");
	assert_int_equal(s, 3600);
	/* In two parts. */
	len = MESSAGE("\x79\x03\x18\x0a\x01\x79\x05\x02\x0a\x00\x00\x01\xff");
	assert_string_equal(routes_of(bytes, len, &s, out), "10.1.2.0/24");
	assert_true(s == UINT32_MAX);
	/* Microsoft's counts alone only. */
	len = MESSAGE("\xf9\x08\x18\x0a\x01\x02\x0a\x00\x00\x01\xff");
	assert_string_equal(routes_of(bytes, len, &s, out), "10.1.2.0/24");
	len = MESSAGE("\xf9\x08\x18\x0a\x01\x02\x0a\x00\x00\x01\x79\x05\x00\x0a\x00\x00\x01\xff");
	assert_string_equal(routes_of(bytes, len, &s, out), "0.0.0.0/0");
	/* Behind the end, and past it. */
	len = MESSAGE("\xff\x79\x08\x18\x0a\x01\x02\x0a\x00\x00\x01");
	assert_string_equal(routes_of(bytes, len, &s, out), "");
	len = MESSAGE("\x79\x09\x18\x0a\x01\x02\x0a\x00\x00\x01");
	assert_string_equal(routes_of(bytes, len, &s, out), "");
	len = MESSAGE("\x79");
	assert_string_equal(routes_of(bytes, len, &s, out), "");
	/* In the fields of the file and of the server's name. */
	len = MESSAGE("\x34\x01\x03\xff");
	memcpy(bytes + 108, "\x79\x08\x18\x0a\x01\x02\x0a\x00\x00\x01\xff", 11);
	memcpy(bytes + 44, "\x79\x05\x00\x0a\x00\x00\x01\xff", 8);
	assert_string_equal(routes_of(bytes, len, &s, out), "10.1.2.0/24 0.0.0.0/0");
	bytes[242] = 0;
	assert_string_equal(routes_of(bytes, len, &s, out), "");
	/* No message. */
	assert_string_equal(routes_of(bytes, 239, &s, out), "refused");
	bytes[236] = 0;
	assert_string_equal(routes_of(bytes, len, &s, out), "refused");
}

#define LEASE(link, routes, end)                                 \
	"lease {\n  interface \"" link "\";\n"                   \
	"  fixed-address 10.0.0.2;\n"                            \
	"  option domain-name \"a; } # lease {\";\n"             \
	"  option rfc3442-classless-static-routes " routes ";\n" \
	"  renew 4 2020/01/02 10:00:00;\n"                       \
	"  expire " end ";\n}\n"
#define R24 "24,10,1,2,10,0,0,1"
#define R0  "0,10,0,0,1"

static void test_dhclient(void **state)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{ LEASE("eth0", R24, "never"), "eth0:10.1.2.0/24 " },
		{ LEASE("eth0", R24, "4 2099/01/01 00:00:00"), "eth0:10.1.2.0/24 " },
		{ LEASE("eth0", R24, "4 2020/01/03 00:00:00"), "" },
		{ LEASE("eth0", R24, "epoch 4000000000; # Fri"), "eth0:10.1.2.0/24 " },
		{ LEASE("eth0", R24, "epoch 4000"), "" },
		{ LEASE("eth0", R24, "soon"), "eth0:10.1.2.0/24 " },
		{ LEASE("eth0", R24, "never") LEASE("eth0", R0, "never"), "eth0:0.0.0.0/0 " },
		{ LEASE("eth0", R24, "never") LEASE("eth0", R0, "epoch 1"), "" },
		{ LEASE("eth0", R24, "never") LEASE("eth1", R0, "never"),
		  "eth0:10.1.2.0/24 eth1:0.0.0.0/0 " },
		{ LEASE("a/b", R24, "never"), ":10.1.2.0/24 " },
		{ "lease { option unknown-121 18:a:1:2:a:0:0:1; }", ":10.1.2.0/24 " },
		{ "lease6 { option unknown-121 18:a:1:2:a:0:0:1; }", "" },
		{ "# lease { option unknown-121 18:a:1:2:a:0:0:1; }", "" },
		{ "lease { option unknown-121 18:a:1:2:a:0:0:1; ", "" },
		{ "lease { option domain-name \"", "" },
		{ "lease { option domain-name \"\\", "" },
		{ "}}}{{{;;;", "" },
		{ "lease{", "" },
		{ "", "" },
	};
	char routes[OUT], out[OUT];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		char *const own = copy(rows[i].text, strlen(rows[i].text));
		struct lease list[4];
		const size_t n = lease_parse_dhclient(own, strlen(rows[i].text), 1800000000, list,
						      LEN(list));

		free(own);
		*out = '\0';
		for (size_t j = 0; j < n; j++)
			snprintf(out + strlen(out), OUT - strlen(out), "%.15s:%.200s ",
				 list[j].link, list_routes(&list[j], routes));
		assert_row(!strcmp(out, rows[i].found), rows[i].text, "found %s", out);
	}
}

static void test_route_kinds(void **state)
{
	static const struct {
		const char *dst;
		unsigned int bits;
		bool public;
	} rows[] = {
		{ "0.0.0.0", 0, false },      { "0.0.0.0", 1, true },
		{ "128.0.0.0", 1, true },     { "10.0.0.0", 8, false },
		{ "10.0.0.0", 7, true },      { "10.64.0.1", 32, false },
		{ "172.16.0.0", 12, false },  { "172.32.0.0", 12, true },
		{ "192.168.3.0", 24, false }, { "100.64.0.0", 10, false },
		{ "8.8.8.8", 32, true },      { "169.254.169.254", 32, false },
	};
	struct lease_route r;
	struct addr addr;

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		assert_int_equal(addr_parse(rows[i].dst, &r.dst), 0);
		r.bits = rows[i].bits;
		assert_row(lease_route_is_public(&r) == rows[i].public, rows[i].dst, "/%u", r.bits);
	}
	assert_int_equal(addr_parse("10.64.0.0", &r.dst), 0);
	r.bits = 10;
	assert_int_equal(addr_parse("10.127.255.255", &addr), 0);
	assert_true(lease_route_covers(&r, &addr));
	assert_int_equal(addr_parse("10.128.0.0", &addr), 0);
	assert_false(lease_route_covers(&r, &addr));
	assert_int_equal(addr_parse("fd00::1", &addr), 0);
	assert_false(lease_route_covers(&r, &addr));
}

/* --- browsers --- */

#ifndef WITHOUT_JSON
static void test_doh(void **state)
{
	static const struct {
		const char *text;
		enum doh firefox, chromium;
		const char *server;
	} rows[] = {
		{ "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":true,\"ProviderURL\":\"https://a\"}}}",
		  DOH_ON, DOH_UNSET, "https://a" },
		{ "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":false,\"ProviderURL\":\"https://a\"}}}",
		  DOH_OFF, DOH_UNSET, "https://a" },
		{ "{\"policies\":{\"DNSOverHTTPS\":{\"ProviderURL\":\"https://a\"}}}", DOH_NAMED,
		  DOH_UNSET, "https://a" },
		{ "{\"policies\":{\"Preferences\":{\"network.trr.mode\":{\"Value\":3}}}}", DOH_ON,
		  DOH_UNSET, "" },
		{ "{\"policies\":{\"Preferences\":{\"network.trr.mode\":2}}}", DOH_ON, DOH_UNSET,
		  "" },
		{ "{\"policies\":{\"Preferences\":{\"network.trr.mode\":{\"Value\":5}}}}", DOH_OFF,
		  DOH_UNSET, "" },
		{ "{\"policies\":{\"DNSOverHTTPS\":{\"Enabled\":\"true\"}}}", DOH_UNSET, DOH_UNSET,
		  "" },
		{ "{\"policies\":[]}", DOH_UNSET, DOH_UNSET, "" },
		{ "{\"DnsOverHttpsMode\":\"secure\",\"DnsOverHttpsTemplates\":\"https://a\"}",
		  DOH_UNSET, DOH_ON, "https://a" },
		{ "{\"DnsOverHttpsMode\":\"automatic\",}", DOH_UNSET, DOH_ON, "" },
		{ "{\"DnsOverHttpsMode\":\"off\"}", DOH_UNSET, DOH_OFF, "" },
		{ "{\"DnsOverHttpsTemplates\":\"https://a\"}", DOH_UNSET, DOH_NAMED, "https://a" },
		{ "{\"DnsOverHttpsMode\":1}", DOH_UNSET, DOH_UNSET, "" },
		{ "[]", DOH_UNSET, DOH_UNSET, "" },
		{ "null", DOH_UNSET, DOH_UNSET, "" },
		{ "7", DOH_UNSET, DOH_UNSET, "" },
	};
	char server[DOH_SERVER], of_chromium[DOH_SERVER];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct check_json *json = NULL;
		enum doh firefox, chromium;

		assert_row(!check_json_parse(rows[i].text, strlen(rows[i].text), &json),
			   rows[i].text, "no JSON");
		firefox = doh_of_firefox(json, server);
		chromium = doh_of_chromium(json, of_chromium);
		check_json_free(json);
		assert_row(firefox == rows[i].firefox && chromium == rows[i].chromium, rows[i].text,
			   "%d %d", firefox, chromium);
		assert_row(!strcmp(*server ? server : of_chromium, rows[i].server), rows[i].text,
			   "server %s", server);
	}
}

static void test_no_json(void **state)
{
	static const char *const rows[] = { "", "{", "\"", "{]", "\xff\xfe", "nul" };
	struct check_json *json = NULL;
	char *const deep = malloc(100000);

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++)
		assert_row(check_json_parse(rows[i], strlen(rows[i]), &json) == -EBADMSG, rows[i],
			   "taken");
	assert_non_null(deep);
	memset(deep, '[', 100000);
	assert_int_equal(check_json_parse(deep, 100000, &json), -EBADMSG);
	free(deep);
	assert_null(json);
}
#endif

/* --- guests, IPv6 --- */

static void test_dnsmasq(void **state)
{
	static const char text[] =
		"strict-order\nno-resolv\nserver=192.0.2.1\nserver=192.0.2.2#5353@eth0\n"
		"server=/a.example/b.example/192.0.2.3\nserver=/lan/\nserver=2001:db8::1@10.0.0.1\n"
		"#server=192.0.2.4\nlocal=/lan/192.0.2.5\nserver=/x/#\nserver=192.0.2.6#0\n"
		"server=\naddress=/a/192.0.2.7\n";
	char *const own = copy(text, sizeof(text) - 1);
	struct dnsmasq_server list[DNSMASQ_SERVERS];
	char addr[ADDR_TEXT], out[OUT] = "";
	const size_t n = dnsmasq_parse_servers(own, sizeof(text) - 1, list);

	(void)state;
	free(own);
	for (size_t i = 0; i < n; i++)
		sprintf(out + strlen(out), "%s#%u@%s ", addr_format(&list[i].addr, addr),
			list[i].port, list[i].link);
	assert_string_equal(out, "192.0.2.1#0@ 192.0.2.2#5353@eth0 192.0.2.3#0@ "
				 "2001:db8::1#0@10.0.0.1 192.0.2.5#0@ ");
}

static void test_bridges(void **state)
{
	(void)state;
	assert_true(check_is_guests_bridge("docker0"));
	assert_true(check_is_guests_bridge("virbr0"));
	assert_true(check_is_guests_bridge("br-0123456789ab"));
	assert_false(check_is_guests_bridge("br-lan"));
	assert_false(check_is_guests_bridge("br0"));
	assert_false(check_is_guests_bridge("eth0"));
}

static void test_ipv6(void **state)
{
	static const char addresses[] = "00000000000000000000000000000001 01 80 10 80       lo\n"
					"20010db8000000000000000000000001 02 40 00 80     eth0\n"
					"fe800000000000000000000000000001 02 40 20 80     eth0\n"
					"fd000000000000000000000000000001 03 40 00 80     eth1\n"
					"fe800000000000000000000000000001 04 40 20 80     eth2\n"
					"garbage\n\n20010db8 x\n";
	static const char routes[] =
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"fe800000000000000000000000000002 00000400 00000001 00000000 00450003     eth2\n"
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
		"20010db8000000000000000000000000 40 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n";
	char *const one = copy(addresses, sizeof(addresses) - 1);
	char *const two = copy(routes, sizeof(routes) - 1), out[OUT] = "";
	struct ipv6_links l = { .len = 0 };

	(void)state;
	ipv6_take_addresses(&l, one, sizeof(addresses) - 1);
	ipv6_take_routes(&l, two, sizeof(routes) - 1);
	free(one);
	free(two);
	for (size_t i = 0; i < l.len; i++)
		sprintf(out + strlen(out), "%s:%d%d%d ", l.list[i].name, l.list[i].any,
			l.list[i].global, l.list[i].route);
	assert_string_equal(out, "eth0:110 eth1:100 eth2:001 ");
}

/* --- any bytes --- */

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223; /* Numerical Recipes' */
	return *seed >> 8;
}

/* Bytes that lead deep into the parsers, among others. */
static size_t fill(char *bytes, size_t max, uint32_t *seed)
{
	static const char *const words[] = {
		"lease {",
		"option unknown-121 ",
		"\"",
		"\\",
		";",
		"}",
		"expire ",
		"DNS=",
		"[Resolve]\n",
		"\n",
		"\\\n",
		"192.0.2.1",
		":",
		"[",
		"]",
		"%",
		"#",
		"=",
		"10.0.0.0/8",
		",",
		"\x79\x08",
		"server=/",
		"CLASSLESS_ROUTES=",
		"24",
		"{\"Classless_Routes\":[",
		"interface",
	};
	size_t len = 0;

	while (len + 32 < max && next_random(seed) % 64) {
		const char *const word = words[next_random(seed) % LEN(words)];

		if (next_random(seed) % 4)
			len += (size_t)sprintf(bytes + len, "%s", word);
		else
			bytes[len++] = (char)next_random(seed);
	}
	return len;
}

typedef void reader(char *text, size_t len);

static void read_lines(char *text, size_t len)
{
	struct resolved_settings s = { .tls = false };

	resolved_conf_take(&s, text, len, false);
}

static void read_comments(char *text, size_t len)
{
	struct resolved_settings s = { .tls = false };

	resolved_conf_take(&s, text, len, true);
}

static void read_link(char *text, size_t len)
{
	struct resolved_settings s = { .tls = false };

	resolved_link_take(&s, text, len);
}

static void read_lease(char *text, size_t len)
{
	struct lease l = { .len = 0 };

	lease_take_lines(&l, text, len);
}

static void read_dhclient(char *text, size_t len)
{
	struct lease list[2];

	(void)lease_parse_dhclient(text, len, 0, list, LEN(list));
}

static void read_message(char *text, size_t len)
{
	struct lease l = { .len = 0 };
	uint32_t s;

	if (len >= 240)
		memcpy(text + 236, "\x63\x82\x53\x63", 4);
	(void)lease_take_message(&l, (const uint8_t *)text, len, &s);
}

static void read_json(char *text, size_t len)
{
	struct check_json *json = NULL;
	struct lease l = { .len = 0 };

	if (!check_json_parse(text, len, &json))
		lease_take_json(&l, json);
	check_json_free(json);
}

static void read_dnsmasq(char *text, size_t len)
{
	struct dnsmasq_server list[DNSMASQ_SERVERS];

	(void)dnsmasq_parse_servers(text, len, list);
}

static void read_ipv6(char *text, size_t len)
{
	struct ipv6_links l = { .len = 0 };

	ipv6_take_addresses(&l, text, len);
	ipv6_take_routes(&l, text, len);
}

/* No more than not to crash: a build with sanitizers says the rest. */
static void test_any_bytes(void **state)
{
	static reader *const readers[] = {
		read_lines,   read_comments, read_link,	   read_lease, read_dhclient,
		read_message, read_json,     read_dnsmasq, read_ipv6,
	};
	uint32_t seed = 7;
	char bytes[2048];

	(void)state;
	for (int round = 0; round < 20000; round++) {
		const size_t len = fill(bytes, sizeof(bytes), &seed);
		char *const own = copy(bytes, len);

		readers[round % (int)LEN(readers)](own, len);
		free(own);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),	    cmocka_unit_test(test_words),
		cmocka_unit_test(test_servers),	    cmocka_unit_test(test_conf),
		cmocka_unit_test(test_long_line),   cmocka_unit_test(test_too_many_servers),
		cmocka_unit_test(test_links),	    cmocka_unit_test(test_option),
		cmocka_unit_test(test_option_text), cmocka_unit_test(test_too_many_routes),
		cmocka_unit_test(test_lease_lines), cmocka_unit_test(test_message),
		cmocka_unit_test(test_dhclient),    cmocka_unit_test(test_route_kinds),
#ifndef WITHOUT_JSON
		cmocka_unit_test(test_lease_json),  cmocka_unit_test(test_doh),
		cmocka_unit_test(test_no_json),
#endif
		cmocka_unit_test(test_dnsmasq),	    cmocka_unit_test(test_bridges),
		cmocka_unit_test(test_ipv6),	    cmocka_unit_test(test_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
