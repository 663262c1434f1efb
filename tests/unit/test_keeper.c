/* keeper.h: a keeper in a process of its own, with watchers that do as they are told */
#include "unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "files.h"
#include "keeper.h"
#include "log.h"
#include "notify.h"
#include "rundir.h"

#define BOUND_S	   60
#define MOST_LIVES 16

enum life {
	LIFE_UNTIL_TERM, /* as the daemon does: 0 once it is asked to end */
	LIFE_EXIT,	 /* at once, with status `arg` */
	LIFE_DIE,	 /* at once, by signal `arg` */
	LIFE_DEAF,	 /* until it is killed */
	LIFE_LONG,	 /* healthy by the time that it fails with status `arg` */
};

/* What all processes of a test share. */
struct board {
	struct {
		enum life life;
		int arg;
	} lives[MOST_LIVES]; /* of the watchers, one after the other; told by the test */
	bool odd_caller;     /* of the keeper: ignores what it needs */
	enum life start, reload;
	int start_arg, reload_arg;
	atomic_int births, ended, starts, reloads, odd_signals, failing_forks;
	atomic_int held_reload, reload_pid; /* which one waits; 0: none */
	atomic_int pids[MOST_LIVES];
	uint64_t born_ms[MOST_LIVES];
};

static pid_t (*real_fork)(void);
static struct board *fork_board;

/* Stands before the C library's: fails as often as the board says. */
pid_t fork(void)
{
	if (fork_board && atomic_load(&fork_board->failing_forks) > 0) {
		atomic_fetch_sub(&fork_board->failing_forks, 1);
		errno = EAGAIN;
		return -1;
	}
	return real_fork();
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int live(enum life life, int arg)
{
	sigset_t term;
	int number;

	alarm(BOUND_S);
	switch (life) {
	case LIFE_UNTIL_TERM:
		sigemptyset(&term);
		sigaddset(&term, SIGTERM);
		sigprocmask(SIG_BLOCK, &term, NULL);
		sigwait(&term, &number);
		return 0;
	case LIFE_EXIT:
		return arg;
	case LIFE_DIE:
		kill(getpid(), arg);
		pause();
		return 99;
	case LIFE_DEAF:
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	case LIFE_LONG:
		usleep(3000000);
		return arg;
	}
	return 99;
}

/* A child starts with signals as any program does, but for the one that is its keeper's. */
static bool has_odd_signals(void)
{
	struct sigaction hup, term, chld;
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	sigaction(SIGHUP, NULL, &hup);
	sigaction(SIGTERM, NULL, &term);
	sigaction(SIGCHLD, NULL, &chld);
	return sigismember(&blocked, SIGTERM) || sigismember(&blocked, SIGINT) ||
	       sigismember(&blocked, SIGCHLD) || hup.sa_handler != SIG_IGN ||
	       term.sa_handler != SIG_DFL || chld.sa_handler != SIG_DFL;
}

static int watch(void *ctx)
{
	struct board *b = ctx;
	const int n = atomic_load(&b->births);
	int status;

	if (n >= MOST_LIVES)
		return 0;
	atomic_fetch_add(&b->odd_signals, has_odd_signals());
	b->born_ms[n] = now_ms();
	atomic_store(&b->pids[n], getpid());
	if (b->lives[n].life == LIFE_UNTIL_TERM) {
		sigset_t term;

		/* Before it is said to live: it may be asked to end right then. */
		sigemptyset(&term);
		sigaddset(&term, SIGTERM);
		sigprocmask(SIG_BLOCK, &term, NULL);
	}
	atomic_fetch_add(&b->births, 1);
	status = live(b->lives[n].life, b->lives[n].arg);
	atomic_fetch_add(&b->ended, 1);
	return status;
}

static int start(void *ctx)
{
	struct board *b = ctx;

	atomic_fetch_add(&b->odd_signals, has_odd_signals());
	while (!atomic_load(&b->births)) /* beside the first watcher */
		usleep(1000);
	atomic_fetch_add(&b->starts, 1);
	return live(b->start, b->start_arg);
}

static int reload(void *ctx)
{
	struct board *b = ctx;
	int number;

	atomic_fetch_add(&b->odd_signals, has_odd_signals());
	alarm(BOUND_S);
	atomic_store(&b->reload_pid, getpid());
	number = atomic_fetch_add(&b->reloads, 1) + 1;
	while (atomic_load(&b->held_reload) == number)
		usleep(1000);
	return live(b->reload, b->reload_arg);
}

/* --- what the tests are made of --- */

static struct board *new_board(void)
{
	struct board *b =
		mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(b != MAP_FAILED);
	return b;
}

static void free_board(struct board *b)
{
	assert_int_equal(atomic_load(&b->odd_signals), 0);
	munmap(b, sizeof(*b));
}

/* A keeper with the board, in a session of its own. */
static pid_t keep(struct board *b, bool with_start)
{
	const struct keeper k = {
		.watch = watch, .start = with_start ? start : NULL, .reload = reload, .ctx = b
	};
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(BOUND_S);
		setsid();
		log_set_level(LOG_LEVEL_ERROR);
		if (b->odd_caller) {
			signal(SIGCHLD, SIG_IGN);
			signal(SIGHUP, SIG_IGN);
		}
		fork_board = b;
		_exit(keeper_run(&k));
	}
	return pid;
}

/* The exit status of a keeper, or 128 and the signal that ended it. */
static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void wait_until(atomic_int *count, int least)
{
	for (int i = 0; atomic_load(count) < least; i++) {
		assert_true(i < BOUND_S * 1000);
		usleep(1000);
	}
}

/* --- the tests --- */

static void test_statuses(void **state)
{
	static const struct {
		const char *what;
		struct {
			enum life life;
			int arg;
		} lives[4];
		int status, births;
	} rows[] = {
		{ "ends as asked", { { LIFE_EXIT, 0 } }, 0, 1 },
		{ "cannot start", { { LIFE_EXIT, 7 } }, 7, 1 },
		{ "killed", { { LIFE_DIE, SIGKILL }, { LIFE_EXIT, 0 } }, 0, 2 },
		{ "aborted", { { LIFE_DIE, SIGABRT }, { LIFE_EXIT, 0 } }, 0, 2 },
		{ "fails once it ran",
		  { { LIFE_DIE, SIGABRT }, { LIFE_EXIT, 7 }, { LIFE_EXIT, 1 }, { LIFE_EXIT, 0 } },
		  0,
		  4 },
		/* Somebody's SIGTERM for it alone is no wish to end. */
		{ "terminated", { { LIFE_DIE, SIGTERM }, { LIFE_EXIT, 0 } }, 0, 2 },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		struct board *b = new_board();
		int status;

		memcpy(b->lives, rows[i].lives, sizeof(rows[i].lives));
		status = status_of(keep(b, false));
		assert_row(status == rows[i].status, rows[i].what, "returned %d", status);
		assert_row(atomic_load(&b->births) == rows[i].births, rows[i].what, "born %d times",
			   atomic_load(&b->births));
		free_board(b);
	}
}

/* One that dies again and again is started ever later: no machine is kept busy by it. */
static void test_back_off(void **state)
{
	struct board *b = new_board();
	const int deaths = 8;

	(void)state;
	for (int i = 0; i < deaths; i++) {
		b->lives[i].life = LIFE_DIE;
		b->lives[i].arg = SIGKILL;
	}
	b->lives[deaths].life = LIFE_EXIT;
	assert_int_equal(status_of(keep(b, false)), 0);
	assert_int_equal(atomic_load(&b->births), deaths + 1);
	for (int i = 0; i < deaths; i++)
		assert_true(b->born_ms[i + 1] - b->born_ms[i] >= (5U << i));
	free_board(b);
}

/* SIGTERM and SIGINT end both, whether the watcher knows what they mean or dies of them. */
static void test_end(void **state)
{
	static const enum life lives[] = { LIFE_UNTIL_TERM, LIFE_LONG };
	static const int signals[] = { SIGTERM, SIGINT };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct board *b = new_board();
		pid_t pid;

		b->lives[0].life = lives[i / 2];
		pid = keep(b, false);
		wait_until(&b->births, 1);
		assert_int_equal(kill(pid, signals[i % 2]), 0);
		assert_int_equal(status_of(pid), 0);
		assert_int_equal(atomic_load(&b->births), 1);
		assert_int_equal(kill(atomic_load(&b->pids[0]), 0), -1);
		free_board(b);
	}
}

/* Also in the middle of a wait. */
static void test_end_between(void **state)
{
	struct board *b = new_board();
	pid_t pid;

	(void)state;
	for (int i = 0; i < MOST_LIVES; i++) {
		b->lives[i].life = LIFE_DIE;
		b->lives[i].arg = SIGKILL;
	}
	pid = keep(b, false);
	wait_until(&b->births, 9); /* the next is more than a second away */
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(atomic_load(&b->births), 9);
	free_board(b);
}

static void test_start(void **state)
{
	(void)state;
	for (int status = 0; status < 2; status++) {
		struct board *b = new_board();
		pid_t pid;

		b->start = LIFE_EXIT;
		b->start_arg = status * 5;
		pid = keep(b, true);
		wait_until(&b->starts, 1);
		if (!status) { /* it went well: nothing ends, nor is it run again */
			assert_int_equal(kill(atomic_load(&b->pids[0]), SIGKILL), 0);
			wait_until(&b->births, 2);
			assert_int_equal(kill(pid, SIGTERM), 0);
		}
		assert_int_equal(status_of(pid), status * 5);
		assert_int_equal(atomic_load(&b->starts), 1);
		assert_int_equal(atomic_load(&b->ended), 1); /* asked, not killed */
		free_board(b);
	}
}

/* SIGHUP reloads, one at a time, and touches nobody else; whatever comes of it. */
static void test_reload(void **state)
{
	struct board *b = new_board();
	pid_t pid;

	(void)state;
	b->reload = LIFE_EXIT;
	b->reload_arg = 1;
	pid = keep(b, false);
	wait_until(&b->births, 1);
	for (int i = 1; i <= 3; i++) {
		/* The whole session is told, as by a terminal that goes away. */
		for (int tries = 0; atomic_load(&b->reloads) < i; tries++) {
			assert_true(tries < BOUND_S * 100);
			assert_int_equal(kill(-pid, SIGHUP), 0);
			usleep(10000);
		}
	}
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(atomic_load(&b->births), 1);
	assert_int_equal(atomic_load(&b->ended), 1);
	free_board(b);
}

/* While one runs the configuration may change again: as often as it is told, once more after it. */
static void test_reload_during_reload(void **state)
{
	struct board *b = new_board();
	pid_t pid;

	(void)state;
	b->reload = LIFE_EXIT;
	atomic_store(&b->held_reload, 1);
	pid = keep(b, false);
	wait_until(&b->births, 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(kill(pid, SIGHUP), 0);
		wait_until(&b->reloads, 1);
		usleep(1000); /* so that not all of them are one */
	}
	assert_int_equal(atomic_load(&b->reloads), 1);
	atomic_store(&b->held_reload, 2);
	wait_until(&b->reloads, 2);
	atomic_store(&b->held_reload, 0);
	for (int i = 0; !kill(atomic_load(&b->reload_pid), 0); i++) {
		assert_true(i < BOUND_S * 1000);
		usleep(1000);
	}
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(atomic_load(&b->reloads), 2);
	assert_int_equal(atomic_load(&b->births), 1);
	free_board(b);
}

/* Ignored signals are handed down: by nohup, by a caller that wants to reap nobody. */
static void test_odd_caller(void **state)
{
	struct board *b = new_board();
	pid_t pid;

	(void)state;
	b->odd_caller = true;
	b->start = b->reload = LIFE_EXIT;
	b->lives[0].life = LIFE_DIE;
	b->lives[0].arg = SIGKILL;
	pid = keep(b, true);
	wait_until(&b->births, 2);
	wait_until(&b->starts, 1);
	assert_int_equal(kill(pid, SIGHUP), 0);
	wait_until(&b->reloads, 1);
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(status_of(pid), 0);
	free_board(b);
}

/* Killed itself, the watcher goes on. */
static void test_keeper_killed(void **state)
{
	struct board *b = new_board();
	pid_t pid = keep(b, false), watcher;

	(void)state;
	wait_until(&b->births, 1);
	watcher = atomic_load(&b->pids[0]);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(status_of(pid), 128 + SIGKILL);
	assert_int_equal(waitpid(watcher, NULL, WNOHANG), 0); /* ours by now: see main() */
	assert_int_equal(kill(watcher, SIGTERM), 0);
	assert_int_equal(status_of(watcher), 0);
	free_board(b);
}

/* No process to be had: tried again, and nothing is forgotten. */
static void test_forks_fail(void **state)
{
	struct board *b = new_board();

	(void)state;
	atomic_store(&b->failing_forks, 3);
	b->lives[0].life = LIFE_EXIT;
	assert_int_equal(status_of(keep(b, false)), 0);
	assert_int_equal(atomic_load(&b->births), 1);
	free_board(b);
}

static void test_reload_fork_fails(void **state)
{
	struct board *b = new_board();
	pid_t pid = keep(b, false);
	bool came_back = false;

	(void)state;
	b->reload = LIFE_EXIT;
	wait_until(&b->births, 1);
	atomic_store(&b->failing_forks, 1);
	for (int i = 0; i < BOUND_S * 100 && atomic_load(&b->failing_forks); i++) {
		assert_int_equal(kill(pid, SIGHUP), 0);
		usleep(10000);
	}
	assert_int_equal(atomic_load(&b->failing_forks), 0);
	for (int i = 0; i < BOUND_S * 100 && !came_back; i++) {
		assert_int_equal(kill(pid, SIGHUP), 0);
		usleep(10000);
		came_back = atomic_load(&b->reloads) > 0;
	}
	assert_int_equal(kill(pid, SIGTERM), 0);
	assert_int_equal(status_of(pid), 0);
	free_board(b);
	assert_true(came_back);
}

/* The keeper says that it failed, and ends: it is not to guard nothing. */
static void test_start_fork_fails(void **state)
{
	struct board *b = new_board();

	(void)state;
	/* The first is that of the watcher, which is tried again, the second that of `start`. */
	atomic_store(&b->failing_forks, 2);
	assert_int_equal(status_of(keep(b, true)), 1);
	assert_int_equal(atomic_load(&b->starts), 0);
	free_board(b);
}

/* --- what takes its time runs beside the others --- */

static struct board *deaf, *healthy;
static pid_t deaf_pid, healthy_pid;

static int begin_slow(void **state)
{
	(void)state;
	deaf = new_board();
	deaf->lives[0].life = LIFE_DEAF;
	deaf_pid = keep(deaf, false);
	wait_until(&deaf->births, 1);
	usleep(50000); /* until it is deaf */
	healthy = new_board();
	healthy->lives[0].life = LIFE_LONG;
	healthy->lives[0].arg = 7;
	healthy->lives[1].life = LIFE_EXIT;
	healthy_pid = keep(healthy, false);
	return kill(deaf_pid, SIGTERM);
}

/* One that does not end when asked is made to. */
static void test_deaf(void **state)
{
	(void)state;
	assert_int_equal(status_of(deaf_pid), 0);
	assert_int_equal(kill(atomic_load(&deaf->pids[0]), 0), -1);
	assert_int_equal(atomic_load(&deaf->births), 1);
	free_board(deaf);
}

/* The first one's failure is the keeper's own only at once. */
static void test_healthy_first(void **state)
{
	(void)state;
	assert_int_equal(status_of(healthy_pid), 0);
	assert_int_equal(atomic_load(&healthy->births), 2);
	free_board(healthy);
}

/* --- what enable leaves behind --- */

/* This program again, by keeper_spawn(): writes what it finds itself to be, and ends. */
static int report(const char *run_dir)
{
	char path[PATH_SIZE], cwd[64] = "", name[64], to[PATH_SIZE], err[CONFIG_ERR];
	const int claim_fd = notify_take_fd(KEEPER_CLAIM), fd = notify_take_fd(KEEPER_SOCKET);
	socklen_t len = sizeof(int);
	struct rundir rd;
	int protocol = -1;
	ssize_t n;
	FILE *out;

	(void)getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	snprintf(path, sizeof(path), "%.100s/report", run_dir);
	out = fopen(path, "we");
	if (!out || rundir_open(&rd, run_dir, err))
		return 1;
	fprintf(out, "leader %d\ncwd %s\nsocket %d of protocol %d\nclaim %d, claimed %d\nset:",
		getsid(0) == getpid(), getcwd(cwd, sizeof(cwd)), fd, protocol, claim_fd,
		rundir_is_claimed(&rd));
	rundir_close(&rd);
	for (char **one = environ; *one; one++)
		fprintf(out, " %.*s", (int)strcspn(*one, "="), *one);
	fputs("\nopen:", out);
	for (int i = 0; i < 1024; i++) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", i);
		n = readlink(name, to, sizeof(to) - 1);
		if (n < 0 || i == fileno(out))
			continue;
		to[n] = '\0';
		fprintf(out, " %d%s", i, *to == '/' ? strrchr(to, '/') : "");
	}
	fputs("\n", out);
	return fclose(out) ? 1 : 42;
}

static void test_spawn(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR], *text;
	/* What a caller may have left open, by accident and in shells' ways. */
	const int left = dup2(STDERR_FILENO, 57);
	int claim_fd, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct rundir rd;
	size_t len;
	pid_t pid;

	assert_true(left == 57 && fd >= 0);
	assert_int_equal(rundir_open(&rd, *state, err), 0);
	assert_int_equal(rundir_claim(&rd, &claim_fd, err), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere", 1), 0);
	assert_int_equal(setenv("LD_LIBRARY_PATH", "/nowhere", 1), 0);
	pid = keeper_spawn(*state, fd, claim_fd);
	assert_true(pid > 0);
	close(fd);
	close(claim_fd);
	close(left);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LD_LIBRARY_PATH");
	assert_int_equal(status_of(pid), 42);
	assert_false(rundir_is_claimed(&rd));
	rundir_close(&rd);
	snprintf(path, sizeof(path), "%.100s/report", (char *)*state);
	text = read_file(path, &len);
	assert_string_equal(text, "leader 1\ncwd /\nsocket 3 of protocol 0\nclaim 4, claimed 1\n"
				  "set: LISTEN_PID LISTEN_FDS LISTEN_FDNAMES\n"
				  "open: 0/null 1/null 2/null 3 4/watch.pid\n");
	free(text);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_end_between),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_reload_during_reload),
		cmocka_unit_test(test_odd_caller),
		cmocka_unit_test(test_keeper_killed),
		cmocka_unit_test(test_forks_fail),
		cmocka_unit_test(test_reload_fork_fails),
		cmocka_unit_test(test_start_fork_fails),
		cmocka_unit_test_setup_teardown(test_spawn, make_dir, remove_dir),
		cmocka_unit_test(test_healthy_first),
		cmocka_unit_test(test_deaf),
	};

	real_fork = (pid_t(*)(void))dlsym(RTLD_NEXT, "fork");
	if (argc == 5 && !strcmp(argv[0], "leakguard") && !strcmp(argv[1], "--run-dir") &&
	    !strcmp(argv[3], "watch") && !strcmp(argv[4], "--until-disable"))
		return report(argv[2]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return cmocka_run_group_tests(tests, begin_slow, NULL);
}
