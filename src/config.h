/*
 * config.h - file and command line -> struct policy, through one key table
 *
 * A key of the file, `tunnel = wg0`, is the long option of the same name,
 * `--tunnel wg0`.  The table also makes the manual page and the completions.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy.h"

#define CONFIG_ERR 512 /* room for any message of this module */

struct setting;

struct config_key {
	const char *name;    /* in the file, and as a long option */
	const char *arg;     /* placeholder of its value in usage texts */
	const char *expects; /* ends the sentence "expected ..." */
	const char *help;    /* one line for -h and the manual page */
	const char *values;  /* words to complete, separated by spaces; or NULL */
	/*
	 * Parse one value into the policy.  -EINVAL, -E2BIG or -ENOMEM leave it
	 * as it was; setting->expects may then be replaced by a narrower text.
	 */
	int (*parse)(struct policy *p, struct setting *setting);
	bool repeats;	   /* may be given more than once; each adds an entry */
	uint8_t min;	   /* of a number */
	uint16_t field;	   /* where in the policy, of one choice of `values`, or a number */
	uint32_t max;	   /* of a number */
	uint16_t lists[2]; /* where the lengths of its entries are; 0: none */
};

/* The table itself; ends with an entry whose name is NULL. */
extern const struct config_key config_keys[];

/* NULL if there is no key of that name. */
const struct config_key *config_key_find(const char *name);

/* Forget the entries of a key that repeats; nothing of others. */
void config_clear(struct policy *p, const struct config_key *key);

/*
 * Set one key.  0, or -errno with "NAME "VALUE": expected ..." in reterr_text;
 * -ENOENT for an unknown key.
 */
int config_set(struct policy *p, const char *name, const char *value, char reterr_text[CONFIG_ERR]);

/* The same for an option of the command line: the text begins with "--NAME". */
int config_set_option(struct policy *p, const char *name, const char *value,
		      char reterr_text[CONFIG_ERR]);

/*
 * Read a whole file of `key = value` lines into the policy.
 * 0; -ENOENT if there is none; -EINVAL with "FILE:LINE: ..." in reterr_text
 * for the first bad line; another -errno of open(2) or read(2), with text.
 * The policy may then be half filled: throw it away.
 */
int config_read_file(const char *path, struct policy *p, char reterr_text[CONFIG_ERR]);

/*
 * The reader below it, also used for the run directory's file: calls `set` for
 * each line with the section it stands in ("" before the first).  `set`
 * returns 0, or -errno with a text without position.  Lines are as long as
 * inih's buffer is (INI_MAX_LINE, 200 bytes as it is packaged).
 */
typedef int config_set_fn(void *ctx, const char *section, const char *name, const char *value,
			  char reterr_text[CONFIG_ERR]);
int config_read_lines(const char *path, config_set_fn *set, void *ctx,
		      char reterr_text[CONFIG_ERR]);

#endif
