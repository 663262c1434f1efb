/*
 * privs.h - what a long-lived process gives up once it has started
 *
 * In this order: notify_open(), privs_limit(), privs_drop(), all that needs more
 * than CAP_NET_ADMIN or new code, privs_filter().  None of them can be undone.
 * For a process of a single thread.  libcap-ng and libseccomp are optional at
 * build: without one its feature is missing.  The rules in force depend on
 * none of this.
 */
#ifndef PRIVS_H
#define PRIVS_H

/*
 * Bounds what a defect can eat: 64 descriptors, 1 GiB of address space (not
 * under AddressSanitizer), files of 64 MiB (write(2) gives EFBIG, SIGXFSZ is
 * ignored), no core; a limit that is lower already stays.  Asks to be among
 * the last to be killed for memory, which may be refused in silence: that has
 * to come before privs_drop().  0, or -errno of setrlimit(2); the other limits
 * are in force all the same.
 */
int privs_limit(void);

/*
 * Capabilities: permitted and effective become CAP_NET_ADMIN and CAP_SYS_NICE
 * (urgency.h), as far as they are held; inheritable and ambient none; the
 * bounding set the same two, where CAP_SETPCAP is there to lower it.  Then no new
 * privileges by exec, nothing in /proc/PID for other users and no ptrace(2) by
 * them, umask 077.  The same as root of a user namespace.  0, or -errno: then some
 * of it may be in force.
 */
int privs_drop(void);

/*
 * The same for one that reads the rules' counters and looks at other processes:
 * it keeps CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE (/proc) and CAP_SYS_ADMIN
 * (their network namespaces) as well.
 */
int privs_drop_to_read(void);

/*
 * Refuse system calls that a watcher has no use for, with EPERM: what makes a
 * process, runs or loads code, traces, mounts, signals others; sockets other
 * than netlink and unix ones (so no name lookups from here on); and calls of
 * another architecture.  0; -EOPNOTSUPP when built without libseccomp or with
 * AddressSanitizer; or -errno of seccomp(2), -EINVAL where the kernel has none.
 */
int privs_filter(void);

#endif
