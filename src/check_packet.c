#include "check_packet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define IP4_BYTES   20
#define IP6_BYTES   40
#define UDP_BYTES   8
#define TCP_BYTES   20
#define FRAG_BYTES  8  /* RFC 8200, 4.5 */
#define FIRST_BYTES 16 /* of the datagram, in the first fragment: its header, half of the query's */
#define TTL	    64
#define SYN	    0x02
#define ACK	    0x10

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, (uint16_t)(value >> 16));
	put16(at + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static size_t put_name(uint8_t *at, const char *name)
{
	uint8_t *const start = at;

	while (*name) {
		const size_t len = strcspn(name, ".");

		*at++ = (uint8_t)len;
		memcpy(at, name, len);
		at += len;
		name += len + (name[len] == '.');
	}
	return (size_t)(at - start);
}

size_t check_packet_query(const char *label, uint32_t tag, uint8_t buf[CHECK_PACKET_QUERY])
{
	size_t at = 12;

	if (strlen(label) > 63)
		return 0;
	memset(buf, 0, CHECK_PACKET_QUERY);
	put16(buf, (uint16_t)tag);
	put16(buf + 2, 0x0100); /* recursion desired */
	put16(buf + 4, 1);	/* one question */
	at += put_name(buf + at, label);
	at += put_name(buf + at, CHECK_PACKET_ZONE);
	buf[at++] = 0;
	put16(buf + at, 1);	/* A */
	put16(buf + at + 2, 1); /* IN */
	return at + 4;
}

/* RFC 1071; of what is summed so far, and an even number of bytes but at the end. */
static uint32_t add_sum(uint32_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? data[i] : (uint32_t)data[i] << 8;
	return sum;
}

static uint16_t fold_sum(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* How the packet is cut: a fragment's place, and whether there is more. */
struct cut {
	size_t at, len; /* of the datagram's bytes */
	bool more;
};

static void put_ip4(const struct check_packet *p, uint8_t *at, size_t len, const struct cut *cut)
{
	at[0] = 0x45;
	put16(at + 2, (uint16_t)len);
	put16(at + 4, (uint16_t)p->tag);
	if (cut)
		put16(at + 6, (uint16_t)((cut->more ? 0x2000u : 0) | cut->at / 8));
	at[8] = TTL;
	at[9] = p->proto;
	memcpy(at + 12, p->from.bytes, 4);
	memcpy(at + 16, p->to.bytes, 4);
	put16(at + 10, fold_sum(add_sum(0, at, IP4_BYTES)));
}

static void put_ip6(const struct check_packet *p, uint8_t *at, size_t len, const struct cut *cut)
{
	at[0] = 0x60;
	put16(at + 4, (uint16_t)(len - IP6_BYTES));
	at[6] = cut ? IPPROTO_FRAGMENT : p->proto;
	at[7] = TTL;
	memcpy(at + 8, p->from.bytes, 16);
	memcpy(at + 24, p->to.bytes, 16);
	if (!cut)
		return;
	at[IP6_BYTES] = p->proto;
	put16(at + IP6_BYTES + 2, (uint16_t)(cut->at | (cut->more ? 1u : 0)));
	put32(at + IP6_BYTES + 4, p->tag);
}

static void put_transport(const struct check_packet *p, uint8_t *at, size_t len)
{
	const size_t n = addr_len(&p->from);
	uint32_t sum =
		add_sum(add_sum(0, p->from.bytes, n), p->to.bytes, n) + p->proto + (uint32_t)len;
	uint16_t checksum;

	put16(at, p->sport);
	put16(at + 2, p->dport);
	if (p->proto == IPPROTO_TCP) {
		put32(at + 4, p->tag);
		at[12] = TCP_BYTES / 4 << 4;
		at[13] = SYN;
		put16(at + 14, 64240); /* window */
		put16(at + 16, fold_sum(add_sum(sum, at, len)));
		return;
	}
	put16(at + 4, (uint16_t)len);
	memcpy(at + UDP_BYTES, p->payload, p->payload_len);
	checksum = fold_sum(add_sum(sum, at, len));
	put16(at + 6, checksum ? checksum : 0xffff); /* RFC 768: 0 says that there is none */
}

size_t check_packet_build(const struct check_packet *packet, uint8_t buf[CHECK_PACKET_BYTES])
{
	const bool tcp = packet->proto == IPPROTO_TCP, ip4 = packet->to.family == AF_INET;
	const size_t ip = ip4 ? IP4_BYTES : IP6_BYTES;
	const size_t transport = tcp ? TCP_BYTES : UDP_BYTES + packet->payload_len;

	if (ip + transport > CHECK_PACKET_BYTES)
		return 0;
	memset(buf, 0, CHECK_PACKET_BYTES);
	if (ip4)
		put_ip4(packet, buf, ip + transport, NULL);
	else
		put_ip6(packet, buf, ip + transport, NULL);
	put_transport(packet, buf + ip, transport);
	return ip + transport;
}

size_t check_packet_build_piece(const struct check_packet *packet, int piece,
				uint8_t buf[CHECK_PACKET_BYTES])
{
	const bool ip4 = packet->to.family == AF_INET;
	const size_t ip = ip4 ? IP4_BYTES : IP6_BYTES + FRAG_BYTES;
	const size_t whole = UDP_BYTES + packet->payload_len;
	const struct cut cut = { .at = piece ? FIRST_BYTES : 0,
				 .len = piece ? whole - FIRST_BYTES : FIRST_BYTES,
				 .more = !piece };
	uint8_t datagram[CHECK_PACKET_BYTES] = { 0 };

	if (whole <= FIRST_BYTES || ip + whole > CHECK_PACKET_BYTES)
		return 0;
	put_transport(packet, datagram, whole);
	memset(buf, 0, CHECK_PACKET_BYTES);
	if (ip4)
		put_ip4(packet, buf, ip + cut.len, &cut);
	else
		put_ip6(packet, buf, ip + cut.len, &cut);
	memcpy(buf + ip, datagram + cut.at, cut.len);
	return ip + cut.len;
}

/* Where the transport header starts; 0: it is no plain packet. */
static size_t parse_ip(const uint8_t *data, size_t len, struct check_packet *p)
{
	/* Not the first of several fragments. */
	if (len >= IP4_BYTES && data[0] == 0x45 && (get16(data + 6) & 0x3fff) != 0x2000) {
		p->later = get16(data + 6) & 0x1fff;
		p->from.family = p->to.family = AF_INET;
		p->proto = data[9];
		memcpy(p->from.bytes, data + 12, 4);
		memcpy(p->to.bytes, data + 16, 4);
		return IP4_BYTES;
	}
	if (len >= IP6_BYTES && data[0] >> 4 == 6) {
		p->from.family = p->to.family = AF_INET6;
		p->proto = data[6];
		memcpy(p->from.bytes, data + 8, 16);
		memcpy(p->to.bytes, data + 24, 16);
		if (p->proto != IPPROTO_FRAGMENT)
			return IP6_BYTES;
		if (len < IP6_BYTES + FRAG_BYTES)
			return 0;
		p->proto = data[IP6_BYTES];
		p->later = get16(data + IP6_BYTES + 2) & 0xfff8;
		return p->later ? IP6_BYTES + FRAG_BYTES : 0;
	}
	return 0;
}

bool check_packet_parse(const uint8_t *data, size_t len, struct check_packet *ret_packet)
{
	struct check_packet p = { .tag = 0 };
	const size_t ip = parse_ip(data, len, &p);
	const uint8_t *at = data + ip;
	size_t header;

	if (!ip ||
	    (p.proto != IPPROTO_UDP && p.proto != IPPROTO_TCP && p.proto != CHECK_PACKET_OTHER))
		return false;
	header = p.later ? 0 : p.proto == IPPROTO_TCP ? TCP_BYTES : UDP_BYTES;
	if (len < ip + header)
		return false;
	p.payload = at + header;
	p.payload_len = len - ip - header;
	if (p.later) {
		*ret_packet = p;
		return true;
	}
	if (p.proto == IPPROTO_TCP) {
		if ((at[13] & (SYN | ACK)) != SYN)
			return false;
		p.tag = (uint32_t)get16(at + 4) << 16 | get16(at + 6);
	}
	p.sport = get16(at);
	p.dport = get16(at + 2);
	*ret_packet = p;
	return true;
}
