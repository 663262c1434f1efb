#include "ipsec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>
#include <linux/xfrm.h>

#include "netstate.h"
#include "policy.h"

#define ANSWER_TIMEOUT_S 2 /* the kernel answers at once */
#define DUMP_TRIES	 4
#define DUMP_BYTES	 32768 /* the most that the kernel puts into one message of a dump */

/* The first template: what `ipsec out reqid` looks at. */
static int take_template(const struct nlattr *attr, void *data)
{
	const struct xfrm_user_tmpl **first = data;

	if (mnl_attr_get_type(attr) == XFRMA_TMPL &&
	    mnl_attr_get_payload_len(attr) >= sizeof(**first))
		*first = mnl_attr_get_payload(attr);
	return MNL_CB_OK;
}

struct found {
	const struct policy *policy;
	struct netstate *ns;
};

static int take_policy(const struct nlmsghdr *nlh, void *data)
{
	const struct xfrm_userpolicy_info *policy = mnl_nlmsg_get_payload(nlh);
	const struct xfrm_user_tmpl *first = NULL;
	const struct found *found = data;
	char name[IFNAMSIZ + 8];
	struct link *link;

	if (nlh->nlmsg_type != XFRM_MSG_NEWPOLICY ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*policy) || policy->dir != XFRM_POLICY_OUT ||
	    policy->action != XFRM_POLICY_ALLOW)
		return MNL_CB_OK;
	if (mnl_attr_parse(nlh, sizeof(*policy), take_template, &first) < 0 || !first ||
	    first->optional)
		return MNL_CB_OK;
	/* One of 0 or of ten digits has no name of its own; "ipsec:any" has them all. */
	snprintf(name, sizeof(name), "ipsec:%u", first->reqid < 1000000000 ? first->reqid : 0);
	if (!policy_is_tunnel(found->policy, name) || netstate_link_named(found->ns, name))
		return MNL_CB_OK;
	link = netstate_add_link(found->ns);
	if (!link) {
		errno = ENOMEM;
		return MNL_CB_ERROR;
	}
	*link = (struct link){ .index = -(int)found->ns->links_len, .kind = "xfrm", .up = true };
	memcpy(link->name, name, IFNAMSIZ);
	return MNL_CB_OK;
}

static int dump(struct mnl_socket *sk, struct found *found)
{
	char buf[DUMP_BYTES];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	ssize_t n;
	int more = MNL_CB_OK;

	nlh->nlmsg_type = XFRM_MSG_GETPOLICY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (mnl_socket_sendto(sk, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while (more == MNL_CB_OK) {
		n = mnl_socket_recvfrom(sk, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		more = mnl_cb_run(buf, (size_t)n, 0, mnl_socket_get_portid(sk), take_policy, found);
	}
	return more == MNL_CB_ERROR ? -errno : 0;
}

/* A socket for each try: what is left of a dump that was interrupted goes with it. */
static int try_dump(struct found *found)
{
	const struct timeval timeout = { .tv_sec = ANSWER_TIMEOUT_S };
	struct mnl_socket *sk = mnl_socket_open2(NETLINK_XFRM, SOCK_CLOEXEC);
	int err;

	if (!sk)
		return -errno;
	if (mnl_socket_bind(sk, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		err = -errno;
	else
		err = dump(sk, found);
	mnl_socket_close(sk);
	return err;
}

void ipsec_add_links(const struct policy *p, struct netstate *ns)
{
	struct found found = { p, ns };
	const size_t before = ns->links_len;
	int err = policy_has_ipsec(p) ? -EINTR : 0;

	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		ns->links_len = before;
		err = try_dump(&found);
	}
	if (err)
		ns->links_len = before;
}
