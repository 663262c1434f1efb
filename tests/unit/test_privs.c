/* privs.h: what a process still can once it has given up the rest */
#include "unit.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>

#include "child.h"
#include "fwsock.h"
#include "privs.h"

/* linux/capability.h: CAP_NET_ADMIN, CAP_SYS_NICE */
#define NET_ADMIN (1ULL << 12)
#define SYS_NICE  (1ULL << 23)
#define ALL_CAPS  (~0ULL)

/* A line of /proc/self/status, as a number; -1 where it is not there. */
static unsigned long long proc_status(const char *name, int base)
{
	FILE *in = fopen("/proc/self/status", "re");
	unsigned long long value = ALL_CAPS;
	char line[256];

	while (in && fgets(line, sizeof(line), in))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, base);
	if (in)
		fclose(in);
	return value;
}

#define REFUSED(call) ((call) == -1 && errno == EPERM)

static int body_drop(void)
{
	unsigned long long kept;

	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	kept = proc_status("CapEff", 16) & (NET_ADMIN | SYS_NICE);
	CHECK(kept & NET_ADMIN);
	CHECK(!privs_drop());
#ifdef HAVE_LIBCAP_NG
	CHECK(proc_status("CapEff", 16) == kept);
	CHECK(proc_status("CapPrm", 16) == kept);
	CHECK(proc_status("CapInh", 16) == 0);
	CHECK(proc_status("CapAmb", 16) == 0);
	CHECK(proc_status("CapBnd", 16) == kept);
#else
	(void)kept;
#endif
	CHECK(proc_status("NoNewPrivs", 10) == 1);
	CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	CHECK(umask(0) == 077);
	return 0;
}

/* Twice, and with nothing to keep. */
static int body_drop_again(void)
{
	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	CHECK(!privs_drop());
	CHECK(!privs_drop());
	return 0;
}

static int body_drop_without(void)
{
	if (child_isolate(0))
		return CHILD_SKIP;
	CHECK(!setresuid(0, 0, 0));
	CHECK(!prctl(PR_SET_SECUREBITS, 1 | 2, 0, 0, 0)); /* NOROOT: exec would not give it back */
	CHECK(!prctl(PR_CAPBSET_DROP, 12, 0, 0, 0));
	CHECK(!privs_drop());
	CHECK(proc_status("NoNewPrivs", 10) == 1);
	return 0;
}

static int body_limit(void)
{
	const struct rlimit lower = { 20, 30 };
	struct rlimit now;
	char path[] = "/tmp/leakguard-unit-XXXXXX";
	int fd;

	CHECK(!setrlimit(RLIMIT_NOFILE, &lower));
	CHECK(!privs_limit());
	CHECK(!getrlimit(RLIMIT_NOFILE, &now) && now.rlim_cur == 20 && now.rlim_max == 30);
	CHECK(!getrlimit(RLIMIT_CORE, &now) && now.rlim_cur == 0 && now.rlim_max == 0);
	CHECK(!getrlimit(RLIMIT_FSIZE, &now) && now.rlim_max == 64 << 20);

	/* Past the end of what a file may hold: an error, not a signal. */
	fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK(!unlink(path));
	CHECK(pwrite(fd, "x", 1, 65 << 20) == -1 && errno == EFBIG);
	return 0;
}

static int body_limit_memory(void)
{
	struct rlimit now;

	CHECK(!privs_limit());
	CHECK(!getrlimit(RLIMIT_NOFILE, &now) && now.rlim_max == 64);
	CHECK(!getrlimit(RLIMIT_AS, &now));
	if (now.rlim_max == RLIM_INFINITY)
		return CHILD_SKIP; /* AddressSanitizer */
	CHECK(now.rlim_max == 1 << 30);
	CHECK(mmap(NULL, 2UL << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	return 0;
}

/* All three, in the order that the daemon takes. */
static int give_up(void)
{
	int err = privs_limit();

	err = err ? err : privs_drop();
	return err ? err : privs_filter();
}

static int body_filter_refuses(void)
{
	char *const argv[] = { "/bin/true", NULL }, *const envp[] = { NULL };
	const struct sched_param least = { .sched_priority = 1 };
	struct rlimit now;

	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	if (give_up() == -EOPNOTSUPP)
		return CHILD_SKIP;
	CHECK(proc_status("Seccomp", 10) == 2);

#ifndef __s390__ /* one call stands for all socket calls, and hides the family (privs.c) */
	CHECK(REFUSED(socket(AF_INET, SOCK_DGRAM, 0)));
	CHECK(REFUSED(socket(AF_INET6, SOCK_STREAM, 0)));
	CHECK(REFUSED(socket(AF_PACKET, SOCK_RAW, 0)));
	CHECK(REFUSED(socketpair(AF_INET, SOCK_DGRAM, 0, (int[2]){ 0 })));
#endif
	CHECK(REFUSED(execve(argv[0], argv, envp)));
	CHECK(REFUSED(fork()));
	CHECK(REFUSED((int)vfork()));
	CHECK(REFUSED(syscall(SYS_clone3, NULL, 0)));
	CHECK(REFUSED(ptrace(PTRACE_TRACEME, 0, NULL, NULL)));
	CHECK(REFUSED(mount("none", "/tmp", "tmpfs", 0, NULL)));
	CHECK(REFUSED(unshare(CLONE_NEWUSER)));
	CHECK(REFUSED(syscall(SYS_bpf, 0, NULL, 0)));
	CHECK(REFUSED(syscall(SYS_finit_module, -1, "", 0)));
	CHECK(REFUSED(syscall(SYS_keyctl, 0, 0, 0, 0, 0)));
	CHECK(REFUSED(syscall(SYS_io_uring_setup, 1, NULL)));
	CHECK(REFUSED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)));
	CHECK(REFUSED(kill(getppid(), 0)));
	CHECK(REFUSED(syscall(SYS_tgkill, getppid(), getppid(), 0)));
	CHECK(REFUSED(syscall(SYS_sched_setscheduler, getppid(), SCHED_FIFO, &least)));
	CHECK(REFUSED(syscall(SYS_sched_setscheduler, 0, SCHED_RR, &least)));
	CHECK(!syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &(struct sched_param){ 0 }));
	CHECK(REFUSED(ioctl(0, TIOCSTI, "x")));
	CHECK(!getrlimit(RLIMIT_NOFILE, &now));
	CHECK(REFUSED(setrlimit(RLIMIT_NOFILE, &now)));
#ifndef __s390__ /* nor what mmap() is asked for */
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		      MAP_FAILED &&
	      errno == EPERM);
#endif
#ifdef __x86_64__
	/* The x32 twin of getpid(), and the 32 bit call of it: another architecture. */
	CHECK(REFUSED(syscall(0x40000000 + SYS_getpid)));
#endif
	return 0;
}

static int write_files(int dir_fd)
{
	char buf[8] = "";
	FILE *out;
	int fd;

	fd = openat(dir_fd, "a.new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	CHECK(fd >= 0);
	out = fdopen(dup(fd), "w");
	CHECK(out && fprintf(out, "%d\n", 42) == 3 && !fclose(out));
	CHECK(!fsync(fd));
	CHECK(pread(fd, buf, sizeof(buf), 0) == 3 && !strcmp(buf, "42\n"));
	close(fd);
	CHECK(!renameat(dir_fd, "a.new", dir_fd, "a"));
	CHECK(!fsync(dir_fd));
	CHECK(!unlinkat(dir_fd, "a", 0));
	CHECK(!mkdirat(dir_fd, "d", 0700));
	CHECK(!unlinkat(dir_fd, "d", AT_REMOVEDIR));
	return 0;
}

static int body_filter_allows(void)
{
	char path[] = "/tmp/leakguard-unit-XXXXXX";
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct epoll_event event = { .events = EPOLLIN };
	const struct timespec moment = { .tv_nsec = 1000000 };
	struct fwsock fs = { 0 };
	uint32_t generation;
	sigset_t signals;
	struct stat st;
	int dir_fd, ep, fd;
	void *memory;

	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	CHECK(mkdtemp(path));
	dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir_fd >= 0);
	if (give_up() == -EOPNOTSUPP) {
		rmdir(path);
		return CHILD_SKIP;
	}

	CHECK(!write_files(dir_fd));
	CHECK(!stat("/proc/self/ns/net", &st));

	CHECK(!fwsock_open(&fs));
	CHECK(!fwsock_read_generation(&fs, &generation));
	fwsock_close(&fs);

	snprintf(local.sun_path, sizeof(local.sun_path), "%s/s", path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&local, sizeof(local)) && !listen(fd, 4));
	CHECK(accept4(fd, NULL, NULL, SOCK_CLOEXEC) == -1 && errno == EAGAIN);
	CHECK(!unlink(local.sun_path));
	close(fd);

	ep = epoll_create1(EPOLL_CLOEXEC);
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	CHECK(ep >= 0 && fd >= 0 && !timerfd_settime(fd, 0, &soon, NULL));
	CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
	CHECK(epoll_wait(ep, &event, 1, 5000) == 1);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	CHECK(!sigprocmask(SIG_BLOCK, &signals, NULL));
	CHECK(signalfd(-1, &signals, SFD_CLOEXEC) >= 0);
	CHECK(!nanosleep(&moment, NULL));

	/* Small ones by brk(), large ones by mmap(); growing ones by mremap(). */
	memory = malloc(64);
	CHECK(memory);
	memory = realloc(memory, 8 << 20);
	CHECK(memory);
	memory = realloc(memory, 64 << 20);
	CHECK(memory);
	free(memory);
	CHECK(!rmdir(path));
	return 0;
}

/* A failed assertion of a library must still end the process, by the signal that says so. */
static int body_filter_abort(void)
{
	if (give_up() == -EOPNOTSUPP)
		return CHILD_SKIP;
	abort();
}

CHILD_TEST(test_drop, body_drop)
CHILD_TEST(test_drop_again, body_drop_again)
CHILD_TEST(test_drop_without, body_drop_without)
CHILD_TEST(test_limit, body_limit)
CHILD_TEST(test_limit_memory, body_limit_memory)
CHILD_TEST(test_filter_refuses, body_filter_refuses)
CHILD_TEST(test_filter_allows, body_filter_allows)

static void test_filter_abort(void **state)
{
	const int result = child_run(body_filter_abort);

	(void)state;
	if (result == CHILD_SKIP)
		SKIP("test_filter_abort: no library");
	assert_int_equal(result, 1000000 + SIGABRT);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drop),	      cmocka_unit_test(test_drop_again),
		cmocka_unit_test(test_drop_without),  cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_memory),  cmocka_unit_test(test_filter_refuses),
		cmocka_unit_test(test_filter_allows), cmocka_unit_test(test_filter_abort),
	};

	return cmocka_run_group_tests_name("privs", tests, NULL, NULL);
}
