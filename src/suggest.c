#include "suggest.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "config.h"

#define WIDTH	   96  /* of a comment; the file's reader takes 198 bytes */
#define MAIN_TABLE 254 /* RT_TABLE_MAIN */
#define SHOWN_WIDE 4

/*
 * Kinds that only VPNs make.  PPP may be the provider's own line, PPPoE or a
 * modem; the other kinds of tunnels encrypt nothing.
 */
static const char sure_kinds[][10] = { "tun",	   "wireguard", "amneziawg", "ovpn",
				       "ovpn-dco", "xfrm",	"vti",	     "vti6" };

struct writing {
	const struct survey *sv;
	FILE *out;
	struct policy policy; /* what has been written so far, as the file's reader takes it */
	bool found;
};

/* --- text --- */

/* Bytes that were chosen by others, on their way to a terminal and a file. */
static const char *plain(const char *text, char *buf, size_t size)
{
	size_t i = 0;

	for (; text[i] && i + 1 < size; i++)
		buf[i] = (char)(text[i] < ' ' || text[i] > '~' ? '?' : text[i]);
	buf[i] = '\0';
	return buf;
}

static bool is_plain(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

/* A comment, in lines of WIDTH at most. */
__attribute__((format(printf, 2, 3))) static void say(struct writing *w, const char *format, ...)
{
	char text[1024] = "", clean[1024] = "";
	const char *at = clean;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	plain(text, clean, sizeof(clean));
	while (*at) {
		size_t len = strlen(at), end = len;

		if (len > WIDTH - 2) {
			for (end = WIDTH - 2; end && at[end] != ' '; end--)
				;
			end = end ? end : WIDTH - 2;
		}
		fprintf(w->out, "# %.*s\n", (int)end, at);
		at += end;
		at += *at == ' ';
	}
}

/*
 * A line, once the file's own parser has taken its value.  One that it refuses,
 * or that is open to doubt, is written as a comment.
 */
static bool put(struct writing *w, const char *key, const char *value, bool doubtful)
{
	struct policy scratch;
	char text[CONFIG_ERR] = "expected plain text";
	int err = -EINVAL;

	if (is_plain(value)) {
		policy_init(&scratch);
		err = doubtful ? config_set(&scratch, key, value, text) :
				 config_set(&w->policy, key, value, text);
		policy_fini(&scratch);
	}
	if (err)
		say(w, "Left out: %s", text);
	else
		fprintf(w->out, "%s%s = %s\n", doubtful ? "#" : "", key, value);
	return !err;
}

static void section(struct writing *w, const char *title)
{
	fprintf(w->out, "\n# --- %s ---\n", title);
}

/* --- links --- */

static bool is_sure(const char *kind)
{
	for (size_t i = 0; i < sizeof(sure_kinds) / sizeof(sure_kinds[0]); i++)
		if (!strcmp(sure_kinds[i], kind))
			return true;
	return false;
}

static bool has_wide(const struct survey *sv, const struct link *link)
{
	for (size_t i = 0; i < sv->net.wides_len; i++)
		if (sv->net.wides[i].link == link->index)
			return true;
	return false;
}

/* By which links packets to this name server leave: its own, or those of the route to it. */
static const int *hops_of(const struct survey *sv, size_t i, int own[ROUTE_MAX_HOPS])
{
	const struct nameserver *server = &sv->servers.list[i];
	const struct link *link = netstate_link_named(&sv->net, server->link);

	if (!*server->link && !addr_is_linklocal(&server->addr))
		return sv->net.routes[i].hops;
	memset(own, 0, ROUTE_MAX_HOPS * sizeof(*own));
	own[0] = link ? link->index : 0;
	return own;
}

static bool leads_to_server(const struct survey *sv, const struct link *link)
{
	int own[ROUTE_MAX_HOPS];

	for (size_t i = 0; i < sv->servers.len; i++) {
		const int *hops = hops_of(sv, i, own);

		for (size_t k = 0; k < ROUTE_MAX_HOPS && hops[k]; k++)
			if (hops[k] == link->index)
				return true;
	}
	return false;
}

/*
 * Whether this very name can stand in the file: the kernel takes nearly any byte,
 * and "wg*" would mean more than one link.
 */
static bool is_writable(const char *name)
{
	char parsed[IFNAMSIZ];

	return is_plain(name) && !ifname_parse(name, parsed) && strcmp(name, "auto") != 0;
}

static enum suggest_link judge(const struct survey *sv, const struct link *link)
{
	if (!link->up || !policy_is_tunnel_kind(link->kind) ||
	    (!has_wide(sv, link) && !leads_to_server(sv, link)))
		return SUGGEST_LINK_NONE;
	return is_sure(link->kind) && is_writable(link->name) ? SUGGEST_LINK_TUNNEL :
								SUGGEST_LINK_UNSURE;
}

size_t suggest_tunnels(const struct survey *sv, const struct link *ret_links[POLICY_MAX_TUNNELS])
{
	size_t n = 0;

	for (int wide = 1; wide >= 0 && !n; wide--)
		for (size_t i = 0; i < sv->net.links_len && n < POLICY_MAX_TUNNELS; i++) {
			const struct link *link = &sv->net.links[i];

			if (judge(sv, link) == SUGGEST_LINK_TUNNEL && (!wide || has_wide(sv, link)))
				ret_links[n++] = link;
		}
	return n;
}

const struct link *suggest_unsure(const struct survey *sv)
{
	for (size_t i = 0; i < sv->net.links_len; i++)
		if (judge(sv, &sv->net.links[i]) == SUGGEST_LINK_UNSURE)
			return &sv->net.links[i];
	return NULL;
}

const char *suggest_why(const struct survey *sv, const struct link *link, char buf[SUGGEST_TEXT])
{
	size_t shown = 0, len = 0;

	for (size_t i = 0; i < sv->net.wides_len && shown < SHOWN_WIDE; i++) {
		const struct wide_route *w = &sv->net.wides[i];
		char addr[ADDR_TEXT], table[24] = "";

		if (w->link != link->index)
			continue;
		if (w->table != MAIN_TABLE)
			snprintf(table, sizeof(table), " of table %u", w->table);
		len += (size_t)snprintf(buf + len, SUGGEST_TEXT - len, "%s%s/%u%s",
					shown++ ? ", " : "Routed are ", addr_format(&w->dst, addr),
					w->bits, table);
		if (len >= SUGGEST_TEXT)
			break;
	}
	if (!shown)
		snprintf(buf, SUGGEST_TEXT, "A name server is reached");
	return buf;
}

/* --- tunnels --- */

static void print_link(struct writing *w, const struct link *link)
{
	const enum suggest_link what = judge(w->sv, link);
	char why[SUGGEST_TEXT];

	if (what == SUGGEST_LINK_NONE)
		return;
	suggest_why(w->sv, link, why);
	say(w, "%s: a tunnel by its kind, %s, and up. %s through it.", link->name, link->kind, why);
	if (!is_writable(link->name)) {
		say(w, "But its name cannot be written here. Give it another.");
		return;
	}
	if (what == SUGGEST_LINK_UNSURE && !strcmp(link->kind, "ppp"))
		say(w,
		    "But it may be the line to your provider (PPPoE, a modem), and then this is where names leak to. Take the # off only if it is your VPN.");
	else if (what == SUGGEST_LINK_UNSURE)
		say(w,
		    "But tunnels of this kind encrypt nothing by themselves. Take the # off only if you trust the way.");
	w->found |= put(w, "tunnel", link->name, what != SUGGEST_LINK_TUNNEL) &&
		    what == SUGGEST_LINK_TUNNEL;
}

static bool is_wide(const struct ipsec_policy *p)
{
	return p->bits <= (p->dst.family == AF_INET ? WIDE_BITS_IPV4 : WIDE_BITS_IPV6);
}

/* Whether a tunnel of the file can have its name: it has none, or is too long. */
static bool has_name(const struct ipsec_policy *p)
{
	return p->reqid && p->reqid <= IPSEC_MAX_REQID;
}

static bool covers(const struct ipsec_policy *p, const struct addr *addr)
{
	if (p->dst.family != addr->family || p->bits > addr_len(addr) * 8)
		return false;
	for (unsigned int bit = 0; bit < p->bits; bit++)
		if ((p->dst.bytes[bit / 8] ^ addr->bytes[bit / 8]) & (0x80U >> bit % 8))
			return false;
	return true;
}

/* The IPsec policy that packets to this address fall under, of those that are tunnels; or NULL. */
static const struct ipsec_policy *ipsec_of(const struct survey *sv, const struct addr *addr)
{
	for (size_t i = 0; i < sv->ipsecs_len; i++)
		if (has_name(&sv->ipsecs[i]) && covers(&sv->ipsecs[i], addr))
			return &sv->ipsecs[i];
	return NULL;
}

/* Everything goes under it, or a name server does. */
static bool matters(const struct survey *sv, const struct ipsec_policy *p)
{
	bool yes = is_wide(p);

	for (size_t i = 0; i < sv->servers.len; i++)
		yes |= covers(p, &sv->servers.list[i].addr);
	return yes;
}

static void print_ipsec(struct writing *w, const struct ipsec_policy *p)
{
	char addr[ADDR_TEXT], value[IFNAMSIZ] = "ipsec:any";

	if (!matters(w->sv, p))
		return;
	for (const struct ipsec_policy *o = w->sv->ipsecs; o < p; o++)
		if (o->reqid == p->reqid && matters(w->sv, o))
			return; /* told already */
	say(w, "IPsec without a device: an outgoing policy protects what goes to %s/%u.",
	    addr_format(&p->dst, addr), p->bits);
	if (has_name(p)) {
		ipsec_format(p->reqid, value);
		say(w,
		    "Its reqid may be another next time, unless your IPsec program has it fixed (strongSwan: reqid); ipsec:any takes every policy.");
	} else {
		say(w,
		    "It has no reqid to go by; this takes every policy there is. Take the # off if all of them are your VPN's.");
	}
	w->found |= put(w, "tunnel", value, !has_name(p)) && has_name(p);
}

static void print_tunnels(struct writing *w)
{
	section(w, "tunnels");
	for (size_t i = 0; i < w->sv->net.links_len; i++)
		print_link(w, &w->sv->net.links[i]);
	for (size_t i = 0; i < w->sv->ipsecs_len; i++)
		print_ipsec(w, &w->sv->ipsecs[i]);
	if (!w->found) {
		say(w,
		    "No tunnel was found that is up and that a default route, or the way to a name server, leads through. Connect the VPN and ask again, or write its link's name here. As this file is, no name traffic gets out at all.");
		fputs("#tunnel = wg0\n", w->out);
		return;
	}
	say(w, "Whatever else takes such a name must be a tunnel by its kind as well.");
	put(w, "tunnel-kind", "strict", false);
}

/* --- name servers --- */

static bool is_tunnel(const struct writing *w, int index)
{
	const struct link *link = netstate_link(&w->sv->net, index);

	return link && judge(w->sv, link) == SUGGEST_LINK_TUNNEL &&
	       policy_is_tunnel(&w->policy, link->name);
}

static void name_links(const struct survey *sv, const int hops[ROUTE_MAX_HOPS],
		       char buf[SUGGEST_TEXT])
{
	size_t len = 0;

	*buf = '\0';
	for (size_t i = 0; i < ROUTE_MAX_HOPS && hops[i] && len < SUGGEST_TEXT; i++) {
		const struct link *link = netstate_link(&sv->net, hops[i]);

		len += (size_t)snprintf(buf + len, SUGGEST_TEXT - len, "%s%s", i ? ", " : "",
					link ? link->name : "?");
	}
}

/* "ADDR via PATH" once more as the parser has it, so that one spelling is printed. */
static void put_resolver(struct writing *w, const struct addr *addr, const char *path,
			 bool doubtful)
{
	char value[POLICY_TEXT], text[ADDR_TEXT];

	snprintf(value, sizeof(value), "%s via %s", addr_format(addr, text), path);
	put(w, "resolver", value, doubtful);
}

static void print_server(struct writing *w, size_t i)
{
	const struct nameserver *s = &w->sv->servers.list[i];
	char links[SUGGEST_TEXT], addr[ADDR_TEXT];
	int own[ROUTE_MAX_HOPS];
	const int *hops = hops_of(w->sv, i, own);
	const char *how = *s->link ? "asked through" : "routed through";
	bool inside = hops[0] != 0;

	addr_format(&s->addr, addr);
	name_links(w->sv, hops, links);
	for (size_t k = 0; k < ROUTE_MAX_HOPS && hops[k]; k++)
		inside &= is_tunnel(w, hops[k]);
	if (addr_is_loopback(&s->addr) || hops[0] == LOOPBACK_IFINDEX) {
		say(w, "%s (%s): on this host itself, which needs no line.", addr, s->source);
	} else if (inside) {
		say(w, "%s: %s %s.", s->source, how, links);
		put_resolver(w, &s->addr, "tunnel", false);
	} else if (!*s->link && ipsec_of(w->sv, &s->addr)) {
		say(w, "%s: protected by an IPsec policy.", s->source);
		put_resolver(w, &s->addr, "tunnel", false);
	} else if (!hops[0]) {
		say(w, "%s: %s.", s->source,
		    addr_is_linklocal(&s->addr) ? "a link-local address without its link" :
						  "no route leads there now");
		put_resolver(w, &s->addr, "tunnel", true);
	} else {
		say(w,
		    "%s: %s %s, outside of the tunnels: whoever runs the network there would see each name, so it stays closed.",
		    s->source, how, links);
		/* Not several links, nor one whose name is a word here. */
		put_resolver(w, &s->addr,
			     is_writable(links) && strcmp(links, "any") != 0 ? links : "tunnel",
			     true);
	}
}

static void print_servers(struct writing *w)
{
	const struct nameservers *ns = &w->sv->servers;

	section(w, "resolvers");
	if (!ns->len)
		say(w, "No name server was found in resolv.conf or where resolvers keep theirs.");
	for (size_t i = 0; i < ns->len; i++)
		print_server(w, i);
	if (ns->more)
		say(w, "And %zu more, left out.", ns->more);
	for (size_t i = 0; i < ns->files_len; i++) {
		const struct nameservers_file *f = &ns->files[i];

		if (f->irregular)
			say(w, "%s: not a regular file, not read.", f->path);
		if (f->junk)
			say(w, "%s: %zu that are no addresses, left out.", f->path, f->junk);
		if (f->cut)
			say(w, "%s: only its first %d bytes were read.", f->path,
			    NAMESERVERS_BYTES);
	}
	if (w->found)
		say(w,
		    "Through a tunnel any other server may be asked as well; with \"mode = both\" only these.");
}

/* --- the VPN's own packets --- */

static void print_peer(struct writing *w, const struct survey_peer *peer)
{
	char text[POLICY_TEXT];

	endpoint_format(&peer->endpoint, text);
	if (!policy_is_guarded(&w->policy, peer->endpoint.port)) {
		text[strcspn(text, ",")] = '\0';
		say(w, "%s sends its packets to %s, which is no guarded port and needs no line.",
		    peer->link, text);
		return;
	}
	say(w, "%s says that it sends its packets there%s.", peer->link,
	    peer->endpoint.mark ? ", and marks them" : "");
	if (!peer->endpoint.mark)
		say(w,
		    "With a FwMark in WireGuard's configuration nothing but WireGuard would get through here.");
	put(w, "endpoint", text, false);
}

static const struct survey_holder *holder_of(const struct survey *sv, int pid)
{
	for (size_t i = 0; i < sv->holders_len; i++)
		if (sv->holders[i].process.pid == pid)
			return &sv->holders[i];
	return NULL;
}

static bool is_server(const struct survey *sv, const struct addr *addr)
{
	for (size_t i = 0; i < sv->servers.len; i++)
		if (!addr_cmp(&sv->servers.list[i].addr, addr))
			return true;
	return false;
}

/* A socket's other end: it may be the VPN's server, or a name server like any other. */
static void print_socket(struct writing *w, size_t i)
{
	const struct survey_socket *s = &w->sv->sockets[i];
	const struct connection *c = &s->connection;
	const int *hops = w->sv->net.routes[w->sv->servers.len + i].hops;
	const struct endpoint e = { .addr = c->addr, .port = c->port, .proto = c->proto };
	const struct survey_holder *holder = holder_of(w->sv, s->process.pid);
	char text[POLICY_TEXT];

	if (!hops[0] || hops[0] == LOOPBACK_IFINDEX || is_tunnel(w, hops[0]) ||
	    is_server(w->sv, &c->addr))
		return;
	for (size_t k = 0; k < i; k++)
		if (!addr_cmp(&w->sv->sockets[k].connection.addr, &c->addr) &&
		    w->sv->sockets[k].connection.port == c->port &&
		    w->sv->sockets[k].connection.proto == c->proto)
			return;
	if (!s->process.pid)
		say(w,
		    "A program is connected there, outside of the tunnels. Take the # off only if that is your VPN.");
	else if (holder)
		say(w,
		    "%s (process %d), which makes %s, is connected there, outside of the tunnels. Take the # off if that is the VPN's server, and no name server that it asks.",
		    s->process.name, s->process.pid, holder->link);
	else
		say(w,
		    "%s (process %d) is connected there, outside of the tunnels. Take the # off only if that is your VPN.",
		    s->process.name, s->process.pid);
	put(w, "endpoint", endpoint_format(&e, text), true);
}

/* A program like OpenVPN leaves its UDP socket unconnected: nothing tells where it sends. */
static void print_silent(struct writing *w, const struct link *link)
{
	const struct survey *sv = w->sv;
	char who[64] = "its program";

	for (size_t i = 0; i < sv->peers_len; i++)
		if (!strcmp(sv->peers[i].link, link->name))
			return;
	for (size_t i = 0; i < sv->holders_len; i++)
		if (!strcmp(sv->holders[i].link, link->name))
			snprintf(who, sizeof(who), "%s (process %d)", sv->holders[i].process.name,
				 sv->holders[i].process.pid);
	say(w,
	    "%s: where %s sends its packets cannot be read. If that is a guarded port of the server's, it needs a line: endpoint = ADDRESS:PORT/udp",
	    link->name, who);
}

static void print_endpoints(struct writing *w)
{
	const struct survey *sv = w->sv;

	section(w, "the VPN's own packets");
	say(w, "They need a line only where they go to a guarded port.");
	for (size_t i = 0; i < sv->peers_len; i++)
		print_peer(w, &sv->peers[i]);
	for (size_t i = 0; i < sv->net.links_len; i++)
		if (is_tunnel(w, sv->net.links[i].index))
			print_silent(w, &sv->net.links[i]);
	for (size_t i = 0; i < sv->sockets_len; i++)
		print_socket(w, i);
	if (sv->unprivileged)
		say(w,
		    "Not run as root: where WireGuard sends its packets, IPsec policies, and other users' processes were not to be seen.");
}

/* --- guests, frames --- */

/* A bridge whose ports lead to guests only: veths, taps, or none yet. */
static bool is_for_guests(const struct netstate *net, const struct link *bridge, bool *ret_veths)
{
	*ret_veths = false;
	for (size_t i = 0; i < net->links_len; i++) {
		const struct link *l = &net->links[i];

		if (l->master != bridge->index)
			continue;
		if (strcmp(l->kind, "veth") && strcmp(l->kind, "tun"))
			return false;
		*ret_veths |= !strncmp(l->name, "veth", 4);
	}
	return true;
}

static void print_inside(struct writing *w)
{
	bool veths, any_veths = false, any = false;

	for (size_t i = 0; i < w->sv->net.links_len; i++) {
		const struct link *l = &w->sv->net.links[i];

		if (strcmp(l->kind, "bridge") || !is_writable(l->name) ||
		    !is_for_guests(&w->sv->net, l, &veths))
			continue;
		if (!any) {
			section(w, "guests of this host");
			say(w,
			    "These bridges have no port but guests'. Take the # off where a name server in a guest is to be asked, and all that leaves towards its guests stays on this host or comes back through it.");
		}
		any = true;
		any_veths |= veths;
		put(w, "inside", l->name, true);
	}
	if (any_veths)
		put(w, "inside", "veth*", true);
}

static void print_frames(struct writing *w)
{
	section(w, "what goes round the IP stack: packet sockets, bridged guests, macvlan");
	say(w, "auto: judged as far as the kernel can. require: or the guard does not rise.");
	put(w, "frames", "auto", false);
}

static void print_log(struct writing *w)
{
	section(w, "log");
	say(w, "For 'leakguard monitor', which shows blocked attempts as they happen.");
	put(w, "log-group", "53", true);
}

int suggest_print(const struct survey *sv, const struct policy *p, FILE *out, bool *ret_found)
{
	struct writing w = { .sv = sv, .out = out };
	int err = policy_copy(p, &w.policy);

	if (err)
		return err;
	say(&w,
	    "Suggested by 'leakguard suggest' from what ran on this machine at that moment; leakguard.conf(5) tells of each key. See what it does before it does it:");
	say(&w, "leakguard rules -c FILE; leakguard enable -c FILE --dry-run");
	print_tunnels(&w);
	print_servers(&w);
	print_endpoints(&w);
	print_inside(&w);
	print_frames(&w);
	print_log(&w);
	policy_fini(&w.policy);
	*ret_found = w.found;
	return ferror(out) ? -EIO : 0;
}
