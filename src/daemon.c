#include "daemon.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "privs.h"
#include "reconcile.h"

#define ALIVE_EVERY_MS 500
#define PLACE_RETRY_MS 500
#define PLACE_CHECK_MS 10000 /* the run directory, should inotify(7) be lacking */

struct daemon {
	const struct daemon_options *options;
	int signal_fd, inotify_fd, claim_fd; /* owned; -1: none */
	unsigned int opened;		     /* of those two, see struct reconcile */
	int links_fd, rules_fd;		     /* as they are in the loop now */
	uint64_t place_ms;		     /* when the run directory is looked at next */
	pid_t keeper;			     /* our parent at start */
	uint64_t alive_ms;		     /* when the service manager was told last */
	const char *said;		     /* what it was told */
	bool ready, ending;
	char lost[CONFIG_ERR]; /* why our place could not be made anew; said once */
	struct loop loop;
	struct control control;
	struct reconcile rc;
};

static bool is_held(const struct daemon *d)
{
	return d->options->held && getppid() == d->keeper;
}

static void fill_status(struct daemon *d, struct watch_status *st)
{
	reconcile_status(&d->rc, st);
	st->pid = (uint32_t)getpid();
	st->held = is_held(d);
}

/*
 * Without its keeper the socket is ours alone; and one that a command left behind
 * makes way for a service.  The new watcher shall have it.
 */
static void hand_over(struct daemon *d, struct control_reply *reply)
{
	if (is_held(d) && !d->options->until_disable) {
		reply->result = -EBUSY;
		snprintf(reply->text, sizeof(reply->text), "a watcher runs here already");
		return;
	}
	d->control.pass_fd = mnl_socket_get_fd(d->rc.ss.fs.nl);
	d->ending = true;
}

static void serve(void *ctx, enum control_verb verb, struct control_reply *reply)
{
	struct daemon *d = ctx;

	switch (verb) {
	case CONTROL_VERB_STATUS:
		break;
	case CONTROL_VERB_COMMIT:
		reply->result = reconcile_commit(&d->rc, reply->text);
		break;
	case CONTROL_VERB_CHECK:
		reply->result = reconcile_check(&d->rc, reply->text);
		break;
	case CONTROL_VERB_REMOVE:
		reply->result = reconcile_remove(&d->rc, reply->text);
		d->ending |= !reply->result && d->options->until_disable;
		break;
	case CONTROL_VERB_HANDOVER:
		hand_over(d, reply);
		break;
	}
	fill_status(d, &reply->status);
}

/* --- the run directory --- */

static int open_control(struct daemon *d, char text[CONFIG_ERR])
{
	const struct rundir *rd = &d->rc.ss.rundir;
	int err = 0;

	/* The keeper has claimed it, but not one that was made anew since. */
	if (!rundir_is_claimed(rd)) {
		if (d->claim_fd >= 0)
			close(d->claim_fd);
		d->claim_fd = -1;
		err = rundir_claim(rd, &d->claim_fd, text);
	}
	if (!err)
		err = control_open(&d->control, &d->loop, rd->dir_fd, rd->path, serve, d, text);
	if (!err && d->inotify_fd >= 0)
		(void)inotify_add_watch(d->inotify_fd, rd->path,
					IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF |
						IN_MOVE_SELF | IN_ONLYDIR);
	return err;
}

/* Somebody removed or replaced the directory, or our socket in it: commands must find us again. */
static void return_to_place(struct daemon *d)
{
	struct rundir *rd = &d->rc.ss.rundir, anew;
	char text[CONFIG_ERR];
	int err = 0;

	if (rundir_is_in_place(rd) && control_is_in_place(&d->control, rd->dir_fd) &&
	    rundir_is_claimed(rd) && (!d->rc.ss.recorded || state_exists(rd)))
		return;
	control_close(&d->control);
	if (!rundir_is_in_place(rd)) {
		err = rundir_open(&anew, rd->path, text);
		if (!err) {
			rundir_close(rd);
			*rd = anew;
		}
	}
	if (!err)
		err = open_control(d, text);
	if (!err)
		err = reconcile_record(&d->rc, text);
	if (err) {
		d->place_ms = clock_monotonic_ms() + PLACE_RETRY_MS;
		if (strcmp(text, d->lost))
			log_event(LOG_LEVEL_ERROR, "lost-place", "%s, retrying every %d ms", text,
				  PLACE_RETRY_MS);
		memcpy(d->lost, text, sizeof(d->lost));
	} else {
		*d->lost = '\0';
		log_event(LOG_LEVEL_WARNING, "lost-place",
			  "%s: the run directory was lost or changed by somebody, made anew",
			  rd->path);
	}
}

static void read_inotify(void *ctx)
{
	struct daemon *d = ctx;
	char buf[4096];

	while (read(d->inotify_fd, buf, sizeof(buf)) > 0)
		;
	return_to_place(d);
}

/* --- the loop --- */

static void read_signal(void *ctx)
{
	struct daemon *d = ctx;
	struct signalfd_siginfo info;

	if (read(d->signal_fd, &info, sizeof(info)) == sizeof(info))
		d->ending = true;
}

static void read_links(void *ctx)
{
	reconcile_read_links(&((struct daemon *)ctx)->rc);
}

static void read_rules(void *ctx)
{
	reconcile_read_rules(&((struct daemon *)ctx)->rc);
}

/* What is listened to changes with the state: see reconcile_links_fd(). */
static void follow_fd(struct daemon *d, int *now, int wanted,
		      int (*add)(struct loop *l, int fd, loop_fn *readable, void *ctx), loop_fn *fn)
{
	if (*now == wanted)
		return;
	if (*now >= 0)
		loop_remove(&d->loop, *now);
	*now = -1;
	if (wanted >= 0 && !add(&d->loop, wanted, fn, d))
		*now = wanted;
}

static void say_ready(struct daemon *d)
{
	const struct reconcile *rc = &d->rc;
	const char *said = !rc->ss.recorded	? "not guarded" :
			   rc->status.stale	? "guarded, a change was refused" :
			   rc->follow.tunnel_up ? "guarded, a tunnel is up" :
						  "guarded, no tunnel is up";

	if (!d->ready && (rc->planned || !(rc->ss.recorded || d->options->policy_comes))) {
		d->ready = true;
		notify_ready();
	}
	if (d->ready && said != d->said)
		notify_status(said);
	d->said = d->ready ? said : NULL;
}

/* Not at every event of a storm. */
static void say_alive(struct daemon *d)
{
	const uint64_t now_ms = clock_monotonic_ms();

	if (now_ms - d->alive_ms < ALIVE_EVERY_MS)
		return;
	d->alive_ms = now_ms;
	notify_alive();
}

static int wait_ms(struct daemon *d)
{
	const uint64_t now_ms = clock_monotonic_ms();
	uint64_t due = reconcile_due(&d->rc);

	if (d->place_ms < due)
		due = d->place_ms;
	if (notify_watchdog_ms() && now_ms + notify_watchdog_ms() / 2 < due)
		due = now_ms + notify_watchdog_ms() / 2;
	return due <= now_ms ? 0 : due - now_ms > 60000 ? 60000 : (int)(due - now_ms) + 1;
}

static int run_loop(struct daemon *d)
{
	int err = 0;

	while (!d->ending && !err) {
		reconcile_run(&d->rc);
		say_ready(d);
		say_alive(d);
		control_expire(&d->control, clock_monotonic_ms());
		if (d->place_ms <= clock_monotonic_ms()) {
			d->place_ms = clock_monotonic_ms() + PLACE_CHECK_MS;
			return_to_place(d);
		}
		if (d->opened != d->rc.opened) {
			follow_fd(d, &d->links_fd, -1, NULL, NULL);
			follow_fd(d, &d->rules_fd, -1, NULL, NULL);
			d->opened = d->rc.opened;
		}
		follow_fd(d, &d->links_fd, reconcile_links_fd(&d->rc), loop_add, read_links);
		follow_fd(d, &d->rules_fd, reconcile_rules_fd(&d->rc), loop_add_urgent, read_rules);
		err = loop_wait(&d->loop, wait_ms(d));
	}
	if (err)
		log_error("cannot wait for events: %s", strerror(-err));
	return err ? 1 : 0;
}

static int open_signals(struct daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signal_fd < 0 ? -errno : loop_add(&d->loop, d->signal_fd, read_signal, d);
}

static int open_all(struct daemon *d, char text[CONFIG_ERR])
{
	int err = reconcile_open(&d->rc, d->options->run_dir, d->options->fd, text);

	if (err)
		return err;
	err = loop_init(&d->loop);
	if (!err)
		err = open_signals(d);
	if (err) {
		snprintf(text, CONFIG_ERR, "cannot wait for events: %s", strerror(-err));
		return err;
	}
	d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (d->inotify_fd >= 0)
		(void)loop_add(&d->loop, d->inotify_fd, read_inotify, d);
	return open_control(d, text);
}

static void close_all(struct daemon *d)
{
	control_close(&d->control);
	loop_fini(&d->loop);
	reconcile_close(&d->rc);
	if (d->signal_fd >= 0)
		close(d->signal_fd);
	if (d->inotify_fd >= 0)
		close(d->inotify_fd);
	if (d->claim_fd >= 0)
		close(d->claim_fd);
}

/*
 * A change of a thousand links takes a few MiB for a moment.  Left to itself the C
 * library keeps the next such pieces where nothing behind them can go back.
 */
static void keep_small(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
#endif
}

int daemon_run(const struct daemon_options *options)
{
	struct daemon d = {
		.options = options,
		.keeper = getppid(),
		.loop = { .epoll_fd = -1 },
		.rc = { .ss = { .rundir = RUNDIR_CLOSED } },
		.signal_fd = -1,
		.inotify_fd = -1,
		.claim_fd = -1,
		.links_fd = -1,
		.rules_fd = -1,
	};
	char text[CONFIG_ERR];
	int status = 1, err;

	keep_small();
	err = open_all(&d, text);
	if (err) {
		log_error("%s", text);
	} else {
		err = privs_filter();
		if (err && err != -EOPNOTSUPP)
			log_warning("cannot filter system calls: %s, going on without",
				    strerror(-err));
		d.place_ms = clock_monotonic_ms() + PLACE_CHECK_MS;
		/* The guard was lowered, and the watcher before us killed on its way out. */
		d.ending = options->until_disable && !d.rc.ss.recorded &&
			   state_is_off(&d.rc.ss.rundir);
		status = run_loop(&d);
		notify_stopping();
	}
	close_all(&d);
	return status;
}
