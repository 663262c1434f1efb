/*
 * state.h - what must survive between commands, and its record in the run directory
 *
 * RUNDIR/state holds the policy in force, the command line and configuration
 * file it came from, what `up` added and the pins; in the configuration file's
 * own syntax, with sections.  It is written to a temporary file, synced, and
 * renamed only once the kernel has taken the rules, so that killed anywhere it
 * is the old file or the new one.  Rules never depend on it being there: only
 * the next command does.
 */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "policy.h"
#include "ruleset.h"
#include "rundir.h"

#define STATE_MAX_OVERRIDES 128 /* options on one command line */
#define STATE_MAX_UPS	    POLICY_MAX_TUNNELS
#define STATE_PATH	    RUNDIR_PATH
#define STATE_VALUE	    170 /* the same for the value of an option */

/* An option of enable's command line, kept for reload. */
struct override {
	char key[24];
	char value[STATE_VALUE];
};

/* What one `up` brought. */
struct up {
	char link[IFNAMSIZ];	    /* or "ipsec:N" */
	struct resolver *resolvers; /* owned; all RESOLVER_PATH_LINK through this link */
	size_t resolvers_len;
	struct endpoint *endpoints; /* owned; where its carrier goes */
	size_t endpoints_len;
};

/* An endpoint that was given by name, and what the name led to. */
struct lookup {
	struct endpoint_host host;
	struct addr addr;
};

struct state {
	char config[STATE_PATH]; /* "" where there was none */
	struct override overrides[STATE_MAX_OVERRIDES];
	size_t overrides_len;
	struct policy policy; /* file and command line, without what `up` brought */
	struct up ups[STATE_MAX_UPS];
	size_t ups_len;
	struct lookup *lookups; /* owned; several of one host where it has several addresses */
	size_t lookups_len;
	struct pins pins;	 /* owned */
	uint64_t pause_until_ms; /* CLOCK_BOOTTIME; 0: no pause */
	bool no_watch;		 /* enable --no-watch: nobody follows */
};

/* An empty state; nothing allocated. */
void state_init(struct state *s);
void state_fini(struct state *s);

/* Drop what `up` brought for this link.  Whether there was anything. */
bool state_remove_up(struct state *s, const char *link);

/* Put what `up` brought, instead of what it brought before; lists are copied.  0, -E2BIG, -ENOMEM. */
int state_put_up(struct state *s, const struct up *up);

/* The same, beside what it brought before. */
int state_add_up(struct state *s, const struct up *more);

/* Remember one address of a host.  0 or -ENOMEM. */
int state_add_lookup(struct state *s, const struct endpoint_host *host, const struct addr *addr);

/* Add one pin, if it is not there yet.  0 or -ENOMEM. */
int state_add_pin(struct state *s, const struct addr *addr);

/*
 * The whole policy: what the user wrote and what each `up` brought, validated.
 * 0 and a policy for policy_fini(), or -errno with a text.
 */
int state_effective_policy(const struct state *s, struct policy *ret_policy,
			   char reterr_text[CONFIG_ERR]);

/* How much of a pause is left; 0: none.  Reads CLOCK_BOOTTIME, which goes on in suspend. */
uint64_t state_pause_left_ms(const struct state *s);

/* Put the state's pause into rules that are there.  0 or -ENOMEM. */
int state_pause_rules(const struct state *s, struct ruleset rules[FAMILIES]);

/*
 * The rules of this policy, which is the state's effective one, with its pins
 * and its pause.  0 and rulesets for rulesets_fini(), or -ENOMEM.
 */
int state_build_rules(const struct state *s, const struct policy *p, const struct netstate *ns,
		      const struct parts *parts, struct ruleset ret_rules[FAMILIES]);

/*
 * Read RUNDIR/state into an initialised state.  0; -ENOENT if there is none;
 * -EINVAL with a text for a truncated or foreign file, or one of another
 * network namespace.
 */
int state_read(const struct rundir *rd, struct state *s, char reterr_text[CONFIG_ERR]);

/*
 * The same of the temporary file, which a command leaves that was killed
 * between state_prepare() and state_publish().
 */
int state_read_prepared(const struct rundir *rd, struct state *s, char reterr_text[CONFIG_ERR]);

/* Write the temporary file beside it and sync it.  0, or -errno with a text. */
int state_prepare(const struct rundir *rd, const struct state *s, char reterr_text[CONFIG_ERR]);

/* Rename it into place and sync the directory.  0, or -errno with a text. */
int state_publish(const struct rundir *rd, char reterr_text[CONFIG_ERR]);

/*
 * Note that the kernel, in this namespace (fwsock_netns()), had the rules of the
 * record that is in place at this generation, as was read back.
 */
void state_note_generation(const struct rundir *rd, uint64_t netns, uint32_t generation);

/*
 * That generation; 0 if there is none, or it tells nothing here and now: noted before
 * the record was replaced, before a reboot, in another namespace, or so long ago
 * that the kernel may have counted once round.
 */
uint32_t state_noted_generation(const struct rundir *rd, uint64_t netns);

/* Throw the temporary file away; no error if there is none. */
void state_discard(const struct rundir *rd);

/*
 * Remove RUNDIR/state, and leave a mark that it was meant, until the next record.
 * 0, also if there was none, or -errno with a text.
 */
int state_remove(const struct rundir *rd, char reterr_text[CONFIG_ERR]);

/* Whether there is a record. */
bool state_exists(const struct rundir *rd);

/* Whether the mark is there: `disable` was the last word. */
bool state_is_off(const struct rundir *rd);

#endif
