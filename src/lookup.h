/* lookup.h - names of endpoints -> addresses, through the system's resolver */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "config.h"

struct state;

/*
 * Look up every endpoint name of the state's policy (getaddrinfo(3)), and keep
 * what was found in the state.  Blocks as long as the system's resolver takes:
 * call it without the lock where that can be.  0, also if a name was not
 * found, or -ENOMEM.
 */
int lookup_endpoints(struct state *s);

/*
 * See that every name has an address.  One without keeps those it has in
 * `before` (may be NULL): with the guard up it often cannot be looked up.
 * 0; -EHOSTUNREACH with a text for a name without any address; -ENOMEM.
 */
int lookup_complete(struct state *s, const struct state *before, char reterr_text[CONFIG_ERR]);

#endif
