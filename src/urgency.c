#include "urgency.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool raised, refused;

/* Not by sched_setscheduler(3): musl's does nothing. */
static bool become(int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	return !syscall(SYS_sched_setscheduler, 0, policy, &param);
}

void urgency_raise(void)
{
	if (raised || refused)
		return;
	raised = become(SCHED_FIFO, 1);
	refused = !raised;
}

void urgency_lower(void)
{
	if (raised)
		raised = !become(SCHED_OTHER, 0);
}
