/* log.h: levels, the three sinks, lines that stay one line */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "child.h"
#include "log.h"
#include "notify.h"

/* stderr, from now on, and what it was given since. */
static int capture_fd = -1;

static int capture(void)
{
	char path[] = "/tmp/leakguard-unit-XXXXXX";

	capture_fd = mkstemp(path);
	if (capture_fd < 0 || unlink(path))
		return -1;
	return dup2(capture_fd, STDERR_FILENO) < 0 ? -1 : 0;
}

static const char *captured(void)
{
	static char text[8192];
	const ssize_t n = pread(capture_fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	if (ftruncate(capture_fd, 0) || lseek(capture_fd, 0, SEEK_SET))
		return "cannot capture";
	return text;
}

static int body_stderr(void)
{
	CHECK(!capture());
	log_error("a %d", 1);
	log_warning("b");
	log_notice("c");
	log_debug("d");
	CHECK(!strcmp(captured(), "leakguard: a 1\nleakguard: b\n"));
	log_set_level(LOG_LEVEL_NOTICE);
	log_notice("c");
	log_debug("d");
	log_event(LOG_LEVEL_NOTICE, "code", "e %s", "f");
	log_event(LOG_LEVEL_DEBUG, "code", "g");
	CHECK(!strcmp(captured(), "leakguard: c\nleakguard: e f\n"));
	log_raise_level(LOG_LEVEL_DEBUG);
	log_debug("d");
	CHECK(!strcmp(captured(), "leakguard: d\n"));
	log_raise_level(LOG_LEVEL_WARNING); /* that would be less */
	log_debug("d");
	CHECK(!strcmp(captured(), "leakguard: d\n"));
	return 0;
}

static int body_line(void)
{
	const char *said;

	CHECK(!capture());
	log_error("a\nleakguard: b\r\t\033[1m\177 \xc3\xa9");
	CHECK(!strcmp(captured(), "leakguard: a?leakguard: b???[1m? \xc3\xa9\n"));
	log_error("%02000d", 7);
	said = captured();
	CHECK(strlen(said) == strlen("leakguard: ") + 1023 + 1 && said[strlen(said) - 1] == '\n');
	errno = ENOSPC;
	log_error("c");
	CHECK(errno == ENOSPC);
	return 0;
}

static int journal_error;
static char journal_said[256];

static int fake_journal(int priority, const char *code, const char *text)
{
	snprintf(journal_said, sizeof(journal_said), "%d %s %s", priority, code ? code : "-", text);
	return journal_error;
}

static int body_journal(void)
{
	CHECK(!capture());
	log_set_level(LOG_LEVEL_DEBUG);
	log_open(LOG_SINK_JOURNAL);
	log_error("a");
	log_event(LOG_LEVEL_NOTICE, "undone", "b\nc");
	CHECK(!strcmp(captured(), "<3>a\n<5>b?c\n"));

	log_set_journal(fake_journal);
	log_event(LOG_LEVEL_NOTICE, "undone", "b\nc");
	CHECK(!strcmp(journal_said, "5 undone b?c"));
	log_warning("d");
	CHECK(!strcmp(journal_said, "4 - d") && !*captured());
	journal_error = -ECONNREFUSED;
	log_debug("e");
	CHECK(!strcmp(captured(), "<7>e\n"));
	log_open(LOG_SINK_STDERR);
	log_error("f");
	CHECK(!strcmp(captured(), "leakguard: f\n"));
	return 0;
}

/* --- real sockets, in a mount namespace of our own --- */

static int bind_datagram(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ? fd : -1;
}

static const char *read_datagram(int fd)
{
	static char text[4096];
	const ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

static int body_syslog(void)
{
	char tag[40];
	const char *said;
	int logger;

	if (child_isolate(CLONE_NEWNS) || mount("none", "/dev", "tmpfs", 0, NULL))
		return CHILD_SKIP;
	logger = bind_datagram("/dev/log");
	CHECK(logger >= 0);
	CHECK(!capture());
	log_open(LOG_SINK_SYSLOG);
	log_event(LOG_LEVEL_WARNING, "code", "a\nb");
	said = read_datagram(logger);
	snprintf(tag, sizeof(tag), " leakguard[%d]: a?b", (int)getpid());
	CHECK(!strncmp(said, "<28>", 4)); /* LOG_DAEMON | LOG_WARNING */
	CHECK(strlen(said) > strlen(tag) && !strcmp(said + strlen(said) - strlen(tag), tag));
	/* The logger goes away, and comes back. */
	close(logger);
	log_error("lost");
	CHECK(!unlink("/dev/log"));
	logger = bind_datagram("/dev/log");
	CHECK(logger >= 0);
	log_error("here");
	CHECK(strstr(read_datagram(logger), "]: here"));
	CHECK(!*captured());
	return 0;
}

static int body_systemd_journal(void)
{
	const char *said;
	int journal;

	if (child_isolate(CLONE_NEWNS) || mount("none", "/run", "tmpfs", 0, NULL))
		return CHILD_SKIP;
	CHECK(!mkdir("/run/systemd", 0755) && !mkdir("/run/systemd/journal", 0755));
	journal = bind_datagram("/run/systemd/journal/socket");
	CHECK(journal >= 0);
	CHECK(!setenv("JOURNAL_STREAM", "1:2", 1));
	CHECK(!capture());
	CHECK(!unsetenv("NOTIFY_SOCKET") && !notify_open());
	log_open(LOG_SINK_JOURNAL);
	log_event(LOG_LEVEL_ERROR, "undone", "a\nPRIORITY=0");
	if (!strcmp(captured(), "<3>a?PRIORITY=0\n"))
		return CHILD_SKIP; /* built without libsystemd */
	said = read_datagram(journal);
	CHECK(strstr(said, "MESSAGE=a?PRIORITY=0\n"));
	CHECK(strstr(said, "\nPRIORITY=3\n") && strstr(said, "\nSYSLOG_IDENTIFIER=leakguard\n"));
	CHECK(strstr(said, "\nLEAKGUARD_EVENT=undone\n"));
	log_warning("%01023d", 5);
	said = read_datagram(journal);
	CHECK(!strstr(said, "LEAKGUARD_EVENT") && strspn(said + strlen("MESSAGE="), "0") == 1022);
	return 0;
}

CHILD_TEST(test_stderr, body_stderr)
CHILD_TEST(test_line, body_line)
CHILD_TEST(test_journal, body_journal)
CHILD_TEST(test_syslog, body_syslog)
CHILD_TEST(test_systemd_journal, body_systemd_journal)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stderr),		cmocka_unit_test(test_line),
		cmocka_unit_test(test_journal),		cmocka_unit_test(test_syslog),
		cmocka_unit_test(test_systemd_journal),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
