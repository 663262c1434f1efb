#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "log.h"

enum {
	LETTER_RUN_DIR = 256,
	LETTER_VERSION,
	LETTER_JSON,
	LETTER_DRY_RUN,
	LETTER_NO_WATCH,
	LETTER_UNTIL_DISABLE,
	LETTER_SUMMARY,
	LETTER_PROMETHEUS,
};

#define LETTER_KEY  512 /* from here on: a key's place in config_keys[] */
#define MAX_OPTIONS 48

const struct cmd_option cmd_options[] = {
	{ "config", 'c', "FILE", 0,
	  "configuration file, default " CMD_CONFIG_DEFAULT " (may be absent)" },
	{ "run-dir", LETTER_RUN_DIR, "DIR", 0,
	  "what lives between commands, default " CMD_RUN_DIR_DEFAULT },
	{ "verbose", 'v', NULL, 0, "say more on stderr" },
	{ "version", LETTER_VERSION, NULL, 0, "print the version" },
	{ "help", 'h', NULL, 0, "print this help" },
	{ "dry-run", LETTER_DRY_RUN, NULL, CMD_TAKES_DRY_RUN,
	  "let the kernel check the rules, install nothing" },
	{ "no-watch", LETTER_NO_WATCH, NULL, CMD_TAKES_NO_WATCH, "leave no watcher behind" },
	{ "until-disable", LETTER_UNTIL_DISABLE, NULL, CMD_TAKES_UNTIL_DISABLE,
	  "end when the guard is lowered, as the watcher that enable leaves does" },
	{ "json", LETTER_JSON, NULL, CMD_TAKES_JSON, "print JSON, as leakguard(8) describes" },
	{ "prometheus", LETTER_PROMETHEUS, NULL, CMD_TAKES_PROMETHEUS,
	  "print counters as node_exporter's textfile collector reads them" },
	{ "quiet", 'q', NULL, CMD_TAKES_QUIET, "show no progress, and only what is wrong" },
	{ "summary", LETTER_SUMMARY, "DURATION", CMD_TAKES_SUMMARY,
	  "after 90, 90s, 5m or 1h say who asked most, for what, and end" },
	{ .name = "" },
};

bool cmd_takes_key(const struct command *command, const struct config_key *key)
{
	if (command->takes & CMD_TAKES_KEYS)
		return true;
	return (command->takes & CMD_TAKES_TUNNEL && !strcmp(key->name, "tunnel")) ||
	       (command->takes & CMD_TAKES_RESOLVER && !strcmp(key->name, "resolver")) ||
	       (command->takes & CMD_TAKES_ENDPOINT && !strcmp(key->name, "endpoint"));
}

static void print_option(const char *name, int letter, const char *arg, const char *help)
{
	char shortly[8] = "";
	int len;

	if (letter < 256)
		snprintf(shortly, sizeof(shortly), "-%c, ", letter);
	len = printf("  %s--%s%s%s", shortly, name, arg ? " " : "", arg ?: "");
	printf("%*s %s\n", len < 26 ? 26 - len : 0, "", help);
}

static void print_help(const struct command *command)
{
	if (!command) {
		puts("usage: leakguard [OPTION]... COMMAND [OPTION]...\n\nCommands:");
		for (const struct command *c = commands; *c->name; c++)
			printf("  %-24s %s\n", c->name, c->help);
	} else {
		printf("usage: leakguard %s %s\n%s.\n", command->name, command->synopsis,
		       command->help);
	}
	puts("\nOptions:");
	for (const struct config_key *k = config_keys; command && k->name; k++)
		if (cmd_takes_key(command, k))
			print_option(k->name, LETTER_KEY, k->arg, k->help);
	for (const struct cmd_option *o = cmd_options; *o->name; o++)
		if (!o->takes || (command && command->takes & o->takes))
			print_option(o->name, o->letter, o->arg, o->help);
	if (!command)
		puts("\n'leakguard COMMAND -h' tells more of each; see leakguard(8), leakguard.conf(5).");
}

/* getopt's own table for this command, or for what may stand before one. */
static void fill_options(const struct command *command, struct option *options)
{
	size_t n = 0;

	for (const struct cmd_option *o = cmd_options; *o->name && n < MAX_OPTIONS; o++)
		if (!o->takes || (command && command->takes & o->takes))
			options[n++] =
				(struct option){ o->name, o->arg ? required_argument : no_argument,
						 NULL, o->letter };
	for (const struct config_key *k = config_keys; command && k->name && n < MAX_OPTIONS; k++)
		if (cmd_takes_key(command, k))
			options[n++] = (struct option){ k->name, required_argument, NULL,
							LETTER_KEY + (int)(k - config_keys) };
	options[n] = (struct option){ 0 };
}

static bool add_override(struct cmdline *cl, const struct config_key *key, const char *value)
{
	struct override *o = &cl->overrides[cl->overrides_len];

	if (cl->overrides_len == STATE_MAX_OVERRIDES) {
		log_error("--%s: one too many, expected at most %d options; a file holds more",
			  key->name, STATE_MAX_OVERRIDES);
		return false;
	}
	if (strlen(value) >= sizeof(o->value) || strpbrk(value, "\n\r;")) {
		log_error("--%s: expected %s", key->name, key->expects);
		return false;
	}
	strcpy(o->key, key->name);
	strcpy(o->value, value);
	cl->overrides_len++;
	return true;
}

static bool usage_error(const struct command *command, const char *what, const char *why)
{
	log_error("\"%.64s\": %s, expected what 'leakguard %s%s-h' shows", what, why,
		  command ? command->name : "", command ? " " : "");
	return false;
}

/* Options up to the first word that is none.  False: *ret_exit is set. */
static bool parse_options(int argc, char **argv, struct cmdline *cl, int *ret_exit)
{
	struct option options[MAX_OPTIONS + 1];
	int letter;

	fill_options(cl->command, options);
	opterr = 0;
	optind = 0; /* start anew: we parse twice */
	while ((letter = getopt_long(argc, argv, "+:c:vhq", options, NULL)) != -1) {
		switch (letter) {
		case 'c':
			cl->config = optarg;
			cl->config_given = true;
			break;
		case LETTER_RUN_DIR:
			cl->run_dir = optarg;
			break;
		case 'v':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case LETTER_VERSION:
			puts("leakguard " CMD_VERSION);
			*ret_exit = CMD_EXIT_DONE;
			return false;
		case 'h':
			print_help(cl->command);
			*ret_exit = CMD_EXIT_DONE;
			return false;
		case 'q':
			if (!cl->command || !(cl->command->takes & CMD_TAKES_QUIET))
				return usage_error(cl->command, "-q", "unknown option");
			cl->quiet = true;
			break;
		case LETTER_SUMMARY:
			cl->summary = optarg;
			break;
		case LETTER_PROMETHEUS:
			cl->prometheus = true;
			break;
		case LETTER_JSON:
			cl->json = true;
			break;
		case LETTER_DRY_RUN:
			cl->dry_run = true;
			break;
		case LETTER_NO_WATCH:
			cl->no_watch = true;
			break;
		case LETTER_UNTIL_DISABLE:
			cl->until_disable = true;
			break;
		case ':':
			return usage_error(cl->command, argv[optind - 1], "needs a value");
		case '?':
			return usage_error(cl->command, argv[optind - 1], "unknown option");
		default:
			if (!add_override(cl, &config_keys[letter - LETTER_KEY], optarg))
				return false;
		}
	}
	return true;
}

bool cmdline_parse(int argc, char **argv, struct cmdline *ret_cl, int *ret_exit)
{
	struct cmdline *cl = ret_cl;
	const char *word;

	*cl = (struct cmdline){ .config = CMD_CONFIG_DEFAULT, .run_dir = CMD_RUN_DIR_DEFAULT };
	*ret_exit = CMD_EXIT_USAGE;
	if (!parse_options(argc, argv, cl, ret_exit))
		return false;
	if (optind >= argc) {
		log_error("no command, expected one of those that 'leakguard -h' shows");
		return false;
	}

	argc -= optind;
	argv += optind;
	word = argv[0];
	for (const struct command *c = commands; *c->name && !cl->command; c++)
		if (!strcmp(c->name, word))
			cl->command = c;
	if (!cl->command)
		return usage_error(NULL, word, "unknown command");
	if (!parse_options(argc, argv, cl, ret_exit))
		return false;
	if (cl->command->takes & CMD_TAKES_WORD) {
		if (optind >= argc) {
			log_error("%s: expected %s", cl->command->name, cl->command->synopsis);
			return false;
		}
		cl->word = argv[optind++];
	}
	if (optind < argc)
		return usage_error(cl->command, argv[optind], "unexpected word");
	return true;
}
