#include "lookup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

#include "log.h"
#include "state.h"

static bool same_host(const struct endpoint_host *a, const struct endpoint_host *b)
{
	return !strcmp(a->name, b->name) && a->port == b->port && a->proto == b->proto &&
	       a->mark == b->mark;
}

static int lookup_host(struct state *s, const struct endpoint_host *host)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = host->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM,
		.ai_protocol = host->proto,
	};
	struct addrinfo *found = NULL;
	int err = 0, gai = getaddrinfo(host->name, NULL, &hints, &found);

	if (gai) {
		log_debug("endpoint \"%s\": cannot look it up: %s", host->name, gai_strerror(gai));
		return 0;
	}
	for (const struct addrinfo *ai = found; ai && !err; ai = ai->ai_next) {
		struct addr addr = { .family = (sa_family_t)ai->ai_family };

		if (ai->ai_family == AF_INET)
			memcpy(addr.bytes, &((struct sockaddr_in *)ai->ai_addr)->sin_addr, 4);
		else if (ai->ai_family == AF_INET6)
			memcpy(addr.bytes, &((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr, 16);
		else
			continue;
		if (addr_is_unicast(&addr))
			err = state_add_lookup(s, host, &addr);
	}
	freeaddrinfo(found);
	return err;
}

int lookup_endpoints(struct state *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < s->policy.hosts_len; i++)
		err = lookup_host(s, &s->policy.hosts[i]);
	return err;
}

static bool is_found(const struct state *s, const struct endpoint_host *host)
{
	for (size_t i = 0; i < s->lookups_len; i++)
		if (same_host(&s->lookups[i].host, host))
			return true;
	return false;
}

/* The addresses of this name from before, also if it had another port then. */
static int keep_before(struct state *s, const struct state *before,
		       const struct endpoint_host *host, size_t *ret_kept)
{
	int err = 0;

	*ret_kept = 0;
	for (size_t i = 0; before && !err && i < before->lookups_len; i++) {
		if (strcmp(before->lookups[i].host.name, host->name))
			continue;
		err = state_add_lookup(s, host, &before->lookups[i].addr);
		(*ret_kept)++;
	}
	return err;
}

int lookup_complete(struct state *s, const struct state *before, char reterr_text[CONFIG_ERR])
{
	for (size_t i = 0; i < s->policy.hosts_len; i++) {
		const struct endpoint_host *host = &s->policy.hosts[i];
		size_t kept;

		if (is_found(s, host))
			continue;
		if (keep_before(s, before, host, &kept)) {
			snprintf(reterr_text, CONFIG_ERR, "out of memory");
			return -ENOMEM;
		}
		if (!kept) {
			snprintf(reterr_text, CONFIG_ERR,
				 "endpoint \"%s\": no address, expected a name that can be looked up before the guard rises, or an address",
				 host->name);
			return -EHOSTUNREACH;
		}
		log_warning("endpoint \"%s\": keeping %zu address%s looked up before", host->name,
			    kept, kept == 1 ? "" : "es");
	}
	return 0;
}
