/* check_run.h - links and targets of this machine -> a plan; the plan, carried out */
#ifndef CHECK_RUN_H
#define CHECK_RUN_H

#include <stddef.h>

#include "check_plan.h"

#define CHECK_WAIT_MS  1500 /* for controls to be seen: a gateway that has to be found first */
#define CHECK_COUNT_MS 3000 /* counters are read after each query until so much time went by */

struct fwsock;
struct netstate;

/*
 * Fill links and targets of an empty plan: links that are up, no tunnels and not
 * inside; their gateways, the resolvers that files of the system name, and
 * addresses for documentation.  `net` has the links; its routes are replaced.
 * 0, or -errno.
 */
int check_run_survey(struct check_plan *plan, const struct policy *p, struct netstate *net);

/* Told before each packet: how many of how many were sent. */
typedef void check_progress_fn(void *ctx, size_t done, size_t total);

/*
 * Send all shots, with a tap open, and note in each what became of it.  Blocks
 * until every control was seen, at most 2 * CHECK_WAIT_MS longer than sending
 * takes.  `fs` is asked for counters, without our tables it finds none.
 * 0; -errno where the tap cannot be opened (-EPERM without root), nothing was sent.
 */
int check_run_shots(struct check_plan *plan, struct fwsock *fs, check_progress_fn *progress,
		    void *ctx);

#endif
