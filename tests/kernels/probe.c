/*
 * probe - send name traffic, and see where packets come out
 *
 *	probe send LABEL PORT IP4 IP6	UDP and a TCP SYN to PORT, then UDP to port 9: four and two
 *					packets, all from the source port LABEL
 *	probe big LABEL PORT IP		UDP in three fragments that are made here
 *	probe large LABEL PORT IP	UDP in fragments that the kernel makes
 *	probe see LINK			one line for each packet that arrives on LINK
 *	probe tun LINK			the same for a tun device, which lives as long as this
 *	probe serve IP PORT		answer each datagram with itself
 *	probe espinudp IP PORT		take UDP to there for ESP (RFC 3948), as an IKE daemon does
 *	probe ask IP PORT		what a query meets: "answer", "refused" or "silence"
 *
 * Lines are "udp 192.0.2.1 53 40001": protocol, destination, its port, source
 * port; "icmp 192.0.2.1 0 ID"; "esp 192.0.2.1 0 ID"; "fragment 192.0.2.1 0 ID" for
 * a later one, and "other 8863 0 ID" for what is not IP, with its type.  Tags,
 * PPPoE and authentication headers are seen through.  see, tun, serve and espinudp
 * say "ready".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <linux/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../lab/tools/private_netns.h"

#define PORT_MARK  9 /* discard: guarded by nobody */
#define ASK_MS	   2000
#define PIECE	   1000 /* bytes of each fragment, a multiple of 8 */
#define PIECES	   3
#define RCVBUF	   (8 << 20)
#define MAX_PACKET 65536
#define AH_UNIT	   4 /* of its length, which counts from its third word (RFC 4302) */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* The family of an address, which is put into `ret` with the port; 0: it is none. */
static socklen_t parse(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	fprintf(stderr, "%s: expected an address\n", text);
	exit(2);
}

static uint16_t number(const char *text)
{
	return (uint16_t)strtoul(text, NULL, 10);
}

/* --- sending --- */

/* What netfilter drops on its way out is EPERM; that is not our business here. */
static void send_one(int type, const char *address, uint16_t port, uint16_t from, const void *data,
		     size_t data_len)
{
	struct sockaddr_storage to, any = { 0 };
	const socklen_t len = parse(address, port, &to);
	const int one = 1, fd = socket(to.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	any.ss_family = to.ss_family;
	((struct sockaddr_in *)&any)->sin_port = htons(from);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (void *)&any, len))
		die("bind");
	if (type == SOCK_STREAM)
		(void)!connect(fd, (void *)&to, len);
	else
		(void)!sendto(fd, data, data_len, 0, (void *)&to, len);
	close(fd);
}

/* On one CPU, so that what was sent last arrives last. */
static int probe_send(char **args)
{
	const uint16_t from = number(args[0]), port = number(args[1]);
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof(first), &first);
	for (int i = 2; i < 4; i++) {
		send_one(SOCK_DGRAM, args[i], port, from, "leak me", 7);
		send_one(SOCK_STREAM, args[i], port, from, NULL, 0);
	}
	for (int i = 2; i < 4; i++)
		send_one(SOCK_DGRAM, args[i], PORT_MARK, from, "leak me", 7);
	return 0;
}

/* A UDP header that is right but for its checksum: IPv4 has none then, IPv6 must not look. */
static void fill_udp(uint8_t *data, uint16_t from, uint16_t port)
{
	const uint16_t words[] = { htons(from), htons(port), htons(PIECE * PIECES), 0 };

	memset(data, 'x', PIECE * PIECES);
	memcpy(data, words, sizeof(words));
}

static void send_piece4(int fd, const struct sockaddr_storage *to, const uint8_t *data, int piece,
			uint16_t id)
{
	const struct sockaddr_in *v4 = (const void *)to;
	struct {
		struct iphdr ip;
		uint8_t data[PIECE];
	} packet = { .ip = { .version = 4,
			     .ihl = 5,
			     .ttl = 64,
			     .protocol = IPPROTO_UDP,
			     .id = htons(id),
			     .frag_off = htons((uint16_t)(piece * PIECE / 8 +
							  (piece + 1 < PIECES ? IP_MF : 0))),
			     .daddr = v4->sin_addr.s_addr } };

	memcpy(packet.data, data, PIECE);
	(void)!sendto(fd, &packet, sizeof(packet), 0, (const void *)to, sizeof(*v4));
}

static void send_piece6(int fd, struct sockaddr_storage *to, const uint8_t *data, int piece,
			uint16_t id)
{
	struct {
		struct ip6_frag frag;
		uint8_t data[PIECE];
	} packet = { .frag = { .ip6f_nxt = IPPROTO_UDP,
			       .ip6f_offlg = htons(
				       (uint16_t)(piece * PIECE + (piece + 1 < PIECES ? 1 : 0))),
			       .ip6f_ident = htonl(id) } };

	((struct sockaddr_in6 *)to)->sin6_port = 0; /* a raw socket takes no other */
	memcpy(packet.data, data, PIECE);
	(void)!sendto(fd, &packet, sizeof(packet), 0, (void *)to, sizeof(struct sockaddr_in6));
}

/* One datagram that the kernel cuts. */
static int probe_large(char **args)
{
	static uint8_t data[PIECE * PIECES];

	send_one(SOCK_DGRAM, args[2], number(args[1]), number(args[0]), data, sizeof(data));
	return 0;
}

static int probe_big(char **args)
{
	static uint8_t data[PIECE * PIECES];
	const uint16_t from = number(args[0]);
	struct sockaddr_storage to;
	int fd;

	parse(args[2], 0, &to);
	fill_udp(data, from, number(args[1]));
	fd = to.ss_family == AF_INET ? socket(AF_INET, SOCK_RAW, IPPROTO_RAW) :
				       socket(AF_INET6, SOCK_RAW, IPPROTO_FRAGMENT);
	if (fd < 0)
		die("raw socket");
	for (int i = 0; i < PIECES; i++) {
		if (to.ss_family == AF_INET)
			send_piece4(fd, &to, data + i * PIECE, i, from);
		else
			send_piece6(fd, &to, data + i * PIECE, i, from);
	}
	return 0;
}

/* --- seeing --- */

static void print_line(const char *what, int family, const void *address, unsigned int port,
		       unsigned int from)
{
	char text[INET6_ADDRSTRLEN];

	printf("%s %s %u %u\n", what, inet_ntop(family, address, text, sizeof(text)), port, from);
}

static void print_packet(int family, const void *address, uint8_t proto, const uint8_t *th,
			 size_t left)
{
	uint16_t ports[4];

	if (left < sizeof(ports))
		return;
	memcpy(ports, th, sizeof(ports));
	if (proto == IPPROTO_UDP || proto == IPPROTO_TCP)
		print_line(proto == IPPROTO_UDP ? "udp" : "tcp", family, address, ntohs(ports[1]),
			   ntohs(ports[0]));
	else if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		print_line("icmp", family, address, 0, ntohs(ports[2]));
	else if (proto == IPPROTO_ESP)
		print_line("esp", family, address, 0, ntohs(ports[1]));
}

/* Behind an authentication header is what it protects. */
static void print_ip4(const uint8_t *packet, size_t len)
{
	struct iphdr ip;
	size_t at;

	if (len < sizeof(ip))
		return;
	memcpy(&ip, packet, sizeof(ip));
	at = ip.ihl * 4U;
	if (ntohs(ip.frag_off) & IP_OFFMASK) {
		print_line("fragment", AF_INET, &ip.daddr, 0, ntohs(ip.id));
		return;
	}
	if (ip.protocol == IPPROTO_AH && len > at + 1) {
		ip.protocol = packet[at];
		at += (packet[at + 1] + 2U) * AH_UNIT;
	}
	if (len > at)
		print_packet(AF_INET, &ip.daddr, ip.protocol, packet + at, len - at);
}

/* The extension headers' lengths, but that of an authentication header, are in units of 8. */
static void print_ip6(const uint8_t *packet, size_t len)
{
	struct ip6_hdr ip;
	struct ip6_frag frag = { 0 };
	size_t at = sizeof(ip);
	uint8_t proto;

	if (len < sizeof(ip))
		return;
	memcpy(&ip, packet, sizeof(ip));
	proto = ip.ip6_nxt;
	while (len >= at + sizeof(frag) &&
	       (proto == IPPROTO_HOPOPTS || proto == IPPROTO_DSTOPTS || proto == IPPROTO_ROUTING ||
		proto == IPPROTO_FRAGMENT || proto == IPPROTO_AH)) {
		const uint8_t *head = packet + at;

		at += proto == IPPROTO_AH	? (head[1] + 2U) * AH_UNIT :
		      proto == IPPROTO_FRAGMENT ? sizeof(frag) :
						  (head[1] + 1U) * 8;
		if (proto == IPPROTO_FRAGMENT)
			memcpy(&frag, head, sizeof(frag));
		proto = head[0];
	}
	if (ntohs(frag.ip6f_offlg) >> 3 || at > len)
		print_line("fragment", AF_INET6, &ip.ip6_dst, 0, ntohl(frag.ip6f_ident));
	else
		print_packet(AF_INET6, &ip.ip6_dst, proto, packet + at, len - at);
}

static void print_ip(const uint8_t *packet, size_t len)
{
	if (len && packet[0] >> 4 == 4)
		print_ip4(packet, len);
	else if (len && packet[0] >> 4 == 6)
		print_ip6(packet, len);
}

static uint16_t two_bytes(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* What follows the link-layer header: tags, a PPPoE session, IP, or else a number. */
static void print_frame(uint16_t type, const uint8_t *packet, size_t len)
{
	size_t at = 0;

	for (;;) {
		if ((type == ETH_P_8021Q || type == ETH_P_8021AD || type == 0x9100) &&
		    len >= at + 4) {
			type = two_bytes(packet + at + 2);
			at += 4;
		} else if (type == ETH_P_PPP_SES && len >= at + 8) {
			type = two_bytes(packet + at + 6);
			type = type == 0x21 ? ETH_P_IP : type == 0x57 ? ETH_P_IPV6 : type;
			at += 8;
		} else {
			break;
		}
	}
	if (type == ETH_P_IP || type == ETH_P_IPV6)
		print_ip(packet + at, len - at);
	else if (len >= at + 2)
		printf("other %04x 0 %u\n", type, two_bytes(packet + at));
}

static int probe_see(char **args)
{
	static uint8_t packet[MAX_PACKET];
	struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct sockaddr_ll from = { 0 };
	socklen_t len = sizeof(from);
	ssize_t n;
	const int size = RCVBUF, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	where.sll_ifindex = (int)if_nametoindex(args[0]);
	if (fd < 0 || !where.sll_ifindex ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (void *)&where, sizeof(where)))
		die(args[0]);
	puts("ready");
	/* A link that goes down is one error; it may come up again. */
	while ((n = recvfrom(fd, packet, sizeof(packet), 0, (void *)&from, &len)) >= 0 ||
	       errno == ENETDOWN) {
		if (n < 0 || from.sll_pkttype == PACKET_OUTGOING)
			;
		else if (from.sll_hatype != ARPHRD_ETHER)
			print_ip(packet, (size_t)n);
		else if (n > ETH_HLEN)
			print_frame(two_bytes(packet + 2 * ETH_ALEN), packet + ETH_HLEN,
				    (size_t)n - ETH_HLEN);
		len = sizeof(from);
	}
	die("recvfrom");
	return 1;
}

static int probe_tun(char **args)
{
	static uint8_t packet[MAX_PACKET];
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	ssize_t n;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", args[0]);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die(args[0]);
	puts("ready");
	while ((n = read(fd, packet, sizeof(packet))) >= 0 || errno == EBADFD)
		if (n > 0)
			print_ip(packet, (size_t)n);
	die("read");
	return 1;
}

/* --- asking --- */

static int probe_serve(char **args)
{
	char datagram[2048];
	struct sockaddr_storage at, from;
	socklen_t len = sizeof(from);
	ssize_t n;
	const socklen_t at_len = parse(args[0], number(args[1]), &at);
	const int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (void *)&at, at_len))
		die("bind");
	puts("ready");
	while ((n = recvfrom(fd, datagram, sizeof(datagram), 0, (void *)&from, &len)) >= 0) {
		(void)!sendto(fd, datagram, (size_t)n, 0, (void *)&from, len);
		len = sizeof(from);
	}
	die("recvfrom");
	return 1;
}

static int probe_espinudp(char **args)
{
	struct sockaddr_storage at;
	const socklen_t at_len = parse(args[0], number(args[1]), &at);
	const int type = UDP_ENCAP_ESPINUDP;
	const int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (void *)&at, at_len) ||
	    setsockopt(fd, IPPROTO_UDP, UDP_ENCAP, &type, sizeof(type)))
		die("espinudp");
	puts("ready");
	pause();
	return 1;
}

static int probe_ask(char **args)
{
	char answer[16];
	struct sockaddr_storage to;
	const socklen_t len = parse(args[0], number(args[1]), &to);
	const int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd in = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		die("socket");
	if (connect(fd, (void *)&to, len))
		die("connect");
	(void)!send(fd, "answer", 6, 0); /* what is dropped and what is refused is EPERM alike */
	if (poll(&in, 1, ASK_MS) < 1)
		puts("silence");
	else
		puts(recv(fd, answer, sizeof(answer), 0) == 6 ? "answer" : "refused");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*run)(char **args);
	} modes[] = {
		{ "send", 4, probe_send },   { "big", 3, probe_big },
		{ "large", 3, probe_large }, { "see", 1, probe_see },
		{ "tun", 1, probe_tun },     { "ask", 2, probe_ask },
		{ "serve", 2, probe_serve }, { "espinudp", 2, probe_espinudp },
	};

	setlinebuf(stdout);
	for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name) && argc == modes[i].args + 2)
			return modes[i].run(argv + 2);
	fputs("usage: probe send|big|large|see|tun|serve|espinudp|ask ARGUMENTS\n", stderr);
	return 2;
}
