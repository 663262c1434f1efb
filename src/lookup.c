#include "lookup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

#include "log.h"
#include "state.h"

static int keep_before(struct state *s, const struct state *before,
		       const struct endpoint_host *host, size_t *ret_kept)
{
	int err = 0;

	*ret_kept = 0;
	for (size_t i = 0; before && !err && i < before->lookups_len; i++) {
		const struct lookup *l = &before->lookups[i];

		if (strcmp(l->host.name, host->name))
			continue;
		err = state_add_lookup(s, host, &l->addr);
		(*ret_kept)++;
	}
	return err;
}

static int lookup_host(struct state *s, const struct endpoint_host *host, int *ret_gai)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = host->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM,
		.ai_protocol = host->proto,
	};
	struct addrinfo *found = NULL;
	int err = 0;

	*ret_gai = getaddrinfo(host->name, NULL, &hints, &found);
	if (*ret_gai)
		return 0;
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

int lookup_endpoints(struct state *s, const struct state *before, char reterr_text[CONFIG_ERR])
{
	for (size_t i = 0; i < s->policy.hosts_len; i++) {
		const struct endpoint_host *host = &s->policy.hosts[i];
		size_t kept = 0, had = s->lookups_len;
		int gai, err = lookup_host(s, host, &gai);

		if (!err && s->lookups_len == had)
			err = keep_before(s, before, host, &kept);
		if (err) {
			snprintf(reterr_text, CONFIG_ERR, "out of memory");
			return err;
		}
		if (kept)
			log_warning("endpoint \"%s\": %s, keeping the %zu address%s looked up before",
				    host->name, gai ? gai_strerror(gai) : "no address", kept,
				    kept == 1 ? "" : "es");
		if (s->lookups_len == had) {
			snprintf(reterr_text, CONFIG_ERR,
				 "endpoint \"%s\": %s, expected a name that can be looked up before the guard rises, or an address",
				 host->name, gai ? gai_strerror(gai) : "no address");
			return -EHOSTUNREACH;
		}
	}
	return 0;
}
