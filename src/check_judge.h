/*
 * check_judge.h - what became of a packet -> whether it leaked.  Pure.
 *
 * Judged is what was seen leaving, and where; counters only say who stopped it.
 * What was not seen counts as stopped only if its control was seen.
 */
#ifndef CHECK_JUDGE_H
#define CHECK_JUDGE_H

#include <stdbool.h>
#include <stddef.h>

#include "check_plan.h"
#include "netstate.h"
#include "policy.h"
#include "ruleset_sets.h"

enum check_verdict {
	CHECK_VERDICT_LEAK,	/* it left outside of the tunnels, and nothing approved it */
	CHECK_VERDICT_UNSURE,	/* not seen, and its control was not either: could not tell */
	CHECK_VERDICT_STOPPED,	/* not seen, and its control was */
	CHECK_VERDICT_APPROVED, /* it left outside of the tunnels, as the policy says */
	CHECK_VERDICT_INSIDE,	/* it left through a tunnel, or stayed on the host */
	CHECK_VERDICT_NO_ROUTE, /* nothing leads there by this link */
	CHECK_VERDICTS,
};

enum check_approval {
	CHECK_APPROVAL_NONE,
	CHECK_APPROVAL_CARRIER,	 /* S3 */
	CHECK_APPROVAL_RESOLVER, /* S5 */
	CHECK_APPROVAL_PAUSE,	 /* S6 */
};

/* What is judged by. */
struct check_law {
	const struct policy *policy;
	const struct pins *pins;
	const struct netstate *net;
	bool paused;
};

struct check_finding {
	enum check_verdict verdict;
	enum check_approval approval; /* with CHECK_VERDICT_APPROVED */
	int left; /* the link it left by, by index, where it leaked, was approved or inside; 0 */
	unsigned int stopped_by; /* with CHECK_VERDICT_STOPPED: the S number; 0: not to be told */
};

/* Judge one query, not a control, of the plan. */
struct check_finding check_judge(const struct check_law *law, const struct check_plan *plan,
				 const struct check_shot *query);

/* How many queries have each verdict. */
void check_judge_all(const struct check_law *law, const struct check_plan *plan,
		     size_t ret_counts[CHECK_VERDICTS]);

const char *check_verdict_format(enum check_verdict verdict);	 /* "leak" */
const char *check_approval_format(enum check_approval approval); /* "resolver"; never NULL */

#endif
