/* log.h - messages for the user, one line each: on stderr, to syslog, or to the journal */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_DEBUG };

enum log_sink {
	LOG_SINK_STDERR,  /* "leakguard: TEXT"; at start */
	LOG_SINK_SYSLOG,  /* syslog(3), facility daemon, with the process id */
	LOG_SINK_JOURNAL, /* stderr is the journal's stream: "<N>TEXT", see sd-daemon(3) */
};

/* What is said from now on; LOG_LEVEL_WARNING at start. */
void log_set_level(enum log_level level);

/* The same, but never less than before. */
void log_raise_level(enum log_level level);

/*
 * Where it is said from now on.  LOG_SINK_SYSLOG connects to the system's
 * logger at once; one that is absent or full costs messages, and one that is
 * stopped may block us, as syslog(3) does.
 */
void log_open(enum log_sink sink);

/*
 * How LOG_SINK_JOURNAL reaches the journal itself, with fields, for notify.h to
 * say: 0, or -errno and the line goes to stderr.  `priority` is syslog(3)'s,
 * `code` may be NULL.
 */
typedef int log_journal_fn(int priority, const char *code, const char *text);
void log_set_journal(log_journal_fn *journal);

/* One line each: control bytes become '?', and no more than 1,023 bytes are said.  errno stays. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * The same for what programs look for: in the journal the line carries
 * LEAKGUARD_EVENT=code, elsewhere it is the text alone.
 */
void log_event(enum log_level level, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
