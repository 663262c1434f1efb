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
#include "ipsec.h"
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

struct parts plan_guess_parts(void)
{
	return (struct parts){ .fragments = FRAGMENTS_DEFRAG,
			       .egress = PART_HAS,
			       .bridge = PART_HAS,
			       .route = PART_HAS };
}

static int choose_parts(struct fwsock *fs, const struct policy *p, struct parts *parts,
			char reterr_text[CONFIG_ERR])
{
	const char *key;
	int err;

	if (!fs) {
		*parts = plan_guess_parts();
		if (p->fragments != FRAGMENTS_AUTO)
			parts->fragments = p->fragments;
		return 0;
	}
	err = fwprobe_parts(fs, p, parts, &key);
	if (err == -EPERM)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
	else if (err == -EOPNOTSUPP)
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: this kernel has no inet tables, expected CONFIG_NF_TABLES_INET");
	else if (err == -FWPROBE_ENOWAY && !strcmp(key, "frames"))
		snprintf(reterr_text, CONFIG_ERR,
			 "frames \"%s\": this kernel lacks %s, expected auto or off",
			 frames_format(p->frames),
			 parts->egress == PART_HAS ?
				 "tables of family bridge (CONFIG_NF_TABLES_BRIDGE)" :
				 "chains at a link's way out (CONFIG_NETFILTER_EGRESS)");
	else if (err == -FWPROBE_ENOWAY)
		snprintf(reterr_text, CONFIG_ERR,
			 "fragments \"%s\": this kernel cannot, expected auto or drop",
			 fragments_format(p->fragments));
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot probe the kernel: %s",
			 strerror(-err));
	return err;
}

int plan_build(struct fwsock *fs, struct state *s, struct parts known, struct plan *ret_plan,
	       char reterr_text[CONFIG_ERR])
{
	struct plan plan = { .parts = known };
	int err = state_effective_policy(s, &plan.policy, reterr_text);

	if (err)
		return err;
	err = netwatch_dump_links(&plan.net);
	if (!err) {
		ipsec_add_links(&plan.policy, &plan.net);
		err = pin_resolvers(&plan.policy, &plan.net, s);
	}
	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "cannot read links and routes: %s",
			 strerror(-err));
		goto fail;
	}
	err = choose_parts(fs, &plan.policy, &plan.parts, reterr_text);
	if (err)
		goto fail;
	err = state_build_rules(s, &plan.policy, &plan.net, &plan.parts, plan.rules);
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
	rulesets_fini(plan->rules);
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

static int read_tables(struct fwsock *fs, const struct fwknown *known, struct fwtables *ret_tables,
		       char reterr_text[CONFIG_ERR])
{
	int err = fwtables_read(fs, known, ret_tables);

	if (err == -EPERM)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: cannot read tables %s: %s",
			 RULESET_TABLE, strerror(-err));
	return err;
}

/* What one look at the tables saw besides the difference. */
struct seen {
	struct {
		bool present, owned, standin;
		uint32_t owner; /* 0: nobody lives who owns it */
	} of[FAMILIES];
	uint32_t generation;
	bool devices_only, rehooked, flags_first;
};

static void note_seen(const struct fwtables *have, const struct fwdiff_found *found,
		      struct seen *ret_seen)
{
	*ret_seen = (struct seen){ .generation = have->generation,
				   .devices_only = found->devices_only,
				   .rehooked = found->rehooked,
				   .flags_first = found->flags_first };
	for (enum family f = 0; f < FAMILIES; f++) {
		const struct fwtable *table = &have->of[f];

		ret_seen->of[f].present = table->present;
		ret_seen->of[f].standin = table->standin;
		ret_seen->of[f].owned = table->flags & FWTXN_TABLE_PERSIST;
		ret_seen->of[f].owner = table->flags & FWTXN_TABLE_OWNER ? table->owner : 0;
	}
}

struct fwknown apply_known(const struct ruleset rules[FAMILIES], uint32_t generation)
{
	return (struct fwknown){ .rules = rules, .generation = generation };
}

/*
 * Read the tables and fill *ret_txn with what makes the rules of them; `flags` are
 * fwdiff's.  With `settle`, right after a commit, missing elements are looked for
 * again.  0 and a transaction for fwtxn_fini(), or -errno with a text and none.
 */
static int read_difference(struct fwsock *fs, const struct ruleset rules[FAMILIES],
			   unsigned int flags, bool settle, const struct fwknown *known,
			   struct seen *ret_seen, struct fwtxn *ret_txn,
			   char reterr_text[CONFIG_ERR])
{
	struct timespec pause = { .tv_nsec = SETTLE_FIRST_NS };
	struct fwdiff_found found;
	uint32_t first = 0;
	struct fwtables have;
	int err;

	for (int i = 0;; i++) {
		err = read_tables(fs, known, &have, reterr_text);
		if (err)
			return err;
		fwtxn_init(ret_txn);
		err = fwdiff_build(&have, rules, flags, ret_txn, &found);
		note_seen(&have, &found, ret_seen);
		fwtables_fini(&have);
		if (err) {
			snprintf(reterr_text, CONFIG_ERR, "cannot compare the rules: %s",
				 strerror(-err));
			fwtxn_fini(ret_txn);
			return err;
		}
		first = i ? first : ret_seen->generation;
		/* A commit by somebody else, or a storm of them: it may be that which took them. */
		if (!settle || !found.settling || i == SETTLE_TRIES || !ret_seen->generation ||
		    ret_seen->generation != first)
			return 0;
		fwtxn_fini(ret_txn);
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < SETTLE_MOST_NS)
			pause.tv_nsec *= 2;
	}
}

/*
 * A link, or its chain with it, went away between our look and the commit.  No
 * generation tells of that (facts: Linux 6.1 and 6.12 refuse the whole batch).
 */
static bool is_by_link(int err, const struct fwtxn_fail *fail)
{
	return err == -ENOENT && fail->family == FAMILY_NETDEV;
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
			 "nf_tables: %s: differs again after each of %d commits, expected nobody else to change tables %s",
			 txn->notes[0].text, APPLY_COMMITS, RULESET_TABLE);
	return is_by_link(err, &fail) ? -ENODEV : err;
}

/*
 * All the rules, in tables of this name; those of it that were `seen` are removed
 * before, for their flags cannot become others.
 */
static int put_all(struct fwsock *fs, const struct ruleset rules[FAMILIES], const char *table,
		   unsigned int flags, const struct seen *seen, char reterr_text[CONFIG_ERR])
{
	const bool standin = !strcmp(table, RULESET_STANDIN);
	static const struct fwtables nothing;
	struct fwdiff_found found;
	struct fwtxn txn;
	int err;

	fwtxn_init(&txn);
	txn.table = table;
	for (enum family f = 0; f < FAMILIES; f++) {
		txn.family = f;
		if (standin ? seen->of[f].standin : seen->of[f].present)
			fwtxn_del_table(&txn, table);
	}
	err = fwdiff_build(&nothing, rules, flags, &txn, &found);
	if (err)
		snprintf(reterr_text, CONFIG_ERR, "cannot build the rules: %s", strerror(-err));
	else
		err = commit(fs, &txn, 0, reterr_text);
	fwtxn_fini(&txn);
	return err;
}

/*
 * An ordinary table becomes an owned one, and the reverse, and a base chain comes
 * to another place, only by being made anew, and packets pass between a base
 * chain's end and its successor's start, even in one transaction.  Second tables
 * have the same rules by then; the next round finds and takes them away.
 */
static int make_anew(struct fwsock *fs, const struct ruleset rules[FAMILIES], unsigned int flags,
		     const struct seen *seen, char reterr_text[CONFIG_ERR])
{
	int err = put_all(fs, rules, RULESET_STANDIN, flags, seen, reterr_text);

	if (!err)
		err = put_all(fs, rules, RULESET_TABLE, flags, seen, reterr_text);
	return err == -ENOENT ? -ERESTART : err; /* somebody else has just removed it */
}

/* The port of somebody else's socket that owns a table of ours; 0: none does. */
static uint32_t find_other_owner(const struct fwsock *fs, const struct seen *seen)
{
	for (enum family f = 0; f < FAMILIES; f++)
		if (seen->of[f].present && seen->of[f].owner &&
		    seen->of[f].owner != fwsock_port(fs))
			return seen->of[f].owner;
	return 0;
}

static bool is_wrongly_owned(const struct seen *seen, unsigned int flags)
{
	bool wrongly = false;

	for (enum family f = 0; f < FAMILIES; f++)
		wrongly |= seen->of[f].present && ((flags & APPLY_OWN && !seen->of[f].owned) ||
						   (flags & APPLY_DISOWN && seen->of[f].owned));
	return wrongly;
}

/*
 * One round: read, compare, and commit the difference.  *known becomes what is known
 * after it: the kernel counts one commit up, and took this one only where nobody
 * else's came since the reading.
 * 1: committed, look again.  0: nothing differs.  -errno with a text;
 * -ERESTART, -ENODEV and those of is_unknown(): look again.
 */
static int commit_round(struct fwsock *fs, const struct ruleset rules[FAMILIES], unsigned int flags,
			bool settle, int tries_left, struct fwknown *known,
			struct apply_report *report, char reterr_text[CONFIG_ERR])
{
	unsigned int how = flags & APPLY_OWN ? FWDIFF_OWN : 0;
	uint32_t other;
	struct seen seen;
	struct fwtxn txn;
	int err;

	/* Links that come and go faster than we can: what matters most first. */
	if (tries_left < APPLY_TRIES / 2 && report->links_lost)
		how |= FWDIFF_LINKS_ASIDE;
	err = read_difference(fs, rules, how, settle, known, &seen, &txn, reterr_text);
	if (err)
		return err;
	if (fwtxn_len(&txn) && !*report->first)
		snprintf(report->first, sizeof(report->first), "%s", txn.notes[0].text);
	report->devices_only &= seen.devices_only;
	other = find_other_owner(fs, &seen);
	if (other && (fwtxn_len(&txn) || is_wrongly_owned(&seen, flags))) {
		snprintf(reterr_text, CONFIG_ERR,
			 "nf_tables: tables %s are owned by a process that does not answer here (netlink port %u), expected its watcher's run directory in --run-dir",
			 RULESET_TABLE, other);
		err = -EACCES;
	} else if (is_wrongly_owned(&seen, flags) || seen.rehooked) {
		err = make_anew(fs, rules, how, &seen, reterr_text);
		err = err ? err : 1;
		*known = (struct fwknown){ 0 };
	} else if (fwtxn_len(&txn)) {
		/* The generation keeps what was read true until the commit. */
		const uint32_t generation = tries_left ? seen.generation : 0;
		const bool owned = known->owned;

		err = commit(fs, &txn, generation, reterr_text);
		if (err != -ERESTART)
			*known = (struct fwknown){ 0 };
		if (!err && generation && !seen.flags_first) {
			*known = apply_known(rules, generation + 1);
			known->owned = owned;
		}
		err = err ? err : 1;
	} else {
		report->generation = seen.generation;
	}
	fwtxn_fini(&txn);
	return err;
}

/* The plan's links as they are now; without memory for it, as they were. */
static void refresh_links(struct plan *plan)
{
	struct netstate now = { 0 };

	if (netwatch_dump_links(&now))
		return;
	ipsec_add_links(&plan->policy, &now);
	if (ruleset_choose_devices(&plan->rules[FAMILY_NETDEV], &plan->policy, &now)) {
		netstate_fini(&now);
		return;
	}
	netstate_fini(&plan->net);
	plan->net = now;
}

int apply_commit(struct fwsock *fs, struct plan *plan, unsigned int flags,
		 const struct fwknown *known, struct apply_report *ret_report,
		 char reterr_text[CONFIG_ERR])
{
	struct apply_report report = { .devices_only = true };
	struct fwknown now = known ? *known : (struct fwknown){ 0 };
	char why[CONFIG_ERR];
	int commits = 0, err = 0;
	bool settle = false;

	for (int left = APPLY_TRIES - 1; left >= 0; left--) {
		err = commit_round(fs, plan->rules, flags, settle, left, &now, &report, why);
		settle |= err == 1;
		if (err == 1)
			report.commits = (unsigned int)++commits;
		if (err < 0 && flags & APPLY_GUESS && !commits && !is_unknown(err))
			break;
		if (err == -ENODEV) {
			report.links_lost++;
			refresh_links(plan);
			continue;
		}
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

void apply_make_ready(const struct plan *plan, struct fwtxn *ret_ready)
{
	fwtxn_init(ret_ready);
	(void)fwdiff_build_blind(&plan->rules[FAMILY_INET], false, ret_ready);
}

int apply_ready(struct fwsock *fs, struct fwtxn *ready)
{
	struct fwtxn_fail fail;

	return fwtxn_commit(fs, ready, 0, &fail);
}

int apply_dry_run(struct fwsock *fs, const struct plan *plan, char reterr_text[CONFIG_ERR])
{
	struct fwtxn_fail fail = { 0 };
	struct fwtxn txn;
	struct seen seen;
	int err = read_difference(fs, plan->rules, 0, false, NULL, &seen, &txn, reterr_text);

	if (err)
		return err;
	err = fwtxn_validate(fs, &txn, &fail);
	if (err)
		describe_refusal(err, &fail, "", reterr_text);
	fwtxn_fini(&txn);
	return err;
}

int apply_compare(struct fwsock *fs, const struct state *s, const struct policy *p,
		  const struct netstate *ns, const struct parts *parts, bool settle,
		  char reterr_text[CONFIG_ERR])
{
	struct ruleset rules[FAMILIES];
	struct fwtxn txn;
	struct seen seen;
	int err = state_build_rules(s, p, ns, parts, rules);

	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "cannot build the rules: out of memory");
		return err;
	}
	err = read_difference(fs, rules, FWDIFF_LINKS_ASIDE, settle, NULL, &seen, &txn,
			      reterr_text);
	rulesets_fini(rules);
	if (err)
		return err;
	if (fwtxn_len(&txn)) {
		snprintf(reterr_text, CONFIG_ERR, "%s", txn.notes[0].text);
		err = 1;
	}
	fwtxn_fini(&txn);
	return err;
}

static void put_removal(struct fwtxn *txn, const struct fwtables *have)
{
	for (enum family f = 0; f < FAMILIES; f++) {
		txn->family = f;
		if (have->of[f].present)
			fwtxn_del_table(txn, RULESET_TABLE);
		if (have->of[f].standin)
			fwtxn_del_table(txn, RULESET_STANDIN);
	}
}

int apply_remove(struct fwsock *fs, char reterr_text[CONFIG_ERR])
{
	bool acked = false;
	struct fwtxn_fail fail;
	struct fwtables have;
	struct fwtxn txn;
	int err = 0;

	for (int i = 0; i < APPLY_COMMITS; i++) {
		err = fwtables_read_flags(fs, &have);
		if (err && acked)
			return 0; /* the kernel has said so; it only could not be looked at */
		if (is_unknown(err))
			continue;
		if (err) {
			snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
			return err;
		}
		fwtxn_init(&txn);
		put_removal(&txn, &have);
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
			 "nf_tables: tables %s are there again after their removal", RULESET_TABLE);
	return err ? err : -EBUSY;
}
