/*
 * The record in the run directory.  Format, in inih's syntax:
 *
 *	[state]    version, netns, config, watch, pause
 *	[command]  KEY = VALUE, as on enable's command line
 *	[policy]   KEY = VALUE, as in the configuration file
 *	[lookup]   host = HOST:PORT/PROTO[,mark=N] ADDR
 *	[up IF]    link = IF, resolver = R, endpoint = E
 *	[pinned]   resolver = ADDR
 *	[end]      lines = N; a file without it was cut short
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

#define STATE_VERSION "1"
#define STATE_FILE    "state"
#define STATE_TMP     "state.new"
#define OFF_FILE      "off"
#define NOTE_FILE     "generation"
#define NOTE_TEXT     256
/* 2^32 commits in a day would be one every 20 us. */
#define NOTE_MOST_MS  86400000

/* The namespace this process is in, as the kernel numbers it: "4:4026531840". */
static void read_netns(char *buf, size_t size)
{
	struct stat st;

	if (stat("/proc/self/ns/net", &st))
		snprintf(buf, size, "unknown");
	else
		snprintf(buf, size, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
}

/* --- reading --- */

struct state_reader {
	struct state *s;
	unsigned int lines; /* key lines so far, [end] not counted */
	bool version_seen, end_seen;
};

static int refuse(char text[CONFIG_ERR], const char *name, const char *value, const char *expected)
{
	char key[40], shown[128];

	snprintf(text, CONFIG_ERR, "%s \"%s\": expected %s", text_quotable(name, key, sizeof(key)),
		 text_quotable(value, shown, sizeof(shown)), expected);
	return -EINVAL;
}

static int set_header(struct state_reader *sr, const char *name, const char *value, char *text)
{
	char netns[64];

	if (!strcmp(name, "version")) {
		sr->version_seen = !strcmp(value, STATE_VERSION);
		return sr->version_seen ? 0 : refuse(text, name, value, STATE_VERSION);
	}
	if (!strcmp(name, "netns")) {
		read_netns(netns, sizeof(netns));
		return !strcmp(value, netns) ?
			       0 :
			       refuse(text, name, value,
				      "this network namespace; use another --run-dir for each");
	}
	if (!strcmp(name, "config") && strlen(value) < STATE_PATH) {
		strcpy(sr->s->config, value);
		return 0;
	}
	if (!strcmp(name, "watch")) {
		sr->s->no_watch = !strcmp(value, "no");
		return 0;
	}
	if (!strcmp(name, "pause") && sscanf(value, "%20" SCNu64, &sr->s->pause_until_ms) == 1)
		return 0;
	return refuse(text, name, value, "version, netns, config, watch or pause");
}

static int set_override(struct state *s, const char *name, const char *value, char *text)
{
	struct override *o = &s->overrides[s->overrides_len];

	if (s->overrides_len == STATE_MAX_OVERRIDES || strlen(name) >= sizeof(o->key) ||
	    strlen(value) >= sizeof(o->value) || !config_key_find(name))
		return refuse(text, name, value, "an option of enable");
	strcpy(o->key, name);
	strcpy(o->value, value);
	s->overrides_len++;
	return 0;
}

static int set_lookup(struct state *s, const char *value, char *text)
{
	struct policy scratch;
	struct addr addr;
	char host[POLICY_HOST_TEXT + POLICY_TEXT], *space;
	int err;

	snprintf(host, sizeof(host), "%s", value);
	space = strchr(host, ' ');
	if (!space)
		return refuse(text, "host", value, "HOST:PORT/PROTO ADDR");
	*space = '\0';
	policy_init(&scratch);
	err = config_set(&scratch, "endpoint", host, text);
	if (!err && (!scratch.hosts_len || addr_parse(space + 1, &addr)))
		err = refuse(text, "host", value, "HOST:PORT/PROTO ADDR");
	if (!err)
		err = state_add_lookup(s, &scratch.hosts[0], &addr);
	policy_fini(&scratch);
	return err;
}

/* One resolver of [up IF] or [pinned], by the key table's own parser. */
static int parse_resolver(const char *value, struct resolver *ret_resolver, char *text)
{
	struct policy scratch;
	int err;

	policy_init(&scratch);
	err = config_set(&scratch, "resolver", value, text);
	if (!err)
		*ret_resolver = scratch.resolvers[0];
	policy_fini(&scratch);
	return err;
}

/* A line of [up NAME]; "link" stands for one that brought nothing else. */
static int set_up(struct state *s, const char *link, const char *name, const char *value,
		  char *text)
{
	struct policy brought;
	struct up up = { 0 };
	int err = 0;

	if (tunnel_name_parse(link, up.link))
		return refuse(text, "up", link, "a tunnel's name");
	policy_init(&brought);
	if (!strcmp(name, "resolver") || !strcmp(name, "endpoint"))
		err = config_set(&brought, name, value, text);
	else if (strcmp(name, "link") != 0)
		err = refuse(text, name, value, "link, resolver or endpoint");
	if (!err) {
		up.resolvers = brought.resolvers;
		up.resolvers_len = brought.resolvers_len;
		up.endpoints = brought.endpoints;
		up.endpoints_len = brought.endpoints_len;
		err = state_add_up(s, &up);
	}
	policy_fini(&brought);
	return err;
}

static int set_line(void *ctx, const char *section, const char *name, const char *value,
		    char reterr_text[CONFIG_ERR])
{
	struct state_reader *sr = ctx;
	struct resolver r;
	uint32_t lines;
	int err;

	if (sr->end_seen)
		return refuse(reterr_text, name, value, "nothing after [end]");
	if (!strcmp(section, "end")) {
		sr->end_seen = !strcmp(name, "lines") &&
			       !number_parse(value, 0, UINT32_MAX, &lines) && lines == sr->lines;
		return sr->end_seen ? 0 :
				      refuse(reterr_text, name, value, "the number of lines read");
	}
	sr->lines++;
	if (!strcmp(section, "state"))
		return set_header(sr, name, value, reterr_text);
	if (!sr->version_seen)
		return refuse(reterr_text, section, name, "a file that leakguard wrote");
	if (!strcmp(section, "command"))
		return set_override(sr->s, name, value, reterr_text);
	if (!strcmp(section, "policy"))
		return config_set(&sr->s->policy, name, value, reterr_text);
	if (!strcmp(section, "lookup"))
		return set_lookup(sr->s, value, reterr_text);
	if (!strncmp(section, "up ", 3))
		return set_up(sr->s, section + 3, name, value, reterr_text);
	if (!strcmp(section, "pinned")) {
		err = parse_resolver(value, &r, reterr_text);
		return err ? err : state_add_pin(sr->s, &r.addr);
	}
	return refuse(reterr_text, section, name, "a file that leakguard wrote");
}

static int read_file(const struct rundir *rd, const char *name, struct state *s,
		     char reterr_text[CONFIG_ERR])
{
	struct state_reader sr = { .s = s };
	char path[STATE_PATH + sizeof(STATE_TMP) + 1];
	struct stat st;
	int err;

	snprintf(path, sizeof(path), "%s/%s", rd->path, name);
	if (fstatat(rd->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
		err = -errno;
		snprintf(reterr_text, CONFIG_ERR, "%s: %s", path, strerror(-err));
		return err;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(reterr_text, CONFIG_ERR, "%s: expected a regular file", path);
		return -EINVAL;
	}
	err = config_read_lines(path, set_line, &sr, reterr_text);
	if (!err && !sr.end_seen) {
		snprintf(reterr_text, CONFIG_ERR,
			 "%s: cut short, expected a file that ends with [end]; remove it and run 'leakguard enable'",
			 path);
		err = -EINVAL;
	}
	return err;
}

int state_read(const struct rundir *rd, struct state *s, char reterr_text[CONFIG_ERR])
{
	return read_file(rd, STATE_FILE, s, reterr_text);
}

int state_read_prepared(const struct rundir *rd, struct state *s, char reterr_text[CONFIG_ERR])
{
	return read_file(rd, STATE_TMP, s, reterr_text);
}

/* --- writing --- */

static void print_host(const struct endpoint_host *h, FILE *out)
{
	fprintf(out, "%s:%u/%s", h->name, h->port, proto_format(h->proto));
	if (h->mark)
		fprintf(out, ",mark=0x%x", h->mark);
}

static void print_state(const struct state *s, FILE *out)
{
	char text[POLICY_TEXT], addr[ADDR_TEXT], netns[64];

	read_netns(netns, sizeof(netns));
	fprintf(out, "# written by leakguard for its own use\n[state]\nversion = %s\nnetns = %s\n",
		STATE_VERSION, netns);
	if (*s->config)
		fprintf(out, "config = %s\n", s->config);
	fprintf(out, "watch = %s\n", s->no_watch ? "no" : "yes");
	if (s->pause_until_ms)
		fprintf(out, "pause = %" PRIu64 "\n", s->pause_until_ms);
	fputs("[command]\n", out);
	for (size_t i = 0; i < s->overrides_len; i++)
		fprintf(out, "%s = %s\n", s->overrides[i].key, s->overrides[i].value);
	fputs("[policy]\n", out);
	policy_print(&s->policy, out);
	fputs("[lookup]\n", out);
	for (size_t i = 0; i < s->lookups_len; i++) {
		fputs("host = ", out);
		print_host(&s->lookups[i].host, out);
		fprintf(out, " %s\n", addr_format(&s->lookups[i].addr, addr));
	}
	for (size_t i = 0; i < s->ups_len; i++) {
		const struct up *up = &s->ups[i];

		fprintf(out, "[up %s]\nlink = %s\n", up->link, up->link);
		for (size_t k = 0; k < up->resolvers_len; k++)
			fprintf(out, "resolver = %s\n", resolver_format(&up->resolvers[k], text));
		for (size_t k = 0; k < up->endpoints_len; k++)
			fprintf(out, "endpoint = %s\n", endpoint_format(&up->endpoints[k], text));
	}
	fputs("[pinned]\n", out);
	for (size_t i = 0; i < s->pins.len; i++)
		fprintf(out, "resolver = %s\n", addr_format(&s->pins.addrs[i], addr));
}

/* Lines with a key: what the reader counts. */
static unsigned int count_lines(const char *text)
{
	unsigned int lines = 0;

	for (const char *line = text; *line; line = strchrnul(line, '\n') + 1) {
		lines += *line != '#' && *line != '[';
		if (!*strchrnul(line, '\n'))
			break;
	}
	return lines;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		const ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return fsync(fd) ? -errno : 0;
}

int state_prepare(const struct rundir *rd, const struct state *s, char reterr_text[CONFIG_ERR])
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int fd = -1, err = -ENOMEM;

	if (!out)
		goto out;
	print_state(s, out);
	if (fflush(out) || ferror(out))
		goto out;
	fprintf(out, "[end]\nlines = %u\n", count_lines(text));
	if (fflush(out) || ferror(out))
		goto out;

	(void)unlinkat(rd->dir_fd, STATE_TMP, 0);
	fd = openat(rd->dir_fd, STATE_TMP, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : write_all(fd, text, len);
out:
	if (err)
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, STATE_TMP, strerror(-err));
	if (out)
		fclose(out);
	free(text);
	if (fd >= 0)
		close(fd);
	if (err)
		state_discard(rd);
	return err;
}

int state_publish(const struct rundir *rd, char reterr_text[CONFIG_ERR])
{
	int err = 0;

	/* Twice: by now the kernel has the rules, and undoing that is the worse way out. */
	for (int i = 0; i < 2; i++) {
		err = renameat(rd->dir_fd, STATE_TMP, rd->dir_fd, STATE_FILE) ? -errno : 0;
		if (!err)
			break;
	}
	if (err)
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, STATE_FILE,
			 strerror(-err));
	else
		(void)unlinkat(rd->dir_fd, OFF_FILE, 0);
	if (!err) /* the name is there; whether it outlives a power cut is less */
		(void)fsync(rd->dir_fd);
	return err;
}

/* --- the generation at which the record was true --- */

/* What the note has to begin with to tell anything: this boot, namespace and record. */
static int format_note(const struct rundir *rd, uint64_t netns, char text[NOTE_TEXT])
{
	const int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char boot[64] = "";
	struct stat st;

	if (fd >= 0) {
		(void)!read(fd, boot, sizeof(boot) - 1);
		close(fd);
	}
	boot[strcspn(boot, "\n")] = '\0';
	if (!netns || !*boot || fstatat(rd->dir_fd, STATE_FILE, &st, AT_SYMLINK_NOFOLLOW))
		return -ENOENT;
	snprintf(text, NOTE_TEXT, "%s %" PRIu64 " %ju:%ju:%jd:%jd.%09ld ", boot, netns,
		 (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (intmax_t)st.st_size,
		 (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	return 0;
}

void state_note_generation(const struct rundir *rd, uint64_t netns, uint32_t generation)
{
	char text[NOTE_TEXT];
	size_t len;
	int fd;

	if (format_note(rd, netns, text))
		return;
	len = strlen(text);
	snprintf(text + len, sizeof(text) - len, "%u %" PRIu64 "\n", generation,
		 clock_boottime_ms());
	/* In place and not synced: cut short, or of another boot, it tells nothing. */
	fd = openat(rd->dir_fd, NOTE_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0)
		return;
	(void)!write(fd, text, strlen(text));
	close(fd);
}

uint32_t state_noted_generation(const struct rundir *rd, uint64_t netns)
{
	const int fd =
		openat(rd->dir_fd, NOTE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[NOTE_TEXT], expected[NOTE_TEXT];
	uint32_t generation;
	uint64_t noted_ms;
	ssize_t len;
	char end;

	if (fd < 0)
		return 0;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len < 0 ? 0 : len] = '\0';
	/* A note of the future is as old as can be: the difference has no sign. */
	if (format_note(rd, netns, expected) || strncmp(text, expected, strlen(expected)) != 0 ||
	    sscanf(text + strlen(expected), "%10" SCNu32 " %20" SCNu64 "%c", &generation, &noted_ms,
		   &end) != 3 ||
	    end != '\n' || clock_boottime_ms() - noted_ms > NOTE_MOST_MS)
		return 0;
	return generation;
}

void state_discard(const struct rundir *rd)
{
	(void)unlinkat(rd->dir_fd, STATE_TMP, 0);
}

bool state_exists(const struct rundir *rd)
{
	return !faccessat(rd->dir_fd, STATE_FILE, F_OK, AT_SYMLINK_NOFOLLOW);
}

bool state_is_off(const struct rundir *rd)
{
	return !faccessat(rd->dir_fd, OFF_FILE, F_OK, AT_SYMLINK_NOFOLLOW);
}

int state_remove(const struct rundir *rd, char reterr_text[CONFIG_ERR])
{
	const int fd =
		openat(rd->dir_fd, OFF_FILE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = 0;

	/* Without it a watcher that starts again would raise the guard: no reason to keep it up. */
	if (fd >= 0)
		close(fd);
	state_discard(rd);
	(void)unlinkat(rd->dir_fd, NOTE_FILE, 0);
	if (unlinkat(rd->dir_fd, STATE_FILE, 0) && errno != ENOENT) {
		err = -errno;
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, STATE_FILE,
			 strerror(-err));
	}
	return err;
}
