/* check_packet.h: made, recognised, and nothing else taken for ours */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_packet.h"

static struct addr addr(const char *text)
{
	struct addr a;

	if (addr_parse(text, &a))
		fail_msg("%s", text);
	return a;
}

static const struct {
	const char *from, *to;
	uint8_t proto;
	size_t len; /* of the packet */
} shapes[] = {
	{ "192.0.2.2", "198.51.100.53", IPPROTO_UDP, 20 + 8 + 59 },
	{ "192.0.2.2", "198.51.100.53", IPPROTO_TCP, 20 + 20 },
	{ "2001:db8::2", "fe80::1", IPPROTO_UDP, 40 + 8 + 59 },
	{ "2001:db8::2", "fe80::1", IPPROTO_TCP, 40 + 20 },
};

static size_t build(size_t i, uint8_t buf[CHECK_PACKET_BYTES])
{
	uint8_t query[CHECK_PACKET_QUERY];
	const struct check_packet p = {
		.from = addr(shapes[i].from),
		.to = addr(shapes[i].to),
		.proto = shapes[i].proto,
		.sport = 12345,
		.dport = 853,
		.tag = 0x89abcdef,
		.payload = query,
		.payload_len = check_packet_query("q0123456789abcdef", 0x89abcdef, query),
	};

	return check_packet_build(&p, buf);
}

/* RFC 1071: with its checksum, and the pseudo header, the sum is all ones. */
static unsigned int sum(const uint8_t *data, size_t len)
{
	unsigned int s = 0;

	for (size_t i = 0; i < len; i++)
		s += i & 1 ? data[i] : (unsigned int)data[i] << 8;
	return s;
}

static unsigned int fold(unsigned int s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static void test_checksums(void **state)
{
	uint8_t buf[CHECK_PACKET_BYTES];

	(void)state;
	for (size_t i = 0; i < LEN(shapes); i++) {
		const size_t len = build(i, buf), ip = i < 2 ? 20 : 40;
		const uint8_t *addrs = buf + (i < 2 ? 12 : 8);

		assert_row(len == shapes[i].len, shapes[i].to, "%zu bytes", len);
		if (i < 2)
			assert_int_equal(fold(sum(buf, ip)), 0xffff);
		assert_row(fold(sum(addrs, i < 2 ? 8 : 32) + shapes[i].proto +
				(unsigned int)(len - ip) + sum(buf + ip, len - ip)) == 0xffff,
			   shapes[i].to, "checksum");
	}
}

static void test_made_and_read(void **state)
{
	uint8_t buf[CHECK_PACKET_BYTES];

	(void)state;
	for (size_t i = 0; i < LEN(shapes); i++) {
		const size_t len = build(i, buf);
		const struct addr to = addr(shapes[i].to);
		struct check_packet p;

		assert_row(check_packet_parse(buf, len, &p), shapes[i].to, "not read");
		assert_int_equal(p.proto, shapes[i].proto);
		assert_int_equal(p.sport, 12345);
		assert_int_equal(p.dport, 853);
		assert_int_equal(addr_cmp(&p.to, &to), 0);
		if (p.proto == IPPROTO_TCP) {
			assert_int_equal(p.tag, 0x89abcdef);
			continue;
		}
		assert_int_equal(p.payload_len, 59);
		assert_memory_equal(p.payload + 12, "\x11q0123456789abcdef\x0fleakguard-check", 34);
	}
}

/* Whatever it was cut to: nothing is read that is not there (with SAN=1). */
static void test_cut_packets(void **state)
{
	uint8_t buf[CHECK_PACKET_BYTES];

	(void)state;
	for (size_t i = 0; i < LEN(shapes); i++) {
		const size_t len = build(i, buf);

		for (size_t n = 0; n <= len; n++) {
			uint8_t *copy = malloc(n + 1);
			struct check_packet p;
			bool whole;

			assert_non_null(copy);
			memcpy(copy, buf, n);
			whole = check_packet_parse(copy, n, &p);
			if (whole)
				assert_in_range((uintptr_t)p.payload + p.payload_len, 0,
						(uintptr_t)copy + n);
			assert_row(whole ==
					   (n >= (size_t)(i < 2 ? 20 : 40) +
							 (shapes[i].proto == IPPROTO_TCP ? 20 : 8)),
				   shapes[i].to, "%zu bytes", n);
			free(copy);
		}
	}
}

/* Two fragments, put together, are the datagram; only the later one is told. */
static void test_pieces(void **state)
{
	uint8_t query[CHECK_PACKET_QUERY], buf[2][CHECK_PACKET_BYTES], whole[CHECK_PACKET_BYTES];

	(void)state;
	for (size_t i = 0; i < LEN(shapes); i += 2) {
		const size_t ip = i ? 48 : 20, start = i ? 40 : 20;
		const struct check_packet p = {
			.from = addr(shapes[i].from),
			.to = addr(shapes[i].to),
			.proto = IPPROTO_UDP,
			.sport = 12345,
			.dport = 853,
			.tag = 0x89abcdef,
			.payload = query,
			.payload_len = check_packet_query("q0123456789abcdef", 0x89abcdef, query),
		};
		const size_t first = check_packet_build_piece(&p, 0, buf[0]);
		const size_t later = check_packet_build_piece(&p, 1, buf[1]);
		const size_t len = check_packet_build(&p, whole);
		struct check_packet read;

		assert_int_equal(first - ip, 16);
		assert_int_equal(later - ip, len - start - 16);
		assert_memory_equal(buf[0] + ip, whole + start, 16);
		assert_memory_equal(buf[1] + ip, whole + start + 16, later - ip);
		if (!i) {
			assert_int_equal(fold(sum(buf[0], ip)), 0xffff);
			assert_int_equal(fold(sum(buf[1], ip)), 0xffff);
			assert_memory_equal(buf[0] + 6, "\x20\x00", 2);
			assert_memory_equal(buf[1] + 6, "\x00\x02", 2);
		} else {
			assert_memory_equal(buf[0] + 40, "\x11\0\0\x01\x89\xab\xcd\xef", 8);
			assert_memory_equal(buf[1] + 40, "\x11\0\0\x10\x89\xab\xcd\xef", 8);
		}
		assert_false(check_packet_parse(buf[0], first, &read));
		for (size_t n = 0; n < ip; n++)
			assert_false(check_packet_parse(buf[1], n, &read));
		assert_true(check_packet_parse(buf[1], later, &read) && read.later);
		assert_memory_equal(read.payload + CHECK_PACKET_LATER, "q0123456789abcdef", 17);
	}
}

static void test_none_of_ours(void **state)
{
	static const struct {
		const char *what;
		size_t shape, at;
		uint8_t byte;
	} rows[] = {

		{ "a first fragment", 0, 6, 0x20 },
		{ "options", 0, 0, 0x46 },
		{ "no IP", 0, 0, 0x55 },
		{ "an answer to a SYN", 1, 33, 0x12 },
		{ "a reset", 1, 33, 0x04 },
		{ "ICMP", 0, 9, 1 },
		{ "IPv6 with a header in front", 2, 6, 0 },
		{ "IPv6, an answer", 3, 53, 0x12 },
	};
	uint8_t buf[CHECK_PACKET_BYTES];

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		const size_t len = build(rows[i].shape, buf);
		struct check_packet p;

		assert_true(check_packet_parse(buf, len, &p));
		buf[rows[i].at] = rows[i].byte;
		assert_row(!check_packet_parse(buf, len, &p), rows[i].what, "taken");
	}
}

static void test_query_is_one(void **state)
{
	uint8_t buf[CHECK_PACKET_QUERY];
	const size_t len = check_packet_query("q0123456789abcdef", 7, buf);
	char name[256];

	(void)state;
	assert_int_equal(len, 59);
	assert_int_equal(dn_expand(buf, buf + len, buf + 12, name, sizeof(name)), 59 - 12 - 4);
	assert_string_equal(name, "q0123456789abcdef." CHECK_PACKET_ZONE);
	assert_int_equal(check_packet_query(
				 "q123456789012345678901234567890123456789012345678901234567890123",
				 7, buf),
			 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksums),   cmocka_unit_test(test_made_and_read),
		cmocka_unit_test(test_cut_packets), cmocka_unit_test(test_none_of_ours),
		cmocka_unit_test(test_pieces),	    cmocka_unit_test(test_query_is_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
