/* rules and status: what only looks */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "apply.h"
#include "cmd.h"
#include "cmd_json.h"
#include "cmd_prometheus.h"
#include "fwsock.h"
#include "log.h"
#include "lookup.h"
#include "ruleset_print.h"
#include "status.h"

#define SHOWN_RESOLVERS 8 /* on one screen; --json has all */
#define SHOWN_LINKS	24

int cmd_rules(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct fwsock fs = { 0 };
	struct cmdline found;
	struct state s;
	struct plan plan;
	int err, status = cmd_find_tunnels(cl, &found);

	if (status != CMD_EXIT_DONE)
		return status;
	cl = &found;
	status = CMD_EXIT_USAGE;
	state_init(&s);
	err = cmd_read_policy(&s, cl->config, cl->overrides, cl->overrides_len, text);
	if (!err) {
		status = CMD_EXIT_FAILED;
		err = lookup_endpoints(&s);
		if (!err)
			err = lookup_complete(&s, NULL, text);
	}
	if (!err) {
		/* Root can ask the kernel what it has; anybody else gets what a current kernel has. */
		const bool probe = !fwsock_open(&fs);

		err = plan_build(probe ? &fs : NULL, &s, (struct parts){ 0 }, &plan, text);
		if (err == -EPERM)
			err = plan_build(NULL, &s, (struct parts){ 0 }, &plan, text);
	}
	if (!err) {
		for (enum family f = 0; !err && f < FAMILIES; f++)
			err = ruleset_print(&plan.rules[f], stdout);
		plan_fini(&plan);
		snprintf(text, sizeof(text), "stdout: write error");
	}
	if (err)
		log_error("%s", text);
	fwsock_close(&fs);
	state_fini(&s);
	return err ? status : CMD_EXIT_DONE;
}

/* What each counter counts, in the order of the promises (ruleset.h). */
static const struct {
	char name[4], meaning[24];
} counter_meanings[] = {
	/* clang-format off */
	{ "S2", "stayed on the host" },
	{ "S3", "the VPN's carrier" },
	{ "S4", "through a tunnel" },
	{ "S5", "to an approved resolver" },
	{ "S6", "in a pause" },
	{ "S7", "blocked" },
	{ "S9", "blocked fragments" },
	{ "S11", "blocked as frames" },
	/* clang-format on */
};

static const char *counter_meaning(const char *name)
{
	for (size_t i = 0; i < sizeof(counter_meanings) / sizeof(counter_meanings[0]); i++)
		if (!strcmp(counter_meanings[i].name, name))
			return counter_meanings[i].meaning;
	return "";
}

static void print_tunnels(const struct status *st)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < st->policy.tunnels_len; i++) {
		const struct tunnel *t = &st->policy.tunnels[i];
		bool found = false;

		printf("tunnel    %-24s", tunnel_format(t, text));
		for (size_t k = 0; k < st->net.links_len; k++) {
			const struct link *l = &st->net.links[k];

			if (!tunnel_covers(t, l->name))
				continue;
			printf("%s %s is %s", found ? "," : "", l->name, l->up ? "up" : "down");
			found = true;
		}
		puts(found ? "" : " not there");
	}
}

static void print_links(const struct status *st)
{
	static const char *const words[] = {
		[LINK_COVER_COVERED] = "frames covered",
		[LINK_COVER_LOOPBACK] = "loopback",
		[LINK_COVER_TUNNEL] = "tunnel",
		[LINK_COVER_INSIDE] = "inside",
		[LINK_COVER_CARRIER] = "carries a tunnel, frames not covered",
		[LINK_COVER_NONE] = "frames not covered: ",
	};
	char name[IFNAMSIZ];
	size_t shown = 0;

	for (size_t i = 0; i < st->net.links_len; i++) {
		const struct status_link *l = &st->links[i];

		/* With very many links only those that are open. */
		if (st->net.links_len > SHOWN_LINKS && l->cover == LINK_COVER_COVERED)
			continue;
		if (shown++ < SHOWN_LINKS)
			printf("link      %-24s %s%s\n",
			       text_quotable(l->link->name, name, sizeof(name)), words[l->cover],
			       l->why ?: "");
	}
	if (shown > SHOWN_LINKS || shown < st->net.links_len)
		printf("link      and %zu more\n",
		       st->net.links_len - (shown < SHOWN_LINKS ? shown : SHOWN_LINKS));
}

static void print_resolvers(const struct status *st)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < st->policy.resolvers_len && i < SHOWN_RESOLVERS; i++) {
		const struct status_resolver *r = &st->resolvers[i];

		printf("resolver  %-24s", resolver_format(&r->resolver, text));
		if (*r->route)
			printf(" routed through %s%s", r->route,
			       r->through_tunnel ? ", a tunnel" : "");
		else
			fputs(" no route", stdout);
		puts(r->pinned ? "; pinned to tunnels" : "");
	}
	if (st->policy.resolvers_len > SHOWN_RESOLVERS)
		printf("resolver  and %zu more\n", st->policy.resolvers_len - SHOWN_RESOLVERS);
}

static void print_watcher(const struct status *st)
{
	static const char *const owners[] = {
		[TABLE_OWNER_NONE] = "others may change the rules",
		[TABLE_OWNER_SOCKET] = "nobody else may change the rules",
		[TABLE_OWNER_ORPHAN] = "others may change the rules until a watcher adopts them",
	};
	const struct watch_status *w = &st->watch;

	if (!st->watched) {
		printf("watcher   none; %s\n", owners[st->owner]);
		return;
	}
	printf("watcher   process %u%s; %s\n", w->pid, w->held ? ", started again if it dies" : "",
	       owners[st->owner]);
	printf("          looked %" PRIu64 " times, changed %" PRIu64 ", undid %" PRIu64
	       " by others, lost events %" PRIu64 " times\n",
	       w->looked, w->applied, w->undone, w->lost);
	if (w->undone)
		printf("          last undone: %s, by %s (process %u), %" PRIu64 " s ago\n",
		       w->culprit_what, *w->culprit_name ? w->culprit_name : "somebody",
		       w->culprit_pid, (w->now_ms - w->culprit_ms) / 1000);
}

static void print_redirects(const struct policy *p)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->redirects_len; i++) {
		printf("redirect  %-24s LAN clients of", redirect_format(&p->redirects[i], text));
		for (size_t k = 0; k < p->lans_len; k++)
			printf("%s %s", k ? "," : "", tunnel_format(&p->lans[k], text));
		if (p->exempts_len + p->exempt_macs_len)
			printf(", but %zu", p->exempts_len + p->exempt_macs_len);
		putchar('\n');
	}
}

static void print_blocked(const struct status *st)
{
	char link[IFNAMSIZ];

	for (size_t i = 0; i < st->blocked_len; i++) {
		const struct fwblocked *b = &st->blocked[i];

		printf("blocked   %-15s port %-5u %" PRIu64 " packets, %" PRIu64 " bytes\n",
		       text_quotable(b->link, link, sizeof(link)), b->port, b->packets, b->bytes);
	}
}

static void print_status(const struct status *st)
{
	const struct policy *p = &st->policy;
	char text[POLICY_TEXT];

	printf("state     %s\n", guard_state_format(st->state));
	if (st->state == GUARD_STATE_OFF) {
		puts("          no rules: name traffic goes anywhere");
	} else {
		fputs("ports    ", stdout);
		for (size_t i = 0; i < p->ports_len; i++)
			printf(" %u", p->ports[i]);
		printf("\nmode      %s, action %s, fragments %s, frames %s\n",
		       policy_mode_format(p->mode), policy_action_format(p->action),
		       fragments_format(p->fragments), frames_format(p->frames));
		for (size_t i = 0; i < p->kinds_len; i++)
			printf("%s%s%s", i ? "," : "kinds     ", p->kinds[i],
			       i + 1 == p->kinds_len ? "\n" : "");
		print_watcher(st);
		print_tunnels(st);
		print_links(st);
		print_resolvers(st);
		for (size_t i = 0; i < p->endpoints_len; i++)
			printf("endpoint  %s\n", endpoint_format(&p->endpoints[i], text));
		print_redirects(p);
		for (size_t i = 0; i < st->counters_len; i++) {
			const struct status_counter *c = &st->counters[i];

			printf("%-9s %-24s %" PRIu64 " packets, %" PRIu64 " bytes\n", c->name,
			       counter_meaning(c->name), c->packets, c->bytes);
		}
		print_blocked(st);
	}
	for (size_t i = 0; i < st->warnings_len; i++)
		printf("warning   %s\n", st->warnings[i].text);
}

int cmd_status(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct rundir rundir = { .dir_fd = -1, .lock_fd = -1 };
	struct fwsock fs = { 0 };
	struct status st;
	int status = CMD_EXIT_FAILED, err;
	bool has_dir;

	if (cl->json && cl->prometheus) {
		log_error("status: --json and --prometheus, expected one of them");
		return CMD_EXIT_USAGE;
	}
	err = rundir_open_read(&rundir, cl->run_dir, text);
	has_dir = !err;
	if (err && err != -ENOENT) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	err = fwsock_open(&fs);
	if (err)
		snprintf(text, sizeof(text), "nf_tables: cannot open a netlink socket: %s",
			 strerror(-err));
	if (!err)
		err = status_read(&fs, has_dir ? &rundir : NULL, &st, text);
	if (err) {
		log_error("%s", text);
	} else {
		if (cl->json)
			cmd_json_status(&st);
		else if (cl->prometheus)
			cmd_prometheus_status(&st);
		else
			print_status(&st);
		status = status_is_guarded(&st) ? CMD_EXIT_DONE : CMD_EXIT_NOT_GUARDED;
		status_fini(&st);
	}
	fwsock_close(&fs);
	rundir_close(&rundir);
	return status;
}
