/* The configuration file, line by line; the run directory's record is read the same way. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <ini.h>

struct reader {
	FILE *file;
	unsigned int line; /* the one handed out last, from 1 */
	config_set_fn *set;
	void *ctx;
	int err; /* the first one; nothing is set after it */
	char text[CONFIG_ERR];
	char *buf; /* owned; getline(3)'s */
	size_t buf_room;
};

static char *refuse_line(struct reader *rd, const char *why)
{
	rd->err = -EINVAL;
	snprintf(rd->text, sizeof(rd->text), "%s", why);
	return NULL;
}

/*
 * inih asks for lines through this.  It keeps the count that inih does not
 * tell, refuses what inih would split or pass over in silence (its buffer is
 * INI_MAX_LINE bytes, an indented line goes on with the key before, a NUL ends
 * a line), takes "#" after white space for a comment as well as ";", and ends
 * the file at the first error.
 */
static char *read_line(char *line, int size, void *stream)
{
	struct reader *rd = stream;
	const ssize_t got = rd->err ? -1 : getline(&rd->buf, &rd->buf_room, rd->file);
	const char *start = rd->buf;
	size_t len = got < 0 ? 0 : (size_t)got;
	char why[64];

	if (got < 0)
		return NULL;
	rd->line++;
	if (memchr(start, '\0', len))
		return refuse_line(rd, "a NUL byte, expected text");
	if (len && start[len - 1] == '\n')
		len--;
	while (len && isspace((unsigned char)*start)) {
		start++;
		len--;
	}
	for (size_t i = 1; i < len; i++)
		if (start[i] == '#' && isspace((unsigned char)start[i - 1]))
			len = i;
	if (len + 2 > (size_t)size) {
		snprintf(why, sizeof(why), "line too long, expected at most %d bytes", size - 2);
		return refuse_line(rd, why);
	}
	memcpy(line, start, len);
	memcpy(line + len, "\n", 2);
	return line;
}

static int take_value(void *user, const char *section, const char *name, const char *value)
{
	struct reader *rd = user;

	if (!rd->err)
		rd->err = rd->set(rd->ctx, section, name, value, rd->text);
	return !rd->err;
}

/* /dev/null, the usual name for "no file": devices.txt has its numbers. */
static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

int config_read_lines(const char *path, config_set_fn *set, void *ctx, char reterr_text[CONFIG_ERR])
{
	/* A FIFO or a device as configuration would block for ever: never open one for good. */
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct reader rd = { .set = set, .ctx = ctx };
	struct stat st;
	int bad_line, err = 0;

	if (fd < 0) {
		err = -errno;
		snprintf(reterr_text, CONFIG_ERR, "%s: %s", path, strerror(-err));
		return err;
	}
	if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || is_null_device(&st))) {
		snprintf(reterr_text, CONFIG_ERR, "%s: expected a regular file", path);
		close(fd);
		return -EINVAL;
	}
	rd.file = fdopen(fd, "re");
	if (!rd.file) {
		close(fd);
		snprintf(reterr_text, CONFIG_ERR, "%s: out of memory", path);
		return -ENOMEM;
	}

	bad_line = ini_parse_stream(read_line, &rd, take_value, &rd);
	if (rd.err) {
		/* -ENOENT is said of the file alone, never of a key in it. */
		err = rd.err == -ENOENT ? -EINVAL : rd.err;
		snprintf(reterr_text, CONFIG_ERR, "%s:%u: %.400s", path, rd.line, rd.text);
	} else if (bad_line) {
		err = bad_line == -2 ? -ENOMEM : -EINVAL;
		snprintf(reterr_text, CONFIG_ERR, "%s:%d: expected \"key = value\"", path,
			 bad_line > 0 ? bad_line : (int)rd.line);
	} else if (ferror(rd.file)) {
		err = -EIO;
		snprintf(reterr_text, CONFIG_ERR, "%s: read error", path);
	}
	fclose(rd.file);
	free(rd.buf);
	return err;
}

static int set_policy(void *ctx, const char *section, const char *name, const char *value,
		      char reterr_text[CONFIG_ERR])
{
	if (*section) {
		char shown[64];

		snprintf(reterr_text, CONFIG_ERR, "[%s]: expected no sections",
			 text_quotable(section, shown, sizeof(shown)));
		return -EINVAL;
	}
	return config_set(ctx, name, value, reterr_text);
}

int config_read_file(const char *path, struct policy *p, char reterr_text[CONFIG_ERR])
{
	return config_read_lines(path, set_policy, p, reterr_text);
}
