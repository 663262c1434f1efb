/*
 * survey.h - what runs on the machine now, as far as a policy can be made of it
 *
 * Facts only; suggest.h says what they mean.  Nothing is changed, nothing needs
 * root: what only root is told is left out, and said so.
 */
#ifndef SURVEY_H
#define SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "ipsec.h"
#include "nameservers.h"
#include "netstate.h"
#include "policy.h"
#include "sockread.h"

#define SURVEY_MAX_PEERS   64 /* of WireGuard's links, together */
#define SURVEY_MAX_SOCKETS 16
#define SURVEY_MAX_IPSECS  16
#define SURVEY_MAX_HOLDERS 64

/* Where WireGuard says that it sends its packets. */
struct survey_peer {
	char link[IFNAMSIZ];
	struct endpoint endpoint;
};

/* A process that has the device of a tunnel open. */
struct survey_holder {
	struct process process;
	char link[IFNAMSIZ];
};

/* A socket connected to a guarded port. */
struct survey_socket {
	struct connection connection;
	struct process process; /* pid 0: not known */
};

struct survey {
	struct netstate net; /* routes: of the name servers, then of the sockets, in their order */
	struct nameservers servers;
	struct survey_peer peers[SURVEY_MAX_PEERS];
	size_t peers_len;
	struct survey_socket sockets[SURVEY_MAX_SOCKETS];
	size_t sockets_len;
	struct survey_holder holders[SURVEY_MAX_HOLDERS]; /* of tunnels' devices */
	size_t holders_len;
	struct ipsec_policy ipsecs[SURVEY_MAX_IPSECS]; /* outgoing, whole */
	size_t ipsecs_len;
	bool unprivileged; /* peers, holders, ipsecs or processes were kept from us */
};

/*
 * Ask the kernel and read files.  Blocks for some milliseconds, and at most some
 * seconds where a program does not answer.  Guarded are the ports of p.  0 and a
 * survey for survey_fini(), or -errno with a text.
 */
int survey_read(struct survey *ret_sv, const struct policy *p, char reterr_text[CONFIG_ERR]);

void survey_fini(struct survey *sv);

#endif
