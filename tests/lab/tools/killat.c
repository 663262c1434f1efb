/*
 * killat - kill -9 a program at its K-th system call
 *
 *	killat K PROGRAM [ARGUMENT]...
 *
 * The call itself is not made: the kernel leaves a traced process that is
 * killed where it enters a call without making it.  The exec that starts the
 * program does not count.
 *
 * Prints "killed NR", the number of the call, and exits 0; or, if the program
 * ended before, "ended CALLS STATUS" and exits 3.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <elf.h>
#include <linux/ptrace.h>

#include "private_netns.h"

#define EXIT_ENDED 3

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static pid_t start(char **argv)
{
	const pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child)
		return child;
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(126);
	raise(SIGSTOP); /* so that the options are set before the exec */
	execvp(argv[0], argv);
	_exit(127);
}

static long call_number(pid_t child)
{
	struct __ptrace_syscall_info info = { 0 };

	ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);
	return info.op == PTRACE_SYSCALL_INFO_ENTRY ? (long)info.entry.nr : -1;
}

/* Run the child up to its next stop.  False when it has ended. */
static int step(pid_t child, int request, int signal, int *ret_status)
{
	if (ptrace((enum __ptrace_request)request, child, NULL, (void *)(long)signal))
		die("ptrace");
	if (waitpid(child, ret_status, 0) != child)
		die("waitpid");
	return WIFSTOPPED(*ret_status);
}

int main(int argc, char **argv)
{
	const long wanted = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
	int status, signal = 0, running = 0;
	long calls = 0, number;
	pid_t child;

	if (wanted < 1)
		return 2;
	child = start(argv + 2);
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		die("start");
	if (ptrace(PTRACE_SETOPTIONS, child, NULL,
		   (void *)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC)))
		die("options");
	while (step(child, running ? PTRACE_SYSCALL : PTRACE_CONT, signal, &status)) {
		signal = 0;
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) {
			running = 1;
			continue;
		}
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			signal = WSTOPSIG(status);
			continue;
		}
		number = call_number(child);
		if (number < 0 || ++calls < wanted)
			continue;
		kill(child, SIGKILL);
		if (waitpid(child, &status, 0) != child)
			die("waitpid");
		printf("killed %ld\n", number);
		return 0;
	}
	printf("ended %ld %d\n", calls, status);
	return EXIT_ENDED;
}
