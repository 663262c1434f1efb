/*
 * flood - send as fast as possible to every address given, and say what became of it
 *
 *	flood [-n COUNT] [-f] ADDRESS...
 *
 * UDP to ports 53 and 853 in turn, by sendmmsg(2).  With -f later fragments of
 * UDP instead, which have no port, from a raw socket.  Does COUNT batches for each
 * address; without -n goes on until standard input ends or LIMIT_S have passed.
 * Prints "ready" once the first batch is out, and at the end for each address:
 *	ADDRESS sent N refused M other K ERRNO
 * refused: EPERM, which is what netfilter's drop looks like to a local sender.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "private_netns.h"

#define BATCH	16 /* messages a system call; a refusal ends a call early */
#define LIMIT_S 3600
#define MAX_TO	16

struct target {
	const char *text;
	int fd;
	struct sockaddr_storage to[2]; /* one a port */
	socklen_t to_len;
	char packet[128];
	size_t packet_len;
	unsigned long sent, refused, other;
	int other_errno;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void set_address(struct target *t, int i, uint16_t port)
{
	struct sockaddr_in *v4 = (void *)&t->to[i];
	struct sockaddr_in6 *v6 = (void *)&t->to[i];

	if (inet_pton(AF_INET, t->text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		t->to_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, t->text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		t->to_len = sizeof(*v6);
	} else {
		fprintf(stderr, "%s: expected an address\n", t->text);
		exit(2);
	}
}

/* A later fragment: IPv4 by the kernel's header with our offset, IPv6 by our extension header. */
static void make_fragment(struct target *t)
{
	const struct sockaddr_in *to = (void *)&t->to[0];
	struct iphdr *ip = (void *)t->packet;
	struct ip6_frag *frag = (void *)t->packet;
	int one = 1;

	if (t->to[0].ss_family == AF_INET) {
		t->fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
		*ip = (struct iphdr){ .version = 4,
				      .ihl = 5,
				      .ttl = 64,
				      .protocol = IPPROTO_UDP,
				      .frag_off = htons(8),
				      .daddr = to->sin_addr.s_addr };
		t->packet_len = 64;
		if (t->fd < 0 || setsockopt(t->fd, IPPROTO_IP, IP_HDRINCL, &one, sizeof(one)))
			die("raw socket");
	} else {
		t->fd = socket(AF_INET6, SOCK_RAW, IPPROTO_FRAGMENT);
		*frag = (struct ip6_frag){ .ip6f_nxt = IPPROTO_UDP, .ip6f_offlg = htons(64) };
		t->packet_len = 64;
		if (t->fd < 0)
			die("raw socket");
	}
	/* A raw socket takes no port but 0. */
	((struct sockaddr_in6 *)&t->to[0])->sin6_port = 0;
	t->to[1] = t->to[0];
}

static void set_up(struct target *t, bool fragments)
{
	static const char payload[] = "leak me, if you can";

	set_address(t, 0, 53);
	set_address(t, 1, 853);
	if (fragments) {
		make_fragment(t);
		return;
	}
	t->fd = socket(t->to[0].ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		die("socket");
	memcpy(t->packet, payload, sizeof(payload));
	t->packet_len = sizeof(payload);
}

/* One batch, every message tried once. */
static void send_batch(struct target *t)
{
	struct iovec iov = { t->packet, t->packet_len };
	struct mmsghdr messages[BATCH];
	int done = 0;

	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_name = &t->to[i & 1],
							     .msg_namelen = t->to_len,
							     .msg_iov = &iov,
							     .msg_iovlen = 1 } };
	while (done < BATCH) {
		const int n = sendmmsg(t->fd, messages + done, (unsigned int)(BATCH - done), 0);

		if (n > 0) {
			t->sent += (unsigned long)n;
			done += n;
			continue;
		}
		done++;
		if (errno == EPERM) {
			t->refused++;
		} else {
			t->other++;
			t->other_errno = errno;
		}
	}
}

static bool is_input_over(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int main(int argc, char **argv)
{
	static struct target targets[MAX_TO];
	unsigned long batches = 0;
	bool fragments = false;
	const time_t end = time(NULL) + LIMIT_S;
	int letter, n = 0;

	while ((letter = getopt(argc, argv, "fn:")) != -1) {
		if (letter == 'f')
			fragments = true;
		else if (letter == 'n')
			batches = strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	for (; optind < argc && n < MAX_TO; optind++, n++) {
		targets[n].text = argv[optind];
		set_up(&targets[n], fragments);
	}
	for (unsigned long done = 0; !batches || done < batches; done++) {
		for (int i = 0; i < n; i++)
			send_batch(&targets[i]);
		if (!done) {
			puts("ready");
			fflush(stdout);
		}
		if (!batches && done % 64 == 63 && (is_input_over() || time(NULL) > end))
			break;
	}
	for (int i = 0; i < n; i++)
		printf("%s sent %lu refused %lu other %lu %s\n", targets[i].text, targets[i].sent,
		       targets[i].refused, targets[i].other, strerror(targets[i].other_errno));
	return 0;
}
