/* up, down: what a VPN's hooks call */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "change.h"
#include "cmd.h"
#include "log.h"
#include "lookup.h"
#include "session.h"

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
	for (size_t i = 0; !err && i < cl->overrides_len; i++)
		if (!strcmp(cl->overrides[i].key, "endpoint"))
			err = config_set_option(p, "endpoint", cl->overrides[i].value, text);
	if (!err && p->hosts_len) {
		snprintf(text, CONFIG_ERR,
			 "--endpoint \"%s\": expected an address, \"up\" looks no name up",
			 p->hosts[0].name);
		err = -EINVAL;
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

/* What these options bring; its lists are the policy's. */
static int read_hook_options(const struct cmdline *cl, struct policy *p, struct up *ret_up)
{
	char text[CONFIG_ERR];
	int err = parse_hook_options(cl, p, text);

	if (err) {
		log_error("%s", text);
		return err;
	}
	*ret_up = (struct up){ .resolvers = p->resolvers,
			       .resolvers_len = p->resolvers_len,
			       .endpoints = p->endpoints,
			       .endpoints_len = p->endpoints_len };
	memcpy(ret_up->link, p->tunnels[0].name, IFNAMSIZ);
	return 0;
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
		return change_exit(err);
	}
	after->no_watch = cl->no_watch;
	err = lookup_endpoints(after);
	if (!err)
		err = lookup_complete(after, NULL, text);
	if (err)
		log_error("%s", text);
	return err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

/* Put, or take away, what `up` brings for this link. */
static int change_up(struct session *ss, const struct cmdline *cl, const struct up *brought,
		     bool up)
{
	struct state after;
	int err, status;

	state_init(&after);
	status = start_from(ss, cl, &after);
	if (status == CMD_EXIT_DONE && up) {
		err = state_put_up(&after, brought);
		if (err)
			log_error("up %s: %s", brought->link,
				  err == -E2BIG ? "expected at most 64 tunnels" : strerror(-err));
		status = err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
	} else if (status == CMD_EXIT_DONE && !state_remove_up(&after, brought->link)) {
		log_debug("down %s: no \"up\" brought it", brought->link);
	}
	if (status == CMD_EXIT_DONE)
		status = change_commit(ss, &after, false, "");
	state_fini(&after);
	return status;
}

static int run_hook(const struct cmdline *cl, bool up)
{
	struct policy given;
	struct up brought;
	struct session ss;
	int err, status;

	policy_init(&given);
	err = read_hook_options(cl, &given, &brought);
	status = err ? change_exit(err) : CMD_EXIT_FAILED;
	if (!err && !change_open(&ss, cl)) {
		/* A guard that was never raised has nothing to be taken away. */
		status = !up && !ss.guarded && !ss.recorded ? CMD_EXIT_DONE :
							      change_up(&ss, cl, &brought, up);
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
