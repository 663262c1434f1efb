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

/* The list, or a longer copy, with room for one element more; NULL: out of memory, it is as before. */
static void *grow(void *list, size_t len, size_t *room, size_t size)
{
	const size_t more = *room ? *room * 2 : 16;
	void *longer;

	if (len < *room)
		return list;
	longer = realloc(list, more * size);
	if (longer)
		*room = more;
	return longer;
}

struct link *netstate_add_link(struct netstate *ns)
{
	struct link *links = grow(ns->links, ns->links_len, &ns->links_room, sizeof(*links));

	if (!links)
		return NULL;
	ns->links = links;
	return &links[ns->links_len++];
}

struct wide_route *netstate_add_wide(struct netstate *ns)
{
	struct wide_route *wides = grow(ns->wides, ns->wides_len, &ns->wides_room, sizeof(*wides));

	if (!wides)
		return NULL;
	ns->wides = wides;
	return &wides[ns->wides_len++];
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
