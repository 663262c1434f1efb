/*
 * lack.so - a kernel that lacks parts of nf_tables, made from one that has them
 *
 * Preloaded, it renames in every message to the kernel the expressions that
 * the environment variable LACK lists ("tproxy,ct"): the kernel itself then
 * answers what it answers to a name it does not know.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* NFTA_EXPR_NAME: a netlink attribute of length 4 + name + NUL, type 1. */
static void rename_all(char *buf, size_t len, const char *name, size_t name_len)
{
	for (size_t i = 0; i + 4 + name_len + 1 <= len; i += 4) {
		unsigned short attr_len, type;

		memcpy(&attr_len, buf + i, sizeof(attr_len));
		memcpy(&type, buf + i + 2, sizeof(type));
		if (attr_len == 4 + name_len + 1 && type == 1 &&
		    !memcmp(buf + i + 4, name, name_len) && !buf[i + 4 + name_len])
			buf[i + 4] = '?';
	}
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	static ssize_t (*real)(int, const struct msghdr *, int);
	const char *lack = getenv("LACK");

	if (!real)
		real = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	while (lack && *lack) {
		const size_t n = strcspn(lack, ",");

		for (size_t i = 0; i < msg->msg_iovlen; i++)
			rename_all(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len, lack, n);
		lack += n + (lack[n] == ',');
	}
	return real(fd, msg, flags);
}
