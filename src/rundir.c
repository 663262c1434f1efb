#include "rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_FILE    "lock"
#define CLAIM_FILE   "watch.pid"
#define LOCK_POLL_MS 10

static const char *hint(int err)
{
	return (err == -EACCES || err == -EPERM) && geteuid() ? ", expected to run as root" : "";
}

static int open_dir(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	struct stat st;

	*rd = RUNDIR_CLOSED;
	if (strlen(path) >= sizeof(rd->path)) {
		snprintf(reterr_text, CONFIG_ERR, "%.200s: expected a path of at most %zu bytes",
			 path, sizeof(rd->path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(rd->path, path);
	rd->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rd->dir_fd < 0) {
		const int err = -errno;

		snprintf(reterr_text, CONFIG_ERR, "%s: %s%s", path, strerror(-err), hint(err));
		return err;
	}
	if (fstat(rd->dir_fd, &st) || (st.st_uid != geteuid() && st.st_uid != 0) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH))) {
		snprintf(reterr_text, CONFIG_ERR,
			 "%s: expected a directory that only root may write to", path);
		rundir_close(rd);
		return -EACCES;
	}
	return 0;
}

int rundir_open(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	if (mkdir(path, 0700) && errno != EEXIST) {
		const int err = -errno;

		*rd = RUNDIR_CLOSED;
		snprintf(reterr_text, CONFIG_ERR, "%.200s: %s%s", path, strerror(-err), hint(err));
		return err;
	}
	return open_dir(rd, path, reterr_text);
}

/* flock(2) with a limit: 0, -EAGAIN when it is over, or another -errno. */
static int wait_lock(int fd, int operation, int limit_ms)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };

	for (int waited_ms = 0; flock(fd, operation | LOCK_NB); waited_ms += LOCK_POLL_MS) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (waited_ms >= limit_ms)
			return -EAGAIN;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int rundir_lock(struct rundir *rd, int limit_ms, char reterr_text[CONFIG_ERR])
{
	int err;

	rd->lock_fd =
		openat(rd->dir_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = rd->lock_fd < 0 ? -errno : wait_lock(rd->lock_fd, LOCK_EX, limit_ms);
	if (err == -EAGAIN)
		snprintf(reterr_text, CONFIG_ERR,
			 "%s/%s: another leakguard holds it for more than %d s, expected it to finish",
			 rd->path, LOCK_FILE, limit_ms / 1000);
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, LOCK_FILE, strerror(-err));
	if (err)
		rundir_unlock(rd);
	return err;
}

void rundir_unlock(struct rundir *rd)
{
	if (rd->lock_fd >= 0)
		close(rd->lock_fd);
	rd->lock_fd = -1;
}

int rundir_open_read(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	return open_dir(rd, path, reterr_text);
}

void rundir_lock_read(struct rundir *rd)
{
	rd->lock_fd = openat(rd->dir_fd, LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (rd->lock_fd >= 0)
		(void)wait_lock(rd->lock_fd, LOCK_SH, RUNDIR_READ_LOCK_MS);
}

void rundir_close(struct rundir *rd)
{
	rundir_unlock(rd);
	if (rd->dir_fd >= 0)
		close(rd->dir_fd);
	rd->dir_fd = -1;
}

bool rundir_is_in_place(const struct rundir *rd)
{
	struct stat ours, there;

	return !fstat(rd->dir_fd, &ours) && !stat(rd->path, &there) &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

void rundir_sign_claim(int fd)
{
	char pid[16];
	const int len = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());

	/* For people's eyes alone: it is the lock that counts. */
	if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)len, 0) != len)
		(void)ftruncate(fd, 0);
}

int rundir_claim(const struct rundir *rd, int *ret_fd, char reterr_text[CONFIG_ERR])
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char pid[16] = "";
	ssize_t n;
	int fd = openat(rd->dir_fd, CLAIM_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0) {
		const int err = -errno;

		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, CLAIM_FILE,
			 strerror(-err));
		return err;
	}
	/* Of the open file and not of the process (fcntl_locking(2)): a child keeps it. */
	if (fcntl(fd, F_OFD_SETLK, &whole)) {
		const int err = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;

		if (err != -EBUSY) {
			snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, CLAIM_FILE,
				 strerror(-err));
			close(fd);
			return err;
		}
		n = read(fd, pid, sizeof(pid) - 1);
		pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
		snprintf(reterr_text, CONFIG_ERR,
			 "%s/%s: a watcher runs here already (process %s), expected none", rd->path,
			 CLAIM_FILE, *pid ? pid : "unknown");
		close(fd);
		return err;
	}
	rundir_sign_claim(fd);
	*ret_fd = fd;
	return 0;
}

bool rundir_is_claimed(const struct rundir *rd)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	const int fd = openat(rd->dir_fd, CLAIM_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	bool claimed;

	if (fd < 0)
		return false;
	claimed = !fcntl(fd, F_OFD_GETLK, &whole) && whole.l_type != F_UNLCK;
	close(fd);
	return claimed;
}
