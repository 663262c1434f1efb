/* cmd_json.h - status as JSON, as leakguard(8) documents it */
#ifndef CMD_JSON_H
#define CMD_JSON_H

struct status;

/* Print the object on stdout. */
#ifdef WITHOUT_JSON
static inline void cmd_json_status(const struct status *st)
{
	(void)st;
}
#else
void cmd_json_status(const struct status *st);
#endif

#endif
