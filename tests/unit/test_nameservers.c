/* nameservers.h: what counts in files of others, and what never does */
#include "unit.h"

#include "files.h"
#include "nameservers.h"
#include "netstate.h"

static void put_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[PATH_SIZE + 64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	write_file(path, data, len);
}

static struct nameservers read_one(const char *dir, const char *text, size_t len)
{
	struct nameservers ns = { .len = 0 };
	char path[PATH_SIZE + 64];

	put_file(dir, "resolv.conf", text, len);
	snprintf(path, sizeof(path), "%s/resolv.conf", dir);
	nameservers_read(&ns, path);
	return ns;
}

/* "ADDR" or "ADDR%LINK", with spaces between. */
static char *list(const struct nameservers *ns, char buf[1024])
{
	char addr[ADDR_TEXT];
	size_t len = 0;

	*buf = '\0';
	for (size_t i = 0; i < ns->len && len < 900; i++)
		len += (size_t)sprintf(buf + len, "%s%s%s%s", i ? " " : "",
				       addr_format(&ns->list[i].addr, addr),
				       *ns->list[i].link ? "%" : "", ns->list[i].link);
	return buf;
}

static void test_lines(void **state)
{
	static const struct {
		const char *text, *found;
		size_t junk;
	} rows[] = {
		{ "nameserver 192.0.2.1\n", "192.0.2.1", 0 },
		{ "nameserver 192.0.2.1", "192.0.2.1", 0 },
		{ "nameserver\t 192.0.2.1 \t\r\n", "192.0.2.1", 0 },
		{ "nameserver 192.0.2.1 192.0.2.2\n", "192.0.2.1", 0 },
		{ "nameserver 192.0.2.1\nnameserver 192.0.2.1\n", "192.0.2.1", 0 },
		{ "nameserver 2001:db8::1\nnameserver ::1\n", "2001:db8::1 ::1", 0 },
		{ "nameserver ::ffff:192.0.2.1\n", "192.0.2.1", 0 },
		{ "nameserver fe80::1%eth0\n", "fe80::1%eth0", 0 },
		{ "nameserver fe80::1\n", "fe80::1", 0 },
		{ "nameserver 192.0.2.1%eth0\n", "192.0.2.1", 0 },
		{ "nameserver fe80::1%a;b\nnameserver fe80::1%\n", "", 2 },
		{ "nameserver 192.0.2.1:53\nnameserver [2001:db8::1]:53\n", "192.0.2.1 2001:db8::1",
		  0 },
		{ "nameserver 192.0.2.1#name\n", "192.0.2.1", 0 },
		{ "nameserver 192.0.2\nnameserver\nnameserver   \nnameserver x\n", "", 4 },
		{ "#nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", "", 0 },
		{ " nameserver 192.0.2.1\nnameserver192.0.2.1\nNameserver 192.0.2.1\n", "", 0 },
		{ "search x\noptions edns0\nnameserver 192.0.2.3\n", "192.0.2.3", 0 },
		{ "", "", 0 },
		{ "\n\n\n", "", 0 },
	};
	char buf[1024];

	for (size_t i = 0; i < LEN(rows); i++) {
		const struct nameservers ns = read_one(*state, rows[i].text, strlen(rows[i].text));
		const size_t junk = ns.files_len ? ns.files[0].junk : 0;

		list(&ns, buf);
		assert_row(!strcmp(buf, rows[i].found), rows[i].text, "found %s", buf);
		assert_row(junk == rows[i].junk, rows[i].text, "junk %zu", junk);
	}
}

/* A NUL ends its line: what is behind it is another's word. */
static void test_nuls(void **state)
{
	static const char text[] = "nameserver 192.0.2.1\0 x\nnameserver \0 192.0.2.2\n\0\0"
				   "nameserver 192.0.2.3\nnameserver 192.0.2.4\n";
	const struct nameservers ns = read_one(*state, text, sizeof(text) - 1);
	char buf[1024];

	assert_string_equal(list(&ns, buf), "192.0.2.1 192.0.2.4");
}

static void test_too_many(void **state)
{
	char *text = malloc(10000 * 32);
	struct nameservers ns;
	size_t len = 0;

	assert_non_null(text);
	for (int i = 0; i < 10000; i++)
		len += (size_t)sprintf(text + len, "nameserver 10.0.%d.%d\n", i >> 8, i & 255);
	ns = read_one(*state, text, len);
	free(text);
	assert_int_equal(ns.len, NAMESERVERS_MAX);
	assert_int_equal(ns.more, 10000 - NAMESERVERS_MAX);
}

/* What is past the limit is not read, and no half line is. */
static void test_too_long(void **state)
{
	static const char line[] = "nameserver 192.0.2.1";
	char *text = malloc(NAMESERVERS_BYTES + 64), buf[1024];
	struct nameservers ns;

	assert_non_null(text);
	memset(text, '\n', NAMESERVERS_BYTES + 64);
	memcpy(text, "nameserver 192.0.2.7", 20);
	/* Cut behind "192.0.2.1", which goes on with "23". */
	memcpy(text + NAMESERVERS_BYTES - strlen(line), line, strlen(line));
	memcpy(text + NAMESERVERS_BYTES, "23\n", 3);
	ns = read_one(*state, text, NAMESERVERS_BYTES + 64);
	free(text);
	assert_string_equal(list(&ns, buf), "192.0.2.7");
	assert_true(ns.files_len == 1 && ns.files[0].cut);
}

static void test_no_regular_file(void **state)
{
	struct nameservers ns = { .len = 0 };
	char path[PATH_SIZE + 64];

	snprintf(path, sizeof(path), "%s/missing", (char *)*state);
	nameservers_read(&ns, path);
	assert_int_equal(ns.files_len, 0);

	snprintf(path, sizeof(path), "%s/fifo", (char *)*state);
	assert_int_equal(mkfifo(path, 0600), 0);
	nameservers_read(&ns, path);
	nameservers_read(&ns, *state);
	nameservers_read(&ns, "/dev/zero");
	assert_int_equal(ns.files_len, 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(ns.files[i].irregular);
	assert_int_equal(ns.len, 0);
}

/* An address tied to its link stands for the same in a list; tied to two, it stands twice. */
static void test_upstream(void **state)
{
	struct link links[] = { { .index = 4, .name = "eth0" }, { .index = 7, .name = "wg0" } };
	const struct netstate net = { .links = links, .links_len = LEN(links) };
	static const struct {
		const char *name, *text;
	} files[] = {
		{ "systemd/resolve/netif/4", "LLMNR=yes\nSERVERS=192.0.2.1 10.64.0.1\n" },
		{ "systemd/resolve/netif/7",
		  "# private\nSERVERS=10.64.0.1:53 [fd64::1]:853#n x\nDOMAINS=y\n" },
		{ "systemd/resolve/netif/9", "SERVERS=192.0.2.9\n" },
		{ "systemd/resolve/resolv.conf", "nameserver 10.64.0.1\nnameserver 192.0.2.2\n" },
	};
	struct nameservers ns = { .len = 0 };
	char path[PATH_SIZE + 64], command[PATH_SIZE + 64], buf[1024];

	snprintf(path, sizeof(path), "%s/systemd", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/systemd/resolve", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/systemd/resolve/netif", (char *)*state);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < LEN(files); i++)
		put_file(*state, files[i].name, files[i].text, strlen(files[i].text));

	nameservers_read_upstream(&ns, *state, &net);
	assert_string_equal(list(&ns, buf), "192.0.2.1%eth0 10.64.0.1%eth0 10.64.0.1%wg0 "
					    "fd64::1%wg0 192.0.2.2");
	assert_true(ns.files_len == 1 && ns.files[0].junk == 1);
	snprintf(command, sizeof(command), "rm -r '%s/systemd'", (char *)*state);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_nuls, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_too_many, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_too_long, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_no_regular_file, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_upstream, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
