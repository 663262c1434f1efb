/*
 * urgency.h - run before others, for as long as a packet may depend on it
 *
 * A repair has to ask for nf_tables' commit_mutex before the process that made it
 * necessary, which takes it once more when it closes its socket, and holds it for
 * an RCU grace period then (nft_rcv_nl_event(), net/netfilter/nf_tables_api.c).
 */
#ifndef URGENCY_H
#define URGENCY_H

/*
 * Before a wait: run at once when it ends.  SCHED_FIFO, at its lowest priority
 * (sched(7)).  Needs CAP_SYS_NICE; where that is refused, as in most containers,
 * the process stays as it is.  So it does while it waits again and again, a
 * hundred times at once or a second: a storm takes no time from anybody else.
 */
void urgency_raise(void);

/* Be one among others again. */
void urgency_lower(void);

#endif
