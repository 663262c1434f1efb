/*
 * check_lines.h - "[section]", "key = value" and comments, as systemd and
 * NetworkManager write them; pure
 *
 * inih is not for these: it cuts a line at 200 bytes, which a list of name servers
 * with their names is longer than, and takes ';' inside a value for a comment.
 */
#ifndef CHECK_LINES_H
#define CHECK_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
	char *at, *end;	     /* what is left */
	const char *section; /* "" before the first */
	bool comments;	     /* only "#key=value" counts, in place of "key=value" */
};

/* The text is changed, and `len` bytes long, with a NUL behind; any bytes. */
void lines_init(struct lines *l, char *text, size_t len);

/*
 * The next "key = value", without blanks around; a line that ends with '\' goes on
 * with the next (systemd.syntax(7)).  What is behind a NUL in a line does not count,
 * nor does a line without '='.  False: no more.  Both live as long as the text.
 */
bool lines_next(struct lines *l, char **ret_key, char **ret_value);

/* The next word of a value, parted by blanks or any of `more`; NULL: no more. */
char *lines_word(char **value, const char *more);

/* systemd's words for yes and no: 1, 0, or -1 for neither. */
int lines_bool(const char *value);

#endif
