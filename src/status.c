#include "status.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/netfilter/nf_tables.h>

#include "apply.h"
#include "clock.h"
#include "control.h"
#include "frames.h"
#include "fwblocked.h"
#include "fwdecode.h"
#include "fwlate.h"
#include "fwprobe.h"
#include "fwread.h"
#include "fwsock.h"
#include "fwtxn.h"
#include "ipsec.h"
#include "netwatch.h"
#include "ruleset.h"
#include "state.h"

#define RESOLV_CONF	"/etc/resolv.conf"
#define MAX_NAMESERVERS 16
#define NAMED_LINKS	8 /* of a warning about many */
#define AGAIN_PAUSE_MS	100
#define AGAIN_MS	2000

const char *guard_state_format(enum guard_state state)
{
	static const char names[][8] = {
		[GUARD_STATE_OFF] = "OFF",	   [GUARD_STATE_LOCKED] = "LOCKED",
		[GUARD_STATE_GUARDED] = "GUARDED", [GUARD_STATE_STALE] = "STALE",
		[GUARD_STATE_ALTERED] = "ALTERED",
	};

	return names[state];
}

const char *warning_code_format(enum warning_code code)
{
	static const char *const names[] = {
		[WARNING_RESOLV_CONF] = "resolv-conf",
		[WARNING_RESOLVER_OUTSIDE] = "resolver-outside-tunnel",
		[WARNING_NO_TUNNEL] = "no-tunnel-link",
		[WARNING_FLOWTABLE] = "flowtable",
		[WARNING_LATE_CHAIN] = "late-chain",
		[WARNING_IPV6_LACKS] = "ipv6-lacks",
		[WARNING_ALTERED] = "altered",
		[WARNING_TUNNEL_KIND] = "tunnel-kind",
		[WARNING_IPSEC_LINK] = "ipsec-link",
		[WARNING_PAUSED] = "paused",
		[WARNING_STALE] = "stale",
		[WARNING_FIGHT] = "fight",
		[WARNING_ROUTE_TRIED] = "route-tried",
		[WARNING_NO_WATCHER] = "no-watcher",
		[WARNING_NO_RECORD] = "no-record",
		[WARNING_FRAMES_LACK] = "frames-lack",
		[WARNING_REDIRECT_CLOSED] = "redirect-closed",
		[WARNING_LINK_UNCOVERED] = "link-uncovered",
	};

	return names[code];
}

const char *link_cover_format(enum link_cover cover)
{
	static const char names[][10] = {
		[LINK_COVER_COVERED] = "covered", [LINK_COVER_LOOPBACK] = "loopback",
		[LINK_COVER_TUNNEL] = "tunnel",	  [LINK_COVER_INSIDE] = "inside",
		[LINK_COVER_CARRIER] = "carrier", [LINK_COVER_NONE] = "uncovered",
	};

	return names[cover];
}

bool status_is_guarded(const struct status *st)
{
	return st->state == GUARD_STATE_LOCKED || st->state == GUARD_STATE_GUARDED ||
	       st->state == GUARD_STATE_STALE;
}

static void __attribute__((format(printf, 3, 4)))
warn(struct status *st, enum warning_code code, const char *format, ...)
{
	struct status_warning *w = &st->warnings[st->warnings_len];
	va_list args;

	if (st->warnings_len == STATUS_MAX_WARNINGS)
		return;
	st->warnings_len++;
	w->code = code;
	va_start(args, format);
	vsnprintf(w->text, sizeof(w->text), format, args);
	va_end(args);
}

/*
 * Whether the kernel's rules are those that this policy makes.  0: yes;
 * 1: no, and said in a warning; -errno.
 */
static int compare_rules(struct fwsock *fs, const struct fwtables *tables, const struct state *s,
			 bool settle, struct status *st, char text[CONFIG_ERR])
{
	struct parts parts = fwdecode_parts(tables);
	/* A table that is not there may be lacking, or have been taken away. */
	int err = fwprobe_frames(fs, &st->policy, &parts);

	if (err && err != -FWPROBE_ENOWAY)
		return err;
	parts.fragments = fwdecode_fragments(tables);
	if (st->policy.frames != FRAMES_OFF && parts.egress != PART_HAS)
		warn(st, WARNING_FRAMES_LACK,
		     "this kernel has no chains at a link's way out (CONFIG_NETFILTER_EGRESS): what packet sockets and macvlan children send is not judged, what bridges hand on is%s",
		     parts.bridge == PART_HAS ? "" : " not either (CONFIG_NF_TABLES_BRIDGE)");
	else if (st->policy.frames != FRAMES_OFF && parts.bridge != PART_HAS)
		warn(st, WARNING_FRAMES_LACK,
		     "this kernel has no tables of family bridge (CONFIG_NF_TABLES_BRIDGE): what bridged guests send is judged once its link has a chain");
	err = apply_compare(fs, s, &st->policy, &st->net, &parts, settle, text);
	if (err != 1)
		return err;
	st->state = GUARD_STATE_ALTERED;
	warn(st, WARNING_ALTERED,
	     "the rules are not as leakguard made them (first difference: %s); 'leakguard reload' puts them right",
	     text);
	return 1;
}

/*
 * What is in force.  The kernel's rules decide; the record is believed where
 * they are what it asks for, since it knows more (pins, ways).
 */
static int read_policy(struct fwsock *fs, const struct fwtables *tables, const struct rundir *rd,
		       bool settle, struct state *s, struct status *st, char text[CONFIG_ERR])
{
	const bool present = fwtables_present(tables);
	int err = rd ? state_read(rd, s, text) : -ENOENT;

	if (!err) {
		err = state_effective_policy(s, &st->policy, text);
		if (!err && present)
			err = compare_rules(fs, tables, s, settle, st, text);
		if (err <= 0)
			return err;
		policy_fini(&st->policy);
		return fwdecode_policy(tables, &st->policy);
	}
	if (!present)
		return 0;
	warn(st, WARNING_NO_RECORD,
	     "%s; 'up', 'down' and 'reload' need 'leakguard enable' once more",
	     err == -ENOENT ? "the run directory has no record of what was asked for" : text);
	err = fwdecode_policy(tables, &st->policy);
	if (!err && !st->policy.ports_len) /* rules that guard nothing are none of ours */
		policy_fini(&st->policy);
	if (!err) {
		struct state nothing;

		state_init(&nothing);
		err = compare_rules(fs, tables, &nothing, settle, st, text);
	}
	return err < 0 ? err : 0;
}

static void judge_state(const struct fwtables *tables, struct status *st)
{
	if (!fwtables_present(tables)) {
		st->state = GUARD_STATE_OFF;
		return;
	}
	if (st->state == GUARD_STATE_ALTERED)
		return;
	st->state = GUARD_STATE_LOCKED;
	if (st->watched && st->watch.stale) {
		st->state = GUARD_STATE_STALE;
		return;
	}
	for (size_t i = 0; i < st->net.links_len; i++)
		if (st->net.links[i].up && policy_is_tunnel_link(&st->policy, st->net.links[i].name,
								 st->net.links[i].kind))
			st->state = GUARD_STATE_GUARDED;
}

static int compare_counters(const void *a, const void *b)
{
	return atoi(((const struct status_counter *)a)->name + 1) -
	       atoi(((const struct status_counter *)b)->name + 1);
}

/* The counter of this name, made on first use; NULL where there is no more room. */
static struct status_counter *use_counter(struct status *st, const char *name)
{
	struct status_counter *c;

	for (size_t i = 0; i < st->counters_len; i++)
		if (!strcmp(st->counters[i].name, name))
			return &st->counters[i];
	if (st->counters_len == STATUS_MAX_COUNTERS || strlen(name) >= sizeof(c->name))
		return NULL;
	c = &st->counters[st->counters_len++];
	strcpy(c->name, name);
	return c;
}

static void read_counters(const struct fwtables *tables, struct status *st)
{
	for (enum family f = 0; f < FAMILIES; f++)
		for (size_t i = 0; i < tables->of[f].objects_len; i++) {
			const struct fwobject *o = &tables->of[f].objects[i];
			struct status_counter *c = NULL;

			if (o->type == NFT_OBJECT_COUNTER && o->name[0] == 'S')
				c = use_counter(st, o->name);
			if (c) {
				c->packets += o->packets;
				c->bytes += o->bytes;
			}
		}
	qsort(st->counters, st->counters_len, sizeof(st->counters[0]), compare_counters);
}

static bool has_chain(const struct fwtable *netdev, const struct link *link)
{
	for (size_t i = 0; i < netdev->chains_len; i++)
		if (netdev->chains[i].device &&
		    !strncmp(netdev->chains[i].device, link->name, IFNAMSIZ))
			return true;
	return false;
}

static void judge_link(const struct fwtable *netdev, const struct status *st, struct status_link *l)
{
	static const enum link_cover covers[] = {
		[FRAMES_ROLE_GUARDED] = LINK_COVER_COVERED,
		[FRAMES_ROLE_LOOPBACK] = LINK_COVER_LOOPBACK,
		[FRAMES_ROLE_TUNNEL] = LINK_COVER_TUNNEL,
		[FRAMES_ROLE_INSIDE] = LINK_COVER_INSIDE,
		[FRAMES_ROLE_CARRIER] = LINK_COVER_CARRIER,
	};

	l->cover = covers[frames_role(&st->policy, &st->net, l->link)];
	if (l->cover != LINK_COVER_COVERED || has_chain(netdev, l->link))
		return;
	l->cover = LINK_COVER_NONE;
	l->why = st->policy.frames == FRAMES_OFF ? "frames = off" :
		 !netdev->present		 ? "the kernel cannot" :
		 st->watched			 ? "not hooked yet" :
						   "no watcher hooks new links";
}

/* What becomes of frames at each link.  0 or -ENOMEM. */
static int read_links(const struct fwtables *tables, struct status *st)
{
	/* One element more than needed: calloc(0) may return NULL. */
	st->links = calloc(st->net.links_len + 1, sizeof(*st->links));
	if (!st->links)
		return -ENOMEM;
	st->egress = tables->of[FAMILY_NETDEV].present;
	st->bridge = tables->of[FAMILY_BRIDGE].present;
	for (size_t i = 0; i < st->net.links_len; i++) {
		st->links[i].link = &st->net.links[i];
		judge_link(&tables->of[FAMILY_NETDEV], st, &st->links[i]);
	}
	return 0;
}

/* The link that packets to each resolver take now. */
static int read_routes(const struct state *s, struct status *st)
{
	const struct policy *p = &st->policy;
	const size_t n =
		p->resolvers_len < STATUS_MAX_ROUTES ? p->resolvers_len : STATUS_MAX_ROUTES;
	struct addr *addrs = calloc(n + 1, sizeof(*addrs));
	int err = 0;

	st->resolvers = calloc(p->resolvers_len + 1, sizeof(*st->resolvers));
	if (!addrs || !st->resolvers)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < n; i++)
		addrs[i] = p->resolvers[i].addr;
	if (!err)
		err = netwatch_lookup_routes(&st->net, addrs, n);
	for (size_t i = 0; !err && i < p->resolvers_len; i++) {
		struct status_resolver *r = &st->resolvers[i];
		const struct link *link = NULL;

		r->resolver = p->resolvers[i];
		r->pinned = r->resolver.path == RESOLVER_PATH_STICKY &&
			    pins_has(&s->pins, &r->resolver.addr);
		r->looked_up = i < n;
		if (addr_is_linklocal(&r->resolver.addr)) /* its link is its route */
			link = netstate_link_named(&st->net, r->resolver.link);
		else if (r->looked_up)
			link = route_outside(p, &st->net, &st->net.routes[i]) ?:
				       netstate_link(&st->net, st->net.routes[i].hops[0]);
		if (link)
			memcpy(r->route, link->name, IFNAMSIZ);
		r->through_tunnel = link && policy_is_tunnel_link(p, link->name, link->kind);
	}
	free(addrs);
	return err;
}

/* --- warnings --- */

/* S2: whatever its address, a resolver on this host is reached through the loopback device. */
static bool stays_on_host(const struct link *link)
{
	return link && link->index == LOOPBACK_IFINDEX;
}

/* No route tells what an IPsec policy takes: nothing to be said of those who may be behind one. */
static bool may_be_transformed(const struct status *st)
{
	for (size_t i = 0; i < st->net.links_len; i++)
		if (ipsec_is_name(st->net.links[i].name))
			return true;
	return false;
}

static void warn_resolvers(struct status *st)
{
	const bool transformed = may_be_transformed(st);
	char text[POLICY_TEXT];

	for (size_t i = 0; st->policy.tunnels_len && i < st->policy.resolvers_len; i++) {
		const struct status_resolver *r = &st->resolvers[i];
		const enum resolver_path path = r->resolver.path;
		bool closed = r->pinned || path == RESOLVER_PATH_TUNNEL ||
			      st->policy.mode == POLICY_MODE_BOTH;

		if (!r->looked_up || !*r->route || r->through_tunnel || path == RESOLVER_PATH_ANY ||
		    stays_on_host(netstate_link_named(&st->net, r->route)))
			continue;
		if (path == RESOLVER_PATH_LINK && !strncmp(r->resolver.link, r->route, IFNAMSIZ))
			continue; /* the user tied it to a link that is no tunnel */
		closed |= path == RESOLVER_PATH_LINK;
		if (closed && transformed)
			continue;
		warn(st, WARNING_RESOLVER_OUTSIDE,
		     "resolver %s is routed outside the tunnel, through %s: %s",
		     resolver_format(&r->resolver, text), r->route,
		     closed ? "queries to it are blocked there" :
			      "whoever runs that network sees the queries");
	}
}

static void warn_redirects(struct status *st)
{
	const struct policy *p = &st->policy;
	char text[POLICY_TEXT];

	for (size_t i = 0; i < p->redirects_len; i++) {
		const struct redirect *to = &p->redirects[i];
		const uint16_t port = to->port ?: POLICY_DNS_PORT;
		bool approved = to->addr.family == AF_UNSPEC;

		for (size_t k = 0; k < p->resolvers_len && !approved; k++)
			approved = !addr_cmp(&p->resolvers[k].addr, &to->addr) &&
				   (!p->resolvers[k].port || p->resolvers[k].port == port);
		if (!approved)
			warn(st, WARNING_REDIRECT_CLOSED,
			     "LAN clients are redirected to %s, which is no approved resolver: what they ask is blocked there",
			     redirect_format(to, text));
	}
}

static void warn_tunnels(struct status *st)
{
	bool found = !st->policy.tunnels_len;

	for (size_t i = 0; i < st->net.links_len; i++)
		found |= policy_is_tunnel(&st->policy, st->net.links[i].name);
	if (!found)
		warn(st, WARNING_NO_TUNNEL,
		     "no link matches a tunnel entry: the VPN is down, or its link has another name");
}

static void warn_kinds(struct status *st)
{
	const struct policy *p = &st->policy;

	for (size_t i = 0; i < st->net.links_len; i++) {
		const struct link *l = &st->net.links[i];
		const bool asked = policy_is_tunnel_link(p, l->name, l->kind);

		if (policy_is_tunnel_by_name(p, l->name, l->kind))
			warn(st, WARNING_TUNNEL_KIND,
			     "link %s has a tunnel's name, but is %s%s: what leaves through it is %s",
			     l->name, *l->kind ? "of kind " : "hardware", l->kind,
			     asked ? "let out, as tunnel-kind = any says" :
				     "blocked, as tunnel-kind says");
	}
}

/* Such a link's packets pass postrouting once more, towards a link of the world (xfrm4_output()). */
static void warn_ipsec_links(struct status *st)
{
	const struct policy *p = &st->policy;

	for (size_t i = 0; i < st->net.links_len && !policy_has_ipsec(p); i++) {
		const struct link *l = &st->net.links[i];

		if (policy_is_ipsec_kind(l->kind) && policy_is_tunnel_link(p, l->name, l->kind))
			warn(st, WARNING_IPSEC_LINK,
			     "tunnel %s hands its packets on to an IPsec policy, where they are blocked: expected tunnel = ipsec:any, or ipsec:REQID, as well",
			     l->name);
	}
}

static bool is_routed_through(const struct status *st, const struct addr *addr, const char *link)
{
	for (size_t i = 0; i < st->policy.resolvers_len; i++)
		if (!addr_cmp(&st->resolvers[i].resolver.addr, addr) &&
		    !strncmp(st->resolvers[i].route, link, IFNAMSIZ))
			return true;
	return false;
}

static void warn_routes_tried(struct status *st)
{
	const struct watch_status *w = &st->watch;
	char text[ADDR_TEXT];

	for (size_t i = 0; i < w->tried_len; i++) {
		/* One that still leads there has a warning already. */
		if (is_routed_through(st, &w->tried[i].addr, w->tried[i].link))
			continue;
		warn(st, WARNING_ROUTE_TRIED,
		     "%llu s ago a route led resolver %s outside the tunnel, through %s: queries to it are blocked there",
		     (unsigned long long)(w->now_ms - w->tried[i].at_ms) / 1000,
		     addr_format(&w->tried[i].addr, text), w->tried[i].link);
	}
}

static void warn_watcher(struct status *st, bool wanted)
{
	const struct watch_status *w = &st->watch;

	if (st->pause_left_ms)
		warn(st, WARNING_PAUSED,
		     "paused: name traffic goes anywhere for %llu s more; 'leakguard resume' ends it",
		     (unsigned long long)(st->pause_left_ms + 999) / 1000);
	if (!st->watched && wanted)
		warn(st, WARNING_NO_WATCHER,
		     "no watcher answers: the rules stand, but nobody follows routes or undoes what others change; 'leakguard reload' starts one");
	if (!st->watched)
		return;
	if (w->stale)
		warn(st, WARNING_STALE,
		     "the last change was refused, the rules before it are in force: %s; next try in %llu ms",
		     w->stale_text,
		     (unsigned long long)(w->retry_ms > w->now_ms ? w->retry_ms - w->now_ms : 0));
	if (w->fighting)
		warn(st, WARNING_FIGHT,
		     "%s (process %u) changes the rules again and again; each change is undone, at a bounded rate",
		     *w->culprit_name ? w->culprit_name : "somebody", w->culprit_pid);
	warn_routes_tried(st);
}

/* Whether queries to this address would be let out now, by an approval or through a tunnel. */
static bool is_open(struct status *st, const struct addr *addr)
{
	const struct policy *p = &st->policy;
	struct netstate route = { 0 };
	const struct link *link;
	bool open;

	if (addr_is_loopback(addr))
		return true;
	for (size_t i = 0; i < p->resolvers_len; i++)
		if (!addr_cmp(&p->resolvers[i].addr, addr))
			return true; /* a wrong way to it has a warning of its own */
	if (netwatch_lookup_routes(&route, addr, 1))
		return false;
	link = route_outside(p, &st->net, &route.routes[0]) ?:
		       netstate_link(&st->net, route.routes[0].hops[0]);
	open = stays_on_host(link) || may_be_transformed(st) ||
	       (link && p->mode == POLICY_MODE_EITHER &&
		policy_is_tunnel_link(p, link->name, link->kind));
	netstate_fini(&route);
	return open;
}

/* nameserver lines, as resolv.conf(5) has them; a zone is cut off. */
static void warn_resolv_conf(struct status *st)
{
	FILE *file = fopen(RESOLV_CONF, "re");
	char line[512], value[64], text[ADDR_TEXT];
	struct addr addr;

	if (!file)
		return;
	for (int n = 0; n < MAX_NAMESERVERS && fgets(line, sizeof(line), file);) {
		if (sscanf(line, "nameserver %63s", value) != 1)
			continue;
		n++;
		value[strcspn(value, "%")] = '\0';
		if (!addr_parse(value, &addr) && !is_open(st, &addr))
			warn(st, WARNING_RESOLV_CONF,
			     RESOLV_CONF
			     " names %s, which is no approved resolver: queries to it are blocked",
			     addr_format(&addr, text));
	}
	fclose(file);
}

static int warn_late_chains(struct fwsock *fs, struct status *st)
{
	struct fwlate late[8];
	const int n = fwlate_read(fs, late, 8);

	for (int i = 0; i < n; i++)
		warn(st, WARNING_LATE_CHAIN,
		     "%s runs after the verdict and could still change where a packet goes",
		     late[i].text);
	return n < 0 && n != -EINTR ? n : 0;
}

/* At a link's way out its packets would still be judged. */
static void warn_flowtable(struct fwsock *fs, struct status *st)
{
	bool has = false;

	if (st->egress || st->policy.flow_offload == FLOW_OFFLOAD_PREVENT)
		return;
	if (!fwlate_has_flowtable(fs, &has) && has)
		warn(st, WARNING_FLOWTABLE,
		     "a flowtable forwards packets past the rules, and frames are not judged: expected flow-offload = prevent, or frames = auto");
}

/* IPv6 is on where any link has an address of it; the file is missing where it is off. */
static bool ipv6_is_on(void)
{
	FILE *file = fopen("/proc/net/if_inet6", "re");
	bool on;

	if (!file)
		return false;
	on = fgetc(file) != EOF;
	fclose(file);
	return on;
}

static void warn_ipv6(struct fwsock *fs, struct status *st)
{
	bool has = true;

	if (st->policy.fragments == FRAGMENTS_DEFRAG || !ipv6_is_on())
		return;
	if (!fwprobe_part(fs, FWPROBE_DEFRAG6, &has) && !has)
		warn(st, WARNING_IPV6_LACKS,
		     "IPv6 is on, but the kernel cannot reassemble its fragments alone (nft_tproxy, nf_defrag_ipv6): \"fragments\" is at %s",
		     fragments_format(st->policy.fragments));
}

static void warn_links(struct status *st)
{
	char name[IFNAMSIZ], names[CONFIG_ERR / 2] = "";
	const char *why = "";
	size_t n = 0, at = 0;

	for (size_t i = 0; st->egress && i < st->net.links_len; i++) {
		const struct status_link *l = &st->links[i];

		if (l->cover != LINK_COVER_NONE)
			continue;
		if (n++ < NAMED_LINKS)
			at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s",
					       at ? ", " : "",
					       text_quotable(l->link->name, name, sizeof(name)));
		why = l->why;
	}
	if (n > NAMED_LINKS)
		snprintf(names + at, sizeof(names) - at, " and %zu more", n - NAMED_LINKS);
	if (n)
		warn(st, WARNING_LINK_UNCOVERED,
		     "frames that go round the IP stack leave through %s unjudged: %s", names, why);
}

/* All are owned together, unless somebody has come between. */
static enum table_owner weakest_owner(const struct fwtables *tables)
{
	enum table_owner owner = TABLE_OWNER_SOCKET;

	for (enum family f = 0; f < FAMILIES; f++) {
		const uint32_t flags = tables->of[f].flags;

		if (!tables->of[f].present || flags & FWTXN_TABLE_OWNER)
			continue;
		if (!(flags & FWTXN_TABLE_PERSIST))
			return TABLE_OWNER_NONE;
		owner = TABLE_OWNER_ORPHAN;
	}
	return owner;
}

/* How long the kernel itself still lets a pause's packets through; what is there for good is no pause. */
static uint64_t pause_left_ms(const struct fwtables *tables)
{
	uint64_t left_ms = 0;

	for (enum family f = 0; f < FAMILIES; f++) {
		const struct fwset *set = fwtable_set(&tables->of[f], "pause");

		if (set && set->elems_len && set->expires_max_ms != UINT64_MAX &&
		    set->expires_max_ms > left_ms)
			left_ms = set->expires_max_ms;
	}
	return left_ms;
}

static int read_around(struct fwsock *fs, const struct fwtables *tables, const struct state *s,
		       struct status *st)
{
	const bool present = fwtables_present(tables);
	int err;

	judge_state(tables, st);
	read_counters(tables, st);
	err = fwblocked_read(fs, tables, &st->blocked, &st->blocked_len);
	if (!err)
		err = read_routes(s, st);
	if (!err)
		err = read_links(tables, st);
	if (err)
		return err;
	st->pause_left_ms = pause_left_ms(tables);
	warn_watcher(st, present && !s->no_watch);
	if (!present)
		return 0;
	st->policy.fragments = fwdecode_fragments(tables);
	st->owner = weakest_owner(tables);
	warn_tunnels(st);
	warn_redirects(st);
	warn_kinds(st);
	warn_ipsec_links(st);
	warn_links(st);
	warn_resolvers(st);
	warn_resolv_conf(st);
	warn_ipv6(fs, st);
	warn_flowtable(fs, st);
	return warn_late_chains(fs, st);
}

static void ask_watcher(const struct rundir *rd, struct status *st)
{
	struct control_reply reply;

	st->watched = rd &&
		      !control_ask(rd->dir_fd, rd->path, CONTROL_VERB_STATUS, STATUS_WATCHER_MS,
				   &reply) &&
		      !reply.result;
	if (st->watched)
		st->watch = reply.status;
}

static int read_once(struct fwsock *fs, struct rundir *rd, bool settle, struct status *ret_status,
		     char reterr_text[CONFIG_ERR])
{
	struct status st = { 0 };
	struct fwtables tables;
	struct state s;
	int err;

	state_init(&s);
	policy_init(&st.policy);
	ask_watcher(rd, &st);
	/* A watcher may have to write a pin while we read: it must find the lock free. */
	if (rd && !st.watched)
		rundir_lock_read(rd);
	err = fwtables_read(fs, NULL, &tables);
	if (err) {
		snprintf(reterr_text, CONFIG_ERR, "nf_tables: %s", fwsock_strerror(err));
		goto out;
	}
	*reterr_text = '\0';
	err = netwatch_dump_links(&st.net);
	if (!err)
		err = read_policy(fs, &tables, rd, settle, &s, &st, reterr_text);
	if (!err) {
		ipsec_add_links(&st.policy, &st.net);
		err = read_around(fs, &tables, &s, &st);
	}
	fwtables_fini(&tables);
	state_fini(&s);
	if (err) {
		if (!*reterr_text)
			snprintf(reterr_text, CONFIG_ERR, "cannot read the kernel: %s",
				 strerror(-err));
		status_fini(&st);
	} else {
		*ret_status = st;
	}
out:
	if (rd)
		rundir_unlock(rd);
	return err;
}

int status_read(struct fwsock *fs, struct rundir *rd, struct status *ret_status,
		char reterr_text[CONFIG_ERR])
{
	const struct timespec pause = { .tv_nsec = AGAIN_PAUSE_MS * 1000000L };
	const uint64_t end_ms = clock_monotonic_ms() + AGAIN_MS;
	int err = read_once(fs, rd, false, ret_status, reterr_text);

	/* Rules and record of different moments, while a watcher makes one of the other. */
	while (!err && ret_status->watched && ret_status->state == GUARD_STATE_ALTERED &&
	       clock_monotonic_ms() < end_ms) {
		nanosleep(&pause, NULL);
		status_fini(ret_status);
		err = read_once(fs, rd, false, ret_status, reterr_text);
	}
	if (!err && !ret_status->watched && ret_status->state == GUARD_STATE_ALTERED) {
		status_fini(ret_status);
		err = read_once(fs, rd, true, ret_status, reterr_text);
	}
	return err;
}

void status_fini(struct status *st)
{
	policy_fini(&st->policy);
	netstate_fini(&st->net);
	free(st->resolvers);
	free(st->links);
	free(st->blocked);
	*st = (struct status){ 0 };
}
