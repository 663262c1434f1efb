#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

#include "text.h"

static struct {
	enum log_level level;
	enum log_sink sink;
	log_journal_fn *journal; /* NULL: none */
} now = { .level = LOG_LEVEL_WARNING };

void log_set_level(enum log_level level)
{
	now.level = level;
}

void log_raise_level(enum log_level level)
{
	if (level > now.level)
		now.level = level;
}

void log_set_journal(log_journal_fn *journal)
{
	now.journal = journal;
}

void log_open(enum log_sink sink)
{
	if (now.sink == LOG_SINK_SYSLOG)
		closelog();
	if (sink == LOG_SINK_SYSLOG)
		openlog("leakguard", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	now.sink = sink;
}

static void send_line(enum log_level level, const char *code, const char *line)
{
	static const int priorities[] = {
		[LOG_LEVEL_ERROR] = LOG_ERR,
		[LOG_LEVEL_WARNING] = LOG_WARNING,
		[LOG_LEVEL_NOTICE] = LOG_NOTICE,
		[LOG_LEVEL_DEBUG] = LOG_DEBUG,
	};

	switch (now.sink) {
	case LOG_SINK_STDERR:
		fprintf(stderr, "leakguard: %s\n", line);
		break;
	case LOG_SINK_SYSLOG:
		syslog(priorities[level], "%s", line);
		break;
	case LOG_SINK_JOURNAL:
		if (!now.journal || now.journal(priorities[level], code, line))
			fprintf(stderr, "<%d>%s\n", priorities[level], line);
		break;
	}
}

static void __attribute__((format(printf, 3, 0)))
print(enum log_level level, const char *code, const char *format, va_list args)
{
	const int saved_errno = errno;
	char raw[1024], line[1024];

	if (level > now.level)
		return;
	vsnprintf(raw, sizeof(raw), format, args);
	send_line(level, code, text_quotable(raw, line, sizeof(line)));
	errno = saved_errno;
}

#define DEFINE_LOG(name, level)                   \
	void name(const char *format, ...)        \
	{                                         \
		va_list args;                     \
                                                  \
		va_start(args, format);           \
		print(level, NULL, format, args); \
		va_end(args);                     \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_notice, LOG_LEVEL_NOTICE)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)

void log_event(enum log_level level, const char *code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print(level, code, format, args);
	va_end(args);
}
