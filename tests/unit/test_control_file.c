/* control.h, the socket file: in the place of whatever has the name, and only ours is removed */
#include "unit.h"

#include <sched.h>
#include <sys/mount.h>

#include "watchers.h"

/* control_open() whatever has the name; the outside is not touched. */
static void assert_replaces(const char *dir)
{
	struct watcher w;
	struct stat st;

	assert_int_equal(open_watcher(&w, dir), 0);
	assert_true(control_is_in_place(&w.control, w.dir_fd));
	assert_int_equal(fstatat(w.dir_fd, "control", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_serves(&w);
	close_watcher(&w);
	assert_int_equal(access(dir, F_OK), 0);
}

static void assert_missing(int dir_fd, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(errno, ENOENT);
}

static void test_replaces_what_has_the_name(void **state)
{
	const char *const names[] = { "control", "control.new" };
	const int dir_fd = open_dir(*state);
	char path[PATH_SIZE + 16], other[PATH_SIZE + 16], *data;
	size_t len;

	snprintf(other, sizeof(other), "%s/other", (char *)*state);
	write_file(other, "kept", 4);
	for (size_t i = 0; i < LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", (char *)*state, names[i]);
		write_file(path, "x", 1);
		assert_replaces(*state);
		assert_int_equal(mkdir(path, 0700), 0);
		assert_replaces(*state);
		assert_int_equal(symlink(other, path), 0);
		assert_replaces(*state);
		assert_int_equal(symlink("/nowhere/at/all", path), 0);
		assert_replaces(*state);
		assert_int_equal(mkfifo(path, 0600), 0);
		assert_replaces(*state);
		kill_child(start_watcher(*state)); /* a stale socket */
		assert_replaces(*state);
		assert_missing(dir_fd, "control");
		assert_missing(dir_fd, "control.new");
	}
	data = read_file(other, &len);
	assert_string_equal(data, "kept");
	free(data);
	close(dir_fd);
}

static void test_a_full_directory_has_the_name(void **state)
{
	const unsigned int fds = count_fds();
	const int dir_fd = open_dir(*state);
	char expected[CONFIG_ERR];
	struct watcher w;

	assert_int_equal(mkdirat(dir_fd, "control", 0700), 0);
	assert_int_equal(mkdirat(dir_fd, "control/something", 0700), 0);
	assert_int_equal(open_watcher(&w, *state), -EISDIR);
	snprintf(expected, sizeof(expected), "%s/control: Is a directory, expected none; remove it",
		 (char *)*state);
	assert_string_equal(w.text, expected);
	assert_missing(dir_fd, "control.new");
	assert_int_equal(loop_wait(&w.loop, 0), 0);
	close_watcher(&w); /* closed a second time */
	assert_int_equal(unlinkat(dir_fd, "control/something", AT_REMOVEDIR), 0);
	close(dir_fd);
	assert_int_equal(count_fds(), fds);
}

static void test_mode_under_any_umask(void **state)
{
	const mode_t masks[] = { 0, 0777, 0177, 0277 };
	const mode_t before = umask(0);

	for (size_t i = 0; i < LEN(masks); i++) {
		umask(masks[i]);
		assert_replaces(*state);
	}
	umask(before);
}

static void test_removed_and_replaced(void **state)
{
	struct watcher w, next;

	assert_int_equal(open_watcher(&w, *state), 0);
	assert_int_equal(unlinkat(w.dir_fd, "control", 0), 0);
	assert_false(control_is_in_place(&w.control, w.dir_fd));

	assert_int_equal(open_watcher(&next, *state), 0);
	assert_false(control_is_in_place(&w.control, w.dir_fd));
	assert_true(control_is_in_place(&next.control, w.dir_fd));
	close_watcher(&w);
	assert_true(control_is_in_place(&next.control, next.dir_fd));
	assert_serves(&next);
	close_watcher(&next);
	assert_false(control_is_in_place(&next.control, AT_FDCWD));
}

/* A run directory of 170 bytes, which is more than sun_path. */
static void test_long_path(void **state)
{
	char dir[171];
	const size_t len = (size_t)snprintf(dir, sizeof(dir), "%s/", (char *)*state);
	struct control_reply reply;
	int dir_fd;
	pid_t pid;

	memset(dir + len, 'd', sizeof(dir) - 1 - len);
	dir[sizeof(dir) - 1] = '\0';
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_replaces(dir);
	pid = start_watcher(dir);
	dir_fd = open_dir(dir);
	assert_int_equal(control_ask(dir_fd, dir, CONTROL_VERB_CHECK, PLENTY_MS, &reply), 0);
	assert_int_equal(reply.result, 1);
	kill_child(pid);
	assert_int_equal(unlinkat(dir_fd, "control", 0), 0);
	close(dir_fd);
}

/* The same by plain paths: exit status of a child without /proc, 77 where it cannot be had. */
static int run_without_proc(const char *dir)
{
	char longer[171], moved[PATH_SIZE + 16];
	struct control_reply reply;
	struct watcher w;
	int fd;

	if (unshare(CLONE_NEWNS) || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/proc", "tmpfs", 0, NULL))
		return 77;
	if (open_watcher(&w, dir))
		return 1;
	fd = fork_bounded();
	if (!fd)
		_exit(control_ask(w.dir_fd, dir, CONTROL_VERB_CHECK, PLENTY_MS, &reply) ||
		      reply.result != 1);
	for (int i = 0; i < 500 && !w.served; i++)
		if (loop_wait(&w.loop, 20))
			return 2;
	if (reap(fd))
		return 3;
	close_watcher(&w);
	/* Another directory has the path meanwhile: it is not gone to. */
	snprintf(moved, sizeof(moved), "%s/moved", dir);
	snprintf(longer, sizeof(longer), "%s/run", dir);
	if (mkdir(longer, 0700) || (fd = open(longer, O_RDONLY | O_CLOEXEC)) < 0 ||
	    rename(longer, moved) || mkdir(longer, 0700))
		return 4;
	if (control_open(&w.control, &w.loop, fd, longer, serve, &w, w.text) != -ENOENT)
		return 5;
	if (open_watcher(&w, longer))
		return 8;
	if (control_ask(fd, longer, CONTROL_VERB_CHECK, 100, &reply) != -ENOENT)
		return 6;
	close_watcher(&w);
	/* And a path that is too long is said to be so. */
	memset(longer, 'd', sizeof(longer) - 1);
	memcpy(longer, dir, strlen(dir));
	longer[strlen(dir)] = '/';
	longer[sizeof(longer) - 1] = '\0';
	return mkdir(longer, 0700) || open_watcher(&w, longer) != -ENAMETOOLONG ? 7 : 0;
}

static void test_without_proc(void **state)
{
	const pid_t pid = fork_bounded();
	int status;

	if (!pid)
		_exit(run_without_proc(*state));
	status = reap(pid);
	if (status == 77)
		SKIP("a host without /proc: no namespace to be had");
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(test_replaces_what_has_the_name),
		IN_DIR(test_a_full_directory_has_the_name),
		IN_DIR(test_mode_under_any_umask),
		IN_DIR(test_removed_and_replaced),
		IN_DIR(test_long_path),
		IN_DIR(test_without_proc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
