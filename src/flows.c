#include "flows.h"

#include <errno.h>

#ifdef HAVE_LIBNETFILTER_CONNTRACK
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

#include "ask.h"
#include "policy.h"

/* There once the module is, in every namespace (nf_conntrack_standalone.c). */
#define TRACKING "/proc/sys/net/netfilter/nf_conntrack_count"

#define MESSAGE_ROOM 1024 /* one flow's; a flow with all its attributes takes about 300 bytes */

struct forgetting {
	const struct policy *policy;
	struct mnl_socket *nl; /* a dump goes on at another */
	int err;
};

static bool was_named(const struct policy *p, const struct nf_conntrack *ct)
{
	/* Before and after address translation; and where the server was let in first. */
	static const enum nf_conntrack_attr ports[] = { ATTR_ORIG_PORT_DST, ATTR_REPL_PORT_SRC,
							ATTR_ORIG_PORT_SRC, ATTR_REPL_PORT_DST };
	const uint8_t proto = nfct_get_attr_u8(ct, ATTR_ORIG_L4PROTO);
	bool guarded = false;

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		guarded |= policy_is_guarded(p, ntohs(nfct_get_attr_u16(ct, ports[i])));
	return guarded && (proto == IPPROTO_UDP || proto == IPPROTO_TCP);
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

/* One that has ended meanwhile is as good as forgotten: the kernel's answer is not read. */
static int take_flow(const struct nlmsghdr *listed, void *data)
{
	struct forgetting *f = data;
	_Alignas(struct nlmsghdr) char buf[MESSAGE_ROOM];
	struct nf_conntrack *ct = nfct_new();
	struct nlmsghdr *nlh;

	if (!ct) {
		f->err = -ENOMEM;
		return MNL_CB_ERROR;
	}
	if (!nfct_nlmsg_parse(listed, ct) && was_named(f->policy, ct)) {
		nlh = put_header(buf, IPCTNL_MSG_CT_DELETE, 0, nfct_get_attr_u8(ct, ATTR_L3PROTO));
		if (nfct_nlmsg_build(nlh, ct) || mnl_socket_sendto(f->nl, nlh, nlh->nlmsg_len) < 0)
			f->err = f->err ?: -errno;
	}
	nfct_destroy(ct);
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

#else

int flows_forget(const struct policy *p)
{
	(void)p;
	return -ENOTSUP;
}

#endif
