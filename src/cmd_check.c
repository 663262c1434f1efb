/* check: try to leak, on purpose, and say what got out */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "check_run.h"
#include "check_system.h"
#include "clock.h"
#include "cmd.h"
#include "cmd_check.h"
#include "fwsock.h"
#include "log.h"
#include "netwatch.h"
#include "state.h"

#define PROGRESS_MS 100

/* All that a run holds. */
struct job {
	const struct cmdline *cl;
	struct fwsock fs;
	struct rundir rundir;
	struct netstate net;
	struct state state;   /* of the record; or of the configuration, where nothing tells more */
	struct policy policy; /* what is judged by */
	bool has_policy;
	struct cmd_check_report *report;
	uint64_t shown_ms; /* when progress was shown the last time */
	bool shows;
};

/* --- what is judged by --- */

/*
 * Without a guard and without a configuration, what is a tunnel by its nature
 * counts as one: nobody had to name it yet.
 */
static int add_tunnels_by_kind(struct job *j)
{
	int err = 0;

	for (size_t i = 0; !err && i < j->net.links_len; i++) {
		const struct link *link = &j->net.links[i];
		struct tunnel tunnel = { .prefix = false };

		memcpy(tunnel.name, link->name, sizeof(tunnel.name));
		if (link->up && policy_is_tunnel_kind(link->kind))
			err = policy_add_tunnel(&j->policy, &tunnel);
	}
	return err == -E2BIG ? 0 : err;
}

/*
 * What was asked for: by the record; or what the kernel's rules say, where nobody
 * changed them; or by the configuration.  Rules that somebody has changed tell what
 * gets out, not what should.
 */
static int choose_policy(struct job *j, bool has_dir, char text[CONFIG_ERR])
{
	const struct status *st = &j->report->status;
	int err = has_dir ? state_read(&j->rundir, &j->state, text) : -ENOENT;

	if (!err) {
		err = state_effective_policy(&j->state, &j->policy, text);
		j->has_policy = !err;
		return err;
	}
	if (status_is_guarded(st)) {
		err = policy_copy(&st->policy, &j->policy);
		snprintf(text, CONFIG_ERR, "%s", strerror(-err));
		j->has_policy = !err;
		return err;
	}
	state_fini(&j->state);
	state_init(&j->state);
	err = cmd_read_policy(&j->state, j->cl->config, NULL, 0, text);
	if (!err)
		err = state_effective_policy(&j->state, &j->policy, text);
	j->has_policy = !err;
	if (!err && st->state == GUARD_STATE_OFF && !j->policy.tunnels_len)
		err = add_tunnels_by_kind(j);
	return err;
}

static int read_status(struct job *j, bool has_dir, char text[CONFIG_ERR])
{
	int err = fwsock_open(&j->fs);

	if (err) {
		snprintf(text, CONFIG_ERR, "nf_tables: cannot open a netlink socket: %s",
			 strerror(-err));
		return err;
	}
	return status_read(&j->fs, has_dir ? &j->rundir : NULL, &j->report->status, text);
}

/* --- the run --- */

static void show_progress(void *ctx, size_t done, size_t total)
{
	struct job *j = ctx;
	const uint64_t now_ms = clock_monotonic_ms();

	if (!j->shows || now_ms - j->shown_ms < PROGRESS_MS)
		return;
	j->shown_ms = now_ms;
	fprintf(stderr, "\rchecking: packet %zu of %zu ", done + 1, total);
}

static void take_finding(void *ctx, const struct finding *f)
{
	struct cmd_check_report *r = ctx;

	if (r->findings_len == CMD_CHECK_MAX_FINDINGS)
		r->findings_out++;
	else
		r->findings[r->findings_len++] = *f;
}

bool cmd_check_is_cut(const struct check_plan *plan)
{
	return plan->links_out || plan->targets_out || plan->shots_out;
}

static int choose_exit(const struct cmd_check_report *r)
{
	if (r->counts[CHECK_VERDICT_LEAK])
		return CMD_EXIT_LEAKED;
	if (r->counts[CHECK_VERDICT_UNSURE] || cmd_check_is_cut(&r->plan))
		return CMD_EXIT_FAILED;
	return CMD_EXIT_DONE;
}

static int run_shots(struct job *j, char text[CONFIG_ERR])
{
	struct cmd_check_report *r = j->report;
	uint64_t seed = 0;
	int err;

	(void)getrandom(&seed, sizeof(seed), GRND_NONBLOCK);
	seed ^= clock_boottime_ms() << 32 ^ (uint64_t)getpid();
	err = check_run_survey(&r->plan, &j->policy, &j->net);
	if (!err)
		err = check_plan_build(&r->plan, &j->policy, seed);
	if (err) {
		snprintf(text, CONFIG_ERR, "links, routes, name servers: cannot read them: %s",
			 strerror(-err));
		return err;
	}
	j->shows = !j->cl->quiet && isatty(STDERR_FILENO);
	err = check_run_shots(&r->plan, &j->fs, show_progress, j);
	if (j->shown_ms)
		fputs("\r\033[K", stderr);
	if (err)
		snprintf(text, CONFIG_ERR, "packet socket: %s",
			 err == -EPERM ? "not permitted, expected to run as root (CAP_NET_RAW)" :
					 strerror(-err));
	return err;
}

static void judge(struct job *j)
{
	struct cmd_check_report *r = j->report;

	r->law = (struct check_law){
		.policy = &j->policy,
		.pins = &j->state.pins,
		.net = &j->net,
		.paused = r->status.pause_left_ms || state_pause_left_ms(&j->state),
	};
	check_judge_all(&r->law, &r->plan, r->counts);
	r->exit = choose_exit(r);
}

/* A cmd_exit; a text tells what failed. */
static int check(struct job *j, bool has_dir, char text[CONFIG_ERR])
{
	struct cmd_check_report *r = j->report;
	int err = read_status(j, has_dir, text);

	if (err)
		return CMD_EXIT_FAILED;
	err = netwatch_dump_links(&j->net);
	if (err) {
		snprintf(text, CONFIG_ERR, "links: cannot read them: %s", strerror(-err));
		return CMD_EXIT_FAILED;
	}
	if (choose_policy(j, has_dir, text))
		return CMD_EXIT_USAGE;
	if (run_shots(j, text))
		return CMD_EXIT_FAILED;
	/* What was read may have left words behind. */
	*text = '\0';
	judge(j);
	err = check_system("", &j->policy, &j->net, take_finding, r);
	if (err)
		log_warning("check: the system's settings: %s", strerror(-err));
	if (j->cl->json)
		cmd_check_json(r);
	else
		cmd_check_print(r, j->cl->quiet);
	return r->exit;
}

int cmd_check(const struct cmdline *cl)
{
	struct job j = { .cl = cl, .rundir = RUNDIR_CLOSED };
	char text[CONFIG_ERR] = "";
	int err = rundir_open_read(&j.rundir, cl->run_dir, text);
	int status = CMD_EXIT_FAILED;

	j.report = calloc(1, sizeof(*j.report));
	if (!j.report) {
		log_error("%s", strerror(ENOMEM));
		goto out;
	}
	state_init(&j.state);
	if (err && err != -ENOENT) {
		log_error("%s", text);
		goto out;
	}
	*text = '\0';
	status = check(&j, !err, text);
	if (*text)
		log_error("check: %s", text);
out:
	if (j.report) {
		status_fini(&j.report->status);
		check_plan_fini(&j.report->plan);
		state_fini(&j.state);
	}
	free(j.report);
	if (j.has_policy)
		policy_fini(&j.policy);
	netstate_fini(&j.net);
	fwsock_close(&j.fs);
	rundir_close(&j.rundir);
	return status;
}
