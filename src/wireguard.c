#include "wireguard.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/genetlink.h>
#include <linux/wireguard.h>

#include "ask.h"
#include "clock.h"

#define SOCKETS	       "/var/run/wireguard/"
#define SOCKET_WAIT_MS 2000
#define SOCKET_BYTES   (1 << 20) /* a peer has some 300, and 50 for each of its allowed addresses */
#define REQUEST_BYTES  256

struct search {
	const struct link *link;
	wireguard_found_fn *found;
	void *ctx;
	uint32_t mark;
};

/* --- the kernel's --- */

static struct nlmsghdr *begin(char buf[REQUEST_BYTES], uint16_t type, uint16_t flags,
			      uint8_t command, uint8_t version)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *genl = mnl_nlmsg_put_extra_header(nlh, sizeof(*genl));

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	genl->cmd = command;
	genl->version = version;
	return nlh;
}

static int take_family(const struct nlmsghdr *nlh, void *data)
{
	const uint16_t *id =
		ask_attr(nlh, sizeof(struct genlmsghdr), CTRL_ATTR_FAMILY_ID, sizeof(*id));

	if (id)
		*(uint16_t *)data = *id;
	return MNL_CB_OK;
}

static void take_peer(const struct search *s, const struct nlattr *peer)
{
	struct endpoint e = { .proto = IPPROTO_UDP, .mark = s->mark };
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, peer) {
		const size_t len = mnl_attr_get_payload_len(attr);
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;

		if (mnl_attr_get_type(attr) != WGPEER_A_ENDPOINT)
			continue;
		if (len >= sizeof(v4)) {
			memcpy(&v4, mnl_attr_get_payload(attr), sizeof(v4));
			e.addr.family = v4.sin_family;
			e.port = ntohs(v4.sin_port); /* the same place in both */
		}
		if (e.addr.family == AF_INET) {
			memcpy(e.addr.bytes, &v4.sin_addr, 4);
		} else if (e.addr.family == AF_INET6 && len >= sizeof(v6)) {
			memcpy(&v6, mnl_attr_get_payload(attr), sizeof(v6));
			memcpy(e.addr.bytes, &v6.sin6_addr, 16);
		} else {
			e.port = 0;
		}
	}
	if (e.port)
		s->found(s->ctx, s->link, &e);
}

/* The mark stands before the peers, in the first message alone. */
static int take_device(const struct nlmsghdr *nlh, void *data)
{
	struct search *s = data;
	const uint32_t *mark =
		ask_attr(nlh, sizeof(struct genlmsghdr), WGDEVICE_A_FWMARK, sizeof(*mark));
	const struct nlattr *attr, *peer;

	if (mark)
		s->mark = *mark;
	mnl_attr_for_each(attr, nlh, sizeof(struct genlmsghdr))
		if (mnl_attr_get_type(attr) == WGDEVICE_A_PEERS)
			mnl_attr_for_each_nested(peer, attr)
				take_peer(s, peer);
	return MNL_CB_OK;
}

static int read_kernel(struct search *s)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct nlmsghdr *nlh = begin(buf, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
	uint16_t family = 0;
	int err;

	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
	err = ask_kernel(NETLINK_GENERIC, nlh, take_family, &family);
	if (err || !family)
		return err;
	nlh = begin(buf, family, NLM_F_DUMP, WG_CMD_GET_DEVICE, WG_GENL_VERSION);
	mnl_attr_put_u32(nlh, WGDEVICE_A_IFINDEX, (uint32_t)s->link->index);
	return ask_kernel(NETLINK_GENERIC, nlh, take_device, s);
}

/* --- in user space --- */

static int connect_socket(const struct link *link)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), SOCKETS "%.15s.sock", link->name);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr))) {
		const int err = -errno;

		close(fd);
		return err;
	}
	return fd;
}

/* All of the answer, which an empty line ends, into buf.  0 or -errno. */
static int read_answer(int fd, char *buf, size_t size)
{
	const uint64_t deadline_ms = clock_monotonic_ms() + SOCKET_WAIT_MS;
	size_t len = 0;

	buf[0] = '\0';
	while (len + 1 < size && !strstr(buf + (len > 2 ? len - 2 : 0), "\n\n")) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		const uint64_t now_ms = clock_monotonic_ms();
		ssize_t got;

		if (now_ms >= deadline_ms || poll(&pfd, 1, (int)(deadline_ms - now_ms)) == 0)
			return -ETIMEDOUT;
		got = recv(fd, buf + len, size - len - 1, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
			break;
		if (got > 0) {
			len += (size_t)got;
			buf[len] = '\0';
		}
	}
	return 0;
}

static void take_answer(struct search *s, char *answer)
{
	char *save = NULL, value[POLICY_TEXT], text[CONFIG_ERR];

	for (char *line = strtok_r(answer, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct policy p;

		if (!strncmp(line, "fwmark=", 7))
			(void)number_parse(line + 7, 0, UINT32_MAX, &s->mark);
		if (strncmp(line, "endpoint=", 9) || strlen(line) > 64)
			continue;
		policy_init(&p);
		snprintf(value, sizeof(value), "%.64s/udp", line + 9);
		/* A name is none that WireGuard tells. */
		if (!config_set(&p, "endpoint", value, text) && p.endpoints_len) {
			p.endpoints[0].mark = s->mark;
			s->found(s->ctx, s->link, &p.endpoints[0]);
		}
		policy_fini(&p);
	}
}

static int read_user_space(struct search *s)
{
	static const char request[] = "get=1\n\n";
	const int fd = connect_socket(s->link);
	char *buf;
	int err = 0;

	if (fd < 0)
		return fd == -ENOENT || fd == -ECONNREFUSED ? 0 : fd;
	buf = calloc(1, SOCKET_BYTES);
	if (!buf)
		err = -ENOMEM;
	else if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		err = -errno;
	if (!err)
		err = read_answer(fd, buf, SOCKET_BYTES);
	if (!err)
		take_answer(s, buf);
	if (buf)
		explicit_bzero(buf, SOCKET_BYTES); /* its key is in it */
	free(buf);
	close(fd);
	return err;
}

int wireguard_read_peers(const struct link *link, wireguard_found_fn *found, void *ctx)
{
	struct search s = { .link = link, .found = found, .ctx = ctx };

	if (!strcmp(link->kind, "wireguard"))
		return read_kernel(&s);
	return strcmp(link->kind, "tun") ? 0 : read_user_space(&s);
}
