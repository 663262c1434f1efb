/*
 * routefilter.h - addresses -> the socket filter that lets only their routes wake us
 *
 * Pure: a program of classic BPF (Documentation/networking/filter.rst) for an
 * rtnetlink socket, run by the kernel on every notification, each of which is
 * a message of its own.  It is a filter of hints: what it lets through means
 * no more than "look again", so that too much is a little work and too little
 * would be a change missed.  Whatever it does not understand passes.
 */
#ifndef ROUTEFILTER_H
#define ROUTEFILTER_H

#include <stddef.h>

#include <linux/filter.h>

struct addr;

/*
 * Prefixes told apart in one family.  Kernels before 6.7 hold a socket's
 * filters, the old one and its successor, to 20 KiB (net.core.optmem_max); two
 * of the longest programs take 15.
 */
#define ROUTEFILTER_MAX_PREFIXES 64
#define ROUTEFILTER_MAX_CODE	 (16 + 2 * (32 + 5 * ROUTEFILTER_MAX_PREFIXES))

struct routefilter {
	struct sock_filter code[ROUTEFILTER_MAX_CODE];
	unsigned short len;
};

/*
 * Drops RTM_NEWROUTE and RTM_DELROUTE of a prefix that covers none of addrs
 * (of which there may be any number, of any family), of a cached route, and of
 * a family other than AF_INET and AF_INET6; passes everything else, default
 * routes among it.  Only the first 32 bits of an address are compared, and
 * fewer where addrs differ in more than ROUTEFILTER_MAX_PREFIXES of them.
 */
void routefilter_build(struct routefilter *ret_rf, const struct addr *addrs, size_t n);

#endif
