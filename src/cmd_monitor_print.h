/* cmd_monitor_print.h - what monitor prints: lines for people, or JSON as leakguard(8) documents it */
#ifndef CMD_MONITOR_PRINT_H
#define CMD_MONITOR_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "blocked.h"
#include "outlet.h"
#include "tally.h"

#define MONITOR_TOP 10 /* of each sort in a summary */

/* What a summary counts. */
enum monitor_sort {
	MONITOR_SORT_PROGRAMS,
	MONITOR_SORT_NAMES,
	MONITOR_SORT_RESOLVERS,
	MONITOR_SORT_CLIENTS,
	MONITOR_SORTS,
};

struct monitor_summary {
	uint64_t seconds, shown, not_shown;
	struct tally tallies[MONITOR_SORTS];
};

/* One attempt; `user` is its user's name, or "" where it is not known. */
void monitor_print_blocked(struct outlet *o, const struct blocked *b, const char *user,
			   bool colour);

/* So many packets were blocked since it was said last, and no line told of them. */
void monitor_print_not_shown(struct outlet *o, uint64_t packets, bool colour);

/* The guard was lowered meanwhile, or raised again. */
void monitor_print_guard(struct outlet *o, bool up, bool colour);

void monitor_print_summary(struct outlet *o, struct monitor_summary *summary, bool colour);

/* Count it, under the words that the lines have, too. */
void monitor_count(struct monitor_summary *summary, const struct blocked *b, const char *user);

/* The same as JSON, an object a line. */
#ifdef WITHOUT_JSON
static inline void monitor_json_blocked(struct outlet *o, const struct blocked *b, const char *user)
{
	(void)o;
	(void)b;
	(void)user;
}
static inline void monitor_json_not_shown(struct outlet *o, uint64_t packets)
{
	(void)o;
	(void)packets;
}
static inline void monitor_json_guard(struct outlet *o, bool up)
{
	(void)o;
	(void)up;
}
static inline void monitor_json_summary(struct outlet *o, struct monitor_summary *summary)
{
	(void)o;
	(void)summary;
}
#else
void monitor_json_blocked(struct outlet *o, const struct blocked *b, const char *user);
void monitor_json_not_shown(struct outlet *o, uint64_t packets);
void monitor_json_guard(struct outlet *o, bool up);
void monitor_json_summary(struct outlet *o, struct monitor_summary *summary);
#endif

/*
 * Words that others chose, for lines and JSON alike: of any byte but printable
 * ASCII '?'.  What does not fit is cut.  Returns buf.
 */
const char *monitor_quotable(const char *text, char *buf, size_t size);

#endif
