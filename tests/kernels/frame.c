/*
 * frame - send name traffic in frames made here, which pass the IP stack by
 *
 *	frame [-s SECONDS] WAY LINK LABEL PORT IP4 IP6 [SHAPE]...
 *
 * One frame of each shape (default: all of them), then UDP to port 9 by both
 * families, which tells that there is no more to wait for.  The I-th shape has
 * the source port LABEL + I, later fragments that identification; what was
 * sent is printed, "20003 vlan4 udp" a line: what probe calls it where it is seen.
 * With -s again and again for so long.
 *
 * WAY: raw, dgram (the kernel makes the link-layer header), bypass (no queue),
 * ring (PACKET_TX_RING), lie (the socket says ARP), mute (it says nothing), or
 * shout (raw, to everybody).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "../lab/tools/private_netns.h"

#define PORT_MARK  9 /* discard: guarded by nobody */
#define FRAG_FIRST IP_MF
#define FRAG_LATER 185 /* in units of 8 bytes: after 1480 */
#define MAX_FRAME  256
#define RING_FRAME 2048
#define RING_BLOCK 4096
#define PPP_IP	   0x0021
#define PPP_IP6	   0x0057
#define PPP_LCP	   0xc021

/* What follows the link-layer header. */
enum body {
	BODY_UDP,
	BODY_TCP,
	BODY_OPTIONS, /* UDP behind options, or behind that extension header */
	BODY_FIRST,   /* the first fragment of UDP */
	BODY_LATER,   /* a later one */
	BODY_TINY,    /* a first one that ends inside the extension headers */
	BODY_AH,
	BODY_ICMP,
	BODY_OTHER, /* not IP */
};

struct shape {
	const char *name;
	int family;
	enum body body;
	uint8_t option;	  /* the extension header */
	uint16_t tags[4]; /* Ethernet types before IP's own */
};

static const struct shape shapes[] = {
	{ "udp4", 4, BODY_UDP, 0, { 0 } },
	{ "udp6", 6, BODY_UDP, 0, { 0 } },
	{ "tcp4", 4, BODY_TCP, 0, { 0 } },
	{ "tcp6", 6, BODY_TCP, 0, { 0 } },
	{ "options4", 4, BODY_OPTIONS, 0, { 0 } },
	{ "hop6", 6, BODY_OPTIONS, IPPROTO_HOPOPTS, { 0 } },
	{ "dest6", 6, BODY_OPTIONS, IPPROTO_DSTOPTS, { 0 } },
	{ "route6", 6, BODY_OPTIONS, IPPROTO_ROUTING, { 0 } },
	{ "first4", 4, BODY_FIRST, 0, { 0 } },
	{ "first6", 6, BODY_FIRST, 0, { 0 } },
	{ "later4", 4, BODY_LATER, 0, { 0 } },
	{ "later6", 6, BODY_LATER, 0, { 0 } },
	{ "tiny6", 6, BODY_TINY, 0, { 0 } },
	{ "vlan4", 4, BODY_UDP, 0, { 0x8100 } },
	{ "vlan6", 6, BODY_UDP, 0, { 0x8100 } },
	{ "vlan-options4", 4, BODY_OPTIONS, 0, { 0x8100 } },
	{ "vlan-hop6", 6, BODY_OPTIONS, IPPROTO_HOPOPTS, { 0x8100 } },
	{ "vlan-later4", 4, BODY_LATER, 0, { 0x8100 } },
	{ "vlan-later6", 6, BODY_LATER, 0, { 0x8100 } },
	{ "ad4", 4, BODY_TCP, 0, { 0x88a8 } },
	{ "qinq4", 4, BODY_UDP, 0, { 0x8100, 0x8100 } },
	{ "qinq6", 6, BODY_UDP, 0, { 0x88a8, 0x8100 } },
	{ "qinq-old4", 4, BODY_TCP, 0, { 0x9100, 0x8100 } },
	{ "qinq-later4", 4, BODY_LATER, 0, { 0x88a8, 0x8100 } },
	{ "pppoe4", 4, BODY_UDP, 0, { 0x8864 } },
	{ "pppoe6", 6, BODY_TCP, 0, { 0x8864 } },
	{ "pppoe-later4", 4, BODY_LATER, 0, { 0x8864 } },
	{ "vlan-pppoe4", 4, BODY_UDP, 0, { 0x8100, 0x8864 } },
	{ "vlan-pppoe6", 6, BODY_UDP, 0, { 0x8100, 0x8864 } },
	{ "ah4", 4, BODY_AH, 0, { 0 } },
	{ "ah6", 6, BODY_AH, 0, { 0 } },
	{ "three4", 4, BODY_UDP, 0, { 0x8100, 0x8100, 0x8100 } },
	/* No name traffic, whatever the port. */
	{ "icmp4", 4, BODY_ICMP, 0, { 0 } },
	{ "icmp6", 6, BODY_ICMP, 0, { 0 } },
	{ "vlan-icmp4", 4, BODY_ICMP, 0, { 0x8100 } },
	{ "qinq-icmp6", 6, BODY_ICMP, 0, { 0x88a8, 0x8100 } },
	{ "pppoe-icmp4", 4, BODY_ICMP, 0, { 0x8864 } },
	{ "lcp", 0, BODY_OTHER, 0, { 0x8864 } },
	{ "padi", 0, BODY_OTHER, 0, { 0x8863 } },
	{ "odd", 0, BODY_OTHER, 0, { 0x88b5 } },
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

struct frame {
	uint8_t data[MAX_FRAME];
	size_t len;
};

static struct in_addr to4;
static struct in6_addr to6;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* --- what a frame is made of --- */

static void put(struct frame *f, const void *data, size_t len)
{
	if (f->len + len > sizeof(f->data))
		abort();
	memcpy(f->data + f->len, data, len);
	f->len += len;
}

static void put16(struct frame *f, uint16_t value)
{
	const uint16_t be = htons(value);

	put(f, &be, sizeof(be));
}

static uint16_t checksum(const void *data, size_t len)
{
	const uint8_t *at = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static uint16_t ip_type(const struct shape *s)
{
	return s->family == 4 ? ETH_P_IP : ETH_P_IPV6;
}

/* A tag is followed by 7, a PPPoE session by its header. */
static void put_link(struct frame *f, const struct shape *s, const uint8_t mac[ETH_ALEN],
		     const uint8_t to[ETH_ALEN])
{
	static const uint8_t session[] = { 0x11, 0, 0, 1, 0, 60 };

	put(f, to, ETH_ALEN);
	put(f, mac, ETH_ALEN);
	for (int i = 0; s->tags[i]; i++) {
		put16(f, s->tags[i]);
		if (s->tags[i] == 0x8864) {
			put(f, session, sizeof(session));
			put16(f, s->family == 4 ? PPP_IP : s->family ? PPP_IP6 : PPP_LCP);
			return;
		}
		if (s->family)
			put16(f, 7);
	}
	if (s->family)
		put16(f, ip_type(s));
}

static uint8_t protocol(const struct shape *s)
{
	switch (s->body) {
	case BODY_TCP:
		return IPPROTO_TCP;
	case BODY_ICMP:
		return s->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	case BODY_AH:
		return IPPROTO_AH;
	default:
		return IPPROTO_UDP;
	}
}

static void put_ip4(struct frame *f, const struct shape *s, size_t payload, uint16_t label)
{
	static const uint8_t nops[] = { 1, 1, 1, 0 };
	struct {
		struct iphdr ip;
		uint8_t options[sizeof(nops)];
	} h = { .ip = { .version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = protocol(s),
			.id = htons(label),
			.saddr = htonl(0xc0000202),
			.daddr = to4.s_addr } };

	if (s->body == BODY_OPTIONS) {
		h.ip.ihl = 6;
		memcpy(h.options, nops, sizeof(nops));
	}
	if (s->body == BODY_FIRST)
		h.ip.frag_off = htons(FRAG_FIRST);
	if (s->body == BODY_LATER)
		h.ip.frag_off = htons(FRAG_LATER);
	h.ip.tot_len = htons((uint16_t)(h.ip.ihl * 4U + payload));
	h.ip.check = checksum(&h, h.ip.ihl * 4U);
	put(f, &h, h.ip.ihl * 4U);
}

/* The extension header, if any, is 8 bytes long. */
static void put_ip6(struct frame *f, const struct shape *s, size_t payload, uint16_t label)
{
	const uint8_t pad[8] = { IPPROTO_UDP, 0, 1,
				 4 }; /* as a routing header: type 1, none left */
	struct ip6_frag frag = { .ip6f_nxt = IPPROTO_UDP, .ip6f_ident = htonl(label) };
	struct ip6_hdr ip = { .ip6_flow = htonl(6U << 28), .ip6_hlim = 64, .ip6_dst = to6 };
	const bool is_fragment =
		s->body == BODY_FIRST || s->body == BODY_LATER || s->body == BODY_TINY;

	inet_pton(AF_INET6, "2001:db8:2::2", &ip.ip6_src);
	ip.ip6_nxt = protocol(s);
	if (s->body == BODY_OPTIONS)
		ip.ip6_nxt = s->option;
	if (is_fragment)
		ip.ip6_nxt = IPPROTO_FRAGMENT;
	ip.ip6_plen = htons((uint16_t)(payload + (ip.ip6_nxt != protocol(s) ? 8 : 0)));
	put(f, &ip, sizeof(ip));
	if (s->body == BODY_OPTIONS)
		put(f, pad, sizeof(pad));
	if (s->body == BODY_LATER)
		frag.ip6f_offlg = htons(FRAG_LATER << 3);
	if (s->body == BODY_FIRST || s->body == BODY_TINY)
		frag.ip6f_offlg = htons(1);
	if (s->body == BODY_TINY)
		frag.ip6f_nxt = IPPROTO_DSTOPTS;
	if (is_fragment)
		put(f, &frag, sizeof(frag));
}

/* As many bytes as put_payload() puts. */
static size_t payload_len(const struct shape *s)
{
	return s->body == BODY_TINY ? 8 : s->body == BODY_AH ? 48 : 36;
}

static void put_payload(struct frame *f, const struct shape *s, uint16_t label, uint16_t port)
{
	/* Options of 24 bytes, of which 8 are in this fragment. */
	static const uint8_t tiny[8] = { IPPROTO_UDP, 2, 1, 20 };
	static const uint8_t ah[12] = { IPPROTO_UDP, 1 };
	const struct udphdr udp = {
		.source = htons(label), .dest = htons(port), .len = htons(36), .check = 0xffff
	};
	const struct tcphdr tcp = {
		.source = htons(label), .dest = htons(port), .doff = 5, .syn = 1
	};
	const struct icmphdr icmp = { .type = s->family == 4 ? ICMP_ECHO : 128,
				      .un.echo.id = htons(label) };
	uint8_t rest[36] = { 0 };

	if (s->body == BODY_TINY) {
		put(f, tiny, sizeof(tiny));
		return;
	}
	if (s->body == BODY_AH)
		put(f, ah, sizeof(ah));
	if (s->body == BODY_TCP)
		memcpy(rest, &tcp, sizeof(tcp));
	else if (s->body == BODY_ICMP)
		memcpy(rest, &icmp, sizeof(icmp));
	else
		memcpy(rest, &udp, sizeof(udp));
	put(f, rest, sizeof(rest));
}

/* --- the ways out --- */

struct way {
	const char *name;
	int type;
	int protocol;	/* what the socket says of frames; -1: the truth */
	bool is_bypass; /* no queueing discipline */
	bool is_ring;
	bool is_broadcast;
};

static const struct way ways[] = {
	{ .name = "raw", .type = SOCK_RAW, .protocol = -1 },
	{ .name = "dgram", .type = SOCK_DGRAM, .protocol = -1 },
	{ .name = "bypass", .type = SOCK_RAW, .protocol = -1, .is_bypass = true },
	{ .name = "ring", .type = SOCK_RAW, .protocol = -1, .is_ring = true },
	{ .name = "lie", .type = SOCK_RAW, .protocol = ETH_P_ARP },
	{ .name = "mute", .type = SOCK_RAW, .protocol = 0 },
	{ .name = "shout", .type = SOCK_RAW, .protocol = -1, .is_broadcast = true },
};

struct sender {
	const struct way *way;
	int fd;
	struct sockaddr_ll to;
	uint8_t mac[ETH_ALEN]; /* the link's own */
	uint8_t *ring;
};

static void open_ring(struct sender *s)
{
	const struct tpacket_req size = { RING_BLOCK, 1, RING_FRAME, RING_BLOCK / RING_FRAME };

	if (setsockopt(s->fd, SOL_PACKET, PACKET_TX_RING, &size, sizeof(size)))
		die("PACKET_TX_RING");
	s->ring = mmap(NULL, RING_BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (s->ring == MAP_FAILED)
		die("mmap");
}

static void open_sender(struct sender *s, const char *link)
{
	const int one = 1;
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", link);
	s->to = (struct sockaddr_ll){ .sll_family = AF_PACKET,
				      .sll_halen = ETH_ALEN,
				      .sll_addr = { 2, 0, 0, 0, 0, 9 }, /* nobody's */
				      .sll_ifindex = (int)if_nametoindex(link) };
	if (s->way->is_broadcast)
		memset(s->to.sll_addr, 0xff, ETH_ALEN);
	s->fd = socket(AF_PACKET, s->way->type | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || !s->to.sll_ifindex || ioctl(s->fd, SIOCGIFHWADDR, &ifr))
		die(link);
	memcpy(s->mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	if (s->way->is_bypass &&
	    setsockopt(s->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
		die("PACKET_QDISC_BYPASS");
	if (s->way->is_ring)
		open_ring(s);
}

/* One frame at a time: what was sent is waited for. */
static ssize_t send_by_ring(struct sender *s, const struct frame *f)
{
	struct tpacket_hdr *head = (void *)s->ring;
	static unsigned int next; /* what was dropped leaves its place to the next one */
	ssize_t n;

	head = (void *)(s->ring + next % (RING_BLOCK / RING_FRAME) * RING_FRAME);
	memcpy((uint8_t *)head + TPACKET_HDRLEN - sizeof(struct sockaddr_ll), f->data, f->len);
	head->tp_len = (unsigned int)f->len;
	head->tp_status = TP_STATUS_SEND_REQUEST;
	n = sendto(s->fd, NULL, 0, 0, (void *)&s->to, sizeof(s->to));
	next += n >= 0;
	return n;
}

static void send_frame(struct sender *s, const struct frame *f)
{
	const size_t head = s->way->type == SOCK_DGRAM ? ETH_HLEN : 0;
	uint16_t type;
	ssize_t n;

	memcpy(&type, f->data + ETH_HLEN - sizeof(type), sizeof(type));
	s->to.sll_protocol = s->way->protocol < 0 ? type : htons((uint16_t)s->way->protocol);
	if (s->way->is_ring)
		n = send_by_ring(s, f);
	else
		n = sendto(s->fd, f->data + head, f->len - head, 0, (void *)&s->to, sizeof(s->to));
	/* What is dropped where it leaves is ENOBUFS to some. */
	if (n < 0 && errno != ENOBUFS)
		die("sendto");
}

static void build(struct frame *f, const struct shape *s, const struct sender *by, uint16_t label,
		  uint16_t port)
{
	f->len = 0;
	put_link(f, s, by->mac, by->to.sll_addr);
	if (s->family == 4)
		put_ip4(f, s, payload_len(s), label);
	if (s->family == 6)
		put_ip6(f, s, payload_len(s), label);
	if (s->family)
		put_payload(f, s, label, port);
	else
		put16(f, label);
}

/* What probe sees in it. */
static const char *kind(const struct shape *s)
{
	switch (s->body) {
	case BODY_TCP:
		return "tcp";
	case BODY_LATER:
	case BODY_TINY:
		return "fragment";
	case BODY_ICMP:
		return "icmp";
	case BODY_OTHER:
		return "other";
	default:
		return "udp";
	}
}

static bool is_wanted(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

static void send_shapes(struct sender *s, uint16_t label, uint16_t port, char **names,
			bool is_first)
{
	struct frame f;

	for (size_t i = 0; i < SHAPES; i++) {
		if (!is_wanted(shapes[i].name, names))
			continue;
		build(&f, &shapes[i], s, (uint16_t)(label + i), port);
		send_frame(s, &f);
		if (is_first)
			printf("%zu %s %s\n", label + i, shapes[i].name, kind(&shapes[i]));
	}
}

static void send_marks(struct sender *s, uint16_t label)
{
	static const struct shape marks[] = { { "", 4, BODY_UDP, 0, { 0 } },
					      { "", 6, BODY_UDP, 0, { 0 } } };
	struct frame f;

	for (int i = 0; i < 2; i++) {
		build(&f, &marks[i], s, label, PORT_MARK);
		send_frame(s, &f);
	}
}

int main(int argc, char **argv)
{
	struct sender s = { 0 };
	unsigned long rounds = 0;
	time_t end = 0;
	uint16_t label;
	cpu_set_t first;

	if (argc > 2 && !strcmp(argv[1], "-s")) {
		end = time(NULL) + atoi(argv[2]);
		argc -= 2;
		argv += 2;
	}
	for (size_t i = 0; argc > 6 && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(argv[1], ways[i].name))
			s.way = &ways[i];
	if (!s.way || inet_pton(AF_INET, argv[5], &to4) != 1 ||
	    inet_pton(AF_INET6, argv[6], &to6) != 1) {
		fputs("usage: frame [-s SECONDS] WAY LINK LABEL PORT IP4 IP6 [SHAPE]...\n", stderr);
		return 2;
	}
	label = (uint16_t)atoi(argv[3]);
	/* On one CPU, so that what was sent last arrives last. */
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	open_sender(&s, argv[2]);
	do
		send_shapes(&s, label, (uint16_t)atoi(argv[4]), argv + 7, !rounds++);
	while (time(NULL) < end);
	send_marks(&s, label);
	if (end)
		fprintf(stderr, "%lu rounds\n", rounds);
	return 0;
}
