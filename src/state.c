#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define PAUSE_LAPSE_MS 1000 /* by which our clock and the kernel's may differ */

void state_init(struct state *s)
{
	*s = (struct state){ 0 };
	policy_init(&s->policy);
}

void state_fini(struct state *s)
{
	policy_fini(&s->policy);
	for (size_t i = 0; i < s->ups_len; i++) {
		free(s->ups[i].resolvers);
		free(s->ups[i].endpoints);
	}
	free(s->lookups);
	free(s->pins.addrs);
	state_init(s);
}

bool state_remove_up(struct state *s, const char *link)
{
	for (size_t i = 0; i < s->ups_len; i++) {
		if (strncmp(s->ups[i].link, link, IFNAMSIZ))
			continue;
		free(s->ups[i].resolvers);
		free(s->ups[i].endpoints);
		s->ups_len--;
		memmove(&s->ups[i], &s->ups[i + 1], (s->ups_len - i) * sizeof(s->ups[0]));
		return true;
	}
	return false;
}

/* Append n elements to a list that is owned.  0 or -ENOMEM. */
static int append(void **list, size_t *len, const void *more, size_t n, size_t size)
{
	char *longer = n ? realloc(*list, (*len + n) * size) : *list;

	if (n && !longer)
		return -ENOMEM;
	if (n)
		memcpy(longer + *len * size, more, n * size);
	*list = longer;
	*len += n;
	return 0;
}

int state_add_up(struct state *s, const struct up *more)
{
	struct up *up = s->ups;
	void *resolvers, *endpoints;
	size_t first;
	int err;

	while (up < s->ups + s->ups_len && memcmp(up->link, more->link, IFNAMSIZ))
		up++;
	if (up == s->ups + STATE_MAX_UPS)
		return -E2BIG;
	if (up == s->ups + s->ups_len) {
		*up = (struct up){ 0 };
		memcpy(up->link, more->link, IFNAMSIZ);
		s->ups_len++;
	}
	first = up->resolvers_len;
	resolvers = up->resolvers;
	endpoints = up->endpoints;
	err = append(&resolvers, &up->resolvers_len, more->resolvers, more->resolvers_len,
		     sizeof(*up->resolvers));
	up->resolvers = resolvers;
	if (!err)
		err = append(&endpoints, &up->endpoints_len, more->endpoints, more->endpoints_len,
			     sizeof(*up->endpoints));
	up->endpoints = endpoints;
	for (size_t i = first; i < up->resolvers_len; i++) {
		up->resolvers[i].path = RESOLVER_PATH_LINK;
		memcpy(up->resolvers[i].link, up->link, IFNAMSIZ);
	}
	return err;
}

int state_put_up(struct state *s, const struct up *up)
{
	state_remove_up(s, up->link);
	return state_add_up(s, up);
}

int state_add_lookup(struct state *s, const struct endpoint_host *host, const struct addr *addr)
{
	struct lookup *more = realloc(s->lookups, (s->lookups_len + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->lookups = more;
	s->lookups[s->lookups_len++] = (struct lookup){ .host = *host, .addr = *addr };
	return 0;
}

int state_add_pin(struct state *s, const struct addr *addr)
{
	struct pins *pins = &s->pins;
	struct addr *more;
	size_t at = pins->len;

	if (pins_has(pins, addr))
		return 0;
	more = realloc(pins->addrs, (pins->len + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	pins->addrs = more;
	while (at && addr_cmp(&more[at - 1], addr) > 0)
		at--;
	memmove(more + at + 1, more + at, (pins->len - at) * sizeof(*more));
	more[at] = *addr;
	pins->len++;
	return 0;
}

static int add_up(struct policy *p, const struct up *up)
{
	struct tunnel tunnel = { .prefix = false };
	int err;

	memcpy(tunnel.name, up->link, IFNAMSIZ);
	err = policy_add_tunnel(p, &tunnel);
	for (size_t i = 0; !err && i < up->resolvers_len; i++)
		err = policy_add_resolver(p, &up->resolvers[i]);
	for (size_t i = 0; !err && i < up->endpoints_len; i++)
		err = policy_add_endpoint(p, &up->endpoints[i]);
	return err;
}

static int add_lookups(struct policy *p, const struct state *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->lookups_len; i++) {
		const struct lookup *l = &s->lookups[i];
		const struct endpoint e = { .addr = l->addr,
					    .port = l->host.port,
					    .proto = l->host.proto,
					    .mark = l->host.mark };

		err = policy_add_endpoint(p, &e);
	}
	return err;
}

int state_effective_policy(const struct state *s, struct policy *ret_policy,
			   char reterr_text[CONFIG_ERR])
{
	struct policy p;
	int err = policy_copy(&s->policy, &p);

	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "out of memory");
		return err;
	}
	for (size_t i = 0; !err && i < s->ups_len; i++)
		err = add_up(&p, &s->ups[i]);
	if (!err)
		err = add_lookups(&p, s);
	if (err == -E2BIG)
		snprintf(reterr_text, CONFIG_ERR,
			 "configuration and \"up\" together: expected at most %d tunnels, %d resolvers, %d endpoints",
			 POLICY_MAX_TUNNELS, POLICY_MAX_RESOLVERS, POLICY_MAX_ENDPOINTS);
	else if (err)
		snprintf(reterr_text, CONFIG_ERR, "out of memory");
	else
		err = policy_validate(&p, reterr_text, CONFIG_ERR);
	if (err) {
		policy_fini(&p);
		return err;
	}
	*ret_policy = p;
	return 0;
}

uint64_t state_pause_left_ms(const struct state *s)
{
	const uint64_t now_ms = s->pause_until_ms ? clock_boottime_ms() : 0;

	return s->pause_until_ms > now_ms ? s->pause_until_ms - now_ms : 0;
}

int state_pause_rules(const struct state *s, struct ruleset rules[FAMILIES])
{
	const uint64_t left_ms = state_pause_left_ms(s);
	const bool lapsing = !left_ms && s->pause_until_ms + PAUSE_LAPSE_MS > clock_boottime_ms();
	int err = 0;

	for (enum family f = 0; !err && f < FAMILIES; f++)
		err = ruleset_pause(&rules[f], left_ms, lapsing);
	return err;
}

int state_build_rules(const struct state *s, const struct policy *p, const struct netstate *ns,
		      const struct parts *parts, struct ruleset ret_rules[FAMILIES])
{
	int err = rulesets_build(p, &s->pins, ns, parts, ret_rules);

	if (err)
		return err;
	err = state_pause_rules(s, ret_rules);
	if (err)
		rulesets_fini(ret_rules);
	return err;
}
