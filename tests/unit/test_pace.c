/* pace.h: when to look again, by a clock that the test turns */
#include "unit.h"

#include "pace.h"

#define QUIET 50
#define LATE  500

/* Each hit puts it off, but never beyond LATE after the first. */
static void test_debounce(void **state)
{
	struct debounce d = { 0 };

	(void)state;
	assert_true(debounce_due(&d, QUIET, LATE) == PACE_NEVER);
	debounce_hit(&d, 1000);
	assert_int_equal(debounce_due(&d, QUIET, LATE), 1000 + QUIET);
	debounce_hit(&d, 1000); /* the clock stood still */
	assert_int_equal(debounce_due(&d, QUIET, LATE), 1000 + QUIET);
	debounce_hit(&d, 1449);
	assert_int_equal(debounce_due(&d, QUIET, LATE), 1449 + QUIET);
	for (uint64_t now = 1450; now < 9000; now += 7) {
		debounce_hit(&d, now);
		assert_int_equal(debounce_due(&d, QUIET, LATE), 1000 + LATE);
	}
	debounce_clear(&d);
	assert_true(debounce_due(&d, QUIET, LATE) == PACE_NEVER);
	debounce_hit(&d, 20000); /* a storm of its own */
	assert_int_equal(debounce_due(&d, QUIET, LATE), 20000 + QUIET);
	/* late before quiet, as the configuration may have it */
	assert_int_equal(debounce_due(&d, LATE, QUIET), 20000 + QUIET);
}

static void test_backoff(void **state)
{
	static const uint32_t waits[] = { 100, 200, 400, 800, 1000, 1000, 1000 };
	struct backoff b = { 0 };
	uint64_t now = 5;

	(void)state;
	assert_true(backoff_due(&b) == PACE_NEVER);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < LEN(waits); i++) {
			backoff_fail(&b, now, 100, 1000);
			assert_int_equal(b.wait_ms, waits[i]);
			assert_int_equal(backoff_due(&b), now + waits[i]);
			now = backoff_due(&b) + i;
		}
		backoff_clear(&b); /* it went well once: from the start again */
		assert_true(backoff_due(&b) == PACE_NEVER);
	}
	backoff_fail(&b, now, 5000, 1000); /* never more than the most */
	assert_int_equal(backoff_due(&b), now + 1000);
}

/* It never gives up, and never waits longer, however often it fails. */
static void test_backoff_for_ever(void **state)
{
	struct backoff b = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		backoff_fail(&b, i, 5, 30000);
		assert_in_range(backoff_due(&b) - i, 5, 30000);
	}
}

#define BURST 10
#define EVERY 5

static unsigned int take_all(struct bucket *b, uint64_t now)
{
	unsigned int n = 0;

	while (n <= 2 * BURST && bucket_take(b, now, BURST, EVERY))
		n++;
	return n;
}

static void test_bucket(void **state)
{
	struct bucket b = { 0 };

	(void)state;
	assert_int_equal(bucket_due(&b, 1000, BURST, EVERY), 1000);
	assert_int_equal(take_all(&b, 1000), BURST);
	assert_int_equal(take_all(&b, 1000), 0);
	assert_int_equal(bucket_due(&b, 1000, BURST, EVERY), 1000 + EVERY);
	assert_int_equal(take_all(&b, 1000 + EVERY - 1), 0);
	assert_int_equal(take_all(&b, 1000 + EVERY), 1);
	/* What is left of a step counts towards the next. */
	assert_int_equal(take_all(&b, 1000 + 3 * EVERY + EVERY - 1), 2);
	assert_int_equal(take_all(&b, 1000 + 4 * EVERY), 1);
	assert_int_equal(take_all(&b, 1000), 0); /* a clock that went back gives nothing */
	/* A gap gives the burst back and no more: some steps, all, days, for ever. */
	assert_int_equal(take_all(&b, 1000 + 4 * EVERY + 3 * EVERY), 3);
	assert_int_equal(take_all(&b, 2000), BURST);
	assert_int_equal(take_all(&b, 2000 + (1ULL << 40)), BURST);
	assert_int_equal(take_all(&b, UINT64_MAX), BURST);
}

/* Over any stretch: no more than the burst and one a step; and as many, for who waits. */
static void test_bucket_rate(void **state)
{
	static const uint32_t strides[] = { 0, 1, 2, 3, 4, 5, 6, 9, 50, 51, 60 };

	(void)state;
	for (size_t s = 0; s < LEN(strides); s++) {
		struct bucket b = { 0 };
		uint64_t now = 1000, taken = 0;

		for (unsigned int i = 0; i < 1000; i++) {
			/* The stride now and then doubled, so that remainders differ. */
			now += strides[s] * (1 + (i % 7 == 3));
			taken += bucket_take(&b, now, BURST, EVERY);
			assert_true(taken <= BURST + (now - 1000) / EVERY);
		}
		if (strides[s] < EVERY / 2) /* more was asked for than there was */
			assert_int_equal(taken, BURST + (now - 1000) / EVERY);
		if (strides[s] >= EVERY)
			assert_int_equal(taken, 1000);
	}
}

/* At bucket_due() one can be taken, and not a millisecond before. */
static void test_bucket_due(void **state)
{
	struct bucket b = { 0 };
	uint64_t now = 777;

	(void)state;
	for (unsigned int i = 0; i < 200; i++) {
		const uint64_t due = bucket_due(&b, now, BURST, EVERY);
		struct bucket early = b;

		assert_in_range(due, now, now + EVERY);
		if (due > now)
			assert_false(bucket_take(&early, due - 1, BURST, EVERY));
		assert_true(bucket_take(&b, due, BURST, EVERY));
		now = due + i % 3;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_debounce),	 cmocka_unit_test(test_backoff),
		cmocka_unit_test(test_backoff_for_ever), cmocka_unit_test(test_bucket),
		cmocka_unit_test(test_bucket_rate),	 cmocka_unit_test(test_bucket_due),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
