/* monitor --json: an object a line, as leakguard(8) documents it */
#include "cmd_monitor_print.h"

#ifndef WITHOUT_MONITOR

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "json_add.h"

/* null for "" */
static void add_text(json_object *to, const char *key, const char *value)
{
	char text[DNSNAME_TEXT];

	monitor_quotable(value, text, sizeof(text));
	json_add_string(to, key, *text ? text : NULL);
}

static void add_addr(json_object *to, const char *key, const struct addr *addr)
{
	char text[ADDR_TEXT] = "";

	add_text(to, key, addr->family ? addr_format(addr, text) : text);
}

/* RFC 3339, of universal time */
static void add_time(json_object *to, uint64_t time_ms)
{
	const time_t seconds = (time_t)(time_ms / 1000);
	char date[32] = "", text[48] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(text, sizeof(text), "%s.%03uZ", date, (unsigned int)(time_ms % 1000));
	add_text(to, "time", text);
}

static json_object *begin(const char *event)
{
	json_object *o = json_object_new_object();

	add_text(o, "event", event);
	return o;
}

static void end(struct outlet *o, json_object *object)
{
	outlet_add(o, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	outlet_add(o, "\n");
	json_object_put(object);
}

/* null unless it was forwarded */
static void add_client(json_object *to, const struct blocked *b)
{
	json_object *o;
	char mac[MAC_TEXT] = "";

	if (!blocked_is_forwarded(b)) {
		json_add_string(to, "client", NULL);
		return;
	}
	o = json_add_object(to, "client");
	add_addr(o, "address", &b->source);
	add_text(o, "mac", b->has_mac ? mac_format(b->mac, mac) : mac);
	add_text(o, "name", b->client);
}

void monitor_json_blocked(struct outlet *o, const struct blocked *b, const char *user)
{
	const bool known = b->question == QUESTION_KNOWN;
	json_object *object = begin("blocked");
	char text[DNSNAME_TYPE_TEXT];

	add_time(object, b->time_ms);
	snprintf(text, sizeof(text), "S%u", b->promise);
	add_text(object, "rule", text);
	add_text(object, "program", b->program);
	json_add_known(object, "pid", b->pid, (uint64_t)b->pid);
	json_add_known(object, "uid", b->has_uid, b->uid);
	add_text(object, "user", user);
	add_client(object, b);
	add_text(object, "link", b->link);
	add_text(object, "in_link", b->in_link);
	add_addr(object, "source", &b->source);
	json_add_known(object, "source_port", b->has_ports, b->source_port);
	add_addr(object, "resolver", &b->dest);
	json_add_known(object, "port", b->has_ports, b->dest_port);
	add_text(object, "protocol",
		 b->proto == IPPROTO_UDP || b->proto == IPPROTO_TCP ? proto_format(b->proto) : "");
	add_text(object, "name", known ? b->name : "");
	add_text(object, "type", known ? dnsname_type_format(b->type, text) : "");
	json_add_bool(object, "encrypted", b->question == QUESTION_ENCRYPTED);
	json_add_bool(object, "fragment", b->question == QUESTION_FRAGMENT);
	end(o, object);
}

void monitor_json_not_shown(struct outlet *o, uint64_t packets)
{
	json_object *object = begin("not_shown");

	json_add_number(object, "packets", packets);
	end(o, object);
}

void monitor_json_guard(struct outlet *o, bool up)
{
	json_object *object = begin("guard");

	json_add_bool(object, "up", up);
	end(o, object);
}

void monitor_json_summary(struct outlet *o, struct monitor_summary *summary)
{
	static const char keys[][10] = {
		[MONITOR_SORT_PROGRAMS] = "programs",
		[MONITOR_SORT_NAMES] = "names",
		[MONITOR_SORT_RESOLVERS] = "resolvers",
		[MONITOR_SORT_CLIENTS] = "clients",
	};
	json_object *object = begin("summary");

	json_add_number(object, "seconds", summary->seconds);
	json_add_number(object, "shown", summary->shown);
	json_add_number(object, "not_shown", summary->not_shown);
	for (int k = 0; k < MONITOR_SORTS; k++) {
		struct tally *t = &summary->tallies[k];
		const size_t n = tally_sort(t, MONITOR_TOP);
		json_object *list = json_add_list(object, keys[k]);

		for (size_t i = 0; i < n; i++) {
			json_object *one = json_append_object(list);

			add_text(one, "what", t->places[i].text);
			json_add_number(one, "packets", t->places[i].count);
		}
	}
	end(o, object);
}

#endif
