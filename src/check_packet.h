/* check_packet.h - the bytes of check's packets: made, and recognised again.  Pure. */
#ifndef CHECK_PACKET_H
#define CHECK_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define CHECK_PACKET_QUERY 128 /* room for a query */
#define CHECK_PACKET_BYTES 256 /* room for a packet */
/*
 * For experiments, RFC 3692: the protocol of controls of fragments, whose ports
 * nobody sees.  Its packets are made like datagrams.
 */
#define CHECK_PACKET_OTHER 253
#define CHECK_PACKET_ZONE  "leakguard-check.invalid" /* RFC 2606: nobody's */

struct check_packet {
	struct addr from, to;
	uint8_t proto; /* IPPROTO_UDP, IPPROTO_TCP or CHECK_PACKET_OTHER */
	uint16_t sport, dport;
	uint32_t tag; /* TCP's sequence number; its low half IPv4's identification */
	bool later;   /* of one that was read: a later fragment, whose ports are not there */
	const uint8_t *payload;
	size_t payload_len;
};

/*
 * A query for the addresses of LABEL.CHECK_PACKET_ZONE (RFC 1035, 4.1), with `tag` for
 * its id.  Returns its length; 0 where the label is longer than 63 bytes.
 */
size_t check_packet_query(const char *label, uint32_t tag, uint8_t buf[CHECK_PACKET_QUERY]);

/*
 * The packet from its IP header on, checksums and all: a datagram, or TCP's
 * opening SYN.  Both addresses are of one family.  Returns its length; 0: too long.
 */
size_t check_packet_build(const struct check_packet *packet, uint8_t buf[CHECK_PACKET_BYTES]);

/*
 * One of the two fragments (0, 1) of a datagram.  The first ends in the query's
 * header: its label is CHECK_PACKET_LATER bytes from the start of the other's payload.
 */
#define CHECK_PACKET_LATER 5
#define CHECK_PACKET_WHOLE 13 /* the same in a whole query */
size_t check_packet_build_piece(const struct check_packet *packet, int piece,
				uint8_t buf[CHECK_PACKET_BYTES]);

/*
 * Read a packet that may be ours: without IP options or extension headers, a
 * datagram, the later one of its fragments, or TCP's SYN.  Its payload points into
 * data.  False: none of ours.
 */
bool check_packet_parse(const uint8_t *data, size_t len, struct check_packet *ret_packet);

#endif
