#include "blockcount.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "ask.h"
#include "fwsock.h"
#include "ruleset.h"

struct count {
	uint64_t packets;
	unsigned int counters;
};

static int take_data(const struct nlattr *attr, void *data)
{
	struct count *c = data;

	if (mnl_attr_get_type(attr) == NFTA_COUNTER_PACKETS &&
	    !mnl_attr_validate(attr, MNL_TYPE_U64)) {
		c->packets += be64toh(mnl_attr_get_u64(attr));
		c->counters++;
	}
	return MNL_CB_OK;
}

static int take_counter(const struct nlmsghdr *nlh, void *data)
{
	const char *table = fwsock_attr_str(nlh, NFTA_OBJ_TABLE);
	const char *name = fwsock_attr_str(nlh, NFTA_OBJ_NAME);
	const struct nlattr *attr;

	if (!table || !name || strcmp(table, RULESET_TABLE) ||
	    (strcmp(name, "S7") && strcmp(name, "S9") && strcmp(name, "S11")))
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_OBJ_DATA &&
		    mnl_attr_parse_nested(attr, take_data, data) < 0)
			return MNL_CB_ERROR;
	return MNL_CB_OK;
}

int blockcount_read(uint64_t *ret_packets)
{
	_Alignas(struct nlmsghdr) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	struct count c = { 0 };
	int err;

	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETOBJ;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nfg->nfgen_family = NFPROTO_UNSPEC;
	nfg->version = NFNETLINK_V0;
	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, RULESET_TABLE);
	err = ask_kernel(NETLINK_NETFILTER, nlh, take_counter, &c);
	if (err)
		return err;
	if (!c.counters)
		return -ENOENT;
	*ret_packets = c.packets;
	return 0;
}
