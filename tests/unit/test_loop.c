/* loop.h: what is due is called, and nothing that was removed */
#include "unit.h"

#include <sched.h>
#include <sys/syscall.h>

#include "urgency.h"
#include "watchers.h"

struct pair {
	struct loop *loop;
	int fds[2];
	unsigned int calls;
	struct pair *victim; /* removed and replaced by the callback */
};

static void count_call(void *ctx)
{
	struct pair *p = ctx;

	p->calls++;
}

/* What a careless daemon does: close a source that is due, and reuse its number. */
static void replace_victim(void *ctx)
{
	struct pair *p = ctx, *v = p->victim;
	int fd;

	p->calls++;
	if (v->calls || v->fds[0] < 0)
		return;
	loop_remove(p->loop, v->fds[0]);
	fd = dup(p->fds[1]); /* never readable */
	assert_true(fd >= 0);
	assert_int_equal(dup2(fd, v->fds[0]), v->fds[0]);
	close(fd);
	assert_int_equal(loop_add(p->loop, v->fds[0], count_call, v), 0);
}

static void open_pair(struct pair *p, struct loop *l)
{
	*p = (struct pair){ .loop = l };
	assert_int_equal(pipe2(p->fds, O_CLOEXEC), 0);
}

static void close_pair(struct pair *p)
{
	loop_remove(p->loop, p->fds[0]);
	close(p->fds[0]);
	close(p->fds[1]);
}

static void test_loop_calls_what_is_due(void **state)
{
	struct loop l;
	struct pair a, b;

	(void)state;
	assert_int_equal(loop_init(&l), 0);
	open_pair(&a, &l);
	open_pair(&b, &l);
	assert_int_equal(loop_add(&l, a.fds[0], count_call, &a), 0);
	assert_int_equal(loop_add(&l, b.fds[0], count_call, &b), 0);
	assert_int_equal(loop_add(&l, b.fds[0], count_call, &b), -EEXIST);
	assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(a.calls + b.calls, 0);

	assert_int_equal(write(a.fds[1], "x", 1), 1);
	for (unsigned int i = 1; i <= 2; i++) { /* level-triggered */
		assert_int_equal(loop_wait(&l, -1), 0);
		assert_int_equal(a.calls, i);
	}
	close(b.fds[1]); /* hung up */
	b.fds[1] = -1;
	assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(b.calls, 1);

	close_pair(&a);
	close_pair(&b);
	loop_remove(&l, 12345);
	assert_int_equal(loop_wait(&l, 0), 0);
	loop_fini(&l);
	loop_fini(&l);
}

static void test_loop_has_a_limit(void **state)
{
	struct pair pairs[LOOP_MAX + 1];
	struct loop l;

	(void)state;
	assert_int_equal(loop_init(&l), 0);
	for (size_t i = 0; i <= LOOP_MAX; i++) {
		open_pair(&pairs[i], &l);
		assert_int_equal(loop_add(&l, pairs[i].fds[0], count_call, &pairs[i]),
				 i < LOOP_MAX ? 0 : -ENOSPC);
		assert_int_equal(write(pairs[i].fds[1], "x", 1), 1);
	}
	loop_remove(&l, pairs[7].fds[0]);
	assert_int_equal(loop_add(&l, pairs[LOOP_MAX].fds[0], count_call, &pairs[LOOP_MAX]), 0);
	assert_int_equal(loop_wait(&l, 0), 0);
	for (size_t i = 0; i <= LOOP_MAX; i++) {
		assert_int_equal(pairs[i].calls, i != 7);
		close_pair(&pairs[i]);
	}
	loop_fini(&l);
}

/* Both are due; whichever comes first replaces the other, which must not be called for it. */
static void test_loop_forgets_within_a_round(void **state)
{
	struct pair a, b;
	struct loop l;

	(void)state;
	assert_int_equal(loop_init(&l), 0);
	open_pair(&a, &l);
	open_pair(&b, &l);
	a.victim = &b;
	b.victim = &a;
	assert_int_equal(loop_add(&l, a.fds[0], replace_victim, &a), 0);
	assert_int_equal(loop_add(&l, b.fds[0], replace_victim, &b), 0);
	assert_int_equal(write(a.fds[1], "x", 1), 1);
	assert_int_equal(write(b.fds[1], "x", 1), 1);
	assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(a.calls + b.calls, 1);
	close_pair(&a);
	close_pair(&b);
	loop_fini(&l);
}

static int policy_now(void)
{
	return (int)syscall(SYS_sched_getscheduler, 0); /* musl's function does nothing */
}

static int order[2], policies[2], calls;

static void note_call(void *ctx)
{
	struct pair *p = ctx;

	p->calls++;
	order[calls] = p->fds[0];
	policies[calls++] = policy_now();
}

/* First, and with real time where that is granted; what else is called is not. */
static void test_loop_calls_the_urgent_first(void **state)
{
	struct pair a, b;
	struct loop l;
	int urgent;

	(void)state;
	urgency_raise();
	urgent = policy_now();
	urgency_lower();
	print_message("real time: %s\n", urgent == SCHED_FIFO ? "granted" : "refused");
	assert_int_equal(policy_now(), SCHED_OTHER);

	assert_int_equal(loop_init(&l), 0);
	open_pair(&a, &l);
	open_pair(&b, &l);
	for (int round = 0; round < 2; round++) { /* whichever became ready first */
		calls = 0;
		assert_int_equal(loop_add(&l, a.fds[0], note_call, &a), 0);
		assert_int_equal(loop_add_urgent(&l, b.fds[0], note_call, &b), 0);
		assert_int_equal(write(round ? a.fds[1] : b.fds[1], "x", 1), 1);
		assert_int_equal(write(round ? b.fds[1] : a.fds[1], "x", 1), 1);
		assert_int_equal(loop_wait(&l, 0), 0);
		assert_int_equal(calls, 2);
		assert_int_equal(order[0], b.fds[0]);
		assert_int_equal(policies[0], urgent);
		assert_int_equal(policies[1], SCHED_OTHER);
		assert_int_equal(policy_now(), SCHED_OTHER);
		assert_int_equal(read(a.fds[0], &(char){ 0 }, 1), 1);
		assert_int_equal(read(b.fds[0], &(char){ 0 }, 1), 1);
		loop_remove(&l, a.fds[0]);
		loop_remove(&l, b.fds[0]);
	}
	/* Nothing else to do: ready for the next; and until nothing is urgent any more. */
	assert_int_equal(loop_add_urgent(&l, b.fds[0], count_call, &b), 0);
	assert_int_equal(write(b.fds[1], "x", 1), 1);
	assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(policy_now(), urgent);
	/* Not in a storm; the next one is told in time again. */
	for (int i = 0; i < 1000; i++)
		assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(policy_now(), SCHED_OTHER);
	for (int i = 0; i < PLENTY_MS / 20 && policy_now() != urgent; i++)
		assert_int_equal(loop_wait(&l, usleep(20000)), 0);
	assert_int_equal(policy_now(), urgent);
	loop_remove(&l, b.fds[0]);
	assert_int_equal(loop_wait(&l, 0), 0);
	assert_int_equal(policy_now(), SCHED_OTHER);
	close_pair(&a);
	close_pair(&b);
	loop_fini(&l);
}

static void test_loop_takes_a_signal_for_a_round(void **state)
{
	const uint64_t start_ms = now_ms();
	struct sigaction before;
	struct loop l;
	pid_t pid;

	(void)state;
	assert_int_equal(loop_init(&l), 0);
	pid = start_signals(&before);
	assert_int_equal(loop_wait(&l, PLENTY_MS), 0);
	assert_true(now_ms() - start_ms < PLENTY_MS);
	kill_child(pid);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	loop_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loop_calls_what_is_due),
		cmocka_unit_test(test_loop_has_a_limit),
		cmocka_unit_test(test_loop_forgets_within_a_round),
		cmocka_unit_test(test_loop_calls_the_urgent_first),
		cmocka_unit_test(test_loop_takes_a_signal_for_a_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
