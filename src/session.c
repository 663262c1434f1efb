#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "apply.h"
#include "control.h"
#include "flows.h"
#include "fwdecode.h"
#include "fwprobe.h"
#include "fwread.h"
#include "fwtxn.h"
#include "log.h"
#include "netwatch.h"

/* How long a change is asked for again while its watcher is being started anew. */
#define ASK_TRIES    100
#define ASK_PAUSE_MS 50

void session_close(struct session *ss)
{
	fwsock_close(&ss->fs);
	if (ss->held)
		rulesets_fini(ss->held);
	free(ss->held);
	ss->held = NULL;
	state_fini(&ss->before);
	rundir_close(&ss->rundir);
}

static int read_guarded(struct session *ss, uint32_t *ret_generation, char text[CONFIG_ERR])
{
	const struct fwtable *inet;
	struct fwtables tables;
	int err = fwtables_read_rules(&ss->fs, &tables);

	if (err) {
		snprintf(text, CONFIG_ERR, "nf_tables: cannot read tables %s: %s", RULESET_TABLE,
			 fwsock_strerror(err));
		return err;
	}
	inet = &tables.of[FAMILY_INET];
	ss->guarded = inet->present;
	ss->ownable = inet->present && inet->flags & FWTXN_TABLE_PERSIST;
	ss->fragments = fwdecode_fragments(&tables);
	ss->parts = fwdecode_parts(&tables);
	*ret_generation = tables.generation;
	fwtables_fini(&tables);
	return 0;
}

/* Whether the kernel has what this record tells.  0, 1, or -errno with a text. */
static int compare_record(struct session *ss, const struct state *s, char text[CONFIG_ERR])
{
	/* Parts that are not in force may be lacking, or have been taken away. */
	struct parts parts = ss->parts;
	struct netstate net = { 0 };
	struct policy policy;
	int err = state_effective_policy(s, &policy, text);

	if (err)
		return 1;
	err = netwatch_dump_links(&net);
	if (err)
		snprintf(text, CONFIG_ERR, "cannot read links: %s", strerror(-err));
	if (!err && fwprobe_frames(&ss->fs, &policy, &parts))
		err = 1;
	parts.fragments = ss->fragments;
	if (!err)
		err = apply_compare(&ss->fs, s, &policy, &net, &parts, true, text);
	netstate_fini(&net);
	policy_fini(&policy);
	return err;
}

/*
 * A command was killed between its commit and its record's renaming: if the
 * kernel has what that record tells, the record is the true one.
 */
static int recover(struct session *ss, bool locked, char text[CONFIG_ERR])
{
	struct state s;
	int err;

	state_init(&s);
	/* There may be none, or one that was cut short before the commit. */
	err = state_read_prepared(&ss->rundir, &s, text) ? 1 : compare_record(ss, &s, text);
	if (!err && locked)
		err = state_publish(&ss->rundir, text);
	if (!err) {
		ss->before = s;
		ss->recorded = true;
		return 0;
	}
	state_fini(&s);
	return err < 0 ? err : 0;
}

/*
 * Where nobody has committed anything since a command read back what it had put in
 * force, the sets are those of its record.  A watcher knows by itself.
 */
static void recall(struct session *ss, uint32_t generation)
{
	const struct netstate nothing = { 0 }; /* what follows from links is never known */
	char text[CONFIG_ERR];
	struct policy policy;

	if (!ss->recorded || !ss->guarded || !generation || rundir_is_claimed(&ss->rundir) ||
	    state_noted_generation(&ss->rundir, fwsock_netns(&ss->fs)) != generation ||
	    state_effective_policy(&ss->before, &policy, text))
		return;
	ss->held = calloc(FAMILIES, sizeof(*ss->held));
	if (ss->held && !state_build_rules(&ss->before, &policy, &nothing, &ss->parts, ss->held))
		ss->known = apply_known(ss->held, generation);
	policy_fini(&policy);
}

static int read_in_force(struct session *ss, bool locked, char text[CONFIG_ERR])
{
	uint32_t generation = 0;
	int err = read_guarded(ss, &generation, text);

	if (!err && ss->guarded)
		err = recover(ss, locked, text);
	if (err || ss->recorded)
		return err;
	err = state_read(&ss->rundir, &ss->before, text);
	ss->recorded = !err;
	recall(ss, generation);
	return err == -ENOENT ? 0 : err;
}

static int open_socket(struct session *ss, int fd, char reterr_text[CONFIG_ERR])
{
	int err = fd < 0 ? fwsock_open(&ss->fs) : fwsock_adopt(&ss->fs, fd);

	if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot open a netlink socket: %s",
			 strerror(-err));
	return err;
}

int session_open_unread(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR])
{
	int err;

	*ss = (struct session){ 0 };
	state_init(&ss->before);
	err = rundir_open(&ss->rundir, run_dir, reterr_text);
	if (!err)
		err = rundir_lock(&ss->rundir, RUNDIR_LOCK_MS, reterr_text);
	if (!err)
		err = open_socket(ss, -1, reterr_text);
	if (err)
		session_close(ss);
	return err;
}

int session_open(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR])
{
	int err = session_open_unread(ss, run_dir, reterr_text);

	if (err)
		return err;
	err = read_in_force(ss, true, reterr_text);
	if (err)
		session_close(ss);
	return err;
}

int session_open_watch(struct session *ss, const char *run_dir, int fd,
		       char reterr_text[CONFIG_ERR])
{
	char ignored[CONFIG_ERR];
	bool locked;
	int err;

	*ss = (struct session){ 0 };
	state_init(&ss->before);
	err = open_socket(ss, fd, reterr_text); /* first: it takes the descriptor */
	if (!err)
		err = rundir_open(&ss->rundir, run_dir, reterr_text);
	else
		ss->rundir = RUNDIR_CLOSED;
	if (!err) {
		locked = !rundir_lock(&ss->rundir, 0, ignored);
		err = read_in_force(ss, locked, reterr_text);
		rundir_unlock(&ss->rundir);
	}
	if (err)
		session_close(ss);
	return err;
}

unsigned int session_apply_flags(const struct session *ss, const struct policy *p)
{
	const unsigned int flags = ss->guess ? APPLY_GUESS : 0;

	return flags | (p->ownership == OWNERSHIP_OFF ? APPLY_DISOWN : ss->own ? APPLY_OWN : 0);
}

/* The record could not be put in its place: back to what was in force. */
static void undo(struct session *ss)
{
	char text[CONFIG_ERR];
	struct plan plan;
	struct state s;

	if (!ss->guarded) {
		(void)apply_remove(&ss->fs, text);
		return;
	}
	state_init(&s); /* the caller may have made its own of ss->before */
	if (!state_read(&ss->rundir, &s, text) &&
	    !plan_build(&ss->fs, &s, (struct parts){ 0 }, &plan, text)) {
		(void)apply_commit(&ss->fs, &plan, session_apply_flags(ss, &plan.policy), NULL,
				   NULL, text);
		plan_fini(&plan);
	}
	state_fini(&s);
}

void session_forget_flows(const struct policy *p)
{
	const int err = flows_forget(p);

	if (err && err != -ENOTSUP)
		log_warning("connection tracking: cannot forget flows of guarded ports (%s): those that are redirected or offloaded go on",
			    strerror(-err));
}

/* Whether there may be large sets: of others it costs less to read them than to know. */
static bool is_large(const struct policy *p)
{
	return p->resolvers_len >= RULESET_LARGE || p->endpoints_len >= RULESET_LARGE;
}

int session_commit_here(struct session *ss, struct plan *plan, const struct state *after,
			struct apply_report *ret_report, char reterr_text[CONFIG_ERR])
{
	struct apply_report report = { 0 };
	char why[CONFIG_ERR];
	int err = state_prepare(&ss->rundir, after, reterr_text);

	if (err)
		return err;
	err = apply_commit(&ss->fs, plan, session_apply_flags(ss, &plan->policy), &ss->known,
			   &report, reterr_text);
	ss->known = (struct fwknown){ 0 };
	if (ret_report)
		*ret_report = report;
	if (report.commits)
		session_forget_flows(&plan->policy);
	if (err < 0 && err != -EBUSY) {
		state_discard(&ss->rundir);
		return err;
	}
	/* What the kernel has, or is to have, is what the record tells. */
	if (state_publish(&ss->rundir, why)) {
		memcpy(reterr_text, why, CONFIG_ERR);
		undo(ss);
		return -EIO;
	}
	if (!err && report.generation && is_large(&plan->policy))
		state_note_generation(&ss->rundir, fwsock_netns(&ss->fs), report.generation);
	return err;
}

int session_remove_here(struct session *ss, char reterr_text[CONFIG_ERR])
{
	/* Rules first: a record without rules is only stale, rules without a record would be stuck. */
	int err = apply_remove(&ss->fs, reterr_text);

	return err ? err : state_remove(&ss->rundir, reterr_text);
}

static bool is_nobody(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED;
}

/* Whether a change may be asked for again: one that went away is started again by its keeper. */
static bool is_lost(int err)
{
	return err == -ECONNRESET || err == -EPIPE;
}

static void describe_ask(const struct session *ss, int err, char text[CONFIG_ERR])
{
	snprintf(text, CONFIG_ERR,
		 "%s/control: the watcher %s; what is in force now, 'leakguard status' tells",
		 ss->rundir.path,
		 is_lost(err)	   ? "went away before it answered" :
		 err == -ETIMEDOUT ? "does not answer" :
		 err == -EPROTO ? "is another version of leakguard, expected it to be restarted" :
		 err == -EACCES ? "belongs to somebody else" :
				  strerror(-err));
}

/*
 * Have the watcher do what `verb` says, with the record `after` prepared where
 * there is one.  0, 1 or -errno with a text, its own; *ret_answered is false
 * if there is no watcher, or one that cannot start: nothing was done then.
 */
static int ask_watcher(struct session *ss, enum control_verb verb, const struct state *after,
		       bool *ret_answered, char reterr_text[CONFIG_ERR])
{
	const struct timespec pause = { .tv_nsec = ASK_PAUSE_MS * 1000000L };
	struct control_reply reply;
	int err = 0;

	*ret_answered = false;
	if (!rundir_is_claimed(&ss->rundir) &&
	    faccessat(ss->rundir.dir_fd, "control", F_OK, AT_SYMLINK_NOFOLLOW))
		return -ENOENT;
	for (int i = 0; i < ASK_TRIES; i++) {
		/* Anew each time: one that went away may have put it in its place. */
		err = after ? state_prepare(&ss->rundir, after, reterr_text) : 0;
		if (err)
			return err;
		err = control_ask(ss->rundir.dir_fd, ss->rundir.path, verb, SESSION_WATCHER_MS,
				  &reply);
		if (!err) {
			*ret_answered = true;
			memcpy(reterr_text, reply.text, CONFIG_ERR);
			return reply.result;
		}
		if (!is_lost(err) && !is_nobody(err))
			break;
		nanosleep(&pause, NULL);
		/* Ended for good meanwhile, and nothing lost on the way: there is none. */
		if (is_nobody(err) && !rundir_is_claimed(&ss->rundir))
			return err;
	}
	*ret_answered = !is_nobody(err);
	if (*ret_answered)
		describe_ask(ss, err, reterr_text);
	return err;
}

int session_commit(struct session *ss, struct plan *plan, const struct state *after,
		   char reterr_text[CONFIG_ERR])
{
	int err = ask_watcher(ss, CONTROL_VERB_COMMIT, after, &ss->watched, reterr_text);

	if (!ss->watched)
		return is_nobody(err) ? session_commit_here(ss, plan, after, NULL, reterr_text) :
					err;
	if (err < 0 && err != -EBUSY)
		state_discard(&ss->rundir); /* no harm if it was taken: it is in its place then */
	return err;
}

int session_check(struct session *ss, const struct plan *plan, const struct state *after,
		  char reterr_text[CONFIG_ERR])
{
	int err = ask_watcher(ss, CONTROL_VERB_CHECK, after, &ss->watched, reterr_text);

	state_discard(&ss->rundir);
	if (!ss->watched && is_nobody(err))
		err = apply_dry_run(&ss->fs, plan, reterr_text);
	return err;
}

int session_remove(struct session *ss, char reterr_text[CONFIG_ERR])
{
	int err = ask_watcher(ss, CONTROL_VERB_REMOVE, NULL, &ss->watched, reterr_text);

	if (ss->watched || !is_nobody(err))
		return err;
	return session_remove_here(ss, reterr_text);
}
