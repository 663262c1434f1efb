#include "netstate.h"

#include <stdlib.h>
#include <string.h>

void netstate_fini(struct netstate *ns)
{
	free(ns->links);
	free(ns->routes);
	*ns = (struct netstate){ 0 };
}

const struct link *netstate_link(const struct netstate *ns, int index)
{
	for (size_t i = 0; i < ns->links_len; i++)
		if (ns->links[i].index == index)
			return &ns->links[i];
	return NULL;
}

const struct link *netstate_link_named(const struct netstate *ns, const char *name)
{
	for (size_t i = 0; i < ns->links_len; i++)
		if (!strncmp(ns->links[i].name, name, IFNAMSIZ))
			return &ns->links[i];
	return NULL;
}
