#include "json_add.h"

#include <json-c/json.h>

static json_object *new_string(const char *value)
{
	return value ? json_object_new_string(value) : NULL;
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
