#include "cmd_json.h"

#include <stdio.h>

#include <json-c/json.h>

#include "status.h"

#define JSON_VERSION 1

/* --- one member of an object each --- */

/* null for NULL */
static void add_string(json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, value ? json_object_new_string(value) : NULL);
}

static void add_bool(json_object *to, const char *key, bool value)
{
	json_object_object_add(to, key, json_object_new_boolean(value));
}

static void add_number(json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_int64((int64_t)value));
}

static json_object *add_object(json_object *to, const char *key)
{
	json_object *o = json_object_new_object();

	json_object_object_add(to, key, o);
	return o;
}

static json_object *add_list(json_object *to, const char *key)
{
	json_object *list = json_object_new_array();

	json_object_object_add(to, key, list);
	return list;
}

/* --- one element of a list each --- */

static void append_string(json_object *list, const char *value)
{
	json_object_array_add(list, json_object_new_string(value));
}

static json_object *append_object(json_object *list)
{
	json_object *o = json_object_new_object();

	json_object_array_add(list, o);
	return o;
}

/* --- the parts of a status, in the order of printing --- */

static void append_links(json_object *list, const struct tunnel *links, size_t n)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < n; i++)
		append_string(list, tunnel_format(&links[i], text));
}

/* null where LAN clients are not redirected */
static void add_lan(json_object *to, const struct policy *p)
{
	char text[POLICY_TEXT];
	json_object *o, *list;

	if (!p->redirects_len) {
		add_string(to, "lan", NULL);
		return;
	}
	o = add_object(to, "lan");
	append_links(add_list(o, "links"), p->lans, p->lans_len);
	list = add_list(o, "redirect");
	for (size_t i = 0; i < p->redirects_len; i++)
		append_string(list, redirect_format(&p->redirects[i], text));
	list = add_list(o, "exempt");
	for (size_t i = 0; i < p->exempts_len; i++)
		append_string(list, addr_format(&p->exempts[i], text));
	for (size_t i = 0; i < p->exempt_macs_len; i++)
		append_string(list, mac_format(p->exempt_macs[i], text));
}

static void add_policy(json_object *to, const struct policy *p)
{
	json_object *o = add_object(to, "policy"), *list = add_list(o, "ports");
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->ports_len; i++)
		json_object_array_add(list, json_object_new_int(p->ports[i]));
	add_string(o, "mode", policy_mode_format(p->mode));
	add_string(o, "action", policy_action_format(p->action));
	add_string(o, "fragments", fragments_format(p->fragments));
	add_string(o, "frames", frames_format(p->frames));
	list = add_list(o, "endpoints");
	for (size_t i = 0; i < p->endpoints_len; i++)
		append_string(list, endpoint_format(&p->endpoints[i], text));
	append_links(add_list(o, "inside"), p->insides, p->insides_len);
	add_lan(o, p);
	list = add_list(o, "tunnel_kinds");
	for (size_t i = 0; i < p->kinds_len; i++)
		append_string(list, p->kinds[i]);
}

static void add_watcher(json_object *to, const struct watch_status *w)
{
	json_object *o = add_object(to, "watcher"), *part;
	char text[ADDR_TEXT];

	add_number(o, "pid", w->pid);
	add_bool(o, "owner", w->owner);
	add_bool(o, "held", w->held);
	add_bool(o, "fighting", w->fighting);
	add_string(o, "stale", w->stale ? w->stale_text : NULL);
	add_number(o, "age_ms", w->now_ms - w->started_ms);
	add_number(o, "looked", w->looked);
	add_number(o, "applied", w->applied);
	add_number(o, "undone", w->undone);
	add_number(o, "refused", w->refused);
	add_number(o, "lost", w->lost);
	add_number(o, "events", w->events);
	if (w->undone) {
		part = add_object(o, "last_undone");
		add_number(part, "pid", w->culprit_pid);
		add_string(part, "name", w->culprit_name);
		add_string(part, "what", w->culprit_what);
		add_number(part, "ago_ms", w->now_ms - w->culprit_ms);
	} else {
		add_string(o, "last_undone", NULL);
	}
	part = add_list(o, "routes_tried");
	for (size_t i = 0; i < w->tried_len; i++) {
		json_object *tried = append_object(part);

		add_string(tried, "resolver", addr_format(&w->tried[i].addr, text));
		add_string(tried, "link", w->tried[i].link);
		add_number(tried, "ago_ms", w->now_ms - w->tried[i].at_ms);
	}
}

static void add_tunnels(json_object *to, const struct status *st)
{
	json_object *list = add_list(to, "tunnels");
	char text[POLICY_TEXT];

	for (size_t i = 0; i < st->policy.tunnels_len; i++) {
		const struct tunnel *t = &st->policy.tunnels[i];
		json_object *o = append_object(list), *links;

		add_string(o, "name", tunnel_format(t, text));
		links = add_list(o, "links");
		for (size_t k = 0; k < st->net.links_len; k++) {
			const struct link *l = &st->net.links[k];
			json_object *link;

			if (!tunnel_covers(t, l->name))
				continue;
			link = append_object(links);
			add_string(link, "name", l->name);
			add_string(link, "kind", l->kind);
			add_bool(link, "up", l->up);
		}
	}
}

static void add_resolvers(json_object *to, const struct status *st)
{
	static const char *const paths[] = {
		[RESOLVER_PATH_STICKY] = "sticky",
		[RESOLVER_PATH_TUNNEL] = "tunnel",
		[RESOLVER_PATH_ANY] = "any",
		[RESOLVER_PATH_LINK] = "link",
	};
	json_object *list = add_list(to, "resolvers");
	char text[ADDR_TEXT];

	for (size_t i = 0; i < st->policy.resolvers_len; i++) {
		const struct status_resolver *r = &st->resolvers[i];
		json_object *o = append_object(list);

		add_string(o, "address", addr_format(&r->resolver.addr, text));
		if (r->resolver.port)
			add_number(o, "port", r->resolver.port);
		else
			add_string(o, "port", NULL);
		add_string(o, "path", paths[r->resolver.path]);
		add_string(o, "link", *r->resolver.link ? r->resolver.link : NULL);
		add_bool(o, "pinned", r->pinned);
		add_string(o, "route", *r->route ? r->route : NULL);
		add_bool(o, "through_tunnel", r->through_tunnel);
	}
}

static void add_links(json_object *to, const struct status *st)
{
	json_object *list = add_list(to, "links");

	for (size_t i = 0; i < st->net.links_len; i++) {
		const struct status_link *l = &st->links[i];
		json_object *o = append_object(list);

		add_string(o, "name", l->link->name);
		add_string(o, "kind", l->link->kind);
		add_number(o, "index", (uint64_t)l->link->index);
		add_string(o, "frames", link_cover_format(l->cover));
		add_string(o, "why", l->why);
	}
}

static void add_blocked(json_object *to, const struct status *st)
{
	json_object *list = add_list(to, "blocked");

	for (size_t i = 0; i < st->blocked_len; i++) {
		const struct fwblocked *b = &st->blocked[i];
		json_object *o = append_object(list);

		add_string(o, "link", b->link);
		add_number(o, "port", b->port);
		add_number(o, "packets", b->packets);
		add_number(o, "bytes", b->bytes);
	}
}

void cmd_json_status(const struct status *st)
{
	static const char *const owners[] = {
		[TABLE_OWNER_NONE] = "none",
		[TABLE_OWNER_SOCKET] = "socket",
		[TABLE_OWNER_ORPHAN] = "orphan",
	};
	json_object *root = json_object_new_object(), *part;

	add_number(root, "version", JSON_VERSION);
	add_string(root, "state", guard_state_format(st->state));
	add_bool(root, "guarded", status_is_guarded(st));
	if (st->state == GUARD_STATE_OFF)
		add_string(root, "policy", NULL);
	else
		add_policy(root, &st->policy);
	add_string(root, "owner", owners[st->owner]);
	add_number(root, "pause_left_ms", st->pause_left_ms);
	if (st->watched)
		add_watcher(root, &st->watch);
	else
		add_string(root, "watcher", NULL);
	add_tunnels(root, st);
	add_resolvers(root, st);
	part = add_object(root, "frames");
	add_bool(part, "egress", st->egress);
	add_bool(part, "bridge", st->bridge);
	add_links(root, st);
	part = add_object(root, "counters");
	for (size_t i = 0; i < st->counters_len; i++) {
		const struct status_counter *c = &st->counters[i];
		json_object *o = add_object(part, c->name);

		add_number(o, "packets", c->packets);
		add_number(o, "bytes", c->bytes);
	}
	add_blocked(root, st);
	part = add_list(root, "warnings");
	for (size_t i = 0; i < st->warnings_len; i++) {
		json_object *o = append_object(part);

		add_string(o, "code", warning_code_format(st->warnings[i].code));
		add_string(o, "text", st->warnings[i].text);
	}
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}
