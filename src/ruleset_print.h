/* ruleset_print.h - struct ruleset -> nft's own language */
#ifndef RULESET_PRINT_H
#define RULESET_PRINT_H

#include <stdio.h>

struct ruleset;

/*
 * Print the table as `nft -f` takes it and nearly as `nft list` prints it:
 * loaded that way, the kernel lists the same as after enable.
 * 0, or -EIO when the stream failed.  Pure.
 */
int ruleset_print(const struct ruleset *rs, FILE *out);

#endif
