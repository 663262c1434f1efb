#include "fwsock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#define MAX_STALE	 100000 /* datagrams */
#define ANSWER_TIMEOUT_S 5 /* the kernel answers within the system call; more is a lost message */

static int set_options(struct fwsock *fs)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	const int fd = mnl_socket_get_fd(fs->nl);
	int one = 1, err;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0) {
		err = -errno;
		fwsock_close(fs);
		return err;
	}
	/* Better messages, shorter errors; kernels before 4.12 lack them and need not have them. */
	(void)mnl_socket_setsockopt(fs->nl, NETLINK_EXT_ACK, &one, sizeof(one));
	(void)mnl_socket_setsockopt(fs->nl, NETLINK_CAP_ACK, &one, sizeof(one));
	return 0;
}

int fwsock_open(struct fwsock *fs)
{
	int err;

	*fs = (struct fwsock){ .nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC) };
	if (!fs->nl)
		return -errno;
	if (mnl_socket_bind(fs->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		err = -errno;
		fwsock_close(fs);
		return err;
	}
	return set_options(fs);
}

/* What the process before left unread, the rest of a dump it was killed in too. */
static void drain(int fd)
{
	char byte;

	for (int i = 0; i < MAX_STALE; i++)
		if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    errno != ENOBUFS && errno != EINTR)
			break;
}

int fwsock_adopt(struct fwsock *fs, int fd)
{
	int protocol = -1;
	socklen_t len = sizeof(protocol);

	*fs = (struct fwsock){ 0 };
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) ||
	    protocol != NETLINK_NETFILTER) {
		close(fd);
		return -EPROTOTYPE;
	}
	fs->nl = mnl_socket_fdopen(fd);
	if (!fs->nl) {
		close(fd);
		return -EBADF;
	}
	drain(fd);
	return set_options(fs);
}

uint32_t fwsock_port(const struct fwsock *fs)
{
	return mnl_socket_get_portid(fs->nl);
}

uint64_t fwsock_netns(const struct fwsock *fs)
{
	uint64_t cookie = 0;
#ifdef SO_NETNS_COOKIE /* Linux 5.14 */
	socklen_t len = sizeof(cookie);

	if (getsockopt(mnl_socket_get_fd(fs->nl), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len))
		cookie = 0;
#else
	(void)fs;
#endif
	return cookie;
}

void fwsock_close(struct fwsock *fs)
{
	if (fs->nl)
		mnl_socket_close(fs->nl);
	*fs = (struct fwsock){ 0 };
}

struct nlmsghdr *fwsock_begin(struct fwsock *fs, void *buf, uint16_t type, uint8_t family,
			      uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++fs->seq;
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = 0;
	return nlh;
}

/* Whether the datagram ends an answer. */
static bool has_end(const char *buf, int len)
{
	const struct nlmsghdr *nlh = (const void *)buf;

	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len))
		if (nlh->nlmsg_type == NLMSG_DONE || nlh->nlmsg_type == NLMSG_ERROR)
			return true;
	return false;
}

/*
 * The rest of a dump that is given up: until it has been read the kernel starts
 * no other (EBUSY, __netlink_dump_start()).
 */
static void finish_dump(struct fwsock *fs, char buf[FWSOCK_BUF])
{
	for (int i = 0; i < MAX_STALE; i++) {
		const ssize_t len = mnl_socket_recvfrom(fs->nl, buf, FWSOCK_BUF);

		if ((len < 0 && errno != EINTR && errno != ENOBUFS) ||
		    (len >= 0 && has_end(buf, (int)len)))
			break;
	}
}

int fwsock_query(struct fwsock *fs, const struct nlmsghdr *request, mnl_cb_t cb, void *data)
{
	const uint32_t portid = mnl_socket_get_portid(fs->nl);
	_Alignas(struct nlmsghdr) char buf[FWSOCK_BUF];
	int ret = MNL_CB_OK;

	if (mnl_socket_sendto(fs->nl, request, request->nlmsg_len) < 0)
		return -errno;
	while (ret > MNL_CB_STOP) {
		const ssize_t len = mnl_socket_recvfrom(fs->nl, buf, sizeof(buf));

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		ret = mnl_cb_run(buf, (size_t)len, request->nlmsg_seq, portid, cb, data);
		if (ret < 0 && errno == EPROTO) {
			/* A stray answer to an earlier request that was given up: pass it by. */
			ret = MNL_CB_OK;
			continue;
		}
		if (ret < 0 && request->nlmsg_flags & NLM_F_DUMP && !has_end(buf, (int)len)) {
			const int err = -errno;

			finish_dump(fs, buf);
			return err;
		}
		/* A dump ends with NLMSG_DONE; anything else is answered by one message. */
		if (ret == MNL_CB_OK && !(request->nlmsg_flags & NLM_F_DUMP))
			break;
	}
	return ret < 0 ? -errno : 0;
}

const char *fwsock_strerror(int err)
{
	return err == -EPERM ? "not permitted, expected to run as root (CAP_NET_ADMIN)" :
			       strerror(-err);
}

static int read_generation(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_GEN_ID &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) == 0)
			*(uint32_t *)data = ntohl(mnl_attr_get_u32(attr));
	return MNL_CB_OK;
}

int fwsock_read_generation(struct fwsock *fs, uint32_t *ret_generation)
{
	_Alignas(struct nlmsghdr) char buf[256];
	uint32_t generation = 0;
	int err;

	err = fwsock_query(fs, fwsock_begin(fs, buf, NFT_MSG_GETGEN, NFPROTO_UNSPEC, 0),
			   read_generation, &generation);
	if (err)
		return err;
	if (!generation)
		return -EBADMSG;
	*ret_generation = generation;
	return 0;
}
