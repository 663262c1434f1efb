/* wrap.h - frames by hand: a query to somebody, in headers of all sorts, in a link's headers of all sorts */
#ifndef WRAP_H
#define WRAP_H

#include "simulate.h"

enum ip {
	IP4_PLAIN,
	IP4_OPTIONS,
	IP4_FIRST, /* a first fragment */
	IP4_LATER,
	IP4_AH,
	IP6_PLAIN,
	IP6_HOPOPTS,
	IP6_ROUTING,
	IP6_DSTOPTS,
	IP6_TWO, /* hop-by-hop and destination options */
	IP6_FIRST,
	IP6_PORTLESS, /* a first fragment that ends before the port */
	IP6_HIDES,    /* one that ends inside the extension headers */
	IP6_LATER,
	IP6_LATER_EXT, /* of a datagram with extension headers behind the fragment's */
	IP6_AH,
	IPS,
};

static const char *const ip_words[IPS] = {
	"IPv4",	   "IPv4 with options", "first fragment",   "later fragment", "IPv4 AH",
	"IPv6",	   "hop-by-hop",	"routing",	    "destination",    "two headers",
	"first",   "first, no port",	"first, hides all", "later",	      "later, hides",
	"IPv6 AH",
};

enum wrap {
	/* What the kernel reads as IP itself. */
	WRAP_PLAIN,
	WRAP_TAGGED, /* by a VLAN device: the tag is beside the frame */
	WRAP_BARE,   /* a link without a header of its own */
	/* What is read at fixed places. */
	WRAP_LYING,
	WRAP_OTHER_IP, /* called the other version of IP */
	WRAP_VLAN,
	WRAP_SVLAN,
	WRAP_OLDVLAN,
	WRAP_VLAN_LYING, /* a tag, and called IP */
	WRAP_QINQ,
	WRAP_TWO_VLANS,
	WRAP_PPPOE,
	WRAP_VLAN_PPPOE,
	WRAP_QINQ_PPPOE,
	WRAP_PPPOE_SHORT, /* PPP's protocol in one byte */
	WRAP_BARE_LYING,
	/* What nobody sees through. */
	WRAP_THREE_VLANS,
	WRAP_SNAP,
	WRAPS,
};

static const char *const wrap_words[WRAPS] = {
	"plain",	"tagged beside", "bare",	 "lying",	  "called other IP",
	"802.1Q",	"802.1ad",	 "0x9100",	 "802.1Q, lying", "QinQ",
	"802.1Q twice", "PPPoE",	 "VLAN, PPPoE",	 "QinQ, PPPoE",	  "PPPoE, one byte",
	"bare, lying",	"three VLANs",	 "LLC and SNAP",
};

struct query {
	enum ip ip;
	enum wrap wrap;
	uint8_t proto;
	uint16_t port;
	struct addr src, dst;
};

static inline bool query_is_ip6(const struct query *q)
{
	return q->ip >= IP6_PLAIN;
}

static inline void put(struct frame *f, const void *bytes, size_t len)
{
	assert_true(f->len + len <= FRAME_ROOM);
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static inline void put_u8(struct frame *f, unsigned int value)
{
	put(f, &(uint8_t){ (uint8_t)value }, 1);
}

static inline void put_u16(struct frame *f, unsigned int value)
{
	put(f, &(uint16_t){ htons((uint16_t)value) }, 2);
}

/* Ports, and something behind them; a later fragment has a name's bytes there. */
static inline void put_payload(struct frame *f, const struct query *q)
{
	static const uint8_t rest[36] = { 0 };

	put_u16(f, 40000);
	put_u16(f, q->port);
	put(f, rest, sizeof(rest));
}

static inline void put_ip4(struct frame *f, const struct query *q)
{
	const size_t at = f->len;
	const uint16_t frag = q->ip == IP4_FIRST ? 0x2000 : q->ip == IP4_LATER ? 5 : 0;
	uint16_t total_be;

	put_u8(f, q->ip == IP4_OPTIONS ? 0x46 : 0x45);
	put_u8(f, 0);
	put_u16(f, 0);
	put_u16(f, 1);
	put_u16(f, frag);
	put_u8(f, 64);
	put_u8(f, q->ip == IP4_AH ? IPPROTO_AH : q->proto);
	put_u16(f, 0);
	put(f, q->src.bytes, 4);
	put(f, q->dst.bytes, 4);
	if (q->ip == IP4_OPTIONS)
		put(f, "\x01\x01\x01\x00", 4);
	if (q->ip == IP4_AH)
		put(f, (uint8_t[12]){ q->proto, 1 }, 12);
	put_payload(f, q);
	total_be = htons((uint16_t)(f->len - at));
	memcpy(f->bytes + at + 2, &total_be, sizeof(total_be));
}

static inline void put_ip6(struct frame *f, const struct query *q)
{
	static const uint8_t firsts[] = {
		[IP6_HOPOPTS] = IPPROTO_HOPOPTS,    [IP6_ROUTING] = IPPROTO_ROUTING,
		[IP6_DSTOPTS] = IPPROTO_DSTOPTS,    [IP6_TWO] = IPPROTO_HOPOPTS,
		[IP6_FIRST] = IPPROTO_FRAGMENT,	    [IP6_PORTLESS] = IPPROTO_FRAGMENT,
		[IP6_HIDES] = IPPROTO_FRAGMENT,	    [IP6_LATER] = IPPROTO_FRAGMENT,
		[IP6_LATER_EXT] = IPPROTO_FRAGMENT, [IP6_AH] = IPPROTO_AH,
	};
	const bool first = q->ip == IP6_FIRST || q->ip == IP6_PORTLESS || q->ip == IP6_HIDES;
	const bool nests = q->ip == IP6_TWO || q->ip == IP6_PORTLESS || q->ip == IP6_HIDES ||
			   q->ip == IP6_LATER_EXT;
	const size_t at = f->len;
	uint8_t head[12] = { nests ? IPPROTO_DSTOPTS : q->proto };
	uint16_t payload_be;

	put_u8(f, 0x60);
	put(f, "\0\0\0\0\0", 5);
	put_u8(f, q->ip == IP6_PLAIN ? q->proto : firsts[q->ip]);
	put_u8(f, 64);
	put(f, q->src.bytes, 16);
	put(f, q->dst.bytes, 16);
	head[1] = q->ip == IP6_AH;
	head[3] = first ? 1 : /* more */
			  q->ip == IP6_LATER || q->ip == IP6_LATER_EXT ? 5 << 3 :
									 0;
	if (q->ip != IP6_PLAIN)
		put(f, head, q->ip == IP6_AH ? 12 : 8);
	if (q->ip == IP6_TWO)
		put(f, (uint8_t[8]){ q->proto }, 8);
	if (q->ip == IP6_PORTLESS) /* 16 bytes of options, of which 8 come with the next one */
		put(f, (uint8_t[8]){ q->proto, 1 }, 8);
	else if (q->ip == IP6_HIDES) /* 8 of them, and the next one has more */
		put(f, (uint8_t[8]){ IPPROTO_DSTOPTS }, 8);
	else
		put_payload(f, q);
	payload_be = htons((uint16_t)(f->len - at - 40));
	memcpy(f->bytes + at + 4, &payload_be, sizeof(payload_be));
}

static inline void put_tag(struct frame *f, unsigned int type)
{
	put_u16(f, type);
	put_u16(f, 7);
}

static inline void put_pppoe(struct frame *f, bool ip6, bool is_short)
{
	put_u16(f, 0x8864);
	put(f, "\x11\x00\x00\x01\x00\x30", 6);
	if (is_short)
		put_u8(f, ip6 ? 0x57 : 0x21);
	else
		put_u16(f, ip6 ? 0x57 : 0x21);
}

/* What stands between the addresses of the link and the IP header. */
static inline void put_types(struct frame *f, const struct query *q)
{
	const bool ip6 = query_is_ip6(q);
	const unsigned int type = ip6 ? 0x86dd : 0x0800;

	switch (q->wrap) {
	case WRAP_BARE:
	case WRAP_BARE_LYING:
		return;
	case WRAP_PLAIN:
	case WRAP_LYING:
	case WRAP_OTHER_IP:
		break;
	case WRAP_TAGGED:
	case WRAP_VLAN:
	case WRAP_VLAN_LYING:
		put_tag(f, 0x8100);
		break;
	case WRAP_SVLAN:
		put_tag(f, 0x88a8);
		break;
	case WRAP_OLDVLAN:
		put_tag(f, 0x9100);
		break;
	case WRAP_THREE_VLANS:
		put_tag(f, 0x8100); /* fall through */
	case WRAP_TWO_VLANS:
		put_tag(f, 0x8100);
		put_tag(f, 0x8100);
		break;
	case WRAP_QINQ:
		put_tag(f, 0x88a8);
		put_tag(f, 0x8100);
		break;
	case WRAP_QINQ_PPPOE:
		put_tag(f, 0x88a8); /* fall through */
	case WRAP_VLAN_PPPOE:
		put_tag(f, 0x8100); /* fall through */
	case WRAP_PPPOE:
	case WRAP_PPPOE_SHORT:
		put_pppoe(f, ip6, q->wrap == WRAP_PPPOE_SHORT);
		return;
	case WRAP_SNAP:
		put_u16(f, 100); /* a length */
		put(f, "\xaa\xaa\x03\0\0\0", 6);
		break;
	case WRAPS:
		return;
	}
	put_u16(f, type);
}

/* A frame of a packet socket, on eth0, and where its IP header is. */
static inline struct frame frame_of(const struct query *q, size_t *ret_ip_at)
{
	const bool bare = q->wrap == WRAP_BARE || q->wrap == WRAP_BARE_LYING;
	const uint16_t type = query_is_ip6(q) ? 0x86dd : 0x0800;
	struct frame f = { .link = "eth0", .ether_len = bare ? 0 : ETHER_LEN };

	if (!bare)
		put(&f, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	put_types(&f, q);
	*ret_ip_at = f.len;
	f.network_at = q->wrap == WRAP_TAGGED ? f.len : f.ether_len;
	f.called = q->wrap == WRAP_LYING || q->wrap == WRAP_BARE_LYING ? 0x88b5 :
		   q->wrap == WRAP_OTHER_IP ? (type == 0x0800 ? 0x86dd : 0x0800) :
		   q->wrap == WRAP_VLAN_LYING || q->wrap <= WRAP_BARE ?
					      type :
					      (uint16_t)(f.bytes[12] << 8 | f.bytes[13]);
	if (query_is_ip6(q))
		put_ip6(&f, q);
	else
		put_ip4(&f, q);
	return f;
}

#endif
