/* ruleset_sets.h - the part of ruleset.h that fills the sets.  Pure. */
#ifndef RULESET_SETS_H
#define RULESET_SETS_H

#include "ruleset.h"

/*
 * Fill the sets of an empty ruleset from a validated policy; only those that
 * get elements are made.  0, or -ENOMEM and sets for ruleset_fini() to free.
 */
int ruleset_build_sets(const struct policy *p, const struct pins *pins, struct ruleset *rs);

/*
 * Sort keys of key_len bytes each as memcmp(3) does and keep one of each.
 * Returns how many are left.
 */
size_t keys_sort_unique(uint8_t *keys, size_t n, size_t key_len);

#endif
