/* outlet.h - standard output that may be slow, or closed, and must not keep us from ending */
#ifndef OUTLET_H
#define OUTLET_H

#include <stdbool.h>
#include <stddef.h>

struct outlet {
	int fd, wake_fd; /* where it goes; readable when we are to end */
	bool hurried;	 /* we are: what cannot be written soon is not */
	int err;	 /* the first failure; nothing is written after it */
	size_t len;
	char buf[65536];
};

/* The caller's descriptors stay the caller's.  SIGPIPE has to be ignored. */
void outlet_init(struct outlet *o, int fd, int wake_fd);

/* Put text behind what waits; one that is too long for the buffer is cut. */
void outlet_add(struct outlet *o, const char *text);
void outlet_printf(struct outlet *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Write what waits.  Blocks until it could, or wake_fd is readable.  0; -EINTR
 * when it was woken, and from then on it blocks for half a second at most, and
 * then writes nothing more; -EPIPE when nobody reads; another -errno of write(2).
 */
int outlet_flush(struct outlet *o);

#endif
