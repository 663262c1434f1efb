/* cmd_check.h - what `check` tells: as text, and as JSON */
#ifndef CMD_CHECK_H
#define CMD_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "check_system.h"
#include "check_judge.h"
#include "check_plan.h"
#include "status.h"

#define CMD_CHECK_MAX_FINDINGS 64 /* of the system's settings */

struct cmd_check_report {
	struct check_plan plan;
	struct check_law law;
	struct status status;
	size_t counts[CHECK_VERDICTS];
	int exit; /* a cmd_exit */
	struct finding findings[CMD_CHECK_MAX_FINDINGS];
	size_t findings_len, findings_out;
};

/* Whether a part of what there is was not tried, for want of room. */
bool cmd_check_is_cut(const struct check_plan *plan);

/* The report as text on stdout; quiet: only what is wrong. */
void cmd_check_print(const struct cmd_check_report *report, bool quiet);

/* The same as the object that leakguard(8) documents. */
#ifdef WITHOUT_JSON
static inline void cmd_check_json(const struct cmd_check_report *report)
{
	(void)report;
}
#else
void cmd_check_json(const struct cmd_check_report *report);
#endif

#endif
