#include "urgency.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "pace.h"

#define WAITS_BURST    100 /* at once, then one every ... */
#define WAITS_EVERY_MS 10

static bool raised, refused;
static struct bucket waits;

/* Not by sched_setscheduler(3): musl's does nothing. */
static bool become(int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	return !syscall(SYS_sched_setscheduler, 0, policy, &param);
}

void urgency_raise(void)
{
	if (refused)
		return;
	if (!bucket_take(&waits, clock_monotonic_ms(), WAITS_BURST, WAITS_EVERY_MS)) {
		urgency_lower();
	} else if (!raised) {
		raised = become(SCHED_FIFO, 1);
		refused = !raised;
	}
}

void urgency_lower(void)
{
	if (raised)
		raised = !become(SCHED_OTHER, 0);
}
