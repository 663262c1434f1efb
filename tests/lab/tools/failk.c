/*
 * failk.c - a library to preload: one chosen call fails
 *
 *	FAILK_CALL	which function: a name of the table below
 *	FAILK_AT	which of its calls, from 1; 0: none, only count
 *	FAILK_HOW	an errno's number; or "short", which cuts an answer to 8 bytes
 *	FAILK_TIMES	how many in a row fail, 1 unless given; 0: all from there on
 *	FAILK_REPORT	a file that gets "CALLS FAILED" when the program ends
 *
 * The real work is done by system calls and by the C library's own allocator:
 * dlsym() allocates, and would meet the functions it looks for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHORT_BYTES 8 /* less than a netlink header */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static struct {
	const char *call;
	unsigned long at, times, calls, failed;
	int how; /* an errno, or 0 for "short" */
	int ready;
} plan;

static void read_plan(void)
{
	const char *text;

	plan.ready = 1;
	plan.call = getenv("FAILK_CALL");
	text = getenv("FAILK_AT");
	plan.at = text ? strtoul(text, NULL, 10) : 0;
	text = getenv("FAILK_TIMES");
	plan.times = text ? strtoul(text, NULL, 10) : 1;
	text = getenv("FAILK_HOW");
	plan.how = text && strcmp(text, "short") ? atoi(text) : 0;
}

/* Is it this call's turn?  Functions of several names share one count: "open", "recv", "rename". */
static int is_chosen(const char *call)
{
	if (!plan.ready)
		read_plan();
	if (!plan.call || strcmp(plan.call, call))
		return 0;
	plan.calls++;
	if (!plan.at || plan.calls < plan.at || (plan.times && plan.calls >= plan.at + plan.times))
		return 0;
	plan.failed++;
	return 1;
}

static int fails(const char *call)
{
	if (!is_chosen(call))
		return 0;
	errno = plan.how;
	return 1;
}

static void __attribute__((destructor)) report(void)
{
	const char *path = getenv("FAILK_REPORT");
	char text[64];
	long fd;
	int n;

	if (!path)
		return;
	fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	n = snprintf(text, sizeof(text), "%lu %lu\n", plan.calls, plan.failed);
	if (fd >= 0 && syscall(SYS_write, fd, text, n) == n)
		syscall(SYS_close, fd);
}

/* --- memory --- */

void *malloc(size_t size)
{
	return fails("malloc") ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails("calloc") ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return fails("realloc") ? NULL : __libc_realloc(old, size);
}

/* --- sockets --- */

static ssize_t received(const char *call, long number, int fd, void *buf, size_t len, int flags,
			void *from, void *from_len)
{
	const int chosen = is_chosen(call);
	ssize_t n;

	if (chosen && plan.how) {
		errno = plan.how;
		return -1;
	}
	n = syscall(number, fd, buf, len, flags, from, from_len);
	return chosen && n > SHORT_BYTES ? SHORT_BYTES : n;
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
	return received("recv", SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
}

ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from,
		 socklen_t *from_len)
{
	return received("recv", SYS_recvfrom, fd, buf, len, flags, from, from_len);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	return received("recvmsg", SYS_recvmsg, fd, msg, (size_t)flags, 0, NULL, NULL);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return fails("sendmsg") ? -1 : syscall(SYS_sendmsg, fd, msg, flags);
}

ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	return fails("sendto") ? -1 : syscall(SYS_sendto, fd, buf, len, flags, to, to_len);
}

int socket(int family, int type, int protocol)
{
	return fails("socket") ? -1 : (int)syscall(SYS_socket, family, type, protocol);
}

/* --- files --- */

#define DEFINE_OPEN(name)                                                                          \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		va_list args;                                                                      \
		int mode;                                                                          \
                                                                                                   \
		va_start(args, flags);                                                             \
		mode = flags & O_CREAT ? va_arg(args, int) : 0;                                    \
		va_end(args);                                                                      \
		return fails("open") ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); \
	}

#define DEFINE_OPENAT(name)                                                                   \
	int name(int dir, const char *path, int flags, ...)                                   \
	{                                                                                     \
		va_list args;                                                                 \
		int mode;                                                                     \
                                                                                              \
		va_start(args, flags);                                                        \
		mode = flags & O_CREAT ? va_arg(args, int) : 0;                               \
		va_end(args);                                                                 \
		return fails("open") ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode); \
	}

DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

ssize_t write(int fd, const void *buf, size_t len)
{
	return fails("write") ? -1 : syscall(SYS_write, fd, buf, len);
}

int fsync(int fd)
{
	return fails("fsync") ? -1 : (int)syscall(SYS_fsync, fd);
}

int renameat(int old_dir, const char *old, int new_dir, const char *new)
{
	return fails("rename") ? -1 : (int)syscall(SYS_renameat2, old_dir, old, new_dir, new, 0);
}

int rename(const char *old, const char *new)
{
	return renameat(AT_FDCWD, old, AT_FDCWD, new);
}

/* --- namespaces --- */

int setns(int fd, int kind)
{
	return fails("setns") ? -1 : (int)syscall(SYS_setns, fd, kind);
}
