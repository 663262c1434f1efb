/*
 * gap - how long a guard is open while it is taken away and comes back
 *
 *	gap LIMIT_MS ADDRESS COMMAND [ARGUMENT]...
 *
 * Sends UDP packets to port 53 as fast as it can, runs the command, which takes
 * the guard away, and ends once nothing was let out for SHUT_MS after the
 * command's end, or at the limit.  Prints
 *	sent N out M open_ns T shut 0|1 status S
 * out: let out, not refused (EPERM).  open_ns: from the first of these to the
 * first one after the last of these that was refused, or to the limit.
 * Every packet before the command has to be refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "probe.h"

#define BEFORE	1000 /* packets */
#define SHUT_MS 200

extern char **environ;

struct seen {
	unsigned long sent, out;
	int64_t first_out_ns, shut_ns; /* shut_ns: 0 while open */
};

static void send_one(int fd, struct seen *seen)
{
	const bool is_out = send(fd, "probe", 5, 0) > 0;
	const int64_t now = now_ns();

	if (!is_out && errno != EPERM)
		die("send");
	seen->sent++;
	if (is_out) {
		seen->out++;
		seen->shut_ns = 0;
		if (!seen->first_out_ns)
			seen->first_out_ns = now;
	} else if (!seen->shut_ns) {
		seen->shut_ns = now;
	}
}

int main(int argc, char **argv)
{
	struct seen seen = { 0 };
	int64_t end, ended = 0;
	int fd, status = 0;
	pid_t pid;

	if (argc < 4)
		return 2;
	fd = open_probe(argv[2]);
	for (int i = 0; i < BEFORE; i++)
		send_one(fd, &seen);
	if (seen.out) {
		fprintf(stderr, "not guarded: %lu of %d let out\n", seen.out, BEFORE);
		return 1;
	}
	end = now_ns() + strtoll(argv[1], NULL, 10) * 1000000;
	errno = posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ);
	if (errno)
		die(argv[3]);
	while (now_ns() < end) {
		for (int i = 0; i < 16; i++)
			send_one(fd, &seen);
		if (!ended && waitpid(pid, &status, WNOHANG) == pid)
			ended = now_ns();
		if (ended && seen.shut_ns &&
		    now_ns() - (ended > seen.shut_ns ? ended : seen.shut_ns) > SHUT_MS * 1000000LL)
			break;
	}
	if (!ended) {
		fputs("the command does not end\n", stderr);
		return 1;
	}
	printf("sent %lu out %lu open_ns %lld shut %d status %d\n", seen.sent, seen.out,
	       (long long)(!seen.out ? 0 : (seen.shut_ns ? seen.shut_ns : end) - seen.first_out_ns),
	       seen.shut_ns != 0, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
	return 0;
}
