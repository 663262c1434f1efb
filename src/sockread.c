#include "sockread.h"

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

#define MAX_PROCESSES 65536
#define MAX_FILES     (1 << 20) /* of all of them: a second or two */

/* --- sockets --- */

struct search {
	sockread_socket_fn *found;
	void *ctx;
	uint8_t proto;
};

/* By way of text, since an IPv4 address may be mapped into IPv6. */
static bool take_addr(uint8_t family, const void *bytes, struct addr *to)
{
	char text[INET6_ADDRSTRLEN];

	return inet_ntop(family, bytes, text, sizeof(text)) && !addr_parse(text, to);
}

static int take_socket(const struct nlmsghdr *nlh, void *data)
{
	const struct search *search = data;
	struct sockread_socket s = { .proto = search->proto };
	struct inet_diag_msg msg;
	const uint8_t *v6only;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(msg))
		return MNL_CB_OK;
	memcpy(&msg, mnl_nlmsg_get_payload(nlh), sizeof(msg));
	if (!take_addr(msg.idiag_family, msg.id.idiag_src, &s.source) ||
	    !take_addr(msg.idiag_family, msg.id.idiag_dst, &s.dest))
		return MNL_CB_OK;
	s.family = msg.idiag_family;
	s.state = msg.idiag_state;
	v6only = ask_attr(nlh, sizeof(msg), INET_DIAG_SKV6ONLY, sizeof(*v6only));
	s.v6only = v6only && *v6only;
	s.source_port = ntohs(msg.id.idiag_sport);
	s.dest_port = ntohs(msg.id.idiag_dport);
	s.uid = msg.idiag_uid;
	s.inode = msg.idiag_inode;
	search->found(search->ctx, &s);
	return MNL_CB_OK;
}

int sockread_sockets(const struct sockread_query *query, sockread_socket_fn *found, void *ctx)
{
	struct search search = { found, ctx, query->proto };
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *request = mnl_nlmsg_put_extra_header(nlh, sizeof(*request));

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request->sdiag_family = query->family;
	request->sdiag_protocol = query->proto;
	request->idiag_states = query->states;
	request->id.idiag_sport = htons(query->source_port);
	return ask_kernel(NETLINK_SOCK_DIAG, nlh, take_socket, &search);
}

struct connections {
	sockread_found_fn *found;
	void *ctx;
};

static void take_connection(void *ctx, const struct sockread_socket *s)
{
	const struct connections *to = ctx;
	const struct connection c = { s->dest, s->dest_port, s->proto, s->inode };

	to->found(to->ctx, &c);
}

int sockread_connections(sockread_found_fn *found, void *ctx)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP };
	struct connections to = { found, ctx };
	int err = 0;

	for (size_t i = 0; i < 4; i++) {
		const struct sockread_query query = {
			.family = families[i / 2],
			.proto = protos[i % 2],
			.states = 1U << TCP_ESTABLISHED, /* connected, of UDP */
		};
		const int e = sockread_sockets(&query, take_connection, &to);

		/* ENOENT: a protocol whose part is not in the kernel. */
		err = err ? err : e == -ENOENT ? 0 : e;
	}
	return err;
}

/* --- processes --- */

void sockread_name(int pid_fd, char ret_name[SOCKREAD_NAME])
{
	const int fd = openat(pid_fd, "comm", O_RDONLY | O_CLOEXEC);
	const ssize_t len = fd < 0 ? -1 : read(fd, ret_name, SOCKREAD_NAME - 1);

	ret_name[len < 0 ? 0 : len] = '\0';
	ret_name[strcspn(ret_name, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

/* One that is looked into. */
struct look {
	const struct sockread_holder *holder;
	struct process p;
	int pid_fd, files_fd;
	int *files_left;
};

/* Read only where it is asked for: most processes have nothing that is. */
static const struct process *name_process(struct look *l)
{
	if (!*l->p.name)
		sockread_name(l->pid_fd, l->p.name);
	return &l->p;
}

/* Another namespace's links have the same names. */
static bool is_here(int pid_fd)
{
	char here[64], there[64];
	const ssize_t len = readlink("/proc/self/ns/net", here, sizeof(here));

	return len > 0 && readlinkat(pid_fd, "ns/net", there, sizeof(there)) == len &&
	       !memcmp(here, there, (size_t)len);
}

/* "iff:" and the link of a file of drivers/net/tun.c (tun_chr_show_fdinfo()). */
static void take_device(struct look *l, const char *file)
{
	char path[64], text[1024], link[IFNAMSIZ] = "", *at;
	ssize_t len = -1;
	int fd;

	snprintf(path, sizeof(path), "fdinfo/%.32s", file);
	fd = openat(l->pid_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (len < 0)
		return;
	text[len] = '\0';
	at = strstr(text, "\niff:\t");
	if (!at)
		return;
	at += strlen("\niff:\t");
	at[strcspn(at, "\n")] = '\0';
	strncpy(link, at, sizeof(link) - 1);
	l->holder->device(l->holder->ctx, name_process(l), link);
}

static void take_file(struct look *l, const char *file)
{
	static const char socket[] = "socket:[";
	const struct sockread_holder *holder = l->holder;
	char target[64];
	const ssize_t len = readlinkat(l->files_fd, file, target, sizeof(target) - 1);

	if (len < 0)
		return;
	target[len] = '\0';
	if (!strncmp(target, socket, sizeof(socket) - 1)) {
		const uint32_t inode = (uint32_t)strtoul(target + sizeof(socket) - 1, NULL, 10);

		if (holder->wanted(holder->ctx, inode))
			holder->socket(holder->ctx, name_process(l), inode);
	} else if (holder->device &&
		   (!strcmp(target, "/dev/net/tun") || !strcmp(target, "/dev/tun")) &&
		   is_here(l->pid_fd)) {
		take_device(l, file);
	}
}

static void take_files(struct look *l)
{
	DIR *const dir = fdopendir(l->files_fd);
	const struct dirent *entry;

	if (!dir) {
		close(l->files_fd);
		return;
	}
	while (*l->files_left > 0 && (entry = readdir(dir))) {
		(*l->files_left)--;
		if (isdigit((unsigned char)*entry->d_name))
			take_file(l, entry->d_name);
	}
	closedir(dir);
}

static int take_process(const struct sockread_holder *holder, int proc_fd, int pid, int *files_left)
{
	struct look l = { .holder = holder, .p = { .pid = pid }, .files_left = files_left };
	char path[16];
	int err = 0;

	snprintf(path, sizeof(path), "%d", pid);
	l.pid_fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l.pid_fd < 0)
		return 0; /* it has ended */
	l.files_fd = openat(l.pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l.files_fd >= 0)
		take_files(&l);
	else if (errno == EACCES || errno == EPERM)
		err = -EACCES;
	close(l.pid_fd);
	return err;
}

static int compare_pids(const void *a, const void *b)
{
	const int x = *(const int *)a, y = *(const int *)b;

	return (x < y) - (x > y);
}

/* The youngest first.  How many; MAX_PROCESSES + 1 where there are more. */
static size_t list_pids(DIR *proc, int pids[MAX_PROCESSES])
{
	const struct dirent *entry;
	size_t n = 0;

	while (n <= MAX_PROCESSES && (entry = readdir(proc)))
		if (isdigit((unsigned char)*entry->d_name)) {
			if (n < MAX_PROCESSES)
				pids[n] = atoi(entry->d_name);
			n++;
		}
	qsort(pids, n < MAX_PROCESSES ? n : MAX_PROCESSES, sizeof(*pids), compare_pids);
	return n;
}

int sockread_processes(const struct sockread_holder *holder)
{
	int *const pids = calloc(MAX_PROCESSES, sizeof(*pids));
	int files_left = MAX_FILES, err = 0;
	DIR *proc;
	size_t n;

	if (!pids)
		return -ENOMEM;
	proc = opendir("/proc");
	if (!proc) {
		err = -errno;
		free(pids);
		return err;
	}
	n = list_pids(proc, pids);
	for (size_t i = 0; i < n && i < MAX_PROCESSES && files_left > 0; i++)
		if (take_process(holder, dirfd(proc), pids[i], &files_left))
			err = -EACCES;
	closedir(proc);
	free(pids);
	return files_left > 0 && n <= MAX_PROCESSES ? err : -E2BIG;
}
