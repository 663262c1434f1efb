/* monitor --json: an object a line, as leakguard(8) documents it */
#include "cmd_monitor_print.h"

#ifndef WITHOUT_MONITOR

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

static void add(json_object *to, const char *key, json_object *value)
{
	json_object_object_add(to, key, value);
}

/* null for "" */
static void add_string(json_object *to, const char *key, const char *value)
{
	char text[DNSNAME_TEXT];

	monitor_quotable(value, text, sizeof(text));
	add(to, key, *text ? json_object_new_string(text) : NULL);
}

static void add_number(json_object *to, const char *key, uint64_t value)
{
	add(to, key, json_object_new_int64((int64_t)value));
}

static void add_addr(json_object *to, const char *key, const struct addr *addr)
{
	char text[ADDR_TEXT] = "";

	add_string(to, key, addr->family ? addr_format(addr, text) : text);
}

/* RFC 3339, of universal time */
static void add_time(json_object *to, uint64_t time_ms)
{
	const time_t seconds = (time_t)(time_ms / 1000);
	char date[32] = "", text[48] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm))
		snprintf(text, sizeof(text), "%s.%03uZ", date, (unsigned int)(time_ms % 1000));
	add_string(to, "time", text);
}

static json_object *begin(const char *event)
{
	json_object *o = json_object_new_object();

	add_string(o, "event", event);
	return o;
}

static void end(struct outlet *o, json_object *object)
{
	outlet_add(o, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	outlet_add(o, "\n");
	json_object_put(object);
}

static json_object *client_json(const struct blocked *b)
{
	json_object *o;
	char mac[MAC_TEXT] = "";

	if (!blocked_is_forwarded(b))
		return NULL;
	o = json_object_new_object();
	add_addr(o, "address", &b->source);
	add_string(o, "mac", b->has_mac ? mac_format(b->mac, mac) : mac);
	add_string(o, "name", b->client);
	return o;
}

void monitor_json_blocked(struct outlet *o, const struct blocked *b, const char *user)
{
	const bool known = b->question == QUESTION_KNOWN;
	json_object *object = begin("blocked");
	char text[DNSNAME_TYPE_TEXT];

	add_time(object, b->time_ms);
	snprintf(text, sizeof(text), "S%u", b->promise);
	add_string(object, "rule", text);
	add_string(object, "program", b->program);
	add(object, "pid", b->pid ? json_object_new_int(b->pid) : NULL);
	add(object, "uid", b->has_uid ? json_object_new_int64(b->uid) : NULL);
	add_string(object, "user", user);
	add(object, "client", client_json(b));
	add_string(object, "link", b->link);
	add_string(object, "in_link", b->in_link);
	add_addr(object, "source", &b->source);
	add(object, "source_port", b->has_ports ? json_object_new_int(b->source_port) : NULL);
	add_addr(object, "resolver", &b->dest);
	add(object, "port", b->has_ports ? json_object_new_int(b->dest_port) : NULL);
	add_string(object, "protocol",
		   b->proto == IPPROTO_UDP || b->proto == IPPROTO_TCP ? proto_format(b->proto) :
									"");
	add_string(object, "name", known ? b->name : "");
	add_string(object, "type", known ? dnsname_type_format(b->type, text) : "");
	add(object, "encrypted", json_object_new_boolean(b->question == QUESTION_ENCRYPTED));
	end(o, object);
}

void monitor_json_not_shown(struct outlet *o, uint64_t packets)
{
	json_object *object = begin("not_shown");

	add_number(object, "packets", packets);
	end(o, object);
}

void monitor_json_guard(struct outlet *o, bool up)
{
	json_object *object = begin("guard");

	add(object, "up", json_object_new_boolean(up));
	end(o, object);
}

void monitor_json_summary(struct outlet *o, struct monitor_summary *summary)
{
	static const char *const keys[] = {
		[MONITOR_SORT_PROGRAMS] = "programs",
		[MONITOR_SORT_NAMES] = "names",
		[MONITOR_SORT_RESOLVERS] = "resolvers",
		[MONITOR_SORT_CLIENTS] = "clients",
	};
	json_object *object = begin("summary");

	add_number(object, "seconds", summary->seconds);
	add_number(object, "shown", summary->shown);
	add_number(object, "not_shown", summary->not_shown);
	for (int k = 0; k < MONITOR_SORTS; k++) {
		struct tally *t = &summary->tallies[k];
		const size_t n = tally_sort(t, MONITOR_TOP);
		json_object *list = json_object_new_array();

		for (size_t i = 0; i < n; i++) {
			json_object *one = json_object_new_object();

			add_string(one, "what", t->places[i].text);
			add_number(one, "packets", t->places[i].count);
			json_object_array_add(list, one);
		}
		add(object, keys[k], list);
	}
	end(o, object);
}

#endif
