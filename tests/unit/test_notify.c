/* notify.h: what reaches a service manager, and descriptors passed by number */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "child.h"
#include "notify.h"
#include "privs.h"

/* --- a service manager: a datagram socket by an abstract name --- */

static int manager_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char name[64];

	snprintf(name, sizeof(name), "@leakguard-unit-%d", (int)getpid());
	memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
	if (fd < 0 || setenv("NOTIFY_SOCKET", name, 1) ||
	    bind(fd, (struct sockaddr *)&addr,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))))
		return -1;
	return fd;
}

/* The next message, "" for none; ret_fd may be NULL. */
static const char *manager_read(int manager, int *ret_fd)
{
	static char text[4096];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	const ssize_t n = recvmsg(manager, &msg, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	text[n < 0 ? 0 : n] = '\0';
	if (ret_fd) {
		*ret_fd = -1;
		if (c && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	}
	return text;
}

static int tell_all(int manager)
{
	char longer[1000] = "";

	notify_ready();
	CHECK(!strcmp(manager_read(manager, NULL), "READY=1"));
	notify_status("guarded by wg0\nREADY=0");
	CHECK(!strcmp(manager_read(manager, NULL), "STATUS=guarded by wg0?READY=0"));
	memset(longer, 'x', sizeof(longer) - 1);
	notify_status(longer);
	CHECK(strlen(manager_read(manager, NULL)) == strlen("STATUS=") + 255);
	notify_alive();
	CHECK(!strcmp(manager_read(manager, NULL), "WATCHDOG=1"));
	notify_stopping();
	CHECK(!strcmp(manager_read(manager, NULL), "STOPPING=1"));
	CHECK(!*manager_read(manager, NULL));
	return 0;
}

static int body_messages(void)
{
	const int manager = manager_open();

	CHECK(manager >= 0);
	if (!notify_open())
		return CHILD_SKIP;
	return tell_all(manager);
}

/* The library's first call may want more than the later ones. */
static int body_messages_filtered(void)
{
	const int manager = manager_open();
	int err;

	CHECK(manager >= 0);
	if (!notify_open())
		return CHILD_SKIP;
	CHECK(!privs_limit());
	CHECK(!privs_drop());
	err = privs_filter();
	if (err == -EOPNOTSUPP)
		return CHILD_SKIP;
	CHECK(!err);
	return tell_all(manager);
}

static int body_store(void)
{
	const int manager = manager_open();
	struct stat ours, theirs;
	char long_name[300];
	int fd, copy;

	CHECK(manager >= 0);
	if (!notify_open())
		return CHILD_SKIP;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	memset(long_name, 'x', sizeof(long_name));
	long_name[256] = '\0';
	CHECK(notify_store_fd(fd, "") == -EINVAL);
	CHECK(notify_store_fd(fd, "a:b") == -EINVAL);
	CHECK(notify_store_fd(fd, "a\nFDSTOREREMOVE=1") == -EINVAL);
	CHECK(notify_store_fd(fd, long_name) == -EINVAL);
	CHECK(notify_store_fd(-1, "owner") == -EINVAL);
	CHECK(!*manager_read(manager, NULL));

	CHECK(!notify_store_fd(fd, "owner"));
	CHECK(!strcmp(manager_read(manager, &copy), "FDSTORE=1\nFDNAME=owner\nFDPOLL=0"));
	CHECK(copy >= 0 && copy != fd);
	CHECK(!fstat(fd, &ours) && !fstat(copy, &theirs) && ours.st_ino == theirs.st_ino);
	return 0;
}

static int body_absent(void)
{
	CHECK(!unsetenv("NOTIFY_SOCKET") && !unsetenv("JOURNAL_STREAM"));
	CHECK(!notify_open());
	notify_ready();
	notify_status("nobody");
	notify_alive();
	CHECK(!setenv("WATCHDOG_USEC", "30000000", 1));
	CHECK(notify_watchdog_ms() == 0);
	CHECK(notify_store_fd(2, "owner") == -EOPNOTSUPP);
	return 0;
}

static int body_watchdog(void)
{
	static const struct {
		const char *usec;
		uint64_t expected_ms;
	} rows[] = {
		{ "30000000", 30000 }, { "1", 1 },  { "0", 0 },
		{ "-1", 0 },	       { "", 0 },   { "8000000000", 8000000 },
		{ " 5", 0 },	       { "5s", 0 }, { "99999999999999999999", 0 },
	};
	char pid[16];

	CHECK(manager_open() >= 0);
	if (!notify_open())
		return CHILD_SKIP;
	CHECK(!unsetenv("WATCHDOG_USEC") && !unsetenv("WATCHDOG_PID"));
	CHECK(notify_watchdog_ms() == 0);
	for (size_t i = 0; i < LEN(rows); i++) {
		CHECK(!setenv("WATCHDOG_USEC", rows[i].usec, 1));
		if (notify_watchdog_ms() != rows[i].expected_ms)
			return __LINE__ * 1000 + (int)i;
	}
	/* Ours, our parent's, somebody else's. */
	CHECK(!setenv("WATCHDOG_USEC", "2000", 1));
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	CHECK(!setenv("WATCHDOG_PID", pid, 1) && notify_watchdog_ms() == 2);
	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	CHECK(!setenv("WATCHDOG_PID", pid, 1) && notify_watchdog_ms() == 2);
	CHECK(!setenv("WATCHDOG_PID", "1", 1) && (getppid() == 1 || notify_watchdog_ms() == 0));
	CHECK(!setenv("WATCHDOG_PID", "x", 1) && notify_watchdog_ms() == 0);
	return 0;
}

static int body_has_journal(void)
{
	char stream[64];
	struct stat st;

	CHECK(!fstat(STDERR_FILENO, &st));
	CHECK(!unsetenv("JOURNAL_STREAM") && !notify_has_journal());
	CHECK(!setenv("JOURNAL_STREAM", "1:2", 1) && !notify_has_journal());
	CHECK(!setenv("JOURNAL_STREAM", "", 1) && !notify_has_journal());
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	CHECK(!setenv("JOURNAL_STREAM", stream, 1) && notify_has_journal());
	return 0;
}

/* --- descriptors by number --- */

static int set_listen(const char *pid, const char *fds, const char *names)
{
	if (pid ? setenv("LISTEN_PID", pid, 1) : unsetenv("LISTEN_PID"))
		return -1;
	if (fds ? setenv("LISTEN_FDS", fds, 1) : unsetenv("LISTEN_FDS"))
		return -1;
	return names ? setenv("LISTEN_FDNAMES", names, 1) : unsetenv("LISTEN_FDNAMES");
}

static int body_take(void)
{
	const int null = open("/dev/null", O_RDONLY);
	char pid[16];

	CHECK(null >= 0);
	for (int fd = 3; fd < 6; fd++)
		CHECK(dup2(null, fd) == fd && !fcntl(fd, F_SETFD, 0));
	close(6);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());

	CHECK(!set_listen(pid, "3", "a:owner:b"));
	CHECK(notify_take_fd("nobody") == -ENOENT);
	CHECK(notify_take_fd("own") == -ENOENT && notify_take_fd("owner:b") == -ENOENT);
	CHECK(notify_take_fd("") == -ENOENT);
	for (int fd = 3; fd < 6; fd++)
		CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && !fcntl(fd, F_SETFD, 0));
	CHECK(notify_take_fd("owner") == 4);
	CHECK(notify_take_fd("a") == 3 && notify_take_fd("b") == 5);
	for (int fd = 3; fd < 6; fd++)
		CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);

	/* Named twice; unnamed in between; named, but not there. */
	CHECK(!set_listen(pid, "3", "a:owner:owner") && notify_take_fd("owner") == 4);
	CHECK(!set_listen(pid, "3", "::owner") && notify_take_fd("owner") == 5);
	CHECK(!set_listen(pid, "4", "a:b:c:owner") && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen(pid, "1", "a:owner") && notify_take_fd("owner") == -ENOENT);
	return 0;
}

static int body_take_hostile(void)
{
	static const char *const counts[] = { NULL, "",	  "0",		"-1",	      "65",
					      "x",  "3 ", "2147483647", "4294967297", "1e3" };
	char pid[24], wrong[40];
	int fd;

	CHECK(dup2(2, 3) == 3);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	for (size_t i = 0; i < LEN(counts); i++) {
		CHECK(!fcntl(3, F_SETFD, 0));
		CHECK(!set_listen(pid, counts[i], "owner"));
		fd = notify_take_fd("owner");
		if (fd != -ENOENT)
			return __LINE__ * 1000 + (int)i;
		CHECK(fcntl(3, F_GETFD) == 0);
	}
	CHECK(!set_listen(NULL, "1", "owner") && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen("", "1", "owner") && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen("1", "1", "owner") && notify_take_fd("owner") == -ENOENT);
	snprintf(wrong, sizeof(wrong), "%sx", pid);
	CHECK(!set_listen(wrong, "1", "owner") && notify_take_fd("owner") == -ENOENT);
	snprintf(wrong, sizeof(wrong), "%lld", (1LL << 32) + getpid());
	CHECK(!set_listen(wrong, "1", "owner") && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen(pid, "1", NULL) && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen(pid, "1", ":") && notify_take_fd("owner") == -ENOENT);
	CHECK(!set_listen(pid, "1", "owner") && notify_take_fd("owner") == 3);
	return 0;
}

/* What the shell finds after exec is what was passed. */
static int body_pass(void)
{
	static const char script[] = "test \"$LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES\" = "
				     "\"$$ 2 owner:claim\" && test /dev/fd/3 -ef /dev/null && "
				     "test /dev/fd/4 -ef /dev/zero";
	static const char *const names[] = { "owner", "claim", "c", "d", "e" };
	static const char *const bad[] = { "owner", "a:b" };
	static const int none[] = { 200, -1 };
	int fds[NOTIFY_MAX_PASSED + 1] = { open("/dev/null", O_RDONLY | O_CLOEXEC),
					   open("/dev/zero", O_RDONLY | O_CLOEXEC) };

	CHECK(fds[0] >= 0 && fds[1] >= 0);
	CHECK(notify_pass_fds(fds, bad, 2) == -EINVAL);
	CHECK(notify_pass_fds(fds, names, 0) == -EINVAL);
	CHECK(notify_pass_fds(fds, names, NOTIFY_MAX_PASSED + 1) == -EINVAL);
	CHECK(notify_pass_fds(none, names, 1) == -EBADF);
	CHECK(notify_pass_fds(none + 1, names, 1) == -EBADF);
	CHECK(!notify_pass_fds(fds, names, 2));
	CHECK(fcntl(3, F_GETFD) == 0 && fcntl(4, F_GETFD) == 0);
	CHECK(notify_take_fd("claim") == 4 && notify_take_fd("owner") == 3);
	/* Each to the other's number and back, and to its own. */
	for (int i = 0; i < 3; i++) {
		fds[0] = i < 2 ? 4 : 3;
		fds[1] = i < 2 ? 3 : 4;
		CHECK(!notify_pass_fds(fds, names, 2));
		CHECK(fcntl(3, F_GETFD) == 0 && fcntl(4, F_GETFD) == 0);
	}
	/* To where nothing is. */
	CHECK(dup2(3, 20) == 20 && dup2(4, 21) == 21 && !close(3) && !close(4));
	fds[0] = 20;
	fds[1] = 21;
	CHECK(!notify_pass_fds(fds, names, 2));
	CHECK(fcntl(3, F_GETFD) == 0 && fcntl(4, F_GETFD) == 0);
	execl("/bin/sh", "sh", "-c", script, NULL);
	return __LINE__;
}

CHILD_TEST(test_messages, body_messages)
CHILD_TEST(test_messages_filtered, body_messages_filtered)
CHILD_TEST(test_store, body_store)
CHILD_TEST(test_absent, body_absent)
CHILD_TEST(test_watchdog, body_watchdog)
CHILD_TEST(test_has_journal, body_has_journal)
CHILD_TEST(test_take, body_take)
CHILD_TEST(test_take_hostile, body_take_hostile)

/* It says nothing any more: the shell's exit status is what is left. */
static void test_pass(void **state)
{
	(void)state;
	assert_int_equal(child_run(body_pass), 1000000);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages), cmocka_unit_test(test_messages_filtered),
		cmocka_unit_test(test_store),	 cmocka_unit_test(test_absent),
		cmocka_unit_test(test_watchdog), cmocka_unit_test(test_has_journal),
		cmocka_unit_test(test_take),	 cmocka_unit_test(test_take_hostile),
		cmocka_unit_test(test_pass),
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
