/*
 * rival - somebody else who changes leakguard's tables without a pause
 *
 *	rival delete | chains
 *
 * delete: removes a table.  chains: adds a chain to it, of a new name each time.
 * One transaction after the other, of each family in turn, until standard input
 * ends or LIMIT_S have passed.  Prints "ready" after the first, and at the end
 *	done N of M
 * N of M transactions were accepted; the rest found no table, or were refused.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#include "private_netns.h"

#define LIMIT_S 60
#define TABLE	"leakguard"

struct batch {
	_Alignas(struct nlmsghdr) char buf[1024];
	uint32_t len;
};

static struct nlmsghdr *begin(struct batch *b, uint16_t type, uint16_t flags, uint8_t family,
			      uint16_t resource)
{
	struct nlmsghdr *nlh = (void *)(b->buf + b->len);
	struct nfgenmsg *nfg = NLMSG_DATA(nlh);

	*nlh = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof(*nfg)),
				  .nlmsg_type = type,
				  .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };
	*nfg = (struct nfgenmsg){ family, NFNETLINK_V0, htons(resource) };
	return nlh;
}

/* NFTA_TABLE_NAME, NFTA_CHAIN_TABLE are 1; NFTA_CHAIN_NAME is 3. */
static void put(struct nlmsghdr *nlh, uint16_t type, const char *text)
{
	struct nlattr *attr = (void *)((char *)nlh + NLMSG_ALIGN(nlh->nlmsg_len));
	const size_t len = strlen(text) + 1;

	*attr = (struct nlattr){ (uint16_t)(NLA_HDRLEN + len), type };
	memcpy((char *)attr + NLA_HDRLEN, text, len);
	nlh->nlmsg_len = NLMSG_ALIGN(nlh->nlmsg_len) + (uint32_t)NLA_ALIGN(attr->nla_len);
}

static void end(struct batch *b, const struct nlmsghdr *nlh)
{
	b->len += NLMSG_ALIGN(nlh->nlmsg_len);
}

/* The kernel has answered by the time that sendto() returns; one message asks for it. */
static bool commit(int fd, const struct batch *b)
{
	_Alignas(struct nlmsghdr) char buf[8192];
	const struct nlmsghdr *nlh = (void *)buf;
	bool accepted = true;
	ssize_t len;

	if (send(fd, b->buf, b->len, 0) < 0) {
		perror("send");
		exit(1);
	}
	while ((len = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) >= (ssize_t)sizeof(*nlh))
		if (nlh->nlmsg_type == NLMSG_ERROR)
			accepted &= !((const struct nlmsgerr *)NLMSG_DATA(nlh))->error;
	return accepted;
}

static bool change(int fd, bool remove, unsigned long number)
{
	static const uint8_t families[] = { NFPROTO_INET, NFPROTO_NETDEV, NFPROTO_BRIDGE };
	const uint8_t family = families[number % 3];
	struct batch b = { .len = 0 };
	struct nlmsghdr *nlh;
	char name[32];

	end(&b, begin(&b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
	if (remove) {
		nlh = begin(&b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK,
			    family, 0);
		put(nlh, NFTA_TABLE_NAME, TABLE);
	} else {
		snprintf(name, sizeof(name), "rival%lu", number);
		nlh = begin(&b, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN,
			    NLM_F_ACK | NLM_F_CREATE, family, 0);
		put(nlh, NFTA_CHAIN_TABLE, TABLE);
		put(nlh, NFTA_CHAIN_NAME, name);
	}
	end(&b, nlh);
	end(&b, begin(&b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
	return commit(fd, &b);
}

static bool is_input_over(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int main(int argc, char **argv)
{
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	const time_t last = time(NULL) + LIMIT_S;
	unsigned long tried = 0, done = 0;
	bool remove;

	if (argc != 2 || fd < 0)
		return 2;
	remove = !strcmp(argv[1], "delete");
	do {
		done += change(fd, remove, tried++);
		if (tried == 1) {
			puts("ready");
			fflush(stdout);
		}
	} while (!is_input_over() && time(NULL) < last);
	printf("done %lu of %lu\n", done, tried);
	return 0;
}
