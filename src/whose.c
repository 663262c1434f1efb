#include "whose.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>

#include "ask.h"

#define MAX_SAME      8		/* of one packet: SO_REUSEPORT */
#define MAX_PROCESSES 65536	/* looked through, the youngest first */
#define MAX_FILES     (1 << 20) /* of all of them: a second or two */

/* --- which socket --- */

/* How well a socket fits: one that is connected to where the packet went before all others. */
enum fit { FIT_NONE, FIT_ANY_DEST, FIT_DEST };

struct search {
	const struct blocked *b;
	enum fit best;
	uint32_t inodes[MAX_SAME];
	size_t inodes_len;
	bool too_many;
};

static bool is_any(const struct addr *a)
{
	static const uint8_t zeros[16];

	return !memcmp(a->bytes, zeros, sizeof(zeros));
}

/* By way of text, since an IPv4 address may be mapped into IPv6. */
static bool take_addr(uint8_t family, const void *bytes, struct addr *to)
{
	char text[INET6_ADDRSTRLEN];

	return inet_ntop(family, bytes, text, sizeof(text)) && !addr_parse(text, to);
}

/* A socket for any IPv6 address takes IPv4 as well, unless it was told not to. */
static bool is_v6only(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct inet_diag_msg))
		if (mnl_attr_get_type(attr) == INET_DIAG_SKV6ONLY &&
		    !mnl_attr_validate(attr, MNL_TYPE_U8))
			return mnl_attr_get_u8(attr);
	return false;
}

static enum fit judge(const struct search *s, const struct nlmsghdr *nlh,
		      const struct inet_diag_msg *msg)
{
	const struct blocked *b = s->b;
	struct addr source, dest;

	if (!msg->idiag_inode || msg->idiag_state == TCP_LISTEN ||
	    ntohs(msg->id.idiag_sport) != b->source_port ||
	    !take_addr(msg->idiag_family, msg->id.idiag_src, &source) ||
	    !take_addr(msg->idiag_family, msg->id.idiag_dst, &dest) ||
	    (b->has_uid && msg->idiag_uid != b->uid))
		return FIT_NONE;
	if (is_any(&source) ? msg->idiag_family != b->source.family && is_v6only(nlh) :
			      addr_cmp(&source, &b->source) != 0)
		return FIT_NONE;
	if (is_any(&dest) && !msg->id.idiag_dport)
		return b->proto == IPPROTO_UDP ? FIT_ANY_DEST : FIT_NONE;
	return !addr_cmp(&dest, &b->dest) && ntohs(msg->id.idiag_dport) == b->dest_port ? FIT_DEST :
											  FIT_NONE;
}

static int take_socket(const struct nlmsghdr *nlh, void *data)
{
	struct search *s = data;
	struct inet_diag_msg msg;
	enum fit fit;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(msg))
		return MNL_CB_OK;
	memcpy(&msg, mnl_nlmsg_get_payload(nlh), sizeof(msg));
	fit = judge(s, nlh, &msg);
	if (fit == FIT_NONE || fit < s->best)
		return MNL_CB_OK;
	if (fit > s->best) {
		s->best = fit;
		s->inodes_len = 0;
		s->too_many = false;
	}
	if (s->inodes_len < MAX_SAME)
		s->inodes[s->inodes_len++] = msg.idiag_inode;
	else
		s->too_many = true;
	return MNL_CB_OK;
}

static void ask_sockets(struct search *s, uint8_t family)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(nlh, sizeof(*request));

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->sdiag_family = family;
	request->sdiag_protocol = s->b->proto;
	request->idiag_states = ~0U;
	request->id.idiag_sport = htons(s->b->source_port);
	/* Where the kernel cannot say, nothing was found. */
	(void)ask_kernel(NETLINK_SOCK_DIAG, nlh, take_socket, s);
}

static void find_sockets(struct search *s)
{
	const struct blocked *b = s->b;

	if (!b->has_ports || (b->proto != IPPROTO_UDP && b->proto != IPPROTO_TCP))
		return;
	if (b->source.family == AF_INET)
		ask_sockets(s, AF_INET);
	ask_sockets(s, AF_INET6);
	if (s->too_many)
		s->inodes_len = 0;
}

/* --- which process --- */

struct wanted {
	uint32_t inode;
	bool found, mixed, several; /* holders of different names; more than one */
	char program[BLOCKED_PROGRAM];
	int pid;
};

struct hunt {
	struct wanted wanted[(WHOSE_AT_ONCE * MAX_SAME)];
	size_t len;
	int files_left;
};

static bool read_name(int pid_fd, char name[BLOCKED_PROGRAM])
{
	const int fd = openat(pid_fd, "comm", O_RDONLY | O_CLOEXEC);
	const ssize_t len = fd < 0 ? -1 : read(fd, name, BLOCKED_PROGRAM - 1);

	if (fd >= 0)
		close(fd);
	if (len <= 0)
		return false;
	name[len] = '\0';
	name[strcspn(name, "\n")] = '\0';
	return *name;
}

/* The inode of the socket that this file of a process is, or 0. */
static uint32_t socket_of(int files_fd, const char *file)
{
	static const char socket[] = "socket:[";
	char target[64];
	const ssize_t len = readlinkat(files_fd, file, target, sizeof(target) - 1);

	if (len < 0)
		return 0;
	target[len] = '\0';
	if (strncmp(target, socket, sizeof(socket) - 1) != 0)
		return 0;
	return (uint32_t)strtoul(target + sizeof(socket) - 1, NULL, 10);
}

static void take_file(struct hunt *h, int pid_fd, int pid, uint32_t inode)
{
	for (size_t i = 0; i < h->len; i++) {
		struct wanted *want = &h->wanted[i];
		char name[BLOCKED_PROGRAM];

		if (want->inode != inode || want->pid == pid || !read_name(pid_fd, name))
			continue;
		want->several |= want->found;
		want->mixed |= want->found && strcmp(want->program, name) != 0;
		want->found = true;
		want->pid = pid;
		strcpy(want->program, name);
		return;
	}
}

static void look_into(struct hunt *h, int proc_fd, int pid)
{
	char path[16];
	const struct dirent *entry;
	int pid_fd, fd;
	DIR *dir;

	snprintf(path, sizeof(path), "%d", pid);
	pid_fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = pid_fd < 0 ? -1 : openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	while (dir && h->files_left > 0 && (entry = readdir(dir))) {
		const uint32_t inode = socket_of(fd, entry->d_name);

		h->files_left--;
		if (inode)
			take_file(h, pid_fd, pid, inode);
	}
	if (dir)
		closedir(dir);
	if (pid_fd >= 0)
		close(pid_fd);
}

static int compare_pids(const void *a, const void *b)
{
	const int x = *(const int *)a, y = *(const int *)b;

	return (x < y) - (x > y);
}

/* The youngest first: it may end soonest. */
static void walk(struct hunt *h)
{
	DIR *const proc = opendir("/proc");
	int *const pids = calloc(MAX_PROCESSES, sizeof(*pids));
	const struct dirent *entry;
	size_t n = 0;

	while (proc && pids && n < MAX_PROCESSES && (entry = readdir(proc)))
		if (isdigit((unsigned char)*entry->d_name))
			pids[n++] = atoi(entry->d_name);
	if (n == MAX_PROCESSES)
		h->files_left = 0; /* not all of them: nothing would be certain */
	if (pids)
		qsort(pids, n, sizeof(*pids), compare_pids);
	for (size_t i = 0; i < n && h->files_left > 0; i++)
		look_into(h, dirfd(proc), pids[i]);
	free(pids);
	if (proc)
		closedir(proc);
}

static void want_inode(struct hunt *h, uint32_t inode)
{
	for (size_t i = 0; i < h->len; i++)
		if (h->wanted[i].inode == inode)
			return;
	h->wanted[h->len++] = (struct wanted){ .inode = inode };
}

/* All sockets that could have sent it are of one program, or nothing is said. */
static void settle(const struct hunt *h, const struct search *s, struct blocked *b)
{
	const struct wanted *first = NULL;
	bool several = false;

	for (size_t k = 0; k < s->inodes_len; k++)
		for (size_t i = 0; i < h->len; i++) {
			const struct wanted *one = &h->wanted[i];

			if (one->inode != s->inodes[k])
				continue;
			if (!one->found || one->mixed ||
			    (first && strcmp(first->program, one->program) != 0))
				return;
			several |= one->several || (first && first->pid != one->pid);
			first = one;
		}
	if (!first)
		return;
	memcpy(b->program, first->program, sizeof(b->program));
	b->pid = several ? 0 : first->pid;
}

void whose_find(struct blocked *blocked, size_t n)
{
	struct search searches[WHOSE_AT_ONCE];
	struct hunt h = { .files_left = MAX_FILES };

	for (size_t i = 0; i < n && i < WHOSE_AT_ONCE; i++) {
		struct search *s = &searches[i];

		*s = (struct search){ .b = &blocked[i] };
		if (!blocked_is_forwarded(&blocked[i]))
			find_sockets(s);
		for (size_t k = 0; k < s->inodes_len; k++)
			want_inode(&h, s->inodes[k]);
	}
	/* An incomplete walk may have missed another process with the socket. */
	if (h.len)
		walk(&h);
	for (size_t i = 0; i < n && i < WHOSE_AT_ONCE && h.files_left > 0; i++)
		settle(&h, &searches[i], &blocked[i]);
}
