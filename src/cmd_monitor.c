/* monitor */
#include "cmd.h"

int cmd_monitor(const struct cmdline *cl)
{
	(void)cl;
	return CMD_EXIT_FAILED;
}
