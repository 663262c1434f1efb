#include "check_lines.h"

#include <string.h>
#include <strings.h>

#define BLANKS " \t\r\v\f"

void lines_init(struct lines *l, char *text, size_t len)
{
	*l = (struct lines){ .at = text, .end = text + len, .section = "" };
}

/* Ends the line at its newline, or at a NUL before; NULL: no more. */
static char *cut_line(struct lines *l)
{
	char *const line = l->at;
	char *newline;

	if (line >= l->end)
		return NULL;
	newline = memchr(line, '\n', (size_t)(l->end - line));
	l->at = newline ? newline + 1 : l->end;
	if (newline)
		*newline = '\0';
	return line;
}

static bool is_comment(const char *line)
{
	return *line == '#' || *line == ';';
}

/* Lines behind a backslash are moved up to it, comments among them left out. */
static char *cut_joined(struct lines *l)
{
	char *const line = cut_line(l);
	char *next, *tail;
	size_t len;

	if (!line || is_comment(line + strspn(line, BLANKS)))
		return line;
	tail = line + strlen(line);
	while (tail > line && tail[-1] == '\\') {
		next = cut_line(l);
		if (next && is_comment(next + strspn(next, BLANKS)))
			continue;
		tail[-1] = ' ';
		if (!next)
			break;
		/* It begins behind the newline that was there: never longer than the gap. */
		len = strlen(next);
		memmove(tail, next, len + 1);
		tail += len;
	}
	return line;
}

static char *strip(char *text)
{
	char *const start = text + strspn(text, BLANKS);
	size_t len = strlen(start);

	while (len && strchr(BLANKS, start[len - 1]))
		start[--len] = '\0';
	return start;
}

/* "[name]" */
static bool take_section(struct lines *l, char *line)
{
	const size_t len = strlen(line);

	if (*line != '[')
		return false;
	if (line[len - 1] == ']')
		line[len - 1] = '\0';
	l->section = line + 1;
	return true;
}

bool lines_next(struct lines *l, char **ret_key, char **ret_value)
{
	char *line, *equals;

	while ((line = cut_joined(l))) {
		line = strip(line);
		if (is_comment(line)) {
			if (!l->comments)
				continue;
			line++;
		} else if (take_section(l, line) || l->comments) {
			continue;
		}
		equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = '\0';
		*ret_key = strip(line);
		*ret_value = strip(equals + 1);
		return true;
	}
	return false;
}

char *lines_word(char **value, const char *more)
{
	char *word, *end;

	if (!*value)
		return NULL;
	word = *value;
	while (*word && (strchr(BLANKS, *word) || strchr(more, *word)))
		word++;
	if (!*word)
		return NULL;
	end = word;
	while (*end && !strchr(BLANKS, *end) && !strchr(more, *end))
		end++;
	*value = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

int lines_bool(const char *value)
{
	static const char words[2][6][6] = {
		{ "0", "no", "n", "false", "f", "off" },
		{ "1", "yes", "y", "true", "t", "on" },
	};

	for (int is = 0; is < 2; is++)
		for (size_t i = 0; i < 6; i++)
			if (!strcasecmp(value, words[is][i]))
				return is;
	return -1;
}
