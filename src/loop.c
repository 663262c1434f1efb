#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "urgency.h"

int loop_init(struct loop *l)
{
	*l = (struct loop){ .epoll_fd = epoll_create1(EPOLL_CLOEXEC) };
	return l->epoll_fd < 0 ? -errno : 0;
}

void loop_fini(struct loop *l)
{
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	*l = (struct loop){ .epoll_fd = -1 };
}

static int add(struct loop *l, int fd, bool urgent, loop_fn *readable, void *ctx)
{
	struct epoll_event event = { .events = EPOLLIN };
	uint32_t place = 0;

	while (place < LOOP_MAX && l->sources[place].fn)
		place++;
	if (place == LOOP_MAX)
		return -ENOSPC;
	event.data.u64 = (uint64_t)(l->serial + 1) << 32 | place;
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return -errno;
	l->sources[place] = (struct loop_source){
		.fd = fd, .fn = readable, .ctx = ctx, .urgent = urgent, .serial = ++l->serial
	};
	return 0;
}

int loop_add(struct loop *l, int fd, loop_fn *readable, void *ctx)
{
	return add(l, fd, false, readable, ctx);
}

int loop_add_urgent(struct loop *l, int fd, loop_fn *readable, void *ctx)
{
	return add(l, fd, true, readable, ctx);
}

void loop_remove(struct loop *l, int fd)
{
	for (size_t i = 0; i < LOOP_MAX; i++) {
		if (!l->sources[i].fn || l->sources[i].fd != fd)
			continue;
		(void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		l->sources[i] = (struct loop_source){ .fd = -1 };
	}
}

static void run(const struct loop *l, const struct epoll_event *events, int n, bool urgent)
{
	for (int i = 0; i < n; i++) {
		const struct loop_source *s = &l->sources[(uint32_t)events[i].data.u64];

		/* An earlier callback may have removed it, and put another there. */
		if (!s->fn || s->serial != events[i].data.u64 >> 32 || s->urgent != urgent)
			continue;
		if (!urgent)
			urgency_lower();
		s->fn(s->ctx);
	}
}

int loop_wait(struct loop *l, int timeout_ms)
{
	struct epoll_event events[LOOP_MAX];
	bool urgent = false;
	int n, err;

	for (size_t i = 0; i < LOOP_MAX; i++)
		urgent |= l->sources[i].fn && l->sources[i].urgent;
	if (urgent)
		urgency_raise();
	else
		urgency_lower();
	n = epoll_wait(l->epoll_fd, events, LOOP_MAX, timeout_ms);
	err = n < 0 && errno != EINTR ? -errno : 0;
	run(l, events, n, true);
	run(l, events, n, false);
	return err;
}
