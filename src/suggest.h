/*
 * suggest.h - facts about the machine -> a configuration, each line with its reason.  Pure.
 *
 * It never opens more than it has a reason for: what may be a way to the
 * provider is written as a comment, for the user to judge.
 */
#ifndef SUGGEST_H
#define SUGGEST_H

#include <stdbool.h>
#include <stdio.h>

#include "policy.h"
#include "survey.h"

/* What a link is taken for. */
enum suggest_link {
	SUGGEST_LINK_NONE, /* no tunnel by its kind, or down, or nothing leads through it */
	SUGGEST_LINK_UNSURE, /* it may be a line to the provider (PPP), is not encrypted, or has an odd name */
	SUGGEST_LINK_TUNNEL,
};

/*
 * Print the configuration, in leakguard.conf(5)'s syntax.  `p` has the defaults
 * that it is written for.  *ret_found: there is a tunnel in it.  0, or -EIO.
 */
int suggest_print(const struct survey *sv, const struct policy *p, FILE *out, bool *ret_found);

/*
 * What `--tunnel auto` stands for: the tunnels that a wide route leads through;
 * without any, those that lead to a name server.  How many.
 */
size_t suggest_tunnels(const struct survey *sv, const struct link *ret_links[POLICY_MAX_TUNNELS]);

/* The first link that would be one, were it not SUGGEST_LINK_UNSURE; or NULL. */
const struct link *suggest_unsure(const struct survey *sv);

/* "Routed are 0.0.0.0/0 of table 51820", or that a name server is; "through it" may follow. */
#define SUGGEST_TEXT 320
const char *suggest_why(const struct survey *sv, const struct link *link, char buf[SUGGEST_TEXT]);

#endif
