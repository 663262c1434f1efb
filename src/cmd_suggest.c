/* suggest: a configuration from what runs now; and what --tunnel auto stands for */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "log.h"
#include "suggest.h"
#include "survey.h"

static bool is_auto(const struct override *o)
{
	return !strcmp(o->key, "tunnel") && !strcmp(o->value, "auto");
}

static int refuse_auto(const struct survey *sv)
{
	const struct link *unsure = suggest_unsure(sv);

	if (unsure)
		log_error("--tunnel auto: %s (%s) is not taken without its name, expected --tunnel with its name if it is the VPN",
			  unsure->name, unsure->kind);
	else
		log_error(
			"--tunnel auto: no tunnel is up that a default route or the way to a name server leads through, expected the VPN to be connected, or its link's name");
	return CMD_EXIT_FAILED;
}

/* The options once more, with these links in place of each "auto". */
static int name_tunnels(struct cmdline *cl, const struct cmdline *given,
			const struct link *const *links, size_t n)
{
	cl->overrides_len = 0;
	for (size_t i = 0; i < given->overrides_len; i++) {
		const struct override *o = &given->overrides[i];
		const bool found = is_auto(o);

		for (size_t k = 0; k < (found ? n : 1); k++) {
			if (cl->overrides_len == STATE_MAX_OVERRIDES) {
				log_error("--tunnel auto: expected at most %d options with what was found",
					  STATE_MAX_OVERRIDES);
				return CMD_EXIT_FAILED;
			}
			cl->overrides[cl->overrides_len] = *o;
			if (found)
				strcpy(cl->overrides[cl->overrides_len].value, links[k]->name);
			cl->overrides_len++;
		}
	}
	return CMD_EXIT_DONE;
}

int cmd_find_tunnels(const struct cmdline *given, struct cmdline *ret_cl)
{
	const struct link *links[POLICY_MAX_TUNNELS];
	char text[CONFIG_ERR], why[SUGGEST_TEXT];
	bool is_asked = false;
	struct survey sv;
	struct policy p;
	int status;
	size_t n;

	*ret_cl = *given;
	for (size_t i = 0; i < given->overrides_len; i++)
		is_asked |= is_auto(&given->overrides[i]);
	/* Elsewhere the key's parser says why not. */
	if (!is_asked || !(given->command->takes & CMD_TAKES_AUTO))
		return CMD_EXIT_DONE;
	policy_init(&p);
	if (survey_read(&sv, &p, text)) {
		log_error("--tunnel auto: %s", text);
		return CMD_EXIT_FAILED;
	}
	n = suggest_tunnels(&sv, links);
	status = n ? name_tunnels(ret_cl, given, links, n) : refuse_auto(&sv);
	for (size_t i = 0; status == CMD_EXIT_DONE && i < n; i++) {
		/* Not on stdout, which is nft's with `rules`. */
		fprintf(stderr, "leakguard: --tunnel auto: %s, of kind %s. %s through it\n",
			links[i]->name, links[i]->kind, suggest_why(&sv, links[i], why));
	}
	survey_fini(&sv);
	return status;
}

int cmd_suggest(const struct cmdline *cl)
{
	char text[CONFIG_ERR];
	struct survey sv;
	struct policy p;
	bool found = false;
	int err;

	(void)cl;
	policy_init(&p);
	err = survey_read(&sv, &p, text);
	if (err) {
		log_error("%s", text);
		return CMD_EXIT_FAILED;
	}
	err = suggest_print(&sv, &p, stdout, &found);
	survey_fini(&sv);
	policy_fini(&p);
	if (err) {
		log_error("stdout: %s", strerror(-err));
		return CMD_EXIT_FAILED;
	}
	if (!found)
		log_warning("no tunnel found: what was printed closes all name traffic");
	return CMD_EXIT_DONE;
}
