/* child.h - what cannot be undone, and what needs root, is tested in a child */
#ifndef CHILD_H
#define CHILD_H

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A body's result where it had no namespace, or no library, to work with. */
#define CHILD_SKIP (-1)

/* In a child's body: the line that failed becomes its result. */
#define CHECK(condition)                 \
	do {                             \
		if (!(condition))        \
			return __LINE__; \
	} while (0)

static inline int child_write(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Root of a user namespace of its own, in others named by CLONE_NEW flags. */
static inline int child_isolate(int flags)
{
	char map[32];
	int uid = (int)getuid(), gid = (int)getgid();

	if (unshare(CLONE_NEWUSER | flags))
		return -1;
	(void)child_write("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %d 1", uid);
	if (child_write("/proc/self/uid_map", map))
		return -1;
	snprintf(map, sizeof(map), "0 %d 1", gid);
	if (child_write("/proc/self/gid_map", map))
		return -1;
	if (flags & CLONE_NEWNS)
		return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return 0;
}

/* Runs the body in a child of at most 20 s: 0, the line that failed, or CHILD_SKIP. */
static inline int child_run(int (*body)(void))
{
	int result = 0, status = 0, pipe_fd[2], write_fd;
	pid_t pid;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	/* Out of the way of those who pass descriptors by number. */
	write_fd = fcntl(pipe_fd[1], F_DUPFD_CLOEXEC, 300);
	assert_true(write_fd >= 300);
	close(pipe_fd[1]);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(20);
		result = body();
		/* No exit(): what checks for leaks there would need what was given up. */
		_exit(write(write_fd, &result, sizeof(result)) != sizeof(result));
	}
	close(write_fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (read(pipe_fd[0], &result, sizeof(result)) != sizeof(result))
		result = 1000000 + status;
	close(pipe_fd[0]);
	return result;
}

#define CHILD_TEST(name, body)                                       \
	static void name(void **state)                               \
	{                                                            \
		const int result = child_run(body);                  \
                                                                     \
		(void)state;                                         \
		if (result == CHILD_SKIP)                            \
			SKIP(#name ": no namespace, or no library"); \
		assert_int_equal(result, 0);                         \
	}

#endif
