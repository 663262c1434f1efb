#include "check_system.h"

int check_system(const char *root, const struct policy *p, const struct netstate *ns,
		 finding_fn *found, void *ctx)
{
	(void)root;
	(void)p;
	(void)ns;
	(void)found;
	(void)ctx;
	return 0;
}
