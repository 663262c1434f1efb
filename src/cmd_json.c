#include "cmd_json.h"

#include <stdio.h>

#include <json-c/json.h>

#include "json_add.h"
#include "status.h"

#define JSON_VERSION 1

/* Its parts, in the order of printing. */

static void append_links(json_object *list, const struct tunnel *links, size_t n)
{
	char text[POLICY_TEXT];

	for (size_t i = 0; i < n; i++)
		json_append_string(list, tunnel_format(&links[i], text));
}

/* null where LAN clients are not redirected */
static void add_lan(json_object *to, const struct policy *p)
{
	char text[POLICY_TEXT];
	json_object *o, *list;

	if (!p->redirects_len) {
		json_add_string(to, "lan", NULL);
		return;
	}
	o = json_add_object(to, "lan");
	append_links(json_add_list(o, "links"), p->lans, p->lans_len);
	list = json_add_list(o, "redirect");
	for (size_t i = 0; i < p->redirects_len; i++)
		json_append_string(list, redirect_format(&p->redirects[i], text));
	list = json_add_list(o, "exempt");
	for (size_t i = 0; i < p->exempts_len; i++)
		json_append_string(list, addr_format(&p->exempts[i], text));
	for (size_t i = 0; i < p->exempt_macs_len; i++)
		json_append_string(list, mac_format(p->exempt_macs[i], text));
}

static void add_policy(json_object *to, const struct policy *p)
{
	json_object *o = json_add_object(to, "policy"), *list = json_add_list(o, "ports");
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->ports_len; i++)
		json_append_number(list, p->ports[i]);
	json_add_string(o, "mode", policy_mode_format(p->mode));
	json_add_string(o, "action", policy_action_format(p->action));
	json_add_string(o, "fragments", fragments_format(p->fragments));
	json_add_string(o, "frames", frames_format(p->frames));
	list = json_add_list(o, "endpoints");
	for (size_t i = 0; i < p->endpoints_len; i++)
		json_append_string(list, endpoint_format(&p->endpoints[i], text));
	append_links(json_add_list(o, "inside"), p->insides, p->insides_len);
	add_lan(o, p);
	list = json_add_list(o, "tunnel_kinds");
	for (size_t i = 0; i < p->kinds_len; i++)
		json_append_string(list, p->kinds[i]);
}

static void add_watcher(json_object *to, const struct watch_status *w)
{
	json_object *o = json_add_object(to, "watcher"), *part;
	char text[ADDR_TEXT];

	json_add_number(o, "pid", w->pid);
	json_add_bool(o, "owner", w->owner);
	json_add_bool(o, "held", w->held);
	json_add_bool(o, "fighting", w->fighting);
	json_add_string(o, "stale", w->stale ? w->stale_text : NULL);
	json_add_number(o, "age_ms", w->now_ms - w->started_ms);
	json_add_number(o, "looked", w->looked);
	json_add_number(o, "applied", w->applied);
	json_add_number(o, "undone", w->undone);
	json_add_number(o, "refused", w->refused);
	json_add_number(o, "lost", w->lost);
	json_add_number(o, "events", w->events);
	if (w->undone) {
		part = json_add_object(o, "last_undone");
		json_add_number(part, "pid", w->culprit_pid);
		json_add_string(part, "name", w->culprit_name);
		json_add_string(part, "what", w->culprit_what);
		json_add_number(part, "ago_ms", w->now_ms - w->culprit_ms);
	} else {
		json_add_string(o, "last_undone", NULL);
	}
	part = json_add_list(o, "routes_tried");
	for (size_t i = 0; i < w->tried_len; i++) {
		json_object *tried = json_append_object(part);

		json_add_string(tried, "resolver", addr_format(&w->tried[i].addr, text));
		json_add_string(tried, "link", w->tried[i].link);
		json_add_number(tried, "ago_ms", w->now_ms - w->tried[i].at_ms);
	}
}

static void add_tunnels(json_object *to, const struct status *st)
{
	json_object *list = json_add_list(to, "tunnels");
	char text[POLICY_TEXT];

	for (size_t i = 0; i < st->policy.tunnels_len; i++) {
		const struct tunnel *t = &st->policy.tunnels[i];
		json_object *o = json_append_object(list), *links;

		json_add_string(o, "name", tunnel_format(t, text));
		links = json_add_list(o, "links");
		for (size_t k = 0; k < st->net.links_len; k++) {
			const struct link *l = &st->net.links[k];
			json_object *link;

			if (!tunnel_covers(t, l->name))
				continue;
			link = json_append_object(links);
			json_add_string(link, "name", l->name);
			json_add_string(link, "kind", l->kind);
			json_add_bool(link, "up", l->up);
		}
	}
}

static void add_resolvers(json_object *to, const struct status *st)
{
	static const char paths[][8] = {
		[RESOLVER_PATH_STICKY] = "sticky",
		[RESOLVER_PATH_TUNNEL] = "tunnel",
		[RESOLVER_PATH_ANY] = "any",
		[RESOLVER_PATH_LINK] = "link",
	};
	json_object *list = json_add_list(to, "resolvers");
	char text[ADDR_TEXT];

	for (size_t i = 0; i < st->policy.resolvers_len; i++) {
		const struct status_resolver *r = &st->resolvers[i];
		json_object *o = json_append_object(list);

		json_add_string(o, "address", addr_format(&r->resolver.addr, text));
		json_add_known(o, "port", r->resolver.port, r->resolver.port);
		json_add_string(o, "path", paths[r->resolver.path]);
		json_add_string(o, "link", *r->resolver.link ? r->resolver.link : NULL);
		json_add_bool(o, "pinned", r->pinned);
		json_add_string(o, "route", *r->route ? r->route : NULL);
		json_add_bool(o, "through_tunnel", r->through_tunnel);
	}
}

static void add_links(json_object *to, const struct status *st)
{
	json_object *list = json_add_list(to, "links");

	for (size_t i = 0; i < st->net.links_len; i++) {
		const struct status_link *l = &st->links[i];
		json_object *o = json_append_object(list);

		json_add_string(o, "name", l->link->name);
		json_add_string(o, "kind", l->link->kind);
		json_add_number(o, "index", (uint64_t)l->link->index);
		json_add_string(o, "frames", link_cover_format(l->cover));
		json_add_string(o, "why", l->why);
	}
}

static void add_blocked(json_object *to, const struct status *st)
{
	json_object *list = json_add_list(to, "blocked");

	for (size_t i = 0; i < st->blocked_len; i++) {
		const struct fwblocked *b = &st->blocked[i];
		json_object *o = json_append_object(list);

		json_add_string(o, "link", b->link);
		json_add_number(o, "port", b->port);
		json_add_number(o, "packets", b->packets);
		json_add_number(o, "bytes", b->bytes);
	}
}

void cmd_json_status(const struct status *st)
{
	static const char owners[][8] = {
		[TABLE_OWNER_NONE] = "none",
		[TABLE_OWNER_SOCKET] = "socket",
		[TABLE_OWNER_ORPHAN] = "orphan",
	};
	json_object *root = json_object_new_object(), *part;

	json_add_number(root, "version", JSON_VERSION);
	json_add_string(root, "state", guard_state_format(st->state));
	json_add_bool(root, "guarded", status_is_guarded(st));
	if (st->state == GUARD_STATE_OFF)
		json_add_string(root, "policy", NULL);
	else
		add_policy(root, &st->policy);
	json_add_string(root, "owner", owners[st->owner]);
	json_add_number(root, "pause_left_ms", st->pause_left_ms);
	if (st->watched)
		add_watcher(root, &st->watch);
	else
		json_add_string(root, "watcher", NULL);
	add_tunnels(root, st);
	add_resolvers(root, st);
	part = json_add_object(root, "frames");
	json_add_bool(part, "egress", st->egress);
	json_add_bool(part, "bridge", st->bridge);
	add_links(root, st);
	part = json_add_object(root, "counters");
	for (size_t i = 0; i < st->counters_len; i++) {
		const struct status_counter *c = &st->counters[i];
		json_object *o = json_add_object(part, c->name);

		json_add_number(o, "packets", c->packets);
		json_add_number(o, "bytes", c->bytes);
	}
	add_blocked(root, st);
	part = json_add_list(root, "warnings");
	for (size_t i = 0; i < st->warnings_len; i++) {
		json_object *o = json_append_object(part);

		json_add_string(o, "code", warning_code_format(st->warnings[i].code));
		json_add_string(o, "text", st->warnings[i].text);
	}
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}
