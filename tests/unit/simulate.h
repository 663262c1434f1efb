/* simulate.h - the rules, run on frames as nf_tables would: bytes, and what the kernel knows beside them */
#ifndef SIMULATE_H
#define SIMULATE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "combinations.h"

#define FRAME_ROOM 256
#define ETHER_LEN  14 /* an Ethernet header; its last two bytes are the type */

struct frame {
	uint8_t bytes[FRAME_ROOM];
	size_t len;
	uint16_t called;   /* skb->protocol: what the sender says, or the receive path has found */
	size_t ether_len;  /* of the link's own header; 0: the link has none */
	size_t network_at; /* skb_network_header() */
	bool routed;	   /* skb_dst(): it came by this host's IP stack */
	bool bridged;	   /* skb->pkt_type is PACKET_OTHERHOST */
	bool ppp;	   /* leaves through a PPP link */
	bool stamped;	   /* has RULESET_STAMP for its priority */
	bool unread;	   /* its link header is not set: PACKET_QDISC_BYPASS */
	char link[IFNAMSIZ]; /* the last one */
	uint32_t mark;
};

static inline bool frame_read(const struct frame *f, size_t at, size_t len, void *ret)
{
	if (at + len > f->len)
		return false;
	memcpy(ret, f->bytes + at, len);
	return true;
}

/* struct nft_pktinfo: what the hook finds out before the first rule. */
struct pktinfo {
	bool known; /* NFT_PKTINFO_L4PROTO: header and lengths hold water */
	uint8_t proto;
	size_t transport_at;
	bool later; /* fragoff */
};

/* __nft_set_pktinfo_ipv4_validate(), include/net/netfilter/nf_tables_ipv4.h */
static inline struct pktinfo find_transport4(const struct frame *f)
{
	const size_t at = f->network_at;
	struct pktinfo info = { 0 };
	uint16_t total_be, frag_be;
	uint8_t first;

	if (!frame_read(f, at + 19, 1, &first) || !frame_read(f, at, 1, &first) ||
	    first >> 4 != 4 || (first & 15) < 5 || !frame_read(f, at + 2, 2, &total_be) ||
	    !frame_read(f, at + 6, 2, &frag_be) || !frame_read(f, at + 9, 1, &info.proto))
		return info;
	info.transport_at = at + (size_t)(first & 15) * 4;
	info.later = ntohs(frag_be) & 0x1fff;
	info.known = f->len >= ntohs(total_be) && ntohs(total_be) >= info.transport_at;
	return info;
}

static inline bool is_exthdr(int next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_NONE || next == IPPROTO_DSTOPTS;
}

/* ipv6_find_hdr(), net/ipv6/exthdrs_core.c: the number of a header, or -1. */
static inline int find_header6(const struct frame *f, int target, size_t *ret_at, bool *ret_later)
{
	size_t at = f->network_at + 40;
	uint8_t next, head[2];
	uint16_t frag_be;

	*ret_later = false;
	if (!frame_read(f, f->network_at + 6, 1, &next))
		return -1;
	for (;;) {
		const bool found = next == target;

		*ret_at = at;
		if (!is_exthdr(next) || next == IPPROTO_NONE)
			return target < 0 || found ? next : -1;
		if (!frame_read(f, at, 2, head))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			if (!frame_read(f, at + 2, 2, &frag_be))
				return -1;
			if (ntohs(frag_be) & ~7) {
				*ret_later = true;
				if (target < 0 && (!is_exthdr(head[0]) || head[0] == IPPROTO_NONE))
					return head[0];
				return found ? next : -1;
			}
		} else if (next == IPPROTO_AH && target < 0) {
			return next; /* IP6_FH_F_AUTH */
		}
		if (found)
			return next;
		at += next == IPPROTO_FRAGMENT ? 8 :
		      next == IPPROTO_AH       ? (size_t)(head[1] + 2) * 4 :
						 (size_t)(head[1] + 1) * 8;
		next = head[0];
	}
}

/* __nft_set_pktinfo_ipv6_validate(), include/net/netfilter/nf_tables_ipv6.h */
static inline struct pktinfo find_transport6(const struct frame *f)
{
	struct pktinfo info = { 0 };
	uint16_t payload_be;
	uint8_t first;
	int proto;

	if (!frame_read(f, f->network_at + 39, 1, &first) ||
	    !frame_read(f, f->network_at, 1, &first) || first >> 4 != 6 ||
	    !frame_read(f, f->network_at + 4, 2, &payload_be) ||
	    f->network_at + 40 + ntohs(payload_be) > f->len)
		return info;
	proto = find_header6(f, -1, &info.transport_at, &info.later);
	info.known = proto >= 0;
	info.proto = (uint8_t)proto;
	return info;
}

static inline struct pktinfo find_transport(const struct frame *f)
{
	return f->called == 0x0800 ? find_transport4(f) :
	       f->called == 0x86dd ? find_transport6(f) :
				     (struct pktinfo){ 0 };
}

/* A run: of one frame in one table. */
struct run {
	const struct ruleset *rs;
	const struct frame *frame;
	struct pktinfo info;
	bool old;     /* a kernel that takes what stands in a later fragment for a port */
	bool *stamps; /* set where it meets that rule */
};

/* nft_payload_eval(); false breaks the rule. */
static inline bool load(const struct run *r, enum raw_base base, size_t at, size_t len, void *ret)
{
	const struct frame *f = r->frame;

	if (base == RAW_LINK)
		return f->ether_len && !f->unread && frame_read(f, at, len, ret);
	if (base == RAW_NETWORK)
		return frame_read(f, f->network_at + at, len, ret);
	return r->info.known && (r->old || !r->info.later) &&
	       frame_read(f, r->info.transport_at + at, len, ret);
}

static inline bool load_dport(const struct run *r, uint16_t *ret_port)
{
	uint16_t port_be;

	if (!load(r, RAW_TRANSPORT, 2, 2, &port_be))
		return false;
	*ret_port = ntohs(port_be);
	return true;
}

static inline bool load_field(const struct run *r, enum field field, void *ret)
{
	const uint16_t called_be = htons(r->frame->called);

	switch (field) {
	case FIELD_OIFNAME:
		memcpy(ret, r->frame->link, IFNAMSIZ);
		return true;
	case FIELD_PROTOCOL:
		memcpy(ret, &called_be, sizeof(called_be));
		return true;
	case FIELD_DADDR4:
		return r->frame->called == 0x0800 && load(r, RAW_NETWORK, 16, 4, ret);
	case FIELD_DADDR6:
		return r->frame->called == 0x86dd && load(r, RAW_NETWORK, 24, 16, ret);
	case FIELD_L4PROTO:
		memcpy(ret, &r->info.proto, 1);
		return r->info.known;
	case FIELD_DPORT:
		return load(r, RAW_TRANSPORT, 2, 2, ret);
	case FIELD_MARK:
		memcpy(ret, &r->frame->mark, sizeof(r->frame->mark));
		return true;
	case FIELD_OIFKIND:
		memset(ret, 0, IFNAMSIZ);
		return true;
	case FIELD_IIFNAME:
	case FIELD_SADDR4:
	case FIELD_SADDR6:
	case FIELD_SMAC:
	case FIELD_NFPROTO:
		fail_msg("of table inet only");
	}
	return false;
}

static inline bool is_elem(const struct run *r, const struct set *set)
{
	uint8_t key[SET_MAX_KEY] = { 0 };

	for (size_t i = 0; i < set->fields_len; i++)
		if (!load_field(r, set->fields[i], key + set_field_offset(set, i)))
			return false;
	for (size_t i = 0; i < set->elems_len; i++)
		if (!memcmp(set->elems + i * set->key_len, key, set->key_len))
			return true;
	return false;
}

static inline bool is_raw_matched(const struct run *r, const struct raw *raw)
{
	const uint16_t *values;
	const size_t n = ruleset_raw_values(r->rs, raw, &values);
	uint8_t bytes[2];

	for (size_t i = 0; i < n; i++) {
		uint16_t value;

		if (!load(r, raw->base, raw->at, raw->len, bytes))
			return false;
		value = raw->len == 1 ? bytes[0] : (uint16_t)(bytes[0] << 8 | bytes[1]);
		if (raw->mask)
			value &= raw->mask;
		if ((value == values[i]) == raw->differs)
			return false;
	}
	return true;
}

/* Fragment offset: -1 for what has no such field where it is looked for. */
static inline int frag_off4(const struct run *r)
{
	uint16_t frag_be;

	if (r->frame->called != 0x0800 || !load(r, RAW_NETWORK, 6, 2, &frag_be))
		return -1;
	return ntohs(frag_be) & 0x1fff;
}

static inline bool has_frag6(const struct run *r, bool *ret_later)
{
	size_t at;

	return find_header6(r->frame, IPPROTO_FRAGMENT, &at, ret_later) >= 0;
}

static inline bool is_matched(const struct run *r, const struct match *m)
{
	const struct frame *f = r->frame;
	const bool ip6 = f->called == 0x86dd;
	bool later = false;
	uint16_t port;

	switch (m->kind) {
	case MATCH_DPORT:
		return load_dport(r, &port) && port == m->port;
	case MATCH_OTHER_DPORT:
		for (size_t i = 0; i < r->rs->ports_len; i++)
			if (!load_dport(r, &port) || port == r->rs->ports[i])
				return false;
		return true;
	case MATCH_L4PROTO:
		return r->info.known && r->info.proto == m->proto;
	case MATCH_NO_PORTS:
		return r->info.known && r->info.proto != IPPROTO_UDP &&
		       r->info.proto != IPPROTO_TCP;
	case MATCH_ANY_L4PROTO:
		return r->info.known && r->info.proto != IPPROTO_RAW;
	case MATCH_FAMILY:
		return f->called == (m->family == AF_INET ? 0x0800 : 0x86dd);
	case MATCH_OIFNAME:
		return !strncmp(f->link, m->link.name,
				m->link.prefix ? strlen(m->link.name) : IFNAMSIZ);
	case MATCH_SET:
		return is_elem(r, &r->rs->sets[m->set]);
	case MATCH_HAS_PORT4:
		return !frag_off4(r);
	case MATCH_LATER_FRAG4:
		return frag_off4(r) > 0;
	case MATCH_FRAG6:
		return ip6 && has_frag6(r, &later);
	case MATCH_LATER_FRAG6:
		return ip6 && has_frag6(r, &later) && later;
	case MATCH_ROUTED:
		return f->routed;
	case MATCH_NOT_BRIDGED:
		return !f->bridged;
	case MATCH_PROTOCOL:
		return f->called == m->port;
	case MATCH_OIFTYPE:
		/* ARPHRD_PPP, ARPHRD_ETHER, ARPHRD_NONE */
		return m->port == (f->ppp ? 512 : f->ether_len ? 1 : 0xfffe);
	case MATCH_STAMPED:
		return f->stamped;
	case MATCH_RAW:
		return is_raw_matched(r, &m->raw);
	case MATCH_MARKED:
	case MATCH_OIF_LO:
	case MATCH_DADDR_LO4:
	case MATCH_DADDR_LO6:
	case MATCH_CT_INVALID:
	case MATCH_IPSEC:
	case MATCH_SPORT:
	case MATCH_IIFNAME:
	case MATCH_LOCAL:
	case MATCH_CT_DNAT:
		fail_msg("of table inet only");
	}
	return false;
}

/* The rule that decides, or NULL: then the chain it came from goes on. */
static inline const struct rule *run_chain(const struct run *r, const char *name)
{
	const struct chain *chain = chain_named(r->rs, name);

	for (size_t i = 0; i < chain->rules_len; i++) {
		const struct rule *rule = &chain->rules[i], *end;
		bool all = true;

		for (size_t m = 0; all && m < rule->matches_len; m++)
			all = is_matched(r, &rule->matches[m]);
		if (all && rule->verdict == VERDICT_STAMP)
			*r->stamps = true;
		if (!all || rule->verdict == VERDICT_LOG || rule->verdict == VERDICT_COUNT ||
		    rule->verdict == VERDICT_STAMP)
			continue;
		if (rule->verdict == VERDICT_ACCEPT || rule->verdict == VERDICT_DROP)
			return rule;
		if (rule->verdict == VERDICT_RETURN)
			return NULL;
		assert_true(rule->verdict == VERDICT_JUMP || rule->verdict == VERDICT_GOTO);
		end = run_chain(r, rule->target);
		if (end || rule->verdict == VERDICT_GOTO)
			return end;
	}
	return NULL;
}

/* The rule that drops a frame, or NULL: it passes, and is stamped or not. */
static inline const struct rule *find_drop_or_stamp(const struct ruleset *rs, const struct frame *f,
						    bool old, bool *ret_stamped)
{
	const struct run r = { rs, f, find_transport(f), old, ret_stamped };
	const struct rule *end;

	*ret_stamped = f->stamped;
	end = run_chain(&r, rs->family == FAMILY_NETDEV ? "egress" : "forward");
	return end && end->verdict == VERDICT_DROP ? end : NULL;
}

static inline const struct rule *find_drop(const struct ruleset *rs, const struct frame *f,
					   bool old)
{
	bool stamped;

	return find_drop_or_stamp(rs, f, old, &stamped);
}

#endif
