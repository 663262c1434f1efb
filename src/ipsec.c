#include "ipsec.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netlink.h>
#include <linux/xfrm.h>

#include "ask.h"
#include "netstate.h"
#include "policy.h"

#define DUMP_TRIES 4

struct reading {
	ipsec_found_fn *found;
	void *ctx;
};

static int take_policy(const struct nlmsghdr *nlh, void *data)
{
	const struct xfrm_userpolicy_info *info = mnl_nlmsg_get_payload(nlh);
	const struct reading *r = data;
	const struct xfrm_user_tmpl *first; /* what `ipsec out reqid` looks at */
	const struct xfrm_mark *mark;
	const uint32_t *device;
	struct ipsec_policy p = { 0 };
	int err;

	if (nlh->nlmsg_type != XFRM_MSG_NEWPOLICY ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*info) || info->dir != XFRM_POLICY_OUT ||
	    info->action != XFRM_POLICY_ALLOW)
		return MNL_CB_OK;
	first = ask_attr(nlh, sizeof(*info), XFRMA_TMPL, sizeof(*first));
	if (!first || first->optional)
		return MNL_CB_OK;
	/* Of only those packets that a mark or a device brings. */
	mark = ask_attr(nlh, sizeof(*info), XFRMA_MARK, sizeof(*mark));
	device = ask_attr(nlh, sizeof(*info), XFRMA_IF_ID, sizeof(*device));
	p.reqid = first->reqid;
	p.bits = info->sel.prefixlen_d;
	p.dst.family = info->sel.family;
	p.whole = !(mark && mark->m) && !(device && *device) && !info->sel.proto &&
		  !info->sel.sport_mask && !info->sel.dport_mask && !info->sel.ifindex;
	if (p.dst.family == AF_INET || p.dst.family == AF_INET6)
		memcpy(p.dst.bytes, &info->sel.daddr, addr_len(&p.dst));
	else
		p.whole = false;
	err = r->found(r->ctx, &p);
	errno = -err;
	return err ? MNL_CB_ERROR : MNL_CB_OK;
}

int ipsec_read(ipsec_found_fn *found, void *ctx)
{
	_Alignas(struct nlmsghdr) char buf[MNL_NLMSG_HDRLEN];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct reading r = { found, ctx };

	nlh->nlmsg_type = XFRM_MSG_GETPOLICY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	return ask_kernel(NETLINK_XFRM, nlh, take_policy, &r);
}

struct adding {
	const struct policy *policy;
	struct netstate *ns;
};

static int add_link(void *ctx, const struct ipsec_policy *found)
{
	const struct adding *a = ctx;
	char name[IFNAMSIZ];
	struct link *link;

	/* One of 0 or of ten digits has no name of its own; "ipsec:any" has them all. */
	ipsec_format(found->reqid <= IPSEC_MAX_REQID ? found->reqid : 0, name);
	if (!policy_is_tunnel(a->policy, name) || netstate_link_named(a->ns, name))
		return 0;
	link = netstate_add_link(a->ns);
	if (!link)
		return -ENOMEM;
	*link = (struct link){ .index = -(int)a->ns->links_len, .kind = "xfrm", .up = true };
	memcpy(link->name, name, IFNAMSIZ);
	return 0;
}

void ipsec_add_links(const struct policy *p, struct netstate *ns)
{
	struct adding adding = { p, ns };
	const size_t before = ns->links_len;
	int err = policy_has_ipsec(p) ? -EINTR : 0;

	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		ns->links_len = before;
		err = ipsec_read(add_link, &adding);
	}
	if (err)
		ns->links_len = before;
}
