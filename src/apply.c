#include "apply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fwdiff.h"
#include "fwprobe.h"
#include "fwread.h"
#include "fwsock.h"
#include "fwtxn.h"
#include "netwatch.h"
#include "state.h"

/* How often to build anew when other programs commit between our reading and our commit. */
#define APPLY_TRIES	50
/*
 * How often to put right what differs after a commit of ours that succeeded: ours
 * alone take up to four (blind, flags, made anew, without the bridge).
 */
#define APPLY_COMMITS	6
/*
 * How long a hash set that just grew is given to show all its elements: 1 ms, 2 ms,
 * ... 16 ms, 16 ms, about a second in all.  Short, since a watcher hears nothing meanwhile.
 */
#define SETTLE_TRIES	64
#define SETTLE_FIRST_NS 1000000L
#define SETTLE_MOST_NS	16000000L

static bool has_tunnel_link(const struct policy *p, const struct netstate *ns)
{
	for (size_t i = 0; i < ns->links_len; i++)
		if (policy_is_tunnel_link(p, ns->links[i].name, ns->links[i].kind))
			return true;
	return false;
}

const struct link *route_inside(const struct policy *p, const struct netstate *ns,
				const struct route_to *to)
{
	for (size_t i = 0; i < ROUTE_MAX_HOPS && to->hops[i]; i++) {
		const struct link *link = netstate_link(ns, to->hops[i]);

		if (link && policy_is_tunnel_link(p, link->name, link->kind))
			return link;
	}
	return NULL;
}

const struct link *route_outside(const struct policy *p, const struct netstate *ns,
				 const struct route_to *to)
{
	for (size_t i = 0; i < ROUTE_MAX_HOPS && to->hops[i]; i++) {
		const struct link *link = netstate_link(ns, to->hops[i]);

		if (link && link->index != LOOPBACK_IFINDEX &&
		    !policy_is_tunnel_link(p, link->name, link->kind))
			return link;
	}
	return NULL;
}

/* Pin every sticky resolver whose route leads through a tunnel now. */
static int pin_resolvers(const struct policy *p, struct netstate *ns, struct state *s)
{
	struct addr *addrs;
	size_t n = 0;
	int err;

	/* Where mode both ties all to tunnels, or no tunnel can be in a route, nothing can be pinned. */
	if (p->mode == POLICY_MODE_BOTH || !p->resolvers_len || !has_tunnel_link(p, ns))
		return 0;
	addrs = calloc(p->resolvers_len, sizeof(*addrs));
	if (!addrs)
		return -ENOMEM;
	for (size_t i = 0; i < p->resolvers_len; i++) {
		const struct resolver *r = &p->resolvers[i];

		if (r->path == RESOLVER_PATH_STICKY && !addr_is_loopback(&r->addr) &&
		    !pins_has(&s->pins, &r->addr))
			addrs[n++] = r->addr;
	}
	err = netwatch_lookup_routes(ns, addrs, n);
	for (size_t i = 0; !err && i < ns->routes_len; i++)
		if (route_inside(p, ns, &ns->routes[i]))
			err = state_add_pin(s, &ns->routes[i].addr);
	free(addrs);
	return err;
}

static int choose_fragments(struct fwsock *fs, const struct policy *p, enum fragments known,
			    enum fragments *ret_how, char reterr_text[CONFIG_ERR])
{
	int err;

	if (p->fragments == FRAGMENTS_AUTO && known != FRAGMENTS_AUTO) {
		*ret_how = known;
		return 0;
	}
	if (!fs) {
		*ret_how = p->fragments == FRAGMENTS_AUTO ? FRAGMENTS_DEFRAG : p->fragments;
		return 0;
	}
	err = fwprobe_fragments(fs, p->fragments, ret_how);
	if (err == -EPERM)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
	else if (err == -EOPNOTSUPP)
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: this kernel has no inet tables, expected CONFIG_NF_TABLES_INET");
	else if (err == -FWPROBE_ENOWAY)
		snprintf(reterr_text, CONFIG_ERR,
			 "fragments \"%s\": this kernel cannot, expected auto or drop",
			 fragments_format(p->fragments));
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot probe the kernel: %s",
			 strerror(-err));
	return err;
}

int plan_build(struct fwsock *fs, struct state *s, enum fragments known, struct plan *ret_plan,
	       char reterr_text[CONFIG_ERR])
{
	struct plan plan = { 0 };
	enum fragments how;
	int err = state_effective_policy(s, &plan.policy, reterr_text);

	if (err)
		return err;
	err = netwatch_dump_links(&plan.net);
	if (!err)
		err = pin_resolvers(&plan.policy, &plan.net, s);
	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "cannot read links and routes: %s",
			 strerror(-err));
		goto fail;
	}
	err = choose_fragments(fs, &plan.policy, known, &how, reterr_text);
	if (err)
		goto fail;
	err = state_build_rules(s, &plan.policy, how, &plan.rules);
	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "cannot build the rules: out of memory");
		goto fail;
	}
	*ret_plan = plan;
	return 0;
fail:
	plan_fini(&plan);
	return err;
}

void plan_fini(struct plan *plan)
{
	policy_fini(&plan->policy);
	netstate_fini(&plan->net);
	ruleset_fini(&plan->rules);
}

static void describe_refusal(int err, const struct fwtxn_fail *fail, const char *after,
			     char reterr_text[CONFIG_ERR])
{
	snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s%s%s%s%s%s%s",
		 *fail->what ? fail->what : "transaction", ": ", fwsock_strerror(err),
		 *fail->reason ? " (" : "", fail->reason, *fail->reason ? ")" : "", after);
}

/* Answers were lost: only the table itself can tell what happened. */
static bool is_unknown(int err)
{
	return err == -ENOBUFS || err == -EBADMSG || err == -EIO;
}

static int read_table(struct fwsock *fs, struct fwtable *ret_table, char reterr_text[CONFIG_ERR])
{
	int err = fwtable_read(fs, ret_table);

	if (err == -EPERM)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot read table inet %s: %s",
			 RULESET_TABLE, strerror(-err));
	return err;
}

/* What one look at the table saw besides the difference. */
struct seen {
	bool present;
	uint32_t generation, flags, owner;
};

/*
 * Read the table and fill *ret_txn with what makes the rules of it.  With
 * `settle`, right after a commit, missing elements are looked for again.
 * 0 and a transaction for fwtxn_fini(), or -errno with a text and none.
 */
static int read_difference(struct fwsock *fs, const struct ruleset *rules, bool own, bool settle,
			   struct seen *ret_seen, struct fwtxn *ret_txn,
			   char reterr_text[CONFIG_ERR])
{
	struct timespec pause = { .tv_nsec = SETTLE_FIRST_NS };
	uint32_t first = 0;
	struct fwtable have;
	bool settling;
	int err;

	for (int i = 0;; i++) {
		err = read_table(fs, &have, reterr_text);
		if (err)
			return err;
		fwtxn_init(ret_txn);
		err = fwdiff_build(&have, rules, own, ret_txn, &settling);
		*ret_seen = (struct seen){ have.present, have.generation, have.flags, have.owner };
		fwtable_fini(&have);
		if (err) {
			snprintf(reterr_text, CONFIG_ERR, "cannot compare the rules: %s",
				 strerror(-err));
			fwtxn_fini(ret_txn);
			return err;
		}
		first = i ? first : ret_seen->generation;
		/* A commit by somebody else: it may be that which took them. */
		if (!settle || !settling || i == SETTLE_TRIES || ret_seen->generation != first)
			return 0;
		fwtxn_fini(ret_txn);
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < SETTLE_MOST_NS)
			pause.tv_nsec *= 2;
	}
}

static int commit(struct fwsock *fs, struct fwtxn *txn, uint32_t generation,
		  char reterr_text[CONFIG_ERR])
{
	struct fwtxn_fail fail = { 0 };
	int err = fwtxn_commit(fs, txn, generation, &fail);

	if (err)
		describe_refusal(err, &fail, "; the rules before are in force", reterr_text);
	else
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: %s: differs again after each of %d commits, expected nobody else to change table inet %s",
			 txn->notes[0].text, APPLY_COMMITS, RULESET_TABLE);
	return err;
}

/* All the rules, as if there were no table; it is made where it is not there. */
static int put_all(struct fwsock *fs, const struct ruleset *rules, bool own, struct fwtxn *txn,
		   char reterr_text[CONFIG_ERR])
{
	static const struct fwtable nothing;
	bool settling;
	int err = fwdiff_build(&nothing, rules, own, txn, &settling);

	if (err)
		snprintf(reterr_text, CONFIG_ERR, "cannot build the rules: %s", strerror(-err));
	else
		err = commit(fs, txn, 0, reterr_text);
	return err;
}

/*
 * An ordinary table becomes an owned one, and the reverse, only by being made
 * anew, and packets pass between a base chain's end and its successor's start,
 * even in one transaction.  The second table has the same rules by then; the
 * next round finds it and takes it away.
 */
static int change_ownership(struct fwsock *fs, const struct ruleset *rules, bool own,
			    char reterr_text[CONFIG_ERR])
{
	struct fwtxn txn;
	int err;

	fwtxn_init(&txn);
	txn.table = RULESET_BRIDGE;
	err = put_all(fs, rules, own, &txn, reterr_text);
	fwtxn_fini(&txn);
	if (err)
		return err;
	fwtxn_del_table(&txn, RULESET_TABLE);
	err = put_all(fs, rules, own, &txn, reterr_text);
	fwtxn_fini(&txn);
	return err == -ENOENT ? -ERESTART : err; /* somebody else has just removed it */
}

static bool is_owned_by_other(const struct fwsock *fs, const struct seen *seen)
{
	return seen->present && seen->flags & FWTXN_TABLE_OWNER && seen->owner != fwsock_port(fs);
}

static bool is_wrongly_owned(const struct seen *seen, unsigned int flags)
{
	const bool owned = seen->flags & FWTXN_TABLE_PERSIST;

	return seen->present && ((flags & APPLY_OWN && !owned) || (flags & APPLY_DISOWN && owned));
}

/*
 * One round: read, compare, and commit the difference.
 * 1: committed, look again.  0: nothing differs.  -errno with a text;
 * -ERESTART and those of is_unknown(): look again.
 */
static int commit_round(struct fwsock *fs, const struct ruleset *rules, unsigned int flags,
			bool settle, bool any_generation, struct apply_report *report,
			char reterr_text[CONFIG_ERR])
{
	const bool own = flags & APPLY_OWN;
	struct seen seen;
	struct fwtxn txn;
	int err;

	if (flags & APPLY_BLIND) {
		fwtxn_init(&txn);
		err = fwdiff_build_blind(rules, own, &txn) ?: commit(fs, &txn, 0, reterr_text);
		fwtxn_fini(&txn);
		return err ? -ERESTART : 1; /* what it could not do, a look can */
	}
	err = read_difference(fs, rules, own, settle, &seen, &txn, reterr_text);
	if (err)
		return err;
	if (fwtxn_len(&txn) && !*report->first)
		snprintf(report->first, sizeof(report->first), "%s", txn.notes[0].text);
	if ((fwtxn_len(&txn) || is_wrongly_owned(&seen, flags)) && is_owned_by_other(fs, &seen)) {
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: table inet %s is owned by a process that does not answer here (netlink port %u), expected its watcher's run directory in --run-dir",
			 RULESET_TABLE, seen.owner);
		err = -EACCES;
	} else if (is_wrongly_owned(&seen, flags)) {
		err = change_ownership(fs, rules, own, reterr_text);
		err = err ? err : 1;
	} else if (fwtxn_len(&txn)) {
		/* The generation keeps what was read true until the commit. */
		err = commit(fs, &txn, any_generation ? 0 : seen.generation, reterr_text);
		err = err ? err : 1;
	}
	fwtxn_fini(&txn);
	return err;
}

int apply_commit(struct fwsock *fs, const struct plan *plan, unsigned int flags,
		 struct apply_report *ret_report, char reterr_text[CONFIG_ERR])
{
	struct apply_report report = { 0 };
	char why[CONFIG_ERR];
	int commits = 0, err = 0;
	bool settle = false;

	for (int i = 0; i < APPLY_TRIES; i++) {
		err = commit_round(fs, &plan->rules, flags, settle, i == APPLY_TRIES - 1, &report,
				   why);
		/* What a blind one left out is missing, not hidden. */
		settle = err == 1 ? !(flags & APPLY_BLIND) : settle;
		flags &= ~(unsigned int)APPLY_BLIND;
		if (err == 1)
			report.commits = (unsigned int)++commits;
		if (!err || (err == 1 && commits == APPLY_COMMITS) ||
		    (err < 0 && err != -ERESTART && !is_unknown(err)))
			break;
	}
	if (ret_report)
		*ret_report = report;
	if (!err)
		return 0;
	if (err < 0 && commits) {
		snprintf(reterr_text, CONFIG_ERR,
			 "the rules are in force, but could not be read back: %.400s", why);
		return 1;
	}
	memcpy(reterr_text, why, CONFIG_ERR);
	return err < 0 ? err : -EBUSY;
}

int apply_dry_run(struct fwsock *fs, const struct plan *plan, char reterr_text[CONFIG_ERR])
{
	struct fwtxn_fail fail = { 0 };
	struct fwtxn txn;
	struct seen seen;
	int err = read_difference(fs, &plan->rules, false, false, &seen, &txn, reterr_text);

	if (err)
		return err;
	err = fwtxn_validate(fs, &txn, &fail);
	if (err)
		describe_refusal(err, &fail, "", reterr_text);
	fwtxn_fini(&txn);
	return err;
}

int apply_compare(struct fwsock *fs, const struct ruleset *rules, char reterr_text[CONFIG_ERR])
{
	struct fwtxn txn;
	struct seen seen;
	int err = read_difference(fs, rules, false, true, &seen, &txn, reterr_text);

	if (err)
		return err;
	if (fwtxn_len(&txn)) {
		snprintf(reterr_text, CONFIG_ERR, "%s", txn.notes[0].text);
		err = 1;
	}
	fwtxn_fini(&txn);
	return err;
}

int apply_remove(struct fwsock *fs, char reterr_text[CONFIG_ERR])
{
	bool acked = false;
	struct fwtxn_fail fail;
	struct fwtable have;
	struct fwtxn txn;
	int err = 0;

	for (int i = 0; i < APPLY_COMMITS; i++) {
		err = read_table(fs, &have, reterr_text);
		if (err && acked)
			return 0; /* the kernel has said so; it only could not be looked at */
		if (is_unknown(err))
			continue;
		if (err)
			return err;
		fwtxn_init(&txn);
		if (have.present)
			fwtxn_del_table(&txn, RULESET_TABLE);
		if (have.bridge)
			fwtxn_del_table(&txn, RULESET_BRIDGE);
		fwtable_fini(&have);
		if (!fwtxn_len(&txn) && !txn.err)
			return 0;
		err = fwtxn_commit(fs, &txn, 0, &fail);
		fwtxn_fini(&txn);
		acked |= !err;
		if (err && !is_unknown(err) && err != -ENOENT) {
			describe_refusal(err, &fail, "; the rules are in force", reterr_text);
			return err;
		}
	}
	if (!err)
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: table inet %s is there again after its removal",
			 RULESET_TABLE);
	return err ? err : -EBUSY;
}
