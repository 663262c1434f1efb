/*
 * policy.h - what the user wants, as data.  Pure: no library, no kernel.
 *
 * A policy is filled by config (file, then command line), completed by lookup
 * (names of endpoints) and by the tunnels that `up` brought, put in order and
 * checked by policy_validate(), and from then on only read.
 */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "text.h"

#define POLICY_MAX_TUNNELS   64
#define POLICY_MAX_PORTS     16 /* each is one compare in the hot path */
#define POLICY_MAX_RESOLVERS 131072
#define POLICY_MAX_ENDPOINTS 1024
#define POLICY_MAX_HOSTS     16
#define POLICY_MAX_KINDS     32
#define POLICY_DNS_PORT	     53 /* RFC 1035, 4.2: what can be redirected; on others it is encrypted */
#define POLICY_MAX_EXEMPTS   64	 /* of addresses, and of Ethernet addresses */
#define POLICY_HOST_TEXT     128 /* with NUL; a line of inih (200 bytes) must hold it */

/*
 * A link counts as a tunnel when its name matches one of these; a packet that an
 * outgoing IPsec policy will transform is inside one, too: "ipsec:N" (text.h).
 */
struct tunnel {
	char name[IFNAMSIZ]; /* padded with zeros; without the '*' */
	bool prefix;	     /* written with a trailing '*' */
};

/* By which way an approved resolver may be reached (design.md section 4). */
enum resolver_path {
	RESOLVER_PATH_STICKY, /* any, until a route has led through a tunnel: then tunnels only */
	RESOLVER_PATH_TUNNEL, /* "via tunnel" */
	RESOLVER_PATH_ANY,    /* "via any" */
	RESOLVER_PATH_LINK,   /* "via IF", what `up` brings, and fe80::1%IF */
};

struct resolver {
	struct addr addr;
	uint16_t port; /* host order; 0: every guarded port */
	enum resolver_path path;
	char link[IFNAMSIZ]; /* RESOLVER_PATH_LINK only; padded with zeros */
};

/* The VPN's carrier: where its encrypted packets go. */
struct endpoint {
	struct addr addr;
	uint16_t port; /* host order */
	uint8_t proto; /* IPPROTO_UDP or IPPROTO_TCP */
	uint32_t mark; /* the packet mark it must also carry (wg's FwMark); 0: any */
};

/* An endpoint given by name; lookup turns it into endpoints. */
struct endpoint_host {
	char name[POLICY_HOST_TEXT];
	uint16_t port;
	uint8_t proto;
	uint32_t mark;
};

/* Where queries of LAN clients are led; at most one a family. */
struct redirect {
	struct addr addr; /* AF_UNSPEC: this host, whatever the family */
	uint16_t port;	  /* host order; 0: the one they asked */
};

enum policy_mode { POLICY_MODE_EITHER, POLICY_MODE_BOTH };
enum policy_action { POLICY_ACTION_DROP, POLICY_ACTION_REJECT };

/* How later fragments are kept from slipping by (S9). */
enum fragments {
	FRAGMENTS_AUTO,	     /* the first of these that the kernel has */
	FRAGMENTS_DEFRAG,    /* reassembled, without connection tracking */
	FRAGMENTS_CONNTRACK, /* reassembled, by turning connection tracking on */
	FRAGMENTS_DROP,	     /* later fragments of TCP and UDP outside tunnels are dropped */
};

/* Whether what goes round the IP stack is judged at the devices as well (S11). */
enum frames {
	FRAMES_AUTO,	/* as far as the kernel can */
	FRAMES_OFF,	/* no */
	FRAMES_REQUIRE, /* yes, or not at all */
	FRAMES_STRICT,	/* the same, and what cannot be seen through is dropped */
};

/* Whether flows of guarded ports may enter others' flowtables, which pass by our hooks. */
enum flow_offload { FLOW_OFFLOAD_IGNORE, FLOW_OFFLOAD_PREVENT };

/* Whether a watcher makes the kernel keep everybody else's hands off the table (facts: flags 6). */
enum ownership { OWNERSHIP_AUTO, OWNERSHIP_OFF };

struct policy {
	struct tunnel tunnels[POLICY_MAX_TUNNELS];
	size_t tunnels_len;
	struct tunnel insides[POLICY_MAX_TUNNELS]; /* links that lead to guests of this host */
	size_t insides_len;
	struct tunnel lans[POLICY_MAX_TUNNELS]; /* links that LAN clients come in by */
	size_t lans_len;
	struct redirect redirects[2];
	size_t redirects_len;
	struct addr exempts[POLICY_MAX_EXEMPTS]; /* clients that are not redirected */
	size_t exempts_len;
	uint8_t exempt_macs[POLICY_MAX_EXEMPTS][MAC_LEN]; /* the same */
	size_t exempt_macs_len;
	uint16_t ports[POLICY_MAX_PORTS]; /* host order; guarded ports */
	size_t ports_len;
	struct resolver *resolvers; /* owned; grows up to POLICY_MAX_RESOLVERS */
	size_t resolvers_len, resolvers_room;
	struct endpoint *endpoints; /* owned */
	size_t endpoints_len, endpoints_room;
	struct endpoint_host hosts[POLICY_MAX_HOSTS];
	size_t hosts_len;
	enum policy_mode mode;
	enum policy_action action;
	enum fragments fragments;
	enum frames frames;
	char kinds[POLICY_MAX_KINDS][IFNAMSIZ]; /* tunnel-kind, padded with zeros; none: any */
	size_t kinds_len;
	enum flow_offload flow_offload;
	enum ownership ownership;
	uint32_t pause_max_s;			/* the longest `pause` */
	uint32_t watch_quiet_ms, watch_late_ms; /* see leakguard.conf(5) */
	uint32_t log_group; /* nflog group; 0: off (group 0 is the kernel's own) */
	uint32_t log_rate;  /* packets per second that are logged at most */
};

/* The defaults of design.md section 3; nothing allocated. */
void policy_init(struct policy *p);

/* Frees what the policy owns and makes it empty.  Accepts an initialised policy only. */
void policy_fini(struct policy *p);

/* Deep copy into ret_copy (not initialised before).  0, or -ENOMEM and nothing to free. */
int policy_copy(const struct policy *p, struct policy *ret_copy);

/*
 * Append one entry.  0 (also when it is there already, for tunnels and ports),
 * -E2BIG over the limit of that list, -ENOMEM.
 */
int policy_add_tunnel(struct policy *p, const struct tunnel *tunnel);
int policy_add_inside(struct policy *p, const struct tunnel *inside);
int policy_add_lan(struct policy *p, const struct tunnel *lan);
int policy_add_redirect(struct policy *p, const struct redirect *redirect);
int policy_add_exempt(struct policy *p, const struct addr *addr);
int policy_add_exempt_mac(struct policy *p, const uint8_t mac[MAC_LEN]);
int policy_add_port(struct policy *p, uint16_t port);
int policy_add_resolver(struct policy *p, const struct resolver *resolver);
int policy_add_endpoint(struct policy *p, const struct endpoint *endpoint);
int policy_add_kind(struct policy *p, const char *kind);
int policy_add_host(struct policy *p, const struct endpoint_host *host);

/*
 * Put every list in one order, drop what is there twice, tunnels that a prefix
 * covers and carriers on ports that are not guarded, and check what no single
 * value can show (mode both leaves no path outside tunnels; what a redirection
 * needs).  0, or -EINVAL with the reason in reterr_why.
 */
int policy_validate(struct policy *p, char *reterr_why, size_t why_size);

/* Whether this is a guarded port. */
bool policy_is_guarded(const struct policy *p, uint16_t port);

/* Whether this entry covers a link of this name. */
bool tunnel_covers(const struct tunnel *entry, const char *name);

/* Whether a link of this name counts as a tunnel. */
bool policy_is_tunnel(const struct policy *p, const char *ifname);

/* Whether IPsec policies count as tunnels. */
bool policy_has_ipsec(const struct policy *p);

/* Whether a link of this name leads to guests of this host. */
bool policy_is_inside(const struct policy *p, const char *ifname);

/*
 * Whether a link of this kind (rtnetlink's IFLA_INFO_KIND, "" for hardware) is a
 * tunnel by its nature; the kinds that `tunnel-kind = strict` stands for.
 */
bool policy_is_tunnel_kind(const char *kind);
extern const char *const policy_tunnel_kinds[]; /* ends with NULL */

/* Whether links of this kind leave the encryption to IPsec policies. */
bool policy_is_ipsec_kind(const char *kind);

/* The same of a link, by its name and, where the policy asks for kinds, by its kind. */
bool policy_is_tunnel_link(const struct policy *p, const char *ifname, const char *kind);

/* Whether it has a tunnel's name alone: its kind is none of those asked for, or no tunnel's. */
bool policy_is_tunnel_by_name(const struct policy *p, const char *ifname, const char *kind);

/* One entry as it is written in the configuration file; buf of POLICY_TEXT bytes; returns buf. */
#define POLICY_TEXT 128
const char *tunnel_format(const struct tunnel *tunnel, char *buf);
const char *resolver_format(const struct resolver *resolver, char *buf);
const char *endpoint_format(const struct endpoint *endpoint, char *buf);
const char *redirect_format(const struct redirect *redirect, char *buf);

/* The words of the configuration file for the choices; never NULL. */
const char *policy_mode_format(enum policy_mode mode);
const char *policy_action_format(enum policy_action action);
const char *fragments_format(enum fragments fragments);
const char *frames_format(enum frames frames);

/*
 * The whole policy in the configuration file's own syntax, endpoints looked up
 * by name left to the caller.  0, or -EIO.
 */
int policy_print(const struct policy *p, FILE *out);

#endif
