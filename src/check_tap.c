#include "check_tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "check_packet.h"

#define RCVBUF_BYTES (4 << 20) /* some thousand packets */
#define A_READ	     65536     /* packets that one call takes at most */
#define LEN(array)   (sizeof(array) / sizeof((array)[0]))

/*
 * Without link header (SOCK_DGRAM): IPv4 without options and IPv6 without
 * extension headers; datagrams with the flags and counts of our queries, and later
 * fragments with their label's start; TCP from our ports.  X is where the transport
 * header, or the fragment's payload, starts; jumps count from the next line.
 */
static int attach_filter(int fd, uint16_t base_port, uint16_t block)
{
	struct sock_filter code[] = {
		/* 0 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 26),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x45, 0, 5),
		BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 20),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
		/* 6 */ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 11, 0),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_STMT(BPF_JMP | BPF_JA, 5),
		/* 9, IPv6 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x60, 0, 17),
		BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_FRAGMENT, 3, 0),
		/* 14, protocol */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CHECK_PACKET_OTHER, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 7, 11),
		/* 17, fragments */ BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 48),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, CHECK_PACKET_LATER - 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17 << 8 | 'q', 7, 8),
		/* 20, datagrams */ BPF_STMT(BPF_LD | BPF_W | BPF_IND, 10), /* flags, one question */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x01000001, 0, 6),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 8 + CHECK_PACKET_WHOLE - 1),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17 << 8 | 'q', 3, 4),
		/* 24, TCP */ BPF_STMT(BPF_LD | BPF_H | BPF_IND, 0),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)(uint16_t) ~(block - 1)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, base_port, 0, 1),
		/* 27 */ BPF_STMT(BPF_RET | BPF_K, CHECK_PACKET_BYTES),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = { .len = LEN(code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

int check_tap_open(uint16_t base_port, uint16_t block, int *ret_fd)
{
	const struct sockaddr_ll all = { .sll_family = AF_PACKET,
					 .sll_protocol = htons(ETH_P_ALL) };
	const int bytes = RCVBUF_BYTES;
	/* No protocol: nothing comes before the filter is there. */
	const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	err = attach_filter(fd, base_port, block);
	if (!err && bind(fd, (const struct sockaddr *)&all, sizeof(all)))
		err = -errno;
	if (err)
		close(fd);
	else
		*ret_fd = fd;
	return err;
}

void check_tap_read(int fd, check_tap_fn *seen, void *ctx)
{
	uint8_t data[CHECK_PACKET_BYTES];

	for (int i = 0; i < A_READ; i++) {
		struct sockaddr_ll from = { .sll_ifindex = 0 };
		socklen_t from_len = sizeof(from);
		const ssize_t len = recvfrom(fd, data, sizeof(data), MSG_DONTWAIT,
					     (struct sockaddr *)&from, &from_len);
		struct check_packet packet;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			break; /* no more, or ENETDOWN of a link that has gone */
		if (check_packet_parse(data, (size_t)len, &packet))
			seen(ctx, &packet, from.sll_ifindex);
	}
}

bool check_tap_has_lost(int fd)
{
	struct tpacket_stats stats = { 0 };
	socklen_t len = sizeof(stats);

	return getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) || stats.tp_drops;
}
