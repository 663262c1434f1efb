/*
 * notify.h - what a service manager is told, and the descriptors it keeps for us
 *
 * systemd is spoken to through libsystemd, where that was there at build.  It
 * is loaded only in a process that systemd started, so that no other carries
 * it and what it pulls in.  Without it, or elsewhere, what tells does nothing.
 * The unit needs NotifyAccess=all: it may be a child of the main process that
 * speaks.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOTIFY_MAX_PASSED 4

/*
 * Load what is needed, and give log.h its way to the journal.  Once, at start,
 * before privs_filter().  Whether a service manager listens.
 */
bool notify_open(void);

/* Whether stderr leads to the journal ($JOURNAL_STREAM, systemd.exec(5)): then LOG_SINK_JOURNAL. */
bool notify_has_journal(void);

/* sd_notify(3): READY=1; STATUS= (one line, cut at 255 bytes); STOPPING=1. */
void notify_ready(void);
void notify_status(const char *status);
void notify_stopping(void);

/*
 * The time within which notify_alive() is expected again and again, or 0 for
 * no watchdog (sd_watchdog_enabled(3)).  It counts when it is meant for this
 * process or for its parent: so ask before the parent can be gone.
 */
uint64_t notify_watchdog_ms(void);
void notify_alive(void);

/*
 * Have the service manager keep a copy of the descriptor, until it is told
 * otherwise or the unit is stopped for good (FDSTORE=1, FDPOLL=0).  Names are
 * 1 to 255 printable bytes of ASCII without ':'.  The unit needs
 * FileDescriptorStoreMax=.  0: sent, which does not say that it was taken;
 * -EINVAL for a name; -EOPNOTSUPP where none listens; or what sendmsg(2) gave.
 */
int notify_store_fd(int fd, const char *name);

/*
 * A descriptor that was passed to this very process under that name (see
 * sd_listen_fds(3)); the caller's from now on.  Sets close-on-exec on all that
 * were passed.  To be asked at start, before anything is opened, and once for
 * a name; what sort of descriptor it is, is for the caller to check.  -ENOENT
 * when there is none, also when the variables make no sense.
 */
int notify_take_fd(const char *name);

/*
 * The other side, in a child about to exec: make the descriptors numbers 3 and
 * on, left open by exec, and set the variables for the calling process.  What
 * had those numbers is closed.  At most NOTIFY_MAX_PASSED.  0, -EINVAL for a name
 * or too many, or -errno of fcntl(2), dup2(2) or setenv(3).
 */
int notify_pass_fds(const int *fds, const char *const *names, size_t n);

#endif
