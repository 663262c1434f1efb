/* pause, resume */
#include <stdio.h>

#include "change.h"
#include "clock.h"
#include "cmd.h"
#include "log.h"
#include "session.h"

/* Until when a pause lasts; 0 for none. */
static int change_pause(const struct cmdline *cl, uint32_t seconds)
{
	struct session ss;
	int status = CMD_EXIT_FAILED;

	if (change_open(&ss, cl))
		return CMD_EXIT_FAILED;
	if (!ss.recorded) {
		log_error("%s: the guard is not up, expected 'leakguard enable' first",
			  cl->command->name);
	} else if (seconds > ss.before.policy.pause_max_s) {
		log_error("pause \"%.32s\": expected at most %u seconds, see pause-max in leakguard.conf(5)",
			  cl->word, ss.before.policy.pause_max_s);
		status = CMD_EXIT_USAGE;
	} else {
		struct state after = ss.before; /* the record itself changes hands */

		state_init(&ss.before);
		after.pause_until_ms = seconds ? clock_boottime_ms() + seconds * 1000ULL : 0;
		status = change_commit(&ss, &after, false, "");
		state_fini(&after);
	}
	session_close(&ss);
	if (status == CMD_EXIT_DONE && seconds)
		printf("paused for %u seconds: until then all name traffic goes anywhere\n",
		       seconds);
	return status;
}

int cmd_pause(const struct cmdline *cl)
{
	uint32_t seconds;

	if (duration_parse(cl->word, UINT32_MAX, &seconds)) {
		log_error("pause \"%.32s\": expected a duration: 90, 90s, 5m, 1h", cl->word);
		return CMD_EXIT_USAGE;
	}
	return change_pause(cl, seconds);
}

int cmd_resume(const struct cmdline *cl)
{
	return change_pause(cl, 0);
}
