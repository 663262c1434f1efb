/* config_value.h - values that several keys share: links, addresses with a port.  Pure. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdint.h>

#include "policy.h"

/*
 * A link by its name, or the start of one and "*".  0; or -EINVAL, where
 * *reterr_expects may be replaced by a narrower text.
 */
int value_parse_links(const char *value, struct tunnel *ret_links, const char **reterr_expects);

/* "[v6]SEP..." or "ADDRSEP..."; cuts the text in place, *ret_rest is what follows SEP or NULL. */
int value_split_port(char *text, char sep, char **ret_host, char **ret_rest);

/* ADDR, ADDR@PORT or [v6]@PORT of one host; port 0 where there is none.  The same returns. */
int value_parse_host(const char *value, struct addr *ret_addr, uint16_t *ret_port,
		     const char **reterr_expects);

#endif
