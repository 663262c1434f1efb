/*
 * private_netns.h - end the program where it was started from
 *
 * What includes this floods, or changes rules.  tests/lab/run leaves the name
 * of the namespace it was started from in OUTER_NETNS; there, and where nobody
 * said, nothing happens.  (The namespace of process 1 would be a simpler
 * question, but is not readable everywhere.)
 */
#ifndef PRIVATE_NETNS_H
#define PRIVATE_NETNS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_REFUSED 77

static void __attribute__((constructor)) require_private_netns(void)
{
	const char *outer = getenv("OUTER_NETNS");
	char here[64] = "";
	ssize_t n = readlink("/proc/self/ns/net", here, sizeof(here) - 1);

	if (n > 0 && outer && *outer && strcmp(outer, here))
		return;
	fputs("refusing to run: not in a private network namespace\n", stderr);
	_exit(EXIT_REFUSED);
}

#endif
