/*
 * cmd.h - the subcommands: one table, one function each
 *
 * The table and config_keys[] are all there is to know about the command line:
 * main runs it, `-h`, the manual page and the completions are printed from it.
 */
#ifndef CMD_H
#define CMD_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "state.h"

#define CMD_CONFIG_DEFAULT  "/etc/leakguard.conf"
#define CMD_RUN_DIR_DEFAULT "/run/leakguard"
#define CMD_VERSION	    "0.1.0"

/* Exit statuses, design.md section 3. */
enum cmd_exit {
	CMD_EXIT_DONE = 0,	  /* done, or guarded */
	CMD_EXIT_FAILED = 1,	  /* failed, and what was in force before still is */
	CMD_EXIT_USAGE = 2,	  /* usage or configuration error, nothing was touched */
	CMD_EXIT_NOT_GUARDED = 3, /* status: not guarded */
	CMD_EXIT_LEAKED = 4,	  /* check: something leaked */
};

/* A parsed command line. */
struct cmdline {
	const struct command *command;
	const char *config;  /* CMD_CONFIG_DEFAULT unless given */
	bool config_given;   /* the user has named it */
	const char *run_dir; /* CMD_RUN_DIR_DEFAULT unless given */
	bool json, dry_run, no_watch, until_disable;
	bool quiet, prometheus;
	const char *summary; /* a duration, as given; NULL: none */
	const char *word;    /* of a command that takes one; never NULL then */
	struct override overrides[STATE_MAX_OVERRIDES]; /* options that are keys, in order */
	size_t overrides_len;
};

/* Which options a command takes besides the global ones. */
enum cmd_takes {
	CMD_TAKES_KEYS = 1 << 0,     /* every key of config_keys[] */
	CMD_TAKES_TUNNEL = 1 << 1,   /* --tunnel only, of a link that is up or down */
	CMD_TAKES_RESOLVER = 1 << 2, /* --resolver */
	CMD_TAKES_JSON = 1 << 3,
	CMD_TAKES_DRY_RUN = 1 << 4,
	CMD_TAKES_NO_WATCH = 1 << 5,
	CMD_TAKES_UNTIL_DISABLE = 1 << 6,
	CMD_TAKES_WORD = 1 << 7,     /* one, behind the options */
	CMD_TAKES_ENDPOINT = 1 << 8, /* --endpoint */
	CMD_TAKES_AUTO = 1 << 9,     /* --tunnel auto */
	CMD_TAKES_QUIET = 1 << 10,
	CMD_TAKES_SUMMARY = 1 << 11,
	CMD_TAKES_PROMETHEUS = 1 << 12,
};

struct command {
	char name[8];
	int (*run)(const struct cmdline *cl); /* returns a cmd_exit */
	unsigned int takes;		      /* of enum cmd_takes */
	const char *synopsis;		      /* what follows its name in the usage line */
	const char *help;		      /* one line */
};

/* Ends with an entry without a name. */
extern const struct command commands[];

/* An option that is no key; a global one where `takes` is 0. */
struct cmd_option {
	char name[16];	 /* the long one */
	int letter;	 /* the short one, or a number from 256 on */
	const char *arg; /* placeholder, or NULL */
	unsigned int takes;
	const char *help;
};

/* Ends with an entry without a name. */
extern const struct cmd_option cmd_options[];

/* Whether the command takes this key as an option. */
bool cmd_takes_key(const struct command *command, const struct config_key *key);

/*
 * Parse argv.  CMD_EXIT_DONE with *ret_cl filled; or, printed already, another
 * status in *ret_exit and false (also for -h and --version, which are done).
 */
bool cmdline_parse(int argc, char **argv, struct cmdline *ret_cl, int *ret_exit);

int cmd_enable(const struct cmdline *cl);
int cmd_disable(const struct cmdline *cl);
int cmd_up(const struct cmdline *cl);
int cmd_down(const struct cmdline *cl);
int cmd_reload(const struct cmdline *cl);
int cmd_pause(const struct cmdline *cl);
int cmd_resume(const struct cmdline *cl);
int cmd_watch(const struct cmdline *cl);
int cmd_rules(const struct cmdline *cl);
int cmd_status(const struct cmdline *cl);
int cmd_suggest(const struct cmdline *cl);
int cmd_check(const struct cmdline *cl);
int cmd_monitor(const struct cmdline *cl);

/*
 * Put the names of the links that are tunnels now in place of `--tunnel auto`,
 * for a command that takes it, and say which; a copy of the command line else.
 * Returns a cmd_exit; what failed has been said.
 */
#ifdef WITHOUT_SUGGEST
static inline int cmd_find_tunnels(const struct cmdline *given, struct cmdline *ret_cl)
{
	*ret_cl = *given;
	return CMD_EXIT_DONE;
}
#else
int cmd_find_tunnels(const struct cmdline *given, struct cmdline *ret_cl);
#endif

/*
 * Fill the state from a configuration file and options: what enable, rules and
 * reload share.  0, or -errno with a text; all errors are the user's (exit 2)
 * but -ENOMEM.
 */
int cmd_read_policy(struct state *s, const char *config, const struct override *overrides, size_t n,
		    char reterr_text[CONFIG_ERR]);

#endif
