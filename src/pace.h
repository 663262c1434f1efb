/*
 * pace.h - when to look again: debounce, back-off, a bounded rate.  Pure: the clock is a parameter.
 *
 * All times are milliseconds of one clock that never goes back.
 */
#ifndef PACE_H
#define PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_NEVER UINT64_MAX

/* Events that come in storms: act once they were quiet, or have gone on for long. */
struct debounce {
	uint64_t first_ms, last_ms; /* of the storm; first 0: none */
};

void debounce_hit(struct debounce *d, uint64_t now_ms);
void debounce_clear(struct debounce *d);

/* When to act: quiet_ms after the last event, at most late_ms after the first; or PACE_NEVER. */
uint64_t debounce_due(const struct debounce *d, uint32_t quiet_ms, uint32_t late_ms);

/* Attempts that fail: wait twice as long each time, from first_ms up to most_ms. */
struct backoff {
	uint64_t at_ms;	  /* when to try again; 0: nothing has failed */
	uint32_t wait_ms; /* how long the last wait was */
};

void backoff_fail(struct backoff *b, uint64_t now_ms, uint32_t first_ms, uint32_t most_ms);
void backoff_clear(struct backoff *b);
uint64_t backoff_due(const struct backoff *b); /* or PACE_NEVER */

/* At most `burst` at once and one more every `every_ms`. */
struct bucket {
	uint32_t taken; /* of the burst, not given back yet */
	uint64_t at_ms; /* up to when it has been given back */
};

/* Take one if there is one. */
bool bucket_take(struct bucket *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms);

/* When one can be taken; now_ms if it can. */
uint64_t bucket_due(const struct bucket *b, uint64_t now_ms, uint32_t burst, uint32_t every_ms);

#endif
