/*
 * apply.h - the one write path: state -> policy -> rules -> transaction -> kernel -> read back
 *
 * enable, up, down, reload and every later repair come through here; nobody
 * else commits.  Whatever fails before the commit leaves the rules in force;
 * the commit itself is all or nothing; what comes after it only looks.
 */
#ifndef APPLY_H
#define APPLY_H

#include <stdbool.h>

#include "config.h"
#include "netstate.h"
#include "policy.h"
#include "ruleset.h"

struct fwknown;
struct fwsock;
struct fwtxn;
struct state;

/* All that the rules are made of, and the rules. */
struct plan {
	struct policy policy; /* the whole: user's and what `up` brought */
	struct netstate net;
	struct parts parts; /* of the kernel, as far as the policy needs them */
	struct ruleset rules[FAMILIES];
};

/* What a commit found and did. */
struct apply_report {
	unsigned int commits;	 /* 0: nothing differed */
	char first[128];	 /* the first difference, as the transaction names it; "" */
	unsigned int links_lost; /* times that a link went away under the commit */
	bool devices_only;	 /* nothing but what links make of the rules */
	uint32_t generation;	 /* at which nothing differed any more; 0: not known */
};

enum apply_flag {
	/*
	 * Own the table, so that nobody else can change it as long as the socket lives.
	 * An ordinary table is made anew for that, behind a second one with the same
	 * rules, so that no packet passes meanwhile.
	 */
	APPLY_OWN = 1 << 0,
	APPLY_DISOWN = 1 << 1, /* the reverse, for an owned or orphaned one: make it ordinary */
	APPLY_GUESS = 1 << 2,  /* whether the kernel takes it is not known: one try */
};

/*
 * The first link of a route that is a tunnel, or that is none (nor the loopback
 * device); NULL if the route has no such link.
 */
const struct link *route_inside(const struct policy *p, const struct netstate *ns,
				const struct route_to *to);
const struct link *route_outside(const struct policy *p, const struct netstate *ns,
				 const struct route_to *to);

/*
 * Make a plan of the state and of the kernel's links and routes.  Sticky
 * resolvers whose route leads through a tunnel are added to the state's pins.
 * Without a socket (fs NULL, for printing without root) the kernel is taken to
 * have everything; `known` is what is known of it already (all zeros: nothing).
 * 0 and a plan for plan_fini(), or -errno with a text; -EINVAL: the policy is wrong.
 */
int plan_build(struct fwsock *fs, struct state *s, struct parts known, struct plan *ret_plan,
	       char reterr_text[CONFIG_ERR]);

/* What a current kernel has: all. */
struct parts plan_guess_parts(void);
void plan_fini(struct plan *plan);

/*
 * Bring the kernel's tables to the plan in one transaction that holds only what
 * differs, and read them back; but large sets (fwread.h) neither before, where what
 * they hold is `known` (may be NULL), nor after, where the kernel has acknowledged
 * the change and its generation says that nobody's came between.  Blocks for the
 * commit only.  Where a link went away meanwhile the plan's links are read anew.
 * 0: the kernel has these rules, as was read back.
 * 1: it has acknowledged them, but could not be asked again; with a text.
 * -EBUSY: they were committed, and somebody else changes them again and again.
 * -EACCES: a live process owns the table.
 * Another -errno, with a text: the rules before are in force.
 * The report (may be NULL) is filled in any case.
 */
int apply_commit(struct fwsock *fs, struct plan *plan, unsigned int flags,
		 const struct fwknown *known, struct apply_report *ret_report,
		 char reterr_text[CONFIG_ERR]);

/*
 * For when somebody has just changed the tables, which nobody owns: what puts the
 * most important one back, table inet, without a look at what there is.  Made
 * ready before, for the time that takes decides who gets nf_tables' mutex next
 * (urgency.h).  What fails shows when it is committed.
 */
void apply_make_ready(const struct plan *plan, struct fwtxn *ret_ready);

/*
 * Commit that, as often as it is wanted.  An apply_commit() has to follow, for the
 * rest.  0, or -errno where the kernel refused it, as what is there may make it.
 */
int apply_ready(struct fwsock *fs, struct fwtxn *ready);

/* What is known where these rules are in force at this generation: large sets.  Borrows the rules. */
struct fwknown apply_known(const struct ruleset rules[FAMILIES], uint32_t generation);

/* The same up to the commit, which the kernel validates and forgets. */
int apply_dry_run(struct fwsock *fs, const struct plan *plan, char reterr_text[CONFIG_ERR]);

/*
 * Compare the kernel's tables with the rules that this policy, which is the
 * state's effective one, makes of these links and parts; changes nothing.  A link
 * that has no chain yet is no difference.  With `settle` it looks again, for a
 * second or so, where only elements of sets are missing: they may be hidden.
 * 0: they are the same.  1: they differ, the text names the first difference.
 * -errno with a text.
 */
int apply_compare(struct fwsock *fs, const struct state *s, const struct policy *p,
		  const struct netstate *ns, const struct parts *parts, bool settle,
		  char reterr_text[CONFIG_ERR]);

/* Remove our tables.  0, also if there is none; or -errno with a text, and it stands. */
int apply_remove(struct fwsock *fs, char reterr_text[CONFIG_ERR]);

#endif
