#include "cmd_json.h"

#include <stdio.h>

#include <json-c/json.h>

#include "status.h"

#define JSON_VERSION 1

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

static json_object *links_json(const struct status *st)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < st->net.links_len; i++) {
		const struct status_link *l = &st->links[i];
		json_object *o = json_object_new_object();

		add_string(o, "name", l->link->name);
		add_string(o, "kind", l->link->kind);
		json_object_object_add(o, "index", json_object_new_int(l->link->index));
		add_string(o, "frames", link_cover_format(l->cover));
		json_object_object_add(o, "why", l->why ? json_object_new_string(l->why) : NULL);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *frames_json(const struct status *st)
{
	json_object *o = json_object_new_object();

	json_object_object_add(o, "egress", json_object_new_boolean(st->egress));
	json_object_object_add(o, "bridge", json_object_new_boolean(st->bridge));
	return o;
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

/* NULL where LAN clients are not redirected. */
static json_object *lan_json(const struct policy *p)
{
	json_object *o, *links, *redirects, *exempts;
	char text[POLICY_TEXT];

	if (!p->redirects_len)
		return NULL;
	o = json_object_new_object();
	links = json_object_new_array();
	redirects = json_object_new_array();
	exempts = json_object_new_array();
	for (size_t i = 0; i < p->lans_len; i++)
		json_object_array_add(links,
				      json_object_new_string(tunnel_format(&p->lans[i], text)));
	for (size_t i = 0; i < p->redirects_len; i++)
		json_object_array_add(redirects, json_object_new_string(
							 redirect_format(&p->redirects[i], text)));
	for (size_t i = 0; i < p->exempts_len; i++)
		json_object_array_add(exempts,
				      json_object_new_string(addr_format(&p->exempts[i], text)));
	for (size_t i = 0; i < p->exempt_macs_len; i++)
		json_object_array_add(exempts,
				      json_object_new_string(mac_format(p->exempt_macs[i], text)));
	json_object_object_add(o, "links", links);
	json_object_object_add(o, "redirect", redirects);
	json_object_object_add(o, "exempt", exempts);
	return o;
}

static json_object *policy_json(const struct status *st)
{
	const struct policy *p = &st->policy;
	json_object *o = json_object_new_object(), *ports = json_object_new_array();
	json_object *endpoints = json_object_new_array(), *kinds = json_object_new_array();
	json_object *insides = json_object_new_array();
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
	add_string(o, "frames", frames_format(p->frames));
	for (size_t i = 0; i < p->kinds_len; i++)
		json_object_array_add(kinds, json_object_new_string(p->kinds[i]));
	for (size_t i = 0; i < p->insides_len; i++)
		json_object_array_add(insides,
				      json_object_new_string(tunnel_format(&p->insides[i], text)));
	json_object_object_add(o, "endpoints", endpoints);
	json_object_object_add(o, "inside", insides);
	json_object_object_add(o, "lan", lan_json(p));
	json_object_object_add(o, "tunnel_kinds", kinds);
	return o;
}

static void add_number(json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_int64((int64_t)value));
}

static json_object *tried_json(const struct watch_status *w)
{
	json_object *list = json_object_new_array();
	char text[ADDR_TEXT];

	for (size_t i = 0; i < w->tried_len; i++) {
		json_object *o = json_object_new_object();

		add_string(o, "resolver", addr_format(&w->tried[i].addr, text));
		add_string(o, "link", w->tried[i].link);
		add_number(o, "ago_ms", w->now_ms - w->tried[i].at_ms);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *watcher_json(const struct watch_status *w)
{
	json_object *o = json_object_new_object(), *culprit = NULL;

	add_number(o, "pid", w->pid);
	json_object_object_add(o, "owner", json_object_new_boolean(w->owner));
	json_object_object_add(o, "held", json_object_new_boolean(w->held));
	json_object_object_add(o, "fighting", json_object_new_boolean(w->fighting));
	json_object_object_add(o, "stale", w->stale ? json_object_new_string(w->stale_text) : NULL);
	add_number(o, "age_ms", w->now_ms - w->started_ms);
	add_number(o, "looked", w->looked);
	add_number(o, "applied", w->applied);
	add_number(o, "undone", w->undone);
	add_number(o, "refused", w->refused);
	add_number(o, "lost", w->lost);
	add_number(o, "events", w->events);
	if (w->undone) {
		culprit = json_object_new_object();
		add_number(culprit, "pid", w->culprit_pid);
		add_string(culprit, "name", w->culprit_name);
		add_string(culprit, "what", w->culprit_what);
		add_number(culprit, "ago_ms", w->now_ms - w->culprit_ms);
	}
	json_object_object_add(o, "last_undone", culprit);
	json_object_object_add(o, "routes_tried", tried_json(w));
	return o;
}

static json_object *blocked_json(const struct status *st)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < st->blocked_len; i++) {
		const struct fwblocked *b = &st->blocked[i];
		json_object *o = json_object_new_object();

		add_string(o, "link", b->link);
		add_number(o, "port", b->port);
		add_number(o, "packets", b->packets);
		add_number(o, "bytes", b->bytes);
		json_object_array_add(list, o);
	}
	return list;
}

void cmd_json_status(const struct status *st)
{
	static const char *const owners[] = {
		[TABLE_OWNER_NONE] = "none",
		[TABLE_OWNER_SOCKET] = "socket",
		[TABLE_OWNER_ORPHAN] = "orphan",
	};
	json_object *root = json_object_new_object(), *counters = json_object_new_object();
	json_object *warnings = json_object_new_array();

	json_object_object_add(root, "version", json_object_new_int(JSON_VERSION));
	add_string(root, "state", guard_state_format(st->state));
	json_object_object_add(root, "guarded", json_object_new_boolean(status_is_guarded(st)));
	json_object_object_add(root, "policy",
			       st->state == GUARD_STATE_OFF ? NULL : policy_json(st));
	add_string(root, "owner", owners[st->owner]);
	json_object_object_add(root, "pause_left_ms",
			       json_object_new_int64((int64_t)st->pause_left_ms));
	json_object_object_add(root, "watcher", st->watched ? watcher_json(&st->watch) : NULL);
	json_object_object_add(root, "tunnels", tunnels_json(st));
	json_object_object_add(root, "resolvers", resolvers_json(st));
	json_object_object_add(root, "frames", frames_json(st));
	json_object_object_add(root, "links", links_json(st));
	for (size_t i = 0; i < st->counters_len; i++) {
		const struct status_counter *c = &st->counters[i];
		json_object *o = json_object_new_object();

		json_object_object_add(o, "packets", json_object_new_int64((int64_t)c->packets));
		json_object_object_add(o, "bytes", json_object_new_int64((int64_t)c->bytes));
		json_object_object_add(counters, c->name, o);
	}
	json_object_object_add(root, "counters", counters);
	json_object_object_add(root, "blocked", blocked_json(st));
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
