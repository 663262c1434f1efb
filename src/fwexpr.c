#include "fwexpr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h> /* libnftnl/expr.h uses FILE */
#include <stdlib.h>
#include <string.h>

#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/udata.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>

#include "ruleset.h"

#define LOG_BURST	 5 /* nft's own default, in packets */
#define TPROXY_PORT	 1 /* any; the rule is never reached */
#define CT_STATE_INVALID 1 /* NF_CT_STATE_INVALID_BIT, nf_conntrack_common.h */

/* Rule under construction.  `err` is sticky: after the first failure nothing more is added. */
struct fwexpr {
	struct nftnl_rule *rule;
	enum family family;
	int err;
};

/* Returns the new expression, already owned by the rule, or NULL on error. */
static struct nftnl_expr *add_expr(struct fwexpr *fx, const char *kind)
{
	struct nftnl_expr *e;

	if (fx->err)
		return NULL;
	e = nftnl_expr_alloc(kind);
	if (!e) {
		fx->err = -ENOMEM;
		return NULL;
	}
	nftnl_rule_add_expr(fx->rule, e);
	return e;
}

static void set_data(struct fwexpr *fx, struct nftnl_expr *e, uint16_t attr, const void *data,
		     size_t len)
{
	if (e && nftnl_expr_set(e, attr, data, (uint32_t)len) < 0)
		fx->err = fx->err ?: -ENOMEM;
}

static void set_str(struct fwexpr *fx, struct nftnl_expr *e, uint16_t attr, const char *text)
{
	if (e && nftnl_expr_set_str(e, attr, text) < 0)
		fx->err = fx->err ?: -ENOMEM;
}

static void meta(struct fwexpr *fx, uint32_t key, uint32_t dreg)
{
	struct nftnl_expr *e = add_expr(fx, "meta");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, dreg);
}

static void payload(struct fwexpr *fx, uint32_t base, size_t offset, size_t len, uint32_t dreg)
{
	struct nftnl_expr *e = add_expr(fx, "payload");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, (uint32_t)offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, (uint32_t)len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, dreg);
}

static void cmp(struct fwexpr *fx, uint32_t op, const void *data, size_t len)
{
	struct nftnl_expr *e = add_expr(fx, "cmp");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
	set_data(fx, e, NFTNL_EXPR_CMP_DATA, data, len);
}

/* reg 1 = reg 1 & mask */
static void mask(struct fwexpr *fx, const void *bits, size_t len)
{
	static const uint8_t zeros[4];
	struct nftnl_expr *e = add_expr(fx, "bitwise");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, (uint32_t)len);
	set_data(fx, e, NFTNL_EXPR_BITWISE_MASK, bits, len);
	set_data(fx, e, NFTNL_EXPR_BITWISE_XOR, zeros, len);
}

/*
 * meta nfproto F, or meta protocol P in the other tables: goes before every look at an
 * IPv4 or IPv6 header.
 */
static void nfproto(struct fwexpr *fx, sa_family_t family)
{
	const uint8_t proto = family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	const uint16_t type_be = htons(family == AF_INET ? ETH_P_IP : ETH_P_IPV6);

	if (fx->family != FAMILY_INET) {
		meta(fx, NFT_META_PROTOCOL, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &type_be, sizeof(type_be));
		return;
	}
	meta(fx, NFT_META_NFPROTO, NFT_REG_1);
	cmp(fx, NFT_CMP_EQ, &proto, sizeof(proto));
}

/* ip daddr, ip6 daddr: the first `len` bytes of it */
static void daddr(struct fwexpr *fx, sa_family_t family, size_t len, uint32_t dreg)
{
	const size_t offset = family == AF_INET ? offsetof(struct iphdr, daddr) :
						  offsetof(struct ip6_hdr, ip6_dst);

	payload(fx, NFT_PAYLOAD_NETWORK_HEADER, offset, len, dreg);
}

/* th dport: after two bytes of source port in TCP and UDP alike (RFC 768, RFC 9293) */
static void dport(struct fwexpr *fx, uint32_t dreg)
{
	payload(fx, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, dreg);
}

static void ifname(struct fwexpr *fx, uint32_t key, const struct tunnel *link)
{
	meta(fx, key, NFT_REG_1);
	/*
	 * A cmp of strlen(name) bytes is a prefix match, which is what "tun*" means;
	 * an exact name is compared with its zeros, all 16 bytes.
	 */
	cmp(fx, NFT_CMP_EQ, link->name, link->prefix ? strlen(link->name) : IFNAMSIZ);
}

/*
 * Registers are 4 bytes each from NFT_REG32_00; nft and the kernel write the
 * number of the 16-byte register where a field starts on one.
 */
static uint32_t register_at(size_t offset)
{
	return (uint32_t)(offset % NFT_REG_SIZE ? NFT_REG32_00 + offset / NFT_REG32_SIZE :
						  NFT_REG_1 + offset / NFT_REG_SIZE);
}

static void load_field(struct fwexpr *fx, enum field field, uint32_t dreg)
{
	switch (field) {
	case FIELD_OIFNAME:
		meta(fx, NFT_META_OIFNAME, dreg);
		break;
	case FIELD_IIFNAME:
		meta(fx, NFT_META_IIFNAME, dreg);
		break;
	case FIELD_OIFKIND:
		meta(fx, NFT_META_OIFKIND, dreg);
		break;
	case FIELD_NFPROTO:
		meta(fx, NFT_META_NFPROTO, dreg);
		break;
	case FIELD_PROTOCOL:
		meta(fx, NFT_META_PROTOCOL, dreg);
		break;
	case FIELD_SADDR4:
		payload(fx, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct iphdr, saddr), 4, dreg);
		break;
	case FIELD_SADDR6:
		payload(fx, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct ip6_hdr, ip6_src), 16,
			dreg);
		break;
	case FIELD_SMAC:
		payload(fx, NFT_PAYLOAD_LL_HEADER, offsetof(struct ethhdr, h_source), ETH_ALEN,
			dreg);
		break;
	case FIELD_DADDR4:
		daddr(fx, AF_INET, 4, dreg);
		break;
	case FIELD_DADDR6:
		daddr(fx, AF_INET6, 16, dreg);
		break;
	case FIELD_L4PROTO:
		meta(fx, NFT_META_L4PROTO, dreg);
		break;
	case FIELD_DPORT:
		dport(fx, dreg);
		break;
	case FIELD_MARK:
		meta(fx, NFT_META_MARK, dreg);
		break;
	}
}

/* What has to be so for a field to be there. */
static void require_field(struct fwexpr *fx, enum field field)
{
	const uint16_t ether = ARPHRD_ETHER;

	if (field == FIELD_DADDR4 || field == FIELD_SADDR4)
		nfproto(fx, AF_INET);
	if (field == FIELD_DADDR6 || field == FIELD_SADDR6)
		nfproto(fx, AF_INET6);
	if (field == FIELD_SMAC) {
		meta(fx, NFT_META_IIFTYPE, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &ether, sizeof(ether));
	}
}

static void load_key(struct fwexpr *fx, const struct set *set)
{
	for (size_t i = 0; i < set->fields_len; i++)
		require_field(fx, set->fields[i]);
	for (size_t i = 0; i < set->fields_len; i++)
		load_field(fx, set->fields[i], register_at(set_field_offset(set, i)));
}

static void lookup(struct fwexpr *fx, const struct set *set)
{
	struct nftnl_expr *e;

	load_key(fx, set);
	e = add_expr(fx, "lookup");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, 0); /* the kernel gives it back always */
	set_str(fx, e, NFTNL_EXPR_LOOKUP_SET, set->name);
}

/* (reg 1 & bits) OP 0 */
static void compare_bits(struct fwexpr *fx, const void *bits, size_t len, uint32_t op)
{
	static const uint8_t zeros[4];

	mask(fx, bits, len);
	cmp(fx, op, zeros, len);
}

/* The fragment offset of an IPv4 header, OP 0 */
static void fragment_offset4(struct fwexpr *fx, uint32_t op)
{
	const uint16_t bits_be = htons(IP_OFFMASK);

	nfproto(fx, AF_INET);
	payload(fx, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct iphdr, frag_off), 2, NFT_REG_1);
	compare_bits(fx, &bits_be, sizeof(bits_be), op);
}

/* Bytes of an IPv6 fragment header, wherever it stands; with flags, whether it is there. */
static void fragment_header6(struct fwexpr *fx, uint32_t offset, uint32_t len, uint32_t flags)
{
	struct nftnl_expr *e;

	nfproto(fx, AF_INET6);
	e = add_expr(fx, "exthdr");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_DREG, NFT_REG_1);
	nftnl_expr_set_u8(e, NFTNL_EXPR_EXTHDR_TYPE, IPPROTO_FRAGMENT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_LEN, len);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_IPV6);
	nftnl_expr_set_u32(e, NFTNL_EXPR_EXTHDR_FLAGS, flags);
}

static void later_fragment6(struct fwexpr *fx)
{
	const uint16_t bits_be = htons(0xfff8); /* RFC 8200, 4.5 */

	fragment_header6(fx, offsetof(struct ip6_frag, ip6f_offlg), 2, 0);
	compare_bits(fx, &bits_be, sizeof(bits_be), NFT_CMP_NEQ);
}

static void has_fragment6(struct fwexpr *fx)
{
	const uint8_t present = 1;

	fragment_header6(fx, 0, 1, NFT_EXTHDR_F_PRESENT);
	cmp(fx, NFT_CMP_EQ, &present, sizeof(present));
}

static void other_dport(struct fwexpr *fx, const struct ruleset *rs)
{
	/* Loaded once: a compare leaves the register as it is. */
	dport(fx, NFT_REG_1);
	for (size_t i = 0; i < rs->ports_len; i++) {
		const uint16_t port_be = htons(rs->ports[i]);

		cmp(fx, NFT_CMP_NEQ, &port_be, sizeof(port_be));
	}
}

static void not_protocol(struct fwexpr *fx, uint8_t proto)
{
	meta(fx, NFT_META_L4PROTO, NFT_REG_1);
	cmp(fx, NFT_CMP_NEQ, &proto, sizeof(proto));
}

static void ct_bit(struct fwexpr *fx, uint32_t key, uint32_t bit)
{
	struct nftnl_expr *e = add_expr(fx, "ct");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	compare_bits(fx, &bit, sizeof(bit), NFT_CMP_NEQ);
}

/* fib daddr type local */
static void local(struct fwexpr *fx)
{
	const uint32_t type = RTN_LOCAL;
	struct nftnl_expr *e = add_expr(fx, "fib");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_FLAGS, NFTA_FIB_F_DADDR);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_FIB_DREG, NFT_REG_1);
	cmp(fx, NFT_CMP_EQ, &type, sizeof(type));
}

static void raw(struct fwexpr *fx, const struct ruleset *rs, const struct raw *raw)
{
	static const uint32_t bases[] = {
		[RAW_LINK] = NFT_PAYLOAD_LL_HEADER,
		[RAW_NETWORK] = NFT_PAYLOAD_NETWORK_HEADER,
		[RAW_TRANSPORT] = NFT_PAYLOAD_TRANSPORT_HEADER,
	};
	const uint16_t *values;
	const size_t n = ruleset_raw_values(rs, raw, &values);
	const uint16_t mask_be = htons(raw->mask);
	const size_t skip = sizeof(mask_be) - raw->len;

	payload(fx, bases[raw->base], raw->at, raw->len, NFT_REG_1);
	if (raw->mask)
		mask(fx, (const uint8_t *)&mask_be + skip, raw->len);
	for (size_t i = 0; i < n; i++) {
		const uint16_t value_be = htons(values[i]);

		cmp(fx, raw->differs ? NFT_CMP_NEQ : NFT_CMP_EQ, (const uint8_t *)&value_be + skip,
		    raw->len);
	}
}

/* The kernel knows the first state of the bundle only: a policy may ask for several. */
static void ipsec(struct fwexpr *fx, uint32_t reqid)
{
	const uint8_t yes = 1;
	struct nftnl_expr *e = add_expr(fx, reqid ? "xfrm" : "rt");

	if (!e)
		return;
	if (!reqid) {
		nftnl_expr_set_u32(e, NFTNL_EXPR_RT_KEY, NFT_RT_XFRM);
		nftnl_expr_set_u32(e, NFTNL_EXPR_RT_DREG, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &yes, sizeof(yes));
		return;
	}
	nftnl_expr_set_u32(e, NFTNL_EXPR_XFRM_KEY, NFT_XFRM_KEY_REQID);
	nftnl_expr_set_u8(e, NFTNL_EXPR_XFRM_DIR, XFRM_POLICY_OUT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_XFRM_SPNUM, 0);
	nftnl_expr_set_u32(e, NFTNL_EXPR_XFRM_DREG, NFT_REG_1);
	cmp(fx, NFT_CMP_EQ, &reqid, sizeof(reqid));
}

static void add_match(struct fwexpr *fx, const struct ruleset *rs, const struct match *m)
{
	const uint32_t lo_index = LOOPBACK_IFINDEX, no_mark = 0, no_class = UINT32_MAX;
	const uint32_t stamp = RULESET_STAMP;
	const uint8_t no_proto = IPPROTO_RAW, to_host = PACKET_HOST;
	const uint16_t oiftype = m->kind == MATCH_OIFTYPE ? m->port : 0;
	const uint16_t type_be = m->kind == MATCH_PROTOCOL ? htons(m->port) : 0;
	const uint16_t port_be =
		m->kind == MATCH_DPORT || m->kind == MATCH_SPORT ? htons(m->port) : 0;
	const uint8_t loopback_net = 127;

	switch (m->kind) {
	case MATCH_DPORT:
		dport(fx, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &port_be, sizeof(port_be));
		break;
	case MATCH_SPORT:
		payload(fx, NFT_PAYLOAD_TRANSPORT_HEADER, 0, sizeof(port_be), NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &port_be, sizeof(port_be));
		break;
	case MATCH_OTHER_DPORT:
		other_dport(fx, rs);
		break;
	case MATCH_NO_PORTS:
		not_protocol(fx, IPPROTO_UDP);
		not_protocol(fx, IPPROTO_TCP);
		break;
	case MATCH_L4PROTO:
		meta(fx, NFT_META_L4PROTO, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &m->proto, sizeof(m->proto));
		break;
	case MATCH_FAMILY:
		nfproto(fx, m->family);
		break;
	case MATCH_OIF_LO:
		meta(fx, NFT_META_OIF, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &lo_index, sizeof(lo_index));
		break;
	case MATCH_OIFNAME:
		ifname(fx, NFT_META_OIFNAME, &m->link);
		break;
	case MATCH_IIFNAME:
		ifname(fx, NFT_META_IIFNAME, &m->link);
		break;
	case MATCH_LOCAL:
		local(fx);
		break;
	case MATCH_CT_DNAT:
		ct_bit(fx, NFT_CT_STATUS, IPS_DST_NAT);
		break;
	case MATCH_SET:
		lookup(fx, &rs->sets[m->set]);
		break;
	case MATCH_DADDR_LO4:
		nfproto(fx, AF_INET);
		daddr(fx, AF_INET, sizeof(loopback_net), NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &loopback_net, sizeof(loopback_net));
		break;
	case MATCH_DADDR_LO6:
		nfproto(fx, AF_INET6);
		daddr(fx, AF_INET6, 16, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &in6addr_loopback, sizeof(in6addr_loopback));
		break;
	case MATCH_MARKED:
		meta(fx, NFT_META_MARK, NFT_REG_1);
		cmp(fx, NFT_CMP_NEQ, &no_mark, sizeof(no_mark));
		break;
	case MATCH_HAS_PORT4:
		fragment_offset4(fx, NFT_CMP_EQ);
		break;
	case MATCH_LATER_FRAG4:
		fragment_offset4(fx, NFT_CMP_NEQ);
		break;
	case MATCH_LATER_FRAG6:
		later_fragment6(fx);
		break;
	case MATCH_CT_INVALID:
		ct_bit(fx, NFT_CT_STATE, CT_STATE_INVALID);
		break;
	case MATCH_FRAG6:
		has_fragment6(fx);
		break;
	case MATCH_ANY_L4PROTO:
		meta(fx, NFT_META_L4PROTO, NFT_REG_1);
		cmp(fx, NFT_CMP_NEQ, &no_proto, sizeof(no_proto));
		break;
	case MATCH_ROUTED:
		meta(fx, NFT_META_RTCLASSID, NFT_REG_1);
		cmp(fx, NFT_CMP_NEQ, &no_class, sizeof(no_class));
		break;
	case MATCH_NOT_BRIDGED:
		meta(fx, NFT_META_PKTTYPE, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &to_host, sizeof(to_host));
		break;
	case MATCH_STAMPED:
		meta(fx, NFT_META_PRIORITY, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &stamp, sizeof(stamp));
		break;
	case MATCH_PROTOCOL:
		meta(fx, NFT_META_PROTOCOL, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &type_be, sizeof(type_be));
		break;
	case MATCH_OIFTYPE:
		meta(fx, NFT_META_OIFTYPE, NFT_REG_1);
		cmp(fx, NFT_CMP_EQ, &oiftype, sizeof(oiftype));
		break;
	case MATCH_RAW:
		raw(fx, rs, &m->raw);
		break;
	case MATCH_IPSEC:
		ipsec(fx, m->reqid);
		break;
	}
}

static void add_reference(struct fwexpr *fx, uint32_t type, const char *name)
{
	struct nftnl_expr *e = add_expr(fx, "objref");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, type);
	set_str(fx, e, NFTNL_EXPR_OBJREF_IMM_NAME, name);
}

static void add_counter(struct fwexpr *fx, unsigned int promise)
{
	char name[RULESET_NAME];

	snprintf(name, sizeof(name), "S%u", promise);
	add_reference(fx, NFT_OBJECT_COUNTER, name);
}

/* reg = data */
static void immediate(struct fwexpr *fx, uint32_t dreg, const void *data, size_t len)
{
	struct nftnl_expr *e = add_expr(fx, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, dreg);
	set_data(fx, e, NFTNL_EXPR_IMM_DATA, data, len);
}

static void add_stamp(struct fwexpr *fx)
{
	const uint32_t stamp = RULESET_STAMP;
	struct nftnl_expr *e;

	immediate(fx, NFT_REG_1, &stamp, sizeof(stamp));
	e = add_expr(fx, "meta");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_PRIORITY);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

/* The element of the packet's key counts it; the kernel makes it where there is none. */
static void add_count(struct fwexpr *fx, const struct set *set)
{
	struct nftnl_expr *e, *counter;

	if (!set) {
		fx->err = fx->err ?: -EINVAL; /* there is none in a ruleset without sets */
		return;
	}
	load_key(fx, set);
	e = add_expr(fx, "dynset");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_UPDATE);
	set_str(fx, e, NFTNL_EXPR_DYNSET_SET_NAME, set->name);
	counter = nftnl_expr_alloc("counter");
	if (!counter) {
		fx->err = fx->err ?: -ENOMEM;
		return;
	}
	/* Owned by the other from here on. */
	nftnl_expr_set_u64(counter, NFTNL_EXPR_CTR_PACKETS, 0);
	nftnl_expr_set_u64(counter, NFTNL_EXPR_CTR_BYTES, 0);
	nftnl_expr_set(e, NFTNL_EXPR_DYNSET_EXPR, counter, 0);
}

static void add_end(struct fwexpr *fx, int verdict, const char *target)
{
	struct nftnl_expr *e = add_expr(fx, "immediate");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	if (target)
		set_str(fx, e, NFTNL_EXPR_IMM_CHAIN, target);
}

static void add_reject(struct fwexpr *fx, uint32_t type, uint8_t code)
{
	struct nftnl_expr *e = add_expr(fx, "reject");

	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_REJECT_TYPE, type);
	nftnl_expr_set_u8(e, NFTNL_EXPR_REJECT_CODE, code);
}

static void add_log(struct fwexpr *fx, const struct ruleset *rs, unsigned int promise)
{
	char prefix[32];
	struct nftnl_expr *e = add_expr(fx, "limit");

	if (!e)
		return;
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, rs->log_rate);
	nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1); /* seconds */
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_BURST, LOG_BURST);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LIMIT_FLAGS, 0);

	e = add_expr(fx, "log");
	if (!e)
		return;
	snprintf(prefix, sizeof(prefix), "leakguard S%u ", promise);
	set_str(fx, e, NFTNL_EXPR_LOG_PREFIX, prefix);
	nftnl_expr_set_u16(e, NFTNL_EXPR_LOG_GROUP, (uint16_t)rs->log_group);
}

static void add_tproxy(struct fwexpr *fx, sa_family_t family)
{
	const uint16_t port_be = htons(TPROXY_PORT);
	struct nftnl_expr *e;

	immediate(fx, NFT_REG_1, &port_be, sizeof(port_be));
	e = add_expr(fx, "tproxy");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_FAMILY,
			   family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
	nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_REG_PORT, NFT_REG_1);
}

static void add_dnat(struct fwexpr *fx, const struct redirect *to)
{
	const bool v6 = to->addr.family == AF_INET6;
	const uint16_t port_be = htons(to->port);
	struct nftnl_expr *e;

	immediate(fx, NFT_REG_1, to->addr.bytes, addr_len(&to->addr));
	immediate(fx, NFT_REG_2, &port_be, sizeof(port_be));
	e = add_expr(fx, "nat");
	if (!e)
		return;
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FAMILY, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_ADDR_MAX, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG_2);
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_REG_PROTO_MAX, NFT_REG_2);
	/* As the kernel gives it back. */
	nftnl_expr_set_u32(e, NFTNL_EXPR_NAT_FLAGS,
			   NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED);
}

static void add_verdict(struct fwexpr *fx, const struct ruleset *rs, const struct rule *rule)
{
	switch (rule->verdict) {
	case VERDICT_ACCEPT:
		add_end(fx, NF_ACCEPT, NULL);
		break;
	case VERDICT_DROP:
		add_end(fx, NF_DROP, NULL);
		break;
	case VERDICT_RETURN:
		add_end(fx, NFT_RETURN, NULL);
		break;
	case VERDICT_JUMP:
		add_end(fx, NFT_JUMP, rule->target);
		break;
	case VERDICT_GOTO:
		add_end(fx, NFT_GOTO, rule->target);
		break;
	case VERDICT_REJECT_RESET:
		add_reject(fx, NFT_REJECT_TCP_RST, 0);
		break;
	case VERDICT_REJECT_ADMIN:
		add_reject(fx, NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_ADMIN_PROHIBITED);
		break;
	case VERDICT_LOG:
		add_log(fx, rs, rule->promise);
		break;
	case VERDICT_TPROXY4:
		add_tproxy(fx, AF_INET);
		break;
	case VERDICT_TPROXY6:
		add_tproxy(fx, AF_INET6);
		break;
	case VERDICT_DNAT:
		add_dnat(fx, &rule->to);
		break;
	case VERDICT_REDIRECT:
		(void)add_expr(fx, "redir");
		break;
	case VERDICT_COUNT:
		add_count(fx, ruleset_set(rs, RULESET_BLOCKED));
		break;
	case VERDICT_STAMP:
		add_stamp(fx);
		break;
	case VERDICT_NO_OFFLOAD:
		add_reference(fx, NFT_OBJECT_CT_EXPECT, RULESET_NO_OFFLOAD);
		break;
	case VERDICT_MASQUERADE:
		(void)add_expr(fx, "masq");
		break;
	}
}

static void add_comment(struct fwexpr *fx, const char *comment)
{
	struct nftnl_udata_buf *udata = nftnl_udata_buf_alloc(NFT_USERDATA_MAXLEN);

	if (!udata || !nftnl_udata_put_strz(udata, NFTNL_UDATA_RULE_COMMENT, comment) ||
	    nftnl_rule_set_data(fx->rule, NFTNL_RULE_USERDATA, nftnl_udata_buf_data(udata),
				nftnl_udata_buf_len(udata)) < 0)
		fx->err = fx->err ?: -ENOMEM;
	if (udata)
		nftnl_udata_buf_free(udata);
}

uint8_t fwexpr_family(enum family family)
{
	static const uint8_t families[] = {
		[FAMILY_INET] = NFPROTO_INET,
		[FAMILY_NETDEV] = NFPROTO_NETDEV,
		[FAMILY_BRIDGE] = NFPROTO_BRIDGE,
	};

	return families[family];
}

int fwexpr_build_rule(const char *table, const struct ruleset *rs, const struct chain *chain,
		      const struct rule *rule, struct nftnl_rule **ret_rule)
{
	struct fwexpr fx = { .rule = nftnl_rule_alloc(), .family = rs->family };

	if (!fx.rule)
		return -ENOMEM;
	nftnl_rule_set_u32(fx.rule, NFTNL_RULE_FAMILY, fwexpr_family(rs->family));
	if (nftnl_rule_set_str(fx.rule, NFTNL_RULE_TABLE, table) < 0 ||
	    nftnl_rule_set_str(fx.rule, NFTNL_RULE_CHAIN, chain->name) < 0)
		fx.err = -ENOMEM;

	for (size_t i = 0; i < rule->matches_len; i++)
		add_match(&fx, rs, &rule->matches[i]);
	if (rule->counted)
		add_counter(&fx, rule->promise);
	add_verdict(&fx, rs, rule);
	add_comment(&fx, rule->comment);

	if (fx.err) {
		nftnl_rule_free(fx.rule);
		return fx.err;
	}
	*ret_rule = fx.rule;
	return 0;
}
