#include "notify.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "text.h"

#define FIRST_FD     3	 /* SD_LISTEN_FDS_START, sd-daemon.h */
#define MAX_FDS	     64	 /* more than are passed by any unit of ours */
#define NAME_MAX_LEN 255 /* FDNAME_MAX, systemd's src/basic/fd-util.h */
#define STATUS_SIZE  256

/* NULL where it is not set, or empty. */
static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* --- systemd, by its library --- */

#ifdef HAVE_LIBSYSTEMD

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <dlfcn.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

/* Set once, by notify_open(). */
static struct {
	typeof(sd_pid_notify_with_fds) *notify;
	typeof(sd_journal_sendv) *journal_sendv;
} sd;

static bool load(void)
{
	/* Never closed: it keeps the journal's socket. */
	void *lib = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return false;
	*(void **)&sd.journal_sendv = dlsym(lib, "sd_journal_sendv");
	if (sd.journal_sendv)
		*(void **)&sd.notify = dlsym(lib, "sd_pid_notify_with_fds");
	return sd.notify;
}

static bool is_listened_to(void)
{
	return sd.notify && variable("NOTIFY_SOCKET");
}

/* The message goes out with a copy of the descriptor, or without any for -1. */
static int tell(const char *message, int fd)
{
	int sent;

	if (!is_listened_to())
		return -EOPNOTSUPP;
	sent = sd.notify(0, 0, message, &fd, fd >= 0);
	return sent > 0 ? 0 : sent < 0 ? sent : -EOPNOTSUPP;
}

static int send_to_journal(int priority, const char *code, const char *text)
{
	char fields[4][1100];
	struct iovec iov[4];

	snprintf(fields[0], sizeof(fields[0]), "MESSAGE=%s", text);
	snprintf(fields[1], sizeof(fields[1]), "PRIORITY=%d", priority);
	snprintf(fields[2], sizeof(fields[2]), "SYSLOG_IDENTIFIER=leakguard");
	snprintf(fields[3], sizeof(fields[3]), "LEAKGUARD_EVENT=%s", code ? code : "");
	for (int i = 0; i < 4; i++)
		iov[i] = (struct iovec){ fields[i], strlen(fields[i]) };
	return sd.journal_sendv(iov, code ? 4 : 3);
}

bool notify_open(void)
{
	if (!variable("NOTIFY_SOCKET") && !variable("JOURNAL_STREAM"))
		return false;
	if (!load())
		return false;
	log_set_journal(send_to_journal);
	return is_listened_to();
}

#else

static bool is_listened_to(void)
{
	return false;
}

static int tell(const char *message, int fd)
{
	(void)message;
	(void)fd;
	return -EOPNOTSUPP;
}

bool notify_open(void)
{
	return false;
}

#endif

bool notify_has_journal(void)
{
	const char *stream = variable("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st))
		return false;
	snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return !strcmp(stream, own);
}

void notify_ready(void)
{
	(void)tell("READY=1", -1);
}

void notify_status(const char *status)
{
	char text[STATUS_SIZE], message[STATUS_SIZE + 8];

	/* A line break would start another assignment. */
	snprintf(message, sizeof(message), "STATUS=%s", text_quotable(status, text, sizeof(text)));
	(void)tell(message, -1);
}

void notify_stopping(void)
{
	(void)tell("STOPPING=1", -1);
}

uint64_t notify_watchdog_ms(void)
{
	const char *usec = variable("WATCHDOG_USEC"), *pid = variable("WATCHDOG_PID");
	unsigned long long n;
	uint32_t pid_number;
	char *end;

	if (!is_listened_to() || !usec || !isdigit((unsigned char)*usec))
		return 0;
	if (pid && (number_parse(pid, 1, INT32_MAX, &pid_number) ||
		    ((pid_t)pid_number != getpid() && (pid_t)pid_number != getppid())))
		return 0;
	errno = 0;
	n = strtoull(usec, &end, 10);
	if (errno || *end || !n)
		return 0;
	return n < 1000 ? 1 : n / 1000;
}

void notify_alive(void)
{
	(void)tell("WATCHDOG=1", -1);
}

/* --- descriptors that outlive us --- */

/* As systemd's fdname_is_valid(), but for "", which it takes. */
static bool is_name(const char *name)
{
	const size_t len = strnlen(name, NAME_MAX_LEN + 1);

	if (!len || len > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] < ' ' || name[i] > '~' || name[i] == ':')
			return false;
	return true;
}

int notify_store_fd(int fd, const char *name)
{
	char message[NAME_MAX_LEN + 64];

	if (fd < 0 || !is_name(name))
		return -EINVAL;
	snprintf(message, sizeof(message), "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
	return tell(message, fd);
}

int notify_take_fd(const char *name)
{
	const char *pid = variable("LISTEN_PID"), *count = variable("LISTEN_FDS"),
		   *names = variable("LISTEN_FDNAMES");
	uint32_t pid_number, n;
	int found = -ENOENT;

	if (!pid || !count || !names || !is_name(name) ||
	    number_parse(pid, 1, INT32_MAX, &pid_number) || (pid_t)pid_number != getpid() ||
	    number_parse(count, 1, MAX_FDS, &n))
		return -ENOENT;
	for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
		const size_t len = strcspn(names, ":");

		/* Fails on one that is not there after all. */
		if (!fcntl(fd, F_SETFD, FD_CLOEXEC) && found < 0 && len == strlen(name) &&
		    !memcmp(names, name, len))
			found = fd;
		names += len;
		names += *names == ':';
	}
	return found;
}

int notify_pass_fds(const int *fds, const char *const *names, size_t n)
{
	char list[NOTIFY_MAX_PASSED * (NAME_MAX_LEN + 1)], pid[16], count[16];
	int moved[NOTIFY_MAX_PASSED];
	size_t len = 0;

	if (!n || n > NOTIFY_MAX_PASSED)
		return -EINVAL;
	/* Out of the way first: one may have the number that another is to have. */
	for (size_t i = 0; i < n; i++) {
		if (!is_name(names[i]))
			return -EINVAL;
		moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + NOTIFY_MAX_PASSED);
		if (moved[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < n; i++) {
		if (dup2(moved[i], FIRST_FD + (int)i) < 0) /* clears close-on-exec */
			return -errno;
		close(moved[i]);
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ":" : "",
					names[i]);
	}
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	snprintf(count, sizeof(count), "%zu", n);
	if (setenv("LISTEN_PID", pid, 1) || setenv("LISTEN_FDS", count, 1) ||
	    setenv("LISTEN_FDNAMES", list, 1))
		return -errno;
	return 0;
}
