#include "whose.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>

#include "clock.h"
#include "netns.h"
#include "sockread.h"

#define MAX_SAME	  8  /* sockets of one packet: SO_REUSEPORT */
#define PROMISE_AT_DEVICE 11 /* frames round our IP stack: of none of its sockets */

/* --- which socket --- */

/* How well a socket fits: one that is connected to where the packet went before all others. */
enum fit { FIT_NONE, FIT_ANY_DEST, FIT_DEST };

struct search {
	struct blocked *b;
	bool away;	 /* in other namespaces */
	bool here;	 /* one that has the sender's Ethernet address */
	unsigned places; /* that have its source address, too */
	bool local;	 /* this one has it */
	enum fit best;
	uint32_t inodes[MAX_SAME];
	size_t inodes_len;
	uint32_t uid;
	bool several_uids, too_many;
};

static bool is_any(const struct addr *a)
{
	static const uint8_t zeros[16];

	return !memcmp(a->bytes, zeros, sizeof(zeros));
}

/* A socket for any IPv6 address takes IPv4 as well, unless it was told not to. */
static enum fit judge(const struct search *s, const struct sockread_socket *socket)
{
	const struct blocked *b = s->b;

	if (!socket->inode || socket->state == TCP_LISTEN ||
	    socket->source_port != b->source_port || (b->has_uid && socket->uid != b->uid))
		return FIT_NONE;
	if (is_any(&socket->source) ?
		    !s->local || (socket->family != b->source.family && socket->v6only) :
		    addr_cmp(&socket->source, &b->source) != 0)
		return FIT_NONE;
	if (is_any(&socket->dest) && !socket->dest_port)
		return b->proto == IPPROTO_UDP ? FIT_ANY_DEST : FIT_NONE;
	return !addr_cmp(&socket->dest, &b->dest) && socket->dest_port == b->dest_port ? FIT_DEST :
											 FIT_NONE;
}

static void take_socket(void *ctx, const struct sockread_socket *socket)
{
	struct search *s = ctx;
	const enum fit fit = judge(s, socket);

	if (fit == FIT_NONE || fit < s->best)
		return;
	if (fit > s->best) {
		s->best = fit;
		s->inodes_len = 0;
		s->too_many = s->several_uids = false;
	}
	s->several_uids |= s->inodes_len && s->uid != socket->uid;
	s->uid = socket->uid;
	if (s->inodes_len < MAX_SAME)
		s->inodes[s->inodes_len++] = socket->inode;
	else
		s->too_many = true;
}

static void find_sockets(struct search *s)
{
	struct sockread_query query = { .family = AF_INET6,
					.proto = s->b->proto,
					.states = SOCKREAD_ANYSTATE,
					.source_port = s->b->source_port };

	s->local = netns_is_local(&s->b->source);
	/* Where the kernel cannot say, nothing was found. */
	(void)sockread_sockets(&query, take_socket, s);
	query.family = AF_INET;
	if (s->b->source.family == AF_INET)
		(void)sockread_sockets(&query, take_socket, s);
	if (s->too_many)
		s->inodes_len = 0;
}

/* --- in which namespace --- */

struct searches {
	struct search list[WHOSE_AT_ONCE];
	size_t len;
};

static bool has_sockets(const struct blocked *b)
{
	return b->has_ports && (b->proto == IPPROTO_UDP || b->proto == IPPROTO_TCP);
}

static bool is_from_away(const struct blocked *b)
{
	return blocked_is_forwarded(b) || b->promise == PROMISE_AT_DEVICE;
}

static bool is_stranger(const struct whose *w, const uint8_t mac[MAC_LEN])
{
	const uint64_t now_ms = clock_monotonic_ms();

	for (size_t i = 0; i < WHOSE_STRANGERS; i++)
		if (now_ms < w->strangers[i].until_ms && !memcmp(w->strangers[i].mac, mac, MAC_LEN))
			return true;
	return false;
}

static void remember_stranger(struct whose *w, const uint8_t mac[MAC_LEN])
{
	struct whose_stranger *one = &w->strangers[w->next];

	if (is_stranger(w, mac))
		return;
	w->next = (w->next + 1) % WHOSE_STRANGERS;
	memcpy(one->mac, mac, MAC_LEN);
	one->until_ms = clock_monotonic_ms() + WHOSE_STRANGE_MS;
}

static void take_mac(void *ctx, const uint8_t mac[MAC_LEN])
{
	struct searches *all = ctx;

	for (size_t i = 0; i < all->len; i++)
		all->list[i].here |= !memcmp(all->list[i].b->mac, mac, MAC_LEN);
}

/* Bound to that address or not: in a namespace without it the socket is not its. */
static void visit(void *ctx)
{
	struct searches *all = ctx;

	for (size_t i = 0; i < all->len; i++)
		all->list[i].here = false;
	(void)netns_list_macs(take_mac, all);
	for (size_t i = 0; i < all->len; i++) {
		struct search *s = &all->list[i];

		if (!s->away || !s->here || !netns_is_local(&s->b->source))
			continue;
		if (!s->places++)
			find_sockets(s);
	}
}

/* As whose_find(). */
static int look_away(struct whose *w, struct searches *all)
{
	bool any = false;
	int all_seen;

	for (size_t i = 0; i < all->len; i++)
		any |= all->list[i].away;
	if (!any)
		return 0;
	all_seen = netns_visit_others(visit, all);
	if (all_seen < 0)
		return all_seen;
	for (size_t i = 0; i < all->len; i++) {
		struct search *s = &all->list[i];

		if (!s->away)
			continue;
		if (!all_seen || !s->places)
			remember_stranger(w, s->b->mac);
		if (!all_seen || s->places != 1)
			s->inodes_len = 0;
		/* A client, whatever became of its socket: macvlan's frames come with their user. */
		s->b->has_mac |= all_seen && s->places;
		if (!s->inodes_len || s->several_uids)
			continue;
		s->b->has_uid = true;
		s->b->uid = s->uid;
	}
	return 0;
}

/* --- which process --- */

struct wanted {
	uint32_t inode;
	bool found, mixed, several; /* holders of different names; more than one */
	char program[BLOCKED_PROGRAM];
	int pid;
};

struct hunt {
	struct wanted wanted[(WHOSE_AT_ONCE * MAX_SAME)];
	size_t len;
};

static struct wanted *find_wanted(struct hunt *h, uint32_t inode)
{
	for (size_t i = 0; i < h->len; i++)
		if (h->wanted[i].inode == inode)
			return &h->wanted[i];
	return NULL;
}

static bool is_wanted(void *ctx, uint32_t inode)
{
	return find_wanted(ctx, inode);
}

static void take_holder(void *ctx, const struct process *p, uint32_t inode)
{
	struct wanted *want = find_wanted(ctx, inode);

	if (want->pid == p->pid || !*p->name)
		return;
	want->several |= want->found;
	want->mixed |= want->found && strcmp(want->program, p->name) != 0;
	want->found = true;
	want->pid = p->pid;
	strcpy(want->program, p->name);
}

/* One cut short may have missed a process with the socket; those nobody may look at do not count. */
static bool is_complete(int err)
{
	return !err || err == -EACCES;
}

/* All sockets that could have sent it are of one program, or nothing is said. */
static void settle(struct hunt *h, const struct search *s)
{
	const struct wanted *first = NULL;
	bool several = false;

	for (size_t k = 0; k < s->inodes_len; k++) {
		const struct wanted *one = find_wanted(h, s->inodes[k]);

		if (!one->found || one->mixed ||
		    (first && strcmp(first->program, one->program) != 0))
			return;
		several |= one->several || (first && first->pid != one->pid);
		first = one;
	}
	if (!first)
		return;
	memcpy(s->b->program, first->program, sizeof(s->b->program));
	s->b->pid = several ? 0 : first->pid;
}

static void find_processes(struct searches *all)
{
	struct hunt h = { .len = 0 };
	const struct sockread_holder holder = { .wanted = is_wanted,
						.socket = take_holder,
						.ctx = &h };

	for (size_t i = 0; i < all->len; i++)
		for (size_t k = 0; k < all->list[i].inodes_len; k++)
			if (!find_wanted(&h, all->list[i].inodes[k]))
				h.wanted[h.len++].inode = all->list[i].inodes[k];
	if (!h.len || !is_complete(sockread_processes(&holder)))
		return;
	for (size_t i = 0; i < all->len; i++)
		settle(&h, &all->list[i]);
}

int whose_find(struct whose *w, struct blocked *blocked, size_t n)
{
	struct searches all = { .len = 0 };
	int err;

	for (size_t i = 0; i < n && i < WHOSE_AT_ONCE; i++) {
		struct blocked *b = &blocked[i];
		struct search *s = &all.list[all.len];

		if (!has_sockets(b))
			continue;
		*s = (struct search){ .b = b };
		all.len++;
		if (!is_from_away(b))
			find_sockets(s);
		else
			s->away = (b->has_mac || b->has_frame_mac) && !is_stranger(w, b->mac);
	}
	err = look_away(w, &all);
	if (!err)
		find_processes(&all);
	return err;
}
