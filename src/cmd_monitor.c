/* monitor: blocked attempts as they happen */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "cmd.h"
#include "cmd_monitor_print.h"
#include "droptrace.h"
#include "fwcount.h"
#include "fwdecode.h"
#include "fwread.h"
#include "fwsock.h"
#include "leases.h"
#include "log.h"
#include "logread.h"
#include "privs.h"
#include "whose.h"

#define TICK_MS		1000  /* how often the counters are looked at */
#define SAID_MS		10000 /* how often it is said that not all was shown */
#define MAX_BATCHES	64    /* of one reading: more than the socket's buffer holds */
#define MAX_USERS	32
#define PROMISE_BLOCKED 7

struct user {
	uid_t uid;
	char name[64];
};

struct monitor {
	const struct cmdline *cl;
	bool colour, said_why; /* why it ends */
	int signal_fd;
	struct fwsock fs;
	uint32_t generation;
	struct logread log;
	struct outlet out;
	bool up;	  /* the guard */
	uint64_t counter; /* as it was read last */
	uint64_t blocked; /* packets, since the start */
	uint64_t said;	  /* of them it was said that they are not shown */
	uint64_t next_said_ms, started_ms, until_ms; /* until_ms 0: for ever */
	struct monitor_summary summary;
	struct leases leases;
	struct user users[MAX_USERS];
	size_t users_len;
	struct whose whose;
	struct droptrace *trace; /* NULL where the kernel has none */
	struct blocked batch[WHOSE_AT_ONCE];
};

/* --- who --- */

/* From the file alone: a name service might have to be asked over the network. */
static void read_user(struct user *u)
{
	FILE *const in = fopen("/etc/passwd", "re");
	const struct passwd *entry;

	while (in && (entry = fgetpwent(in)))
		if (entry->pw_uid == u->uid) {
			snprintf(u->name, sizeof(u->name), "%s", entry->pw_name);
			break;
		}
	if (in)
		fclose(in);
}

static const char *find_user(struct monitor *m, const struct blocked *b)
{
	struct user *u;

	if (!b->has_uid)
		return "";
	for (size_t i = 0; i < m->users_len; i++)
		if (m->users[i].uid == b->uid)
			return m->users[i].name;
	if (m->users_len == MAX_USERS)
		m->users_len = 0;
	u = &m->users[m->users_len++];
	*u = (struct user){ .uid = b->uid };
	read_user(u);
	return u->name;
}

static void name_client(struct monitor *m, struct blocked *b)
{
	const char *name;

	if (!blocked_is_forwarded(b) || !b->source.family)
		return;
	leases_refresh(&m->leases);
	name = leases_find(&m->leases, &b->source, b->has_mac ? b->mac : NULL);
	if (name)
		snprintf(b->client, sizeof(b->client), "%s", name);
}

/* --- what comes --- */

static void tell_blocked(struct monitor *m, struct blocked *b)
{
	const char *user = find_user(m, b);

	name_client(m, b);
	monitor_count(&m->summary, b, user);
	if (m->until_ms)
		return; /* the summary tells */
	if (m->cl->json)
		monitor_json_blocked(&m->out, b, user);
	else
		monitor_print_blocked(&m->out, b, user, m->colour);
}

/* Of a program's own, whose socket was closed before we could look; all of one batch. */
static bool is_dropped_at_once(const struct blocked *b)
{
	return !*b->program && b->has_uid && !blocked_is_forwarded(b) &&
	       b->promise == PROMISE_BLOCKED && b->proto == IPPROTO_UDP;
}

static void find_droppers(struct monitor *m, int n)
{
	struct process p;
	int wanted = 0;

	for (int i = 0; i < n; i++)
		wanted += is_dropped_at_once(&m->batch[i]);
	if (!wanted || droptrace_find(m->trace, &p))
		return;
	for (int i = 0; i < n; i++) {
		struct blocked *b = &m->batch[i];

		if (!is_dropped_at_once(b))
			continue;
		b->pid = p.pid;
		strcpy(b->program, p.name);
	}
}

/* All that waits.  1: nothing is left; 0: there may be more; or -errno. */
static int read_log(struct monitor *m)
{
	for (int i = 0; i < MAX_BATCHES; i++) {
		int n, err;

		droptrace_begin(m->trace);
		n = logread_read(&m->log, m->batch, WHOSE_AT_ONCE);
		if (!n)
			droptrace_end(m->trace);
		if (n <= 0)
			return n < 0 ? n : 1;
		err = whose_find(&m->whose, m->batch, (size_t)n);
		if (err) {
			log_error("monitor: cannot return to its own network namespace: %s",
				  strerror(-err));
			m->said_why = true;
			return err;
		}
		find_droppers(m, n);
		if (n < WHOSE_AT_ONCE)
			droptrace_end(m->trace); /* nothing was left */
		for (int k = 0; k < n; k++)
			tell_blocked(m, &m->batch[k]);
		if (outlet_flush(&m->out))
			return 0;
	}
	return 0;
}

/* --- what does not come --- */

static void tell_guard(struct monitor *m, bool up)
{
	m->up = up;
	if (m->until_ms)
		return;
	if (m->cl->json)
		monitor_json_guard(&m->out, up);
	else
		monitor_print_guard(&m->out, up, m->colour);
}

/*
 * Read before the log is: then each packet that was counted and logged has its
 * message there.  A counter that is smaller than it was has been made anew.
 */
static int read_counters(struct monitor *m)
{
	struct fwcounts counts;
	const int err = fwcount_read(&m->fs, &counts);
	uint64_t now;

	if (err)
		return err == -EINTR ? 0 : err; /* a storm of commits: at the next tick */
	if (m->up != counts.present)
		tell_guard(m, counts.present);
	now = fwcount_blocked(&counts);
	m->blocked += now < m->counter ? now : now - m->counter;
	m->counter = now;
	return 0;
}

static void tell_not_shown(struct monitor *m)
{
	const uint64_t not_shown =
		m->blocked > m->summary.shown ? m->blocked - m->summary.shown : 0;

	m->summary.not_shown = not_shown > m->said ? not_shown : m->said;
	if (not_shown <= m->said || m->until_ms)
		return;
	if (m->cl->json)
		monitor_json_not_shown(&m->out, not_shown - m->said);
	else
		monitor_print_not_shown(&m->out, not_shown - m->said, m->colour);
	m->said = not_shown;
}

/* The group that blocked packets are logged to now; 0 for none, also without a guard. */
static int read_group(struct monitor *m, uint16_t *ret_group, bool *ret_up)
{
	struct fwtables tables;
	struct policy p;
	int err = fwtables_read_rules(&m->fs, &tables);

	if (err)
		return err;
	*ret_up = fwtables_present(&tables);
	err = fwdecode_policy(&tables, &p);
	fwtables_fini(&tables);
	if (err)
		return err;
	*ret_group = (uint16_t)p.log_group;
	policy_fini(&p);
	return 0;
}

/* The guard may have been raised anew, with another group. */
static void follow_group(struct monitor *m)
{
	uint32_t generation = 0;
	struct logread log;
	uint16_t group;
	bool up;

	if (fwsock_read_generation(&m->fs, &generation) || generation == m->generation ||
	    read_group(m, &group, &up))
		return;
	m->generation = generation;
	if (!group || group == m->log.group)
		return;
	if (logread_open(&log, group)) {
		log_warning("nflog group %u: cannot listen, another process may do so; still listening to %u",
			    group, m->log.group);
		return;
	}
	logread_close(&m->log);
	m->log = log;
}

/* 0, or -errno */
static int tick(struct monitor *m, bool last)
{
	const uint64_t now_ms = clock_monotonic_ms();
	int err = read_counters(m);

	droptrace_drain(m->trace);
	if (!err)
		err = read_log(m);
	if (err < 0)
		return err;
	if (err == 1 && (last || now_ms >= m->next_said_ms)) {
		const uint64_t said = m->said;

		tell_not_shown(m);
		if (m->said != said)
			m->next_said_ms = now_ms + SAID_MS;
	}
	follow_group(m);
	return 0;
}

/* --- from start to end --- */

static bool is_over(const struct monitor *m)
{
	return m->until_ms && clock_monotonic_ms() >= m->until_ms;
}

static int wait_ms(const struct monitor *m)
{
	const uint64_t now_ms = clock_monotonic_ms();

	if (!m->until_ms || m->until_ms > now_ms + TICK_MS)
		return TICK_MS;
	return m->until_ms > now_ms ? (int)(m->until_ms - now_ms) : 0;
}

/* Until a signal, the end of the time, or nobody reads any more.  0, or -errno. */
static int watch(struct monitor *m)
{
	uint64_t next_ms = clock_monotonic_ms() + TICK_MS;

	while (!is_over(m)) {
		struct pollfd fds[] = { { .fd = logread_fd(&m->log), .events = POLLIN },
					{ .fd = m->signal_fd, .events = POLLIN },
					{ .fd = STDOUT_FILENO } };
		int err = 0;

		if (poll(fds, 3, wait_ms(m)) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return 0;
		if (fds[2].revents & (POLLERR | POLLHUP))
			return -EPIPE;
		if (clock_monotonic_ms() >= next_ms) {
			err = tick(m, false);
			next_ms = clock_monotonic_ms() + TICK_MS;
		} else if (fds[0].revents) {
			err = read_log(m);
		}
		if (err >= 0)
			err = outlet_flush(&m->out);
		if (err == -EINTR)
			return 0;
		if (err < 0)
			return err;
	}
	return 0;
}

static int finish(struct monitor *m)
{
	int err = tick(m, true);

	if (!err && m->until_ms) {
		m->summary.seconds = (clock_monotonic_ms() - m->started_ms + 500) / 1000;
		if (m->cl->json)
			monitor_json_summary(&m->out, &m->summary);
		else
			monitor_print_summary(&m->out, &m->summary, m->colour);
	}
	return err ? err : outlet_flush(&m->out);
}

/* Says what is wrong. */
static int start(struct monitor *m)
{
	struct fwcounts counts;
	uint16_t group = 0;
	int err = fwsock_open(&m->fs);

	if (!err)
		err = read_group(m, &group, &m->up);
	if (!err && !m->up) {
		log_error("monitor: the guard is not up, expected 'leakguard enable' first");
		return -ENOENT;
	}
	if (!err && !group) {
		log_error(
			"monitor: what is blocked is not logged, expected log-group = 53 or another in the configuration, and 'leakguard reload'");
		return -ENOENT;
	}
	/* First: what is blocked before we listen is counted as not shown. */
	if (!err)
		err = fwcount_read(&m->fs, &counts);
	if (err) {
		log_error("monitor: cannot read the rules: %s", fwsock_strerror(err));
		return err;
	}
	m->counter = fwcount_blocked(&counts);
	err = logread_open(&m->log, group);
	if (err == -EPERM)
		log_error("monitor: another process listens to nflog group %u, expected another log-group in the configuration, or that process to end",
			  group);
	else if (err == -ENOTSUP)
		log_error("monitor: this kernel has no nflog (CONFIG_NETFILTER_NETLINK_LOG)");
	else if (err)
		log_error("monitor: nflog group %u: %s", group, strerror(-err));
	return err;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -1;
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool wants_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

static int run(struct monitor *m, uint32_t seconds)
{
	int err;

	m->signal_fd = open_signals();
	if (m->signal_fd < 0) {
		log_error("monitor: signals: %s", strerror(errno));
		return CMD_EXIT_FAILED;
	}
	if (start(m))
		return CMD_EXIT_FAILED;
	(void)droptrace_open(&m->trace); /* without it some programs are not known */
	err = privs_drop_to_read();
	if (err)
		log_warning("monitor: capabilities: cannot drop them: %s, going on with all of them",
			    strerror(-err));
	m->started_ms = clock_monotonic_ms();
	m->until_ms = seconds ? m->started_ms + seconds * 1000ULL : 0;
	m->colour = wants_colour();
	outlet_init(&m->out, STDOUT_FILENO, m->signal_fd);
	err = watch(m);
	if (!err)
		err = finish(m);
	if (!err || err == -EPIPE || err == -EINTR)
		return CMD_EXIT_DONE;
	if (!m->said_why)
		log_error("monitor: %s", strerror(-err));
	return CMD_EXIT_FAILED;
}

int cmd_monitor(const struct cmdline *cl)
{
	struct monitor *m;
	uint32_t seconds = 0;
	int status;

#ifndef HAVE_LIBNETFILTER_LOG
	log_error("monitor: built without libnetfilter_log");
	return CMD_EXIT_FAILED;
#endif
	if (cl->summary && duration_parse(cl->summary, UINT32_MAX, &seconds)) {
		log_error("--summary \"%.32s\": expected a duration: 90, 90s, 5m, 1h", cl->summary);
		return CMD_EXIT_USAGE;
	}
	m = calloc(1, sizeof(*m));
	if (!m) {
		log_error("monitor: %s", strerror(ENOMEM));
		return CMD_EXIT_FAILED;
	}
	m->cl = cl;
	status = run(m, seconds);
	logread_close(&m->log); /* first: somebody may wait to listen there */
	droptrace_close(m->trace);
	fwsock_close(&m->fs);
	if (m->signal_fd > 0)
		close(m->signal_fd);
	free(m);
	return status;
}
