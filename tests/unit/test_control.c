/* control.h, the watcher's end: each client has its answer or is closed, whatever others do */
#include "unit.h"

#include <sys/resource.h>

#include "watchers.h"

/* --- exchanges --- */

static void test_exchange(void **state)
{
	const pid_t pid = start_watcher(*state);
	const int dir_fd = open_dir(*state);
	struct control_reply reply;
	struct stat st;

	assert_int_equal(fstatat(dir_fd, "control", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_int_equal(fstatat(dir_fd, "control.new", &st, AT_SYMLINK_NOFOLLOW), -1);
	for (uint32_t i = 1; i <= 40; i++) {
		const enum control_verb verb = CONTROL_VERB_STATUS + i % 4;
		char text[20];

		snprintf(text, sizeof(text), "verb %d", verb);
		assert_int_equal(control_ask(dir_fd, *state, verb, PLENTY_MS, &reply), 0);
		assert_int_equal(reply.verb, verb);
		assert_int_equal(reply.result, verb == CONTROL_VERB_CHECK ? 1 : -(int)verb);
		assert_string_equal(reply.text, text);
		assert_int_equal(reply.status.pid, pid);
		assert_int_equal(reply.status.undone, i);
	}
	kill_child(pid);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply),
			 -ECONNREFUSED);
	close(dir_fd);
}

static void test_fifty_at_once(void **state)
{
	const pid_t pid = start_watcher(*state);
	const int dir_fd = open_dir(*state);
	struct control_reply reply;
	pid_t clients[50];

	for (size_t i = 0; i < LEN(clients); i++) {
		clients[i] = fork_bounded();
		if (!clients[i])
			_exit(control_ask(dir_fd, *state, CONTROL_VERB_CHECK, PLENTY_MS, &reply) ||
			      reply.result != 1);
	}
	for (size_t i = 0; i < LEN(clients); i++)
		assert_int_equal(reap(clients[i]), 0);
	assert_int_equal(control_ask(dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply), 0);
	assert_int_equal(reply.status.undone, LEN(clients) + 1);
	kill_child(pid);
	close(dir_fd);
}

/* Their requests are all there before the loop looks: none goes short, though places are few. */
static void test_a_crowd_is_served_in_one_go(void **state)
{
	const unsigned int fds = count_fds();
	struct watcher w;
	int crowd[50], silent;

	assert_int_equal(open_watcher(&w, *state), 0);
	silent = connect_raw(w.dir_fd);
	for (size_t i = 0; i < LEN(crowd); i++) {
		crowd[i] = connect_raw(w.dir_fd);
		send_request(crowd[i], CONTROL_VERSION, CONTROL_VERB_CHECK);
	}
	turn(&w);
	for (size_t i = 0; i < LEN(crowd); i++)
		assert_reply(crowd[i], 1, "verb 3");
	assert_int_equal(count_clients(&w), 1); /* nor did it cost one its place who is slow */
	close_watcher(&w);
	assert_closed(silent);
	assert_int_equal(count_fds(), fds);
}

/* --- clients that are none --- */

static void test_garbage_of_each_size(void **state)
{
	static char garbage[4096];
	struct watcher w;
	unsigned int fds;

	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (char)(i * 151 + 7);
	assert_int_equal(open_watcher(&w, *state), 0);
	fds = count_fds();
	for (size_t size = 0; size <= sizeof(garbage); size++) {
		const int fd = connect_raw(w.dir_fd);

		if (size == sizeof(struct control_request)) {
			close(fd);
			continue;
		}
		/* A valid request first, so that only the size is wrong. */
		garbage[0] = CONTROL_VERSION;
		garbage[1] = CONTROL_VERB_COMMIT;
		assert_int_equal(send(fd, garbage, size, MSG_NOSIGNAL), size);
		turn(&w);
		assert_closed(fd);
	}
	turn(&w);
	assert_int_equal(w.served, 0);
	assert_int_equal(count_clients(&w), 0);
	assert_int_equal(count_fds(), fds);
	assert_serves(&w);
	close_watcher(&w);
}

static void test_each_version_and_verb(void **state)
{
	struct watcher w;
	unsigned int served = 0;
	char text[CONFIG_ERR];

	assert_int_equal(open_watcher(&w, *state), 0);
	for (unsigned int version = 0; version < 256; version++) {
		const int fd = connect_raw(w.dir_fd);

		if (version == CONTROL_VERSION) {
			close(fd);
			continue;
		}
		send_request(fd, version, CONTROL_VERB_REMOVE);
		turn(&w);
		snprintf(text, sizeof(text),
			 "version %u: expected 1, which the watcher speaks; restart the older of the two",
			 version);
		assert_reply(fd, -EPROTONOSUPPORT, text);
	}
	assert_int_equal(w.served, 0);
	for (unsigned int verb = 0; verb < 256; verb++) {
		const bool known = verb >= CONTROL_VERB_STATUS && verb <= CONTROL_VERB_HANDOVER;
		const int fd = connect_raw(w.dir_fd);
		const int answer = verb == CONTROL_VERB_CHECK ? 1 : -(int)verb;

		send_request(fd, CONTROL_VERSION, verb);
		turn(&w);
		snprintf(text, sizeof(text), known ? "verb %u" : "verb %u: expected 1 to 5", verb);
		assert_reply(fd, known ? answer : -EINVAL, text);
		assert_int_equal(w.served, served += known);
	}
	close_watcher(&w);
}

static void test_the_silent_cost_nobody_else(void **state)
{
	struct watcher w;
	const uint64_t start_ms = now_ms();
	int silent[CONTROL_MAX_CLIENTS], late;
	char byte;

	assert_int_equal(open_watcher(&w, *state), 0);
	for (size_t i = 0; i < LEN(silent); i++) {
		silent[i] = connect_raw(w.dir_fd);
		turn(&w);
	}
	assert_int_equal(count_clients(&w), CONTROL_MAX_CLIENTS);

	/* All places are taken: the oldest gives way, however many come. */
	w.control.clients[3].came_ms -= 1000;
	assert_serves(&w);
	assert_int_equal(count_clients(&w), CONTROL_MAX_CLIENTS - 1);
	assert_closed(silent[3]);
	late = connect_raw(w.dir_fd);
	turn(&w);
	for (int i = 0; i < 20; i++)
		assert_serves(&w);

	/* Their time has come. */
	control_expire(&w.control, start_ms - 1);
	assert_int_equal(count_clients(&w), CONTROL_MAX_CLIENTS - 1);
	control_expire(&w.control, now_ms() + CONTROL_PATIENCE_MS + 1);
	assert_int_equal(count_clients(&w), 0);
	for (size_t i = 0; i < LEN(silent); i++)
		if (i != 3)
			close(silent[i]);
	assert_int_equal(recv(late, &byte, 1, 0), 0);
	close(late);
	assert_serves(&w);
	close_watcher(&w);
}

/* Late, but before the loop was round to it: a request is not lost to the next client. */
static void test_a_late_request_is_not_lost(void **state)
{
	int fds[CONTROL_MAX_CLIENTS], next;
	struct watcher w;

	assert_int_equal(open_watcher(&w, *state), 0);
	for (size_t i = 0; i < LEN(fds); i++) {
		fds[i] = connect_raw(w.dir_fd);
		turn(&w);
	}
	next = connect_raw(w.dir_fd); /* the listening socket is due first */
	for (size_t i = 0; i < LEN(fds); i++)
		send_request(fds[i], CONTROL_VERSION, CONTROL_VERB_CHECK);
	turn(&w);
	for (size_t i = 0; i < LEN(fds); i++)
		assert_reply(fds[i], 1, "verb 3");
	assert_int_equal(count_clients(&w), 1);
	close(next);
	turn(&w);
	close_watcher(&w);
}

static void test_half_closed(void **state)
{
	struct watcher w;
	int fd;

	assert_int_equal(open_watcher(&w, *state), 0);

	fd = connect_raw(w.dir_fd); /* nothing said, nothing more to say */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	turn(&w);
	assert_closed(fd);

	fd = connect_raw(w.dir_fd); /* asked, and listens */
	send_request(fd, CONTROL_VERSION, CONTROL_VERB_CHECK);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	turn(&w);
	assert_reply(fd, 1, "verb 3");

	fd = connect_raw(w.dir_fd); /* asked, and does not want to know: served, no SIGPIPE */
	send_request(fd, CONTROL_VERSION, CONTROL_VERB_CHECK);
	assert_int_equal(shutdown(fd, SHUT_RD), 0);
	turn(&w);
	close(fd);

	fd = connect_raw(w.dir_fd); /* the same, gone */
	send_request(fd, CONTROL_VERSION, CONTROL_VERB_CHECK);
	close(fd);
	turn(&w);

	close(connect_raw(w.dir_fd)); /* gone without a word */
	turn(&w);
	assert_int_equal(w.served, 3);
	assert_int_equal(count_clients(&w), 0);
	assert_serves(&w);
	close_watcher(&w);
}

static void send_with_fds(int fd, const void *data, size_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(64 * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	int fds[64];

	for (size_t i = 0; i < LEN(fds); i++)
		fds[i] = fd;
	control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
					   .cmsg_type = SCM_RIGHTS,
					   .cmsg_len = CMSG_LEN(sizeof(fds)) };
	memcpy(CMSG_DATA(&control.header), fds, sizeof(fds));
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static void test_passed_descriptors_do_not_stay(void **state)
{
	const struct control_request request = { .version = CONTROL_VERSION,
						 .verb = CONTROL_VERB_CHECK };
	struct watcher w;
	unsigned int fds;
	int fd;

	assert_int_equal(open_watcher(&w, *state), 0);
	fds = count_fds();
	for (int i = 0; i < 100; i++) {
		fd = connect_raw(w.dir_fd);
		send_with_fds(fd, &request, sizeof(request));
		send_with_fds(fd, "more", 4);
		turn(&w);
		close(fd);
	}
	assert_int_equal(w.served, 100);
	assert_int_equal(count_fds(), fds);
	close_watcher(&w);
}

/* At the limit of open files the loop neither spins nor goes deaf. */
static void test_out_of_descriptors(void **state)
{
	struct rlimit before, low;
	struct watcher w;
	int clients[20];

	assert_int_equal(open_watcher(&w, *state), 0);
	for (size_t i = 0; i < LEN(clients); i++) {
		clients[i] = connect_raw(w.dir_fd);
		send_request(clients[i], CONTROL_VERSION, CONTROL_VERB_CHECK);
	}
	/* The next number would be that of the last client + 1. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	low = (struct rlimit){ (rlim_t)clients[LEN(clients) - 1] + 1, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	turn(&w); /* asserts that it comes to rest */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (size_t i = 0; i < LEN(clients); i++)
		assert_closed(clients[i]);
	assert_int_equal(w.served, 0);
	assert_serves(&w);
	close_watcher(&w);
}

/* Who may connect by the mode of the files, and yet is neither root nor the watcher's user. */
static void test_a_foreign_user_is_refused(void **state)
{
	siginfo_t ended = { .si_pid = 0 };
	struct control_reply reply;
	struct watcher w;
	pid_t pid;

	if (geteuid())
		SKIP("clients of another user: not root");
	assert_int_equal(open_watcher(&w, *state), 0);
	assert_int_equal(chmod(*state, 0755), 0);
	assert_int_equal(fchmodat(w.dir_fd, "control", 0666, 0), 0);
	pid = fork_bounded();
	if (!pid) {
		if (setuid(NOBODY))
			_exit(1);
		_exit(control_ask(w.dir_fd, *state, CONTROL_VERB_STATUS, PLENTY_MS, &reply) ==
				      -ECONNRESET ?
			      0 :
			      2);
	}
	for (int i = 0;
	     i < 500 && waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	     ended.si_pid != pid;
	     i++)
		assert_int_equal(loop_wait(&w.loop, 20), 0);
	assert_int_equal(reap(pid), 0);
	assert_int_equal(w.served, 0);
	close_watcher(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_exchange),
		IN_DIR(test_fifty_at_once),
		IN_DIR(test_a_crowd_is_served_in_one_go),
		IN_DIR(test_garbage_of_each_size),
		IN_DIR(test_each_version_and_verb),
		IN_DIR(test_the_silent_cost_nobody_else),
		IN_DIR(test_a_late_request_is_not_lost),
		IN_DIR(test_half_closed),
		IN_DIR(test_passed_descriptors_do_not_stay),
		IN_DIR(test_out_of_descriptors),
		IN_DIR(test_a_foreign_user_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
