/*
 * killin - kill -9 a process that runs already at its K-th system call from now on
 *
 *	killin K PID
 *
 * As killat, of which see, but for one that is at work: prints "ready" once it
 * counts and "killed NR" when it has killed.  Ended by SIGTERM before, it
 * leaves the process to go on.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <linux/ptrace.h> /* after the C library's: it has the same names */

#include "private_netns.h"

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Run on to the next stop; ends with the process. */
static int step(pid_t pid, long signal)
{
	int status;

	if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)signal) || waitpid(pid, &status, 0) != pid)
		die("ptrace");
	if (!WIFSTOPPED(status))
		exit(3);
	return status;
}

static long call_number(pid_t pid)
{
	struct __ptrace_syscall_info info = { 0 };

	ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info);
	return info.op == PTRACE_SYSCALL_INFO_ENTRY ? (long)info.entry.nr : -1;
}

int main(int argc, char **argv)
{
	const long wanted = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
	const pid_t pid = argc == 3 ? (pid_t)strtol(argv[2], NULL, 10) : 0;
	long calls = 0, signal = 0, number;
	sigset_t ending;
	int status;

	if (wanted < 1 || pid < 1)
		return 2;
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)(long)PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid)
		die("seize");
	puts("ready");
	fflush(stdout);
	for (;;) {
		status = step(pid, signal);
		signal = 0;
		if (status >> 16)
			continue; /* an event of tracing itself */
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			signal = WSTOPSIG(status);
			continue;
		}
		number = call_number(pid);
		if (number >= 0 && ++calls == wanted)
			break;
	}
	/* Whoever ends us now must still be told. */
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigprocmask(SIG_BLOCK, &ending, NULL);
	kill(pid, SIGKILL);
	printf("killed %ld\n", number);
	return 0;
}
