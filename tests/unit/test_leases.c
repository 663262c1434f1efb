/* leases.h, tally.h: names of clients, and what came how often */
#include "unit.h"

#include <errno.h>

#include "files.h"
#include "leases.h"
#include "tally.h"

static const char *find(const struct leases *l, const char *addr, const char *mac)
{
	uint8_t bytes[MAC_LEN];
	struct addr a;

	assert_int_equal(addr_parse(addr, &a), 0);
	if (mac)
		assert_int_equal(mac_parse(mac, bytes), 0);
	return leases_find(l, &a, mac ? bytes : NULL) ?: "-";
}

static void read_text(void **state, struct leases *l, const char *text)
{
	char path[PATH_SIZE + 16];

	snprintf(path, sizeof(path), "%s/leases", (char *)*state);
	write_file(path, text, strlen(text));
	assert_int_equal(leases_read_file(l, path), 0);
}

static void test_formats(void **state)
{
	static struct leases l;

	read_text(state, &l,
		  "1700000000 02:00:00:00:00:01 192.168.1.5 phone 01:02:00:00:00:00:01\n"
		  "1700000000 02:00:00:00:00:02 192.168.1.6 * *\n"
		  "duid 00:01:00:01\n"
		  "1700000000 12345 fd00::5 tablet 00:01\n"
		  "1700000000 02:00:00:00:00:07 192.168.1.7\n"
		  "no 02:00:00:00:00:09 192.168.1.9 odd\n");
	read_text(state, &l,
		  "# br-lan 000100011234 1 laptop 1700000000 100 128 fd00::7/128 fd00::8/128\n"
		  "# br-lan 020000000003 ipv4 printer 1700000000 5 32 192.168.1.8/32\n"
		  "# br-lan 000100011235 1 - 1700000000 100 128 fd00::9/128\n"
		  "fd00::7 laptop\n");
	read_text(state, &l,
		  "lease 192.168.1.20 {\n  starts 3 2023/11/15 00:00:00;\n"
		  "  hardware ethernet 02:00:00:00:00:04;\n  client-hostname \"tv set\";\n}\n"
		  "lease 192.168.1.21 {\n  hardware ethernet 02:00:00:00:00:05;\n}\n"
		  "lease 192.168.1.22 {\n  client-hostname \"radio\";\n}\n");
	assert_string_equal(find(&l, "192.168.1.5", NULL), "phone");
	assert_string_equal(find(&l, "192.168.1.6", NULL), "-");
	assert_string_equal(find(&l, "fd00::5", NULL), "tablet");
	assert_string_equal(find(&l, "192.168.1.7", NULL), "-");
	assert_string_equal(find(&l, "192.168.1.9", NULL), "-");
	assert_string_equal(find(&l, "fd00::7", NULL), "laptop");
	assert_string_equal(find(&l, "fd00::8", NULL), "laptop");
	assert_string_equal(find(&l, "192.168.1.8", NULL), "printer");
	assert_string_equal(find(&l, "fd00::9", NULL), "-");
	assert_string_equal(find(&l, "192.168.1.21", NULL), "-");
	assert_string_equal(find(&l, "192.168.1.22", NULL), "radio");
	/* Another address of a client that is known by its MAC. */
	assert_string_equal(find(&l, "2001:db8::1", "02:00:00:00:00:01"), "phone");
	assert_string_equal(find(&l, "2001:db8::1", "02:00:00:00:00:03"), "printer");
	assert_string_equal(find(&l, "2001:db8::1", "02:00:00:00:00:66"), "-");
}

static void test_later(void **state)
{
	static struct leases l;

	read_text(state, &l, "lease 192.168.1.20 {\n client-hostname \"tv\";\n}\n");
	assert_string_equal(find(&l, "192.168.1.20", NULL), "tv");
	/* A later lease is who has it now. */
	read_text(state, &l, "lease 192.168.1.20 {\n client-hostname \"radio\";\n}\n");
	assert_string_equal(find(&l, "192.168.1.20", NULL), "radio");
}

static void test_bounds(void **state)
{
	static struct leases l;
	static char text[LEASES_MAX * 2 * 80];
	size_t at = 0;

	for (int i = 0; i < LEASES_MAX * 2; i++)
		at += (size_t)sprintf(text + at, "1 02:00:00:00:%02x:%02x 10.0.%d.%d n%d *\n",
				      i >> 8, i & 255, i >> 8, i & 255, i);
	read_text(state, &l, text);
	assert_int_equal(l.len, LEASES_MAX);
	assert_string_equal(find(&l, "10.0.3.255", NULL), "n1023");
	assert_string_equal(find(&l, "10.0.4.0", NULL), "-");
	/* Bytes of every sort end in no crash, and in a string. */
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)(random() % 255 + 1);
	memset(&l, 0, sizeof(l));
	read_text(state, &l, text);
	assert_int_equal(leases_read_file(&l, "/nonexistent"), -ENOENT);
}

/* --- tally --- */

static void test_most(void **state)
{
	static struct tally t;

	(void)state;
	for (int i = 0; i < 30; i++) {
		tally_count(&t, "often");
		if (i % 2)
			tally_count(&t, "less");
	}
	tally_count(&t, "once");
	assert_int_equal(tally_sort(&t, 2), 2);
	assert_string_equal(t.places[0].text, "often");
	assert_int_equal(t.places[0].count, 30);
	assert_string_equal(t.places[1].text, "less");
	assert_int_equal(t.places[1].count, 15);
	assert_int_equal(tally_sort(&t, 10), 3);
}

/* Whatever comes, nothing is counted twice or lost, and who comes often stays. */
static void test_flood(void **state)
{
	static struct tally t;
	uint64_t sum = 0;
	char text[32];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(text, sizeof(text), "random%d", i);
		tally_count(&t, text);
		if (i % 10 == 0)
			tally_count(&t, "steady");
	}
	assert_int_equal(t.len, TALLY_PLACES);
	assert_int_equal(tally_sort(&t, TALLY_PLACES), TALLY_PLACES);
	assert_string_equal(t.places[0].text, "steady");
	assert_int_equal(t.places[0].count, 1000);
	for (size_t i = 0; i < t.len; i++)
		sum += t.places[i].count;
	assert_int_equal(sum + t.others, 11000);
}

/* Two that differ only behind what is kept are two. */
static void test_long(void **state)
{
	static struct tally t;
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[999] = '\0';
	tally_count(&t, text);
	text[998] = 'y';
	tally_count(&t, text);
	tally_count(&t, text);
	assert_int_equal(t.len, 2);
	assert_int_equal(t.places[1].count, 2);
	assert_int_equal(strlen(t.places[1].text), TALLY_TEXT - 1);
	assert_string_equal(t.places[1].text + TALLY_TEXT - 4, "...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_formats, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_later, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_bounds, make_dir, remove_dir),
		cmocka_unit_test(test_most),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
