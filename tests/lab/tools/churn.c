/*
 * churn - somebody else who changes the firewall without a pause
 *
 *	churn
 *
 * Makes a table of its own, then adds a rule and flushes the rules in turn, a
 * transaction each, until standard input ends or LIMIT_S have passed.  Prints
 * "ready" after the first, and at the end "commits N", without the table.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <time.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "private_netns.h"

#define LIMIT_S 600
#define TABLE	"churn"
#define CHAIN	"busy"

struct batch {
	char buf[4096];
	size_t len;
	uint32_t seq;
};

static struct nlmsghdr *begin(struct batch *b, uint16_t type, uint16_t flags, uint8_t family,
			      uint16_t resource)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(b->buf + b->len);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nlh->nlmsg_seq = ++b->seq;
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(resource);
	return nlh;
}

static void end(struct batch *b, const struct nlmsghdr *nlh)
{
	b->len += NLMSG_ALIGN(nlh->nlmsg_len);
}

static void put(struct batch *b, uint16_t type, uint16_t flags, const char *table,
		const char *chain)
{
	struct nlmsghdr *nlh =
		begin(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, NFPROTO_INET, 0);

	/* NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE are all 1. */
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	if (chain)
		mnl_attr_put_strz(nlh, type == NFT_MSG_NEWCHAIN ? NFTA_CHAIN_NAME : NFTA_RULE_CHAIN,
				  chain);
	end(b, nlh);
}

static void start(struct batch *b)
{
	b->len = 0;
	end(b, begin(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

static void commit(const struct mnl_socket *nl, struct batch *b)
{
	end(b, begin(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
	if (mnl_socket_sendto(nl, b->buf, b->len) < 0) {
		perror("commit");
		exit(1);
	}
}

static bool is_input_over(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int main(void)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	static struct batch b;
	const time_t last = time(NULL) + LIMIT_S;
	unsigned long commits = 0;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		perror("socket");
		return 1;
	}
	start(&b);
	put(&b, NFT_MSG_NEWTABLE, NLM_F_CREATE, TABLE, NULL);
	put(&b, NFT_MSG_NEWCHAIN, NLM_F_CREATE, TABLE, CHAIN);
	commit(nl, &b);
	puts("ready");
	fflush(stdout);
	for (; !is_input_over() && time(NULL) < last; commits++) {
		start(&b);
		if (commits % 2)
			put(&b, NFT_MSG_DELRULE, 0, TABLE, CHAIN);
		else
			put(&b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, TABLE, CHAIN);
		commit(nl, &b);
	}
	start(&b);
	put(&b, NFT_MSG_DELTABLE, 0, TABLE, NULL);
	commit(nl, &b);
	printf("commits %lu\n", commits);
	mnl_socket_close(nl);
	return 0;
}
