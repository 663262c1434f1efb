/* flows.h - connection tracking's memory of name traffic */
#ifndef FLOWS_H
#define FLOWS_H

struct policy;

/*
 * Forget every flow that went to a guarded port, or was redirected to one: what it
 * was granted (a destination, a place in a flowtable, which passes by all hooks but
 * a link's own) was granted under other rules.  Its next packet begins a new one.
 * Does nothing where the kernel tracks nothing.  Blocks for as long as the kernel takes
 * to list its flows.
 * 0, -ENOTSUP where the kernel cannot (ctnetlink), or another -errno.
 */
int flows_forget(const struct policy *p);

#endif
