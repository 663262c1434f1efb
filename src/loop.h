/*
 * loop.h - wait for descriptors; the only file with epoll
 *
 * A context of the caller's memory, one thread.  Descriptors stay the
 * caller's: remove one before it is closed, since epoll(7) forgets a closed
 * one only with its last copy.
 */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_MAX 32 /* descriptors at a time: netlink, signals, timers, control and its clients */

typedef void loop_fn(void *ctx);

struct loop {
	int epoll_fd;
	uint32_t serial; /* of the source that was added last */
	struct loop_source {
		int fd;
		loop_fn *fn; /* NULL: the place is free */
		void *ctx;
		bool urgent;
		uint32_t serial; /* tells it from an earlier one in its place */
	} sources[LOOP_MAX];
};

/* 0, or -errno of epoll_create1(2) and nothing to free. */
int loop_init(struct loop *l);

/* Closes the loop, not the descriptors.  Accepts one whose loop_init() failed. */
void loop_fini(struct loop *l);

/*
 * Have `readable` called whenever fd has something to read, was hung up or has
 * an error (level-triggered: as long as it has).  0; -ENOSPC when LOOP_MAX are
 * there; -EEXIST when fd is there; or another -errno of epoll_ctl(2).
 */
int loop_add(struct loop *l, int fd, loop_fn *readable, void *ctx);

/*
 * The same, called before others.  The process is urgent (urgency.h) while it
 * waits for such a one and when it is called, and stays so until others are
 * called: whoever has more to do than to read ends that.
 */
int loop_add_urgent(struct loop *l, int fd, loop_fn *readable, void *ctx);

/*
 * Forget fd; no error if it is not there.  A callback may remove any source,
 * its own too: one that was removed is not called any more, also when it was
 * due in this very round and its number or place belongs to another by now.
 */
void loop_remove(struct loop *l, int fd);

/*
 * Wait at most timeout_ms (-1: for ever) and run the callbacks of those that
 * are due.  0, also after a signal; or -errno of epoll_wait(2).  Not to be
 * called by a callback.
 */
int loop_wait(struct loop *l, int timeout_ms);

#endif
