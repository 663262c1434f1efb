/* unit.h - what the unit tests share: cmocka, with the headers it wants first */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Name the row of a table that failed; `what` is its input. */
#define assert_row(condition, what, ...)                   \
	do {                                               \
		if (!(condition)) {                        \
			print_error("row \"%s\": ", what); \
			print_error(__VA_ARGS__);          \
			print_error("\n");                 \
			fail();                            \
		}                                          \
	} while (0)

/* What is not there to be tested: said, and skipped. */
#define SKIP(why)                                    \
	do {                                         \
		print_message("skipped: %s\n", why); \
		skip();                              \
	} while (0)

/* The program is known to be wrong here: said, and skipped, until it no longer is. */
#define KNOWN_DEFECT(still_wrong, what)                            \
	do {                                                       \
		if (still_wrong) {                                 \
			print_message("known defect: %s\n", what); \
			skip();                                    \
		}                                                  \
	} while (0)

#endif
