#include "check_find.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "ask.h"

#define REQUEST_BYTES 256

/* The address in an attribute of that family's length; false: it is another. */
static bool take_addr(const struct nlattr *attr, sa_family_t family, struct addr *ret_addr)
{
	struct addr a = { .family = family };

	if (mnl_attr_get_payload_len(attr) != addr_len(&a))
		return false;
	memcpy(a.bytes, mnl_attr_get_payload(attr), addr_len(&a));
	*ret_addr = a;
	return true;
}

/* A gateway of the other family than the route (RFC 5549). */
static bool take_via(const struct nlattr *attr, struct addr *ret_addr)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	struct addr a = { .family = AF_UNSPEC };

	if (mnl_attr_get_payload_len(attr) < sizeof(*via))
		return false;
	a.family = via->rtvia_family;
	if ((a.family != AF_INET && a.family != AF_INET6) ||
	    mnl_attr_get_payload_len(attr) != sizeof(*via) + addr_len(&a))
		return false;
	memcpy(a.bytes, via->rtvia_addr, addr_len(&a));
	*ret_addr = a;
	return true;
}

struct gateways {
	check_gateway_fn *found;
	void *ctx;
};

/* One hop's attributes, and the link where an attribute names it. */
static bool take_hop(const struct nlattr *attr, sa_family_t family, struct addr *gateway, int *link)
{
	switch (mnl_attr_get_type(attr)) {
	case RTA_OIF:
		if (mnl_attr_get_payload_len(attr) == sizeof(uint32_t))
			*link = (int)mnl_attr_get_u32(attr);
		return false;
	case RTA_GATEWAY:
		return take_addr(attr, family, gateway);
	case RTA_VIA:
		return take_via(attr, gateway);
	default:
		return false;
	}
}

static void take_hops(const struct gateways *g, const struct nlattr *multipath, sa_family_t family)
{
	struct rtnexthop *hop = mnl_attr_get_payload(multipath);
	int left = (int)mnl_attr_get_payload_len(multipath);

	for (; RTNH_OK(hop, left); left -= (int)RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
		void *const attrs = RTNH_DATA(hop);
		struct nlattr *attr;
		struct addr gateway;
		int link = hop->rtnh_ifindex;
		bool has = false;

		mnl_attr_for_each_payload(attrs, hop->rtnh_len - RTNH_LENGTH(0))
			has |= take_hop(attr, family, &gateway, &link);
		if (has)
			g->found(g->ctx, link, &gateway);
	}
}

static int take_route(const struct nlmsghdr *nlh, void *data)
{
	const struct gateways *g = data;
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr;
	struct addr gateway;
	bool has = false;
	int link = 0;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm) ||
	    rtm->rtm_type != RTN_UNICAST || rtm->rtm_flags & RTM_F_CLONED)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*rtm)) {
		if (mnl_attr_get_type(attr) == RTA_MULTIPATH)
			take_hops(g, attr, rtm->rtm_family);
		else
			has |= take_hop(attr, rtm->rtm_family, &gateway, &link);
	}
	if (has && link)
		g->found(g->ctx, link, &gateway);
	return MNL_CB_OK;
}

int check_find_gateways(check_gateway_fn *found, void *ctx)
{
	static const unsigned char families[] = { AF_INET, AF_INET6 };
	struct gateways g = { found, ctx };
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(families); i++) {
		_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

		nlh->nlmsg_type = RTM_GETROUTE;
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		rtm->rtm_family = families[i];
		err = ask_kernel(NETLINK_ROUTE, nlh, take_route, &g);
	}
	return err == -EOPNOTSUPP ? 0 : err; /* a kernel without IPv6 */
}

struct neighbour {
	int link;
	const struct addr *addr;
	uint8_t *mac;
	bool found;
};

static int take_neighbour(const struct nlmsghdr *nlh, void *data)
{
	struct neighbour *n = data;
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attr, *mac = NULL;
	bool is_it = false;
	struct addr dst;

	if (nlh->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(nlh) < sizeof(*ndm) ||
	    ndm->ndm_ifindex != n->link || ndm->ndm_family != n->addr->family)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*ndm)) {
		if (mnl_attr_get_type(attr) == NDA_DST)
			is_it = take_addr(attr, n->addr->family, &dst) && !addr_cmp(&dst, n->addr);
		if (mnl_attr_get_type(attr) == NDA_LLADDR)
			mac = attr;
	}
	if (is_it && mac && mnl_attr_get_payload_len(mac) == MAC_LEN) {
		memcpy(n->mac, mnl_attr_get_payload(mac), MAC_LEN);
		n->found = true;
	}
	return MNL_CB_OK;
}

int check_find_mac(int link, const struct addr *neighbour, uint8_t ret_mac[MAC_LEN])
{
	struct neighbour n = { .link = link, .addr = neighbour, .mac = ret_mac };
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ndmsg *ndm = mnl_nlmsg_put_extra_header(nlh, sizeof(*ndm));
	int err;

	nlh->nlmsg_type = RTM_GETNEIGH;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	ndm->ndm_family = (uint8_t)neighbour->family;
	ndm->ndm_ifindex = link;
	err = ask_kernel(NETLINK_ROUTE, nlh, take_neighbour, &n);
	return err ? err : n.found ? 0 : -ENOENT;
}

static int take_first_hop(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct addr *hop = data;
	const struct nlattr *attr;
	struct addr gateway;
	int link = 0;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*rtm))
		return MNL_CB_OK;
	if (rtm->rtm_type != RTN_UNICAST) {
		errno = ENETUNREACH;
		return MNL_CB_ERROR;
	}
	mnl_attr_for_each(attr, nlh, sizeof(*rtm))
		if (take_hop(attr, rtm->rtm_family, &gateway, &link))
			*hop = gateway;
	return MNL_CB_OK;
}

int check_find_hop(int link, const struct addr *to, struct addr *ret_hop)
{
	_Alignas(struct nlmsghdr) char buf[REQUEST_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	struct addr hop = *to;
	int err;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	rtm->rtm_family = (unsigned char)to->family;
	rtm->rtm_dst_len = (unsigned char)(addr_len(to) * 8);
	/* The route itself: without one IPv4 makes up that the address is on the link. */
	rtm->rtm_flags = RTM_F_FIB_MATCH;
	mnl_attr_put(nlh, RTA_DST, addr_len(to), to->bytes);
	mnl_attr_put_u32(nlh, RTA_OIF, (uint32_t)link);
	err = ask_kernel(NETLINK_ROUTE, nlh, take_first_hop, &hop);
	if (err == -EHOSTUNREACH || err == -EACCES || err == -EINVAL)
		err = -ENETUNREACH;
	if (!err)
		*ret_hop = hop;
	return err;
}

int check_find_state(const char *link, uint16_t *ret_type, bool *ret_running)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq flags = { .ifr_ifindex = 0 }, hardware;
	int err = 0;

	if (fd < 0)
		return -errno;
	memcpy(flags.ifr_name, link, strnlen(link, IFNAMSIZ - 1));
	hardware = flags;
	if (ioctl(fd, SIOCGIFFLAGS, &flags) || ioctl(fd, SIOCGIFHWADDR, &hardware))
		err = -errno;
	close(fd);
	if (err)
		return err;
	*ret_running = flags.ifr_flags & IFF_RUNNING;
	*ret_type = hardware.ifr_hwaddr.sa_family;
	return 0;
}
