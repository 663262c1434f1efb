/* control.h, a command's end: no watcher, however it behaves, gives a wrong answer or no end */
#include "unit.h"

#include "watchers.h"

static void test_no_watcher(void **state)
{
	int dir_fd = open_dir(*state), fd;
	struct control_reply reply;

	reply.result = 12345;
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply),
			 -ENOENT);
	assert_int_equal(mkdirat(dir_fd, "control", 0700), 0);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply),
			 -ECONNREFUSED);
	assert_int_equal(unlinkat(dir_fd, "control", AT_REMOVEDIR), 0);
	fd = openat(dir_fd, "control", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply),
			 -ECONNREFUSED);
	assert_int_equal(unlinkat(dir_fd, "control", 0), 0);
	fd = listen_raw(dir_fd, SOCK_STREAM);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply),
			 -EPROTO);
	close(fd);
	assert_int_equal(reply.result, 12345); /* written on success only */
	close(dir_fd);
}

/* What the other end does once it has (or has not) read the request. */
struct fake {
	const char *what;
	size_t size; /* of the reply; 0: none is sent */
	int result;
	bool unread; /* never accepts */
	bool stays;  /* does not close */
	uint8_t version, verb;
	int expected; /* of control_ask() */
};

static const struct fake fakes[] = {
	{ "dies having read the request", .expected = -ECONNRESET },
	{ "dies, the request unread", .unread = true, .expected = -ECONNREFUSED },
	{ "never answers", .stays = true, .expected = -ETIMEDOUT },
	{ "never accepts", .unread = true, .stays = true, .expected = -ETIMEDOUT },
	{ "one byte", .size = 1, .version = 1, .verb = 1, .expected = -EPROTO },
	{ "one short", .size = sizeof(struct control_reply) - 1, .version = 1, .verb = 1,
	  .expected = -EPROTO },
	{ "one more", .size = sizeof(struct control_reply) + 1, .version = 1, .verb = 1,
	  .expected = -EPROTO },
	{ "much more", .size = 60000, .version = 1, .verb = 1, .expected = -EPROTO },
	{ "version 2", .size = sizeof(struct control_reply), .version = 2, .verb = 1,
	  .expected = -EPROTO },
	{ "another verb", .size = sizeof(struct control_reply), .version = 1, .verb = 2,
	  .expected = -EPROTO },
	{ "result 2", .size = sizeof(struct control_reply), .version = 1, .verb = 1, .result = 2,
	  .expected = -EPROTO },
	{ "no errno", .size = sizeof(struct control_reply), .version = 1, .verb = 1,
	  .result = INT32_MIN, .expected = -EPROTO },
	{ "strings without end", .size = sizeof(struct control_reply), .version = 1, .verb = 1,
	  .result = -4095 },
};

static void act(const struct fake *f, int listen_fd)
{
	static char junk[60000];
	struct control_reply *reply = (struct control_reply *)junk;
	struct control_request request;
	struct pollfd due = { .fd = listen_fd, .events = POLLIN };
	int fd = -1;

	memset(junk, 'A', sizeof(junk));
	reply->version = f->version;
	reply->verb = f->verb;
	reply->result = f->result;
	poll(&due, 1, PLENTY_MS);
	if (!f->unread) {
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 || recv(fd, &request, sizeof(request), 0) != sizeof(request))
			_exit(1);
	} else {
		usleep(20000); /* the request is queued; both orders have to come out the same */
	}
	if (f->size && send(fd, junk, f->size, MSG_NOSIGNAL) != (ssize_t)f->size)
		_exit(1);
	while (f->stays)
		pause();
	_exit(0);
}

static void assert_terminated(const struct control_reply *r)
{
	assert_int_equal(strlen(r->text), sizeof(r->text) - 1);
	assert_int_equal(strlen(r->status.stale_text), sizeof(r->status.stale_text) - 1);
	assert_int_equal(strlen(r->status.culprit_name), sizeof(r->status.culprit_name) - 1);
	assert_int_equal(strlen(r->status.culprit_what), sizeof(r->status.culprit_what) - 1);
	assert_int_equal(r->status.tried_len, WATCH_STATUS_TRIED);
	for (size_t i = 0; i < WATCH_STATUS_TRIED; i++)
		assert_int_equal(strlen(r->status.tried[i].link), IFNAMSIZ - 1);
}

static void test_fake_watchers(void **state)
{
	const unsigned int fds = count_fds();
	const int dir_fd = open_dir(*state);

	for (size_t i = 0; i < LEN(fakes); i++) {
		const struct fake *f = &fakes[i];
		const int timeout_ms = f->expected == -ETIMEDOUT ? 150 : PLENTY_MS;
		const int listen_fd = listen_raw(dir_fd, SOCK_SEQPACKET);
		struct control_reply reply;
		uint64_t took_ms;
		pid_t pid;
		int err;

		pid = fork_bounded();
		if (!pid)
			act(f, listen_fd);
		close(listen_fd);
		took_ms = now_ms();
		err = control_ask(dir_fd, *state, CONTROL_VERB_STATUS, timeout_ms, &reply);
		took_ms = now_ms() - took_ms;
		assert_row(err == f->expected, f->what, "%d, expected %d", err, f->expected);
		if (f->expected == -ETIMEDOUT)
			assert_row(took_ms >= 149 && took_ms < 2000, f->what, "took %d ms",
				   (int)took_ms);
		if (!err)
			assert_terminated(&reply);
		if (f->stays)
			kill_child(pid);
		else
			assert_row(reap(pid) == 0, f->what, "the watcher failed");
		assert_int_equal(unlinkat(dir_fd, "control", 0), 0);
	}
	close(dir_fd);
	assert_int_equal(count_fds(), fds);
}

/* Signals neither end the wait early nor stretch it; nor does a full backlog. */
static void test_timeout_under_signals(void **state)
{
	const int dir_fd = open_dir(*state);
	const struct sockaddr_un sun = name_at(dir_fd, "control");
	struct control_reply reply;
	struct sigaction before;
	pid_t pid;
	uint64_t start_ms;
	int listen_fd = listen_raw(dir_fd, SOCK_SEQPACKET), fds[20], err = 0;
	size_t n = 0;

	pid = start_signals(&before);
	for (int full = 0; full < 2; full++) {
		start_ms = now_ms();
		assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, 150, &reply),
				 -ETIMEDOUT);
		assert_in_range(now_ms() - start_ms, 149, 2000);
		for (; n < LEN(fds) && !err; n++) {
			fds[n] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
			assert_true(fds[n] >= 0);
			err = connect(fds[n], (const struct sockaddr *)&sun, sizeof(sun));
		}
		assert_int_equal(err, -1);
	}
	while (n--)
		close(fds[n]);
	kill_child(pid);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	close(listen_fd);
	close(dir_fd);
}

static void test_a_foreign_watcher_is_not_asked(void **state)
{
	const int dir_fd = open_dir(*state);
	struct control_reply reply;
	int ready[2], fd;
	pid_t pid;
	char byte;

	if (geteuid())
		SKIP("a watcher of another user: not root");
	assert_int_equal(chmod(*state, 0777), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork_bounded();
	if (!pid) {
		if (setuid(NOBODY))
			_exit(1);
		fd = listen_raw(dir_fd, SOCK_SEQPACKET);
		(void)!write(ready[1], "", 1);
		fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		_exit(fd >= 0 && recv(fd, &byte, 1, 0) == 0 ? 0 : 2); /* not a byte */
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_COMMIT, PLENTY_MS, &reply),
			 -EACCES);
	assert_int_equal(reap(pid), 0);
	close(ready[0]);
	close(ready[1]);
	close(dir_fd);
}

/* A descriptor comes with the reply that it belongs to, once, and to who wants it. */
static void test_handed_over(void **state)
{
	const int dir_fd = open_dir(*state);
	const pid_t pid = start_watcher(*state);
	const unsigned int fds = count_fds();
	struct control_reply reply;
	struct stat ours, passed;
	int fd;

	for (int i = 0; i < 2; i++) {
		fd = 12345;
		assert_int_equal(control_ask_fd(dir_fd, *state, CONTROL_VERB_HANDOVER, PLENTY_MS,
						&reply, &fd),
				 0);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fstat(fd, &passed), 0);
		assert_int_equal(fstat(dir_fd, &ours), 0);
		assert_true(passed.st_ino == ours.st_ino && passed.st_dev == ours.st_dev);
		close(fd);
		assert_int_equal(control_ask_fd(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS,
						&reply, &fd),
				 0);
		assert_int_equal(fd, -1);
		assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_HANDOVER, PLENTY_MS,
					     &reply),
				 0);
		assert_int_equal(count_fds(), fds);
	}
	kill_child(pid);
	fd = 12345;
	assert_int_equal(control_ask_fd(dir_fd, *state, CONTROL_VERB_HANDOVER, PLENTY_MS, &reply,
					&fd),
			 -ECONNREFUSED);
	assert_int_equal(fd, 12345); /* written on success only */
	close(dir_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_no_watcher),
		IN_DIR(test_fake_watchers),
		IN_DIR(test_timeout_under_signals),
		IN_DIR(test_a_foreign_watcher_is_not_asked),
		IN_DIR(test_handed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
