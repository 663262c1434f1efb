/*
 * lack.so - a kernel that lacks parts of nf_tables, made from one that has them
 *
 * Preloaded, it makes unknown to the kernel, in every message to it, what the
 * environment variable LACK lists ("tproxy,ct"): the kernel itself then answers
 * what it answers to what it does not know.  A word is
 *
 *	egress, netdev, bridge	chains of that hook, tables of that family
 *	rtclassid		that key of the expression "meta"
 *	any other		an expression of that name
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

enum { NO_FAMILY = 11, NO_HOOK = 7, NO_KEY = 200 };

static bool is_word(const char *word, size_t len, const char *known)
{
	return len == strlen(known) && !memcmp(word, known, len);
}

/* Within the attributes from `at` on: one of this type; NULL: none. */
static struct nlattr *find(char *at, size_t len, unsigned int type)
{
	while (len >= NLA_HDRLEN) {
		struct nlattr *attr = (struct nlattr *)at;

		if (attr->nla_len < NLA_HDRLEN || attr->nla_len > len)
			return NULL;
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		if ((size_t)NLA_ALIGN(attr->nla_len) >= len)
			return NULL;
		at += NLA_ALIGN(attr->nla_len);
		len -= NLA_ALIGN(attr->nla_len);
	}
	return NULL;
}

static struct nlattr *find_in(struct nlattr *nest, unsigned int type)
{
	return nest ? find((char *)nest + NLA_HDRLEN, nest->nla_len - NLA_HDRLEN, type) : NULL;
}

/* A number that says something becomes one that says nothing. */
static void spoil(struct nlattr *attr, uint32_t known, uint32_t unknown)
{
	uint32_t value;

	if (!attr || attr->nla_len != NLA_HDRLEN + sizeof(value))
		return;
	memcpy(&value, (char *)attr + NLA_HDRLEN, sizeof(value));
	unknown = htonl(unknown);
	if (value == htonl(known))
		memcpy((char *)attr + NLA_HDRLEN, &unknown, sizeof(value));
}

static void lack_egress(struct nlmsghdr *nlh, struct nfgenmsg *nfg)
{
	char *attrs = (char *)nfg + NLMSG_ALIGN(sizeof(*nfg));
	const size_t len = nlh->nlmsg_len - NLMSG_HDRLEN - NLMSG_ALIGN(sizeof(*nfg));

	if (nfg->nfgen_family == NFPROTO_NETDEV && (nlh->nlmsg_type & 0xff) == NFT_MSG_NEWCHAIN)
		spoil(find_in(find(attrs, len, NFTA_CHAIN_HOOK), NFTA_HOOK_HOOKNUM),
		      NF_NETDEV_EGRESS, NO_HOOK);
}

/* Expressions begin with NFTA_EXPR_NAME, and go on with NFTA_EXPR_DATA. */
static void lack_expression(char *buf, size_t len, const char *name, size_t name_len)
{
	const bool is_key = is_word(name, name_len, "rtclassid");

	if (is_key) {
		name = "meta";
		name_len = 4;
	}
	for (size_t i = 0; i + NLA_HDRLEN + name_len + 1 <= len; i += NLA_ALIGNTO) {
		struct nlattr *attr = (struct nlattr *)(buf + i);
		const size_t behind = i + NLA_ALIGN(attr->nla_len);

		if (attr->nla_len != NLA_HDRLEN + name_len + 1 || attr->nla_type != NFTA_EXPR_NAME ||
		    memcmp(buf + i + NLA_HDRLEN, name, name_len) ||
		    buf[i + NLA_HDRLEN + name_len])
			continue;
		if (!is_key)
			buf[i + NLA_HDRLEN] = '?';
		else if (behind < len)
			spoil(find_in(find(buf + behind, len - behind, NFTA_EXPR_DATA),
				      NFTA_META_KEY),
			      NFT_META_RTCLASSID, NO_KEY);
	}
}

static void lack_in(char *buf, size_t len, const char *word, size_t word_len)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)buf;

	for (int left = (int)len; NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
		struct nfgenmsg *nfg = NLMSG_DATA(nlh);

		if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
		    nlh->nlmsg_len < NLMSG_LENGTH(sizeof(*nfg)))
			continue;
		if (is_word(word, word_len, "egress"))
			lack_egress(nlh, nfg);
		else if (is_word(word, word_len, "netdev") || is_word(word, word_len, "bridge"))
			nfg->nfgen_family = nfg->nfgen_family == (*word == 'n' ? NFPROTO_NETDEV :
										 NFPROTO_BRIDGE) ?
						    NO_FAMILY :
						    nfg->nfgen_family;
		else
			lack_expression(NLMSG_DATA(nlh), NLMSG_PAYLOAD(nlh, 0), word, word_len);
	}
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	static ssize_t (*real)(int, const struct msghdr *, int);
	const char *lack = getenv("LACK");

	if (!real)
		real = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
	while (lack && *lack) {
		const size_t n = strcspn(lack, ",");

		for (size_t i = 0; i < msg->msg_iovlen; i++)
			lack_in(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len, lack, n);
		lack += n + (lack[n] == ',');
	}
	return real(fd, msg, flags);
}
