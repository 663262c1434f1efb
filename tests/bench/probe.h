/* probe.h - a socket whose packets a guard has to stop, and the time */
#ifndef PROBE_H
#define PROBE_H

#include <arpa/inet.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "private_netns.h"

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Connected to port 53 of an IPv4 or IPv6 address. */
static int open_probe(const char *text)
{
	struct sockaddr_storage to = { 0 };
	struct sockaddr_in *v4 = (void *)&to;
	struct sockaddr_in6 *v6 = (void *)&to;
	int fd;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(53);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(53);
	} else {
		fprintf(stderr, "%s: expected an address\n", text);
		exit(2);
	}
	fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (void *)&to, sizeof(*v6)))
		die(text);
	return fd;
}

#endif
