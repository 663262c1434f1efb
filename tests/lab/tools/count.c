/*
 * count - how many packets to each address arrive over a link
 *
 *	count LINK ADDRESS...
 *
 * Prints "ready" once it counts.  For every line on standard input it prints
 * one line: for each address the number of packets since the start.
 *
 * One packet socket an address, with a filter in the kernel, and nobody who
 * reads from it: the kernel's own statistics count what it queued and what it
 * had no room for alike, so that no speed is too high to be counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <sys/socket.h>

#include "private_netns.h"

#define MAX_ADDRESSES 32

/* Offsets from the IP header: a SOCK_DGRAM packet socket has no link header. */
#define IP4_DADDR 16
#define IP6_DADDR 24

struct counter {
	int fd;
	unsigned long long packets;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Accept what arrives (not what leaves) for these 4 or 16 bytes of destination. */
static void attach_filter(int fd, const uint8_t *address, size_t len)
{
	const unsigned int words = (unsigned int)len / 4;
	const uint8_t reject = (uint8_t)(2 * words + 1);
	struct sock_filter code[16], *next = code;
	struct sock_fprog program = { .filter = code };
	uint32_t word;

	*next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS,
					       (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE));
	*next++ =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, reject, 0);
	for (unsigned int i = 0; i < words; i++) {
		memcpy(&word, address + i * 4, 4);
		*next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						       (len == 4 ? IP4_DADDR : IP6_DADDR) + i * 4);
		*next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(word), 0,
						       (uint8_t)(reject - 2 * i - 2));
	}
	*next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 64);
	*next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	program.len = (unsigned short)(next - code);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("filter");
}

static int open_counter(const char *link, const char *text)
{
	struct sockaddr_ll where = { .sll_family = AF_PACKET };
	uint8_t address[16];
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	where.sll_ifindex = (int)if_nametoindex(link);
	if (fd < 0 || !where.sll_ifindex)
		die(link);
	if (inet_pton(AF_INET, text, address) == 1) {
		where.sll_protocol = htons(ETH_P_IP);
		attach_filter(fd, address, 4);
	} else if (inet_pton(AF_INET6, text, address) == 1) {
		where.sll_protocol = htons(ETH_P_IPV6);
		attach_filter(fd, address, 16);
	} else {
		fprintf(stderr, "%s: expected an address\n", text);
		exit(2);
	}
	if (bind(fd, (void *)&where, sizeof(where)))
		die("bind");
	return fd;
}

/* The kernel adds the packets it had no room for to tp_packets, and starts again at 0. */
static void read_counter(struct counter *c)
{
	struct tpacket_stats stats;
	socklen_t len = sizeof(stats);

	if (getsockopt(c->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len))
		die("statistics");
	c->packets += stats.tp_packets;
}

int main(int argc, char **argv)
{
	struct counter counters[MAX_ADDRESSES] = { 0 };
	const int n = argc - 2;
	char line[64];

	if (n < 1 || n > MAX_ADDRESSES)
		return 2;
	for (int i = 0; i < n; i++)
		counters[i].fd = open_counter(argv[1], argv[i + 2]);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		for (int i = 0; i < n; i++) {
			read_counter(&counters[i]);
			printf("%s%llu", i ? " " : "", counters[i].packets);
		}
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
