/* leakguard - a kernel-level kill switch against DNS leaks.  GPL-2.0-or-later. */
#include <signal.h>
#include <stdio.h>

#include "cmd.h"
#include "log.h"

int main(int argc, char **argv)
{
	struct cmdline cl;
	int status;

	/* A reader that goes away must not end us between commit and record. */
	signal(SIGPIPE, SIG_IGN);

	if (cmdline_parse(argc, argv, &cl, &status))
		status = cl.command->run(&cl);
	if (fflush(stdout) || ferror(stdout)) {
		log_error("stdout: write error");
		if (status == CMD_EXIT_DONE)
			status = CMD_EXIT_FAILED;
	}
	return status;
}
