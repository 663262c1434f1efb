#include "check_run.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "check_count.h"
#include "check_find.h"
#include "check_packet.h"
#include "check_send.h"
#include "check_tap.h"
#include "clock.h"

#define GRACE_MS 20 /* queues of several processors may hand over out of order */

struct run {
	struct check_plan *plan;
	int tap;
	struct check_sender sender;
	struct fwsock *fs;
	struct check_counts counts;
	uint64_t started_ms;
};

/* --- what was seen --- */

static struct check_shot *find_by_label(const struct check_plan *plan,
					const struct check_packet *packet)
{
	const size_t at = packet->later ? CHECK_PACKET_LATER : CHECK_PACKET_WHOLE, len = 17;

	for (size_t i = 0; packet->payload_len >= at + len && i < plan->shots_len; i++)
		if (!memcmp(plan->shots[i].label, packet->payload + at, len))
			return &plan->shots[i];
	return NULL;
}

/* TCP's SYN is told by its source port, and by its number where we chose it. */
static struct check_shot *find_syn(const struct check_plan *plan, const struct check_packet *packet)
{
	struct check_shot *s =
		check_plan_find(plan, packet->to.family, packet->proto, packet->sport);

	if (s && (s->way == CHECK_WAY_RAW || s->way == CHECK_WAY_FRAME) && s->tag != packet->tag)
		return NULL;
	return s;
}

static void note_seen(void *ctx, const struct check_packet *packet, int link)
{
	const struct run *r = ctx;
	struct check_shot *s = packet->proto == IPPROTO_TCP ? find_syn(r->plan, packet) :
							      find_by_label(r->plan, packet);

	if (!s)
		return;
	for (size_t i = 0; i < s->left_len; i++)
		if (s->left[i] == link)
			return;
	if (s->left_len < CHECK_MAX_LEFT)
		s->left[s->left_len++] = link;
}

static bool is_awaited(const struct check_shot *s)
{
	return s->is_control && !s->no_route && !s->err && !s->left_len;
}

/* Until the controls from `first` on were seen, or it is no use to wait longer. */
static void await_controls(struct run *r, size_t first, size_t end)
{
	const uint64_t deadline_ms = clock_monotonic_ms() + CHECK_WAIT_MS;
	struct pollfd pfd = { .fd = r->tap, .events = POLLIN };

	for (size_t i = first; i < end;) {
		const uint64_t now_ms = clock_monotonic_ms();

		if (!is_awaited(&r->plan->shots[i])) {
			i++;
			continue;
		}
		if (now_ms >= deadline_ms)
			break;
		(void)poll(&pfd, 1, (int)(deadline_ms - now_ms));
		check_tap_read(r->tap, note_seen, r);
	}
	while (poll(&pfd, 1, GRACE_MS) > 0 && clock_monotonic_ms() < deadline_ms + CHECK_WAIT_MS)
		check_tap_read(r->tap, note_seen, r);
}

/* --- sending --- */

/* Whom a frame goes to: the hop, the link's gateway, or nobody, whom a switch looks for everywhere. */
static void find_mac(const struct check_plan *plan, const struct check_shot *s,
		     uint8_t ret_mac[MAC_LEN])
{
	static const uint8_t nobody[MAC_LEN] = { 0x02, 0x6c, 0x67, 0, 0, 1 };
	const int link = plan->links[s->link].index;
	struct addr hop;

	if (!check_find_hop(link, &plan->targets[s->target].addr, &hop) &&
	    !check_find_mac(link, &hop, ret_mac))
		return;
	for (size_t i = 0; i < plan->targets_len; i++)
		if (plan->targets[i].kind == CHECK_KIND_GATEWAY && plan->targets[i].link == link &&
		    !check_find_mac(link, &plan->targets[i].addr, ret_mac))
			return;
	memcpy(ret_mac, nobody, MAC_LEN);
}

static void send_shot(struct run *r, size_t number)
{
	struct check_shot *s = &r->plan->shots[number];
	uint8_t mac[MAC_LEN] = { 0 };

	if (s->no_route)
		return;
	if (check_way_is_frame(s->way))
		find_mac(r->plan, s, mac);
	s->err = check_send(&r->sender, r->plan, s, mac);
	check_tap_read(r->tap, note_seen, r);
	if (!s->is_control && clock_monotonic_ms() - r->started_ms < CHECK_COUNT_MS)
		s->counted = check_counts_step(&r->counts, r->fs, check_way_is_cut(s->way) ? 2 : 1);
}

int check_run_shots(struct check_plan *plan, struct fwsock *fs, check_progress_fn *progress,
		    void *ctx)
{
	struct run r = { .plan = plan, .fs = fs, .started_ms = clock_monotonic_ms() };
	size_t awaited = 0;
	int err = check_tap_open(plan->base_port, CHECK_PORT_BLOCK, &r.tap);

	if (err)
		return err;
	err = check_sender_open(&r.sender);
	if (err)
		goto out;
	(void)check_counts_step(&r.counts, fs, 0);
	for (size_t i = 0; i < plan->shots_len; i++) {
		/* All that goes by the IP stack finds out who the neighbours are. */
		if (!awaited && check_way_is_frame(plan->shots[i].way)) {
			await_controls(&r, 0, i);
			awaited = i;
			(void)check_counts_step(&r.counts, fs, 0);
		}
		progress(ctx, i, plan->shots_len);
		send_shot(&r, i);
	}
	await_controls(&r, awaited, plan->shots_len);
	plan->lost = check_tap_has_lost(r.tap);
out:
	check_sender_close(&r.sender);
	close(r.tap);
	return err;
}
