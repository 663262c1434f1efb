/* json_add.h - JSON that is written: one member of an object, or one element of a list, at a time */
#ifndef JSON_ADD_H
#define JSON_ADD_H

#include <stdbool.h>
#include <stdint.h>

struct json_object;

/*
 * A member of this name.  Text may be anything, such as a link's name: bytes that are
 * not UTF-8 (RFC 3629) become '?', of which json-c makes no JSON, and so do control
 * characters that it lets through.  NULL is null.
 */
void json_add_string(struct json_object *to, const char *key, const char *value);
void json_add_bool(struct json_object *to, const char *key, bool value);
void json_add_number(struct json_object *to, const char *key, uint64_t value);

/* The number, or null where it is not known. */
void json_add_known(struct json_object *to, const char *key, bool known, uint64_t value);

/* An empty one, which belongs to `to`. */
struct json_object *json_add_object(struct json_object *to, const char *key);
struct json_object *json_add_list(struct json_object *to, const char *key);

/* The same at the end of a list. */
void json_append_string(struct json_object *list, const char *value);
void json_append_number(struct json_object *list, uint64_t value);
struct json_object *json_append_object(struct json_object *list);

#endif
