#include "check_json.h"

#include <errno.h>

#ifdef WITHOUT_JSON

int check_json_parse(const char *text, size_t len, struct check_json **ret_json)
{
	(void)text;
	(void)len;
	(void)ret_json;
	return -EOPNOTSUPP;
}

void check_json_free(struct check_json *json)
{
	(void)json;
}

struct check_json *check_json_member(struct check_json *json, const char *name)
{
	(void)json;
	(void)name;
	return NULL;
}

struct check_json *check_json_item(struct check_json *json, size_t i)
{
	(void)json;
	(void)i;
	return NULL;
}

const char *check_json_text(struct check_json *json)
{
	(void)json;
	return NULL;
}

int check_json_number(struct check_json *json)
{
	(void)json;
	return -1;
}

int check_json_bool(struct check_json *json)
{
	(void)json;
	return -1;
}

#else

#include <limits.h>

#include <json-c/json.h>

static struct json_object *value_of(struct check_json *json)
{
	return (struct json_object *)json;
}

int check_json_parse(const char *text, size_t len, struct check_json **ret_json)
{
	struct json_tokener *const tok = json_tokener_new();
	struct json_object *value;
	int err = 0;

	if (!tok)
		return -ENOMEM;
	if (len > INT_MAX)
		len = INT_MAX;
	value = json_tokener_parse_ex(tok, text, (int)len);
	/* A number at the very end is only sure when something follows. */
	if (json_tokener_get_error(tok) == json_tokener_continue)
		value = json_tokener_parse_ex(tok, "\n", -1);
	if (json_tokener_get_error(tok) != json_tokener_success)
		err = -EBADMSG;
	json_tokener_free(tok);
	if (err)
		json_object_put(value);
	else
		*ret_json = (struct check_json *)value;
	return err;
}

void check_json_free(struct check_json *json)
{
	json_object_put(value_of(json));
}

struct check_json *check_json_member(struct check_json *json, const char *name)
{
	struct json_object *member = NULL;

	if (json_object_is_type(value_of(json), json_type_object))
		json_object_object_get_ex(value_of(json), name, &member);
	return (struct check_json *)member;
}

struct check_json *check_json_item(struct check_json *json, size_t i)
{
	if (!json_object_is_type(value_of(json), json_type_array) ||
	    i >= json_object_array_length(value_of(json)))
		return NULL;
	return (struct check_json *)json_object_array_get_idx(value_of(json), i);
}

const char *check_json_text(struct check_json *json)
{
	return json_object_is_type(value_of(json), json_type_string) ?
		       json_object_get_string(value_of(json)) :
		       NULL;
}

int check_json_number(struct check_json *json)
{
	int number;

	if (!json_object_is_type(value_of(json), json_type_int))
		return -1;
	number = json_object_get_int(value_of(json));
	return number < 0 ? -1 : number;
}

int check_json_bool(struct check_json *json)
{
	if (!json_object_is_type(value_of(json), json_type_boolean))
		return -1;
	return json_object_get_boolean(value_of(json)) ? 1 : 0;
}

#endif
