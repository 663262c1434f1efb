#include "check_send.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_ether.h>
#include <linux/if_packet.h>

#include "check_packet.h"

#define CLOEXEC_NONBLOCK (SOCK_CLOEXEC | SOCK_NONBLOCK)

union any_address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* `scope` is of link-local addresses; the kernel takes it for any. */
static socklen_t fill_address(union any_address *at, const struct addr *addr, uint16_t port,
			      int scope)
{
	*at = (union any_address){ .sa = { .sa_family = addr->family } };
	if (addr->family == AF_INET) {
		at->in.sin_port = htons(port);
		memcpy(&at->in.sin_addr, addr->bytes, 4);
		return sizeof(at->in);
	}
	at->in6.sin6_port = htons(port);
	at->in6.sin6_scope_id = addr_is_linklocal(addr) ? (uint32_t)scope : 0;
	memcpy(&at->in6.sin6_addr, addr->bytes, 16);
	return sizeof(at->in6);
}

static const struct check_link *link_of(const struct check_plan *plan, const struct check_shot *s)
{
	return s->link < 0 ? NULL : &plan->links[s->link];
}

static const struct check_target *target_of(const struct check_plan *plan,
					    const struct check_shot *s)
{
	return &plan->targets[s->target];
}

static int bind_to_link(int fd, const struct check_link *link)
{
	if (link && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, link->name,
			       (socklen_t)strnlen(link->name, IFNAMSIZ)))
		return -errno;
	return 0;
}

/* A socket of the shot's family and link.  A descriptor, or -errno. */
static int open_socket(const struct check_plan *plan, const struct check_shot *s, int type,
		       int proto)
{
	const int fd = socket(target_of(plan, s)->addr.family, type | CLOEXEC_NONBLOCK, proto);
	const int err = fd < 0 ? -errno : bind_to_link(fd, link_of(plan, s));

	if (fd >= 0 && err)
		close(fd);
	return err ? err : fd;
}

static int send_by_socket(const struct check_plan *plan, const struct check_shot *s)
{
	const bool tcp = s->proto == IPPROTO_TCP;
	const struct check_target *t = target_of(plan, s);
	const struct addr any = { .family = t->addr.family };
	const struct linger reset = { .l_onoff = 1 }; /* leave without a FIN */
	const int fd = open_socket(plan, s, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	uint8_t query[CHECK_PACKET_QUERY];
	union any_address at;
	socklen_t len = fill_address(&at, &any, s->sport, 0);
	int err = 0;

	if (fd < 0)
		return fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (bind(fd, &at.sa, len))
		err = -errno;
	len = fill_address(&at, &t->addr, s->port, t->link);
	if (!err && connect(fd, &at.sa, len) && errno != EINPROGRESS)
		err = -errno;
	if (!err && !tcp &&
	    send(fd, query, check_packet_query(s->label, s->tag, query), MSG_NOSIGNAL) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* The address that packets of this link to this target come from; -errno: there is none. */
static int find_source(const struct check_plan *plan, const struct check_shot *s,
		       struct addr *ret_source)
{
	const struct check_target *t = target_of(plan, s);
	const int fd = open_socket(plan, s, SOCK_DGRAM, 0);
	union any_address at;
	socklen_t len = fill_address(&at, &t->addr, s->port, t->link);
	int err = 0;

	if (fd < 0)
		return fd;
	/* Sends nothing. */
	if (connect(fd, &at.sa, len) || getsockname(fd, &at.sa, &len))
		err = -errno;
	close(fd);
	if (err)
		return err;
	*ret_source = (struct addr){ .family = t->addr.family };
	if (t->addr.family == AF_INET)
		memcpy(ret_source->bytes, &at.in.sin_addr, 4);
	else
		memcpy(ret_source->bytes, &at.in6.sin6_addr, 16);
	return 0;
}

/* The packet; or its fragment `piece`, of a way that has some. */
static size_t build(const struct check_plan *plan, const struct check_shot *s,
		    const struct addr *source, int piece, uint8_t buf[CHECK_PACKET_BYTES])
{
	uint8_t query[CHECK_PACKET_QUERY];
	const struct check_packet packet = {
		.from = *source,
		.to = target_of(plan, s)->addr,
		.proto = s->proto,
		.sport = s->sport,
		.dport = s->port,
		.tag = s->tag,
		.payload = query,
		.payload_len = check_packet_query(s->label, s->tag, query),
	};

	return check_way_is_cut(s->way) ? check_packet_build_piece(&packet, piece, buf) :
					  check_packet_build(&packet, buf);
}

static int send_raw(const struct check_plan *plan, const struct check_shot *s)
{
	const struct check_target *t = target_of(plan, s);
	uint8_t packet[CHECK_PACKET_BYTES];
	struct addr source;
	union any_address at;
	const socklen_t at_len = fill_address(&at, &t->addr, 0, t->link);
	int err = find_source(plan, s, &source), fd;

	if (err)
		return err;
	/* IPPROTO_RAW: headers included, see raw(7); for IPv6 as well (rawv6_init_sk()). */
	fd = open_socket(plan, s, SOCK_RAW, IPPROTO_RAW);
	if (fd < 0)
		return fd;
	/* What became of the last one counts: by then, all may have been put together. */
	for (int i = 0; i < (check_way_is_cut(s->way) ? 2 : 1); i++)
		err = sendto(fd, packet, build(plan, s, &source, i, packet), MSG_NOSIGNAL, &at.sa,
			     at_len) < 0 ?
			      -errno :
			      0;
	close(fd);
	return err;
}

int check_sender_open(struct check_sender *sender)
{
	/* The kernel puts the link's own header before; without a protocol nothing is received. */
	sender->frames = socket(AF_PACKET, SOCK_DGRAM | CLOEXEC_NONBLOCK, 0);
	return sender->frames < 0 ? -errno : 0;
}

void check_sender_close(struct check_sender *sender)
{
	if (sender->frames >= 0)
		close(sender->frames);
	*sender = CHECK_SENDER_CLOSED;
}

static int send_frame(int fd, const struct check_plan *plan, const struct check_shot *s,
		      const uint8_t mac[MAC_LEN])
{
	const struct check_link *link = link_of(plan, s);
	struct addr source = { .family = target_of(plan, s)->addr.family };
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = link->index };
	uint8_t packet[CHECK_PACKET_BYTES];
	int err = 0;

	/* Without one it leaves all the same. */
	(void)find_source(plan, s, &source);
	to.sll_protocol = htons(source.family == AF_INET ? ETH_P_IP : ETH_P_IPV6);
	if (link->type == ARPHRD_ETHER) {
		to.sll_halen = MAC_LEN;
		memcpy(to.sll_addr, mac, MAC_LEN);
	}
	for (int i = 0; i < (check_way_is_cut(s->way) ? 2 : 1); i++)
		err = sendto(fd, packet, build(plan, s, &source, i, packet), MSG_NOSIGNAL,
			     (struct sockaddr *)&to, sizeof(to)) < 0 ?
			      -errno :
			      0;
	return err;
}

int check_send(const struct check_sender *sender, const struct check_plan *plan,
	       const struct check_shot *shot, const uint8_t mac[MAC_LEN])
{
	switch (shot->way) {
	case CHECK_WAY_PLAIN:
	case CHECK_WAY_BOUND:
		return send_by_socket(plan, shot);
	case CHECK_WAY_RAW:
	case CHECK_WAY_PIECES:
		return send_raw(plan, shot);
	case CHECK_WAY_FRAME:
	case CHECK_WAY_FRAME_PIECES:
		return send_frame(sender->frames, plan, shot, mac);
	case CHECK_WAYS:
		break;
	}
	return -EINVAL;
}
