/* The table of subcommands, for main and for gendoc. */
#include "cmd.h"

#include <stddef.h>

/* Parts that were left out (WITHOUT= in the Makefile) are not known of. */
#ifdef WITHOUT_SUGGEST
#define TAKES_AUTO 0
#else
#define TAKES_AUTO CMD_TAKES_AUTO
#endif
#ifdef WITHOUT_JSON
#define TAKES_JSON    0
#define JSON_SYNOPSIS ""
#else
#define TAKES_JSON    CMD_TAKES_JSON
#define JSON_SYNOPSIS "[--json]"
#endif

#ifdef WITHOUT_PROMETHEUS
#define TAKES_PROMETHEUS    0
#define PROMETHEUS_SYNOPSIS ""
#else
#define TAKES_PROMETHEUS    CMD_TAKES_PROMETHEUS
#define PROMETHEUS_SYNOPSIS " [--prometheus]"
#endif

const struct command commands[] = {
	{ "enable", cmd_enable,
	  CMD_TAKES_KEYS | TAKES_AUTO | CMD_TAKES_DRY_RUN | CMD_TAKES_NO_WATCH, "[OPTION]...",
	  "Raise the guard; returns once the kernel has confirmed it" },
	{ "disable", cmd_disable, 0, "", "Lower the guard: the only way rules are removed" },
	{ "up", cmd_up,
	  CMD_TAKES_TUNNEL | CMD_TAKES_RESOLVER | CMD_TAKES_ENDPOINT | CMD_TAKES_NO_WATCH,
	  "--tunnel IF [--resolver R]... [--endpoint E]...",
	  "From a VPN's up hook: this tunnel is there, with these resolvers and this carrier" },
	{ "down", cmd_down, CMD_TAKES_TUNNEL, "--tunnel IF",
	  "From a VPN's down hook: tunnel and resolvers are gone; the guard stays" },
	{ "status", cmd_status, TAKES_JSON | TAKES_PROMETHEUS, JSON_SYNOPSIS PROMETHEUS_SYNOPSIS,
	  "What is in force, what was blocked, what looks wrong" },
#ifndef WITHOUT_CHECK
	{ "check", cmd_check, TAKES_JSON | CMD_TAKES_QUIET, JSON_SYNOPSIS " [-q]",
	  "Try to leak by every link that is no tunnel, and say what got out" },
#endif
#ifndef WITHOUT_MONITOR
	{ "monitor", cmd_monitor, TAKES_JSON | CMD_TAKES_SUMMARY,
	  JSON_SYNOPSIS " [--summary DURATION]",
	  "Show blocked attempts as they happen: who, what name, to whom" },
#endif
#ifndef WITHOUT_RULES
	{ "rules", cmd_rules, CMD_TAKES_KEYS | TAKES_AUTO, "[OPTION]...",
	  "Print, in nft's syntax, what enable would install; needs no root" },
#endif
#ifndef WITHOUT_SUGGEST
	{ "suggest", cmd_suggest, 0, "",
	  "Print a configuration from what runs now, with the reason for each line" },
#endif
	{ "reload", cmd_reload, 0, "", "Read the configuration again; a bad one changes nothing" },
	{ "pause", cmd_pause, CMD_TAKES_WORD, "DURATION",
	  "Let all name traffic out for 90, 90s, 5m or 1h; the kernel itself ends it" },
	{ "resume", cmd_resume, 0, "", "End a pause" },
	{ "watch", cmd_watch, CMD_TAKES_KEYS | CMD_TAKES_UNTIL_DISABLE, "[OPTION]...",
	  "The watcher in the foreground, for service managers; with options, enable first" },
	{ .name = "" },
};
