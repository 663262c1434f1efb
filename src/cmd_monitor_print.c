/* monitor: lines for people */
#include "cmd_monitor_print.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RED    "\033[31m"
#define BOLD   "\033[1m"
#define FAINT  "\033[2m"
#define NORMAL "\033[0m"

#define WHO_ROOM 192

const char *monitor_quotable(const char *text, char *buf, size_t size)
{
	size_t i = 0;

	for (; text[i] && i + 1 < size; i++)
		buf[i] = (char)(text[i] < ' ' || text[i] > '~' ? '?' : text[i]);
	buf[i] = '\0';
	return buf;
}

static const char *paint(bool colour, const char *how)
{
	return colour ? how : "";
}

static void print_time(struct outlet *o, uint64_t time_ms, bool colour)
{
	const time_t seconds = (time_t)(time_ms / 1000);
	char text[32] = "";
	struct tm tm;

	if (localtime_r(&seconds, &tm))
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
	outlet_printf(o, "%s%s.%03u%s ", paint(colour, FAINT), text, (unsigned int)(time_ms % 1000),
		      paint(colour, NORMAL));
}

/* "dig[123] alice", "unknown alice" */
static const char *format_program(const struct blocked *b, const char *user, char buf[WHO_ROOM])
{
	char name[BLOCKED_PROGRAM], login[64], pid[16] = "";

	monitor_quotable(b->program, name, sizeof(name));
	monitor_quotable(user, login, sizeof(login));
	if (!*login && b->has_uid)
		snprintf(login, sizeof(login), "uid %" PRIu32, b->uid);
	if (b->pid)
		snprintf(pid, sizeof(pid), "[%d]", b->pid);
	snprintf(buf, WHO_ROOM, "%s%s%s%s", *name ? name : "unknown", pid, *login ? " " : "",
		 login);
	return buf;
}

/* "phone 192.168.1.7 02:00:00:00:00:07" */
static const char *format_client(const struct blocked *b, char buf[WHO_ROOM])
{
	char name[BLOCKED_CLIENT], addr[ADDR_TEXT] = "unknown", mac[MAC_TEXT + 1] = "";

	if (b->source.family)
		addr_format(&b->source, addr);
	if (b->has_mac) {
		*mac = ' ';
		mac_format(b->mac, mac + 1);
	}
	monitor_quotable(b->client, name, sizeof(name));
	snprintf(buf, WHO_ROOM, "%s%s%s%s", name, *name ? " " : "", addr, mac);
	return buf;
}

/* Either of them; of a container's program both, "dig[123] root in 172.17.0.2 ...". */
static const char *format_who(const struct blocked *b, const char *user, char buf[2 * WHO_ROOM])
{
	char program[WHO_ROOM], client[WHO_ROOM];

	if (!blocked_is_forwarded(b))
		return format_program(b, user, buf);
	if (!*b->program)
		return format_client(b, buf);
	snprintf(buf, (size_t)2 * WHO_ROOM, "%s in %s", format_program(b, user, program),
		 format_client(b, client));
	return buf;
}

static const char *format_question(const struct blocked *b, char buf[DNSNAME_TEXT + 16])
{
	static const char others[][12] = {
		[QUESTION_UNKNOWN] = "(unknown)",
		[QUESTION_ENCRYPTED] = "(encrypted)",
		[QUESTION_FRAGMENT] = "(fragment)",
	};
	char type[DNSNAME_TYPE_TEXT];

	if (b->question != QUESTION_KNOWN)
		return strcpy(buf, others[b->question]);
	snprintf(buf, DNSNAME_TEXT + 16, "%s %s", b->name, dnsname_type_format(b->type, type));
	return buf;
}

/* "203.0.113.8:53", "[2001:db8::8]:53" */
static const char *format_resolver(const struct blocked *b, char buf[ADDR_TEXT + 16])
{
	char addr[ADDR_TEXT], port[8] = "";

	if (!b->dest.family)
		return strcpy(buf, "unknown");
	if (b->has_ports)
		snprintf(port, sizeof(port), ":%u", b->dest_port);
	snprintf(buf, ADDR_TEXT + 16,
		 b->dest.family == AF_INET6 && b->has_ports ? "[%s]%s" : "%s%s",
		 addr_format(&b->dest, addr), port);
	return buf;
}

void monitor_print_blocked(struct outlet *o, const struct blocked *b, const char *user, bool colour)
{
	char who[2 * WHO_ROOM], question[DNSNAME_TEXT + 16], resolver[ADDR_TEXT + 16];
	char addr[ADDR_TEXT] = "unknown", link[IFNAMSIZ], in_link[IFNAMSIZ];

	print_time(o, b->time_ms, colour);
	if (b->source.family)
		addr_format(&b->source, addr);
	monitor_quotable(b->link, link, sizeof(link));
	monitor_quotable(b->in_link, in_link, sizeof(in_link));
	outlet_printf(o, "%sS%-2u%s %-20s %s%s%s to %s %s by %s from %s", paint(colour, RED),
		      b->promise, paint(colour, NORMAL), format_who(b, user, who),
		      paint(colour, BOLD), format_question(b, question), paint(colour, NORMAL),
		      format_resolver(b, resolver),
		      b->proto == IPPROTO_UDP ? "udp" :
		      b->proto == IPPROTO_TCP ? "tcp" :
						"(unknown protocol)",
		      *link ? link : "unknown", addr);
	outlet_printf(o, "%s%s\n", *in_link ? " of " : "", in_link);
}

void monitor_print_not_shown(struct outlet *o, uint64_t packets, bool colour)
{
	outlet_printf(o, "%s%" PRIu64 " more %s blocked and not shown%s\n", paint(colour, FAINT),
		      packets, packets == 1 ? "was" : "were", paint(colour, NORMAL));
}

void monitor_print_guard(struct outlet *o, bool up, bool colour)
{
	outlet_printf(o, "%s%s%s\n", paint(colour, up ? FAINT : RED),
		      up ? "the guard is up again" :
			   "the guard is not up any more: nothing is blocked",
		      paint(colour, NORMAL));
}

static void print_tally(struct outlet *o, const char *title, struct tally *t, bool colour)
{
	const size_t n = tally_sort(t, MONITOR_TOP);
	uint64_t more = t->others;

	if (!n)
		return;
	outlet_printf(o, "\n%s%s%s\n", paint(colour, BOLD), title, paint(colour, NORMAL));
	for (size_t i = 0; i < n; i++)
		outlet_printf(o, "%9" PRIu64 " %s\n", t->places[i].count, t->places[i].text);
	for (size_t i = n; i < t->len; i++)
		more += t->places[i].count;
	if (more)
		outlet_printf(o, "%9" PRIu64 " of others\n", more);
}

void monitor_print_summary(struct outlet *o, struct monitor_summary *summary, bool colour)
{
	static const char titles[][10] = {
		[MONITOR_SORT_PROGRAMS] = "programs",
		[MONITOR_SORT_NAMES] = "names",
		[MONITOR_SORT_RESOLVERS] = "resolvers",
		[MONITOR_SORT_CLIENTS] = "clients",
	};

	outlet_printf(o,
		      "%" PRIu64 " packets blocked in %" PRIu64 " s, %" PRIu64
		      " of them seen here\n",
		      summary->shown + summary->not_shown, summary->seconds, summary->shown);
	for (int i = 0; i < MONITOR_SORTS; i++)
		print_tally(o, titles[i], &summary->tallies[i], colour);
}

void monitor_count(struct monitor_summary *summary, const struct blocked *b, const char *user)
{
	char text[DNSNAME_TEXT + 16];

	summary->shown++;
	if (blocked_is_forwarded(b))
		tally_count(&summary->tallies[MONITOR_SORT_CLIENTS], format_client(b, text));
	if (!blocked_is_forwarded(b) || *b->program) {
		struct blocked any = *b;

		any.pid = 0; /* each query may be another process's */
		tally_count(&summary->tallies[MONITOR_SORT_PROGRAMS], format_who(&any, user, text));
	}
	tally_count(&summary->tallies[MONITOR_SORT_NAMES], format_question(b, text));
	tally_count(&summary->tallies[MONITOR_SORT_RESOLVERS], format_resolver(b, text));
}
