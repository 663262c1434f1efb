/*
 * musl-shims.c - what static libraries that were compiled against glibc ask of it
 *
 * Only scripts/musl links this, and only where a library's source cannot be had.
 * For trying and measuring: glibc's checks of sizes are not made here.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

int __snprintf_chk(char *buf, size_t size, int flag, size_t room, const char *format, ...);
int __fprintf_chk(FILE *out, int flag, const char *format, ...);
const unsigned short **__ctype_b_loc(void);

int __snprintf_chk(char *buf, size_t size, int flag, size_t room, const char *format, ...)
{
	va_list args;

	(void)flag;
	(void)room;
	va_start(args, format);
	const int len = vsnprintf(buf, size, format, args);
	va_end(args);
	return len;
}

int __fprintf_chk(FILE *out, int flag, const char *format, ...)
{
	va_list args;

	(void)flag;
	va_start(args, format);
	const int len = vfprintf(out, format, args);
	va_end(args);
	return len;
}

/* isalnum() and the like: what glibc's <ctype.h> looks up, at -128 to 255; _ISbit(), little-endian. */
enum {
	UPPER = 1 << 8,
	LOWER = 1 << 9,
	ALPHA = 1 << 10,
	DIGIT = 1 << 11,
	XDIGIT = 1 << 12,
	SPACE = 1 << 13,
	PRINT = 1 << 14,
	GRAPH = 1 << 15,
	BLANK = 1 << 0,
	CNTRL = 1 << 1,
	PUNCT = 1 << 2,
	ALNUM = 1 << 3,
};

static unsigned short class_of(int c)
{
	return (isupper(c) ? UPPER : 0) | (islower(c) ? LOWER : 0) | (isalpha(c) ? ALPHA : 0) |
	       (isdigit(c) ? DIGIT : 0) | (isxdigit(c) ? XDIGIT : 0) | (isspace(c) ? SPACE : 0) |
	       (isprint(c) ? PRINT : 0) | (isgraph(c) ? GRAPH : 0) | (isblank(c) ? BLANK : 0) |
	       (iscntrl(c) ? CNTRL : 0) | (ispunct(c) ? PUNCT : 0) | (isalnum(c) ? ALNUM : 0);
}

const unsigned short **__ctype_b_loc(void)
{
	static unsigned short table[128 + 256];
	static const unsigned short *zero;

	if (!zero) {
		for (int c = 0; c < 128; c++)
			table[128 + c] = class_of(c);
		zero = table + 128;
	}
	return &zero;
}
