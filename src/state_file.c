/*
 * The run directory and its file.  Format, in inih's syntax:
 *
 *	[state]    version, netns, config
 *	[command]  KEY = VALUE, as on enable's command line
 *	[policy]   KEY = VALUE, as in the configuration file
 *	[lookup]   host = HOST:PORT/PROTO[,mark=N] ADDR
 *	[up IF]    resolver = R
 *	[pinned]   resolver = ADDR
 *	[end]      lines = N; a file without it was cut short
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STATE_VERSION "1"
#define STATE_FILE    "state"
#define STATE_TMP     "state.new"
#define LOCK_FILE     "lock"
#define LOCK_POLL_MS  10

/* The namespace this process is in, as the kernel numbers it: "4:4026531840". */
static void read_netns(char *buf, size_t size)
{
	struct stat st;

	if (stat("/proc/self/ns/net", &st))
		snprintf(buf, size, "unknown");
	else
		snprintf(buf, size, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
}

/* --- the directory --- */

static const char *hint(int err)
{
	return (err == -EACCES || err == -EPERM) && geteuid() ? ", expected to run as root" : "";
}

static int open_dir(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	struct stat st;

	*rd = (struct rundir){ .dir_fd = -1, .lock_fd = -1 };
	if (strlen(path) >= sizeof(rd->path)) {
		snprintf(reterr_text, CONFIG_ERR, "%.200s: expected a path of at most %zu bytes",
			 path, sizeof(rd->path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(rd->path, path);
	rd->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rd->dir_fd < 0) {
		const int err = -errno;

		snprintf(reterr_text, CONFIG_ERR, "%s: %s%s", path, strerror(-err), hint(err));
		return err;
	}
	if (fstat(rd->dir_fd, &st) || (st.st_uid != geteuid() && st.st_uid != 0) ||
	    (st.st_mode & (S_IWGRP | S_IWOTH))) {
		snprintf(reterr_text, CONFIG_ERR,
			 "%s: expected a directory that only root may write to", path);
		rundir_close(rd);
		return -EACCES;
	}
	return 0;
}

/* flock(2) with a limit: 0, -EAGAIN when it is over, or another -errno. */
static int wait_lock(int fd, int operation, int limit_ms)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_MS * 1000000L };

	for (int waited_ms = 0; flock(fd, operation | LOCK_NB); waited_ms += LOCK_POLL_MS) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (waited_ms >= limit_ms)
			return -EAGAIN;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int take_lock(struct rundir *rd, char reterr_text[CONFIG_ERR])
{
	int err;

	rd->lock_fd =
		openat(rd->dir_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = rd->lock_fd < 0 ? -errno : wait_lock(rd->lock_fd, LOCK_EX, STATE_LOCK_MS);
	if (err == -EAGAIN)
		snprintf(reterr_text, CONFIG_ERR,
			 "%s/%s: another leakguard holds it for more than %d s, expected it to finish",
			 rd->path, LOCK_FILE, STATE_LOCK_MS / 1000);
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, LOCK_FILE, strerror(-err));
	return err;
}

int rundir_open(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	int err;

	if (mkdir(path, 0700) && errno != EEXIST) {
		err = -errno;
		*rd = (struct rundir){ .dir_fd = -1, .lock_fd = -1 };
		snprintf(reterr_text, CONFIG_ERR, "%.200s: %s%s", path, strerror(-err), hint(err));
		return err;
	}
	err = open_dir(rd, path, reterr_text);
	if (!err)
		err = take_lock(rd, reterr_text);
	if (err)
		rundir_close(rd);
	return err;
}

int rundir_open_read(struct rundir *rd, const char *path, char reterr_text[CONFIG_ERR])
{
	int err = open_dir(rd, path, reterr_text);

	if (err)
		return err;
	rd->lock_fd = openat(rd->dir_fd, LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (rd->lock_fd >= 0)
		(void)wait_lock(rd->lock_fd, LOCK_SH, STATE_READ_LOCK_MS);
	return 0;
}

void rundir_close(struct rundir *rd)
{
	if (rd->lock_fd >= 0)
		close(rd->lock_fd); /* releases the lock */
	if (rd->dir_fd >= 0)
		close(rd->dir_fd);
	rd->lock_fd = rd->dir_fd = -1;
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
	return refuse(text, name, value, "version, netns or config");
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

static int set_up(struct state *s, const char *link, const char *name, const char *value,
		  char *text)
{
	char ifname[IFNAMSIZ];
	struct resolver r;
	struct up *up = NULL;
	struct resolver *more;
	int err;

	if (ifname_parse(link, ifname))
		return refuse(text, "up", link, "a link name");
	for (size_t i = 0; i < s->ups_len; i++)
		if (!memcmp(s->ups[i].link, ifname, IFNAMSIZ))
			up = &s->ups[i];
	if (!up) {
		err = state_put_up(s, ifname, NULL, 0);
		if (err)
			return err;
		up = &s->ups[s->ups_len - 1];
	}
	if (!strcmp(name, "link")) /* stands for an up without resolvers */
		return 0;
	err = parse_resolver(value, &r, text);
	if (err)
		return err;
	more = realloc(up->resolvers, (up->resolvers_len + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	up->resolvers = more;
	up->resolvers[up->resolvers_len++] = r;
	return 0;
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
		(void)fsync(
			rd->dir_fd); /* the name is there; whether it outlives a power cut is less */
	return err;
}

void state_discard(const struct rundir *rd)
{
	(void)unlinkat(rd->dir_fd, STATE_TMP, 0);
}

int state_remove(const struct rundir *rd, char reterr_text[CONFIG_ERR])
{
	int err = 0;

	state_discard(rd);
	if (unlinkat(rd->dir_fd, STATE_FILE, 0) && errno != ENOENT) {
		err = -errno;
		snprintf(reterr_text, CONFIG_ERR, "%s/%s: %s", rd->path, STATE_FILE,
			 strerror(-err));
	}
	return err;
}
