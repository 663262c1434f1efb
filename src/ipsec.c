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

/* What its attributes say. */
struct details {
	const struct xfrm_user_tmpl *first; /* what `ipsec out reqid` looks at; or NULL */
	bool marked;			    /* only packets that a mark or a device brings */
};

static int take_detail(const struct nlattr *attr, void *data)
{
	struct details *d = data;
	struct xfrm_mark mark;

	switch (mnl_attr_get_type(attr)) {
	case XFRMA_TMPL:
		if (mnl_attr_get_payload_len(attr) >= sizeof(*d->first))
			d->first = mnl_attr_get_payload(attr);
		break;
	case XFRMA_MARK:
		if (mnl_attr_get_payload_len(attr) >= sizeof(mark)) {
			memcpy(&mark, mnl_attr_get_payload(attr), sizeof(mark));
			d->marked |= mark.m != 0;
		}
		break;
	case XFRMA_IF_ID:
		if (!mnl_attr_validate(attr, MNL_TYPE_U32))
			d->marked |= mnl_attr_get_u32(attr) != 0;
		break;
	}
	return MNL_CB_OK;
}

static int take_policy(const struct nlmsghdr *nlh, void *data)
{
	const struct xfrm_userpolicy_info *info = mnl_nlmsg_get_payload(nlh);
	const struct reading *r = data;
	struct details d = { .first = NULL };
	struct ipsec_policy p = { 0 };
	int err;

	if (nlh->nlmsg_type != XFRM_MSG_NEWPOLICY ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*info) || info->dir != XFRM_POLICY_OUT ||
	    info->action != XFRM_POLICY_ALLOW)
		return MNL_CB_OK;
	if (mnl_attr_parse(nlh, sizeof(*info), take_detail, &d) < 0 || !d.first ||
	    d.first->optional)
		return MNL_CB_OK;
	p.reqid = d.first->reqid;
	p.bits = info->sel.prefixlen_d;
	p.dst.family = info->sel.family;
	p.whole = !d.marked && !info->sel.proto && !info->sel.sport_mask && !info->sel.dport_mask &&
		  !info->sel.ifindex;
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
