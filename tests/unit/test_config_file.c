/* config_read_file(): what a file may look like, and FILE:LINE of what it may not */
#include "unit.h"

#include <errno.h>

#include "files.h"
#include "policies.h"

#define X16  "xxxxxxxxxxxxxxxx"
#define X192 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16

/* Bytes of a file with their number, NULs included. */
#define BYTES(text) (text), sizeof(text) - 1

static void write_config(const char *dir, char path[PATH_SIZE], const void *data, size_t len)
{
	snprintf(path, PATH_SIZE, "%.100s/leakguard.conf", dir);
	write_file(path, data, len);
}

/* All these say tunnel wg0, resolver 10.0.0.1 and mode both. */
static void test_good_files(void **state)
{
	static const struct {
		const char *what, *data;
		size_t len;
	} rows[] = {
		{ "plain", BYTES("tunnel = wg0\nresolver = 10.0.0.1\nmode = both\n") },
		{ "no blanks", BYTES("tunnel=wg0\nresolver=10.0.0.1\nmode=both\n") },
		{ "colons", BYTES("tunnel: wg0\nresolver: 10.0.0.1\nmode: both\n") },
		{ "no last newline", BYTES("tunnel = wg0\nresolver = 10.0.0.1\nmode = both") },
		{ "CRLF", BYTES("tunnel = wg0\r\nresolver = 10.0.0.1\r\n\r\nmode = both\r\n") },
		{ "BOM", BYTES("\xef\xbb\xbftunnel = wg0\nresolver = 10.0.0.1\nmode = both\n") },
		{ "comments",
		  BYTES("# a\n; b\n  # c\n\ntunnel = wg0 ; d\nresolver = 10.0.0.1\nmode = both\n#mode = either\n") },
		/* An indented line would go on with the key before it. */
		{ "indented", BYTES("tunnel = wg0\n  resolver = 10.0.0.1\n\t\tmode = both\n") },
		{ "blanks",
		  BYTES("   \n\t\n  tunnel   =   wg0   \nresolver=\t10.0.0.1\t\nmode = both \n") },
		{ "last one counts",
		  BYTES("mode = either\ntunnel = wg0\nresolver = 10.0.0.1\nmode = both\n") },
		{ "given twice",
		  BYTES("tunnel = wg0\ntunnel = wg0\nresolver = 10.0.0.1\nmode = both\n") },
	};

	for (size_t i = 0; i < LEN(rows); i++) {
		struct policy expected =
			policy_from_lines("tunnel = wg0\nresolver = 10.0.0.1\nmode = both\n");
		char path[PATH_SIZE], err[CONFIG_ERR] = "", *text, *want = policy_text(&expected);
		struct policy p;

		policy_init(&p);
		write_config(*state, path, rows[i].data, rows[i].len);
		assert_row(!config_read_file(path, &p, err), rows[i].what, "%s", err);
		text = policy_text(&p);
		assert_row(!strcmp(text, want), rows[i].what, "read as\n%s", text);
		free(text);
		free(want);
		policy_fini(&p);
		policy_fini(&expected);
	}
}

/* The message behind "FILE"; each file is refused at its first bad line. */
static void test_bad_files(void **state)
{
	static const struct {
		const char *what, *data;
		size_t len;
		const char *expected;
	} rows[] = {
		{ "bad value", BYTES("tunnel = wg0\n\n# x\nresolver = 10.0.0\n"),
		  ":4: resolver \"10.0.0\": expected an IPv4 or IPv6 address" },
		{ "first of two", BYTES("mode = x\nmode = y\n"),
		  ":1: mode \"x\": expected either or both" },
		{ "last line, no newline", BYTES("tunnel = wg0\naction = x"),
		  ":2: action \"x\": expected drop or reject" },
		{ "after CRLF", BYTES("tunnel = wg0\r\n\r\nmode = x\r\n"),
		  ":3: mode \"x\": expected either or both" },
		{ "after a BOM", BYTES("\xef\xbb\xbfmode = x\n"),
		  ":1: mode \"x\": expected either or both" },
		{ "unknown key", BYTES("tunel = wg0\n"),
		  ":1: \"tunel\": unknown key, expected one of those in leakguard.conf(5)" },
		{ "capitals", BYTES("Tunnel = wg0\n"),
		  ":1: \"Tunnel\": unknown key, expected one of those in leakguard.conf(5)" },
		{ "no value", BYTES("\n\ntunnel\n"), ":3: expected \"key = value\"" },
		{ "empty value", BYTES("tunnel =\n"),
		  ":1: tunnel \"\": expected a link name of 1 to 15 bytes, a prefix of one and \"*\", ipsec:any or ipsec:REQID" },
		{ "no key", BYTES("= wg0\n"),
		  ":1: \"\": unknown key, expected one of those in leakguard.conf(5)" },
		{ "section", BYTES("[dns]\nresolver = 10.0.0.1\n"),
		  ":2: [dns]: expected no sections" },
		{ "control bytes", BYTES("mode = \x1b[2J\n"),
		  ":1: mode \"?[2J\": expected either or both" },
		/* inih would split it, and take what is over as a line of its own. */
		{ "line too long", BYTES("tunnel = wg0\nresolver = 10.0.0.1 " X192 "\n"),
		  ":2: line too long, expected at most 198 bytes" },
		{ "comment too long", BYTES("# " X192 X16 "\n"),
		  ":1: line too long, expected at most 198 bytes" },
		{ "longest of all", BYTES("# " X192 X192 X192 X192 X192 X192 "\nmode = both\n"),
		  ":1: line too long, expected at most 198 bytes" },
	};

	for (size_t i = 0; i < LEN(rows); i++) {
		char path[PATH_SIZE], err[CONFIG_ERR] = "", text[CONFIG_ERR];
		struct policy p;
		int rc;

		policy_init(&p);
		write_config(*state, path, rows[i].data, rows[i].len);
		rc = config_read_file(path, &p, err);
		/* Not -ENOENT: that would be taken for an absent file, which is fine. */
		assert_row(rc == -EINVAL, rows[i].what, "returned %d", rc);
		snprintf(text, sizeof(text), "%s%s", path, rows[i].expected);
		assert_row(!strcmp(err, text), rows[i].what, "said %s", err);
		policy_fini(&p);
	}
}

/* The longest line that is taken, and one byte more. */
static void test_line_limit(void **state)
{
	for (int len = 197; len <= 199; len++) {
		char path[PATH_SIZE], line[256], err[CONFIG_ERR] = "";
		struct policy p;

		policy_init(&p);
		/* Filled up with a comment: the value itself is short. */
		snprintf(line, sizeof(line), "mode = both ;%0*d", len - 13, 0);
		assert_int_equal(strlen(line), len);
		write_config(*state, path, line, strlen(line));
		assert_int_equal(config_read_file(path, &p, err), len <= 198 ? 0 : -EINVAL);
		assert_int_equal(p.mode, len <= 198 ? POLICY_MODE_BOTH : POLICY_MODE_EITHER);
		policy_fini(&p);
	}
}

/*
 * A NUL hides the rest of its line from string functions, and a file of NULs is
 * what some file systems leave of one that was being written in a power cut.
 * Either must not be read as if it said less.
 */
static void test_nul_bytes(void **state)
{
	static const struct {
		const char *what, *data;
		size_t len;
	} rows[] = {
		{ "behind a value", BYTES("mode = both\0 or not\n") },
		{ "in a value", BYTES("tunnel = w\0g0\n") },
		{ "in a key", BYTES("tun\0nel = wg0\n") },
		{ "before a line", BYTES("\0ports = 53,853,5353\n") },
		{ "nothing else", BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") },
	};

	for (size_t i = 0; i < LEN(rows); i++) {
		char path[PATH_SIZE], err[CONFIG_ERR] = "";
		struct policy p;

		policy_init(&p);
		write_config(*state, path, rows[i].data, rows[i].len);
		assert_row(config_read_file(path, &p, err) == -EINVAL, rows[i].what, "is taken");
		assert_row(!strncmp(err, path, strlen(path)), rows[i].what, "said %s", err);
		policy_fini(&p);
	}
}

/* Only a regular file is opened for good: a FIFO would block for ever. */
static void test_other_kinds(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR] = "", expected[CONFIG_ERR];
	struct policy p;

	policy_init(&p);
	snprintf(path, sizeof(path), "%.100s/absent", (char *)*state);
	assert_int_equal(config_read_file(path, &p, err), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: No such file or directory", path);
	assert_string_equal(err, expected);

	snprintf(path, sizeof(path), "%.100s/fifo", (char *)*state);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(config_read_file(path, &p, err), -EINVAL);
	snprintf(expected, sizeof(expected), "%s: expected a regular file", path);
	assert_string_equal(err, expected);

	assert_int_equal(config_read_file(*state, &p, err), -EINVAL);
	snprintf(expected, sizeof(expected), "%s: expected a regular file", (char *)*state);
	assert_string_equal(err, expected);
	policy_fini(&p);
}

static void test_many_lines(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR] = "", *data = calloc(20000, 24);
	struct policy p;
	size_t len = 0;

	assert_non_null(data);
	for (int i = 0; i < 20000; i++)
		len += (size_t)sprintf(data + len, "resolver = 10.%d.%d.1\n", i >> 8, i & 255);
	policy_init(&p);
	write_config(*state, path, data, len);
	assert_int_equal(config_read_file(path, &p, err), 0);
	assert_int_equal(p.resolvers_len, 20000);
	policy_fini(&p);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_files),  cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_line_limit),  cmocka_unit_test(test_nul_bytes),
		cmocka_unit_test(test_other_kinds), cmocka_unit_test(test_many_lines),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
