#include "cmd_prometheus.h"

#include <inttypes.h>
#include <stdio.h>

#include "status.h"

#define LABEL_MAX 64

/* Each family of metrics has these lines once, before its samples. */
static void print_head(const char *name, const char *type, const char *help)
{
	printf("# HELP leakguard_%s %s\n# TYPE leakguard_%s %s\n", name, help, name, type);
}

static void print_one(const char *name, const char *type, const char *help, uint64_t value)
{
	print_head(name, type, help);
	printf("leakguard_%s %" PRIu64 "\n", name, value);
}

/* A label's value: backslashes and quotes escaped, and no control bytes. */
static const char *quote(const char *text, char *buf)
{
	char plain[LABEL_MAX / 2 - 1];
	size_t n = 0;

	text_quotable(text, plain, sizeof(plain));
	for (const char *c = plain; *c; c++) {
		if (*c == '\\' || *c == '"')
			buf[n++] = '\\';
		buf[n++] = *c;
	}
	buf[n] = '\0';
	return buf;
}

static void print_state(const struct status *st)
{
	static const enum guard_state states[] = { GUARD_STATE_OFF, GUARD_STATE_LOCKED,
						   GUARD_STATE_GUARDED, GUARD_STATE_STALE,
						   GUARD_STATE_ALTERED };

	print_one("guarded", "gauge", "Whether the rules of a policy are in force.",
		  status_is_guarded(st));
	print_head("state", "gauge", "Of the states that status knows, 1 for the one it is.");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		printf("leakguard_state{state=\"%s\"} %d\n", guard_state_format(states[i]),
		       st->state == states[i]);
	print_head("pause_seconds", "gauge",
		   "How long name traffic still goes anywhere; 0 without a pause.");
	printf("leakguard_pause_seconds %.3f\n", (double)st->pause_left_ms / 1000);
	print_one("warnings", "gauge", "What looks wrong: warnings that status prints.",
		  st->warnings_len);
}

static void print_counters(const struct status *st)
{
	print_head("packets_total", "counter",
		   "Packets by the promise that decided on them, since the guard was raised; S7, S9 and S11 are blocked.");
	for (size_t i = 0; i < st->counters_len; i++)
		printf("leakguard_packets_total{promise=\"%s\"} %" PRIu64 "\n",
		       st->counters[i].name, st->counters[i].packets);
	print_head("bytes_total", "counter", "The same in bytes.");
	for (size_t i = 0; i < st->counters_len; i++)
		printf("leakguard_bytes_total{promise=\"%s\"} %" PRIu64 "\n", st->counters[i].name,
		       st->counters[i].bytes);
}

static void print_blocked(const struct status *st)
{
	char link[LABEL_MAX];

	print_head("blocked_packets_total", "counter",
		   "Blocked packets by the link they would have left through, and their port.");
	for (size_t i = 0; i < st->blocked_len; i++)
		printf("leakguard_blocked_packets_total{link=\"%s\",port=\"%u\"} %" PRIu64 "\n",
		       quote(st->blocked[i].link, link), st->blocked[i].port,
		       st->blocked[i].packets);
	print_head("blocked_bytes_total", "counter", "The same in bytes.");
	for (size_t i = 0; i < st->blocked_len; i++)
		printf("leakguard_blocked_bytes_total{link=\"%s\",port=\"%u\"} %" PRIu64 "\n",
		       quote(st->blocked[i].link, link), st->blocked[i].port, st->blocked[i].bytes);
}

static void print_links(const struct status *st)
{
	char name[LABEL_MAX];

	print_head("link_up", "gauge", "Links that are tunnels: whether they are up.");
	for (size_t i = 0; i < st->net.links_len; i++)
		if (st->links[i].cover == LINK_COVER_TUNNEL)
			printf("leakguard_link_up{link=\"%s\"} %d\n",
			       quote(st->links[i].link->name, name), st->links[i].link->up);
	print_head("link_uncovered", "gauge",
		   "Links whose frames leave unjudged; those that are covered have 0.");
	for (size_t i = 0; i < st->net.links_len; i++)
		if (st->links[i].cover == LINK_COVER_NONE ||
		    st->links[i].cover == LINK_COVER_COVERED)
			printf("leakguard_link_uncovered{link=\"%s\"} %d\n",
			       quote(st->links[i].link->name, name),
			       st->links[i].cover == LINK_COVER_NONE);
}

static void print_watcher(const struct status *st)
{
	print_one("watched", "gauge", "Whether a watcher answers.", st->watched);
	if (!st->watched)
		return;
	print_one("watcher_undone_total", "counter",
		  "Changes by others that the watcher has undone, since it began.",
		  st->watch.undone);
	print_one("watcher_refused_total", "counter", "Changes by the watcher that were refused.",
		  st->watch.refused);
	print_one("watcher_applied_total", "counter", "Changes that the watcher has committed.",
		  st->watch.applied);
}

void cmd_prometheus_status(const struct status *st)
{
	print_state(st);
	print_watcher(st);
	if (st->state == GUARD_STATE_OFF)
		return;
	print_counters(st);
	print_blocked(st);
	print_links(st);
}
