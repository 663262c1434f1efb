/* rundir.h: who may use the run directory, who holds it, and who no longer does */
#include "unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "files.h"
#include "rundir.h"

#define BOUND_S 60

static struct rundir opened(const char *path)
{
	char err[CONFIG_ERR] = "";
	struct rundir rd;

	if (rundir_open(&rd, path, err))
		fail_msg("%s", err);
	return rd;
}

/* A child that does this and then lives until it is killed. */
static pid_t start_child(void (*body)(struct rundir *rd), struct rundir *rd)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(BOUND_S);
		if (body)
			body(rd);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- the directory --- */

static void test_open(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR] = "", expected[CONFIG_ERR], longer[RUNDIR_PATH + 1];
	struct rundir rd;
	struct stat st;

	snprintf(path, sizeof(path), "%.100s/run", (char *)*state);
	assert_int_equal(rundir_open_read(&rd, path, err), -ENOENT);
	rd = opened(path);
	assert_int_equal(fstat(rd.dir_fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* Nothing is held, or made, that was not asked for. */
	assert_int_equal(rd.lock_fd, -1);
	assert_int_equal(faccessat(rd.dir_fd, "lock", F_OK, 0), -1);
	rundir_close(&rd);
	rundir_close(&rd);
	/* Somebody else could put a state there. */
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(rundir_open(&rd, path, err), -EACCES);
	snprintf(expected, sizeof(expected), "%s: expected a directory that only root may write to",
		 path);
	assert_string_equal(err, expected);
	assert_int_equal(rd.dir_fd, -1);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_true(rundir_open(&rd, longer, err) < 0);
	assert_int_equal(rd.dir_fd, -1);
	assert_int_equal(rmdir(path), 0);
	write_file(path, "x", 1);
	assert_int_equal(rundir_open(&rd, path, err), -ENOTDIR);
	rundir_close(&rd);
}

/* Removed, or another in its place: a watcher would talk to nobody there. */
static void test_in_place(void **state)
{
	char path[PATH_SIZE], aside[PATH_SIZE];
	struct rundir rd;

	snprintf(path, sizeof(path), "%.100s/run", (char *)*state);
	snprintf(aside, sizeof(aside), "%.100s/aside", (char *)*state);
	rd = opened(path);
	assert_true(rundir_is_in_place(&rd));
	assert_int_equal(rename(path, aside), 0);
	assert_false(rundir_is_in_place(&rd));
	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(rundir_is_in_place(&rd));
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink(aside, path), 0);
	assert_true(rundir_is_in_place(&rd));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(aside), 0);
	assert_false(rundir_is_in_place(&rd));
	rundir_close(&rd);
}

/* --- the lock of commands --- */

static void test_lock(void **state)
{
	char err[CONFIG_ERR] = "", expected[CONFIG_ERR];
	struct rundir one = opened(*state), two = opened(*state);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(rundir_lock(&one, 0, err), 0);
		assert_int_equal(rundir_lock(&two, 0, err), -EAGAIN);
		assert_int_equal(two.lock_fd, -1);
		snprintf(expected, sizeof(expected),
			 "%s/lock: another leakguard holds it for more than 0 s, expected it to finish",
			 (char *)*state);
		assert_string_equal(err, expected);
		if (i)
			rundir_close(&one);
		else
			rundir_unlock(&one);
		assert_int_equal(rundir_lock(&two, 0, err), 0);
		rundir_unlock(&two);
		rundir_unlock(&two);
	}
	rundir_close(&two);
}

static void lock_for_a_moment(struct rundir *rd)
{
	char err[CONFIG_ERR];

	if (rundir_lock(rd, 0, err))
		_exit(1);
	if (fork()) /* the parent goes on: ready */
		return;
	/* The lock is the open file's, so a copy keeps it: this child ends it a little later. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	usleep(100000);
	flock(rd->lock_fd, LOCK_UN);
	_exit(0);
}

/* It waits for one who finishes in time, and for a killed one not at all. */
static void test_lock_waits(void **state)
{
	struct rundir mine = opened(*state), theirs = opened(*state);
	char err[CONFIG_ERR] = "";
	pid_t pid = start_child(lock_for_a_moment, &theirs);

	assert_int_equal(rundir_lock(&mine, BOUND_S * 1000, err), 0);
	rundir_unlock(&mine);
	end_child(pid);
	assert_int_equal(rundir_lock(&mine, 0, err), 0);
	rundir_close(&mine);
	rundir_close(&theirs);
}

/* Readers share it, keep a change out meanwhile, and go on without it if one lasts. */
static void test_readers(void **state)
{
	struct rundir writer = opened(*state), readers[2];
	char err[CONFIG_ERR] = "";

	assert_int_equal(rundir_lock(&writer, 0, err), 0);
	assert_int_equal(rundir_open_read(&readers[0], *state, err), 0);
	assert_int_equal(readers[0].lock_fd, -1); /* not by opening: a reader may ask the watcher */
	rundir_lock_read(&readers[0]);		  /* waits its time out */
	rundir_close(&readers[0]);
	rundir_unlock(&writer);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(rundir_open_read(&readers[i], *state, err), 0);
		rundir_lock_read(&readers[i]);
	}
	rundir_close(&readers[0]);
	assert_int_equal(rundir_lock(&writer, 0, err), -EAGAIN);
	rundir_unlock(&readers[1]);
	assert_int_equal(rundir_lock(&writer, 0, err), 0);
	rundir_unlock(&writer);
	/* One that nobody took yet is no lock to wait for, nor made. */
	assert_int_equal(unlinkat(writer.dir_fd, "lock", 0), 0);
	rundir_lock_read(&readers[1]);
	assert_int_equal(readers[1].lock_fd, -1);
	rundir_close(&readers[1]);
	assert_int_equal(rundir_lock(&writer, 0, err), 0);
	rundir_close(&writer);
}

/* --- the claim of watchers --- */

static int ask_claim(const char *path, char err[CONFIG_ERR])
{
	struct rundir rd = opened(path);
	int fd, rc = rundir_claim(&rd, &fd, err);

	if (!rc)
		close(fd);
	rundir_close(&rd);
	return rc;
}

static void test_claim(void **state)
{
	char err[CONFIG_ERR] = "", expected[CONFIG_ERR], path[PATH_SIZE], *text;
	struct rundir rd = opened(*state);
	size_t len;
	int fd;

	assert_false(rundir_is_claimed(&rd)); /* and made no file */
	assert_int_equal(faccessat(rd.dir_fd, "watch.pid", F_OK, 0), -1);
	/* What a watcher that was killed has left is no claim, whatever it says. */
	snprintf(path, sizeof(path), "%.100s/watch.pid", (char *)*state);
	write_file(path, "1234567890\nand more\n", 20);
	assert_false(rundir_is_claimed(&rd));
	assert_int_equal(rundir_claim(&rd, &fd, err), 0);
	text = read_file(path, &len);
	snprintf(expected, sizeof(expected), "%d\n", (int)getpid());
	assert_string_equal(text, expected);
	free(text);
	/* Asking again and again neither takes it away nor gets it. */
	for (int i = 0; i < 3; i++) {
		assert_true(rundir_is_claimed(&rd));
		assert_int_equal(ask_claim(*state, err), -EBUSY);
	}
	snprintf(expected, sizeof(expected),
		 "%s: a watcher runs here already (process %d), expected none", path,
		 (int)getpid());
	assert_string_equal(err, expected);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(ask_claim(*state, err), -EBUSY);
	assert_non_null(strstr(err, "(process unknown)"));
	rundir_close(&rd); /* not the claim's end */
	assert_int_equal(ask_claim(*state, err), -EBUSY);
	close(fd);
	assert_int_equal(ask_claim(*state, err), 0);
}

/* A keeper's watcher, and what enable leaves behind: fork(2) copies it. */
static void test_claim_inherited(void **state)
{
	char err[CONFIG_ERR] = "";
	struct rundir rd = opened(*state);
	pid_t one, two;
	int fd;

	assert_int_equal(rundir_claim(&rd, &fd, err), 0);
	one = start_child(NULL, NULL);
	two = start_child(NULL, NULL);
	close(fd);
	assert_true(rundir_is_claimed(&rd));
	end_child(one);
	assert_true(rundir_is_claimed(&rd));
	assert_int_equal(ask_claim(*state, err), -EBUSY);
	end_child(two);
	assert_false(rundir_is_claimed(&rd));
	assert_int_equal(ask_claim(*state, err), 0);
	rundir_close(&rd);
}

/* Nothing is followed out of the directory, and nothing else is taken for a watcher. */
static void test_claim_refused(void **state)
{
	char err[CONFIG_ERR] = "", expected[CONFIG_ERR];
	struct rundir rd = opened(*state);

	assert_int_equal(symlinkat("elsewhere", rd.dir_fd, "watch.pid"), 0);
	assert_false(rundir_is_claimed(&rd));
	assert_int_equal(ask_claim(*state, err), -ELOOP);
	snprintf(expected, sizeof(expected), "%s/watch.pid: %s", (char *)*state, strerror(ELOOP));
	assert_string_equal(err, expected);
	assert_int_equal(faccessat(rd.dir_fd, "elsewhere", F_OK, 0), -1);
	rundir_close(&rd);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open),
		TEST(test_in_place),
		TEST(test_lock),
		TEST(test_lock_waits),
		TEST(test_readers),
		TEST(test_claim),
		TEST(test_claim_inherited),
		TEST(test_claim_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
