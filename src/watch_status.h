/*
 * watch_status.h - what a watcher tells of itself; pure data
 *
 * Goes over the control socket as it is: fixed size, no pointers.
 */
#ifndef WATCH_STATUS_H
#define WATCH_STATUS_H

#include <net/if.h>
#include <stdint.h>

#include "text.h"

#define WATCH_STATUS_TEXT  256
#define WATCH_STATUS_TRIED 8
#define WATCH_STATUS_COMM  16 /* TASK_COMM_LEN: a program's name in events, with NUL */

/* A route that would lead a pinned resolver outside the tunnel. */
struct watch_tried {
	struct addr addr;
	char link[IFNAMSIZ];
	uint64_t at_ms; /* CLOCK_BOOTTIME */
};

struct watch_status {
	uint32_t pid;
	uint8_t owner;	  /* the kernel lets nobody else change the rules */
	uint8_t fighting; /* somebody changes them again and again */
	uint8_t stale;	  /* the last change was refused; the rules before it are in force */
	uint8_t held;	  /* a keeper holds the owning socket and starts the watcher again */
	uint64_t started_ms, now_ms; /* CLOCK_BOOTTIME */
	uint64_t looked;	     /* times the kernel was read and compared */
	uint64_t applied;	     /* of those, how often something differed and was committed */
	uint64_t undone;	     /* changes by others that were undone */
	uint64_t refused;	     /* attempts to apply that failed */
	uint64_t lost;		     /* times the kernel said that it had dropped events */
	uint64_t events;	     /* wake-ups by links, addresses, routes */
	char stale_text[WATCH_STATUS_TEXT];
	uint64_t retry_ms; /* when the next attempt is made, CLOCK_BOOTTIME; 0: none */
	/* The last of those undone: who, and what it was. */
	uint32_t culprit_pid;
	char culprit_name[WATCH_STATUS_COMM]; /* "" where the kernel did not say */
	char culprit_what[WATCH_STATUS_TEXT];
	uint64_t culprit_ms;
	struct watch_tried tried[WATCH_STATUS_TRIED]; /* the last ones, newest first */
	uint32_t tried_len;
};

#endif
