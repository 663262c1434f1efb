/* state.h: what is written is what is read; a file cut or changed anywhere is refused */
#include "unit.h"

#include <errno.h>

#include "clock.h"
#include "files.h"
#include "policies.h"
#include "state.h"

static struct addr parsed(const char *text)
{
	struct addr addr;

	assert_int_equal(addr_parse(text, &addr), 0);
	return addr;
}

static struct resolver resolver(const char *text)
{
	struct policy p;
	struct resolver r;

	policy_init(&p);
	policy_set_lines(&p, text);
	r = p.resolvers[0];
	policy_fini(&p);
	return r;
}

static int put_up(struct state *s, const char *link, const struct resolver *resolvers, size_t n)
{
	struct endpoint endpoint = { .addr = parsed("192.0.2.9"), .port = 53, .proto = 17 };
	struct up up = { .resolvers = (struct resolver *)resolvers,
			 .resolvers_len = n,
			 .endpoints = &endpoint,
			 .endpoints_len = n > 0 };

	strncpy(up.link, link, IFNAMSIZ - 1);
	return state_put_up(s, &up);
}

/* Something of everything that a state can hold. */
static void fill_state(struct state *s)
{
	const struct endpoint_host hosts[] = {
		{ .name = "vpn.example", .port = 1194, .proto = 17, .mark = 0xca6c },
		{ .name = "a-b.c_d.example", .port = 443, .proto = 6 },
	};
	const struct resolver brought[] = { resolver("resolver = 10.64.0.1\n"),
					    resolver("resolver = [fd64::1]@853\n") };
	const struct addr addrs[] = { parsed("203.0.113.7"), parsed("2001:db8::7"),
				      parsed("198.51.100.9") };

	state_init(s);
	strcpy(s->config, "/etc/leak guard=#1.conf");
	policy_set_lines(&s->policy,
			 "tunnel = wg0\ntunnel = tun*\nresolver = 10.64.0.1\nresolver = fe80::1%eth0\n"
			 "resolver = [2001:db8::1]@853 via any\nendpoint = 192.0.2.9:1/udp,mark=7\n"
			 "ports = 53,853,5353\naction = reject\nfragments = drop\nlog-group = 3\n"
			 "tunnel-kind = tun,wireguard\nownership = off\npause-max = 7\n");
	s->pause_until_ms = UINT64_MAX;
	s->no_watch = true;
	strcpy(s->overrides[0].key, "tunnel");
	strcpy(s->overrides[0].value, "wg0");
	strcpy(s->overrides[1].key, "resolver");
	strcpy(s->overrides[1].value, "10.64.0.1 via any");
	s->overrides_len = 2;
	for (size_t i = 0; i < LEN(addrs); i++)
		assert_int_equal(state_add_lookup(s, &hosts[i == 2], &addrs[i]), 0);
	assert_int_equal(put_up(s, "wg0", brought, 2), 0);
	assert_int_equal(put_up(s, "tun7", NULL, 0), 0);
	assert_int_equal(put_up(s, "ipsec:9", brought, 1), 0);
	for (size_t i = 0; i < LEN(addrs); i++)
		assert_int_equal(state_add_pin(s, &addrs[i]), 0);
}

static void assert_same_state(const struct state *a, const struct state *b)
{
	char *left = policy_text(&a->policy), *right = policy_text(&b->policy);

	assert_string_equal(left, right);
	free(left);
	free(right);
	assert_string_equal(a->config, b->config);
	assert_true(a->pause_until_ms == b->pause_until_ms && a->no_watch == b->no_watch);
	assert_int_equal(a->overrides_len, b->overrides_len);
	for (size_t i = 0; i < a->overrides_len; i++) {
		assert_string_equal(a->overrides[i].key, b->overrides[i].key);
		assert_string_equal(a->overrides[i].value, b->overrides[i].value);
	}
	assert_int_equal(a->lookups_len, b->lookups_len);
	for (size_t i = 0; i < a->lookups_len; i++) {
		const struct endpoint_host *l = &a->lookups[i].host, *r = &b->lookups[i].host;

		assert_string_equal(l->name, r->name);
		assert_true(l->port == r->port && l->proto == r->proto && l->mark == r->mark);
		assert_int_equal(addr_cmp(&a->lookups[i].addr, &b->lookups[i].addr), 0);
	}
	assert_int_equal(a->ups_len, b->ups_len);
	for (size_t i = 0; i < a->ups_len; i++) {
		assert_string_equal(a->ups[i].link, b->ups[i].link);
		assert_int_equal(a->ups[i].resolvers_len, b->ups[i].resolvers_len);
		for (size_t k = 0; k < a->ups[i].resolvers_len; k++)
			assert_memory_equal(&a->ups[i].resolvers[k], &b->ups[i].resolvers[k],
					    sizeof(struct resolver));
		assert_int_equal(a->ups[i].endpoints_len, b->ups[i].endpoints_len);
		for (size_t k = 0; k < a->ups[i].endpoints_len; k++)
			assert_memory_equal(&a->ups[i].endpoints[k], &b->ups[i].endpoints[k],
					    sizeof(struct endpoint));
	}
	assert_int_equal(a->pins.len, b->pins.len);
	for (size_t i = 0; i < a->pins.len; i++)
		assert_int_equal(addr_cmp(&a->pins.addrs[i], &b->pins.addrs[i]), 0);
}

static void open_rundir(struct rundir *rd, const char *path)
{
	char err[CONFIG_ERR] = "";

	if (rundir_open(rd, path, err))
		fail_msg("%s", err);
}

static void save(const struct rundir *rd, const struct state *s)
{
	char err[CONFIG_ERR] = "";

	if (state_prepare(rd, s, err) || state_publish(rd, err))
		fail_msg("%s", err);
}

/* What state_read() returns; the message is behind "DIR/state". */
static int load(const struct rundir *rd, struct state *s, char reterr_text[CONFIG_ERR])
{
	state_init(s);
	reterr_text[0] = '\0';
	return state_read(rd, s, reterr_text);
}

static void test_round_trip(void **state)
{
	char err[CONFIG_ERR];
	struct state before, after;
	struct rundir rd;

	open_rundir(&rd, *state);
	for (int full = 0; full < 2; full++) {
		state_init(&before);
		if (full)
			fill_state(&before);
		save(&rd, &before);
		if (load(&rd, &after, err))
			fail_msg("%s", err);
		assert_same_state(&before, &after);
		state_fini(&before);
		state_fini(&after);
	}
	rundir_close(&rd);
}

/* Cut short anywhere, but for its last newline: never read as if it said less. */
static void test_truncated(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR], *data;
	struct state s;
	struct rundir rd;
	size_t len;

	open_rundir(&rd, *state);
	fill_state(&s);
	save(&rd, &s);
	state_fini(&s);
	snprintf(path, sizeof(path), "%.100s/state", (char *)*state);
	data = read_file(path, &len);
	for (size_t n = 0; n + 1 < len; n++) {
		write_file(path, data, n);
		assert_row(load(&rd, &s, err) == -EINVAL, "cut", "accepted %zu of %zu bytes", n,
			   len);
		assert_row(!strncmp(err, path, strlen(path)), "cut", "said %s", err);
		state_fini(&s);
	}
	write_file(path, data, len);
	assert_int_equal(load(&rd, &s, err), 0);
	state_fini(&s);
	free(data);
	rundir_close(&rd);
}

/* Any line taken away, or there twice: the count at the end tells. */
static void test_lines_changed(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR], *data, *changed;
	struct state s;
	struct rundir rd;
	size_t len;

	open_rundir(&rd, *state);
	fill_state(&s);
	save(&rd, &s);
	state_fini(&s);
	snprintf(path, sizeof(path), "%.100s/state", (char *)*state);
	data = read_file(path, &len);
	changed = calloc(2, len);
	assert_non_null(changed);
	for (char *line = data; *line; line = strchr(line, '\n') + 1) {
		const size_t at = (size_t)(line - data), line_len = strcspn(line, "\n") + 1;

		if (*line == '#' || *line == '[')
			continue; /* without its section a line is in another one: refused or the same */
		memcpy(changed, data, at);
		memcpy(changed + at, line + line_len, len - at - line_len);
		write_file(path, changed, len - line_len);
		assert_row(load(&rd, &s, err) == -EINVAL, "without", "%.*s", (int)line_len, line);
		state_fini(&s);
		memcpy(changed + at + line_len, line, len - at);
		memcpy(changed + at, line, line_len);
		write_file(path, changed, len + line_len);
		assert_row(load(&rd, &s, err) == -EINVAL, "twice", "%.*s", (int)line_len, line);
		state_fini(&s);
	}
	free(changed);
	free(data);
	rundir_close(&rd);
}

static void test_foreign_files(void **state)
{
	static const struct {
		const char *what, *data;
	} rows[] = {
		{ "empty", "" },
		{ "somebody's", "tunnel = wg0\n[end]\nlines = 1\n" },
		{ "another version", "[state]\nversion = 2\n[end]\nlines = 1\n" },
		{ "another namespace", "[state]\nversion = 1\nnetns = 4:1\n[end]\nlines = 2\n" },
		{ "no version", "[policy]\nmode = both\n[end]\nlines = 1\n" },
		{ "unknown header", "[state]\nversion = 1\nx = y\n[end]\nlines = 2\n" },
		{ "unknown section", "[state]\nversion = 1\n[x]\na = b\n[end]\nlines = 2\n" },
		{ "unknown key", "[state]\nversion = 1\n[policy]\na = b\n[end]\nlines = 2\n" },
		{ "bad value", "[state]\nversion = 1\n[policy]\nmode = x\n[end]\nlines = 2\n" },
		{ "bad option", "[state]\nversion = 1\n[command]\nx = y\n[end]\nlines = 2\n" },
		{ "bad lookup",
		  "[state]\nversion = 1\n[lookup]\nhost = v.example:1/udp\n[end]\nlines = 2\n" },
		{ "bad up", "[state]\nversion = 1\n[up a/b]\nlink = a/b\n[end]\nlines = 2\n" },
		{ "bad pin", "[state]\nversion = 1\n[pinned]\nresolver = x\n[end]\nlines = 2\n" },
		{ "goes on", "[state]\nversion = 1\n[end]\nlines = 1\n[policy]\nmode = both\n" },
		{ "wrong count", "[state]\nversion = 1\n[end]\nlines = 2\n" },
	};
	char path[PATH_SIZE], err[CONFIG_ERR];
	struct state s;
	struct rundir rd;
	int rc;

	open_rundir(&rd, *state);
	snprintf(path, sizeof(path), "%.100s/state", (char *)*state);
	for (size_t i = 0; i < LEN(rows); i++) {
		write_file(path, rows[i].data, strlen(rows[i].data));
		rc = load(&rd, &s, err);
		/* Not -ENOENT: that would be taken for a host where nothing was in force. */
		assert_row(rc == -EINVAL, rows[i].what, "returned %d", rc);
		assert_row(!strncmp(err, path, strlen(path)), rows[i].what, "said %s", err);
		state_fini(&s);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(load(&rd, &s, err), -ENOENT);
	state_fini(&s);
	assert_int_equal(symlink("/etc/hostname", path), 0);
	assert_int_equal(load(&rd, &s, err), -EINVAL);
	state_fini(&s);
	rundir_close(&rd);
}

/* The first section: what a field of it may hold, and what is none. */
static void test_headers(void **state)
{
	static const struct {
		const char *line;
		int err;
		bool no_watch;
		uint64_t pause_until_ms;
		const char *why;
	} rows[] = {
		{ .line = "watch = yes" },
		{ .line = "watch = no", .no_watch = true },
		{ .line = "pause = 1", .pause_until_ms = 1 },
		{ .line = "pause = 18446744073709551615", .pause_until_ms = UINT64_MAX },
		{ .line = "pause = ",
		  .err = -EINVAL,
		  .why = "pause \"\": expected version, netns, config, watch or pause" },
		{ .line = "pause = soon",
		  .err = -EINVAL,
		  .why = "pause \"soon\": expected version, netns, config, watch or pause" },
		{ .line = "paused = 1",
		  .err = -EINVAL,
		  .why = "paused \"1\": expected version, netns, config, watch or pause" },
	};
	char path[PATH_SIZE], text[256], err[CONFIG_ERR], expected[CONFIG_ERR];
	struct rundir rd;
	struct state s;

	open_rundir(&rd, *state);
	snprintf(path, sizeof(path), "%.100s/state", (char *)*state);
	for (size_t i = 0; i < LEN(rows); i++) {
		snprintf(text, sizeof(text), "[state]\nversion = 1\n%s\n[end]\nlines = 2\n",
			 rows[i].line);
		write_file(path, text, strlen(text));
		assert_row(load(&rd, &s, err) == rows[i].err, rows[i].line, "said %s", err);
		assert_row(s.no_watch == rows[i].no_watch, rows[i].line, "watch");
		assert_row(s.pause_until_ms == rows[i].pause_until_ms, rows[i].line, "pause");
		snprintf(expected, sizeof(expected), "%s:3: %s", path, rows[i].why ?: "");
		assert_row(!rows[i].why || !strcmp(err, expected), rows[i].line, "said %s", err);
		state_fini(&s);
	}
	rundir_close(&rd);
}

static const struct set *find_pause(const struct ruleset *rules)
{
	for (size_t i = 0; i < rules->sets_len; i++)
		if (!strcmp(rules->sets[i].name, "pause"))
			return &rules->sets[i];
	fail_msg("no pause in table %s", family_format(rules->family));
	return NULL;
}

/* What is left of a pause is what the rules of all tables are open for; over, they are shut. */
static void test_pause(void **state)
{
	const struct parts parts = { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS, PART_HAS };
	const struct netstate no_links = { 0 };
	struct policy p = policy_from_lines("tunnel = wg0\n");
	const uint64_t now = clock_boottime_ms(), hour = 3600000;
	const uint64_t untils[] = { 0, 1, now > 5 ? now - 5 : 1, now + hour };

	(void)state;
	for (size_t i = 0; i < LEN(untils); i++) {
		struct ruleset rules[FAMILIES];
		struct state s;
		uint64_t left;

		state_init(&s);
		s.pause_until_ms = untils[i];
		left = state_pause_left_ms(&s);
		assert_int_equal(state_build_rules(&s, &p, &no_links, &parts, rules), 0);
		for (enum family f = 0; f < FAMILIES; f++) {
			const struct set *set = find_pause(&rules[f]);

			assert_int_equal(set->elems_len, untils[i] > now ? 2 : 0);
			assert_true(set->timeout_ms <= left);
		}
		/* A test that is held up for minutes is still right. */
		if (untils[i] > now)
			assert_in_range(left, hour - 600000, hour);
		else
			assert_int_equal(left, 0);
		rulesets_fini(rules);
		state_fini(&s);
	}
	policy_fini(&p);
}

/* `disable` is the last word until the next record is in place, not only prepared. */
static void test_off(void **state)
{
	char err[CONFIG_ERR];
	struct rundir rd;
	struct state s;

	open_rundir(&rd, *state);
	state_init(&s);
	assert_false(state_is_off(&rd) || state_exists(&rd));
	for (int i = 0; i < 2; i++) {
		save(&rd, &s);
		assert_true(state_exists(&rd) && !state_is_off(&rd));
		assert_int_equal(state_remove(&rd, err), 0);
		assert_true(!state_exists(&rd) && state_is_off(&rd));
		assert_int_equal(state_prepare(&rd, &s, err), 0);
		assert_true(!state_exists(&rd) && state_is_off(&rd));
		state_discard(&rd);
		assert_true(state_is_off(&rd));
	}
	/* A second `disable`, and one with nothing before it. */
	assert_int_equal(state_remove(&rd, err), 0);
	assert_true(state_is_off(&rd));
	/* The mark is never followed to somebody else's file. */
	assert_int_equal(unlinkat(rd.dir_fd, "off", 0), 0);
	assert_int_equal(symlinkat("elsewhere", rd.dir_fd, "off"), 0);
	assert_int_equal(state_remove(&rd, err), 0);
	assert_int_equal(faccessat(rd.dir_fd, "elsewhere", F_OK, 0), -1);
	rundir_close(&rd);
}

static void test_replaced_whole(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR];
	struct state s, back;
	struct rundir rd;

	open_rundir(&rd, *state);
	fill_state(&s);
	save(&rd, &s);
	/* Prepared and thrown away: the one before stands. */
	strcpy(s.config, "/elsewhere");
	assert_int_equal(state_prepare(&rd, &s, err), 0);
	state_discard(&rd);
	assert_int_equal(load(&rd, &back, err), 0);
	assert_string_not_equal(back.config, s.config);
	state_fini(&back);
	/* What a killed command left is no hindrance. */
	snprintf(path, sizeof(path), "%.100s/state.new", (char *)*state);
	write_file(path, "x", 1);
	save(&rd, &s);
	assert_int_equal(load(&rd, &back, err), 0);
	assert_string_equal(back.config, s.config);
	state_fini(&back);
	state_fini(&s);
	assert_int_equal(state_remove(&rd, err), 0);
	assert_int_equal(state_remove(&rd, err), 0);
	assert_int_equal(load(&rd, &back, err), -ENOENT);
	rundir_close(&rd);
}

/* Sorted and each once, in whatever order they come. */
static void test_pins(void **state)
{
	static const char *const addrs[] = { "10.0.0.9", "2001:db8::1", "10.0.0.1",   "10.0.0.9",
					     "fd00::1",	 "10.0.0.5",	"2001:db8::1" };
	struct state s;

	(void)state;
	state_init(&s);
	for (size_t i = 0; i < LEN(addrs); i++) {
		const struct addr addr = parsed(addrs[i]);

		assert_int_equal(state_add_pin(&s, &addr), 0);
		assert_true(pins_has(&s.pins, &addr));
	}
	assert_int_equal(s.pins.len, 5);
	for (size_t i = 1; i < s.pins.len; i++)
		assert_true(addr_cmp(&s.pins.addrs[i - 1], &s.pins.addrs[i]) < 0);
	for (size_t i = 0; i < 2; i++) {
		const struct addr addr = parsed(i ? "::" : "10.0.0.2");

		assert_false(pins_has(&s.pins, &addr));
	}
	state_fini(&s);
}

/* A second `up` of a link replaces the first; `down` takes only its own. */
static void test_ups(void **state)
{
	const struct resolver a = resolver("resolver = 10.0.0.1 via any\n"),
			      b = resolver("resolver = 10.0.0.2\n");
	struct policy p;
	struct state s;
	char err[CONFIG_ERR], *text, name[IFNAMSIZ];

	(void)state;
	state_init(&s);
	assert_int_equal(put_up(&s, "wg0", &a, 1), 0);
	assert_int_equal(put_up(&s, "wg1", &b, 1), 0);
	assert_int_equal(put_up(&s, "wg0", &b, 1), 0);
	assert_int_equal(s.ups_len, 2);
	assert_int_equal(state_effective_policy(&s, &p, err), 0);
	text = policy_text(&p);
	/* Tied to its tunnel, whatever path was written. */
	assert_non_null(strstr(text, "tunnel = wg0\ntunnel = wg1\n"
				     "resolver = 10.0.0.2 via wg0\nresolver = 10.0.0.2 via wg1\n"
				     "endpoint = 192.0.2.9:53/udp\nports"));
	free(text);
	policy_fini(&p);
	assert_false(state_remove_up(&s, "wg"));
	assert_true(state_remove_up(&s, "wg0"));
	assert_false(state_remove_up(&s, "wg0"));
	assert_string_equal(s.ups[0].link, "wg1");
	for (unsigned int i = 0; i < STATE_MAX_UPS; i++) {
		snprintf(name, sizeof(name), "tun%u", i);
		assert_int_equal(put_up(&s, name, NULL, 0), i < STATE_MAX_UPS - 1 ? 0 : -E2BIG);
	}
	assert_true(state_remove_up(&s, "wg1"));
	state_fini(&s);
}

/* Whatever link name is accepted must come back as the same name. */
static void test_odd_names(void **state)
{
	static const char *const names[] = { "a]b", "a=b", "#a", "[a]", "a;b",
					     "a#b", "=a",  "$a", "'a'" };
	char err[CONFIG_ERR], name[IFNAMSIZ];
	struct state s, back;
	struct rundir rd;

	open_rundir(&rd, *state);
	for (size_t i = 0; i < LEN(names); i++) {
		if (ifname_parse(names[i], name))
			continue;
		state_init(&s);
		assert_int_equal(put_up(&s, name, NULL, 0), 0);
		save(&rd, &s);
		assert_row(!load(&rd, &back, err), name, "%s", err);
		assert_row(back.ups_len == 1 && !strcmp(back.ups[0].link, name), name, "is lost");
		state_fini(&s);
		state_fini(&back);
	}
	rundir_close(&rd);
}

/* The same of a configuration file's path; enable refuses what would not. */
static void test_odd_paths(void **state)
{
	static const char *const paths[] = { "/a b", "/a=b", "/\"a\"",	 "/[a]",
					     "/'a'", "/a:b", "/\xc3\xa4" };
	char err[CONFIG_ERR];
	struct state s, back;
	struct rundir rd;

	open_rundir(&rd, *state);
	for (size_t i = 0; i < LEN(paths); i++) {
		state_init(&s);
		strcpy(s.config, paths[i]);
		save(&rd, &s);
		state_fini(&s);
		assert_row(!load(&rd, &back, err), paths[i], "%s", err);
		assert_row(!strcmp(back.config, paths[i]), paths[i], "became %s", back.config);
		state_fini(&back);
	}
	rundir_close(&rd);
}

/* It tells of one record in one namespace alone; lab/test_large.py has the rest. */
static void test_note(void **state)
{
	char path[PATH_SIZE], err[CONFIG_ERR], *data;
	struct rundir rd;
	struct state s;
	size_t len;

	open_rundir(&rd, *state);
	state_init(&s);
	state_note_generation(&rd, 7, 12); /* of no record */
	assert_int_equal(state_noted_generation(&rd, 7), 0);
	save(&rd, &s);
	assert_int_equal(state_noted_generation(&rd, 7), 0);
	state_note_generation(&rd, 7, UINT32_MAX);
	assert_int_equal(state_noted_generation(&rd, 7), UINT32_MAX);
	assert_int_equal(state_noted_generation(&rd, 8), 0);
	assert_int_equal(state_noted_generation(&rd, 0), 0);
	snprintf(path, sizeof(path), "%.100s/generation", (char *)*state);
	data = read_file(path, &len);
	for (size_t n = 0; n < len; n++) {
		write_file(path, data, n);
		assert_int_equal(state_noted_generation(&rd, 7), 0);
	}
	write_file(path, data, len);
	assert_int_equal(state_noted_generation(&rd, 7), UINT32_MAX);
	save(&rd, &s);
	assert_int_equal(state_noted_generation(&rd, 7), 0);
	state_note_generation(&rd, 7, 13);
	assert_int_equal(state_remove(&rd, err), 0);
	assert_int_equal(access(path, F_OK), -1);
	free(data);
	state_fini(&s);
	rundir_close(&rd);
}

/* A directory of its own for each: one that fails holds its lock. */
#define TEST(function) cmocka_unit_test_setup_teardown(function, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_note),	  TEST(test_round_trip),    TEST(test_truncated),
		TEST(test_lines_changed), TEST(test_foreign_files), TEST(test_replaced_whole),
		TEST(test_off),		  TEST(test_headers),	    TEST(test_pause),
		TEST(test_pins),	  TEST(test_ups),	    TEST(test_odd_names),
		TEST(test_odd_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
