/* packet.h - a blocked packet's bytes -> addresses, ports, what it carries.  Pure. */
#ifndef PACKET_H
#define PACKET_H

#include "text.h"

/* What the bytes begin with: an EtherType (linux/if_ether.h), or an Ethernet header itself. */
#define PACKET_ETHERNET 0
#define PACKET_IPV4	0x0800
#define PACKET_IPV6	0x86dd

struct packet {
	struct addr source, dest; /* AF_UNSPEC: not known, and nothing below is */
	uint8_t proto;		  /* IPPROTO_*; 0: not known (headers go on behind the end) */
	bool has_ports;		  /* of TCP and UDP, where the first fragment is there */
	bool fragment;		  /* a later one: ports and payload are in the first */
	uint16_t source_port, dest_port; /* host order */
	const uint8_t *payload;		 /* behind the TCP or UDP header; of the caller's bytes */
	size_t payload_len;		 /* of it, what is there */
};

/*
 * Take apart as much as is there; of VLAN tags and PPPoE it looks behind, too.
 * Reads nothing behind `len`, whatever the headers say.
 */
void packet_parse(const uint8_t *data, size_t len, uint16_t begins_with, struct packet *ret_packet);

#endif
