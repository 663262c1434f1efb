/*
 * gendoc - fills the templates of manual pages and completions from the program's own tables
 *
 * A filter, run at build time only.  A line "@word@" or "@word ARGUMENT@" is
 * replaced by the lines that its printer makes; "@word@" within a line by the
 * text of that name.  A template that tells of one command or key has to tell
 * of each, so that none is added without its documentation.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "policy.h"
#include "ruleset.h"

#define MAX_NAMES 64	      /* commands or keys; a template that tells of more is refused */
#define DURATIONS "90s 5m 1h" /* offered where one is to be typed */

/* Names that a template has told of so far. */
struct told {
	const char *names[MAX_NAMES];
	size_t len;
};

struct page {
	unsigned int line;
	struct told commands, keys;
};

static void __attribute__((noreturn))
fail(const struct page *page, const char *what, const char *why)
{
	fprintf(stderr, "gendoc: line %u: %s: %s\n", page->line, what, why);
	exit(1);
}

static bool has_told(const struct told *told, const char *name)
{
	for (size_t i = 0; i < told->len; i++)
		if (!strcmp(told->names[i], name))
			return true;
	return false;
}

static void tell(const struct page *page, struct told *told, const char *name)
{
	if (has_told(told, name))
		fail(page, name, "told of twice");
	if (told->len == MAX_NAMES)
		fail(page, name, "one too many");
	told->names[told->len++] = name;
}

static bool has_letter(const struct cmd_option *o)
{
	return o->letter < 256;
}

/* --- manual pages, mdoc(7) --- */

/* Text in roff: a minus is no hyphen, a backslash itself, nothing is taken for a request. */
static void print_roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (const char *c = text; *c; c++) {
		if (*c == '\\')
			fputs("\\e", stdout);
		else if (*c == '-' && (c == text || c[-1] == '-' || c[-1] == ' ' || c[-1] == '['))
			fputs("\\-", stdout);
		else
			putchar(*c);
	}
}

/* A line of a table as a sentence. */
static void print_roff_sentence(const char *text)
{
	putchar(toupper((unsigned char)*text));
	print_roff(text + 1);
	puts(".");
}

static void print_man_option(const char *name, int letter, const char *arg)
{
	fputs(".It ", stdout);
	if (letter)
		printf("Fl %c , ", letter);
	printf("Fl -%s", name);
	if (arg)
		printf(" Ar %s", arg);
	putchar('\n');
}

static void print_man_options(unsigned int takes)
{
	for (const struct cmd_option *o = cmd_options; *o->name; o++)
		if (takes ? o->takes & takes : !o->takes) {
			print_man_option(o->name, has_letter(o) ? o->letter : 0, o->arg);
			print_roff_sentence(o->help);
		}
}

static void man_synopsis(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct command *c = commands; *c->name; c++) {
		printf(".Nm\n.Op Ar option ...\n.Ic %s\n", c->name);
		if (*c->synopsis) {
			print_roff(c->synopsis);
			putchar('\n');
		}
	}
}

static void man_command(struct page *page, const char *name)
{
	const struct command *c = commands;

	while (*c->name && strcmp(c->name, name))
		c++;
	if (!*c->name)
		fail(page, name, "no such command");
	tell(page, &page->commands, c->name);
	printf(".It Ic %s", c->name);
	if (*c->synopsis) {
		fputs(" No ", stdout);
		print_roff(c->synopsis);
	}
	putchar('\n');
	print_roff_sentence(c->help);
}

static void man_global_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	print_man_options(0);
}

static void man_command_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	print_man_options(~0U);
}

static void man_key_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct config_key *k = config_keys; k->name; k++) {
		print_man_option(k->name, 0, k->arg);
		print_roff_sentence(k->help);
		if (k->repeats)
			puts("May be given more than once.");
	}
}

static void man_key(struct page *page, const char *name)
{
	const struct config_key *k = config_key_find(name);

	if (!k)
		fail(page, name, "no such key");
	tell(page, &page->keys, k->name);
	printf(".It Ic %s No = Ar %s\nTakes ", k->name, k->arg);
	print_roff(k->expects);
	puts(".");
	puts(k->repeats ? "May be given more than once; each line adds an entry." :
			  "The last line counts.");
}

/* --- bash --- */

static void bash_commands(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	fputs("\t\t_leakguard_words '", stdout);
	for (const struct command *c = commands; *c->name; c++)
		printf(" %s", c->name);
	puts("'");
}

static void bash_global_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	fputs("\tlocal options='", stdout);
	for (const struct cmd_option *o = cmd_options; *o->name; o++)
		if (!o->takes)
			printf(" --%s", o->name);
	puts("'");
}

static void bash_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct command *c = commands; *c->name; c++) {
		printf("\t%s) options+='", c->name);
		for (const struct config_key *k = config_keys; k->name; k++)
			if (cmd_takes_key(c, k))
				printf(" --%s", k->name);
		for (const struct cmd_option *o = cmd_options; *o->name; o++)
			if (o->takes & c->takes)
				printf(" --%s", o->name);
		puts("' ;;");
	}
}

/* What an argument of this placeholder is, as a call of one of the template's functions; or NULL. */
static const char *bash_call(const char *placeholder)
{
	static const struct {
		const char *arg, *call;
	} kinds[] = { { "IF", "_leakguard_links" },
		      { "FILE", "_leakguard_files -f" },
		      { "DIR", "_leakguard_files -d" },
		      { "DURATION", "_leakguard_words '" DURATIONS "'" } };

	for (size_t i = 0; placeholder && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(placeholder, kinds[i].arg))
			return kinds[i].call;
	return NULL;
}

static void bash_values(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct cmd_option *o = cmd_options; *o->name; o++)
		if (bash_call(o->arg)) {
			putchar('\t');
			if (has_letter(o))
				printf("-%c|", o->letter);
			printf("--%s) %s; return ;;\n", o->name, bash_call(o->arg));
		}
	for (const struct config_key *k = config_keys; k->name; k++) {
		printf("\t--%s) ", k->name);
		if (k->values)
			printf("_leakguard_words '%s'; ", k->values);
		if (bash_call(k->arg))
			printf("%s; ", bash_call(k->arg));
		puts("return ;;");
	}
}

/* Links are not all that `--tunnel` takes there. */
static void bash_auto(struct page *page, const char *arg)
{
	const char *bar = "";

	(void)page, (void)arg;
	fputs("\t[[ $prev == --tunnel && $command == @(", stdout);
	for (const struct command *c = commands; *c->name; c++)
		if (c->takes & CMD_TAKES_AUTO) {
			printf("%s%s", bar, c->name);
			bar = "|";
		}
	puts(") ]] && links+=' auto'");
}

/* The word of a command that takes one: its synopsis is that word's placeholder. */
static void bash_words(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct command *c = commands; *c->name; c++)
		if (c->takes & CMD_TAKES_WORD && bash_call(c->synopsis))
			printf("\t%s) %s; return ;;\n", c->name, bash_call(c->synopsis));
}

/* --- zsh --- */

/* Within single quotes, and within the brackets of _arguments. */
static void print_zsh(const char *text)
{
	for (const char *c = text; *c; c++) {
		if (*c == '\'')
			fputs("'\\''", stdout);
		else if (*c == '[' || *c == ']')
			printf("\\%c", *c);
		else
			putchar(*c);
	}
}

/* What _arguments does for an argument of this placeholder. */
static void print_zsh_action(const char *placeholder)
{
	if (!strcmp(placeholder, "IF|auto"))
		fputs("_leakguard_tunnels", stdout);
	else if (!strcmp(placeholder, "IF"))
		fputs("_leakguard_links", stdout);
	else if (!strcmp(placeholder, "FILE"))
		fputs("_files", stdout);
	else if (!strcmp(placeholder, "DIR"))
		fputs("_directories", stdout);
	else if (!strcmp(placeholder, "DURATION"))
		fputs("(" DURATIONS ")", stdout);
}

static void print_zsh_option(const char *name, int letter, const char *arg, const char *values,
			     bool repeats, const char *help)
{
	const char *const equals = arg ? "=" : "";

	fputs("\t\t", stdout);
	if (letter)
		printf("'(-%c --%s)'{-%c%s,--%s%s}'[", letter, name, letter, arg ? "+" : "", name,
		       equals);
	else
		printf("'%s--%s%s[", repeats ? "*" : "", name, equals);
	print_zsh(help);
	putchar(']');
	if (arg)
		printf(":%s:", arg);
	if (values)
		printf("(%s)", values);
	else if (arg)
		print_zsh_action(arg);
	puts("'");
}

static void zsh_commands(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct command *c = commands; *c->name; c++) {
		printf("\t\t'%s:", c->name);
		print_zsh(c->help);
		puts("'");
	}
}

static void zsh_global_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct cmd_option *o = cmd_options; *o->name; o++)
		if (!o->takes)
			print_zsh_option(o->name, has_letter(o) ? o->letter : 0, o->arg, NULL,
					 false, o->help);
}

static void zsh_options(struct page *page, const char *arg)
{
	(void)page, (void)arg;
	for (const struct command *c = commands; *c->name; c++) {
		printf("\t%s) options+=(\n", c->name);
		for (const struct config_key *k = config_keys; k->name; k++)
			if (cmd_takes_key(c, k))
				print_zsh_option(k->name, 0,
						 c->takes & CMD_TAKES_AUTO &&
								 !strcmp(k->name, "tunnel") ?
							 "IF|auto" :
							 k->arg,
						 k->values, k->repeats, k->help);
		for (const struct cmd_option *o = cmd_options; *o->name; o++)
			if (o->takes & c->takes)
				print_zsh_option(o->name, 0, o->arg, NULL, false, o->help);
		if (c->takes & CMD_TAKES_WORD) {
			printf("\t\t'1:%s:", c->synopsis);
			print_zsh_action(c->synopsis);
			puts("'");
		}
		puts("\t) ;;");
	}
}

/* --- the template --- */

static const struct {
	const char *word;
	void (*print)(struct page *page, const char *arg);
} printers[] = {
	{ "man-synopsis", man_synopsis },
	{ "man-command", man_command },
	{ "man-global-options", man_global_options },
	{ "man-command-options", man_command_options },
	{ "man-key-options", man_key_options },
	{ "man-key", man_key },
	{ "bash-commands", bash_commands },
	{ "bash-global-options", bash_global_options },
	{ "bash-options", bash_options },
	{ "bash-values", bash_values },
	{ "bash-auto", bash_auto },
	{ "bash-words", bash_words },
	{ "zsh-commands", zsh_commands },
	{ "zsh-global-options", zsh_global_options },
	{ "zsh-options", zsh_options },
};

static const struct {
	const char *word;
	long number; /* where the others are NULL */
	const char *text;
	const char *const *list; /* ends with NULL; printed with commas */
} texts[] = {
	{ "version", 0, CMD_VERSION, NULL },
	{ "config", 0, CMD_CONFIG_DEFAULT, NULL },
	{ "run-dir", 0, CMD_RUN_DIR_DEFAULT, NULL },
	{ "max-tunnels", POLICY_MAX_TUNNELS, NULL, NULL },
	{ "max-exempts", POLICY_MAX_EXEMPTS, NULL, NULL },
	{ "max-ports", POLICY_MAX_PORTS, NULL, NULL },
	{ "max-resolvers", POLICY_MAX_RESOLVERS, NULL, NULL },
	{ "max-endpoints", POLICY_MAX_ENDPOINTS, NULL, NULL },
	{ "max-hosts", POLICY_MAX_HOSTS, NULL, NULL },
	{ "host-bytes", POLICY_HOST_TEXT - 1, NULL, NULL },
	{ "max-kinds", POLICY_MAX_KINDS, NULL, NULL },
	{ "tunnel-kinds", 0, NULL, policy_tunnel_kinds },
	{ "max-options", STATE_MAX_OVERRIDES, NULL, NULL },
	{ "lock-seconds", RUNDIR_LOCK_MS / 1000, NULL, NULL },
	{ "priority", RULESET_PRIORITY, NULL, NULL },
};

static void print_text(const struct page *page, const char *word)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (strcmp(texts[i].word, word))
			continue;
		for (size_t k = 0; texts[i].list && texts[i].list[k]; k++)
			printf("%s%s", k ? ", " : "", texts[i].list[k]);
		if (texts[i].text)
			fputs(texts[i].text, stdout);
		else if (!texts[i].list)
			printf("%ld", texts[i].number);
		return;
	}
	fail(page, word, "no such text");
}

/* A line that is all one placeholder. */
static bool print_block(struct page *page, char *line)
{
	const size_t len = strlen(line);
	char *arg;

	if (len < 3 || line[0] != '@' || line[len - 1] != '@' || memchr(line + 1, '@', len - 2))
		return false;
	line[len - 1] = '\0';
	arg = strchr(line, ' ');
	if (arg)
		*arg++ = '\0';
	for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++)
		if (!strcmp(printers[i].word, line + 1)) {
			printers[i].print(page, arg ? arg : "");
			return true;
		}
	fail(page, line + 1, "no such printer");
}

static void print_line(const struct page *page, char *line)
{
	char *end;

	for (char *at = line; (at = strchr(at, '@')); at = line) {
		end = at + 1 + strspn(at + 1, "abcdefghijklmnopqrstuvwxyz-");
		if (*end != '@' || end == at + 1) {
			/* An at sign of its own. */
			printf("%.*s", (int)(at + 1 - line), line);
			line = at + 1;
			continue;
		}
		*end = '\0';
		printf("%.*s", (int)(at - line), line);
		print_text(page, at + 1);
		line = end + 1;
	}
	puts(line);
}

static void check_told(const struct page *page)
{
	for (const struct command *c = commands; page->commands.len && *c->name; c++)
		if (!has_told(&page->commands, c->name))
			fail(page, c->name, "this command is not told of");
	for (const struct config_key *k = config_keys; page->keys.len && k->name; k++)
		if (!has_told(&page->keys, k->name))
			fail(page, k->name, "this key is not told of");
}

int main(void)
{
	struct page page = { 0 };
	char line[1024];

	while (fgets(line, sizeof(line), stdin)) {
		page.line++;
		line[strcspn(line, "\n")] = '\0';
		if (!print_block(&page, line))
			print_line(&page, line);
	}
	check_told(&page);
	return ferror(stdin) || fflush(stdout) || ferror(stdout);
}
