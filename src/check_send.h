/* check_send.h - one packet of check's, sent by each of its ways */
#ifndef CHECK_SEND_H
#define CHECK_SEND_H

#include <stdint.h>

#include "check_plan.h"

/* Closing a packet socket waits for all processors (packet_release()), so that one serves all frames. */
struct check_sender {
	int frames; /* owned; -1: not open */
};

#define CHECK_SENDER_CLOSED ((struct check_sender){ .frames = -1 })

/* Opens what is needed for long.  0, or -errno. */
int check_sender_open(struct check_sender *sender);
void check_sender_close(struct check_sender *sender);

/*
 * Send one shot.  `mac` is whom a frame goes to; it is looked at where the link
 * is Ethernet.  Does not block.  0, or -errno of the call that would not: -EPERM is
 * what a rule that drops at the output or postrouting hook says.
 */
int check_send(const struct check_sender *sender, const struct check_plan *plan,
	       const struct check_shot *shot, const uint8_t mac[MAC_LEN]);

#endif
