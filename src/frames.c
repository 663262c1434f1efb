#include "frames.h"

#include <stddef.h>
#include <string.h>

#include "netstate.h"
#include "policy.h"

#define MOST_STACKED 8 /* a VLAN on a VLAN on a bridge on a bond has four; also ends a circle */

/* Ends with an empty one. */
static bool is_one_of(const char *kind, const char (*kinds)[8])
{
	for (; **kinds; kinds++)
		if (!strcmp(kind, *kinds))
			return true;
	return false;
}

/* Links that hand on what they are given to their ports. */
static bool has_ports(const char *kind)
{
	static const char kinds[][8] = { "bridge", "bond", "team", "hsr", "" };

	return is_one_of(kind, kinds);
}

/* Links that hand on what they are given to one other, with a tag at most. */
static bool has_parent(const char *kind)
{
	static const char kinds[][8] = {
		"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "dsa", ""
	};

	return is_one_of(kind, kinds);
}

static bool is_below(const struct netstate *ns, const struct link *upper, const struct link *lower,
		     int depth)
{
	if (has_parent(upper->kind) && upper->parent) {
		const struct link *parent = netstate_link(ns, upper->parent);

		if (!parent || parent == upper || depth == MOST_STACKED)
			return false;
		return parent == lower || is_below(ns, parent, lower, depth + 1);
	}
	if (!has_ports(upper->kind) || depth == MOST_STACKED)
		return false;
	if (lower->master == upper->index && lower != upper)
		return true;
	for (size_t i = 0; i < ns->links_len; i++) {
		const struct link *port = &ns->links[i];

		if (port->master == upper->index && port != upper &&
		    is_below(ns, port, lower, depth + 1))
			return true;
	}
	return false;
}

bool frames_is_below(const struct netstate *ns, const struct link *upper, const struct link *lower)
{
	return is_below(ns, upper, lower, 0);
}

/*
 * Whether anything stands on the link.  Asked first, by numbers alone: of each of a
 * thousand links each is asked whether it stands on it, and on most nothing does.
 */
static bool carries_any(const struct netstate *ns, const struct link *link)
{
	if (link->master)
		return true;
	for (size_t i = 0; i < ns->links_len; i++)
		if (ns->links[i].parent == link->index && has_parent(ns->links[i].kind))
			return true;
	return false;
}

bool frames_is_bonded(const struct netstate *ns, const struct link *link)
{
	static const char kinds[][8] = { "bond", "team", "" };
	const struct link *master = link->master ? netstate_link(ns, link->master) : NULL;

	return master && is_one_of(master->kind, kinds);
}

bool frames_is_stacked(const struct netstate *ns, const struct link *link)
{
	if (!carries_any(ns, link))
		return false;
	for (size_t i = 0; i < ns->links_len; i++) {
		const struct link *upper = &ns->links[i], *outer;

		outer = !strcmp(upper->kind, "vlan") ? netstate_link(ns, upper->parent) : NULL;
		if (outer && !strcmp(outer->kind, "vlan") && frames_is_below(ns, outer, link))
			return true;
	}
	return false;
}

static bool carries_tunnel(const struct policy *p, const struct netstate *ns,
			   const struct link *link)
{
	if (!carries_any(ns, link))
		return false;
	for (size_t i = 0; i < ns->links_len; i++) {
		const struct link *l = &ns->links[i];

		if (policy_is_tunnel_link(p, l->name, l->kind) &&
		    (has_parent(l->kind) || has_ports(l->kind)) && frames_is_below(ns, l, link))
			return true;
	}
	return false;
}

enum frames_role frames_role(const struct policy *p, const struct netstate *ns,
			     const struct link *link)
{
	if (link->index == LOOPBACK_IFINDEX)
		return FRAMES_ROLE_LOOPBACK;
	if (policy_is_tunnel_link(p, link->name, link->kind))
		return FRAMES_ROLE_TUNNEL;
	if (policy_is_inside(p, link->name))
		return FRAMES_ROLE_INSIDE;
	return carries_tunnel(p, ns, link) ? FRAMES_ROLE_CARRIER : FRAMES_ROLE_GUARDED;
}
