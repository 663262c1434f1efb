#include "pace.h"

void debounce_hit(struct debounce *d, uint64_t now_ms)
{
	if (!d->first_ms)
		d->first_ms = now_ms;
	d->last_ms = now_ms;
}

void debounce_clear(struct debounce *d)
{
	*d = (struct debounce){ 0 };
}

uint64_t debounce_due(const struct debounce *d, uint32_t quiet_ms, uint32_t late_ms)
{
	const uint64_t quiet = d->last_ms + quiet_ms, late = d->first_ms + late_ms;

	if (!d->first_ms)
		return PACE_NEVER;
	return quiet < late ? quiet : late;
}

void backoff_fail(struct backoff *b, uint64_t now_ms, uint32_t first_ms, uint32_t most_ms)
{
	b->wait_ms = b->wait_ms ? b->wait_ms * 2 : first_ms;
	if (b->wait_ms > most_ms)
		b->wait_ms = most_ms;
	b->at_ms = now_ms + b->wait_ms;
}

void backoff_clear(struct backoff *b)
{
	*b = (struct backoff){ 0 };
}

uint64_t backoff_due(const struct backoff *b)
{
	return b->at_ms ? b->at_ms : PACE_NEVER;
}

/* What has been given back by now. */
static struct bucket refilled(const struct bucket *b, uint64_t now_ms, uint32_t every_ms)
{
	const uint64_t back = now_ms > b->at_ms ? (now_ms - b->at_ms) / every_ms : 0;
	struct bucket r = *b;

	if (!b->taken || back >= b->taken)
		return (struct bucket){ .at_ms = now_ms };
	r.taken -= (uint32_t)back;
	r.at_ms += back * every_ms;
	return r;
}

bool bucket_take(struct bucket *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms)
{
	*b = refilled(b, now_ms, every_ms);
	if (b->taken >= burst)
		return false;
	b->taken++;
	return true;
}

uint64_t bucket_due(const struct bucket *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms)
{
	const struct bucket r = refilled(b, now_ms, every_ms);

	return r.taken < burst ? now_ms : r.at_ms + every_ms;
}
