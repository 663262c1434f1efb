/* check's report as text */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "cmd_check.h"

#define CELL 24
#define LINE 256

/* Worst first: what one word has to stand for. */
static const enum check_verdict worst_first[CHECK_VERDICTS] = {
	CHECK_VERDICT_LEAK,    CHECK_VERDICT_UNSURE, CHECK_VERDICT_APPROVED,
	CHECK_VERDICT_STOPPED, CHECK_VERDICT_INSIDE, CHECK_VERDICT_NO_ROUTE,
};

static const char *word_of(const struct check_finding *f, char buf[CELL])
{
	switch (f->verdict) {
	case CHECK_VERDICT_LEAK:
		return "LEAK";
	case CHECK_VERDICT_UNSURE:
		return "could not tell";
	case CHECK_VERDICT_STOPPED:
		if (!f->stopped_by)
			return "stopped";
		snprintf(buf, CELL, "stopped S%u", f->stopped_by);
		return buf;
	case CHECK_VERDICT_APPROVED:
		return f->approval == CHECK_APPROVAL_PAUSE ? "paused" : "approved";
	case CHECK_VERDICT_INSIDE:
		return "inside";
	case CHECK_VERDICT_NO_ROUTE:
		return "no route";
	case CHECK_VERDICTS:
		break;
	}
	return "";
}

static bool is_worse(enum check_verdict a, enum check_verdict b)
{
	for (size_t i = 0; i < CHECK_VERDICTS; i++)
		if (worst_first[i] == a || worst_first[i] == b)
			return worst_first[i] == a && a != b;
	return false;
}

static bool is_cut_of(enum check_way cut, enum check_way way)
{
	return (cut == CHECK_WAY_PIECES && way == CHECK_WAY_RAW) ||
	       (cut == CHECK_WAY_FRAME_PIECES && way == CHECK_WAY_FRAME);
}

/* One cell of the table: all protocols and ports of a link, way and target; "" where there is none. */
static const char *cell_of(const struct cmd_check_report *r, int link, enum check_way way,
			   size_t target, char buf[CELL])
{
	struct check_finding worst = { .verdict = CHECK_VERDICTS };

	for (size_t i = 0; i < r->plan.shots_len; i++) {
		const struct check_shot *s = &r->plan.shots[i];
		struct check_finding f;

		if (s->is_control || s->link != link || s->target != target ||
		    (s->way != way && !is_cut_of(s->way, way)))
			continue;
		f = check_judge(&r->law, &r->plan, s);
		/* Fragments have no column: they are told where they fare worse. */
		if (s->way != way && !is_worse(f.verdict, worst.verdict))
			continue;
		if (worst.verdict == f.verdict && worst.stopped_by != f.stopped_by)
			worst.stopped_by = 0;
		else if (worst.verdict == CHECK_VERDICTS || is_worse(f.verdict, worst.verdict))
			worst = f;
	}
	return worst.verdict == CHECK_VERDICTS ? "" : word_of(&worst, buf);
}

static void print_row(const struct cmd_check_report *r, int link, const enum check_way *ways,
		      size_t n, size_t target)
{
	const struct check_target *t = &r->plan.targets[target];
	char text[ADDR_TEXT], buf[CELL];

	if (!*cell_of(r, link, ways[0], target, buf))
		return;
	printf("  %-9s %-28s", check_kind_format(t->kind), addr_format(&t->addr, text));
	for (size_t i = 0; i < n; i++)
		printf(i + 1 < n ? " %-15s" : " %s", cell_of(r, link, ways[i], target, buf));
	putchar('\n');
}

static void print_table(const struct cmd_check_report *r, int link, const char *title,
			const enum check_way *ways, size_t n)
{
	printf("%-40s", title);
	for (size_t i = 0; i < n; i++)
		printf(i + 1 < n ? " %-15s" : " %s", check_way_format(ways[i]));
	putchar('\n');
	for (size_t t = 0; t < r->plan.targets_len; t++)
		print_row(r, link, ways, n, t);
}

static void print_tables(const struct cmd_check_report *r)
{
	static const enum check_way plain[] = { CHECK_WAY_PLAIN };
	static const enum check_way own[] = { CHECK_WAY_BOUND, CHECK_WAY_RAW, CHECK_WAY_FRAME };
	char name[IFNAMSIZ];

	print_table(r, -1, "where routes lead", plain, 1);
	for (size_t i = 0; i < r->plan.links_len; i++) {
		const struct check_link *link = &r->plan.links[i];

		text_quotable(link->name, name, sizeof(name));
		if (link->skipped)
			printf("%-40s not tried: %s\n", name, link->skipped);
		else
			print_table(r, (int)i, name, own, 3);
	}
}

/* --- one line for what is wrong --- */

/* What all leaks have in common, said once; NULL where each has its own reason. */
static const char *advice_of_all(const struct cmd_check_report *r)
{
	if (r->status.state == GUARD_STATE_OFF)
		return "there is no guard: 'leakguard enable' raises it";
	if (r->status.state == GUARD_STATE_ALTERED)
		return "somebody changed the rules: 'leakguard reload' puts them right";
	return NULL;
}

static const char *advice_of_leak(const struct cmd_check_report *r, const struct check_shot *s)
{
	if (check_way_is_frame(s->way) && r->law.policy->frames == FRAMES_OFF)
		return "frames are not judged: set frames = auto, then 'leakguard reload'";
	if (check_way_is_frame(s->way))
		return "frames are not judged on that link: 'leakguard status' says why";
	return "'leakguard status' says what looks wrong; a rule of somebody else's may come later";
}

static const char *advice_of_doubt(const struct cmd_check_report *r, const struct check_shot *s)
{
	const struct check_shot *control = &r->plan.shots[s->control];

	if (r->plan.lost)
		return "packets were lost while watching: check again when there is less traffic";
	if (control->err)
		return strerror(-control->err);
	if (control->left_len)
		return "its control left by another way";
	return "its control was not seen either: does that neighbour answer, does a firewall stop port 9?";
}

/* How it was sent: "by a packet socket of wan0". */
static const char *way_words(const struct cmd_check_report *r, const struct check_shot *s,
			     char buf[LINE])
{
	static const char *const words[CHECK_WAYS] = {
		[CHECK_WAY_PLAIN] = "a socket",
		[CHECK_WAY_BOUND] = "a socket bound to ",
		[CHECK_WAY_RAW] = "a raw socket bound to ",
		[CHECK_WAY_PIECES] = "fragments by a raw socket bound to ",
		[CHECK_WAY_FRAME] = "a frame to ",
		[CHECK_WAY_FRAME_PIECES] = "fragments in frames to ",
	};
	char name[IFNAMSIZ] = "";

	if (s->link >= 0)
		text_quotable(r->plan.links[s->link].name, name, sizeof(name));
	snprintf(buf, LINE, "%s%s", words[s->way], name);
	return buf;
}

static const char *link_words(const struct cmd_check_report *r, int index, char buf[IFNAMSIZ])
{
	const struct link *link = netstate_link(r->law.net, index);

	return text_quotable(link ? link->name : "a new link", buf, IFNAMSIZ);
}

/* The protocols and ports of this and the queries behind it of the same fate; returns the first other one. */
static size_t gather(const struct cmd_check_report *r, size_t first, const struct check_finding *f,
		     char buf[LINE])
{
	const struct check_plan *plan = &r->plan;
	const struct check_shot *a = &plan->shots[first];
	size_t i, at = 0;

	*buf = '\0';
	for (i = first; i < plan->shots_len; i++) {
		const struct check_shot *s = &plan->shots[i];
		struct check_finding other;

		if (s->is_control)
			continue;
		other = check_judge(&r->law, plan, s);
		if (s->link != a->link || s->way != a->way || s->target != a->target ||
		    other.verdict != f->verdict || other.left != f->left)
			break;
		if (at < LINE - 16)
			at += (size_t)snprintf(buf + at, LINE - at, "%s%s/%u", at ? " " : "",
					       proto_format(s->proto), s->port);
	}
	return i;
}

/* Queries of one fate: `what` names them, `first` is the first of them. */
static void print_fate(const struct cmd_check_report *r, const struct check_shot *first,
		       const struct check_finding *f, const char *what)
{
	const struct check_target *t = &r->plan.targets[first->target];
	char way[LINE], addr[ADDR_TEXT], name[IFNAMSIZ];
	const bool leak = f->verdict == CHECK_VERDICT_LEAK;

	printf("%s: %s to %s (%s) by %s", leak ? "leak" : "could not tell", what,
	       addr_format(&t->addr, addr), check_kind_format(t->kind), way_words(r, first, way));
	if (leak)
		printf(" left through %s", link_words(r, f->left, name));
	if (leak && advice_of_all(r))
		putchar('\n');
	else
		printf(": %s\n", leak ? advice_of_leak(r, first) : advice_of_doubt(r, first));
}

static void print_wrong(const struct cmd_check_report *r)
{
	const struct check_plan *plan = &r->plan;
	char what[LINE];

	if (r->counts[CHECK_VERDICT_LEAK] && advice_of_all(r))
		puts(advice_of_all(r));
	for (size_t i = 0, next; i < plan->shots_len; i = next) {
		const struct check_shot *s = &plan->shots[i];
		struct check_finding f;

		next = i + 1;
		if (s->is_control)
			continue;
		f = check_judge(&r->law, plan, s);
		if (f.verdict != CHECK_VERDICT_LEAK && f.verdict != CHECK_VERDICT_UNSURE)
			continue;
		next = gather(r, i, &f, what);
		print_fate(r, s, &f, what);
	}
	if (cmd_check_is_cut(plan))
		printf("could not tell: left out for want of room: %zu links, %zu addresses, %zu packets\n",
		       plan->links_out, plan->targets_out, plan->shots_out);
}

static void print_system(const struct cmd_check_report *r, bool quiet)
{
	char text[FINDING_TEXT], advice[FINDING_TEXT];
	bool first = true;

	for (size_t i = 0; i < r->findings_len; i++) {
		const struct finding *f = &r->findings[i];

		if (quiet && !f->risk)
			continue;
		if (first)
			puts("the system:");
		first = false;
		printf("  %s: %s: %s\n", f->risk ? "risk" : "note",
		       text_quotable(f->text, text, sizeof(text)),
		       text_quotable(f->advice, advice, sizeof(advice)));
	}
	if (r->findings_out)
		printf("  and %zu more\n", r->findings_out);
}

static void print_result(const struct cmd_check_report *r)
{
	const size_t *n = r->counts;

	printf("result: %s; %zu queries: %zu leaked, %zu could not be told, %zu stopped, %zu approved, %zu inside, %zu without a route\n",
	       n[CHECK_VERDICT_LEAK] ? "LEAK" :
	       r->exit		     ? "could not tell" :
				       "nothing got out",
	       n[0] + n[1] + n[2] + n[3] + n[4] + n[5], n[CHECK_VERDICT_LEAK],
	       n[CHECK_VERDICT_UNSURE], n[CHECK_VERDICT_STOPPED], n[CHECK_VERDICT_APPROVED],
	       n[CHECK_VERDICT_INSIDE], n[CHECK_VERDICT_NO_ROUTE]);
}

void cmd_check_print(const struct cmd_check_report *r, bool quiet)
{
	if (!quiet) {
		printf("state: %s%s\n", guard_state_format(r->status.state),
		       r->law.paused ? ", paused" : "");
		print_tables(r);
	}
	print_wrong(r);
	print_system(r, quiet);
	if (!quiet)
		print_result(r);
}
