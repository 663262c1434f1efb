#include "flows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "ask.h"
#include "fwattr.h"
#include "policy.h"

/* There once the module is, in every namespace (nf_conntrack_standalone.c). */
#define TRACKING "/proc/sys/net/netfilter/nf_conntrack_count"

#define MESSAGE_ROOM 512 /* what names one flow: two addresses and ports, a zone, a number */

struct forgetting {
	const struct policy *policy;
	struct mnl_socket *nl; /* a dump goes on at another */
	int err;
};

/* Of one direction: whether it is UDP or TCP, and from or to a guarded port. */
static bool is_named(const struct policy *p, const struct nlattr *tuple)
{
	static const uint16_t ports[] = { CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT };
	const struct nlattr *proto = fwattr_nested(tuple, CTA_TUPLE_PROTO);
	const struct nlattr *attr = fwattr_nested(proto, CTA_PROTO_NUM);
	bool guarded = false;

	if (!attr || mnl_attr_validate(attr, MNL_TYPE_U8) < 0 ||
	    (mnl_attr_get_u8(attr) != IPPROTO_UDP && mnl_attr_get_u8(attr) != IPPROTO_TCP))
		return false;
	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		attr = fwattr_nested(proto, ports[i]);
		guarded |= attr && mnl_attr_validate(attr, MNL_TYPE_U16) == 0 &&
			   policy_is_guarded(p, ntohs(mnl_attr_get_u16(attr)));
	}
	return guarded;
}

static struct nlmsghdr *put_header(void *buf, uint16_t verb, uint16_t flags, uint8_t family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | verb);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

static void copy_attr(struct nlmsghdr *nlh, const struct nlattr *attr)
{
	if (attr && nlh->nlmsg_len + mnl_attr_get_len(attr) < MESSAGE_ROOM)
		mnl_attr_put(nlh, attr->nla_type, mnl_attr_get_payload_len(attr),
			     mnl_attr_get_payload(attr));
}

/* One that has ended meanwhile is as good as forgotten: the kernel's answer is not read. */
static int take_flow(const struct nlmsghdr *listed, void *data)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(listed);
	const struct nlattr *of[CTA_MAX + 1] = { NULL }, *attr;
	_Alignas(struct nlmsghdr) char buf[MESSAGE_ROOM];
	struct forgetting *f = data;
	struct nlmsghdr *nlh;

	mnl_attr_for_each(attr, listed, sizeof(*nfg))
		if (mnl_attr_get_type(attr) <= CTA_MAX)
			of[mnl_attr_get_type(attr)] = attr;
	/* Before and after address translation; and where the server was let in first. */
	if (!is_named(f->policy, of[CTA_TUPLE_ORIG]) && !is_named(f->policy, of[CTA_TUPLE_REPLY]))
		return MNL_CB_OK;
	nlh = put_header(buf, IPCTNL_MSG_CT_DELETE, 0, nfg->nfgen_family);
	copy_attr(nlh, of[CTA_TUPLE_ORIG]);
	copy_attr(nlh, of[CTA_ZONE]);
	copy_attr(nlh, of[CTA_ID]); /* not one that has the same addresses meanwhile */
	if (mnl_socket_sendto(f->nl, nlh, nlh->nlmsg_len) < 0)
		f->err = f->err ?: -errno;
	return MNL_CB_OK;
}

/* All that there are, those not confirmed yet as well (__nf_conntrack_alloc()). */
static bool has_flows(void)
{
	unsigned int count = 1; /* if it cannot be read, the dump tells */
	FILE *file = fopen(TRACKING, "re");

	if (!file)
		return errno != ENOENT;
	if (fscanf(file, "%u", &count) != 1)
		count = 1;
	fclose(file);
	return count;
}

int flows_forget(const struct policy *p)
{
	_Alignas(struct nlmsghdr) char buf[MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg)];
	struct forgetting f = { .policy = p };
	int err;

	/* A dump walks through all buckets of the machine, however few flows there are. */
	if (!has_flows())
		return 0;
	f.nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!f.nl)
		return -errno;
	err = ask_kernel(NETLINK_NETFILTER,
			 put_header(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC), take_flow, &f);
	mnl_socket_close(f.nl);
	/* What a kernel without ctnetlink answers (nfnetlink_rcv_msg()). */
	return err == -EINVAL ? -ENOTSUP : f.err ?: err;
}
