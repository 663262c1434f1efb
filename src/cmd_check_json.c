/* check's report as JSON */
#include "cmd_check.h"

#ifndef WITHOUT_JSON
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "json_add.h"

#define JSON_VERSION 1

/* Bytes that are none of a name's, and none of JSON's, are '?'. */
static const char *clean_name(const char *name, char buf[IFNAMSIZ])
{
	text_quotable(name, buf, IFNAMSIZ);
	for (char *at = buf; *at; at++)
		if ((unsigned char)*at > 126)
			*at = '?';
	return buf;
}

static void add_shot(json_object *to, const struct cmd_check_report *r, const struct check_shot *s)
{
	char name[IFNAMSIZ];
	json_object *list;

	json_add_number(to, "port", s->port);
	json_add_number(to, "source_port", s->sport);
	json_add_string(to, "label", s->label);
	list = json_add_list(to, "left_by");
	for (size_t i = 0; i < s->left_len; i++) {
		const struct link *link = netstate_link(r->law.net, s->left[i]);

		json_append_string(list, link ? clean_name(link->name, name) : NULL);
	}
	json_add_string(to, "error", s->err ? strerror(-s->err) : NULL);
}

static void add_row(json_object *to, const struct cmd_check_report *r, const struct check_shot *s)
{
	const struct check_finding f = check_judge(&r->law, &r->plan, s);
	const struct check_target *t = &r->plan.targets[s->target];
	const char *link = s->link < 0 ? NULL : r->plan.links[s->link].name;
	char text[ADDR_TEXT], number[8], name[IFNAMSIZ];

	add_shot(to, r, s);
	json_add_string(to, "link", link ? clean_name(link, name) : NULL);
	json_add_string(to, "way", check_way_format(s->way));
	json_add_string(to, "protocol", proto_format(s->proto));
	json_add_number(to, "family", t->addr.family == AF_INET ? 4 : 6);
	json_add_string(to, "address", addr_format(&t->addr, text));
	json_add_string(to, "target", check_kind_format(t->kind));
	json_add_string(to, "verdict", check_verdict_format(f.verdict));
	snprintf(number, sizeof(number), "S%u", f.stopped_by);
	json_add_string(to, "stopped_by", f.stopped_by ? number : NULL);
	json_add_string(to, "approved_by", f.approval ? check_approval_format(f.approval) : NULL);
	add_shot(json_add_object(to, "control"), r, &r->plan.shots[s->control]);
}

static void add_links(json_object *to, const struct cmd_check_report *r)
{
	json_object *list = json_add_list(to, "links");
	char name[IFNAMSIZ];

	for (size_t i = 0; i < r->plan.links_len; i++) {
		json_object *o = json_append_object(list);

		json_add_string(o, "name", clean_name(r->plan.links[i].name, name));
		json_add_bool(o, "tried", !r->plan.links[i].skipped);
		json_add_string(o, "why", r->plan.links[i].skipped);
	}
}

static void add_rows(json_object *to, const struct cmd_check_report *r)
{
	json_object *list = json_add_list(to, "rows");

	for (size_t i = 0; i < r->plan.shots_len; i++)
		if (!r->plan.shots[i].is_control)
			add_row(json_append_object(list), r, &r->plan.shots[i]);
}

static void add_system(json_object *to, const struct cmd_check_report *r)
{
	json_object *list = json_add_list(to, "system");

	for (size_t i = 0; i < r->findings_len; i++) {
		const struct finding *f = &r->findings[i];
		json_object *o = json_append_object(list);
		char text[FINDING_TEXT];

		json_add_string(o, "topic", f->topic);
		json_add_string(o, "subject", text_quotable(f->subject, text, sizeof(text)));
		json_add_string(o, "text", text_quotable(f->text, text, sizeof(text)));
		json_add_string(o, "advice", text_quotable(f->advice, text, sizeof(text)));
		json_add_bool(o, "risk", f->risk);
	}
}

void cmd_check_json(const struct cmd_check_report *r)
{
	static const char *const results[] = { "closed", "unsure", [4] = "leak" };
	json_object *root = json_object_new_object(), *part;

	json_add_number(root, "version", JSON_VERSION);
	json_add_string(root, "result", results[r->exit]);
	json_add_string(root, "state", guard_state_format(r->status.state));
	json_add_bool(root, "paused", r->law.paused);
	part = json_add_object(root, "counts");
	for (enum check_verdict v = 0; v < CHECK_VERDICTS; v++)
		json_add_number(part, check_verdict_format(v), r->counts[v]);
	add_links(root, r);
	add_rows(root, r);
	part = json_add_object(root, "left_out");
	json_add_number(part, "links", r->plan.links_out);
	json_add_number(part, "addresses", r->plan.targets_out);
	json_add_number(part, "packets", r->plan.shots_out);
	json_add_bool(root, "lost", r->plan.lost);
	add_system(root, r);
	puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
	json_object_put(root);
}
#endif
