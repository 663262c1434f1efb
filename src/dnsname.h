/* dnsname.h - the question of a DNS message, from bytes that nobody vouches for.  Pure. */
#ifndef DNSNAME_H
#define DNSNAME_H

#include <stddef.h>
#include <stdint.h>

#define DNSNAME_TEXT	  1024 /* 255 bytes (RFC 1035, 2.3.4) of four characters each, with NUL */
#define DNSNAME_TYPE_TEXT 12   /* "TYPE65535" with NUL */

/*
 * The name and the type of the first question of a query, which begins at
 * `data` (behind the two bytes of length, with TCP).  The name is in
 * presentation format without the last dot ("." for the root): printable ASCII
 * and nothing else, every other byte as \DDD (RFC 1035, 5.1).
 * 0; -ENODATA where the message ends before its question does; -EBADMSG where
 * it is no query, or its name is none (pointers have nothing to point to there).
 * `ret_name` and `ret_type` are only written with 0.
 */
int dnsname_parse(const uint8_t *data, size_t len, char ret_name[DNSNAME_TEXT], uint16_t *ret_type);

/* "AAAA", or "TYPE65535" (RFC 3597, 5), into buf of DNSNAME_TYPE_TEXT bytes; returns buf. */
const char *dnsname_type_format(uint16_t type, char *buf);

#endif
