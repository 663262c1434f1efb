/* enable, disable, reload: what changes the whole policy */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "cmd.h"
#include "log.h"
#include "lookup.h"
#include "session.h"

/* Take over what is tied to the host and not to the configuration: `up`s, pins, a pause. */
static int carry_over(struct state *after, const struct state *before)
{
	int err = 0;

	after->pause_until_ms = before->pause_until_ms;

	for (size_t i = 0; !err && i < before->ups_len; i++)
		err = state_put_up(after, &before->ups[i]);
	for (size_t i = 0; !err && i < before->pins.len; i++)
		err = state_add_pin(after, &before->pins.addrs[i]);
	return err;
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
		if (first && key)
			config_clear(&s->policy, key);
		err = config_set_option(&s->policy, overrides[i].key, overrides[i].value,
					reterr_text);
		if (err)
			return err;
		s->overrides[i] = overrides[i];
	}
	s->overrides_len = n;
	return policy_validate(&s->policy, reterr_text, CONFIG_ERR);
}

#ifdef WITHOUT_CHECK
#define TRY ""
#else
#define TRY "; 'leakguard check' tries it"
#endif

/* A new base policy on a host where `ss` is in force. */
static int change_policy(struct session *ss, struct state *after, bool dry_run, const char *more)
{
	char text[CONFIG_ERR] = "out of memory";
	int err = lookup_complete(after, &ss->before, text);

	if (!err)
		err = carry_over(after, &ss->before);
	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	return change_commit(ss, after, dry_run, more);
}

/* Whether an address of a name, which lookups[from] is the first of, stands before this one. */
static bool is_told(const struct state *s, size_t from, size_t at)
{
	for (size_t i = from; i < at; i++)
		if (!strcmp(s->lookups[i].host.name, s->lookups[at].host.name) &&
		    !addr_cmp(&s->lookups[i].addr, &s->lookups[at].addr))
			return true;
	return false;
}

/* A client that connects by name cannot ask for it any more. */
static void print_lookups(const struct state *s)
{
	char text[ADDR_TEXT];

	for (size_t i = 0; i < s->lookups_len; i++) {
		const char *name = s->lookups[i].host.name;
		size_t first = 0, shown = 0;

		while (strcmp(s->lookups[first].host.name, name))
			first++;
		if (first < i)
			continue;
		printf("%s is", name);
		for (size_t k = i; k < s->lookups_len; k++)
			if (!strcmp(s->lookups[k].host.name, name) && !is_told(s, i, k))
				printf("%s %s", shown++ ? "," : "",
				       addr_format(&s->lookups[k].addr, text));
		printf("; for a client that connects by name, in /etc/hosts: %s %s\n",
		       addr_format(&s->lookups[i].addr, text), name);
	}
}

int cmd_enable(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct cmdline found;
	struct session ss;
	struct state after;
	int err, status = cmd_find_tunnels(cl, &found);

	if (status != CMD_EXIT_DONE)
		return status;
	cl = &found;
	status = CMD_EXIT_FAILED;
	state_init(&after);
	after.no_watch = cl->no_watch;
	err = cmd_read_policy(&after, cl->config, cl->overrides, cl->overrides_len, text);
	if (err) {
		log_error("%s", text);
		status = change_exit(err);
	} else if (lookup_endpoints(&after)) { /* may take long: before the lock is taken */
		log_error("out of memory");
	} else if (!change_open(&ss, cl)) {
		status = change_policy(&ss, &after, cl->dry_run, cl->dry_run ? "" : TRY);
		if (status == CMD_EXIT_DONE)
			print_lookups(&after);
		session_close(&ss);
	}
	state_fini(&after);
	return status;
}

int cmd_disable(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct session ss;
	int err = session_open_unread(&ss, cl->run_dir, text);

	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	err = session_remove(&ss, text);
	if (err)
		log_error("%s", text);
	else
		puts("not guarded: the rules are gone, name traffic goes anywhere");
	session_close(&ss);
	return err ? CMD_EXIT_FAILED : CMD_EXIT_DONE;
}

static int reload_policy(struct session *ss, const struct cmdline *cl, struct state *after)
{
	const char *config = cl->config_given ? cl->config : ss->before.config;
	char text[CONFIG_ERR];
	int err;

	if (!ss->recorded) {
		log_error("reload: %s, expected 'leakguard enable' first",
			  ss->guarded ? "the run directory has no record of the policy" :
					"the guard is not up");
		return CMD_EXIT_FAILED;
	}
	after->no_watch = ss->before.no_watch;
	err = cmd_read_policy(after, config, ss->before.overrides, ss->before.overrides_len, text);
	if (err) {
		log_error("%s", text);
		return change_exit(err);
	}
	if (lookup_endpoints(after)) {
		log_error("out of memory");
		return CMD_EXIT_FAILED;
	}
	return change_policy(ss, after, false, "");
}

int cmd_reload(const struct cmdline *cl)
{
	struct session ss;
	struct state after;
	int status;

	if (change_open(&ss, cl))
		return CMD_EXIT_FAILED;
	state_init(&after);
	status = reload_policy(&ss, cl, &after);
	state_fini(&after);
	session_close(&ss);
	return status;
}
