#include "ask.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define ANSWER_TIMEOUT_S 2     /* the kernel answers at once */
#define ANSWER_BUF	 65536 /* a dump's largest datagram is 32 KiB (net/netlink/af_netlink.c) */

int ask_kernel(int bus, struct nlmsghdr *request, mnl_cb_t cb, void *data)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	_Alignas(struct nlmsghdr) char buf[ANSWER_BUF];
	int ret = MNL_CB_OK;

	if (!nl)
		return -errno;
	request->nlmsg_seq = 1;
	if (setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
	    mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(nl, request, request->nlmsg_len) < 0)
		ret = -1;
	while (ret > MNL_CB_STOP) {
		const ssize_t len = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		if (len < 0 && errno == EINTR)
			continue;
		ret = len < 0 ? -1 :
				mnl_cb_run(buf, (size_t)len, request->nlmsg_seq,
					   mnl_socket_get_portid(nl), cb, data);
		if (ret == MNL_CB_OK && !(request->nlmsg_flags & NLM_F_DUMP))
			break; /* one message */
	}
	ret = ret < 0 ? -errno : 0;
	explicit_bzero(buf, sizeof(buf)); /* WireGuard tells its keys, too */
	mnl_socket_close(nl);
	return ret;
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
