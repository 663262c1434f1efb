#include "routefilter.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "text.h"

/*
 * Loads are big-endian, messages in the host's order, addresses in the
 * network's: hence htons() and htonl() of all constants but an address.
 * A load beyond the message's end would drop it: lengths are checked before.
 */
enum offset {
	OFF_TYPE = offsetof(struct nlmsghdr, nlmsg_type),
	OFF_FAMILY = NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_family),
	OFF_DST_LEN = NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_dst_len),
	OFF_FLAGS = NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_flags),
	OFF_ATTRS = NLMSG_LENGTH(sizeof(struct rtmsg)),
};

enum memory { MEM_SHIFT, MEM_DST };

#define VERDICT_PASS UINT32_MAX /* bytes of the message to keep */
#define VERDICT_DROP 0

/* The distinct first `bits` bits of addresses, the rest 0. */
struct prefixes {
	uint32_t words[ROUTEFILTER_MAX_PREFIXES];
	size_t len;
	unsigned bits;
};

/* False: it is another one, and there is no room for it. */
static bool add_word(struct prefixes *p, uint32_t word)
{
	word &= UINT32_MAX << (32 - p->bits);
	for (size_t i = 0; i < p->len; i++)
		if (p->words[i] == word)
			return true;
	if (p->len == ROUTEFILTER_MAX_PREFIXES)
		return false;
	p->words[p->len++] = word;
	return true;
}

/* At 4 bits, of which there are 16, all have room. */
static void halve_bits(struct prefixes *p)
{
	const struct prefixes from = *p;

	p->bits /= 2;
	p->len = 0;
	for (size_t i = 0; i < from.len; i++)
		add_word(p, from.words[i]);
}

static void find_prefixes(struct prefixes *ret_p, const struct addr *addrs, size_t n,
			  sa_family_t family)
{
	ret_p->len = 0;
	ret_p->bits = 32;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *b = addrs[i].bytes;
		const uint32_t word =
			(uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];

		if (addrs[i].family == family)
			while (!add_word(ret_p, word))
				halve_bits(ret_p);
	}
}

static void put(struct routefilter *rf, unsigned code, uint32_t k)
{
	rf->code[rf->len++] = (struct sock_filter)BPF_STMT(code, k);
}

static void put_jump(struct routefilter *rf, unsigned compare, uint32_t k, uint8_t if_true,
		     uint8_t if_false)
{
	rf->code[rf->len++] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | compare | BPF_K, k, if_true, if_false);
}

static void put_verdict(struct routefilter *rf, uint32_t verdict)
{
	put(rf, BPF_RET | BPF_K, verdict);
}

/* This verdict if the accumulator compares so with k; or if it does not. */
static void put_if(struct routefilter *rf, unsigned compare, uint32_t k, uint32_t verdict)
{
	put_jump(rf, compare, k, 0, 1);
	put_verdict(rf, verdict);
}

static void put_unless(struct routefilter *rf, unsigned compare, uint32_t k, uint32_t verdict)
{
	put_jump(rf, compare, k, 1, 0);
	put_verdict(rf, verdict);
}

/*
 * A prefix covers an address if they agree in their first
 *	min(rtm_dst_len, 32, p->bits)
 * bits, that is if nothing of their difference is left when shifted by 32 less that.
 */
static void put_covers(struct routefilter *rf, const struct prefixes *p, size_t len)
{
	put(rf, BPF_LD | BPF_B | BPF_ABS, OFF_DST_LEN);
	put_if(rf, BPF_JEQ, 0, VERDICT_PASS);
	put_jump(rf, BPF_JGT, p->bits, 0, 1);
	put(rf, BPF_LD | BPF_IMM, p->bits);
	put(rf, BPF_ALU | BPF_NEG, 0);
	put(rf, BPF_ALU | BPF_ADD | BPF_K, 32);
	put(rf, BPF_ST, MEM_SHIFT);

	/* The offset of the attribute X, searched for from offset A on; 0: none. */
	put(rf, BPF_LDX | BPF_IMM, RTA_DST);
	put(rf, BPF_LD | BPF_IMM, OFF_ATTRS);
	put(rf, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR));
	put_if(rf, BPF_JEQ, 0, VERDICT_PASS);
	put(rf, BPF_MISC | BPF_TAX, 0);
	put(rf, BPF_LD | BPF_H | BPF_IND, offsetof(struct rtattr, rta_len));
	put_unless(rf, BPF_JEQ, htons((uint16_t)RTA_LENGTH(len)), VERDICT_PASS);
	put(rf, BPF_LD | BPF_W | BPF_IND, RTA_LENGTH(0));
	put(rf, BPF_ST, MEM_DST);

	put(rf, BPF_LDX | BPF_MEM, MEM_SHIFT);
	for (size_t i = 0; i < p->len; i++) {
		put(rf, BPF_LD | BPF_MEM, MEM_DST);
		put(rf, BPF_ALU | BPF_XOR | BPF_K, p->words[i]);
		put(rf, BPF_ALU | BPF_RSH | BPF_X, 0);
		put_if(rf, BPF_JEQ, 0, VERDICT_PASS);
	}
	put_verdict(rf, VERDICT_DROP);
}

/* With the route's family in the accumulator; falls through if it is another. */
static void put_family(struct routefilter *rf, const struct addr *addrs, size_t n,
		       sa_family_t family)
{
	const struct addr any = { .family = family };
	struct prefixes p;
	unsigned short over;

	find_prefixes(&p, addrs, n, family);
	put_jump(rf, BPF_JEQ, family, 1, 0); /* reaches 255 instructions only */
	over = rf->len;
	put(rf, BPF_JMP | BPF_JA, 0);
	put_covers(rf, &p, addr_len(&any));
	rf->code[over].k = rf->len - over - 1U;
}

void routefilter_build(struct routefilter *ret_rf, const struct addr *addrs, size_t n)
{
	struct routefilter *rf = ret_rf;

	rf->len = 0;
	put(rf, BPF_LD | BPF_W | BPF_LEN, 0);
	put_unless(rf, BPF_JGE, OFF_ATTRS, VERDICT_PASS);

	put(rf, BPF_LD | BPF_H | BPF_ABS, OFF_TYPE);
	put_jump(rf, BPF_JEQ, htons(RTM_NEWROUTE), 2, 0);
	put_unless(rf, BPF_JEQ, htons(RTM_DELROUTE), VERDICT_PASS);

	put(rf, BPF_LD | BPF_W | BPF_ABS, OFF_FLAGS);
	put_if(rf, BPF_JSET, htonl(RTM_F_CLONED), VERDICT_DROP);
	put(rf, BPF_LD | BPF_B | BPF_ABS, OFF_FAMILY);
	put_family(rf, addrs, n, AF_INET);
	put_family(rf, addrs, n, AF_INET6);
	put_verdict(rf, VERDICT_DROP); /* multicast routing, MPLS */
}
