#include "fwwatch.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwattr.h"
#include "fwexpr.h"
#include "ruleset.h"

#define RCVBUF_BYTES (8 << 20) /* a flush of 100,000 elements by somebody is some 6 MiB of events */
#define READ_AT_ONCE 1024      /* datagrams of one call; more is left for the next */

static const struct {
	char what[20];
	bool removal;
	uint16_t name; /* attribute with the name of the thing, or of where it stands; 0: none */
} kinds[] = {
	[NFT_MSG_NEWTABLE] = { "table", false, 0 },
	[NFT_MSG_DELTABLE] = { "table", true, 0 },
	[NFT_MSG_NEWCHAIN] = { "chain", false, NFTA_CHAIN_NAME },
	[NFT_MSG_DELCHAIN] = { "chain", true, NFTA_CHAIN_NAME },
	[NFT_MSG_NEWRULE] = { "a rule of chain", false, NFTA_RULE_CHAIN },
	[NFT_MSG_DELRULE] = { "a rule of chain", true, NFTA_RULE_CHAIN },
	[NFT_MSG_NEWSET] = { "set", false, NFTA_SET_NAME },
	[NFT_MSG_DELSET] = { "set", true, NFTA_SET_NAME },
	[NFT_MSG_NEWSETELEM] = { "an element of set", false, NFTA_SET_ELEM_LIST_SET },
	[NFT_MSG_DELSETELEM] = { "an element of set", true, NFTA_SET_ELEM_LIST_SET },
	[NFT_MSG_NEWOBJ] = { "object", false, NFTA_OBJ_NAME },
	[NFT_MSG_DELOBJ] = { "object", true, NFTA_OBJ_NAME },
	[NFT_MSG_NEWFLOWTABLE] = { "flowtable", false, NFTA_FLOWTABLE_NAME },
	[NFT_MSG_DELFLOWTABLE] = { "flowtable", true, NFTA_FLOWTABLE_NAME },
};

int fwwatch_open(struct fwwatch *fw)
{
	const int bytes = RCVBUF_BYTES, group = NFNLGRP_NFTABLES;
	int err;

	*fw = (struct fwwatch){ 0 };
	err = fwsock_open(&fw->events);
	if (err)
		return err;
	if (mnl_socket_setsockopt(fw->events.nl, NETLINK_ADD_MEMBERSHIP, (void *)&group,
				  sizeof(group)) < 0) {
		err = -errno;
		fwsock_close(&fw->events);
		return err;
	}
	(void)setsockopt(fwwatch_fd(fw), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	fw->open = true;
	return 0;
}

void fwwatch_close(struct fwwatch *fw)
{
	if (fw->open)
		fwsock_close(&fw->events);
	*fw = (struct fwwatch){ 0 };
}

int fwwatch_fd(const struct fwwatch *fw)
{
	return mnl_socket_get_fd(fw->events.nl);
}

/* Names are another program's: nothing of them may break a line of a log. */
static void clean(char *text)
{
	for (; *text; text++)
		if (!isprint((unsigned char)*text))
			*text = '?';
}

/* The table's name is attribute 1 in every message of nf_tables (NFTA_TABLE_NAME, NFTA_RULE_TABLE, ...). */
static bool is_ours(const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);
	const char *table = fwattr_str(fwattr_find(nlh, NFTA_TABLE_NAME));

	for (enum family f = 0; table && f < FAMILIES; f++)
		if (nfg->nfgen_family == fwexpr_family(f))
			return !strcmp(table, RULESET_TABLE);
	return false;
}

static void take_change(struct fwwatch *fw, const struct nlmsghdr *nlh, uint16_t type)
{
	const char *name = kinds[type].name ? fwattr_str(fwattr_find(nlh, kinds[type].name)) : NULL;

	/* The first thing told stands for all, but for the worst. */
	if (!fw->touched || type == NFT_MSG_DELTABLE)
		snprintf(fw->what, sizeof(fw->what), "%s%s%s%.32s",
			 kinds[type].removal ? "removal of " : "", kinds[type].what,
			 name ? " " : "", name ? name : "");
	fw->touched = true;
}

static void tell(const struct fwwatch *fw, struct fwevent *ev)
{
	ev->touched = true;
	memcpy(ev->what, fw->what, sizeof(ev->what));
	clean(ev->what);
}

/* The end of a transaction that touched us. */
static void take_end(struct fwwatch *fw, const struct nlmsghdr *nlh, struct fwevent *ev)
{
	const struct nlattr *attr;

	tell(fw, ev);
	ev->ended = true;
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_PID &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) == 0)
			ev->pid = ntohl(mnl_attr_get_u32(attr));
		if (mnl_attr_get_type(attr) == NFTA_GEN_PROC_NAME &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
			snprintf(ev->name, sizeof(ev->name), "%s", mnl_attr_get_str(attr));
	}
	clean(ev->name);
	fw->touched = false;
}

static void take_datagram(struct fwwatch *fw, uint32_t own_port, const char *buf, int len,
			  struct fwevent *ev)
{
	const struct nlmsghdr *nlh = (const void *)buf;

	for (; mnl_nlmsg_ok(nlh, len); nlh = mnl_nlmsg_next(nlh, &len)) {
		const uint16_t type = nlh->nlmsg_type & 0xff;

		if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		    nlh->nlmsg_len < mnl_nlmsg_size(sizeof(struct nfgenmsg)))
			continue;
		if (type == NFT_MSG_NEWGEN && fw->touched)
			take_end(fw, nlh, ev);
		else if (type < sizeof(kinds) / sizeof(kinds[0]) && *kinds[type].what &&
			 nlh->nlmsg_pid != own_port && is_ours(nlh))
			take_change(fw, nlh, type);
	}
}

/*
 * A socket that overflowed is told no more until it is empty, and says so only
 * once (NETLINK_S_CONGESTED, net/netlink/af_netlink.c): what came meanwhile is
 * lost as well.
 */
static int hears_again(struct fwwatch *fw, struct fwevent *ev)
{
	ev->lost = fw->deaf;
	if (fw->deaf)
		fw->touched = false; /* the end of that transaction is lost as well */
	fw->deaf = false;
	return ev->lost;
}

int fwwatch_read(struct fwwatch *fw, uint32_t own_port, struct fwevent *ret_event)
{
	_Alignas(struct nlmsghdr) char buf[FWSOCK_BUF];
	const bool told = fw->touched;

	*ret_event = (struct fwevent){ 0 };
	for (int i = 0; i < READ_AT_ONCE; i++) {
		struct iovec iov = { buf, sizeof(buf) };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		const ssize_t len = recvmsg(fwwatch_fd(fw), &msg, MSG_DONTWAIT);

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN)
			return hears_again(fw, ret_event);
		if ((len < 0 && errno == ENOBUFS) || (len >= 0 && msg.msg_flags & MSG_TRUNC)) {
			fw->touched = false;
			fw->deaf = ret_event->lost = true;
			return 1;
		}
		if (len < 0)
			return -errno;
		take_datagram(fw, own_port, buf, (int)len, ret_event);
		if (fw->touched && !told)
			tell(fw, ret_event);
		if (ret_event->touched)
			return 1;
	}
	return 0;
}
