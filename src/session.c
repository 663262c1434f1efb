#include "session.h"

#include <errno.h>
#include <string.h>

#include "apply.h"
#include "fwdecode.h"
#include "fwread.h"

void session_close(struct session *ss)
{
	fwsock_close(&ss->fs);
	state_fini(&ss->before);
	rundir_close(&ss->rundir);
}

static int read_guarded(struct session *ss, char text[CONFIG_ERR])
{
	struct fwtable table;
	int err = fwtable_read_rules(&ss->fs, &table);

	if (err) {
		snprintf(text, CONFIG_ERR, "nf_tables: cannot read table inet %s: %s",
			 RULESET_TABLE, fwsock_strerror(err));
		return err;
	}
	ss->guarded = table.present;
	ss->fragments = fwdecode_fragments(&table);
	fwtable_fini(&table);
	return 0;
}

/*
 * A command was killed between its commit and its record's renaming: if the
 * kernel has what that record tells, the record is the true one.
 */
static int recover(struct session *ss, char text[CONFIG_ERR])
{
	struct policy policy;
	struct ruleset rules;
	struct state s;
	int err;

	state_init(&s);
	err = state_read_prepared(&ss->rundir, &s, text);
	if (!err)
		err = state_effective_policy(&s, &policy, text);
	if (err) {
		state_fini(&s);
		return 0; /* there is none, or it was cut short before the commit */
	}
	err = ruleset_build(&policy, &s.pins, ss->fragments, &rules);
	policy_fini(&policy);
	if (err) {
		snprintf(text, CONFIG_ERR, "cannot build the rules: out of memory");
	} else {
		err = apply_compare(&ss->fs, &rules, text);
		ruleset_fini(&rules);
	}
	if (!err)
		err = state_publish(&ss->rundir, text);
	state_fini(&s);
	return err < 0 ? err : 0;
}

int session_open(struct session *ss, const char *run_dir, char reterr_text[CONFIG_ERR])
{
	int err;

	*ss = (struct session){ 0 };
	state_init(&ss->before);
	err = rundir_open(&ss->rundir, run_dir, reterr_text);
	if (err)
		return err;
	err = fwsock_open(&ss->fs);
	if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot open a netlink socket: %s",
			 strerror(-err));
	if (!err)
		err = read_guarded(ss, reterr_text);
	if (!err && ss->guarded)
		err = recover(ss, reterr_text);
	if (!err) {
		err = state_read(&ss->rundir, &ss->before, reterr_text);
		ss->recorded = !err;
		if (err == -ENOENT)
			err = 0;
	}
	if (err)
		session_close(ss);
	return err;
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
	if (!state_read(&ss->rundir, &s, text) && !plan_build(&ss->fs, &s, &plan, text)) {
		(void)apply_commit(&ss->fs, &plan, text);
		plan_fini(&plan);
	}
	state_fini(&s);
}

int session_commit(struct session *ss, const struct plan *plan, const struct state *after,
		   char reterr_text[CONFIG_ERR])
{
	char why[CONFIG_ERR];
	int err = state_prepare(&ss->rundir, after, reterr_text);

	if (err)
		return err;
	err = apply_commit(&ss->fs, plan, reterr_text);
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
	return err;
}
