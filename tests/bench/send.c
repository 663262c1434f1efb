/*
 * send - what it costs the sender to send small UDP packets, in CPU time
 *
 *	send [-m MARK] [-c CHUNKS] [-n PACKETS] ADDRESS@PORT...
 *
 * To each address in turn CHUNKS times PACKETS packets by sendmmsg(2).  On a veth
 * all that the kernel does with a packet, up to where the other end has it, is
 * done on the sender's time, so that its CPU time is the packet's cost, whatever
 * else the machine does meanwhile.  Prints for each address
 *	ADDRESS@PORT sent N refused M ns T...
 * with the CPU time of each chunk.  refused: EPERM, netfilter's drop of a local packet.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "private_netns.h"

#define BATCH	   50 /* messages a system call; a refusal ends a call early */
#define MAX_TO	   16
#define MAX_CHUNKS 1000

struct target {
	char *text;
	int fd;
	struct sockaddr_storage to;
	socklen_t to_len;
	unsigned long sent, refused;
	uint64_t ns[MAX_CHUNKS];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void set_up(struct target *t, char *text, unsigned int mark)
{
	struct sockaddr_in *v4 = (void *)&t->to;
	struct sockaddr_in6 *v6 = (void *)&t->to;
	char address[INET6_ADDRSTRLEN] = "";
	unsigned int port;

	t->text = text;
	if (sscanf(text, "%45[^@]@%u", address, &port) != 2)
		port = 0;
	if (port && inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		t->to_len = sizeof(*v4);
	} else if (port && inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		t->to_len = sizeof(*v6);
	} else {
		fprintf(stderr, "%s: expected ADDRESS@PORT\n", text);
		exit(2);
	}
	t->fd = socket(t->to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0 || connect(t->fd, (void *)&t->to, t->to_len))
		die(text);
	if (mark && setsockopt(t->fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		die("mark");
}

/* Every message is tried once. */
static void send_chunk(struct target *t, unsigned int packets)
{
	static char payload[32] = "neither query nor answer";
	struct iovec iov = { payload, sizeof(payload) };
	struct mmsghdr messages[BATCH];

	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	while (packets) {
		const unsigned int now = packets < BATCH ? packets : BATCH;
		const int n = sendmmsg(t->fd, messages, now, 0);

		if (n > 0) {
			t->sent += (unsigned long)n;
			packets -= (unsigned int)n;
			continue;
		}
		/* Of one before this: a reject's answer, by kind and family. */
		if (errno == ECONNREFUSED || errno == EACCES || errno == EHOSTUNREACH)
			continue;
		if (errno != EPERM)
			die(t->text);
		t->refused++;
		packets--;
	}
}

int main(int argc, char **argv)
{
	static struct target targets[MAX_TO];
	unsigned int mark = 0, chunks = 1, packets = 1;
	int letter, n = 0;

	while ((letter = getopt(argc, argv, "m:c:n:")) != -1) {
		const unsigned int value = optarg ? (unsigned int)strtoul(optarg, NULL, 0) : 0;

		if (letter == 'm')
			mark = value;
		else if (letter == 'c' && value && value <= MAX_CHUNKS)
			chunks = value;
		else if (letter == 'n' && value)
			packets = value;
		else
			return 2;
	}
	for (; optind < argc && n < MAX_TO; optind++, n++)
		set_up(&targets[n], argv[optind], mark);
	for (unsigned int chunk = 0; chunk < chunks; chunk++) {
		for (int i = 0; i < n; i++) {
			const uint64_t before = cpu_ns();

			send_chunk(&targets[i], packets);
			targets[i].ns[chunk] = cpu_ns() - before;
		}
	}
	for (int i = 0; i < n; i++) {
		printf("%s sent %lu refused %lu ns", targets[i].text, targets[i].sent,
		       targets[i].refused);
		for (unsigned int chunk = 0; chunk < chunks; chunk++)
			printf(" %llu", (unsigned long long)targets[i].ns[chunk]);
		putchar('\n');
	}
	return 0;
}
