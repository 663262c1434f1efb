#include "outlet.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_ROOM 4096
#define HURRY_MS  500 /* how long a reader may pause once we are to end */

void outlet_init(struct outlet *o, int fd, int wake_fd)
{
	o->fd = fd;
	o->wake_fd = wake_fd;
	o->hurried = false;
	o->err = 0;
	o->len = 0;
}

/* As much as a pipe that poll(2) calls writable takes without blocking. */
static int write_some(struct outlet *o)
{
	const size_t most = o->len < PIPE_BUF ? o->len : PIPE_BUF;
	const ssize_t done = write(o->fd, o->buf, most);

	if (done < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	o->len -= (size_t)done;
	memmove(o->buf, o->buf + done, o->len);
	return 0;
}

int outlet_flush(struct outlet *o)
{
	while (!o->err && o->len) {
		struct pollfd fds[] = { { .fd = o->fd, .events = POLLOUT },
					{ .fd = o->hurried ? -1 : o->wake_fd, .events = POLLIN } };
		const int n = poll(fds, 2, o->hurried ? HURRY_MS : -1);

		if (n < 0 && errno != EINTR)
			return o->err = -errno;
		if (n == 0) /* a line may have been begun: nothing follows it */
			o->err = -EINTR;
		if (n > 0 && fds[0].revents) {
			o->err = write_some(o);
		} else if (n > 0 && fds[1].revents) {
			o->hurried = true;
			return -EINTR;
		}
	}
	return o->err;
}

void outlet_add(struct outlet *o, const char *text)
{
	size_t len = strlen(text);

	if (len > sizeof(o->buf))
		len = sizeof(o->buf);
	/* Woken, once more: in a hurry now. */
	if (len > sizeof(o->buf) - o->len && outlet_flush(o) == -EINTR)
		(void)outlet_flush(o);
	if (o->err || len > sizeof(o->buf) - o->len)
		return;
	memcpy(o->buf + o->len, text, len);
	o->len += len;
}

void outlet_printf(struct outlet *o, const char *format, ...)
{
	char line[LINE_ROOM];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	outlet_add(o, line);
}
