#include "fwtxn.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <libmnl/libmnl.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter_bridge.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwexpr.h"
#include "fwsock.h"

#define MESSAGE_ROOM  16384 /* the longest message but those with elements; a rule is below 2 KiB */
#define ELEMS_ROOM    32768 /* of elements in one message; an attribute holds 65,535 bytes */
#define NETDEV_EGRESS 1	    /* NF_NETDEV_EGRESS, linux/netfilter.h of Linux 5.16 and later */
#define BATCH_ROOM    64    /* batch begin or end, with a generation */
#define FIRST_SEQ     0x40000000 /* apart from those of queries on the same socket */
#define MAX_STALE     1024	 /* datagrams; no transaction of ours is answered by so many */
#define ACK_BYTES     1024	 /* of receive buffer that one error reply is charged at most */

void fwtxn_init(struct fwtxn *t)
{
	*t = (struct fwtxn){ .table = RULESET_TABLE, .seq = FIRST_SEQ };
}

void fwtxn_fini(struct fwtxn *t)
{
	free(t->buf);
	free(t->notes);
	fwtxn_init(t);
}

size_t fwtxn_len(const struct fwtxn *t)
{
	return t->notes_len;
}

/* Room for `more` bytes of messages behind those that are there, and for one more note. */
static int reserve(struct fwtxn *t, size_t more)
{
	if (t->len + more > t->room) {
		const size_t room = (t->len + more) * 2;
		uint8_t *buf = realloc(t->buf, room);

		if (!buf)
			return -ENOMEM;
		t->buf = buf;
		t->room = room;
	}
	if (t->notes_len == t->notes_room) {
		const size_t room = t->notes_room ? t->notes_room * 2 : 64;
		struct fwtxn_note *notes = realloc(t->notes, room * sizeof(*notes));

		if (!notes)
			return -ENOMEM;
		t->notes = notes;
		t->notes_room = room;
	}
	return 0;
}

/* A message of at most `room` bytes; NULL after an error.  Ended by end_message(). */
static struct nlmsghdr *__attribute__((format(printf, 5, 6)))
begin_message(struct fwtxn *t, uint16_t type, uint16_t flags, size_t room, const char *note, ...)
{
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;
	va_list args;
	char *text;
	int n;

	if (!t->err)
		t->err = reserve(t, room);
	if (t->err)
		return NULL;
	text = t->notes[t->notes_len].text;

	nlh = mnl_nlmsg_put_header(t->buf + t->len);
	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nlh->nlmsg_seq = ++t->seq;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = fwexpr_family(t->family);
	nfg->version = NFNETLINK_V0;

	n = t->family == FAMILY_INET ? 0 :
				       snprintf(text, FWTXN_NOTE, "%s: ", family_format(t->family));
	va_start(args, note);
	vsnprintf(text + n, (size_t)(FWTXN_NOTE - n), note, args);
	va_end(args);
	t->notes[t->notes_len].family = t->family;
	t->notes[t->notes_len++].seq = t->seq;
	return nlh;
}

static void end_message(struct fwtxn *t, const struct nlmsghdr *nlh)
{
	t->len += NLMSG_ALIGN(nlh->nlmsg_len);
}

void fwtxn_add_table(struct fwtxn *t, uint32_t flags)
{
	struct nlmsghdr *nlh = begin_message(t, NFT_MSG_NEWTABLE, NLM_F_CREATE, MESSAGE_ROOM,
					     "table %s", t->table);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, t->table);
	mnl_attr_put_u32(nlh, NFTA_TABLE_FLAGS, htonl(flags));
	end_message(t, nlh);
}

void fwtxn_del_table(struct fwtxn *t, const char *table)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_DELTABLE, 0, MESSAGE_ROOM, "removal of table %s", table);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	end_message(t, nlh);
}

uint32_t fwtxn_hook(enum family family, enum hook hook)
{
	static const uint32_t hooks[] = {
		[HOOK_NONE] = 0,
		[HOOK_POSTROUTING] = NF_INET_POST_ROUTING,
		[HOOK_OUTPUT] = NF_INET_LOCAL_OUT,
		[HOOK_FORWARD] = NF_INET_FORWARD,
		[HOOK_EGRESS] = NETDEV_EGRESS,
		[HOOK_DNAT] = NF_INET_PRE_ROUTING,
		[HOOK_SNAT] = NF_INET_POST_ROUTING,
		[HOOK_EARLY_FORWARD] = NF_INET_FORWARD,
	};

	return family == FAMILY_BRIDGE && hook == HOOK_FORWARD ? NF_BR_FORWARD : hooks[hook];
}

const char *fwtxn_chain_type(enum hook hook)
{
	return hook == HOOK_DNAT || hook == HOOK_SNAT ? "nat" : "filter";
}

void fwtxn_add_chain(struct fwtxn *t, const struct chain *chain)
{
	char shown[IFNAMSIZ];
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_NEWCHAIN, NLM_F_CREATE, MESSAGE_ROOM, "chain %s%s%s",
			      chain->name, chain->device ? " of link " : "",
			      chain->device ? text_quotable(chain->device, shown, sizeof(shown)) :
					      "");
	struct nlattr *hook;

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain->name);
	if (chain->hook != HOOK_NONE) {
		mnl_attr_put_strz(nlh, NFTA_CHAIN_TYPE, fwtxn_chain_type(chain->hook));
		hook = mnl_attr_nest_start(nlh, NFTA_CHAIN_HOOK);
		mnl_attr_put_u32(nlh, NFTA_HOOK_HOOKNUM, htonl(fwtxn_hook(t->family, chain->hook)));
		mnl_attr_put_u32(nlh, NFTA_HOOK_PRIORITY, htonl((uint32_t)chain->priority));
		if (chain->device)
			mnl_attr_put_strz(nlh, NFTA_HOOK_DEV, chain->device);
		mnl_attr_nest_end(nlh, hook);
		mnl_attr_put_u32(nlh, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
	}
	end_message(t, nlh);
}

void fwtxn_del_chain(struct fwtxn *t, const char *chain)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_DELCHAIN, 0, MESSAGE_ROOM, "removal of chain %s", chain);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_CHAIN_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_CHAIN_NAME, chain);
	end_message(t, nlh);
}

void fwtxn_flush_chain(struct fwtxn *t, const char *chain)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_DELRULE, 0, MESSAGE_ROOM, "rules of chain %s", chain);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, chain);
	end_message(t, nlh);
}

void fwtxn_add_rule(struct fwtxn *t, const struct ruleset *rs, const struct chain *chain,
		    const struct rule *rule)
{
	struct nftnl_rule *built = NULL;
	struct nlmsghdr *nlh;

	if (!t->err)
		t->err = fwexpr_build_rule(t->table, rs, chain, rule, &built);
	nlh = begin_message(t, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, MESSAGE_ROOM,
			    "rule \"%s\" of chain %s", rule->comment, chain->name);
	if (nlh) {
		nftnl_rule_nlmsg_build_payload(nlh, built);
		end_message(t, nlh);
	}
	if (built)
		nftnl_rule_free(built);
}

static void put_object(const struct fwtxn *t, struct nlmsghdr *nlh, const char *name, uint32_t type)
{
	mnl_attr_put_strz(nlh, NFTA_OBJ_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_OBJ_NAME, name);
	mnl_attr_put_u32(nlh, NFTA_OBJ_TYPE, htonl(type));
}

void fwtxn_add_counter(struct fwtxn *t, const char *name)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_NEWOBJ, NLM_F_CREATE, MESSAGE_ROOM, "counter %s", name);

	if (!nlh)
		return;
	put_object(t, nlh, name, NFT_OBJECT_COUNTER);
	mnl_attr_nest_end(nlh, mnl_attr_nest_start(nlh, NFTA_OBJ_DATA));
	end_message(t, nlh);
}

void fwtxn_add_no_offload(struct fwtxn *t)
{
	struct nlmsghdr *nlh = begin_message(t, NFT_MSG_NEWOBJ, NLM_F_CREATE, MESSAGE_ROOM,
					     "ct expectation %s", RULESET_NO_OFFLOAD);
	struct nlattr *data;

	if (!nlh)
		return;
	put_object(t, nlh, RULESET_NO_OFFLOAD, NFT_OBJECT_CT_EXPECT);
	data = mnl_attr_nest_start(nlh, NFTA_OBJ_DATA);
	mnl_attr_put_u16(nlh, NFTA_CT_EXPECT_L3PROTO, htons(NFPROTO_IPV4)); /* does for IPv6, too */
	mnl_attr_put_u8(nlh, NFTA_CT_EXPECT_L4PROTO, IPPROTO_UDP);	    /* and for TCP */
	mnl_attr_put_u16(nlh, NFTA_CT_EXPECT_DPORT, htons(1));		    /* any */
	mnl_attr_put_u32(nlh, NFTA_CT_EXPECT_TIMEOUT, 1000);		    /* ms, any */
	mnl_attr_put_u8(nlh, NFTA_CT_EXPECT_SIZE, 0);
	mnl_attr_nest_end(nlh, data);
	end_message(t, nlh);
}

void fwtxn_del_object(struct fwtxn *t, const char *name, uint32_t type)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_DELOBJ, 0, MESSAGE_ROOM, "removal of object %s", name);

	if (!nlh)
		return;
	put_object(t, nlh, name, type);
	end_message(t, nlh);
}

uint32_t fwtxn_set_flags(const struct set *set)
{
	return (set->timed ? NFT_SET_TIMEOUT : 0) | (set->counts ? NFT_SET_EVAL : 0);
}

uint32_t fwtxn_key_type(const struct set *set)
{
	/* enum datatypes in nftables' include/datatype.h: fixed, as kernels carry them around */
	static const uint32_t types[] = {
		[FIELD_OIFNAME] = 41, [FIELD_OIFKIND] = 41,  [FIELD_NFPROTO] = 2,
		[FIELD_IIFNAME] = 41, [FIELD_SADDR4] = 7,    [FIELD_SADDR6] = 8,
		[FIELD_SMAC] = 9,     [FIELD_PROTOCOL] = 10, [FIELD_DADDR4] = 7,
		[FIELD_DADDR6] = 8,   [FIELD_L4PROTO] = 12,  [FIELD_DPORT] = 13,
		[FIELD_MARK] = 19,
	};
	uint32_t type = 0;

	for (size_t i = 0; i < set->fields_len; i++)
		type = type << 6 | types[set->fields[i]];
	return type;
}

static bool is_host_endian(enum field field)
{
	return field == FIELD_OIFNAME || field == FIELD_IIFNAME || field == FIELD_OIFKIND ||
	       field == FIELD_NFPROTO;
}

/* User data from which `nft list` learns how to print the elements; the kernel just keeps it. */
static void put_byte_order(struct nlmsghdr *nlh, const struct set *set)
{
	/* enum byteorder in nftables' include/datatype.h; a key of several fields has none */
	enum { BYTEORDER_INVALID, BYTEORDER_HOST_ENDIAN, BYTEORDER_BIG_ENDIAN };
	const uint32_t order = set->fields_len > 1	      ? BYTEORDER_INVALID :
			       is_host_endian(set->fields[0]) ? BYTEORDER_HOST_ENDIAN :
								BYTEORDER_BIG_ENDIAN;
	uint8_t udata[2 + sizeof(order)] = { NFTNL_UDATA_SET_KEYBYTEORDER, sizeof(order) };

	memcpy(udata + 2, &order, sizeof(order));
	mnl_attr_put(nlh, NFTA_SET_USERDATA, sizeof(udata), udata);
}

void fwtxn_add_set(struct fwtxn *t, const struct set *set)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_NEWSET, NLM_F_CREATE, MESSAGE_ROOM, "set %s", set->name);
	const uint32_t size = set_size(set);
	struct nlattr *desc;

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, set->name);
	mnl_attr_put_u32(nlh, NFTA_SET_FLAGS, htonl(fwtxn_set_flags(set)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_TYPE, htonl(fwtxn_key_type(set)));
	mnl_attr_put_u32(nlh, NFTA_SET_KEY_LEN, htonl((uint32_t)set->key_len));
	/* The kernel wants a number to know new sets by; ours are known by their names. */
	mnl_attr_put_u32(nlh, NFTA_SET_ID, htonl(t->seq));
	put_byte_order(nlh, set);
	if (size) {
		desc = mnl_attr_nest_start(nlh, NFTA_SET_DESC);
		mnl_attr_put_u32(nlh, NFTA_SET_DESC_SIZE, htonl(size));
		mnl_attr_nest_end(nlh, desc);
	}
	end_message(t, nlh);
}

void fwtxn_del_set(struct fwtxn *t, const char *name)
{
	struct nlmsghdr *nlh =
		begin_message(t, NFT_MSG_DELSET, 0, MESSAGE_ROOM, "removal of set %s", name);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_SET_NAME, name);
	end_message(t, nlh);
}

void fwtxn_flush_set(struct fwtxn *t, const char *name)
{
	struct nlmsghdr *nlh = begin_message(t, NFT_MSG_DELSETELEM, 0, MESSAGE_ROOM,
					     "all elements out of set %s", name);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, t->table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, name);
	end_message(t, nlh);
}

/* Keys in messages of at most ELEMS_ROOM bytes of elements. */
static void put_elems(struct fwtxn *t, uint16_t type, uint16_t flags, const char *what,
		      const char *set, const uint8_t *keys, size_t n, size_t key_len,
		      uint64_t timeout_ms)
{
	/* Three attribute headers around each key; and a timeout. */
	const size_t most = ELEMS_ROOM / (MNL_ALIGN(key_len) + 4 * MNL_ATTR_HDRLEN + 8);

	for (size_t done = 0; done < n;) {
		const size_t now = n - done < most ? n - done : most;
		struct nlmsghdr *nlh = begin_message(t, type, flags, ELEMS_ROOM + MESSAGE_ROOM,
						     "%zu elements %s set %s", now, what, set);
		struct nlattr *list, *elem, *key;

		if (!nlh)
			return;
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, t->table);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
		list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
		for (size_t i = done; i < done + now; i++) {
			elem = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
			key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
			mnl_attr_put(nlh, NFTA_DATA_VALUE, key_len, keys + i * key_len);
			mnl_attr_nest_end(nlh, key);
			if (timeout_ms)
				mnl_attr_put_u64(nlh, NFTA_SET_ELEM_TIMEOUT, htobe64(timeout_ms));
			mnl_attr_nest_end(nlh, elem);
		}
		mnl_attr_nest_end(nlh, list);
		end_message(t, nlh);
		done += now;
	}
}

void fwtxn_add_elems(struct fwtxn *t, const char *set, const uint8_t *keys, size_t n,
		     size_t key_len, uint64_t timeout_ms)
{
	put_elems(t, NFT_MSG_NEWSETELEM, NLM_F_CREATE, "into", set, keys, n, key_len, timeout_ms);
}

void fwtxn_del_elems(struct fwtxn *t, const char *set, const uint8_t *keys, size_t n,
		     size_t key_len)
{
	put_elems(t, NFT_MSG_DELSETELEM, 0, "out of", set, keys, n, key_len, 0);
}

/* --- sending --- */

static size_t put_batch(void *buf, uint16_t type, uint32_t seq, uint32_t generation)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nlh->nlmsg_seq = seq;
	nfg->nfgen_family = AF_UNSPEC;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
	if (generation)
		mnl_attr_put_u32(nlh, NFNL_BATCH_GENID, htonl(generation));
	return NLMSG_ALIGN(nlh->nlmsg_len);
}

/* The kernel takes a datagram only if the send buffer holds it whole (netlink_sendmsg()). */
static void raise_buffers(int fd, size_t bytes, size_t messages)
{
	int snd = (int)(bytes + 4096), rcv = (int)(messages * ACK_BYTES);
	int now = 0;
	socklen_t len = sizeof(now);

	if (!getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &now, &len) && now < snd &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &snd, sizeof(snd)))
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &snd, sizeof(snd));
	if (!getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &now, &len) && now < rcv &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcv, sizeof(rcv)))
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcv, sizeof(rcv));
}

/* The kernel's words behind an error (struct nlmsgerr, NLMSGERR_ATTR_MSG); CAP_ACK is on. */
static void read_reason(const struct nlmsghdr *nlh, char *ret_reason, size_t size)
{
	const struct nlattr *attr;

	if (!(nlh->nlmsg_flags & NLM_F_ACK_TLVS) || !(nlh->nlmsg_flags & NLM_F_CAPPED))
		return;
	mnl_attr_for_each(attr, nlh, sizeof(struct nlmsgerr))
		if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0)
			snprintf(ret_reason, size, "%s", mnl_attr_get_str(attr));
}

static void note_failure(const struct fwtxn *t, const struct nlmsghdr *nlh,
			 struct fwtxn_fail *reterr_fail)
{
	*reterr_fail = (struct fwtxn_fail){ 0 };
	for (size_t i = 0; i < t->notes_len; i++)
		if (t->notes[i].seq == nlh->nlmsg_seq) {
			memcpy(reterr_fail->what, t->notes[i].text, FWTXN_NOTE);
			reterr_fail->family = t->notes[i].family;
		}
	read_reason(nlh, reterr_fail->reason, sizeof(reterr_fail->reason));
}

/*
 * nf_tables runs the whole batch inside sendmsg(), so every reply is queued by
 * now and EAGAIN means "no more".  Success is an ack of the last message and
 * no error in any reply: messages before a refused one are acked too.
 */
static int read_replies(int fd, const struct fwtxn *t, struct fwtxn_fail *reterr_fail)
{
	_Alignas(struct nlmsghdr) char buf[8192];
	bool acked = false;
	int err = 0;

	for (;;) {
		const ssize_t len = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
		const struct nlmsghdr *nlh = (const void *)buf;
		const struct nlmsgerr *e;

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0)
			return errno == ENOBUFS ? -ENOBUFS : -EIO;
		if (!mnl_nlmsg_ok(nlh, (int)len))
			return -EBADMSG;
		/* An answer to an earlier request that was given up: pass it by. */
		if (nlh->nlmsg_type != NLMSG_ERROR || nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*e)))
			continue;
		e = mnl_nlmsg_get_payload(nlh);
		if (!e->error && nlh->nlmsg_seq == t->seq)
			acked = true;
		if (e->error && !err) {
			err = e->error;
			note_failure(t, nlh, reterr_fail);
		}
	}
	return err ? err : acked ? 0 : -EBADMSG;
}

static int send_batch(struct fwsock *fs, struct fwtxn *t, uint32_t generation, bool commit,
		      struct fwtxn_fail *reterr_fail)
{
	_Alignas(struct nlmsghdr) char begin[BATCH_ROOM], end[BATCH_ROOM];
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	const int fd = mnl_socket_get_fd(fs->nl);
	struct iovec iov[3] = {
		{ begin, put_batch(begin, NFNL_MSG_BATCH_BEGIN, 0, generation) },
		{ t->buf, t->len },
		{ end, 0 },
	};
	struct msghdr msg = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = iov,
		.msg_iovlen = commit ? 3 : 2, /* without its end the kernel validates and forgets */
	};
	struct nlmsghdr *last = (void *)t->buf;

	*reterr_fail = (struct fwtxn_fail){ 0 };
	if (t->err)
		return t->err;
	if (!t->notes_len)
		return 0;
	for (int left = (int)t->len; left > (int)NLMSG_ALIGN(last->nlmsg_len);)
		last = mnl_nlmsg_next(last, &left);
	last->nlmsg_flags |= NLM_F_ACK;

	raise_buffers(fd, t->len, t->notes_len);
	/* What an earlier transaction left unread must not be taken for answers to this one. */
	for (int i = 0; i < MAX_STALE; i++)
		if (recv(fd, end, sizeof(end), MSG_DONTWAIT | MSG_TRUNC) < 0 && errno == EAGAIN)
			break;
	iov[2].iov_len = put_batch(end, NFNL_MSG_BATCH_END, 0, 0);
	if (sendmsg(fd, &msg, 0) < 0) {
		if (errno == EMSGSIZE)
			snprintf(reterr_fail->reason, sizeof(reterr_fail->reason),
				 "%zu bytes in one transaction; net.core.wmem_max allows fewer",
				 t->len);
		return -errno;
	}
	return read_replies(fd, t, reterr_fail);
}

int fwtxn_commit(struct fwsock *fs, struct fwtxn *t, uint32_t generation,
		 struct fwtxn_fail *reterr_fail)
{
	return send_batch(fs, t, generation, true, reterr_fail);
}

int fwtxn_validate(struct fwsock *fs, struct fwtxn *t, struct fwtxn_fail *reterr_fail)
{
	return send_batch(fs, t, 0, false, reterr_fail);
}
