#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static enum log_level level_now = LOG_LEVEL_WARNING;

void log_set_level(enum log_level level)
{
	level_now = level;
}

static void __attribute__((format(printf, 2, 0)))
print(enum log_level level, const char *format, va_list args)
{
	char line[1024];

	if (level > level_now)
		return;
	vsnprintf(line, sizeof(line), format, args);
	fprintf(stderr, "leakguard: %s\n", line);
}

#define DEFINE_LOG(name, level)             \
	void name(const char *format, ...)  \
	{                                   \
		va_list args;               \
                                            \
		va_start(args, format);     \
		print(level, format, args); \
		va_end(args);               \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)
