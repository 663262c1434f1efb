#include "ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define ANSWER_TIMEOUT_S 2     /* the kernel answers at once */
#define ANSWER_BUF	 65536 /* a dump's largest datagram is 32 KiB (net/netlink/af_netlink.c) */

int ask_open(struct ask *ret_ask, int bus)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	/* Not on the stack: that it cannot grow ends a process, and this does not. */
	struct ask a = { .buf = malloc(ANSWER_BUF) };
	int err;

	if (!a.buf)
		return -ENOMEM;
	a.nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (!a.nl ||
	    setsockopt(mnl_socket_get_fd(a.nl), SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof(timeout)) ||
	    mnl_socket_bind(a.nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
		ask_close(&a);
		return err;
	}
	*ret_ask = a;
	return 0;
}

void ask_close(struct ask *a)
{
	if (a->buf)
		explicit_bzero(a->buf, a->most); /* WireGuard tells its keys, too */
	free(a->buf);
	if (a->nl)
		mnl_socket_close(a->nl);
	*a = (struct ask){ 0 };
}

/* 0 or -errno; a message that is too short for one says nothing. */
static int read_errno(const struct nlmsghdr *nlh)
{
	int err = 0;

	if (mnl_nlmsg_get_payload_len(nlh) >= sizeof(err))
		memcpy(&err, mnl_nlmsg_get_payload(nlh), sizeof(err));
	return err < 0 ? err : 0;
}

static bool is_last(const struct nlmsghdr *nlh)
{
	return nlh->nlmsg_type == NLMSG_DONE || nlh->nlmsg_type == NLMSG_ERROR;
}

/* *over becomes true where the callback wants no more. */
static int take(const struct nlmsghdr *nlh, mnl_cb_t cb, void *data, bool *over)
{
	int ret = MNL_CB_OK;

	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		return -EINTR;
	if (is_last(nlh))
		return read_errno(nlh);
	if (nlh->nlmsg_type >= NLMSG_MIN_TYPE)
		ret = cb(nlh, data);
	*over |= ret == MNL_CB_STOP;
	return ret < 0 ? -errno : 0;
}

/*
 * Not by mnl_cb_run(3), which leaves a dump that was disturbed unread, and does
 * not read what its last message says: that it failed on its way.
 */
int ask_one(struct ask *a, struct nlmsghdr *request, mnl_cb_t cb, void *data)
{
	bool over = false;
	int err = 0;

	request->nlmsg_seq = ++a->seq;
	a->answered = false;
	if (mnl_socket_sendto(a->nl, request, request->nlmsg_len) < 0)
		return -errno;
	while (!over) {
		const ssize_t got = mnl_socket_recvfrom(a->nl, a->buf, ANSWER_BUF);
		const struct nlmsghdr *nlh = (const void *)a->buf;
		int len = (int)got;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got ? -errno : -EIO;
		a->most = (size_t)got > a->most ? (size_t)got : a->most;
		for (; !over && mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
			if (!mnl_nlmsg_seq_ok(nlh, a->seq))
				continue;
			a->answered = true;
			over = !(request->nlmsg_flags & NLM_F_DUMP) || is_last(nlh);
			/* The rest of what has failed is read, and not used. */
			if (!err)
				err = take(nlh, cb, data, &over);
		}
	}
	return err;
}

int ask_kernel(int bus, struct nlmsghdr *request, mnl_cb_t cb, void *data)
{
	struct ask a = { .nl = NULL };
	int err = ask_open(&a, bus);

	if (a.nl)
		err = ask_one(&a, request, cb, data);
	ask_close(&a);
	return err;
}

const void *ask_attr(const struct nlmsghdr *nlh, size_t header, uint16_t type, size_t len)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, (unsigned int)header)
		if (mnl_attr_get_type(attr) == type)
			return mnl_attr_get_payload_len(attr) >= len ? mnl_attr_get_payload(attr) :
								       NULL;
	return NULL;
}
