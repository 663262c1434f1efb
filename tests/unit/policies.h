/* policies.h - policies for tests, written as in the configuration file */
#ifndef POLICIES_H
#define POLICIES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "policy.h"

/* Add `key = value` lines, which must all be good, to an initialised policy. */
static inline void policy_set_lines(struct policy *p, const char *lines)
{
	char *copy = strdup(lines), *save = NULL, err[CONFIG_ERR];

	assert_non_null(copy);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strstr(line, " = ");

		assert_row(value, line, "not KEY = VALUE");
		*value = '\0';
		if (config_set(p, line, value + 3, err))
			fail_msg("%s", err);
	}
	free(copy);
}

/* A validated policy for policy_fini(). */
static inline struct policy policy_from_lines(const char *lines)
{
	struct policy p;
	char why[CONFIG_ERR];

	policy_init(&p);
	policy_set_lines(&p, lines);
	if (policy_validate(&p, why, sizeof(why)))
		fail_msg("%s", why);
	return p;
}

/* The whole policy as text for free(3). */
static inline char *policy_text(const struct policy *p)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(policy_print(p, out), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

#endif
