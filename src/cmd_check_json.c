/* check's report as JSON */
#include "cmd_check.h"

#ifndef WITHOUT_JSON
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#define JSON_VERSION 1

static void add_string(json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, value ? json_object_new_string(value) : NULL);
}

static void add_number(json_object *to, const char *key, size_t value)
{
	json_object_object_add(to, key, json_object_new_int64((int64_t)value));
}

static void add_bool(json_object *to, const char *key, bool value)
{
	json_object_object_add(to, key, json_object_new_boolean(value));
}

/* Bytes that are none of a name's, and none of JSON's, are '?'. */
static json_object *name_json(const char *name)
{
	char buf[IFNAMSIZ];

	text_quotable(name, buf, sizeof(buf));
	for (char *at = buf; *at; at++)
		if ((unsigned char)*at > 126)
			*at = '?';
	return json_object_new_string(buf);
}

static json_object *left_json(const struct cmd_check_report *r, const struct check_shot *s)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < s->left_len; i++) {
		const struct link *link = netstate_link(r->law.net, s->left[i]);

		json_object_array_add(list, link ? name_json(link->name) : NULL);
	}
	return list;
}

static json_object *shot_json(const struct cmd_check_report *r, const struct check_shot *s)
{
	json_object *o = json_object_new_object();

	add_number(o, "port", s->port);
	add_number(o, "source_port", s->sport);
	add_string(o, "label", s->label);
	json_object_object_add(o, "left_by", left_json(r, s));
	add_string(o, "error", s->err ? strerror(-s->err) : NULL);
	return o;
}

static json_object *row_json(const struct cmd_check_report *r, const struct check_shot *s)
{
	const struct check_finding f = check_judge(&r->law, &r->plan, s);
	const struct check_target *t = &r->plan.targets[s->target];
	json_object *o = shot_json(r, s);
	char text[ADDR_TEXT], number[8];

	json_object_object_add(o, "link",
			       s->link < 0 ? NULL : name_json(r->plan.links[s->link].name));
	add_string(o, "way", check_way_format(s->way));
	add_string(o, "protocol", proto_format(s->proto));
	add_number(o, "family", t->addr.family == AF_INET ? 4 : 6);
	add_string(o, "address", addr_format(&t->addr, text));
	add_string(o, "target", check_kind_format(t->kind));
	add_string(o, "verdict", check_verdict_format(f.verdict));
	snprintf(number, sizeof(number), "S%u", f.stopped_by);
	add_string(o, "stopped_by", f.stopped_by ? number : NULL);
	add_string(o, "approved_by", f.approval ? check_approval_format(f.approval) : NULL);
	json_object_object_add(o, "control", shot_json(r, &r->plan.shots[s->control]));
	return o;
}

static json_object *links_json(const struct cmd_check_report *r)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < r->plan.links_len; i++) {
		json_object *o = json_object_new_object();

		json_object_object_add(o, "name", name_json(r->plan.links[i].name));
		add_bool(o, "tried", !r->plan.links[i].skipped);
		add_string(o, "why", r->plan.links[i].skipped);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *system_json(const struct cmd_check_report *r)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < r->findings_len; i++) {
		const struct finding *f = &r->findings[i];
		json_object *o = json_object_new_object();
		char text[FINDING_TEXT];

		add_string(o, "topic", f->topic);
		add_string(o, "subject", text_quotable(f->subject, text, sizeof(text)));
		add_string(o, "text", text_quotable(f->text, text, sizeof(text)));
		add_string(o, "advice", text_quotable(f->advice, text, sizeof(text)));
		add_bool(o, "risk", f->risk);
		json_object_array_add(list, o);
	}
	return list;
}

static json_object *counts_json(const struct cmd_check_report *r)
{
	json_object *o = json_object_new_object();

	for (enum check_verdict v = 0; v < CHECK_VERDICTS; v++)
		add_number(o, check_verdict_format(v), r->counts[v]);
	return o;
}

void cmd_check_json(const struct cmd_check_report *r)
{
	static const char *const results[] = { "closed", "unsure", [4] = "leak" };
	json_object *root = json_object_new_object(), *rows = json_object_new_array();
	json_object *out = json_object_new_object();

	add_number(root, "version", JSON_VERSION);
	add_string(root, "result", results[r->exit]);
	add_string(root, "state", guard_state_format(r->status.state));
	add_bool(root, "paused", r->law.paused);
	json_object_object_add(root, "counts", counts_json(r));
	json_object_object_add(root, "links", links_json(r));
	for (size_t i = 0; i < r->plan.shots_len; i++)
		if (!r->plan.shots[i].is_control)
			json_object_array_add(rows, row_json(r, &r->plan.shots[i]));
	json_object_object_add(root, "rows", rows);
	add_number(out, "links", r->plan.links_out);
	add_number(out, "addresses", r->plan.targets_out);
	add_number(out, "packets", r->plan.shots_out);
	json_object_object_add(root, "left_out", out);
	add_bool(root, "lost", r->plan.lost);
	json_object_object_add(root, "system", system_json(r));
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}
#endif
