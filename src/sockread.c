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

#define MAX_FILES (1 << 20) /* a second or two */

struct search {
	sockread_found_fn *found;
	void *ctx;
	uint8_t proto;
};

static int take_socket(const struct nlmsghdr *nlh, void *data)
{
	const struct search *s = data;
	struct connection c = { .proto = s->proto };
	char text[INET6_ADDRSTRLEN];
	struct inet_diag_msg msg;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(msg))
		return MNL_CB_OK;
	memcpy(&msg, mnl_nlmsg_get_payload(nlh), sizeof(msg));
	c.port = ntohs(msg.id.idiag_dport);
	c.inode = msg.idiag_inode;
	/* By way of text, since an IPv4 address may be mapped into IPv6. */
	if (inet_ntop(msg.idiag_family, msg.id.idiag_dst, text, sizeof(text)) &&
	    !addr_parse(text, &c.addr))
		s->found(s->ctx, &c);
	return MNL_CB_OK;
}

int sockread_connections(sockread_found_fn *found, void *ctx)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP };
	_Alignas(struct nlmsghdr) char buf[256];
	int err = 0;

	for (size_t i = 0; i < 4; i++) {
		struct search s = { found, ctx, protos[i % 2] };
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		struct inet_diag_req_v2 *request =
			mnl_nlmsg_put_extra_header(nlh, sizeof(*request));
		int e;

		nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		request->sdiag_family = families[i / 2];
		request->sdiag_protocol = s.proto;
		request->idiag_states = 1U << TCP_ESTABLISHED; /* connected, of UDP */
		e = ask_kernel(NETLINK_SOCK_DIAG, nlh, take_socket, &s);
		/* ENOENT: a protocol whose part is not in the kernel. */
		err = err ? err : e == -ENOENT ? 0 : e;
	}
	return err;
}

/* --- processes --- */

static void read_name(int pid_fd, struct process *p)
{
	const int fd = openat(pid_fd, "comm", O_RDONLY | O_CLOEXEC);
	const ssize_t len = fd < 0 ? -1 : read(fd, p->name, sizeof(p->name) - 1);

	p->name[len < 0 ? 0 : len] = '\0';
	p->name[strcspn(p->name, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
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
static void take_device(const struct sockread_holder *holder, int pid_fd, const struct process *p,
			const char *file)
{
	char path[64], text[1024], link[IFNAMSIZ] = "", *at;
	ssize_t len = -1;
	int fd;

	snprintf(path, sizeof(path), "fdinfo/%.32s", file);
	fd = openat(pid_fd, path, O_RDONLY | O_CLOEXEC);
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
	holder->device(holder->ctx, p, link);
}

static void take_file(const struct sockread_holder *holder, int pid_fd, int files_fd,
		      const struct process *p, const char *file)
{
	static const char socket[] = "socket:[";
	char target[64];
	const ssize_t len = readlinkat(files_fd, file, target, sizeof(target) - 1);

	if (len < 0)
		return;
	target[len] = '\0';
	if (!strncmp(target, socket, sizeof(socket) - 1))
		holder->socket(holder->ctx, p,
			       (uint32_t)strtoul(target + sizeof(socket) - 1, NULL, 10));
	else if ((!strcmp(target, "/dev/net/tun") || !strcmp(target, "/dev/tun")) &&
		 is_here(pid_fd))
		take_device(holder, pid_fd, p, file);
}

static int take_process(const struct sockread_holder *holder, int proc_fd, const char *name,
			int *files_left)
{
	struct process p = { .pid = atoi(name) };
	const int pid_fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const int fd = pid_fd < 0 ? -1 : openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *const dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int err = fd < 0 && (errno == EACCES || errno == EPERM) ? -EACCES : 0;

	if (dir) {
		read_name(pid_fd, &p);
		while (*files_left > 0 && (entry = readdir(dir))) {
			(*files_left)--;
			if (isdigit((unsigned char)*entry->d_name))
				take_file(holder, pid_fd, fd, &p, entry->d_name);
		}
		closedir(dir);
	} else if (fd >= 0) {
		close(fd);
	}
	if (pid_fd >= 0)
		close(pid_fd);
	return err;
}

int sockread_processes(const struct sockread_holder *holder)
{
	DIR *const proc = opendir("/proc");
	const struct dirent *entry;
	int files_left = MAX_FILES, err = 0;

	if (!proc)
		return -errno;
	while (files_left > 0 && (entry = readdir(proc)))
		if (isdigit((unsigned char)*entry->d_name) &&
		    take_process(holder, dirfd(proc), entry->d_name, &files_left))
			err = -EACCES;
	closedir(proc);
	return files_left > 0 ? err : -E2BIG;
}
