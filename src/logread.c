#include "logread.h"

#include <errno.h>

#ifdef HAVE_LIBNETFILTER_LOG
#include <arpa/inet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include <libmnl/libmnl.h>
#include <libnetfilter_log/libnetfilter_log.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_log.h>

#include "packet.h"

#define RECV_BUF	 65536
#define RCVBUF_BYTES	 (1 << 20) /* what may wait, and all that a flood can take */
#define MESSAGE_ROOM	 256
#define ANSWER_TIMEOUT_S 2
#define ETHERNET_LEN	 14

struct reading {
	struct logread *lr;
	struct blocked *to;
	size_t len, room;
};

/* --- a message --- */

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Of the index in this attribute; "" where there is none, or the link has gone. */
static void take_link(const struct logread *lr, const struct nlattr *attr, char name[IFNAMSIZ])
{
	struct ifreq request = { 0 };

	if (!attr || *name)
		return;
	request.ifr_ifindex = (int)ntohl(mnl_attr_get_u32(attr));
	if (request.ifr_ifindex && !ioctl(logread_fd(lr), SIOCGIFNAME, &request))
		memcpy(name, request.ifr_name, IFNAMSIZ);
}

/* At a link's way out the bytes begin as the link's frames do. */
static uint16_t frame_type(const struct logread *lr, const struct blocked *b, uint16_t protocol,
			   struct ifreq *ret_link)
{
	*ret_link = (struct ifreq){ 0 };
	memcpy(ret_link->ifr_name, b->link, IFNAMSIZ);
	return !ioctl(logread_fd(lr), SIOCGIFHWADDR, ret_link) &&
			       ret_link->ifr_hwaddr.sa_family == ARPHRD_ETHER ?
		       PACKET_ETHERNET :
		       protocol;
}

/*
 * A frame without a socket that has not this link's own address is somebody
 * else's.  With one it is a macvlan guest's, an ipvlan guest's with the link's
 * own, or a packet socket's, which may write what it likes.
 */
static void take_frame_source(struct blocked *b, const uint8_t *frame, size_t len,
			      const struct ifreq *link)
{
	if (b->has_mac || len < ETHERNET_LEN)
		return;
	b->has_frame_mac = b->has_uid;
	b->has_mac = !b->has_uid && memcmp(frame + MAC_LEN, link->ifr_hwaddr.sa_data, MAC_LEN) != 0;
	memcpy(b->mac, frame + MAC_LEN, MAC_LEN);
}

static void take_payload(const struct logread *lr, struct blocked *b, uint8_t family,
			 struct nlattr **attrs)
{
	const struct nfulnl_msg_packet_hdr *header = mnl_attr_get_payload(attrs[NFULA_PACKET_HDR]);
	const uint8_t *data = mnl_attr_get_payload(attrs[NFULA_PAYLOAD]);
	const size_t len = mnl_attr_get_payload_len(attrs[NFULA_PAYLOAD]);
	uint16_t type = ntohs(header->hw_protocol);
	struct ifreq link;

	if (family == NFPROTO_IPV4)
		type = PACKET_IPV4;
	else if (family == NFPROTO_IPV6)
		type = PACKET_IPV6;
	else if (family == NFPROTO_NETDEV)
		type = frame_type(lr, b, type, &link);
	if (family == NFPROTO_NETDEV && type == PACKET_ETHERNET)
		take_frame_source(b, data, len, &link);
	blocked_take_packet(b, data, len, type);
}

static void take_sender(struct blocked *b, struct nlattr **attrs)
{
	const struct nfulnl_msg_packet_hw *hw;

	if (attrs[NFULA_UID]) {
		b->has_uid = true;
		b->uid = ntohl(mnl_attr_get_u32(attrs[NFULA_UID]));
	}
	if (!attrs[NFULA_HWADDR] || !attrs[NFULA_IFINDEX_INDEV])
		return;
	hw = mnl_attr_get_payload(attrs[NFULA_HWADDR]);
	b->has_mac = ntohs(hw->hw_addrlen) == MAC_LEN;
	if (b->has_mac)
		memcpy(b->mac, hw->hw_addr, MAC_LEN);
}

/* The kernel's numbers are without a gap; a reader that was too slow sees one. */
static void count_lost(struct logread *lr, const struct nlattr *attr)
{
	const uint32_t seq = attr ? ntohl(mnl_attr_get_u32(attr)) : lr->seq + 1;

	if (lr->has_seq)
		lr->lost += seq - lr->seq - 1;
	lr->has_seq = true;
	lr->seq = seq;
}

static int take_message(const struct nlmsghdr *nlh, void *data)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	struct nlattr *attrs[NFULA_MAX + 1] = { NULL };
	struct reading *r = data;
	struct blocked *b = &r->to[r->len];
	unsigned int promise;

	if (nlh->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) ||
	    nflog_nlmsg_parse(nlh, attrs) < 0 || ntohs(nfg->res_id) != r->lr->group)
		return MNL_CB_OK;
	count_lost(r->lr, attrs[NFULA_SEQ]);
	/* fwexpr.c writes it. */
	if (!attrs[NFULA_PREFIX] || !attrs[NFULA_PACKET_HDR] ||
	    sscanf(mnl_attr_get_str(attrs[NFULA_PREFIX]), "leakguard S%3u", &promise) != 1)
		return MNL_CB_OK;
	if (r->len == r->room) {
		r->lr->lost++;
		return MNL_CB_OK;
	}
	*b = (struct blocked){ .time_ms = now_ms(), .promise = promise };
	/* A bridge's port is where the frame leaves; behind IP's routing it is the bridge. */
	if (nfg->nfgen_family == NFPROTO_BRIDGE) {
		take_link(r->lr, attrs[NFULA_IFINDEX_PHYSOUTDEV], b->link);
		take_link(r->lr, attrs[NFULA_IFINDEX_PHYSINDEV], b->in_link);
	}
	take_link(r->lr, attrs[NFULA_IFINDEX_OUTDEV], b->link);
	take_link(r->lr, attrs[NFULA_IFINDEX_INDEV], b->in_link);
	take_sender(b, attrs);
	if (attrs[NFULA_PAYLOAD])
		take_payload(r->lr, b, nfg->nfgen_family, attrs);
	r->len++;
	return MNL_CB_OK;
}

/* --- the socket --- */

/* The kernel's answer to the one request. */
static int read_answer(struct logread *lr, uint32_t seq)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	_Alignas(struct nlmsghdr) char buf[RECV_BUF];

	if (setsockopt(logread_fd(lr), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		return -errno;
	for (;;) {
		const ssize_t len = mnl_socket_recvfrom(lr->nl, buf, sizeof(buf));
		const struct nlmsghdr *nlh = (const void *)buf;

		if (len < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (len < 0)
			return -errno;
		/* What is logged from the first moment on may come before it: not shown, but counted. */
		if (!mnl_nlmsg_ok(nlh, (int)len) || nlh->nlmsg_type != NLMSG_ERROR)
			continue;
		return mnl_cb_run(buf, (size_t)len, seq, mnl_socket_get_portid(lr->nl), NULL,
				  NULL) < 0 ?
			       -errno :
			       0;
	}
}

static int bind_group(struct logread *lr)
{
	_Alignas(struct nlmsghdr) char buf[MESSAGE_ROOM];
	struct nlmsghdr *nlh = nflog_nlmsg_put_header(buf, NFULNL_MSG_CONFIG, AF_UNSPEC, lr->group);

	nlh->nlmsg_flags |= NLM_F_ACK;
	nlh->nlmsg_seq = 1;
	if (nflog_attr_put_cfg_cmd(nlh, NFULNL_CFG_CMD_BIND) < 0 ||
	    nflog_attr_put_cfg_mode(nlh, NFULNL_COPY_PACKET, BLOCKED_COPY) < 0)
		return -errno;
	mnl_attr_put_u16(nlh, NFULA_CFG_FLAGS, htons(NFULNL_CFG_F_SEQ));
	/* At once, one by one: a process may soon be gone. */
	mnl_attr_put_u32(nlh, NFULA_CFG_QTHRESH, htonl(1));
	if (mnl_socket_sendto(lr->nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	return read_answer(lr, 1);
}

int logread_open(struct logread *lr, uint16_t group)
{
	const int room = RCVBUF_BYTES;
	int err;

	*lr = (struct logread){ .group = group };
	lr->nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!lr->nl)
		return errno == EPROTONOSUPPORT ? -ENOTSUP : -errno;
	if (mnl_socket_bind(lr->nl, 0, MNL_SOCKET_AUTOPID) < 0)
		err = -errno;
	else
		err = bind_group(lr);
	if (!err && setsockopt(logread_fd(lr), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) &&
	    setsockopt(logread_fd(lr), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)))
		err = -errno;
	if (!err)
		return 0;
	logread_close(lr);
	return err == -EINVAL || err == -EOPNOTSUPP ? -ENOTSUP : err;
}

int logread_fd(const struct logread *lr)
{
	return mnl_socket_get_fd(lr->nl);
}

int logread_read(struct logread *lr, struct blocked *ret_blocked, size_t room)
{
	struct reading r = { .lr = lr, .to = ret_blocked, .room = room };
	_Alignas(struct nlmsghdr) char buf[RECV_BUF];

	/* One datagram holds one message (NFULA_CFG_QTHRESH). */
	while (r.len < room) {
		const ssize_t len = recv(logread_fd(lr), buf, sizeof(buf), MSG_DONTWAIT);

		if (len < 0 && (errno == EINTR || errno == ENOBUFS))
			continue; /* how many were lost the next one's number tells */
		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0)
			return -errno;
		(void)mnl_cb_run(buf, (size_t)len, 0, 0, take_message, &r);
	}
	return (int)r.len;
}

void logread_close(struct logread *lr)
{
	if (lr->nl)
		mnl_socket_close(lr->nl);
	*lr = (struct logread){ 0 };
}

#else

int logread_open(struct logread *lr, uint16_t group)
{
	*lr = (struct logread){ .group = group };
	return -ENOSYS;
}

int logread_fd(const struct logread *lr)
{
	(void)lr;
	return -1;
}

int logread_read(struct logread *lr, struct blocked *ret_blocked, size_t room)
{
	(void)lr;
	(void)ret_blocked;
	(void)room;
	return -ENOSYS;
}

void logread_close(struct logread *lr)
{
	*lr = (struct logread){ 0 };
}

#endif
