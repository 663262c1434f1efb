#include "privs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_LIBCAP_NG
#include <cap-ng.h>
#endif
#ifdef HAVE_LIBSECCOMP
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#endif

/* It maps terabytes, and its calls are its own. */
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

/* --- limits --- */

static int limit(int resource, rlim_t most)
{
	struct rlimit now;

	if (getrlimit(resource, &now))
		return -errno;
	/* RLIM_INFINITY is the largest number there is. */
	if (now.rlim_max > most)
		now.rlim_max = most;
	if (now.rlim_cur > now.rlim_max)
		now.rlim_cur = now.rlim_max;
	return setrlimit(resource, &now) ? -errno : 0;
}

/* sshd and udevd ask for -1000, which is never; a watcher that grows without end may die. */
static void ask_to_be_spared(void)
{
	static const char score[] = "-500";
	const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)!write(fd, score, strlen(score));
	close(fd);
}

int privs_limit(void)
{
	static const struct {
		int resource;
		rlim_t most;
	} limits[] = {
		{ RLIMIT_NOFILE, 64 },
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_FSIZE, 64 << 20 },
		{ RLIMIT_AS, WITH_ASAN ? RLIM_INFINITY : 1 << 30 },
	};
	int err = 0;

	/* stderr may be appended to a log file that is larger already. */
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const int failed = limit(limits[i].resource, limits[i].most);

		if (!err)
			err = failed;
	}
	ask_to_be_spared();
	return err;
}

/* --- capabilities --- */

#ifdef HAVE_LIBCAP_NG
#define MAX_KEPT 4

/* All but these, of which some may not be held. */
static int drop_caps(const unsigned int *kept, size_t n)
{
	bool held[MAX_KEPT], can_lower_bounds;

	if (capng_get_caps_process())
		return -EIO;
	for (size_t i = 0; i < n; i++)
		held[i] = capng_have_capability(CAPNG_PERMITTED, kept[i]);
	can_lower_bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);

	errno = EPERM; /* for what fails without saying why */
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < n; i++)
		if (capng_update(CAPNG_ADD, CAPNG_BOUNDING_SET, kept[i]))
			return -errno;
	if (can_lower_bounds && capng_apply(CAPNG_SELECT_BOUNDS))
		return -errno;

	/* The kernel takes from the ambient set what leaves the inheritable one. */
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < n; i++)
		if (held[i] && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, kept[i]))
			return -errno;
	return capng_apply(CAPNG_SELECT_CAPS) ? -errno : 0;
}

static int drop_to_watch(void)
{
	static const unsigned int kept[] = { CAP_NET_ADMIN, CAP_SYS_NICE };

	return drop_caps(kept, 2);
}

/* nfnetlink asks for the first at every message, setns(2) for the last. */
static int drop_to_read(void)
{
	static const unsigned int kept[MAX_KEPT] = { CAP_NET_ADMIN, CAP_DAC_READ_SEARCH,
						     CAP_SYS_PTRACE, CAP_SYS_ADMIN };

	return drop_caps(kept, MAX_KEPT);
}
#else
static int drop_to_watch(void)
{
	return 0;
}

static int drop_to_read(void)
{
	return 0;
}
#endif

/* Given what became of the capabilities. */
static int shut(int err)
{
	umask(077);
	if (err)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return -errno;
	return 0;
}

int privs_drop(void)
{
	return shut(drop_to_watch());
}

int privs_drop_to_read(void)
{
	return shut(drop_to_read());
}

/* --- system calls --- */

#ifdef HAVE_LIBSECCOMP

/*
 * By name, so that what the library or the architecture lacks is passed over.
 * The twins of a call are those of other C libraries, of 32 bits, of later
 * versions: a C library takes EPERM for the answer, and does not try the next.
 * One text: of a table of so many words most would be pointers.
 */
/* clang-format off */
static const char allowed[] =
	/* files */
	" access faccessat faccessat2 open openat openat2 close close_range read readv"
	" pread64 write writev pwrite64 lseek _llseek fcntl fcntl64 flock dup dup2 dup3 stat"
	" stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx readlink readlinkat"
	" getdents getdents64 getcwd umask mkdir mkdirat rmdir unlink unlinkat rename"
	" renameat renameat2 ftruncate ftruncate64 chmod fchmod fchmodat fchmodat2 fsync"
	" fdatasync"
	/* sockets; socket and socketpair are below */
	" bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt"
	" send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64"
	" shutdown"
	/* waiting */
	" epoll_create1 epoll_create epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll"
	" ppoll_time64 select _newselect pselect6 pselect6_time64 eventfd2 inotify_add_watch"
	" signalfd4 timerfd_create timerfd_settime timerfd_settime64 timerfd_gettime"
	" timerfd_gettime64 nanosleep clock_nanosleep clock_nanosleep_time64 restart_syscall"
	/* time, chance, who we are */
	" clock_gettime clock_gettime64 clock_getres clock_getres_time64 gettimeofday time"
	" getrandom getpid getppid gettid getuid getuid32 geteuid geteuid32 getgid getgid32"
	" getegid getegid32 uname sysinfo getrlimit ugetrlimit getrusage sched_getaffinity"
	" sched_yield getcpu"
	/* memory, with mmap and mprotect below; locks */
	" brk munmap mremap madvise futex futex_time64 set_robust_list rseq"
	/* signals to us, and the end */
	" rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigtimedwait_time64"
	" rt_sigsuspend rt_sigreturn sigreturn sigaltstack exit exit_group";
/* clang-format on */

/* What the libraries ask of terminals and links; FIONBIO for musl's sockets. */
static const unsigned int allowed_ioctls[] = { TCGETS,	TIOCGWINSZ,   FIONREAD,
					       FIONBIO, SIOCGIFINDEX, SIOCGIFNAME };

/* For a call that the library or the architecture does not know: nothing, and no error. */
static int allow(scmp_filter_ctx ctx, const char *name, unsigned int n,
		 const struct scmp_arg_cmp *conditions)
{
	const int number = seccomp_syscall_resolve_name(name);
	int err;

	if (number == __NR_SCMP_ERROR)
		return 0;
	err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, number, n, conditions);
	return err == -EDOM ? 0 : err;
}

/* Argument `index`, of 32 bits, has this value in the bits of the mask. */
static int allow_if(scmp_filter_ctx ctx, const char *name, unsigned int index, uint32_t mask,
		    uint32_t value)
{
	const struct scmp_arg_cmp condition = SCMP_CMP(index, SCMP_CMP_MASKED_EQ, mask, value);

	return allow(ctx, name, 1, &condition);
}

/* No new code.  s390x hands mmap() its arguments in memory, where no filter can look. */
static int allow_memory(scmp_filter_ctx ctx)
{
	int err = allow_if(ctx, "mprotect", 2, PROT_EXEC, 0);

#ifdef __s390__
	err = err ? err : allow(ctx, "mmap", 0, NULL);
#else
	err = err ? err : allow_if(ctx, "mmap", 2, PROT_EXEC, 0);
#endif
	return err ? err : allow_if(ctx, "mmap2", 2, PROT_EXEC, 0);
}

/* Where one call stands for all socket calls (i386, s390x), the family is not seen. */
static int allow_sockets(scmp_filter_ctx ctx)
{
	int err = allow_if(ctx, "socket", 0, UINT32_MAX, AF_NETLINK);

	err = err ? err : allow_if(ctx, "socket", 0, UINT32_MAX, AF_UNIX);
	return err ? err : allow_if(ctx, "socketpair", 0, UINT32_MAX, AF_UNIX);
}

/* raise(3) and abort(3), of glibc and of musl. */
static int allow_own_signals(scmp_filter_ctx ctx)
{
	int err = allow_if(ctx, "tgkill", 0, UINT32_MAX, (uint32_t)getpid());

	/* The only thread's number is the process's. */
	return err ? err : allow_if(ctx, "tkill", 0, UINT32_MAX, (uint32_t)getpid());
}

/* Limits can be read, not set: sysconf(3) and getrlimit(3) do. */
static int allow_reading_limits(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp nothing_new = SCMP_A2(SCMP_CMP_EQ, 0, 0);

	return allow(ctx, "prlimit64", 1, &nothing_new);
}

/* Real time and back, of this process: urgency.h. */
static int allow_urgency(scmp_filter_ctx ctx)
{
	static const uint32_t policies[] = { SCHED_FIFO, SCHED_OTHER };
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(policies) / sizeof(policies[0]); i++) {
		const struct scmp_arg_cmp own[] = {
			SCMP_CMP(0, SCMP_CMP_MASKED_EQ, UINT32_MAX, 0),
			SCMP_CMP(1, SCMP_CMP_MASKED_EQ, UINT32_MAX, policies[i]),
		};

		err = allow(ctx, "sched_setscheduler", 2, own);
	}
	return err;
}

static int add_rules(scmp_filter_ctx ctx)
{
	char name[32];
	int err = 0, len;

	for (const char *at = allowed; !err && sscanf(at, "%31s%n", name, &len) == 1; at += len)
		err = allow(ctx, name, 0, NULL);
	for (size_t i = 0; !err && i < sizeof(allowed_ioctls) / sizeof(allowed_ioctls[0]); i++)
		err = allow_if(ctx, "ioctl", 1, UINT32_MAX, allowed_ioctls[i]);
	err = err ? err : allow_sockets(ctx);
	err = err ? err : allow_memory(ctx);
	err = err ? err : allow_own_signals(ctx);
	err = err ? err : allow_urgency(ctx);
	return err ? err : allow_reading_limits(ctx);
}

int privs_filter(void)
{
	const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
	scmp_filter_ctx ctx;
	int err;

	if (WITH_ASAN)
		return -EOPNOTSUPP;
	ctx = seccomp_init(refuse);
	if (!ctx)
		return -ENOMEM;
	err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, refuse);
	if (!err)
		err = add_rules(ctx);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}

#else

int privs_filter(void)
{
	return -EOPNOTSUPP;
}

#endif
