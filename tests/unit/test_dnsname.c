/* dnsname.h: a name comes out whole and printable, or not at all, whatever the bytes are */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dnsname.h"

#define HEADER "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define TAIL   "\x00\x1c\x00\x01"
#define QUERY(name)                                            \
	{                                                      \
		HEADER name TAIL, sizeof(HEADER name TAIL) - 1 \
	}

static void test_names(void **state)
{
	static const struct {
		const char *what;
		struct {
			const char *data;
			size_t len;
		} query;
		int ret;
		const char *name;
	} rows[] = {
		{ "plain", QUERY("\003www\007example\000"), 0, "www.example" },
		{ "the root", QUERY("\000"), 0, "." },
		{ "case stays", QUERY("\003wWw\000"), 0, "wWw" },
		{ "a dot within", QUERY("\003a.b\001c\000"), 0, "a\\.b.c" },
		{ "a backslash", QUERY("\003a\\b\000"), 0, "a\\\\b" },
		{ "a NUL within", QUERY("\003a\000b\000"), 0, "a\\000b" },
		{ "escape", QUERY("\005\033[31m\000"), 0, "\\027[31m" },
		{ "C1", QUERY("\003\302\2331\000"), 0, "\\194\\1551" },
		{ "blank", QUERY("\003a b\000"), 0, "a\\032b" },
		{ "a pointer to itself", QUERY("\300\014"), -EBADMSG, NULL },
		{ "a pointer behind a label", QUERY("\001a\300\014"), -EBADMSG, NULL },
		{ "RFC 2673's labels", QUERY("\101a\000"), -EBADMSG, NULL },
		{ "nothing", { "", 0 }, -ENODATA, NULL },
		{ "a header alone", { HEADER, 12 }, -ENODATA, NULL },
		{ "the label is cut", { HEADER "\003ww", 15 }, -ENODATA, NULL },
		{ "the root is cut", { HEADER "\003www", 16 }, -ENODATA, NULL },
		{ "the type is cut", { HEADER "\000\000\001\000", 16 }, -ENODATA, NULL },
		{ "a response", { "\0\0\200\0\0\1\0\0\0\0\0\0\0\0\1\0\1", 17 }, -EBADMSG, NULL },
		{ "no question", { "\0\0\1\0\0\0\0\0\0\0\0\0\0\0\1\0\1", 17 }, -EBADMSG, NULL },
	};

	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		/* On the heap, to its very end: one byte too far is seen there. */
		uint8_t *data = malloc(rows[i].query.len + 1);
		char name[DNSNAME_TEXT] = "untouched";
		uint16_t type = 7;
		int ret;

		assert_non_null(data);
		data = realloc(data, rows[i].query.len ?: 1);
		memcpy(data, rows[i].query.data, rows[i].query.len);
		ret = dnsname_parse(data, rows[i].query.len, name, &type);
		free(data);
		assert_row(ret == rows[i].ret, rows[i].what, "returned %d", ret);
		assert_row(!strcmp(name, rows[i].name ?: "untouched"), rows[i].what, "name %s",
			   name);
		assert_row(type == (ret ? 7 : 28), rows[i].what, "type %u", type);
	}
}

/* 255 bytes are a name, 256 are none (RFC 1035, 2.3.4). */
static void test_longest(void **state)
{
	char name[DNSNAME_TEXT];
	uint16_t type;

	(void)state;
	for (int last = 61; last <= 62; last++) {
		uint8_t data[600];
		size_t at = 12;

		memcpy(data, HEADER, 12);
		for (int i = 0; i < 4; i++) {
			const int label = i < 3 ? 63 : last;

			data[at++] = (uint8_t)label;
			memset(data + at, 0xff, (size_t)label);
			at += (size_t)label;
		}
		data[at++] = 0;
		memcpy(data + at, TAIL, 4);
		at += 4;
		assert_int_equal(dnsname_parse(data, at, name, &type), last == 61 ? 0 : -EBADMSG);
		if (last == 61)
			assert_int_equal(strlen(name), (63 * 3 + 61) * 4 + 3);
	}
}

static void test_every_byte(void **state)
{
	(void)state;
	for (int byte = 0; byte < 256; byte++) {
		uint8_t data[] = HEADER "\001x\000" TAIL;
		char name[DNSNAME_TEXT];
		uint16_t type;
		int back = -1;

		data[13] = (uint8_t)byte;
		assert_int_equal(dnsname_parse(data, sizeof(data) - 1, name, &type), 0);
		for (const char *c = name; *c; c++)
			assert_in_range(*c, '!', '~');
		/* And it can be told what it was. */
		if (*name != '\\')
			back = (uint8_t)*name;
		else if (name[1] < '0' || name[1] > '9')
			back = (uint8_t)name[1];
		else
			sscanf(name + 1, "%d", &back);
		assert_int_equal(back, byte);
	}
}

/* A sound query with some bytes changed and its end cut off, or nothing but noise. */
static size_t make_noise(uint8_t *data, size_t room)
{
	static const char sound[] = HEADER "\003www\007example\003com\000" TAIL;
	size_t len = (size_t)random() % room;

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)random();
	if (random() % 4) {
		memcpy(data, sound, sizeof(sound) - 1);
		len = (size_t)random() % sizeof(sound);
		for (long n = random() % 4; n > 0; n--)
			data[random() % (long)sizeof(sound)] = (uint8_t)random();
	}
	return len;
}

static void test_malformed(void **state)
{
	size_t named = 0, refused = 0;

	(void)state;
	srandom(7);
	for (int i = 0; i < 10000; i++) {
		uint8_t noise[600];
		const size_t len = make_noise(noise, sizeof(noise));
		uint8_t *data = malloc(len ?: 1); /* its end is the heap's */
		char name[DNSNAME_TEXT];
		uint16_t type;

		assert_non_null(data);
		memcpy(data, noise, len);
		memset(name, 'X', sizeof(name));
		if (dnsname_parse(data, len, name, &type)) {
			refused++;
			assert_int_equal(name[0], 'X');
		} else {
			named++;
			assert_non_null(memchr(name, '\0', sizeof(name)));
			for (const char *c = name; *c; c++)
				assert_in_range(*c, '!', '~');
		}
		free(data);
	}
	/* Both ways were gone. */
	assert_true(named > 100);
	assert_true(refused > 1000);
}

static void test_types(void **state)
{
	char text[DNSNAME_TYPE_TEXT];

	(void)state;
	assert_string_equal(dnsname_type_format(1, text), "A");
	assert_string_equal(dnsname_type_format(65, text), "HTTPS");
	assert_string_equal(dnsname_type_format(0, text), "TYPE0");
	assert_string_equal(dnsname_type_format(65535, text), "TYPE65535");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),	   cmocka_unit_test(test_longest),
		cmocka_unit_test(test_every_byte), cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
