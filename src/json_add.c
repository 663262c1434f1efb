#include "json_add.h"

#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

/* Of the character that begins here; 0 where none does that may be shown: RFC 3629, 4. */
static size_t character_len(const unsigned char *at)
{
	const size_t len = *at < 0x80 ? 1 : *at < 0xc2 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;

	for (size_t i = 1; i < len; i++)
		if (at[i] >> 6 != 2)
			return 0;
	/* What a terminal obeys: json-c escapes only what is below ' '. */
	if (*at == 0x7f || (*at == 0xc2 && at[1] < 0xa0))
		return 0;
	/* Written longer than it need be, a half of UTF-16's pairs, or behind the last one. */
	if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
	    (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f) || *at > 0xf4)
		return 0;
	return len;
}

static json_object *new_string(const char *value)
{
	json_object *string;
	char *clean;

	if (!value)
		return NULL;
	clean = strdup(value);
	for (char *at = clean; at && *at;) {
		const size_t len = character_len((unsigned char *)at);

		if (!len)
			*at = '?';
		at += len ?: 1;
	}
	string = clean ? json_object_new_string(clean) : NULL;
	free(clean);
	return string;
}

static json_object *new_number(uint64_t value)
{
	return json_object_new_int64((int64_t)value);
}

void json_add_string(json_object *to, const char *key, const char *value)
{
	json_object_object_add(to, key, new_string(value));
}

void json_add_bool(json_object *to, const char *key, bool value)
{
	json_object_object_add(to, key, json_object_new_boolean(value));
}

void json_add_number(json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, new_number(value));
}

void json_add_known(json_object *to, const char *key, bool known, uint64_t value)
{
	json_object_object_add(to, key, known ? new_number(value) : NULL);
}

json_object *json_add_object(json_object *to, const char *key)
{
	json_object *o = json_object_new_object();

	json_object_object_add(to, key, o);
	return o;
}

json_object *json_add_list(json_object *to, const char *key)
{
	json_object *list = json_object_new_array();

	json_object_object_add(to, key, list);
	return list;
}

void json_append_string(json_object *list, const char *value)
{
	json_object_array_add(list, new_string(value));
}

void json_append_number(json_object *list, uint64_t value)
{
	json_object_array_add(list, new_number(value));
}

json_object *json_append_object(json_object *list)
{
	json_object *o = json_object_new_object();

	json_object_array_add(list, o);
	return o;
}
