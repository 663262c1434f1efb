#include "change.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "apply.h"
#include "cmd.h"
#include "control.h"
#include "fwprobe.h"
#include "keeper.h"
#include "log.h"
#include "session.h"

#define WATCHER_WAIT_MS 5000 /* how long a watcher that was left behind may take to answer */
#define WATCHER_POLL_MS 2

int change_open(struct session *ss, const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	int err = session_open(ss, cl->run_dir, text);

	if (err)
		log_error("%s", text);
	return err;
}

static void print_summary(const struct plan *plan, bool dry_run, const char *more)
{
	const struct policy *p = &plan->policy;
	char text[POLICY_TEXT];
	bool present = false;

	for (size_t i = 0; i < plan->net.links_len; i++)
		present |=
			plan->net.links[i].up &&
			policy_is_tunnel_link(p, plan->net.links[i].name, plan->net.links[i].kind);
	printf("%s: name traffic to port", dry_run ? "the kernel would take these rules" :
					   present ? "guarded" :
						     "guarded, no tunnel is up");
	for (size_t i = 0; i < p->ports_len; i++)
		printf("%s %u", i ? "," : p->ports_len > 1 ? "s" : "", p->ports[i]);
	fputs(" leaves only", stdout);
	for (size_t i = 0; i < p->tunnels_len; i++)
		printf("%s %s", i ? "," : " through", tunnel_format(&p->tunnels[i], text));
	if (p->resolvers_len)
		printf("%s %s",
		       !p->tunnels_len		   ? "" :
		       p->mode == POLICY_MODE_BOTH ? " and" :
						     " or",
		       "to ");
	for (size_t i = 0; i < p->resolvers_len && i < 4; i++)
		printf("%s%s", i ? ", " : "", resolver_format(&p->resolvers[i], text));
	if (p->resolvers_len > 4)
		printf(" and %zu more", p->resolvers_len - 4);
	if (!p->tunnels_len && !p->resolvers_len)
		fputs(" to this host itself", stdout);
	puts(more);
}

/* It is there once it answers: a `disable` right behind us shall find it. */
static int await_watcher(const struct session *ss, pid_t pid)
{
	const struct timespec pause = { .tv_nsec = WATCHER_POLL_MS * 1000000L };
	struct control_reply reply;
	int status, err = -ETIMEDOUT;

	for (int i = 0; i < WATCHER_WAIT_MS / WATCHER_POLL_MS; i++) {
		err = control_ask(ss->rundir.dir_fd, ss->rundir.path, CONTROL_VERB_STATUS,
				  WATCHER_WAIT_MS, &reply);
		if (!err || waitpid(pid, &status, WNOHANG) == pid)
			break;
		nanosleep(&pause, NULL);
	}
	return err;
}

/*
 * Somebody has to follow what changes from now on; where nobody does yet, leave
 * a watcher behind, which gets the socket that owns the table.  The claim is
 * taken before the lock is given up, so that of two commands one does this.
 */
static void leave_watcher(struct session *ss)
{
	char text[CONFIG_ERR];
	int claim_fd, err = rundir_claim(&ss->rundir, &claim_fd, text);
	pid_t pid;

	if (err == -EBUSY)
		return; /* one has been started by hand meanwhile */
	if (!err) {
		pid = keeper_spawn(ss->rundir.path, mnl_socket_get_fd(ss->fs.nl), claim_fd);
		close(claim_fd);
		rundir_unlock(&ss->rundir); /* the watcher may need it */
		err = pid < 0 ? (int)pid : await_watcher(ss, pid);
		snprintf(text, sizeof(text), "%s", strerror(-err));
	}
	if (err)
		log_warning("no watcher could be left behind (%s): the rules stand, but nobody follows routes or undoes what others change",
			    text);
}

/* For a watcher that is left behind the table is owned from its first moment on. */
static bool choose_own(struct session *ss, const struct state *after, const struct policy *p)
{
	bool can_own = false;

	if (after->no_watch || p->ownership != OWNERSHIP_AUTO || rundir_is_claimed(&ss->rundir))
		return false;
	return ss->ownable || ss->guess || (!fwprobe_ownership(&ss->fs, &can_own) && can_own);
}

/*
 * On an open host by a guess: to ask the kernel what it has takes as long as all
 * else together, and packets leave meanwhile.  0, 1 or -EBUSY as session_commit();
 * -EAGAIN where it came to nothing, and nothing has changed.
 */
static int commit_guess(struct session *ss, struct state *after, struct plan *ret_plan,
			char text[CONFIG_ERR])
{
	int err;

	if (ss->guarded || rundir_is_claimed(&ss->rundir) ||
	    plan_build(&ss->fs, after, plan_guess_parts(), ret_plan, text))
		return -EAGAIN;
	ss->guess = true;
	ss->own = choose_own(ss, after, &ret_plan->policy);
	err = session_commit(ss, ret_plan, after, text);
	ss->guess = false;
	if (err >= 0 || err == -EBUSY)
		return err;
	plan_fini(ret_plan);
	return -EAGAIN;
}

int change_commit(struct session *ss, struct state *after, bool dry_run, const char *more)
{
	char text[CONFIG_ERR];
	struct plan plan;
	int err = dry_run ? -EAGAIN : commit_guess(ss, after, &plan, text);

	if (err == -EAGAIN) {
		err = plan_build(&ss->fs, after, ss->parts, &plan, text);
		if (err) {
			log_error("%s", text);
			return err == -EINVAL ? CMD_EXIT_USAGE : CMD_EXIT_FAILED;
		}
		ss->own = !dry_run && choose_own(ss, after, &plan.policy);
		err = dry_run ? session_check(ss, &plan, after, text) :
				session_commit(ss, &plan, after, text);
	}
	if (err < 0)
		log_error("%s", text);
	else if (err)
		log_warning("%s", text);
	if (err >= 0 && !after->pause_until_ms)
		print_summary(&plan, dry_run, more);
	plan_fini(&plan);
	if (err >= 0 && !dry_run && !ss->watched && !after->no_watch)
		leave_watcher(ss);
	return err < 0 ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

int change_exit(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EIO ? CMD_EXIT_FAILED :
										   CMD_EXIT_USAGE;
}
