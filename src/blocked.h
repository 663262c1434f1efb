/* blocked.h - an attempt that was blocked, as data */
#ifndef BLOCKED_H
#define BLOCKED_H

#include "dnsname.h"
#include "text.h"

#define BLOCKED_PROGRAM 16  /* TASK_COMM_LEN */
#define BLOCKED_CLIENT	64  /* a client's name, with NUL */
#define BLOCKED_COPY	512 /* bytes of a packet that are looked at: all headers and a question */

/* What is known of the name that was asked for. */
enum question {
	QUESTION_UNKNOWN,   /* not in this packet, or not to be read */
	QUESTION_KNOWN,	    /* as `name` and `type` say */
	QUESTION_ENCRYPTED, /* on DNS over TLS's port (RFC 7858), and QUIC's */
	QUESTION_FRAGMENT,  /* in the first fragment, and this is a later one */
};

struct blocked {
	uint64_t time_ms;	/* since 1970 */
	unsigned int promise;	/* S7, S9 or S11 (ruleset.h) */
	char link[IFNAMSIZ];	/* the way out that it tried; "" where the kernel did not say */
	char in_link[IFNAMSIZ]; /* where it came in, if it was forwarded; "" of this host's own */
	bool has_uid;
	uint32_t uid;	    /* whose socket it was */
	bool has_mac;	    /* of who sent it here */
	bool has_frame_mac; /* of a frame that a socket of this machine sent: a guest's, or ours */
	uint8_t mac[MAC_LEN];	  /* with either of them */
	struct addr source, dest; /* AF_UNSPEC: not known */
	uint8_t proto;		  /* 0: not known */
	bool has_ports;
	uint16_t source_port, dest_port;
	enum question question;
	char name[DNSNAME_TEXT];
	uint16_t type;

	/* What others find out, of forwarded packets the user, too: "" and 0 where they could not. */
	char program[BLOCKED_PROGRAM]; /* chosen by itself: any bytes */
	int pid; /* 0 as well where several processes of one name have the socket */
	char client[BLOCKED_CLIENT]; /* chosen by itself: any bytes */
};

/*
 * Fill in what the packet itself tells: addresses, ports, protocol, question.
 * What it begins with is as packet_parse() takes it; it may be cut short.  Pure.
 */
void blocked_take_packet(struct blocked *b, const uint8_t *data, size_t len, uint16_t begins_with);

/* Whether it came from elsewhere: of a client, not of this host's own programs. */
static inline bool blocked_is_forwarded(const struct blocked *b)
{
	return *b->in_link || b->has_mac;
}

#endif
