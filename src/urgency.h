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
 * From now on run at once when woken: SCHED_FIFO, at its lowest priority
 * (sched(7)).  Needs CAP_SYS_NICE; where that is refused, as in most containers,
 * the process stays as it is.
 */
void urgency_raise(void);

/* Be one among others again. */
void urgency_lower(void);

#endif
