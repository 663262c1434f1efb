#include "blocked.h"

#include <netinet/in.h>

#include "packet.h"

#define PORT_ENCRYPTED 853 /* RFC 7858, 3.1; RFC 9250, 4.1.1 */
#define TCP_PREFIX     2   /* bytes of length, RFC 1035, 4.2.2 */

/* Of TCP only what begins a message: in the middle of one anything may stand. */
static bool find_message(struct packet *p)
{
	size_t said;

	if (p->proto == IPPROTO_UDP)
		return p->payload_len;
	if (p->proto != IPPROTO_TCP || p->payload_len < TCP_PREFIX)
		return false;
	said = (size_t)(p->payload[0] << 8 | p->payload[1]);
	p->payload += TCP_PREFIX;
	p->payload_len -= TCP_PREFIX;
	p->payload_len = said < p->payload_len ? said : p->payload_len;
	return true;
}

void blocked_take_packet(struct blocked *b, const uint8_t *data, size_t len, uint16_t begins_with)
{
	struct packet p;

	packet_parse(data, len, begins_with, &p);
	b->source = p.source;
	b->dest = p.dest;
	b->proto = p.proto;
	b->has_ports = p.has_ports;
	b->source_port = p.source_port;
	b->dest_port = p.dest_port;
	b->question = p.fragment ? QUESTION_FRAGMENT : QUESTION_UNKNOWN;
	if (p.has_ports && p.dest_port == PORT_ENCRYPTED)
		b->question = QUESTION_ENCRYPTED;
	else if (find_message(&p) && !dnsname_parse(p.payload, p.payload_len, b->name, &b->type))
		b->question = QUESTION_KNOWN;
}
