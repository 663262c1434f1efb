#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notify.h"
#include "pace.h"

#define AGAIN_FIRST_MS 5    /* before a watcher that died is started again */
#define AGAIN_MOST_MS  2000 /* of one that dies again and again */
#define HEALTHY_MS     2000 /* one that lived so long did not fail at once */
#define PASSED_FD      4    /* the last of them, see notify_pass_fds() */
#define MOST_FDS       4096
#define END_MS	       5000 /* how long it may take to end */

struct family {
	const struct keeper *k;
	sigset_t signals; /* those that are waited for */
	pid_t watcher, start, reload;
	uint64_t born_ms;   /* the watcher */
	uint64_t ending_ms; /* asked to end; 0: not */
	struct backoff again;
	bool reload_again; /* told to meanwhile */
	bool first;	   /* none has been healthy yet */
	int status;
	bool over;
};

static pid_t fork_to(const struct family *f, int (*run)(void *ctx))
{
	const pid_t pid = fork();
	int status;

	if (pid)
		return pid;
	signal(SIGHUP, SIG_IGN); /* the keeper's to answer, also where a whole group is told */
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &f->signals, NULL);
	status = run(f->k->ctx);
	fflush(stdout);
	_exit(status);
}

static void start_watcher(struct family *f)
{
	f->watcher = fork_to(f, f->k->watch);
	f->born_ms = clock_monotonic_ms();
	if (f->watcher < 0) {
		backoff_fail(&f->again, f->born_ms, AGAIN_FIRST_MS, AGAIN_MOST_MS);
		log_error("cannot start a watcher: %s, retrying in %u ms; the rules stand",
			  strerror(errno), f->again.wait_ms);
	}
}

static void reap_watcher(struct family *f, int wait_status)
{
	const uint64_t now_ms = clock_monotonic_ms();
	const bool healthy = now_ms - f->born_ms >= HEALTHY_MS;
	const bool failed = WIFEXITED(wait_status) && WEXITSTATUS(wait_status);

	f->watcher = 0;
	if (f->ending_ms || (WIFEXITED(wait_status) && !failed) ||
	    (failed && f->first && !healthy)) {
		f->over = true;
		f->status = failed ? WEXITSTATUS(wait_status) : f->status;
		return;
	}
	f->first = false;
	if (healthy)
		backoff_clear(&f->again);
	backoff_fail(&f->again, now_ms, AGAIN_FIRST_MS, AGAIN_MOST_MS);
	log_event(LOG_LEVEL_WARNING, "restarted",
		  WIFSIGNALED(wait_status) ?
			  "the watcher was killed by signal %d, starting it again in %u ms; the rules stand" :
			  "the watcher failed with status %d, starting it again in %u ms; the rules stand",
		  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
		  f->again.wait_ms);
}

static void end_watcher(struct family *f)
{
	f->ending_ms = f->ending_ms ? f->ending_ms : clock_monotonic_ms();
	if (f->watcher > 0)
		kill(f->watcher, SIGTERM);
	else
		f->over = true;
}

/* One at a time; told to while one runs, once more after it: its configuration may be the old one. */
static void reload(struct family *f)
{
	f->reload_again = f->reload > 0;
	if (f->reload > 0 || f->ending_ms)
		return;
	f->reload = fork_to(f, f->k->reload);
	if (f->reload < 0)
		log_error("cannot reload: %s; the rules stand", strerror(errno));
}

static void reap(struct family *f)
{
	int wait_status;
	pid_t pid;

	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == f->watcher) {
			reap_watcher(f, wait_status);
		} else if (pid == f->start) {
			f->start = 0;
			f->status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 1;
			if (f->status)
				end_watcher(f);
		} else if (pid == f->reload) {
			f->reload = 0; /* it has said itself what went wrong */
			if (f->reload_again)
				reload(f);
		}
	}
}

static void take_signal(struct family *f, int number)
{
	switch (number) {
	case SIGCHLD:
		reap(f);
		break;
	case SIGHUP:
		reload(f);
		break;
	case SIGTERM:
	case SIGINT:
		end_watcher(f);
		break;
	}
}

/* How long to sleep for a signal; NULL: until one comes. */
static const struct timespec *wait_time(const struct family *f, struct timespec *buf)
{
	const uint64_t now_ms = clock_monotonic_ms();
	uint64_t due = PACE_NEVER;

	if (f->ending_ms)
		due = f->ending_ms + END_MS;
	else if (f->watcher <= 0)
		due = f->again.at_ms;
	if (due == PACE_NEVER)
		return NULL;
	due = due > now_ms ? due - now_ms : 0;
	*buf = (struct timespec){ (time_t)(due / 1000), (long)(due % 1000) * 1000000L };
	return buf;
}

int keeper_run(const struct keeper *k)
{
	struct family f = { .k = k, .first = true };
	struct timespec buf;

	/* Ignored, as a caller may leave it, no child's end would ever be told. */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&f.signals);
	sigaddset(&f.signals, SIGCHLD);
	sigaddset(&f.signals, SIGHUP);
	sigaddset(&f.signals, SIGTERM);
	sigaddset(&f.signals, SIGINT);
	sigprocmask(SIG_BLOCK, &f.signals, NULL);
	start_watcher(&f);
	if (k->start)
		f.start = fork_to(&f, k->start);
	if (f.start < 0) {
		log_error("cannot start: %s", strerror(errno));
		f.status = 1;
		end_watcher(&f);
	}
	while (!f.over) {
		const int number = sigtimedwait(&f.signals, NULL, wait_time(&f, &buf));

		if (number > 0)
			take_signal(&f, number);
		else if (f.ending_ms && f.watcher > 0)
			kill(f.watcher, SIGKILL);
		else if (!f.ending_ms && f.watcher <= 0 && clock_monotonic_ms() >= f.again.at_ms)
			start_watcher(&f);
	}
	return f.status;
}

/* What our own caller left open would stay open as long as we watch: a pipe's end, a lock. */
static void close_others(void)
{
	if (syscall(SYS_close_range, PASSED_FD + 1, ~0U, 0))
		for (int fd = PASSED_FD + 1; fd < MOST_FDS; fd++) /* Linux before 5.9 */
			(void)close(fd);
}

/* After fork(): become a watcher that nobody is the parent of. */
static void __attribute__((noreturn))
become_watcher(const char *run_dir, int socket_fd, int claim_fd)
{
	char *argv[] = {
		"leakguard", "--run-dir", (char *)run_dir, "watch", "--until-disable", NULL
	};
	const int fds[] = { socket_fd, claim_fd };
	static const char *const names[] = { KEEPER_SOCKET, KEEPER_CLAIM };
	const int null = open("/dev/null", O_RDWR);

	setsid();
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
	/* What was said to the one who started us, by a service manager too, is not about us. */
	clearenv();
	if (!chdir("/") && !notify_pass_fds(fds, names, 2)) {
		close_others();
		execv("/proc/self/exe", argv);
	}
	_exit(127);
}

pid_t keeper_spawn(const char *run_dir, int socket_fd, int claim_fd)
{
	char path[PATH_MAX];
	pid_t pid;

	if (!realpath(run_dir, path))
		return -errno;
	pid = fork();
	if (!pid)
		become_watcher(path, socket_fd, claim_fd);
	return pid < 0 ? -errno : pid;
}
