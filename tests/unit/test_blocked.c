/* blocked.h, packet.h: headers of every sort, and none that is believed beyond its end */
#include "unit.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blocked.h"
#include "packet.h"

#define DNS	  "12340100 00010000 00000000 03777777 00 001c 0001 "
#define UDP	  "1388 0035 001d 0000 " /* 5000 to 53, 29 bytes */
#define UDP_853	  "1388 0355 001d 0000 "
#define ADDRS4	  "c0000202 cb007108 "
#define IPV4	  "45 00 0031 0000 0000 40 11 0000 " ADDRS4
#define ADDRS6	  "20010db8000000000000000000000002 20010db8000000000000000000000008 "
#define IPV6(n)	  "60000000 0000 " n " 40 " ADDRS6
#define TCP(dat)  "1388 0035 00000000 00000000 " dat " 18 0000 0000 0000 "
#define ETH(type) "020000000001 020000000002 " type " "

static size_t from_hex(const char *hex, uint8_t *data)
{
	size_t len = 0;
	unsigned int byte;

	while (*hex) {
		if (*hex == ' ') {
			hex++;
			continue;
		}
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		data[len++] = (uint8_t)byte;
		hex += 2;
	}
	return len;
}

/* "SOURCE > DEST PROTO SPORT-DPORT QUESTION" */
static void describe(const struct blocked *b, char text[DNSNAME_TEXT + 256])
{
	char source[ADDR_TEXT] = "-", dest[ADDR_TEXT] = "-", ports[16] = "-";
	static const char *const questions[] = { "unknown", "", "encrypted", "fragment" };

	if (b->source.family) {
		addr_format(&b->source, source);
		addr_format(&b->dest, dest);
	}
	if (b->has_ports)
		snprintf(ports, sizeof(ports), "%u-%u", b->source_port, b->dest_port);
	snprintf(text, DNSNAME_TEXT + 256, "%s > %s %u %s %s", source, dest, b->proto, ports,
		 b->question == QUESTION_KNOWN ? b->name : questions[b->question]);
}

#define V4   "192.0.2.2 > 203.0.113.8 "
#define V6   "2001:db8::2 > 2001:db8::8 "
#define FULL "17 5000-53 www"

static const struct {
	const char *what;
	uint16_t begins_with;
	const char *hex, *found;
} rows[] = {
	{ "IPv4", PACKET_IPV4, IPV4 UDP DNS, V4 FULL },
	{ "IPv4 with options", PACKET_IPV4,
	  "47 00 0039 0000 0000 40 11 0000 " ADDRS4 "0101010101010101 " UDP DNS, V4 FULL },
	{ "filled up behind its end", PACKET_IPV4,
	  "45 00 001c 0000 0000 40 11 0000 " ADDRS4 "1388 0035 0008 0000 " DNS,
	  V4 "17 5000-53 unknown" },
	{ "IP says that it is shorter", PACKET_IPV4,
	  "45 00 001c 0000 0000 40 11 0000 " ADDRS4 UDP DNS, V4 "17 5000-53 unknown" },
	{ "UDP says it is shorter", PACKET_IPV4, IPV4 "1388 0035 0010 0000 " DNS,
	  V4 "17 5000-53 unknown" },
	{ "a later fragment", PACKET_IPV4, "45 00 0031 0000 0001 40 11 0000 " ADDRS4 UDP DNS,
	  V4 "17 - fragment" },
	{ "the first fragment", PACKET_IPV4, "45 00 0031 0000 2000 40 11 0000 " ADDRS4 UDP DNS,
	  V4 FULL },
	{ "a header that is too short", PACKET_IPV4,
	  "44 00 0031 0000 0000 40 11 0000 " ADDRS4 UDP DNS, "- > - 0 - unknown" },
	{ "a header longer than all", PACKET_IPV4, "4f 00 0031 0000 0000 40 11 0000 " ADDRS4 UDP,
	  V4 "17 - unknown" },
	{ "another protocol", PACKET_IPV4, "45 00 0031 0000 0000 40 01 0000 " ADDRS4 UDP DNS,
	  V4 "1 - unknown" },
	{ "IPv6 that is called IPv4", PACKET_IPV4, IPV6("11") UDP DNS, "- > - 0 - unknown" },
	{ "port 853", PACKET_IPV4, IPV4 UDP_853 DNS, V4 "17 5000-853 encrypted" },
	{ "TCP's SYN", PACKET_IPV4, "45 00 0028 0000 0000 40 06 0000 " ADDRS4 TCP("50"),
	  V4 "6 5000-53 unknown" },
	{ "TCP", PACKET_IPV4, "45 00 0000 0000 0000 40 06 0000 " ADDRS4 TCP("50") "0015 " DNS,
	  V4 "6 5000-53 www" },
	{ "TCP, the length lies", PACKET_IPV4,
	  "45 00 0000 0000 0000 40 06 0000 " ADDRS4 TCP("50") "0001 " DNS, V4 "6 5000-53 unknown" },
	{ "TCP, one byte", PACKET_IPV4, "45 00 0000 0000 0000 40 06 0000 " ADDRS4 TCP("50") "00",
	  V4 "6 5000-53 unknown" },
	{ "TCP's header lies", PACKET_IPV4,
	  "45 00 0000 0000 0000 40 06 0000 " ADDRS4 TCP("f0") "0015 " DNS, V4 "6 5000-53 unknown" },
	{ "TCP's header is too short", PACKET_IPV4,
	  "45 00 0000 0000 0000 40 06 0000 " ADDRS4 TCP("10") "0015 " DNS, V4 "6 5000-53 unknown" },
	{ "IPv6", PACKET_IPV6, IPV6("11") UDP DNS, V6 FULL },
	{ "hop-by-hop, routing, destination", PACKET_IPV6,
	  IPV6("00") "2b00000000000000 3c00000000000000 1101000000000000 0000000000000000 " UDP DNS,
	  V6 FULL },
	{ "authentication header", PACKET_IPV6, IPV6("33") "1101000000000000 00000000 " UDP DNS,
	  V6 FULL },
	{ "an atomic fragment", PACKET_IPV6, IPV6("2c") "1100000000000000 " UDP DNS, V6 FULL },
	{ "IPv6's later fragment", PACKET_IPV6, IPV6("2c") "1100000800000000 " UDP DNS,
	  V6 "17 - fragment" },
	{ "behind its header another one", PACKET_IPV6, IPV6("2c") "3c00000800000000 " UDP DNS,
	  V6 "0 - fragment" },
	{ "an extension that is cut", PACKET_IPV6, IPV6("00") "11ff0000", V6 "0 - unknown" },
	{ "a chain without end", PACKET_IPV6,
	  IPV6("00") "0000000000000000 0000000000000000 0000000000000000 0000000000000000 "
		     "0000000000000000 0000000000000000 0000000000000000 0000000000000000 "
		     "0000000000000000 0000000000000000 0000000000000000 0000000000000000 "
		     "0000000000000000 0000000000000000 0000000000000000 0000000000000000 "
		     "1100000000000000 " UDP DNS,
	  V6 "0 - unknown" },
	{ "a frame", PACKET_ETHERNET, ETH("0800") IPV4 UDP DNS, V4 FULL },
	{ "a frame of IPv6", PACKET_ETHERNET, ETH("86dd") IPV6("11") UDP DNS, V6 FULL },
	{ "VLAN", PACKET_ETHERNET, ETH("8100") "0005 0800 " IPV4 UDP DNS, V4 FULL },
	{ "QinQ", PACKET_ETHERNET, ETH("88a8") "0005 8100 0006 86dd " IPV6("11") UDP DNS, V6 FULL },
	{ "QinQ of old", PACKET_ETHERNET, ETH("9100") "0005 8100 0006 0800 " IPV4 UDP DNS,
	  V4 FULL },
	{ "PPPoE", PACKET_ETHERNET, ETH("8864") "11000001 0033 0021 " IPV4 UDP DNS, V4 FULL },
	{ "PPPoE, a short protocol", PACKET_ETHERNET,
	  ETH("8864") "11000001 0032 57 " IPV6("11") UDP DNS, V6 FULL },
	{ "PPPoE, nothing in it", PACKET_ETHERNET, ETH("8864") "11000001 0000",
	  "- > - 0 - unknown" },
	{ "PPPoE, another protocol", PACKET_ETHERNET,
	  ETH("8864") "11000001 0033 c021 " IPV4 UDP DNS, "- > - 0 - unknown" },
	{ "behind a bridge's header", 0x8864, "11000001 0033 0057 " IPV6("11") UDP DNS, V6 FULL },
	{ "ARP", PACKET_ETHERNET, ETH("0806") IPV4 UDP DNS, "- > - 0 - unknown" },
	{ "nothing", PACKET_ETHERNET, "", "- > - 0 - unknown" },
};

static void test_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		uint8_t data[512];
		const size_t len = from_hex(rows[i].hex, data);
		struct blocked b = { 0 };
		char text[DNSNAME_TEXT + 256];

		blocked_take_packet(&b, data, len, rows[i].begins_with);
		describe(&b, text);
		assert_row(!strcmp(text, rows[i].found), rows[i].what, "found %s", text);
	}
}

/* Wherever it is cut: no byte behind the end is read, and nothing else comes out than of the whole. */
static void test_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		uint8_t whole[512];
		const size_t full = from_hex(rows[i].hex, whole);
		struct blocked all = { 0 };

		blocked_take_packet(&all, whole, full, rows[i].begins_with);
		for (size_t len = 0; len < full; len++) {
			uint8_t *data = malloc(len ?: 1);
			struct blocked b = { 0 };

			assert_non_null(data);
			memcpy(data, whole, len);
			blocked_take_packet(&b, data, len, rows[i].begins_with);
			free(data);
			if (b.source.family)
				assert_int_equal(addr_cmp(&b.source, &all.source), 0);
			if (b.has_ports)
				assert_int_equal(b.dest_port, all.dest_port);
			if (b.question == QUESTION_KNOWN)
				assert_string_equal(b.name, all.name);
		}
	}
}

static void test_malformed(void **state)
{
	size_t questions = 0;

	(void)state;
	srandom(8);
	for (int i = 0; i < 10000; i++) {
		uint8_t whole[512];
		size_t row = (size_t)random() % LEN(rows), len = from_hex(rows[row].hex, whole);
		uint8_t *data = malloc(len ?: 1);
		struct blocked b = { 0 };

		assert_non_null(data);
		for (long n = random() % 6; n > 0 && len; n--)
			whole[(size_t)random() % len] = (uint8_t)random();
		memcpy(data, whole, len);
		blocked_take_packet(&b, data, len, rows[row].begins_with);
		free(data);
		questions += b.question == QUESTION_KNOWN;
		for (const char *c = b.name; *c; c++)
			assert_in_range(*c, '!', '~');
	}
	assert_in_range(questions, 1000, 9000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
