/* watchers.h - watchers and clients of the control socket, in this process and in others */
#ifndef WATCHERS_H
#define WATCHERS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "control.h"
#include "files.h"

#define BOUND_S	  60	/* a test that hangs is killed */
#define PLENTY_MS 10000 /* of an exchange that has to succeed */
#define NOBODY	  65534

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, bound_test, remove_dir)

/* A watcher of a directory, in this process: turn() is its loop. */
struct watcher {
	const char *dir;
	int dir_fd;
	struct loop loop;
	struct control control;
	unsigned int served;
	char text[CONFIG_ERR]; /* of control_open() */
};

static inline void serve(void *ctx, enum control_verb verb, struct control_reply *reply)
{
	struct watcher *w = ctx;

	w->served++;
	reply->result = verb == CONTROL_VERB_CHECK ? 1 : -(int)verb;
	snprintf(reply->text, sizeof(reply->text), "verb %d", verb);
	reply->status.pid = (uint32_t)getpid();
	reply->status.undone = w->served;
	if (verb == CONTROL_VERB_HANDOVER)
		w->control.pass_fd = w->dir_fd;
}

static inline int open_watcher(struct watcher *w, const char *dir)
{
	*w = (struct watcher){ .dir = dir,
			       .dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	assert_true(w->dir_fd >= 0);
	assert_int_equal(loop_init(&w->loop), 0);
	return control_open(&w->control, &w->loop, w->dir_fd, dir, serve, w, w->text);
}

static inline void close_watcher(struct watcher *w)
{
	control_close(&w->control);
	loop_fini(&w->loop);
	close(w->dir_fd);
}

/* Until nothing is due any more, within bounds. */
static inline void turn(struct watcher *w)
{
	struct pollfd due = { .fd = w->loop.epoll_fd, .events = POLLIN };

	for (int i = 0; i < 1000 && poll(&due, 1, 0) > 0; i++)
		assert_int_equal(loop_wait(&w->loop, 0), 0);
	assert_int_equal(poll(&due, 1, 0), 0);
}

static inline uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline unsigned int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline unsigned int count_clients(const struct watcher *w)
{
	unsigned int n = 0;

	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
		n += w->control.clients[i].fd >= 0;
	return n;
}

static inline struct sockaddr_un name_at(int dir_fd, const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	return sun;
}

/* A client of our own making, connected. */
static inline int connect_raw(int dir_fd)
{
	const struct sockaddr_un sun = name_at(dir_fd, "control");
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

/* A watcher of our own making: listens, and no more. */
static inline int listen_raw(int dir_fd, int type)
{
	const struct sockaddr_un sun = name_at(dir_fd, "control");
	const int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static inline void send_request(int fd, unsigned int version, unsigned int verb)
{
	const struct control_request request = { .version = (uint8_t)version,
						 .verb = (uint8_t)verb };

	assert_int_equal(send(fd, &request, sizeof(request), MSG_NOSIGNAL), sizeof(request));
}

/* Closes fd, which must have got this reply and then the end. */
static inline void assert_reply(int fd, int result, const char *text)
{
	struct control_reply reply = { 0 };

	assert_int_equal(recv(fd, &reply, sizeof(reply), MSG_TRUNC), sizeof(reply));
	assert_int_equal(reply.version, CONTROL_VERSION);
	assert_int_equal(reply.result, result);
	assert_string_equal(reply.text, text);
	assert_int_equal(recv(fd, &reply, sizeof(reply), 0), 0);
	close(fd);
}

/* Closes fd, which must have been closed at the other end without a word. */
static inline void assert_closed(int fd)
{
	char byte;
	const ssize_t len = recv(fd, &byte, 1, 0);

	assert_true(!len || (len < 0 && errno == ECONNRESET));
	close(fd);
}

/* The one question that every other is followed by: does it still serve? */
static inline void assert_serves(struct watcher *w)
{
	const unsigned int before = w->served;
	const int fd = connect_raw(w->dir_fd);

	send_request(fd, CONTROL_VERSION, CONTROL_VERB_CHECK);
	turn(w);
	assert_reply(fd, 1, "verb 3");
	assert_int_equal(w->served, before + 1);
}

/* fork(2), with an end of its own: the parent's death, or BOUND_S. */
static inline pid_t fork_bounded(void)
{
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(BOUND_S);
	}
	return pid;
}

/* The exit status of a child, or the signal that ended it + 128. */
static inline int reap(pid_t pid)
{
	pid_t reaped;
	int status;

	do /* one more signal may come before the child that sends them is gone */
		reaped = waitpid(pid, &status, 0);
	while (reaped < 0 && errno == EINTR);
	assert_int_equal(reaped, pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline void kill_child(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(reap(pid), 128 + SIGKILL);
}

/* A watcher in a process of its own, listening by the time that this returns. */
static inline pid_t start_watcher(const char *dir)
{
	struct watcher w;
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork_bounded();
	if (!pid) {
		if (open_watcher(&w, dir) || write(ready[1], "", 1) != 1)
			_exit(1);
		while (!loop_wait(&w.loop, -1))
			continue;
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static inline int open_dir(const char *path)
{
	const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static inline void ignore_signal(int number)
{
	(void)number;
}

/* A child that interrupts this process every few milliseconds until kill_child(). */
static inline pid_t start_signals(struct sigaction *ret_before)
{
	const struct sigaction action = { .sa_handler = ignore_signal };
	const pid_t parent = getpid();
	pid_t pid;

	assert_int_equal(sigaction(SIGUSR1, &action, ret_before), 0);
	pid = fork_bounded();
	while (!pid) {
		usleep(3000);
		if (kill(parent, SIGUSR1))
			_exit(1);
	}
	return pid;
}

/* cmocka's setup: an empty directory, and an end to a test that hangs. */
static inline int bound_test(void **state)
{
	alarm(BOUND_S);
	return make_dir(state);
}

#endif
