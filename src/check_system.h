/*
 * check_system.h - the system's own settings, as far as names leak by them
 *
 * Reads files of others below `root`, and changes nothing: their size, bytes and
 * kind are anybody's.  What does not exist gives no finding; what is there and
 * cannot be read gives one.
 */
#ifndef CHECK_SYSTEM_H
#define CHECK_SYSTEM_H

#include <stdbool.h>

#define FINDING_SUBJECT 64
#define FINDING_TEXT	256

struct netstate;
struct policy;

/* One thing that was found; every text is printable, one line, and cut to its room. */
struct finding {
	const char *topic;	       /* a constant: "resolver", "llmnr", "doh", ... */
	char subject[FINDING_SUBJECT]; /* the link, file or address that it is about */
	char text[FINDING_TEXT];       /* what was found */
	char advice[FINDING_TEXT];     /* what to do */
	bool risk; /* names can leave by it; otherwise it is only good to know */
};

typedef void finding_fn(void *ctx, const struct finding *f);

/*
 * Tell of all that is found, each through found(ctx, ...), in a fixed order of
 * topics.  `root` is put before every path; "" is the machine itself, and then
 * addresses and routes are asked of the kernel as well.  `ns` has the links
 * (netwatch_dump_links()).  Waits for no file.  0; -errno where the kernel or
 * memory failed, after what was found until then.
 */
int check_system(const char *root, const struct policy *p, const struct netstate *ns,
		 finding_fn *found, void *ctx);

#endif
