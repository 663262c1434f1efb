#include "survey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netwatch.h"
#include "wireguard.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define RUN	    "/run"

/* What the readers' callbacks get. */
struct reading {
	struct survey *sv;
	const struct policy *policy;
};

/* What only root is told is no failure of the rest. */
static void note_refusal(struct survey *sv, int err)
{
	sv->unprivileged |= err == -EPERM || err == -EACCES;
}

static void take_peer(void *ctx, const struct link *link, const struct endpoint *peer)
{
	const struct reading *r = ctx;
	struct survey_peer *at = &r->sv->peers[r->sv->peers_len];

	if (r->sv->peers_len == SURVEY_MAX_PEERS)
		return;
	memcpy(at->link, link->name, sizeof(at->link));
	at->endpoint = *peer;
	r->sv->peers_len++;
}

static int take_ipsec(void *ctx, const struct ipsec_policy *policy)
{
	struct survey *sv = ((const struct reading *)ctx)->sv;

	if (policy->whole && sv->ipsecs_len < SURVEY_MAX_IPSECS)
		sv->ipsecs[sv->ipsecs_len++] = *policy;
	return 0;
}

static void take_connection(void *ctx, const struct connection *c)
{
	const struct reading *r = ctx;
	struct survey *sv = r->sv;

	if (sv->sockets_len < SURVEY_MAX_SOCKETS && policy_is_guarded(r->policy, c->port) &&
	    !addr_is_loopback(&c->addr))
		sv->sockets[sv->sockets_len++] = (struct survey_socket){ .connection = *c };
}

static bool is_wanted(void *ctx, uint32_t inode)
{
	const struct survey *sv = ((const struct reading *)ctx)->sv;

	for (size_t i = 0; i < sv->sockets_len; i++)
		if (sv->sockets[i].connection.inode == inode)
			return true;
	return false;
}

/* Of several the oldest, which comes last: it has handed the socket on. */
static void take_socket(void *ctx, const struct process *p, uint32_t inode)
{
	struct survey *sv = ((const struct reading *)ctx)->sv;

	for (size_t i = 0; i < sv->sockets_len; i++)
		if (sv->sockets[i].connection.inode == inode)
			sv->sockets[i].process = *p;
}

static void take_device(void *ctx, const struct process *p, const char link[IFNAMSIZ])
{
	struct survey *sv = ((const struct reading *)ctx)->sv;
	struct survey_holder *at = &sv->holders[sv->holders_len];

	if (sv->holders_len == SURVEY_MAX_HOLDERS)
		return;
	at->process = *p;
	memcpy(at->link, link, sizeof(at->link));
	sv->holders_len++;
}

/* Of links that are up and tunnels by their kind: what leads there, and where they lead. */
static int read_tunnels(struct survey *sv, struct reading *r)
{
	int err = 0;

	for (size_t i = 0; !err && i < sv->net.links_len; i++) {
		const struct link *link = &sv->net.links[i];

		if (!link->up || !policy_is_tunnel_kind(link->kind))
			continue;
		note_refusal(sv, wireguard_read_peers(link, take_peer, r));
		err = netwatch_dump_wide(&sv->net, link->index);
	}
	return err;
}

static int read_routes(struct survey *sv)
{
	struct addr addrs[NAMESERVERS_MAX + SURVEY_MAX_SOCKETS];
	size_t n = 0;

	for (size_t i = 0; i < sv->servers.len; i++)
		addrs[n++] = sv->servers.list[i].addr;
	for (size_t i = 0; i < sv->sockets_len; i++)
		addrs[n++] = sv->sockets[i].connection.addr;
	return netwatch_lookup_routes(&sv->net, addrs, n);
}

/* Where all that is asked is on this host, whom that asks. */
static int read_servers(struct survey *sv)
{
	bool is_stub = false;
	int err;

	nameservers_read(&sv->servers, RESOLV_CONF);
	err = read_routes(sv);
	for (size_t i = 0; !err && i < sv->servers.len; i++)
		is_stub |= addr_is_loopback(&sv->servers.list[i].addr) ||
			   sv->net.routes[i].hops[0] == LOOPBACK_IFINDEX;
	if (!err && (is_stub || !sv->servers.len))
		nameservers_read_upstream(&sv->servers, RUN, &sv->net);
	return err;
}

int survey_read(struct survey *ret_sv, const struct policy *p, char reterr_text[CONFIG_ERR])
{
	struct survey *sv = ret_sv;
	struct reading r = { sv, p };
	const struct sockread_holder holder = { is_wanted, take_socket, take_device, &r };
	int err;

	*sv = (struct survey){ .unprivileged = false };
	err = netwatch_dump_links(&sv->net);
	if (!err)
		err = read_tunnels(sv, &r);
	if (!err)
		err = read_servers(sv);
	if (!err) {
		note_refusal(sv, ipsec_read(take_ipsec, &r));
		(void)sockread_connections(take_connection, &r);
		note_refusal(sv, sockread_processes(&holder));
		err = read_routes(sv);
	}
	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "links and routes: cannot read them: %s",
			 strerror(-err));
		survey_fini(sv);
	}
	return err;
}

void survey_fini(struct survey *sv)
{
	netstate_fini(&sv->net);
}
