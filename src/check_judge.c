#include "check_judge.h"

#include <errno.h>
#include <string.h>

#include "frames.h"

const char *check_verdict_format(enum check_verdict verdict)
{
	static const char *const names[CHECK_VERDICTS] = {
		[CHECK_VERDICT_LEAK] = "leak",	     [CHECK_VERDICT_UNSURE] = "unsure",
		[CHECK_VERDICT_STOPPED] = "stopped", [CHECK_VERDICT_APPROVED] = "approved",
		[CHECK_VERDICT_INSIDE] = "inside",   [CHECK_VERDICT_NO_ROUTE] = "no-route",
	};

	return names[verdict];
}

const char *check_approval_format(enum check_approval approval)
{
	static const char names[][10] = {
		[CHECK_APPROVAL_NONE] = "",
		[CHECK_APPROVAL_CARRIER] = "carrier",
		[CHECK_APPROVAL_RESOLVER] = "resolver",
		[CHECK_APPROVAL_PAUSE] = "pause",
	};

	return names[approval];
}

static enum frames_role role_of(const struct check_law *law, int index)
{
	const struct link *link = netstate_link(law->net, index);

	/* One that appeared meanwhile is nobody's tunnel. */
	return link ? frames_role(law->policy, law->net, link) : FRAMES_ROLE_GUARDED;
}

static bool was_in_tunnel(const struct check_law *law, const struct check_shot *s)
{
	for (size_t i = 0; i < s->left_len; i++)
		if (role_of(law, s->left[i]) == FRAMES_ROLE_TUNNEL)
			return true;
	return false;
}

/*
 * Whether what left by this link left to the world.  Below a tunnel that stands
 * on other links its packets are seen as they are, and so are frames sent there,
 * which nothing can tell from them.
 */
static bool is_outside(const struct check_law *law, const struct check_shot *s, int index)
{
	switch (role_of(law, index)) {
	case FRAMES_ROLE_GUARDED:
		return true;
	case FRAMES_ROLE_CARRIER:
		return !check_way_is_frame(s->way) && !was_in_tunnel(law, s);
	case FRAMES_ROLE_LOOPBACK:
	case FRAMES_ROLE_TUNNEL:
	case FRAMES_ROLE_INSIDE:
		break;
	}
	return false;
}

/* Whether this way out is the approved one, or stands below it. */
static bool is_by_link(const struct check_law *law, const char *name, int index)
{
	const struct link *left = netstate_link(law->net, index);
	const struct link *tied = netstate_link_named(law->net, name);

	return left && tied && (left == tied || frames_is_below(law->net, tied, left));
}

static bool is_resolver(const struct check_law *law, const struct check_target *t, uint16_t port,
			int left, bool in_tunnel)
{
	for (size_t i = 0; i < law->policy->resolvers_len; i++) {
		const struct resolver *r = &law->policy->resolvers[i];

		if (addr_cmp(&r->addr, &t->addr) || (r->port && r->port != port))
			continue;
		switch (r->path) {
		case RESOLVER_PATH_ANY:
			return true;
		case RESOLVER_PATH_STICKY:
			if (in_tunnel || !pins_has(law->pins, &r->addr))
				return true;
			break;
		case RESOLVER_PATH_TUNNEL:
			if (in_tunnel)
				return true;
			break;
		case RESOLVER_PATH_LINK:
			if (is_by_link(law, r->link, left))
				return true;
			break;
		}
	}
	return false;
}

/* Ours carry no mark. */
static bool is_carrier(const struct policy *p, const struct check_target *t, uint16_t port,
		       uint8_t proto)
{
	for (size_t i = 0; i < p->endpoints_len; i++) {
		const struct endpoint *e = &p->endpoints[i];

		if (!addr_cmp(&e->addr, &t->addr) && e->port == port && e->proto == proto &&
		    !e->mark)
			return true;
	}
	return false;
}

/* Which approval lets this packet out by this link, in the order of the promises. */
static enum check_approval approval_of(const struct check_law *law, const struct check_plan *plan,
				       const struct check_shot *s, int left)
{
	const struct check_target *t = &plan->targets[s->target];

	if (is_carrier(law->policy, t, s->port, s->proto))
		return CHECK_APPROVAL_CARRIER;
	if (law->policy->mode == POLICY_MODE_EITHER && is_resolver(law, t, s->port, left, false))
		return CHECK_APPROVAL_RESOLVER;
	return law->paused ? CHECK_APPROVAL_PAUSE : CHECK_APPROVAL_NONE;
}

/* Mode both: through a tunnel, and to an approved resolver. */
static bool may_be_in_tunnel(const struct check_law *law, const struct check_plan *plan,
			     const struct check_shot *s, int left)
{
	const struct check_target *t = &plan->targets[s->target];

	return law->policy->mode == POLICY_MODE_EITHER || law->paused ||
	       is_carrier(law->policy, t, s->port, s->proto) ||
	       is_resolver(law, t, s->port, left, true);
}

static struct check_finding judge_seen(const struct check_law *law, const struct check_plan *plan,
				       const struct check_shot *s)
{
	struct check_finding f = { .verdict = CHECK_VERDICT_INSIDE, .left = s->left[0] };

	for (size_t i = 0; i < s->left_len; i++) {
		const int left = s->left[i];
		enum check_approval approval = CHECK_APPROVAL_NONE;

		if (role_of(law, left) == FRAMES_ROLE_TUNNEL) {
			if (may_be_in_tunnel(law, plan, s, left))
				continue;
		} else if (is_outside(law, s, left)) {
			approval = approval_of(law, plan, s, left);
		} else {
			continue;
		}
		f.left = left;
		f.approval = approval;
		f.verdict = approval ? CHECK_VERDICT_APPROVED : CHECK_VERDICT_LEAK;
		if (!approval)
			return f;
	}
	return f;
}

/* The network is to blame, not a rule: EPERM is one of netfilter's. */
static bool is_route_error(int err)
{
	return err == -ENETUNREACH || err == -EHOSTUNREACH || err == -EADDRNOTAVAIL ||
	       err == -ENETDOWN || err == -EAFNOSUPPORT || err == -EINVAL;
}

/* Whether the control went where the query would have gone. */
static bool proves(const struct check_law *law, const struct check_shot *query,
		   const struct check_shot *control)
{
	for (size_t i = 0; i < control->left_len; i++)
		if (query->way == CHECK_WAY_PLAIN || is_outside(law, control, control->left[i]) ||
		    role_of(law, control->left[i]) == FRAMES_ROLE_CARRIER)
			return true;
	return false;
}

struct check_finding check_judge(const struct check_law *law, const struct check_plan *plan,
				 const struct check_shot *query)
{
	const struct check_shot *control = &plan->shots[query->control];

	if (query->left_len)
		return judge_seen(law, plan, query);
	if (query->no_route || (is_route_error(query->err) && is_route_error(control->err)))
		return (struct check_finding){ .verdict = CHECK_VERDICT_NO_ROUTE };
	/* Policy-mode IPsec takes it, and nobody sees it leave. */
	if (query->counted == 4 && !control->left_len)
		return (struct check_finding){ .verdict = CHECK_VERDICT_INSIDE };
	if (plan->lost || !proves(law, query, control))
		return (struct check_finding){ .verdict = CHECK_VERDICT_UNSURE };
	return (struct check_finding){ .verdict = CHECK_VERDICT_STOPPED,
				       .stopped_by = query->counted };
}

void check_judge_all(const struct check_law *law, const struct check_plan *plan,
		     size_t ret_counts[CHECK_VERDICTS])
{
	memset(ret_counts, 0, CHECK_VERDICTS * sizeof(*ret_counts));
	for (size_t i = 0; i < plan->shots_len; i++)
		if (!plan->shots[i].is_control)
			ret_counts[check_judge(law, plan, &plan->shots[i]).verdict]++;
}
