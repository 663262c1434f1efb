#include "reconcile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "fwprobe.h"
#include "fwread.h"
#include "fwtxn.h"
#include "log.h"
#include "urgency.h"

#define AUDIT_MS	  10000
#define AUDIT_FULL	  6 /* every so many audits the rules are read, whatever the generation says */
#define RETRY_FIRST_MS	  100
#define RETRY_MOST_MS	  30000
#define RECORD_RETRY_MS	  200
#define UNDO_BURST	  200 /* repairs at once, then one every ... */
#define UNDO_EVERY_MS	  5
#define WHOSE_READS	  64 /* of up to 1,024 datagrams, which end with whose they are */
#define PAUSE_CHECK_MS	  1000
#define FIGHT_BURST	  50 /* repairs at once, then more than one every ...: a fight */
#define FIGHT_EVERY_MS	  1000
#define FIGHT_OVER_MS	  10000
#define UNDO_LOG_EVERY_MS 1000

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- opening --- */

/*
 * Own the table if we may.  An owned one needs no listening, for nobody else can
 * touch it; another is listened to from before the first commit on.
 */
static void choose_ownership(struct reconcile *rc, const struct policy *wanted)
{
	rc->ss.own = rc->can_own && wanted->ownership == OWNERSHIP_AUTO;
	if (rc->ss.own) {
		fwwatch_close(&rc->fw);
	} else if (!rc->fw.open) {
		rc->opened++;
		if (fwwatch_open(&rc->fw))
			log_event(LOG_LEVEL_WARNING, "deaf",
				  "nf_tables: cannot listen for changes, relying on audits");
	}
}

static void choose_filter(struct reconcile *rc)
{
	const struct policy *p = &rc->plan.policy;
	struct addr *addrs = calloc(p->resolvers_len + 1, sizeof(*addrs));

	for (size_t i = 0; addrs && i < p->resolvers_len; i++)
		addrs[i] = p->resolvers[i].addr;
	/* Without a new filter too much or too little wakes us; audits make up for it. */
	if (!addrs || netwatch_filter(&rc->nw, addrs, p->resolvers_len))
		log_event(LOG_LEVEL_WARNING, "deaf",
			  "rtnetlink: cannot filter routes, relying on audits");
	free(addrs);
}

int reconcile_open(struct reconcile *rc, const char *run_dir, int fd, char reterr_text[CONFIG_ERR])
{
	int err;

	*rc = (struct reconcile){ 0 };
	rc->status.started_ms = clock_boottime_ms();
	err = session_open_watch(&rc->ss, run_dir, fd, reterr_text);
	if (err)
		return err;
	/* Not asked for what is there: an answer costs an RCU grace period (fwprobe.h). */
	rc->can_own = rc->ss.ownable;
	err = rc->can_own ? 0 : fwprobe_ownership(&rc->ss.fs, &rc->can_own);
	if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
	if (!err) {
		err = netwatch_open(&rc->nw);
		if (err)
			snprintf(reterr_text, CONFIG_ERR, "rtnetlink: cannot listen: %s",
				 strerror(-err));
	}
	if (err) {
		session_close(&rc->ss);
		return err;
	}
	choose_ownership(rc, &rc->ss.before.policy);
	rc->audit_ms = clock_monotonic_ms();
	rc->skew_ms = clock_boottime_ms() - rc->audit_ms;
	if (rc->ss.recorded)
		rc->links.first_ms = rc->links.last_ms = 1; /* long due: look at once */
	return 0;
}

static void forget_plan(struct reconcile *rc)
{
	if (rc->planned)
		plan_fini(&rc->plan);
	fwtxn_fini(&rc->ready);
	rc->planned = false;
}

void reconcile_close(struct reconcile *rc)
{
	forget_plan(rc);
	fwwatch_close(&rc->fw);
	netwatch_close(&rc->nw);
	session_close(&rc->ss);
}

/* --- looking --- */

static int copy_pins(const struct pins *from, struct pins *ret_copy)
{
	/* One element more than needed: calloc(0) may return NULL. */
	*ret_copy = (struct pins){ calloc(from->len + 1, sizeof(*from->addrs)), from->len };
	if (!ret_copy->addrs)
		return -ENOMEM;
	if (from->len)
		memcpy(ret_copy->addrs, from->addrs, from->len * sizeof(*from->addrs));
	return 0;
}

static void say_stale(struct reconcile *rc, const char *text)
{
	struct watch_status *st = &rc->status;

	st->refused++;
	backoff_fail(&rc->retry, clock_monotonic_ms(), RETRY_FIRST_MS, RETRY_MOST_MS);
	if (!st->stale || strncmp(st->stale_text, text, sizeof(st->stale_text) - 1))
		log_event(LOG_LEVEL_ERROR, "stale", "%.400s, retrying in %u ms", text,
			  rc->retry.wait_ms);
	st->stale = 1;
	snprintf(st->stale_text, sizeof(st->stale_text), "%s", text);
}

static void say_fresh(struct reconcile *rc)
{
	if (rc->status.stale)
		log_event(LOG_LEVEL_NOTICE, "fresh", "the rules are as they should be again");
	rc->status.stale = 0;
	backoff_clear(&rc->retry);
}

static void note_undone(struct reconcile *rc, const struct fwevent *ev)
{
	struct watch_status *st = &rc->status;
	const uint64_t now_ms = clock_monotonic_ms();

	st->undone++;
	st->culprit_pid = ev->pid;
	memcpy(st->culprit_name, ev->name, sizeof(st->culprit_name));
	snprintf(st->culprit_what, sizeof(st->culprit_what), "%s", ev->what);
	st->culprit_ms = clock_boottime_ms();
	if (!rc->undone_ms || now_ms - rc->undone_ms >= UNDO_LOG_EVERY_MS) {
		rc->undone_ms = now_ms;
		log_event(LOG_LEVEL_WARNING, "undone",
			  "%s by %s (process %u) was undone; %llu so far", ev->what,
			  *ev->name ? ev->name : "somebody", ev->pid,
			  (unsigned long long)st->undone);
	}
}

/* What an event that was lost told of may be more than what is known. */
static void note_lost(struct reconcile *rc)
{
	rc->status.lost++;
	debounce_hit(&rc->links, clock_monotonic_ms());
}

/* After a commit of ours: the rest of an event, which tells whose it was. */
static void read_whose(struct reconcile *rc, struct fwevent *ev)
{
	struct fwevent rest;

	for (int i = 0; i < WHOSE_READS && rc->fw.touched; i++) {
		if (fwwatch_read(&rc->fw, fwsock_port(&rc->ss.fs), &rest) != 1)
			continue;
		if (rest.lost)
			note_lost(rc);
		else
			*ev = rest;
	}
}

/*
 * A change that no event has told of yet.  One that waits to be read tells whose it
 * was; without it nobody knows.
 */
static void note_found(struct reconcile *rc, const char *what, const char *found)
{
	struct fwevent ev = { 0 };

	if (rc->fw.open && fwwatch_read(&rc->fw, fwsock_port(&rc->ss.fs), &ev) == 1 && ev.touched) {
		read_whose(rc, &ev);
		note_undone(rc, &ev);
		return;
	}
	if (ev.lost)
		note_lost(rc);
	snprintf(ev.what, sizeof(ev.what), "%.100s (found by %s)", what, found);
	note_undone(rc, &ev);
}

/* Whether nobody else may change the tables: as the kernel has it, not as we would. */
static bool is_owner(struct reconcile *rc)
{
	struct fwtables tables;
	bool owner = !fwtables_read_flags(&rc->ss.fs, &tables) && fwtables_present(&tables);

	for (enum family f = 0; owner && f < FAMILIES; f++)
		owner = !tables.of[f].present || (tables.of[f].flags == FWTXN_TABLE_OWNED &&
						  tables.of[f].owner == fwsock_port(&rc->ss.fs));
	return owner;
}

/* What is in force, as was read at this generation (0: somebody was at it). */
static void keep_plan(struct reconcile *rc, struct plan *plan, uint32_t generation)
{
	forget_plan(rc);
	rc->plan = *plan;
	rc->planned = true;
	if (!rc->ss.own)
		apply_make_ready(&rc->plan, &rc->ready);
	rc->ss.guarded = true;
	rc->generation = generation;
	rc->status.owner = rc->ss.own && is_owner(rc);
	rc->ss.known = apply_known(rc->plan.rules, generation);
	rc->ss.known.owned = rc->status.owner;
	rc->ss.known.chains = true;
}

/* The record gets what a look found; a command that holds the lock has its own, and we our time. */
static void write_record(struct reconcile *rc)
{
	char text[CONFIG_ERR];

	rc->record_ms = 0;
	if (reconcile_record(rc, text))
		rc->record_ms = clock_monotonic_ms() + RECORD_RETRY_MS;
}

/*
 * A new pin is recorded as every change is: before the commit, in its place after
 * it.  Unless a command holds the lock: then the pin is in force first.
 */
static int commit_look(struct reconcile *rc, struct plan *plan, bool pinned,
		       struct apply_report *report, char text[CONFIG_ERR])
{
	int err;

	if (pinned && !rundir_lock(&rc->ss.rundir, 0, text)) {
		err = session_commit_here(&rc->ss, plan, &rc->ss.before, report, text);
		rundir_unlock(&rc->ss.rundir);
		if (err >= 0)
			return err;
	}
	if (pinned && !rc->record_ms)
		rc->record_ms = clock_monotonic_ms() + RECORD_RETRY_MS;
	err = apply_commit(&rc->ss.fs, plan, session_apply_flags(&rc->ss, &rc->ss.before.policy),
			   &rc->ss.known, report, text);
	rc->ss.known = (struct fwknown){ 0 };
	return err;
}

/* Whether a pause has just ended by our clock; the kernel's may be behind, if we slept. */
static bool end_pause(struct state *s)
{
	if (!s->pause_until_ms || state_pause_left_ms(s))
		return false;
	s->pause_until_ms = 0;
	log_event(LOG_LEVEL_NOTICE, "resumed", "the pause is over");
	return true;
}

/* What follows from a look that went well. */
static void finish_look(struct reconcile *rc, struct plan *plan, uint32_t generation,
			const struct pins *before, bool pause_ended)
{
	const bool first = !rc->planned;

	keep_plan(rc, plan, generation);
	say_fresh(rc);
	if (first)
		choose_filter(rc);
	if (pause_ended) {
		write_record(rc);
		session_forget_flows(&rc->plan.policy); /* what began in it */
	}
	follow_pins(before, &rc->ss.before.pins);
	follow_plan(&rc->follow, &rc->plan, &rc->ss.before.pins, &rc->status);
}

/* What the kernel is known to have. */
static struct parts known_parts(const struct reconcile *rc)
{
	return rc->planned ? rc->plan.parts : rc->ss.parts;
}

/* Whether links have come, gone or moved since the last look, so that rules differ by that. */
static bool links_differ(const struct netstate *a, const struct netstate *b)
{
	bool differ = a->links_len != b->links_len;

	for (size_t i = 0; !differ && i < a->links_len; i++)
		differ = a->links[i].index != b->links[i].index ||
			 a->links[i].master != b->links[i].master ||
			 a->links[i].parent != b->links[i].parent ||
			 strncmp(a->links[i].name, b->links[i].name, IFNAMSIZ) != 0;
	return differ;
}

/*
 * Dump, build, compare, commit.  `found` says how a difference was found that is
 * none of ours: the rules differ although nothing that we go by does.
 */
static void look(struct reconcile *rc, const char *found)
{
	struct state *s = &rc->ss.before;
	struct apply_report report = { 0 };
	char text[CONFIG_ERR] = "out of memory";
	struct pins before = { 0 };
	struct plan plan = { 0 };
	bool pause_ended, pinned;
	int err;

	urgency_lower();
	debounce_clear(&rc->links);
	rc->looked_ms = clock_monotonic_ms();
	if (!rc->ss.recorded)
		return;
	rc->status.looked++;
	pause_ended = end_pause(s);
	err = copy_pins(&s->pins, &before);
	if (!err)
		err = plan_build(&rc->ss.fs, s, known_parts(rc), &plan, text);
	pinned = s->pins.len != before.len;
	if (!err)
		err = commit_look(rc, &plan, pinned, &report, text);
	if (err < 0) {
		plan_fini(&plan);
		say_stale(rc, text);
		rc->status.fighting |= err == -EBUSY;
	} else {
		rc->status.applied += report.commits > 0;
		if (report.commits && !report.devices_only && rc->planned && !pinned &&
		    !s->pause_until_ms && !pause_ended && !links_differ(&rc->plan.net, &plan.net))
			note_found(rc, report.first, found);
		finish_look(rc, &plan, report.generation, &before, pause_ended);
	}
	free(before.addrs);
}

/* --- undoing --- */

static void undo(struct reconcile *rc)
{
	struct fwevent ev = rc->undo;
	struct apply_report report = { 0 };
	char text[CONFIG_ERR] = "out of memory";
	bool undone;
	int err;

	rc->undo.touched = false;
	if (!rc->ss.recorded)
		return;
	if (!rc->planned) {
		look(rc, "an event");
		read_whose(rc, &ev);
		return;
	}
	/* The plan of the last look: asking for links and routes first would leave it open longer. */
	undone = fwtxn_len(&rc->ready) && !apply_ready(&rc->ss.fs, &rc->ready);
	urgency_lower();
	err = state_pause_rules(&rc->ss.before, rc->plan.rules);
	if (!err)
		err = apply_commit(&rc->ss.fs, &rc->plan,
				   session_apply_flags(&rc->ss, &rc->ss.before.policy), NULL,
				   &report, text);
	read_whose(rc, &ev);
	if (undone || report.commits)
		note_undone(rc, &ev);
	if (err < 0) {
		rc->status.fighting |= err == -EBUSY;
		say_stale(rc, text);
	} else {
		say_fresh(rc);
	}
}

/* --- events --- */

int reconcile_links_fd(const struct reconcile *rc)
{
	/* While a storm is waited out, nothing is read: what overflows means the same. */
	return rc->nw.events && !rc->links.first_ms ? netwatch_fd(&rc->nw) : -1;
}

int reconcile_rules_fd(const struct reconcile *rc)
{
	return rc->fw.open && !rc->undo.touched ? fwwatch_fd(&rc->fw) : -1;
}

static bool read_links(struct reconcile *rc)
{
	bool changed = false, lost = false;

	rc->status.events++;
	if (!rc->nw.events || netwatch_read(&rc->nw, &changed, &lost)) {
		netwatch_close(&rc->nw);
		changed = lost = true;
		rc->opened++;
		if (netwatch_open(&rc->nw))
			log_event(LOG_LEVEL_ERROR, "deaf", "rtnetlink: cannot listen, retrying");
		else if (rc->planned)
			choose_filter(rc);
	}
	rc->status.lost += lost;
	return changed;
}

void reconcile_read_links(struct reconcile *rc)
{
	const uint64_t now_ms = clock_monotonic_ms();

	if (!read_links(rc))
		return;
	debounce_hit(&rc->links, now_ms);
	/*
	 * A new link is hooked at once, before it is up, unless there are so many that
	 * they come while we are still at it: then those are waited out.
	 */
	if (rc->nw.appeared && now_ms - rc->looked_ms >= rc->ss.before.policy.watch_late_ms)
		look(rc, "a look at a new link");
}

void reconcile_read_rules(struct reconcile *rc)
{
	const uint64_t now_ms = clock_monotonic_ms();
	struct fwevent ev;
	int got = fwwatch_read(&rc->fw, fwsock_port(&rc->ss.fs), &ev);

	if (got < 0) {
		fwwatch_close(&rc->fw);
		choose_ownership(rc, &rc->ss.before.policy);
		ev = (struct fwevent){ .lost = true };
	}
	if (ev.lost) {
		rc->status.lost++;
		ev.touched = true;
		snprintf(ev.what, sizeof(ev.what), "a change whose event was lost");
	}
	if (!ev.touched)
		return;
	rc->undo = ev;
	if (!bucket_take(&rc->fights, now_ms, FIGHT_BURST, FIGHT_EVERY_MS)) {
		if (!rc->status.fighting)
			log_event(LOG_LEVEL_WARNING, "fight",
				  "%s (process %u) changes the rules again and again: at most %d repairs a second",
				  *ev.name ? ev.name : "somebody", ev.pid, 1000 / UNDO_EVERY_MS);
		rc->status.fighting = 1;
	}
	if (bucket_take(&rc->undos, now_ms, UNDO_BURST, UNDO_EVERY_MS))
		undo(rc);
	/* Else later, see reconcile_due(). */
}

/* --- time --- */

static uint64_t links_due(const struct reconcile *rc)
{
	const struct policy *p = &rc->ss.before.policy;

	return debounce_due(&rc->links, p->watch_quiet_ms, p->watch_late_ms);
}

static uint64_t pause_due(const struct reconcile *rc, uint64_t now_ms)
{
	return rc->ss.before.pause_until_ms ? now_ms + state_pause_left_ms(&rc->ss.before) :
					      PACE_NEVER;
}

uint64_t reconcile_due(const struct reconcile *rc)
{
	const uint64_t now_ms = clock_monotonic_ms();
	uint64_t due = earlier(links_due(rc), rc->audit_ms);

	due = earlier(due, backoff_due(&rc->retry));
	/* This clock stands still in suspend, a pause goes on: look at it now and then. */
	due = earlier(due,
		      earlier(pause_due(rc, now_ms),
			      rc->ss.before.pause_until_ms ? now_ms + PAUSE_CHECK_MS : PACE_NEVER));
	due = earlier(due, rc->record_ms ? rc->record_ms : PACE_NEVER);
	if (rc->undo.touched)
		due = earlier(due, bucket_due(&rc->undos, now_ms, UNDO_BURST, UNDO_EVERY_MS));
	return due;
}

/* Some losses send no event: an orphaned table, a chain lost with its last device. */
static void audit(struct reconcile *rc, uint64_t now_ms)
{
	const uint64_t skew_ms = clock_boottime_ms() - now_ms;
	const bool slept = skew_ms > rc->skew_ms + 1000;
	uint32_t generation = 0;

	urgency_lower();
	rc->audit_ms = now_ms + AUDIT_MS;
	rc->skew_ms = skew_ms;
	if (rc->status.fighting && now_ms - rc->undone_ms > FIGHT_OVER_MS)
		rc->status.fighting = 0;
	if (!rc->nw.events)
		(void)read_links(rc);
	if (!rc->ss.recorded)
		return;
	if (!rc->ss.own && !rc->fw.open)
		choose_ownership(rc, &rc->ss.before.policy);
	if (fwsock_read_generation(&rc->ss.fs, &generation) || generation != rc->generation ||
	    slept || (rc->ss.own && !is_owner(rc)) || ++rc->audits % AUDIT_FULL == 0) {
		rc->ss.known = (struct fwknown){ 0 }; /* an audit takes nothing as known */
		look(rc, "an audit");
	}
}

void reconcile_run(struct reconcile *rc)
{
	const uint64_t now_ms = clock_monotonic_ms();

	if (rc->undo.touched && bucket_take(&rc->undos, now_ms, UNDO_BURST, UNDO_EVERY_MS))
		undo(rc);
	if (links_due(rc) <= now_ms) {
		/* What came meanwhile: wait on, but not longer than we may. */
		const bool more = read_links(rc);

		if (more && now_ms < rc->links.first_ms + rc->ss.before.policy.watch_late_ms)
			debounce_hit(&rc->links, now_ms);
		else
			look(rc, "a look at changed links");
	}
	if (backoff_due(&rc->retry) <= now_ms || pause_due(rc, now_ms) <= now_ms)
		look(rc, "a second try");
	if (rc->record_ms && rc->record_ms <= now_ms)
		write_record(rc);
	if (rc->audit_ms <= now_ms)
		audit(rc, now_ms);
}

/* --- what commands ask for --- */

/* The prepared record, with what we know and its writer could not. */
static int read_prepared(struct reconcile *rc, struct state *after, struct plan *ret_plan,
			 char reterr_text[CONFIG_ERR])
{
	const struct pins *pins = &rc->ss.before.pins;
	int err;

	state_init(after);
	err = state_read_prepared(&rc->ss.rundir, after, reterr_text);
	for (size_t i = 0; !err && rc->ss.recorded && i < pins->len; i++)
		err = state_add_pin(after, &pins->addrs[i]);
	if (!err)
		err = plan_build(&rc->ss.fs, after, known_parts(rc), ret_plan, reterr_text);
	if (err)
		state_fini(after);
	return err;
}

int reconcile_commit(struct reconcile *rc, char reterr_text[CONFIG_ERR])
{
	struct apply_report report;
	struct state after;
	struct plan plan;
	int err = read_prepared(rc, &after, &plan, reterr_text);

	if (err)
		return err;
	choose_ownership(rc, &after.policy);
	err = session_commit_here(&rc->ss, &plan, &after, &report, reterr_text);
	if (err < 0 && err != -EBUSY) {
		choose_ownership(rc, &rc->ss.before.policy);
		plan_fini(&plan);
		state_fini(&after);
		return err;
	}
	rc->status.applied += report.commits > 0;
	state_fini(&rc->ss.before);
	rc->ss.before = after;
	rc->ss.recorded = true;
	keep_plan(rc, &plan, report.generation);
	say_fresh(rc);
	memset(rc->follow.odd_links, 0, sizeof(rc->follow.odd_links)); /* kinds may be others now */
	choose_filter(rc);
	/* A route that came before its resolver's filter woke nobody. */
	debounce_hit(&rc->links, clock_monotonic_ms());
	follow_plan(&rc->follow, &rc->plan, &rc->ss.before.pins, &rc->status);
	return err;
}

int reconcile_check(struct reconcile *rc, char reterr_text[CONFIG_ERR])
{
	struct state after;
	struct plan plan;
	int err = read_prepared(rc, &after, &plan, reterr_text);

	if (err)
		return err;
	err = apply_dry_run(&rc->ss.fs, &plan, reterr_text);
	plan_fini(&plan);
	state_fini(&after);
	return err;
}

int reconcile_remove(struct reconcile *rc, char reterr_text[CONFIG_ERR])
{
	int err = session_remove_here(&rc->ss, reterr_text);

	if (err)
		return err;
	state_fini(&rc->ss.before);
	rc->ss.recorded = rc->ss.guarded = false;
	rc->status.owner = 0;
	forget_plan(rc);
	rc->ss.known = (struct fwknown){ 0 };
	rc->undo.touched = false;
	rc->follow = (struct follow){ 0 };
	rc->status.tried_len = 0;
	say_fresh(rc);
	return 0;
}

int reconcile_record(struct reconcile *rc, char reterr_text[CONFIG_ERR])
{
	int err;

	urgency_lower();
	if (!rc->ss.recorded)
		return 0;
	err = rundir_lock(&rc->ss.rundir, 0, reterr_text);
	if (err)
		return err;
	err = state_prepare(&rc->ss.rundir, &rc->ss.before, reterr_text);
	if (!err)
		err = state_publish(&rc->ss.rundir, reterr_text);
	rundir_unlock(&rc->ss.rundir);
	return err;
}

void reconcile_status(const struct reconcile *rc, struct watch_status *ret_status)
{
	const uint64_t now_ms = clock_monotonic_ms(), retry_ms = backoff_due(&rc->retry);

	*ret_status = rc->status;
	ret_status->now_ms = clock_boottime_ms();
	ret_status->retry_ms = retry_ms == PACE_NEVER ?
				       0 :
				       ret_status->now_ms + retry_ms - earlier(now_ms, retry_ms);
}
