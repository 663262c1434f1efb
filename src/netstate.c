#include "netstate.h"

#include <stdlib.h>
#include <string.h>

void netstate_fini(struct netstate *ns)
{
	free(ns->links);
	free(ns->routes);
	free(ns->wides);
	*ns = (struct netstate){ 0 };
}

struct link *netstate_add_link(struct netstate *ns)
{
	if (ns->links_len == ns->links_room) {
		const size_t room = ns->links_room ? ns->links_room * 2 : 16;
		struct link *links = realloc(ns->links, room * sizeof(*links));

		if (!links)
			return NULL;
		ns->links = links;
		ns->links_room = room;
	}
	return &ns->links[ns->links_len++];
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
