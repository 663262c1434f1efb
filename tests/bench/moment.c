/*
 * moment - when a command that guards does guard, and when it ends
 *
 *	moment [-a] ADDRESS4 ADDRESS6 COMMAND [ARGUMENT]...
 *
 * Runs the command, and every tenth of a millisecond sends a UDP packet to port
 * 53 of each address.  The first one that is refused (EPERM) is the moment from
 * which that family is guarded.  With -a it is the first one that is let out,
 * of a command that allows them.  (Not by nf_tables' events: for a listener the
 * kernel writes a message an element, on the command's time.)  Prints
 * nanoseconds since before the exec:
 *	guarded4 N guarded6 N exit N cpu N status N
 * -1: not until its end.  cpu: of the command and its children, user and system.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "probe.h"

#define LOOK_NS 100000

extern char **environ;

static int64_t time_ns(struct timeval t)
{
	return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_usec * 1000;
}

static void probe(int fd, bool allows, int64_t start, int64_t *guarded)
{
	if (*guarded < 0 && (send(fd, "probe", 5, 0) > 0 ? allows : !allows && errno == EPERM))
		*guarded = now_ns() - start;
}

int main(int argc, char **argv)
{
	const struct timespec look = { .tv_nsec = LOOK_NS };
	int64_t guarded4 = -1, guarded6 = -1, start;
	struct pollfd end = { .events = POLLIN };
	struct rusage used;
	bool allows = false;
	int probe4, probe6, status;
	pid_t pid;

	if (argc > 1 && !strcmp(argv[1], "-a")) {
		allows = true;
		argc--;
		argv++;
	}
	if (argc < 4)
		return 2;
	probe4 = open_probe(argv[1]);
	probe6 = open_probe(argv[2]);
	start = now_ns();
	errno = posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ);
	if (errno)
		die(argv[3]);
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (end.fd < 0)
		die("pidfd_open");
	while (!(end.revents & POLLIN)) {
		if (ppoll(&end, 1, guarded4 >= 0 && guarded6 >= 0 ? NULL : &look, NULL) < 0)
			die("poll");
		probe(probe4, allows, start, &guarded4);
		probe(probe6, allows, start, &guarded6);
	}
	if (wait4(pid, &status, 0, &used) != pid)
		die("wait4");
	printf("guarded4 %lld guarded6 %lld exit %lld cpu %lld status %d\n", (long long)guarded4,
	       (long long)guarded6, (long long)(now_ns() - start),
	       (long long)(time_ns(used.ru_utime) + time_ns(used.ru_stime)),
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128);
	return 0;
}
