/*
 * flow - keep asking by one flow, and answer it
 *
 *	flow udp FROM IP PORT [FROM_IP]	a datagram every EVERY_MS from the port FROM
 *	flow tcp FROM IP PORT		the same bytes by one TCP connection
 *	flow serve PORT IP...		give back what comes, by both
 *
 * All go on until they are killed.  What comes back is read and forgotten; a
 * connection that cannot be made, or is reset, is waited for no longer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "../lab/tools/private_netns.h"

#define EVERY_MS  20
#define MAX_SERVE 16 /* sockets */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t parse(const char *text, const char *port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;
	const uint16_t port_be = htons((uint16_t)strtoul(port, NULL, 10));

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = port_be;
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = port_be;
		return sizeof(*v6);
	}
	fprintf(stderr, "%s: expected an address\n", text);
	exit(2);
}

/* What comes back, until it is time to send again. */
static void wait_and_read(int fd)
{
	struct pollfd in = { .fd = fd, .events = POLLIN };
	struct timespec now;
	long end_ms, left_ms = EVERY_MS;
	char data[64];

	clock_gettime(CLOCK_MONOTONIC, &now);
	end_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000 + EVERY_MS;
	while (left_ms > 0 && poll(&in, 1, (int)left_ms) > 0) {
		/* An error stays where it is for a TCP socket: do not spin on it. */
		if (recv(fd, data, sizeof(data), MSG_DONTWAIT) <= 0)
			usleep(1000);
		clock_gettime(CLOCK_MONOTONIC, &now);
		left_ms = end_ms - now.tv_sec * 1000 - now.tv_nsec / 1000000;
	}
}

static _Noreturn void flow_keep(int type, int args_len, char **args)
{
	struct sockaddr_storage to, from;
	const socklen_t len = parse(args[1], args[2], &to);
	const char *any = to.ss_family == AF_INET ? "0.0.0.0" : "::";
	const int one = 1, fd = socket(to.ss_family, type | SOCK_CLOEXEC, 0);

	parse(args_len > 3 ? args[3] : any, args[0], &from);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(fd, (void *)&from, len) || connect(fd, (void *)&to, len))
		die(args[1]);
	for (;;) {
		/* A full buffer, a drop and a refusal: it goes on trying. */
		(void)!send(fd, "leak me", 7, MSG_DONTWAIT | MSG_NOSIGNAL);
		wait_and_read(fd);
	}
}

static void give_back(int fd, int type)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char data[2048];
	ssize_t n;
	int conn;

	if (type == SOCK_DGRAM) {
		n = recvfrom(fd, data, sizeof(data), 0, (void *)&from, &len);
		if (n >= 0)
			(void)!sendto(fd, data, (size_t)n, 0, (void *)&from, len);
		return;
	}
	conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while ((n = read(conn, data, sizeof(data))) > 0)
			if (write(conn, data, (size_t)n) < 0)
				break;
		_exit(0);
	}
	close(conn);
}

static int flow_serve(int args_len, char **args)
{
	static const int types[] = { SOCK_DGRAM, SOCK_STREAM };
	struct pollfd fds[MAX_SERVE];
	struct sockaddr_storage at;
	const int one = 1;
	nfds_t n = 0;

	signal(SIGCHLD, SIG_IGN);
	for (int i = 1; i < args_len && n < MAX_SERVE; i++) {
		const socklen_t len = parse(args[i], args[0], &at);

		for (int k = 0; k < 2; k++, n++) {
			fds[n].fd = socket(at.ss_family, types[k] | SOCK_CLOEXEC, 0);
			fds[n].events = POLLIN;
			if (fds[n].fd < 0 ||
			    setsockopt(fds[n].fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
			    bind(fds[n].fd, (void *)&at, len) || (k == 1 && listen(fds[n].fd, 16)))
				die(args[i]);
		}
	}
	puts("ready");
	while (poll(fds, n, -1) >= 0 || errno == EINTR)
		for (nfds_t i = 0; i < n; i++)
			if (fds[i].revents)
				give_back(fds[i].fd, types[i % 2]);
	die("poll");
	return 1;
}

int main(int argc, char **argv)
{
	setlinebuf(stdout);
	if (argc >= 5 && !strcmp(argv[1], "udp"))
		flow_keep(SOCK_DGRAM, argc - 2, argv + 2);
	if (argc == 5 && !strcmp(argv[1], "tcp"))
		flow_keep(SOCK_STREAM, argc - 2, argv + 2);
	if (argc >= 4 && !strcmp(argv[1], "serve"))
		return flow_serve(argc - 2, argv + 2);
	fputs("usage: flow udp|tcp FROM IP PORT [FROM_IP] | serve PORT IP...\n", stderr);
	return 2;
}
