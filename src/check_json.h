/*
 * check_json.h - JSON of others, as far as check reads it; json-c is in this file alone
 *
 * A build without json reads none: check_json_parse() says so.
 */
#ifndef CHECK_JSON_H
#define CHECK_JSON_H

#include <stdbool.h>
#include <stddef.h>

struct check_json; /* a value; lent, but for what check_json_parse() gave */

/*
 * 0 and a value for check_json_free(); -EBADMSG: no JSON, or nested deeper than 32;
 * -EOPNOTSUPP: this build has no JSON; -ENOMEM.
 */
int check_json_parse(const char *text, size_t len, struct check_json **ret_json);
void check_json_free(struct check_json *json);

/* A member of an object, an element of a list; NULL where there is none, or json is NULL. */
struct check_json *check_json_member(struct check_json *json, const char *name);
struct check_json *check_json_item(struct check_json *json, size_t i);

/* A text; NULL: it is none. */
const char *check_json_text(struct check_json *json);

/* A number from 0 to INT_MAX; -1: it is none. */
int check_json_number(struct check_json *json);

/* 1, 0, or -1: neither true nor false. */
int check_json_bool(struct check_json *json);

#endif
