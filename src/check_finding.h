/* check_finding.h - one thing that check finds in the system's settings; a header alone */
#ifndef CHECK_FINDING_H
#define CHECK_FINDING_H

#include <stdbool.h>

#define FINDING_SUBJECT 64
#define FINDING_TEXT	256

/* Every text is printable ASCII, one line, and cut to its room. */
struct finding {
	const char *topic;	       /* a constant: one of check_system.h */
	char subject[FINDING_SUBJECT]; /* the link, file or address that it is about */
	char text[FINDING_TEXT];       /* what was found */
	char advice[FINDING_TEXT];     /* what to do */
	bool risk; /* names can leave by it; otherwise it is only good to know */
};

typedef void finding_fn(void *ctx, const struct finding *f);

#endif
