#include "droptrace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENT	   "events/skb/kfree_skb"
#define REASON	   "\"NETFILTER_DROP\""
#define RING_BYTES 65536
#define MAX_CPUS   1024
#define MAX_NAMES  512	   /* of processes that have called execve(2) lately */
#define MAX_PIDS   16	   /* that had packets dropped lately */
#define SETTLE_NS  1000000 /* between the log of a packet and its drop */

struct ring {
	int fd;
	struct perf_event_mmap_page *page; /* and RING_BYTES behind it */
	bool throttled;			   /* the kernel leaves records out, for a tick */
};

/* What a process was called last: the rings are read one after the other. */
struct named {
	struct process process;
	uint64_t time_ns;
};

struct droptrace {
	uint64_t since_ns, begun_ns; /* CLOCK_MONOTONIC, as the kernel's times are */
	uint64_t lost_ns;	     /* when records were lost, or no room was left for a process */
	struct {
		int pid;
		uint64_t last_ns;
	} drops[MAX_PIDS];
	struct named names[MAX_NAMES];
	size_t next_name;
	size_t rings_len;
	struct ring rings[];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- which tracepoint --- */

/* Where it is, or a mount that nobody else sees (fsopen(2), Linux 5.2); -errno. */
static int open_tracefs(void)
{
	static const char *const places[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	int fs, err, fd = -1;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		fd = open(places[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && !faccessat(fd, EVENT, F_OK, 0))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return errno == ENODEV || errno == ENOSYS ? -ENOTSUP : -errno;
	fd = -1;
	if (!syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	err = fd < 0 ? -errno : 0;
	close(fs);
	return err ? err : fd;
}

static int read_text(int dir_fd, const char *path, char *buf, size_t size)
{
	const int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return errno == ENOENT ? -ENOTSUP : -errno;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	buf[len] = '\0';
	return n < 0 ? -errno : 0;
}

/* "{ 12, \"NETFILTER_DROP\" }": the numbers are not the same in all kernels. */
static int find_reason(const char *format)
{
	const char *at = strstr(format, REASON);

	while (at && at > format && *at != '{')
		at--;
	return at && *at == '{' ? atoi(at + 1) : 0;
}

static int find_event(int *ret_id, int *ret_reason)
{
	char text[16384];
	const int dir_fd = open_tracefs();
	int err = dir_fd < 0 ? dir_fd : read_text(dir_fd, EVENT "/id", text, sizeof(text));

	if (!err) {
		*ret_id = atoi(text);
		err = read_text(dir_fd, EVENT "/format", text, sizeof(text));
	}
	if (dir_fd >= 0)
		close(dir_fd);
	if (err)
		return err;
	*ret_reason = find_reason(text);
	return *ret_id > 0 && *ret_reason > 0 ? 0 : -ENOTSUP;
}

/* --- its records --- */

static int open_ring(struct ring *ring, int id, int reason, int cpu)
{
	struct perf_event_attr attr = {
		.size = sizeof(attr),
		.type = PERF_TYPE_TRACEPOINT,
		.config = (uint64_t)id,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
		.disabled = 1,
		.comm = 1,
		.task = 1,
		.sample_id_all = 1,
		.watermark = 1, /* nobody waits for it */
		.wakeup_watermark = UINT32_MAX,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};
	/* TRACE_FLAG_HARDIRQ and TRACE_FLAG_SOFTIRQ: it met whatever process was there. */
	char filter[64];
	void *page;

	snprintf(filter, sizeof(filter), "reason==%d && !(common_flags&24)", reason);
	ring->fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (ring->fd < 0)
		return -errno;
	page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE) + RING_BYTES, PROT_READ | PROT_WRITE,
		    MAP_SHARED, ring->fd, 0);
	if (page == MAP_FAILED)
		return -errno;
	ring->page = page;
	if (ioctl(ring->fd, PERF_EVENT_IOC_SET_FILTER, filter) ||
	    ioctl(ring->fd, PERF_EVENT_IOC_ENABLE, 0))
		return -errno;
	return 0;
}

static void note_drop(struct droptrace *t, int pid, uint64_t time_ns)
{
	size_t oldest = 0;

	for (size_t i = 0; i < MAX_PIDS; i++) {
		if (t->drops[i].pid == pid) {
			if (time_ns > t->drops[i].last_ns)
				t->drops[i].last_ns = time_ns;
			return;
		}
		if (t->drops[i].last_ns < t->drops[oldest].last_ns)
			oldest = i;
	}
	if (t->drops[oldest].last_ns > t->lost_ns)
		t->lost_ns = t->drops[oldest].last_ns;
	t->drops[oldest].pid = pid;
	t->drops[oldest].last_ns = time_ns;
}

static struct named *find_named(struct droptrace *t, int pid)
{
	for (size_t i = 0; i < MAX_NAMES; i++)
		if (t->names[i].process.pid == pid)
			return &t->names[i];
	return NULL;
}

/* "": it has just begun, and another may have had that number. */
static void note_name(struct droptrace *t, int pid, uint64_t time_ns, const char *name)
{
	struct named *one = find_named(t, pid);

	if (!one) {
		one = &t->names[t->next_name];
		t->next_name = (t->next_name + 1) % MAX_NAMES;
		one->process.pid = pid;
	} else if (time_ns < one->time_ns) {
		return;
	}
	one->time_ns = time_ns;
	snprintf(one->process.name, sizeof(one->process.name), "%s", name);
}

/* Drops and names may be missing. */
static void note_loss(struct droptrace *t)
{
	t->lost_ns = now_ns();
	memset(t->names, 0, sizeof(t->names));
}

/* As perf_event_open(2) has them; the time is the last of all. */
struct record {
	struct perf_event_header header;
	uint32_t pid, id; /* `id` is the parent's of a process that begins, else the thread's */
	union {
		uint32_t tid; /* of a process that begins */
		char name[SOCKREAD_NAME];
	};
	uint8_t rest[24];
};

static void take_record(struct droptrace *t, struct ring *ring, const struct record *r)
{
	const int pid = (int)r->pid;
	uint64_t time_ns;

	memcpy(&time_ns, (const uint8_t *)r + r->header.size - sizeof(time_ns), sizeof(time_ns));
	switch (r->header.type) {
	case PERF_RECORD_SAMPLE:
		note_drop(t, pid, time_ns);
		break;
	case PERF_RECORD_COMM:
		if (r->pid == r->id)
			note_name(t, pid, time_ns, r->name);
		break;
	case PERF_RECORD_FORK:
		if (r->pid == r->tid)
			note_name(t, pid, time_ns, "");
		break;
	case PERF_RECORD_THROTTLE:
	case PERF_RECORD_UNTHROTTLE:
		ring->throttled = r->header.type == PERF_RECORD_THROTTLE;
		note_loss(t);
		break;
	case PERF_RECORD_LOST:
		note_loss(t);
		break;
	default:
		break;
	}
}

static void drain_ring(struct droptrace *t, struct ring *ring)
{
	const uint8_t *data = (const uint8_t *)ring->page + ring->page->data_offset;
	const uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
	uint64_t tail = ring->page->data_tail;

	/* That some were lost is written once there is room for it. */
	if (head - tail > RING_BYTES - sizeof(struct record))
		note_loss(t);
	while (tail < head) {
		struct record r = { .pid = 0 };

		/* Records are whole multiples of 8 bytes: the header is in one piece. */
		memcpy(&r.header, data + tail % RING_BYTES, sizeof(r.header));
		if (r.header.size < sizeof(r.header) + sizeof(uint64_t) ||
		    r.header.size > sizeof(r)) {
			note_loss(t); /* of no sort that was asked for */
			break;
		}
		for (size_t i = 0; i < r.header.size; i++)
			((uint8_t *)&r)[i] = data[(tail + i) % RING_BYTES];
		take_record(t, ring, &r);
		tail += r.header.size;
	}
	__atomic_store_n(&ring->page->data_tail, head, __ATOMIC_RELEASE);
}

int droptrace_open(struct droptrace **ret_trace)
{
	const long cpus = sysconf(_SC_NPROCESSORS_CONF);
	int id, reason, err = find_event(&id, &reason);
	struct droptrace *t;

	if (err)
		return err;
	if (cpus < 1 || cpus > MAX_CPUS)
		return -E2BIG;
	t = calloc(1, sizeof(*t) + (size_t)cpus * sizeof(t->rings[0]));
	if (!t)
		return -ENOMEM;
	for (long cpu = 0; !err && cpu < cpus; cpu++) {
		err = open_ring(&t->rings[t->rings_len], id, reason, (int)cpu);
		if (err == -ENODEV) { /* it is not there now */
			err = 0;
			continue;
		}
		t->rings_len++;
	}
	if (err) {
		droptrace_close(t);
		return err;
	}
	t->since_ns = now_ns();
	*ret_trace = t;
	return 0;
}

void droptrace_drain(struct droptrace *t)
{
	for (size_t i = 0; t && i < t->rings_len; i++)
		drain_ring(t, &t->rings[i]);
}

void droptrace_begin(struct droptrace *t)
{
	if (t)
		t->begun_ns = now_ns();
}

void droptrace_end(struct droptrace *t)
{
	if (t)
		t->since_ns = t->begun_ns;
}

static void find_name(struct droptrace *t, struct process *p)
{
	const struct named *one = find_named(t, p->pid);
	char path[32];
	int fd;

	if (one && *one->process.name) {
		*p = one->process;
		return;
	}
	/* From before the trace, or it has never called execve(2). */
	snprintf(path, sizeof(path), "/proc/%d", p->pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	sockread_name(fd, p->name);
	close(fd);
}

/* 0, 1 or 2 for more of them, or it is not known of how many. */
static int count_pids(struct droptrace *t, int *ret_pid)
{
	int found = 0;

	droptrace_drain(t);
	for (size_t i = 0; i < t->rings_len; i++)
		if (t->rings[i].throttled)
			return 2;
	if (t->lost_ns >= t->since_ns)
		return 2;
	for (size_t i = 0; i < MAX_PIDS && found < 2; i++) {
		if (t->drops[i].last_ns < t->since_ns)
			continue;
		/* 0: of a process that our namespace has no number for. */
		found += t->drops[i].pid > 0 ? 1 : 2;
		*ret_pid = t->drops[i].pid;
	}
	return found;
}

int droptrace_find(struct droptrace *t, struct process *ret_process)
{
	const struct timespec settle = { .tv_nsec = SETTLE_NS };
	struct process p = { .pid = 0 };

	if (!t || count_pids(t, &p.pid) > 1)
		return -ESRCH;
	nanosleep(&settle, NULL);
	if (count_pids(t, &p.pid) != 1)
		return -ESRCH;
	find_name(t, &p);
	if (!*p.name)
		return -ESRCH;
	*ret_process = p;
	return 0;
}

void droptrace_close(struct droptrace *t)
{
	for (size_t i = 0; t && i < t->rings_len; i++) {
		if (t->rings[i].page)
			munmap(t->rings[i].page, (size_t)sysconf(_SC_PAGESIZE) + RING_BYTES);
		if (t->rings[i].fd >= 0)
			close(t->rings[i].fd);
	}
	free(t);
}
