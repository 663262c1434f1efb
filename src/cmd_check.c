/* check */
#include "cmd.h"

int cmd_check(const struct cmdline *cl)
{
	(void)cl;
	return CMD_EXIT_FAILED;
}
