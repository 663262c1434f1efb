/*
 * control.h - RUNDIR/control: commands ask the watcher
 *
 * A unix(7) socket of type SOCK_SEQPACKET, mode 0600: a client connects, sends
 * one request, gets one reply, and is closed.  Both are of fixed size; what a
 * change is about travels as a file of the run directory (state.h).  A client
 * that is no uid 0 and not of our own, says nothing, or says what is no request
 * costs nothing but its connection.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "loop.h"
#include "watch_status.h"

#define CONTROL_VERSION	    1
#define CONTROL_MAX_CLIENTS 8	 /* connected at a time, their request not yet there */
#define CONTROL_PATIENCE_MS 5000 /* how long a client may take to send its request */

enum control_verb {
	CONTROL_VERB_STATUS = 1, /* say how things are */
	CONTROL_VERB_COMMIT,	 /* make the prepared record of the run directory be in force */
	CONTROL_VERB_CHECK,	 /* have the kernel validate it */
	CONTROL_VERB_REMOVE,	 /* lower the guard */
	CONTROL_VERB_HANDOVER, /* give the owning socket away and end; a service's watcher refuses */
};

struct control_request {
	uint8_t version, verb;
	uint8_t unused[6]; /* 0 */
};

struct control_reply {
	uint8_t version, verb;
	uint8_t unused[2];
	int32_t result; /* 0, 1 or -errno */
	char text[CONFIG_ERR];
	struct watch_status status;
};

/* --- the watcher's end --- */

/*
 * Fill the reply, which is all zeros but for version and verb.  Called by the
 * loop; others wait meanwhile.  Must not call control_close().  A descriptor put
 * into control.pass_fd goes along with this reply, and stays the caller's.
 */
typedef void control_serve_fn(void *ctx, enum control_verb verb, struct control_reply *reply);

/* Must stay where it is from control_open() to control_close(): the loop points to it. */
struct control {
	struct loop *loop; /* the caller's; NULL: not open */
	control_serve_fn *serve;
	void *ctx;
	int listen_fd, dir_fd; /* owned */
	int spare_fd; /* owned; given up to refuse a client when all descriptors are used */
	int pass_fd;  /* see control_serve_fn; -1: none */
	dev_t dev;    /* of our socket file */
	ino_t ino;
	struct control_client {
		struct control *control;
		int fd;		  /* owned; -1: the place is free */
		uint64_t came_ms; /* CLOCK_MONOTONIC */
	} clients[CONTROL_MAX_CLIENTS];
};

/*
 * Listen at "control" in this directory, in the place of whatever stood there
 * (the file of a watcher that died, a link: replaced, not followed), and join
 * the loop.  That no other watcher is alive is the caller's to know, by a lock.
 * dir_path, of the same directory, is for messages, and for systems without
 * /proc, where it has to fit into sun_path (107 bytes).  dir_fd stays the
 * caller's.  0, or -errno with a text and nothing to free; -EISDIR where a
 * directory with something in it has the name.  Does not block.
 */
int control_open(struct control *c, struct loop *l, int dir_fd, const char *dir_path,
		 control_serve_fn *serve, void *ctx, char reterr_text[CONFIG_ERR]);

/*
 * Leave the loop, drop all clients; remove the file, if the name still leads to
 * ours.  Accepts one of all zeros, one that failed to open and one closed before.
 */
void control_close(struct control *c);

/* Whether "control" in this directory leads to our socket: if not, clients cannot find us. */
bool control_is_in_place(const struct control *c, int dir_fd);

/*
 * Drop clients that came more than CONTROL_PATIENCE_MS ago; now_ms is
 * CLOCK_MONOTONIC.  Accepts one that is not open.
 */
void control_expire(struct control *c, uint64_t now_ms);

/* --- a command's end --- */

/*
 * Ask the watcher of this run directory.  Blocks at most timeout_ms, which is
 * at least 1.  0 and a reply, which may itself be a refusal, with every string
 * terminated (though its bytes are the sender's: text_quotable()).  Otherwise:
 *   -ENOENT, -ECONNREFUSED  no watcher: no file, or nobody listens there (any
 *                           file that is no socket, too); nothing was asked
 *   -EACCES      may not connect, or who listens is neither uid 0 nor our own
 *                euid; nothing was asked
 *   -ECONNRESET  it went away before it answered, or closed on us again and again
 *                without reading: the outcome is unknown
 *   -ETIMEDOUT   no answer in time: the outcome is unknown
 *   -EPROTO      an answer of another shape or version: the outcome is unknown
 * or another -errno of socket(2), connect(2), send(2), recv(2).
 */
int control_ask(int dir_fd, const char *dir_path, enum control_verb verb, int timeout_ms,
		struct control_reply *ret_reply);

/* The same; *ret_fd is the descriptor that came along, the caller's from now on, or -1. */
int control_ask_fd(int dir_fd, const char *dir_path, enum control_verb verb, int timeout_ms,
		   struct control_reply *ret_reply, int *ret_fd);

#endif
