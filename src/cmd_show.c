/* rules and status: what only looks */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "apply.h"
#include "cmd.h"
#include "fwsock.h"
#include "log.h"
#include "lookup.h"
#include "ruleset_print.h"
#include "status.h"

#define SHOWN_RESOLVERS 8 /* on one screen; --json has all */
#define JSON_VERSION	1

int cmd_rules(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct fwsock fs = { 0 };
	struct state s;
	struct plan plan;
	int err, status = CMD_EXIT_USAGE;

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

		err = plan_build(probe ? &fs : NULL, &s, &plan, text);
		if (err == -EPERM)
			err = plan_build(NULL, &s, &plan, text);
	}
	if (!err) {
		err = ruleset_print(&plan.rules, stdout);
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
	const char *name, *meaning;
} counter_meanings[] = {
	/* clang-format off */
	{ "S2", "stayed on the host" },
	{ "S3", "the VPN's carrier" },
	{ "S4", "through a tunnel" },
	{ "S5", "to an approved resolver" },
	{ "S6", "in a pause" },
	{ "S7", "blocked" },
	{ "S9", "blocked fragments" },
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
		struct policy one = { .tunnels_len = 1 };
		bool found = false;

		one.tunnels[0] = st->policy.tunnels[i];
		printf("tunnel    %-24s", tunnel_format(&one.tunnels[0], text));
		for (size_t k = 0; k < st->net.links_len; k++) {
			const struct link *l = &st->net.links[k];

			if (!policy_is_tunnel(&one, l->name))
				continue;
			printf("%s %s is %s", found ? "," : "", l->name, l->up ? "up" : "down");
			found = true;
		}
		puts(found ? "" : " not there");
	}
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
		printf("\nmode      %s, action %s, fragments %s\n", policy_mode_format(p->mode),
		       policy_action_format(p->action), fragments_format(p->fragments));
		print_tunnels(st);
		print_resolvers(st);
		for (size_t i = 0; i < p->endpoints_len; i++)
			printf("endpoint  %s\n", endpoint_format(&p->endpoints[i], text));
		for (size_t i = 0; i < st->counters_len; i++) {
			const struct status_counter *c = &st->counters[i];

			printf("%-9s %-24s %" PRIu64 " packets, %" PRIu64 " bytes\n", c->name,
			       counter_meaning(c->name), c->packets, c->bytes);
		}
	}
	for (size_t i = 0; i < st->warnings_len; i++)
		printf("warning   %s\n", st->warnings[i].text);
}

/* --- JSON, as leakguard(8) documents it --- */

static void add_string(json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, json_object_new_string(value));
}

static json_object *tunnels_json(const struct status *st)
{
	json_object *list = json_object_new_array();
	char text[POLICY_TEXT];

	for (size_t i = 0; i < st->policy.tunnels_len; i++) {
		struct policy one = { .tunnels_len = 1 };
		json_object *o = json_object_new_object(), *links = json_object_new_array();

		one.tunnels[0] = st->policy.tunnels[i];
		add_string(o, "name", tunnel_format(&one.tunnels[0], text));
		for (size_t k = 0; k < st->net.links_len; k++) {
			const struct link *l = &st->net.links[k];
			json_object *link;

			if (!policy_is_tunnel(&one, l->name))
				continue;
			link = json_object_new_object();
			add_string(link, "name", l->name);
			add_string(link, "kind", l->kind);
			json_object_object_add(link, "up", json_object_new_boolean(l->up));
			json_object_array_add(links, link);
		}
		json_object_object_add(o, "links", links);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *resolvers_json(const struct status *st)
{
	static const char *const paths[] = {
		[RESOLVER_PATH_STICKY] = "sticky",
		[RESOLVER_PATH_TUNNEL] = "tunnel",
		[RESOLVER_PATH_ANY] = "any",
		[RESOLVER_PATH_LINK] = "link",
	};
	json_object *list = json_object_new_array();
	char text[ADDR_TEXT];

	for (size_t i = 0; i < st->policy.resolvers_len; i++) {
		const struct status_resolver *r = &st->resolvers[i];
		json_object *o = json_object_new_object();

		add_string(o, "address", addr_format(&r->resolver.addr, text));
		json_object_object_add(o, "port",
				       r->resolver.port ? json_object_new_int(r->resolver.port) :
							  NULL);
		add_string(o, "path", paths[r->resolver.path]);
		json_object_object_add(o, "link",
				       *r->resolver.link ?
					       json_object_new_string(r->resolver.link) :
					       NULL);
		json_object_object_add(o, "pinned", json_object_new_boolean(r->pinned));
		json_object_object_add(o, "route",
				       *r->route ? json_object_new_string(r->route) : NULL);
		json_object_object_add(o, "through_tunnel",
				       json_object_new_boolean(r->through_tunnel));
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *policy_json(const struct status *st)
{
	const struct policy *p = &st->policy;
	json_object *o = json_object_new_object(), *ports = json_object_new_array();
	json_object *endpoints = json_object_new_array();
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->ports_len; i++)
		json_object_array_add(ports, json_object_new_int(p->ports[i]));
	for (size_t i = 0; i < p->endpoints_len; i++)
		json_object_array_add(endpoints, json_object_new_string(
							 endpoint_format(&p->endpoints[i], text)));
	json_object_object_add(o, "ports", ports);
	add_string(o, "mode", policy_mode_format(p->mode));
	add_string(o, "action", policy_action_format(p->action));
	add_string(o, "fragments", fragments_format(p->fragments));
	json_object_object_add(o, "endpoints", endpoints);
	return o;
}

static void print_status_json(const struct status *st)
{
	json_object *root = json_object_new_object(), *counters = json_object_new_object();
	json_object *warnings = json_object_new_array();

	json_object_object_add(root, "version", json_object_new_int(JSON_VERSION));
	add_string(root, "state", guard_state_format(st->state));
	json_object_object_add(root, "guarded",
			       json_object_new_boolean(st->state == GUARD_STATE_LOCKED ||
						       st->state == GUARD_STATE_GUARDED));
	json_object_object_add(root, "policy",
			       st->state == GUARD_STATE_OFF ? NULL : policy_json(st));
	json_object_object_add(root, "tunnels", tunnels_json(st));
	json_object_object_add(root, "resolvers", resolvers_json(st));
	for (size_t i = 0; i < st->counters_len; i++) {
		const struct status_counter *c = &st->counters[i];
		json_object *o = json_object_new_object();

		json_object_object_add(o, "packets", json_object_new_int64((int64_t)c->packets));
		json_object_object_add(o, "bytes", json_object_new_int64((int64_t)c->bytes));
		json_object_object_add(counters, c->name, o);
	}
	json_object_object_add(root, "counters", counters);
	for (size_t i = 0; i < st->warnings_len; i++) {
		json_object *o = json_object_new_object();

		add_string(o, "code", warning_code_format(st->warnings[i].code));
		add_string(o, "text", st->warnings[i].text);
		json_object_array_add(warnings, o);
	}
	json_object_object_add(root, "warnings", warnings);
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}

int cmd_status(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct rundir rundir = { .dir_fd = -1, .lock_fd = -1 };
	struct fwsock fs = { 0 };
	struct status st;
	int err = rundir_open_read(&rundir, cl->run_dir, text);
	const bool has_dir = !err;
	int status = CMD_EXIT_FAILED;

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
			print_status_json(&st);
		else
			print_status(&st);
		status = st.state == GUARD_STATE_LOCKED || st.state == GUARD_STATE_GUARDED ?
				 CMD_EXIT_DONE :
				 CMD_EXIT_NOT_GUARDED;
		status_fini(&st);
	}
	fwsock_close(&fs);
	rundir_close(&rundir);
	return status;
}
