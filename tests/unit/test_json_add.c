/* json_add.h: whatever the text is, it comes out as JSON */
#include "unit.h"

#include <string.h>

#include <json-c/json.h>

#include "json_add.h"

static const struct {
	const char *text, *found;
} rows[] = {
	{ "", "" },
	{ "wan0", "wan0" },
	{ "a\377b", "a?b" },
	{ "\303\251", "\303\251" },				    /* U+00E9 */
	{ "\342\202\254", "\342\202\254" },			    /* U+20AC */
	{ "\360\237\230\200", "\360\237\230\200" },		    /* U+1F600 */
	{ "\355\237\277\356\200\200", "\355\237\277\356\200\200" }, /* around the halves */
	{ "\364\217\277\277", "\364\217\277\277" },		    /* the last one */
	{ "\302\240", "\302\240" },
	{ "\302\233"
	  "31m",
	  "??31m" },		     /* CSI */
	{ "\177\t\033", "?\t\033" }, /* json-c escapes the others */
	{ "\303", "?" },
	{ "\342\202", "??" },
	{ "\342\202x", "??x" },
	{ "\360\237\230", "???" },
	{ "\251", "?" },
	{ "\300\200", "??" }, /* NUL, longer than it need be */
	{ "\340\237\277", "???" },
	{ "\360\217\277\277", "????" },
	{ "\355\240\200", "???" },	/* a half */
	{ "\364\220\200\200", "????" }, /* behind the last one */
	{ "\365\200\200\200", "????" },
};

static void test_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(rows); i++) {
		json_object *o = json_object_new_object(), *value;

		json_add_string(o, "key", rows[i].text);
		json_append_string(json_add_list(o, "list"), rows[i].text);
		assert_true(json_object_object_get_ex(o, "key", &value));
		assert_string_equal(json_object_get_string(value), rows[i].found);
		assert_true(json_object_object_get_ex(o, "list", &value));
		assert_string_equal(json_object_get_string(json_object_array_get_idx(value, 0)),
				    rows[i].found);
		json_object_put(o);
	}
}

static void test_nothing(void **state)
{
	json_object *o = json_object_new_object();

	(void)state;
	json_add_string(o, "string", NULL);
	json_add_known(o, "number", false, 7);
	json_add_known(o, "known", true, 7);
	assert_string_equal(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
			    "{\"string\":null,\"number\":null,\"known\":7}");
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
