/* watch: the watcher in the foreground */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "change.h"
#include "cmd.h"
#include "control.h"
#include "daemon.h"
#include "fwsock.h"
#include "keeper.h"
#include "log.h"
#include "notify.h"
#include "privs.h"
#include "rundir.h"

#define CLAIM_WAIT_MS 2000 /* for a watcher that is ending */
#define CLAIM_POLL_MS 10

struct watch {
	const struct cmdline *cl;
	int fd;	    /* the owning socket */
	bool comes; /* a policy is handed over by `start` */
};

static int run_daemon(void *ctx)
{
	const struct watch *w = ctx;
	const struct daemon_options options = {
		.run_dir = w->cl->run_dir,
		/* The socket is one; this copy is the watcher's to close. */
		.fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0),
		.until_disable = w->cl->until_disable,
		.held = true,
		.policy_comes = w->comes,
	};

	return daemon_run(&options);
}

static int run_enable(void *ctx)
{
	return cmd_enable(((const struct watch *)ctx)->cl);
}

static int run_reload(void *ctx)
{
	return cmd_reload(((const struct watch *)ctx)->cl);
}

/* Messages go to the journal, to stderr, or, where that leads nowhere, to syslog. */
static void choose_log(void)
{
	struct stat st;
	const bool nowhere =
		fstat(STDERR_FILENO, &st) || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));

	log_raise_level(LOG_LEVEL_NOTICE);
	log_open(notify_has_journal() ? LOG_SINK_JOURNAL :
		 nowhere	      ? LOG_SINK_SYSLOG :
					LOG_SINK_STDERR);
}

/*
 * Whether the guard is to be raised first: where options ask for it, or, at
 * boot, where nobody has said anything yet but the configuration file.
 */
static bool is_policy_wanted(const struct cmdline *cl, const struct rundir *rd)
{
	return cl->overrides_len ||
	       (!state_exists(rd) && !state_is_off(rd) && !access(cl->config, F_OK));
}

/* The socket of the watcher before this one, where it was kept for us; or a new one. */
static int take_socket(void)
{
	struct fwsock fs;
	int fd = notify_take_fd(KEEPER_SOCKET);

	if (fd >= 0)
		return fd;
	if (fwsock_open(&fs))
		return -1;
	fd = fcntl(mnl_socket_get_fd(fs.nl), F_DUPFD_CLOEXEC, 0);
	fwsock_close(&fs);
	return fd;
}

/* One that a command leaves behind makes way for a service, not for its like. */
static bool has_its_like(const struct cmdline *cl, const struct rundir *rd)
{
	struct control_reply reply;

	return cl->until_disable &&
	       !control_ask(rd->dir_fd, rd->path, CONTROL_VERB_STATUS, CLAIM_WAIT_MS, &reply) &&
	       reply.status.held;
}

/*
 * Be the one watcher here.  One that lost its keeper has the owning socket, and
 * nobody to start it again: it hands that over and ends.  One that ends anyway,
 * after `disable`, is waited for.
 */
static int claim(struct watch *w, const struct rundir *rd, int *ret_fd, char text[CONFIG_ERR])
{
	const struct timespec pause = { .tv_nsec = CLAIM_POLL_MS * 1000000L };
	struct control_reply reply;
	int err, fd = -1;

	for (int waited_ms = 0;; waited_ms += CLAIM_POLL_MS) {
		err = rundir_claim(rd, ret_fd, text);
		if (err != -EBUSY || waited_ms >= CLAIM_WAIT_MS)
			return err;
		if (fd < 0 && has_its_like(w->cl, rd))
			return err;
		if (fd < 0 && !control_ask_fd(rd->dir_fd, rd->path, CONTROL_VERB_HANDOVER,
					      CLAIM_WAIT_MS, &reply, &fd)) {
			if (reply.result)
				return err; /* it has a keeper, and stays */
			if (fd >= 0) {
				close(w->fd);
				w->fd = fd;
			}
		}
		nanosleep(&pause, NULL);
	}
}

static int give_up_privileges(void)
{
	int err = privs_limit();

	if (!err)
		err = privs_drop();
	if (err)
		log_error("cannot give up privileges: %s", strerror(-err));
	return err;
}

/* Before anything is touched; `enable` reads them again. */
static int check_options(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct state s;
	int err;

	state_init(&s);
	err = cmd_read_policy(&s, cl->config, cl->overrides, cl->overrides_len, text);
	if (err)
		log_error("%s", text);
	state_fini(&s);
	return err;
}

int cmd_watch(const struct cmdline *cl)
{
	struct watch w = { .cl = cl };
	char text[CONFIG_ERR];
	struct rundir rd;
	struct keeper keeper = { .watch = run_daemon, .reload = run_reload, .ctx = &w };
	int claim_fd, err;

	(void)prctl(PR_SET_NAME, "leakguard");	 /* "exe", where enable left us; nft shows it */
	claim_fd = notify_take_fd(KEEPER_CLAIM); /* of the command that left us behind */
	w.fd = take_socket();			 /* before anything else is opened */
	notify_open();
	choose_log();
	err = cl->overrides_len ? check_options(cl) : 0;
	if (err)
		return change_exit(err);
	if (w.fd < 0) {
		log_error("nf_tables: cannot open a netlink socket: %s", strerror(errno));
		return CMD_EXIT_FAILED;
	}
	err = rundir_open(&rd, cl->run_dir, text);
	if (!err)
		err = claim_fd >= 0 ? 0 : claim(&w, &rd, &claim_fd, text);
	if (!err)
		rundir_sign_claim(claim_fd);
	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	w.comes = is_policy_wanted(cl, &rd);
	if (w.comes)
		keeper.start = run_enable;
	rundir_close(&rd);
	(void)notify_store_fd(w.fd, KEEPER_SOCKET); /* nobody may listen */
	if (give_up_privileges())
		return CMD_EXIT_FAILED;
	return keeper_run(&keeper); /* claim_fd and w.fd end with us */
}
