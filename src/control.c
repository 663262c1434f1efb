#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"

#define CONTROL_FILE "control"
#define CONTROL_TMP  "control.new"
#define BACKLOG	     64	  /* more wait in connect(2); a burst of commands is some tens */
#define ACCEPT_MAX   16	  /* a call: others in the loop have their turn */
#define ASK_MAX	     4	  /* times that a command asks, if its request is not even read */
#define ERRNO_MAX    4095 /* the kernel's MAX_ERRNO, include/linux/err.h */

/* --- both ends --- */

/* The path is the directory that is open: it was not replaced, and /proc is what is missing. */
static bool leads_to(const char *path, int dir_fd)
{
	struct stat named, opened;

	return !stat(path, &named) && !fstat(dir_fd, &opened) && named.st_dev == opened.st_dev &&
	       named.st_ino == opened.st_ino;
}

/*
 * bind(2) or connect(2) to a name in a directory.  Run directories may be
 * longer than sun_path, and there is no bindat(2): so by the open descriptor.
 */
static int call_at(int (*call)(int, const struct sockaddr *, socklen_t), int fd, int dir_fd,
		   const char *dir_path, const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int err, len;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	if (!call(fd, (const struct sockaddr *)&sun, sizeof(sun)))
		return 0;
	err = -errno;
	*strrchr(sun.sun_path, '/') = '\0';
	if (err != -ENOENT || !access(sun.sun_path, F_OK) || !leads_to(dir_path, dir_fd))
		return err;
	len = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir_path, name);
	if (len >= (int)sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	return call(fd, (const struct sockaddr *)&sun, sizeof(sun)) ? -errno : 0;
}

/* Whoever is at the other end: root, or who we are ourselves. */
static bool peer_is_trusted(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || len != sizeof(peer))
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* --- the watcher's end: clients --- */

static void drop_client(struct control_client *client)
{
	loop_remove(client->control->loop, client->fd);
	close(client->fd);
	client->fd = -1;
}

static void fill_reply(const struct control *c, const struct control_request *request,
		       struct control_reply *reply)
{
	static const uint8_t zeros[sizeof(request->unused)];

	if (request->version != CONTROL_VERSION) {
		reply->result = -EPROTONOSUPPORT;
		snprintf(reply->text, sizeof(reply->text),
			 "version %u: expected %u, which the watcher speaks; restart the older of the two",
			 request->version, CONTROL_VERSION);
		return;
	}
	if (memcmp(request->unused, zeros, sizeof(zeros))) {
		reply->result = -EINVAL;
		snprintf(reply->text, sizeof(reply->text),
			 "a request with more in it: expected zeros");
		return;
	}
	switch ((enum control_verb)request->verb) {
	case CONTROL_VERB_STATUS:
	case CONTROL_VERB_COMMIT:
	case CONTROL_VERB_CHECK:
	case CONTROL_VERB_REMOVE:
	case CONTROL_VERB_HANDOVER:
		c->serve(c->ctx, request->verb, reply);
		return;
	}
	reply->result = -EINVAL;
	snprintf(reply->text, sizeof(reply->text), "verb %u: expected %u to %u", request->verb,
		 CONTROL_VERB_STATUS, CONTROL_VERB_HANDOVER);
}

/* One descriptor beside a message (unix(7), SCM_RIGHTS). */
union fd_message {
	struct cmsghdr header; /* for its alignment */
	char room[CMSG_SPACE(sizeof(int))];
};

static ssize_t send_reply(int fd, const struct control_reply *reply, int pass_fd)
{
	struct iovec iov = { (void *)reply, sizeof(*reply) };
	union fd_message beside = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (pass_fd >= 0) {
		msg.msg_control = beside.room;
		msg.msg_controllen = sizeof(beside.room);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(pass_fd));
	}
	return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t recv_reply(int fd, struct control_reply *reply, int *ret_fd)
{
	struct iovec iov = { reply, sizeof(*reply) };
	union fd_message beside = { 0 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = beside.room,
			      .msg_controllen = CMSG_LEN(sizeof(int)) }; /* one, and no more */
	const ssize_t len = recvmsg(fd, &msg, MSG_TRUNC | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *cmsg = len < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(*ret_fd));
	return len;
}

/*
 * A request, at last, or what is none.  Read without a control buffer: the
 * kernel then drops descriptors that were passed along (unix(7), SCM_RIGHTS).
 */
static void read_client(void *ctx)
{
	struct control_client *client = ctx;
	struct control_request request;
	struct control_reply reply;
	const ssize_t len = recv(client->fd, &request, sizeof(request), MSG_DONTWAIT | MSG_TRUNC);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len == sizeof(request)) {
		memset(&reply, 0, sizeof(reply));
		reply.version = CONTROL_VERSION;
		reply.verb = request.verb;
		fill_reply(client->control, &request, &reply);
		/* A client that does not wait for it has chosen so. */
		(void)send_reply(client->fd, &reply, client->control->pass_fd);
		client->control->pass_fd = -1;
	}
	drop_client(client);
}

/* A free place, that of the client who came first if need be. */
static struct control_client *make_place(struct control *c)
{
	struct control_client *oldest = &c->clients[0];

	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++) {
		if (c->clients[i].fd < 0)
			return &c->clients[i];
		if (c->clients[i].came_ms < oldest->came_ms)
			oldest = &c->clients[i];
	}
	/* Its request may have come since, with the loop not yet round to it. */
	read_client(oldest);
	if (oldest->fd >= 0)
		drop_client(oldest);
	return oldest;
}

static void take_client(struct control *c, int fd)
{
	struct control_client *client = make_place(c);

	*client =
		(struct control_client){ .control = c, .fd = fd, .came_ms = clock_monotonic_ms() };
	if (loop_add(c->loop, fd, read_client, client))
		drop_client(client);
	else
		read_client(client); /* most have sent it by now */
}

/*
 * Out of descriptors: the one kept for this makes room to accept the client
 * and close it.  Left waiting, it would wake the loop again at once, for ever.
 */
static void refuse_client(struct control *c)
{
	int fd;

	if (c->spare_fd >= 0)
		close(c->spare_fd);
	fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	c->spare_fd = fcntl(c->dir_fd, F_DUPFD_CLOEXEC, 0);
}

static void accept_clients(void *ctx)
{
	struct control *c = ctx;

	for (int i = 0; i < ACCEPT_MAX; i++) {
		const int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0 && peer_is_trusted(fd))
			take_client(c, fd);
		else if (fd >= 0)
			close(fd);
		else if (errno == EMFILE || errno == ENFILE)
			refuse_client(c);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

void control_expire(struct control *c, uint64_t now_ms)
{
	for (size_t i = 0; c->loop && i < CONTROL_MAX_CLIENTS; i++) {
		struct control_client *client = &c->clients[i];

		if (client->fd >= 0 && now_ms > client->came_ms &&
		    now_ms - client->came_ms > CONTROL_PATIENCE_MS)
			drop_client(client);
	}
}

/* --- the watcher's end: the socket --- */

/* Bind under the temporary name.  Nobody can connect before listen(2): by then the mode is right. */
static int bind_tmp(struct control *c, const char *dir_path)
{
	struct stat st;
	int err;

	if (unlinkat(c->dir_fd, CONTROL_TMP, 0) && errno == EISDIR)
		(void)unlinkat(c->dir_fd, CONTROL_TMP, AT_REMOVEDIR);
	err = call_at(bind, c->listen_fd, c->dir_fd, dir_path, CONTROL_TMP);
	if (err)
		return err;
	if (fchmodat(c->dir_fd, CONTROL_TMP, 0600, 0) ||
	    fstatat(c->dir_fd, CONTROL_TMP, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	return listen(c->listen_fd, BACKLOG) ? -errno : 0;
}

static int move_into_place(const struct control *c)
{
	if (!renameat(c->dir_fd, CONTROL_TMP, c->dir_fd, CONTROL_FILE))
		return 0;
	if (errno != EISDIR || unlinkat(c->dir_fd, CONTROL_FILE, AT_REMOVEDIR))
		return errno == ENOTEMPTY ? -EISDIR : -errno;
	return renameat(c->dir_fd, CONTROL_TMP, c->dir_fd, CONTROL_FILE) ? -errno : 0;
}

static int open_socket(struct control *c, const char *dir_path)
{
	int err;

	c->dir_fd = fcntl(c->dir_fd, F_DUPFD_CLOEXEC, 0);
	if (c->dir_fd < 0)
		return -errno;
	c->spare_fd = fcntl(c->dir_fd, F_DUPFD_CLOEXEC, 0);
	c->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->spare_fd < 0 || c->listen_fd < 0)
		return -errno;
	err = bind_tmp(c, dir_path);
	if (!err)
		err = loop_add(c->loop, c->listen_fd, accept_clients, c);
	if (!err)
		err = move_into_place(c);
	if (err)
		(void)unlinkat(c->dir_fd, CONTROL_TMP, 0);
	return err;
}

int control_open(struct control *c, struct loop *l, int dir_fd, const char *dir_path,
		 control_serve_fn *serve, void *ctx, char reterr_text[CONFIG_ERR])
{
	int err;

	*c = (struct control){ .loop = l,
			       .serve = serve,
			       .ctx = ctx,
			       .dir_fd = dir_fd,
			       .listen_fd = -1,
			       .spare_fd = -1,
			       .pass_fd = -1 };
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
		c->clients[i] = (struct control_client){ .control = c, .fd = -1 };
	err = open_socket(c, dir_path);
	if (!err)
		return 0;
	snprintf(reterr_text, CONFIG_ERR, "%.200s/%s: %s%s", dir_path, CONTROL_FILE, strerror(-err),
		 err == -EISDIR ? ", expected none; remove it" : "");
	control_close(c);
	return err;
}

bool control_is_in_place(const struct control *c, int dir_fd)
{
	struct stat st;

	return c->loop && !fstatat(dir_fd, CONTROL_FILE, &st, AT_SYMLINK_NOFOLLOW) &&
	       st.st_dev == c->dev && st.st_ino == c->ino;
}

void control_close(struct control *c)
{
	if (!c->loop)
		return;
	for (size_t i = 0; i < CONTROL_MAX_CLIENTS; i++)
		if (c->clients[i].fd >= 0)
			drop_client(&c->clients[i]);
	/* While the socket is open its file's number cannot become another's. */
	if (control_is_in_place(c, c->dir_fd))
		(void)unlinkat(c->dir_fd, CONTROL_FILE, 0);
	if (c->listen_fd >= 0) {
		loop_remove(c->loop, c->listen_fd);
		close(c->listen_fd);
	}
	if (c->spare_fd >= 0)
		close(c->spare_fd);
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	*c = (struct control){ 0 };
}

/* --- a command's end --- */

static void terminate(char *text, size_t size)
{
	text[size - 1] = '\0';
}

/* Make a reply safe to read, whoever sent it. */
static int sanitise_reply(struct control_reply *r)
{
	struct watch_status *s = &r->status;

	if (r->result > 1 || r->result < -ERRNO_MAX)
		return -EPROTO;
	terminate(r->text, sizeof(r->text));
	terminate(s->stale_text, sizeof(s->stale_text));
	terminate(s->culprit_name, sizeof(s->culprit_name));
	terminate(s->culprit_what, sizeof(s->culprit_what));
	if (s->tried_len > WATCH_STATUS_TRIED)
		s->tried_len = WATCH_STATUS_TRIED;
	for (size_t i = 0; i < WATCH_STATUS_TRIED; i++)
		terminate(s->tried[i].link, sizeof(s->tried[i].link));
	return 0;
}

/* What is left until the deadline is how long the next call may block. */
static int set_timeout(int fd, int option, uint64_t deadline_ms)
{
	const uint64_t now_ms = clock_monotonic_ms();
	struct timeval left;

	if (now_ms >= deadline_ms)
		return -ETIMEDOUT;
	left.tv_sec = (time_t)((deadline_ms - now_ms) / 1000);
	left.tv_usec = (suseconds_t)((deadline_ms - now_ms) % 1000 * 1000);
	return setsockopt(fd, SOL_SOCKET, option, &left, sizeof(left)) ? -errno : 0;
}

static int connect_watcher(int fd, int dir_fd, const char *dir_path, uint64_t deadline_ms)
{
	int err;

	/*
	 * A signal, or a full queue, leaves the socket as it was.  The kernel
	 * counts in ticks and may be up to one early; set_timeout() ends it.
	 */
	do {
		err = set_timeout(fd, SO_SNDTIMEO, deadline_ms);
		if (!err)
			err = call_at(connect, fd, dir_fd, dir_path, CONTROL_FILE);
	} while (err == -EINTR || err == -EAGAIN);
	if (err)
		return err == -EPROTOTYPE ? -EPROTO : err; /* a socket of another type */
	return peer_is_trusted(fd) ? 0 : -EACCES;
}

/*
 * -EPIPE: the request was not taken.  An end that is closed with its request
 * unread resets the other (net/unix/af_unix.c, unix_release_sock()); the other
 * two are of a send(2) that met the closing half way.
 */
static int transfer_error(int err)
{
	return err == -ECONNRESET || err == -ECONNREFUSED || err == -ENOTCONN ? -EPIPE : err;
}

/* send(2) the request, with reply NULL, or recv(2) the reply: bytes, or -errno. */
static ssize_t transfer(int fd, const struct control_request *request, uint64_t deadline_ms,
			struct control_reply *reply, int *ret_fd)
{
	ssize_t len;
	int err;

	do {
		err = set_timeout(fd, reply ? SO_RCVTIMEO : SO_SNDTIMEO, deadline_ms);
		if (err)
			return err;
		len = reply ? recv_reply(fd, reply, ret_fd) :
			      send(fd, request, sizeof(*request), MSG_NOSIGNAL);
	} while (len < 0 && (errno == EINTR || errno == EAGAIN));
	return len < 0 ? transfer_error(-errno) : len;
}

static int exchange(int fd, const struct control_request *request, uint64_t deadline_ms,
		    struct control_reply *reply, int *ret_fd)
{
	ssize_t len = transfer(fd, request, deadline_ms, NULL, NULL);

	if (len >= 0)
		len = transfer(fd, request, deadline_ms, reply, ret_fd);
	if (len < 0)
		return (int)len;
	if (!len) /* it had read the request */
		return -ECONNRESET;
	if (len != sizeof(*reply) || reply->version != CONTROL_VERSION ||
	    reply->verb != request->verb)
		return -EPROTO;
	return sanitise_reply(reply);
}

static int ask_once(int dir_fd, const char *dir_path, const struct control_request *request,
		    uint64_t deadline_ms, struct control_reply *reply, int *ret_fd)
{
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = connect_watcher(fd, dir_fd, dir_path, deadline_ms);
	if (!err)
		err = exchange(fd, request, deadline_ms, reply, ret_fd);
	close(fd);
	return err;
}

int control_ask_fd(int dir_fd, const char *dir_path, enum control_verb verb, int timeout_ms,
		   struct control_reply *ret_reply, int *ret_fd)
{
	const struct control_request request = { .version = CONTROL_VERSION, .verb = verb };
	const uint64_t deadline_ms =
		clock_monotonic_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 1);
	struct control_reply reply = { 0 };
	int err = -EPIPE, passed_fd = -1;

	/* Not taken: our place went to another in a crowd, or the watcher is just gone. */
	for (int i = 0; i < ASK_MAX && err == -EPIPE; i++)
		err = ask_once(dir_fd, dir_path, &request, deadline_ms, &reply, &passed_fd);
	if (!err) {
		*ret_reply = reply;
		*ret_fd = passed_fd;
	} else if (passed_fd >= 0) {
		close(passed_fd);
	}
	return err == -EPIPE ? -ECONNRESET : err;
}

int control_ask(int dir_fd, const char *dir_path, enum control_verb verb, int timeout_ms,
		struct control_reply *ret_reply)
{
	int fd = -1;
	int err = control_ask_fd(dir_fd, dir_path, verb, timeout_ms, ret_reply, &fd);

	if (fd >= 0)
		close(fd);
	return err;
}
