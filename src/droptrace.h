/* droptrace.h - in which process packets were just dropped, by the kernel's tracepoint */
#ifndef DROPTRACE_H
#define DROPTRACE_H

#include "sockread.h"

/*
 * A program that uses the C library's resolver closes its socket microseconds
 * after the kernel refused the packet: before anybody can ask whose it was.  But
 * what a program sends is judged, and dropped, while the program itself runs, and
 * the tracepoint skb:kfree_skb (Linux 5.17) says so for every packet.  It does not
 * say which packet that was; so a time in which one process alone had packets
 * dropped is needed, and several are none.
 */
struct droptrace;

/*
 * Trace from now on, on all of the machine's CPUs: 64 KiB for each.  0 and a trace
 * for droptrace_close(); -ENOTSUP where the kernel has no such tracepoint, reason or
 * tracefs, -EPERM or -EACCES without CAP_PERFMON (or CAP_SYS_ADMIN), another -errno.
 * tracefs is mounted for this one process alone where it is not mounted.
 */
int droptrace_open(struct droptrace **ret_trace);

/*
 * All that is asked for from now on was logged after this moment: call it before
 * a reading of the log that leaves nothing there.
 */
void droptrace_begin(struct droptrace *t);
/* That reading is over, and what it brought has been asked for. */
void droptrace_end(struct droptrace *t);

/*
 * The one process that had packets dropped since the last such moment; for what
 * was logged by a rule that drops, of a process's own UDP socket: TCP sends again
 * by a timer.  Waits 1 ms, until the drop that follows a log is there.
 * 0; -ESRCH where there were several, it is not known, or it has no name any more.
 */
int droptrace_find(struct droptrace *t, struct process *ret_process);

/* To be called now and then, that there is room. */
void droptrace_drain(struct droptrace *t);

/* Accepts NULL, as all of them. */
void droptrace_close(struct droptrace *t);

#endif
