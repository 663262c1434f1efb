/* text.h - parse and print small things: addresses, ports, link names */
#ifndef TEXT_H
#define TEXT_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* An IPv4 or IPv6 address without port or zone. */
struct addr {
	sa_family_t family; /* AF_INET or AF_INET6 */
	uint8_t bytes[16];  /* network order; 4 used for AF_INET, the rest 0 */
};

#define ADDR_TEXT 46 /* INET6_ADDRSTRLEN */

/*
 * Text to address, as inet_pton(3) takes it.  A v4-mapped IPv6 address
 * (::ffff:192.0.2.1) becomes the IPv4 address: that is what a socket bound to
 * it puts on the wire (RFC 4038, 4.2).  No zone, no brackets.
 * Returns 0, or -EINVAL and leaves ret_addr alone.
 */
int addr_parse(const char *text, struct addr *ret_addr);

/* The address as inet_ntop(3) writes it, into buf of ADDR_TEXT bytes; returns buf. */
const char *addr_format(const struct addr *addr, char *buf);

/* Bytes in use: 4 or 16. */
size_t addr_len(const struct addr *addr);

/* Total order: IPv4 before IPv6, then by bytes.  <0, 0, >0 as memcmp(3). */
int addr_cmp(const struct addr *a, const struct addr *b);

bool addr_is_loopback(const struct addr *addr);	 /* 127.0.0.0/8, ::1 */
bool addr_is_linklocal(const struct addr *addr); /* fe80::/10 only; RFC 4291, 2.5.6 */
bool addr_is_unicast(const struct addr *addr);	 /* not 0/8, 224/3 (and above), ::, ff00::/8 */

/* An Ethernet address. */
#define MAC_LEN	 6
#define MAC_TEXT 18 /* with NUL */

/*
 * Six pairs of hexadecimal digits with ':' or '-' between them; one host's, so neither a
 * group's nor all zeros.  0, or -EINVAL and leaves ret_mac alone.
 */
int mac_parse(const char *text, uint8_t ret_mac[MAC_LEN]);

/* With ':' and small letters, into buf of MAC_TEXT bytes; returns buf. */
const char *mac_format(const uint8_t mac[MAC_LEN], char *buf);

/*
 * A link's name, as the kernel's dev_valid_name(): 1 to 15 bytes, not "." or
 * "..", no '/', ':' or white space; and none of the bytes that would have to
 * be quoted in our own files or in nft's.
 * Returns 0, or -EINVAL and leaves ret_name alone.
 */
int ifname_parse(const char *text, char ret_name[IFNAMSIZ]);

/*
 * Policy-mode IPsec as a tunnel, "ipsec:N" with N the reqid of a policy (1 to
 * 999999999), or "ipsec:any"; no link can have such a name.  0 and the reqid, 0
 * for any; or -EINVAL.
 */
int ipsec_parse(const char *text, uint32_t *ret_reqid);

/* "ipsec:N" of a reqid up to IPSEC_MAX_REQID, padded with zeros; returns ret_name. */
#define IPSEC_MAX_REQID 999999999 /* as long as a link's name may be */
const char *ipsec_format(uint32_t reqid, char ret_name[IFNAMSIZ]);

/* Whether a tunnel's name is such a one. */
bool ipsec_is_name(const char *name);

/* A link's name, or one of the above in its shortest form.  0, or -EINVAL and leaves ret_name alone. */
int tunnel_name_parse(const char *text, char ret_name[IFNAMSIZ]);

/* Decimal, or hexadecimal with 0x, within [min, max].  0, or -EINVAL. */
int number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number);

/*
 * A length of time: a number with "s", "m", "h" or no unit (seconds), within
 * [1, max_s].  0, or -EINVAL.
 */
int duration_parse(const char *text, uint32_t max_s, uint32_t *ret_s);

/* "udp" or "tcp" to IPPROTO_*, and back (never NULL). */
int proto_parse(const char *text, uint8_t *ret_proto);
const char *proto_format(uint8_t proto);

/*
 * Copy untrusted text for a message: control bytes become '?', what does not
 * fit into `size` bytes is cut.  Returns buf.
 */
const char *text_quotable(const char *text, char *buf, size_t size);

#endif
