/* enable, disable, up, down, reload: what changes the rules */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "apply.h"
#include "cmd.h"
#include "fwsock.h"
#include "log.h"
#include "lookup.h"
#include "session.h"

static int open_or_say(struct session *ss, const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	int err = session_open(ss, cl->run_dir, text);

	if (err)
		log_error("%s", text);
	return err;
}

static void print_summary(const struct plan *plan, bool dry_run)
{
	const struct policy *p = &plan->policy;
	char text[POLICY_TEXT];
	bool present = false;

	for (size_t i = 0; i < plan->net.links_len; i++)
		present |= plan->net.links[i].up && policy_is_tunnel(p, plan->net.links[i].name);
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
	putchar('\n');
}

/* The state that shall be in force -> kernel and run directory. */
static int make_it_so(struct session *ss, struct state *after, bool dry_run)
{
	char text[CONFIG_ERR];
	struct plan plan;
	int err = plan_build(&ss->fs, after, &plan, text);

	if (err) {
		log_error("%s", text);
		return err == -EINVAL ? CMD_EXIT_USAGE : CMD_EXIT_FAILED;
	}
	err = dry_run ? apply_dry_run(&ss->fs, &plan, text) :
			session_commit(ss, &plan, after, text);
	if (err < 0)
		log_error("%s", text);
	else if (err)
		log_warning("%s", text);
	if (err >= 0)
		print_summary(&plan, dry_run);
	plan_fini(&plan);
	return err < 0 ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

/* Take over what is tied to the host and not to the configuration: `up`s and pins. */
static int carry_over(struct state *after, const struct state *before)
{
	int err = 0;

	for (size_t i = 0; !err && i < before->ups_len; i++)
		err = state_put_up(after, before->ups[i].link, before->ups[i].resolvers,
				   before->ups[i].resolvers_len);
	for (size_t i = 0; !err && i < before->pins.len; i++)
		err = state_add_pin(after, &before->pins.addrs[i]);
	return err;
}

/* Errors of reading a configuration are the user's, but for those of the machine. */
static int exit_of(int err)
{
	return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EIO ? CMD_EXIT_FAILED :
										   CMD_EXIT_USAGE;
}

int cmd_read_policy(struct state *s, const char *config, const struct override *overrides, size_t n,
		    char reterr_text[CONFIG_ERR])
{
	const bool may_be_absent = !strcmp(config, CMD_CONFIG_DEFAULT);
	char *path = realpath(config, NULL);
	int err;

	if (strlen(path ? path : config) >= sizeof(s->config)) {
		free(path);
		snprintf(reterr_text, CONFIG_ERR, "%.200s: expected a path of at most %zu bytes",
			 config, sizeof(s->config) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(s->config, path ? path : config);
	free(path);
	/* The run directory keeps it in a line of its own, which these would end. */
	if (strpbrk(s->config, "\n\r;#") ||
	    (*s->config && s->config[strlen(s->config) - 1] == ' ')) {
		snprintf(reterr_text, CONFIG_ERR,
			 "-c: expected a path without \";\", \"#\", a newline or a blank at its end");
		return -EINVAL;
	}

	err = config_read_file(config, &s->policy, reterr_text);
	if (err && !(err == -ENOENT && may_be_absent))
		return err;

	for (size_t i = 0; i < n; i++) {
		const struct config_key *key = config_key_find(overrides[i].key);
		bool first = true;

		for (size_t k = 0; k < i; k++)
			first &= strcmp(overrides[k].key, overrides[i].key) != 0;
		if (first && key && key->clear)
			key->clear(&s->policy);
		err = config_set_option(&s->policy, overrides[i].key, overrides[i].value,
					reterr_text);
		if (err)
			return err;
		s->overrides[i] = overrides[i];
	}
	s->overrides_len = n;
	return policy_validate(&s->policy, reterr_text, CONFIG_ERR);
}

/* A new base policy on a host where `ss` is in force. */
static int change_policy(struct session *ss, struct state *after, bool dry_run)
{
	char text[CONFIG_ERR] = "out of memory";
	int err = lookup_complete(after, &ss->before, text);

	if (!err)
		err = carry_over(after, &ss->before);
	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	return make_it_so(ss, after, dry_run);
}

int cmd_enable(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct session ss;
	struct state after;
	int err, status = CMD_EXIT_FAILED;

	state_init(&after);
	err = cmd_read_policy(&after, cl->config, cl->overrides, cl->overrides_len, text);
	if (err) {
		log_error("%s", text);
		status = exit_of(err);
	} else if (lookup_endpoints(&after)) { /* may take long: before the lock is taken */
		log_error("out of memory");
	} else if (!open_or_say(&ss, cl)) {
		status = change_policy(&ss, &after, cl->dry_run);
		session_close(&ss);
	}
	state_fini(&after);
	return status;
}

int cmd_disable(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct rundir rundir;
	struct fwsock fs = { 0 };
	int err = rundir_open(&rundir, cl->run_dir, text);

	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	err = fwsock_open(&fs);
	if (err)
		snprintf(text, CONFIG_ERR, "nf_tables: cannot open a netlink socket: %s",
			 strerror(-err));
	/* Rules first: a record without rules is only stale, rules without a record would be stuck. */
	if (!err)
		err = apply_remove(&fs, text);
	if (!err)
		err = state_remove(&rundir, text);
	if (err)
		log_error("%s", text);
	else
		puts("not guarded: the rules are gone, name traffic goes anywhere");
	fwsock_close(&fs);
	rundir_close(&rundir);
	return err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

/* Take " via IF", which nobody typed, out of the quoted value. */
static void quote_as_given(char text[CONFIG_ERR], const char *given)
{
	char *end = strstr(text, given), *quote = end ? strchr(end, '"') : NULL;

	if (quote && *given)
		memmove(end + strlen(given), quote, strlen(quote) + 1);
}

/*
 * The options of up and down, by the key table's parsers.  What `up` brings is
 * tied to its tunnel, as if "via IF" stood behind each resolver; with that a
 * link-local address needs no zone.
 */
static int parse_hook_options(const struct cmdline *cl, struct policy *p, char text[CONFIG_ERR])
{
	char value[STATE_VALUE + IFNAMSIZ + 8];
	int err = 0;

	for (size_t i = 0; !err && i < cl->overrides_len; i++)
		if (!strcmp(cl->overrides[i].key, "tunnel"))
			err = config_set_option(p, "tunnel", cl->overrides[i].value, text);
	if (err)
		return err;
	if (p->tunnels_len != 1 || p->tunnels[0].prefix) {
		snprintf(text, CONFIG_ERR, "%s: expected one --tunnel with the name of one link",
			 cl->command->name);
		return -EINVAL;
	}
	for (size_t i = 0; !err && i < cl->overrides_len; i++) {
		const char *given = cl->overrides[i].value;

		if (strcmp(cl->overrides[i].key, "resolver"))
			continue;
		snprintf(value, sizeof(value), "%s via %s", given, p->tunnels[0].name);
		err = config_set_option(p, "resolver", strchr(given, ' ') ? given : value, text);
		if (err)
			quote_as_given(text, given);
		if (!err &&
		    memcmp(p->resolvers[p->resolvers_len - 1].link, p->tunnels[0].name, IFNAMSIZ)) {
			snprintf(text, CONFIG_ERR,
				 "--resolver \"%s\": expected no path but the tunnel's, what \"up\" brings is tied to it",
				 given);
			err = -EINVAL;
		}
	}
	return err;
}

static int read_hook_options(const struct cmdline *cl, struct policy *p, char link[IFNAMSIZ])
{
	char text[CONFIG_ERR];
	int err = parse_hook_options(cl, p, text);

	if (err)
		log_error("%s", text);
	else
		memcpy(link, p->tunnels[0].name, IFNAMSIZ);
	return err;
}

/* What is in force now, to be changed; with the guard off, what the configuration says. */
static int start_from(struct session *ss, const struct cmdline *cl, struct state *after)
{
	char text[CONFIG_ERR] = "out of memory";
	int err;

	if (ss->guarded && !ss->recorded) {
		log_error("%s/state: missing while the guard is up, expected 'leakguard enable' to say anew what it shall allow",
			  cl->run_dir);
		return CMD_EXIT_FAILED;
	}
	if (ss->recorded) {
		/* The record itself changes hands. */
		*after = ss->before;
		state_init(&ss->before);
		return CMD_EXIT_DONE;
	}
	err = cmd_read_policy(after, cl->config, NULL, 0, text);
	if (err) {
		log_error("%s", text);
		return exit_of(err);
	}
	err = lookup_endpoints(after);
	if (!err)
		err = lookup_complete(after, NULL, text);
	if (err)
		log_error("%s", text);
	return err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

/* Put, or take away, what `up` brings for this link. */
static int change_up(struct session *ss, const struct cmdline *cl, const struct policy *given,
		     const char *link, bool up)
{
	struct state after;
	int err, status;

	state_init(&after);
	status = start_from(ss, cl, &after);
	if (status == CMD_EXIT_DONE && up) {
		err = state_put_up(&after, link, given->resolvers, given->resolvers_len);
		if (err)
			log_error("up %s: %s", link,
				  err == -E2BIG ? "expected at most 64 tunnels" : strerror(-err));
		status = err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
	} else if (status == CMD_EXIT_DONE && !state_remove_up(&after, link)) {
		log_debug("down %s: no \"up\" brought it", link);
	}
	if (status == CMD_EXIT_DONE)
		status = make_it_so(ss, &after, false);
	state_fini(&after);
	return status;
}

static int run_hook(const struct cmdline *cl, bool up)
{
	char link[IFNAMSIZ];
	struct policy given;
	struct session ss;
	int err, status;

	policy_init(&given);
	err = read_hook_options(cl, &given, link);
	status = err ? exit_of(err) : CMD_EXIT_FAILED;
	if (!err && !open_or_say(&ss, cl)) {
		/* A guard that was never raised has nothing to be taken away. */
		status = !up && !ss.guarded && !ss.recorded ? CMD_EXIT_DONE :
							      change_up(&ss, cl, &given, link, up);
		session_close(&ss);
	}
	policy_fini(&given);
	return status;
}

int cmd_up(const struct cmdline *cl)
{
	return run_hook(cl, true);
}

int cmd_down(const struct cmdline *cl)
{
	return run_hook(cl, false);
}

static int reload_policy(struct session *ss, const struct cmdline *cl, struct state *after)
{
	const char *config =
		strcmp(cl->config, CMD_CONFIG_DEFAULT) ? cl->config : ss->before.config;
	char text[CONFIG_ERR];
	int err;

	if (!ss->recorded) {
		log_error("reload: %s, expected 'leakguard enable' first",
			  ss->guarded ? "the run directory has no record of the policy" :
					"the guard is not up");
		return CMD_EXIT_FAILED;
	}
	err = cmd_read_policy(after, config, ss->before.overrides, ss->before.overrides_len, text);
	if (err) {
		log_error("%s", text);
		return exit_of(err);
	}
	if (lookup_endpoints(after)) {
		log_error("out of memory");
		return CMD_EXIT_FAILED;
	}
	return change_policy(ss, after, false);
}

int cmd_reload(const struct cmdline *cl)
{
	struct session ss;
	struct state after;
	int status;

	if (open_or_say(&ss, cl))
		return CMD_EXIT_FAILED;
	state_init(&after);
	status = reload_policy(&ss, cl, &after);
	state_fini(&after);
	session_close(&ss);
	return status;
}
