#include "packet.h"

#include <netinet/in.h>
#include <string.h>

/* IEEE 802.3, 802.1Q; RFC 2516 */
#define ETHERNET_LEN   14
#define TYPE_VLAN      0x8100
#define TYPE_QINQ      0x88a8
#define TYPE_OLD_QINQ  0x9100
#define TYPE_PPPOE     0x8864
#define VLAN_LEN       4
#define PPPOE_LEN      6
#define PPP_IPV4       0x0021
#define PPP_IPV6       0x0057
#define MAX_TAGS       3
#define MAX_EXTENSIONS 16 /* more than one finds in an honest packet */

struct bytes {
	const uint8_t *at;
	size_t len;
};

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static bool skip(struct bytes *b, size_t len)
{
	if (len > b->len)
		return false;
	b->at += len;
	b->len -= len;
	return true;
}

/* What a header says is behind it may be less than is there: an Ethernet frame is filled up. */
static void cut(struct bytes *b, size_t len)
{
	b->len = len < b->len ? len : b->len;
}

static void take_addr(struct addr *to, sa_family_t family, const uint8_t *at)
{
	*to = (struct addr){ .family = family };
	memcpy(to->bytes, at, addr_len(to));
}

static void parse_ports(struct bytes b, struct packet *p)
{
	if (p->proto == IPPROTO_UDP && b.len >= 8) {
		const size_t said = get16(b.at + 4);

		cut(&b, said >= 8 ? said : b.len); /* 0: larger than it can say (RFC 2675) */
		p->payload = b.at + 8;
		p->payload_len = b.len - 8;
	} else if (p->proto == IPPROTO_TCP && b.len >= 20) {
		const size_t header = (size_t)(b.at[12] >> 4) * 4;

		if (header >= 20 && header <= b.len) {
			p->payload = b.at + header;
			p->payload_len = b.len - header;
		}
	} else if ((p->proto != IPPROTO_UDP && p->proto != IPPROTO_TCP) || b.len < 4) {
		return;
	}
	p->has_ports = true;
	p->source_port = get16(b.at);
	p->dest_port = get16(b.at + 2);
}

/* RFC 791 */
static void parse_ipv4(struct bytes b, struct packet *p)
{
	size_t header;

	if (b.len < 20 || b.at[0] >> 4 != 4)
		return;
	header = (size_t)(b.at[0] & 0xf) * 4;
	if (header < 20)
		return;
	take_addr(&p->source, AF_INET, b.at + 12);
	take_addr(&p->dest, AF_INET, b.at + 16);
	p->proto = b.at[9];
	p->fragment = get16(b.at + 6) & 0x1fff;
	if (p->fragment)
		return;
	if (get16(b.at + 2) >= header)
		cut(&b, get16(b.at + 2));
	if (skip(&b, header))
		parse_ports(b, p);
}

/* RFC 8200, 4; the length of a header that another follows, 0 for one that is the last */
static size_t extension_len(uint8_t next, const uint8_t *at)
{
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case 135: /* mobility, RFC 6275 */
		return ((size_t)at[1] + 1) * 8;
	case IPPROTO_FRAGMENT:
		return 8;
	case IPPROTO_AH:
		return ((size_t)at[1] + 2) * 4;
	default:
		return 0;
	}
}

static void parse_ipv6(struct bytes b, struct packet *p)
{
	uint8_t next;
	size_t said;

	if (b.len < 40 || b.at[0] >> 4 != 6)
		return;
	take_addr(&p->source, AF_INET6, b.at + 8);
	take_addr(&p->dest, AF_INET6, b.at + 24);
	next = b.at[6];
	said = get16(b.at + 4);
	skip(&b, 40);
	if (said)
		cut(&b, said);
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		static const uint8_t nothing[2];
		const size_t len = extension_len(next, b.len >= 2 ? b.at : nothing);

		if (!len) {
			p->proto = next;
			parse_ports(b, p);
			return;
		}
		if (len > b.len)
			return;
		p->fragment = next == IPPROTO_FRAGMENT && get16(b.at + 2) & 0xfff8;
		next = b.at[0];
		skip(&b, len);
		if (p->fragment) {
			p->proto = extension_len(next, nothing) ? 0 : next;
			return;
		}
	}
}

/* RFC 2516; PPP's protocol may be of one byte, which is odd then (RFC 1661, 6.5). */
static uint16_t unwrap_pppoe(struct bytes *b)
{
	uint16_t proto;

	if (!skip(b, PPPOE_LEN) || b->len < 2)
		return 0;
	proto = b->at[0] & 1 ? b->at[0] : get16(b->at);
	skip(b, b->at[0] & 1 ? 1 : 2);
	return proto == PPP_IPV4 ? PACKET_IPV4 : proto == PPP_IPV6 ? PACKET_IPV6 : 0;
}

static bool is_tag(uint16_t type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ || type == TYPE_OLD_QINQ;
}

/* PACKET_IPV4 or PACKET_IPV6 once tags are off; something else where none of them is there. */
static uint16_t unwrap(struct bytes *b, uint16_t type)
{
	if (type == PACKET_ETHERNET) {
		if (b->len < ETHERNET_LEN)
			return 0;
		type = get16(b->at + ETHERNET_LEN - 2);
		skip(b, ETHERNET_LEN);
	}
	for (int i = 0; i < MAX_TAGS && is_tag(type); i++) {
		if (b->len < VLAN_LEN)
			return 0;
		type = get16(b->at + 2);
		skip(b, VLAN_LEN);
	}
	return type == TYPE_PPPOE ? unwrap_pppoe(b) : type;
}

void packet_parse(const uint8_t *data, size_t len, uint16_t begins_with, struct packet *ret_packet)
{
	struct bytes b = { data, len };
	const uint16_t type = unwrap(&b, begins_with);

	*ret_packet = (struct packet){ .proto = 0 };
	if (type == PACKET_IPV4)
		parse_ipv4(b, ret_packet);
	else if (type == PACKET_IPV6)
		parse_ipv6(b, ret_packet);
}
