/*
 * The rules of frames, run on bytes as the kernel would, against what README and
 * rules/README.md promise: each way of a query, in each way of a frame.
 */
#include "unit.h"

#include "wrap.h"

#define POLICY                                                       \
	"tunnel = wg0\ninside = docker0\n"                           \
	"resolver = 192.0.2.53\nresolver = 2001:db8::53\n"           \
	"resolver = 192.0.2.54@853\nresolver = [2001:db8::54]@853\n" \
	"endpoint = 203.0.113.7:53/udp\nendpoint = [2001:db8::7]:853/tcp\n"
#define EITHER POLICY "resolver = 10.0.0.7 via br0\nresolver = fd00::7 via br0\n"
#define BOTH   POLICY "mode = both\n"

static const struct dest {
	const char *text;
	uint16_t port;	  /* approved for this one only; 0: for both */
	const char *link; /* and behind this one only */
	uint8_t carrier;  /* the protocol of which it is one, at `port` */
	bool approved;
} dests[] = {
	{ .text = "192.0.2.53", .approved = true },
	{ .text = "192.0.2.54", .approved = true, .port = 853 },
	{ .text = "10.0.0.7", .approved = true, .link = "eth1" }, /* a port of br0 */
	{ .text = "203.0.113.7", .port = 53, .carrier = IPPROTO_UDP },
	{ .text = "198.51.100.1" },
	{ .text = "2001:db8::53", .approved = true },
	{ .text = "2001:db8::54", .approved = true, .port = 853 },
	{ .text = "fd00::7", .approved = true, .link = "eth1" },
	{ .text = "2001:db8::7", .port = 853, .carrier = IPPROTO_TCP },
	{ .text = "2001:db8::99" },
};

/* The tables under test. */
struct scene {
	struct policy policy;
	struct ruleset rules[FAMILIES];
	bool strict, paused, both, no_routes;
};

static struct scene scene_of(bool strict, bool paused, bool both, bool no_routes)
{
	const struct parts parts = { FRAGMENTS_DEFRAG, PART_HAS, PART_HAS,
				     no_routes ? PART_LACKS : PART_HAS };
	const struct pins none = { 0 };
	struct scene s = {
		.strict = strict, .paused = paused, .both = both, .no_routes = no_routes
	};

	s.policy = policy_from_lines(both ? BOTH : EITHER);
	policy_set_lines(&s.policy, strict ? "frames = strict\n" : "");
	assert_int_equal(rulesets_build(&s.policy, &none, &some_net, &parts, s.rules), 0);
	for (enum family f = 0; paused && f < FAMILIES; f++)
		assert_int_equal(ruleset_pause(&s.rules[f], 60000, false), 0);
	return s;
}

static void scene_fini(struct scene *s)
{
	rulesets_fini(s->rules);
	policy_fini(&s->policy);
}

/* --- what is promised --- */

static bool has_ports(const struct query *q)
{
	return q->proto == IPPROTO_UDP || q->proto == IPPROTO_TCP;
}

static bool is_name_traffic(const struct query *q)
{
	return has_ports(q) && (q->port == 53 || q->port == 853);
}

static bool is_later(const struct query *q)
{
	return q->ip == IP4_LATER || q->ip == IP6_LATER || q->ip == IP6_LATER_EXT;
}

/* S2, and S4 in mode either: whatever it is. */
static bool is_by_link(const struct scene *s, const struct frame *f)
{
	return !strcmp(f->link, "docker0") || (!s->both && !strcmp(f->link, "wg0"));
}

/* S2 to S6.  A fragment that shows no port can be for an approved resolver of any port alone. */
static bool is_allowed(const struct scene *s, const struct frame *f, const struct query *q,
		       const struct dest *dest)
{
	const bool portless = is_later(q) || q->ip == IP6_PORTLESS || q->ip == IP6_HIDES;

	if (s->paused || is_by_link(s, f))
		return true;
	if (dest->carrier)
		return !portless && dest->carrier == q->proto && dest->port == q->port;
	if (!dest->approved || (dest->link && (s->both || strcmp(dest->link, f->link))))
		return false;
	if (s->both && (is_later(q) || strcmp(f->link, "wg0")))
		return false;
	if (portless)
		return !dest->port && !dest->link;
	return !dest->port || dest->port == q->port;
}

/*
 * What this host's IP stack sent met the verdict there, and a tag beside the frame
 * comes from a VLAN's link, whose chain has seen it; frames = strict trusts nobody.
 */
static bool is_own(const struct scene *s, enum family family, const struct frame *f,
		   const struct query *q)
{
	if (family != FAMILY_NETDEV || s->strict)
		return false;
	return (s->no_routes ? !f->bridged : f->routed) || (q->wrap == WRAP_TAGGED && !f->bridged);
}

/* Behind extension headers of a packet that is not this host's own, one is looked behind. */
static bool passes_extended(const struct scene *s, const struct frame *f, const struct query *q,
			    const struct dest *dest)
{
	const bool all_ports = dest->approved && !dest->port && !dest->link && !s->both;

	if (q->ip == IP6_FIRST && has_ports(q) && !is_name_traffic(q))
		return true;
	if (!has_ports(q) && (q->ip == IP6_HOPOPTS || q->ip == IP6_ROUTING ||
			      q->ip == IP6_DSTOPTS || q->ip == IP6_FIRST || q->ip == IP6_LATER))
		return true;
	return s->paused || is_by_link(s, f) || all_ports;
}

/* S11 for what the kernel reads as IP itself. */
static bool passes_seen(const struct scene *s, enum family family, const struct frame *f,
			const struct query *q, const struct dest *dest)
{
	if (q->ip == IP4_AH || q->ip == IP6_AH)
		return !s->strict || !has_ports(q);
	if (q->ip > IP6_PLAIN && !is_own(s, family, f, q))
		return passes_extended(s, f, q, dest);
	if (q->ip == IP6_HIDES)
		return is_allowed(s, f, q, dest);
	if (q->ip == IP6_PORTLESS)
		return !has_ports(q) || is_allowed(s, f, q, dest);
	if (is_later(q))
		return (!has_ports(q) && q->ip != IP6_LATER_EXT) || is_allowed(s, f, q, dest) ||
		       is_own(s, family, f, q);
	return !is_name_traffic(q) || is_allowed(s, f, q, dest);
}

/* And for what is read at fixed places: to approved resolvers or not, in a pause or not. */
static bool passes_odd(const struct scene *s, enum family family, const struct frame *f,
		       const struct query *q)
{
	if (is_own(s, family, f, q) || is_by_link(s, f))
		return true;
	switch (q->ip) {
	case IP4_PLAIN:
	case IP4_FIRST:
	case IP6_PLAIN:
		return !is_name_traffic(q);
	case IP4_AH:
	case IP6_AH:
		return !s->strict || !has_ports(q);
	case IP6_TWO:
	case IP6_PORTLESS:
	case IP6_HIDES:
	case IP6_LATER_EXT:
		return false; /* what is behind the second header is not looked for */
	default:
		return !has_ports(q);
	}
}

static bool passes(const struct scene *s, enum family family, const struct frame *f,
		   const struct query *q, const struct dest *dest)
{
	if (q->wrap >= WRAP_THREE_VLANS)
		return true; /* out of reach */
	return q->wrap <= WRAP_BARE ? passes_seen(s, family, f, q, dest) :
				      passes_odd(s, family, f, q);
}

/* --- both against each other --- */

static void check(const struct scene *s, enum family family, const struct frame *f,
		  const struct query *q, const struct dest *dest, bool old, size_t *odd_by_link)
{
	const struct rule *drop = find_drop(&s->rules[family], f, old);

	if (!drop == passes(s, family, f, q, dest))
		return;
	if (q->wrap > WRAP_BARE && is_by_link(s, f)) {
		(*odd_by_link)++;
		return;
	}
	fail_msg("%s%s%s%s, %s: %s, protocol %u port %u to %s by %s%s: %s", family_format(family),
		 s->strict ? " strict" : "", s->paused ? " paused" : "", s->both ? " both" : "",
		 wrap_words[q->wrap], ip_words[q->ip], q->proto, q->port, dest->text, f->link,
		 f->routed ? ", routed" : "", drop ? drop->comment : "passes");
}

/* All ways of a query: to everybody, by every protocol.  `like` has what is no byte. */
static void check_all_queries(const struct scene *s, enum family family, const struct frame *like,
			      size_t *odd_by_link)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_GRE };
	static const uint16_t ports[] = { 53, 853, 443 };
	struct query q = { 0 };

	for (size_t i = 0; i < IPS * WRAPS * LEN(protos) * LEN(ports) * LEN(dests); i++) {
		const struct dest *dest = &dests[i % LEN(dests)];
		size_t rest = i / LEN(dests), ip_at;
		struct frame f;

		q.port = ports[rest % LEN(ports)];
		rest /= LEN(ports);
		q.proto = protos[rest % LEN(protos)];
		rest /= LEN(protos);
		q.wrap = (enum wrap)(rest % WRAPS);
		q.ip = (enum ip)(rest / WRAPS);
		if (query_is_ip6(&q) != !!strchr(dest->text, ':'))
			continue;
		assert_int_equal(addr_parse(dest->text, &q.dst), 0);
		assert_int_equal(addr_parse(query_is_ip6(&q) ? "2001:db8::2" : "192.0.2.2", &q.src),
				 0);
		f = frame_of(&q, &ip_at);
		f.routed = like->routed;
		f.bridged = like->bridged;
		memcpy(f.link, like->link, sizeof(f.link));
		check(s, family, &f, &q, dest, false, odd_by_link);
		check(s, family, &f, &q, dest, true, odd_by_link);
	}
}

/* Returns how many odd frames were dropped that S2 or S4 lets go. */
static size_t check_links(enum family family, const char *const *names, size_t n)
{
	size_t odd_by_link = 0;

	for (size_t i = 0; i < n * 64; i++) {
		struct scene s = scene_of(i & 1, i & 2, i & 4, i & 8);
		struct frame like = { .routed = i & 16,
				      .bridged = i & 32 || family == FAMILY_BRIDGE };

		/* What a bridge hands on has no route, unless its packets are shown to the IP stack. */
		if (!(like.routed && like.bridged) || family == FAMILY_BRIDGE) {
			snprintf(like.link, sizeof(like.link), "%s", names[i / 64]);
			check_all_queries(&s, family, &like, &odd_by_link);
		}
		scene_fini(&s);
	}
	return odd_by_link;
}

/* What leaves by a link: of this host's own stack, of a packet socket, of a bridge. */
static void test_devices(void **state)
{
	static const char *const guarded[] = { "eth0", "eth1" };

	(void)state;
	assert_int_equal(check_links(FAMILY_NETDEV, guarded, LEN(guarded)), 0);
}

/* What goes from one port of a bridge to another. */
static void test_bridge(void **state)
{
	static const char *const ports[] = { "eth0", "eth1", "docker0", "wg0" };

	(void)state;
	assert_int_equal(check_links(FAMILY_BRIDGE, ports, LEN(ports)), 0);
}

/*
 * What passes on a PPP link and came by the IP stack passes below it too, where it
 * has no route any more and is wrapped; strict lets neither stamp nor pass by it.
 * But for IPv4's options, which nobody looks behind there.
 */
static void check_ppp(const struct scene *s, struct query *q, const struct dest *dest)
{
	const struct ruleset *rs = &s->rules[FAMILY_NETDEV];
	bool stamped, routed_drop;
	struct frame f;
	size_t ip_at;

	assert_int_equal(addr_parse(dest->text, &q->dst), 0);
	assert_int_equal(addr_parse(query_is_ip6(q) ? "2001:db8::2" : "192.0.2.2", &q->src), 0);
	q->wrap = WRAP_BARE;
	f = frame_of(q, &ip_at);
	snprintf(f.link, sizeof(f.link), "ppp0");
	f.ppp = f.routed = true;
	routed_drop = find_drop_or_stamp(rs, &f, false, &stamped);
	assert_false(s->strict && stamped);
	q->wrap = WRAP_PPPOE;
	f = frame_of(q, &ip_at);
	f.stamped = stamped;
	if (!s->strict && !routed_drop && (q->ip != IP4_OPTIONS || is_name_traffic(q)))
		assert_row(!find_drop(rs, &f, false), ip_words[q->ip],
			   "protocol %u port %u to %s: dropped below PPP", q->proto, q->port,
			   dest->text);
	/* By the stamp alone is it known, and only where it was set. */
	f.stamped = s->strict;
	if (is_name_traffic(q) && q->ip != IP4_AH && q->ip != IP6_AH)
		assert_row(find_drop(rs, &f, false), ip_words[q->ip],
			   "protocol %u port %u to %s: passes by itself", q->proto, q->port,
			   dest->text);
}

static void test_ppp(void **state)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP };
	static const uint16_t ports[] = { 53, 853, 443 };

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		struct scene s = scene_of(i & 1, i & 2, i & 4, false);

		for (size_t k = 0; k < IPS * LEN(protos) * LEN(ports) * LEN(dests); k++) {
			const struct dest *dest = &dests[k % LEN(dests)];
			size_t rest = k / LEN(dests);
			struct query q = { .port = ports[rest % LEN(ports)] };

			rest /= LEN(ports);
			q.proto = protos[rest % LEN(protos)];
			q.ip = (enum ip)(rest / LEN(protos));
			if (query_is_ip6(&q) == !!strchr(dest->text, ':'))
				check_ppp(&s, &q, dest);
		}
		scene_fini(&s);
	}
}

/* --- senders who mean it --- */

static uint32_t take_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static bool is_tag(const uint8_t type[2])
{
	return !memcmp(type, "\x81\x00", 2) || !memcmp(type, "\x88\xa8", 2) ||
	       !memcmp(type, "\x91\x00", 2);
}

/* What a receiver does not look at, or answers to all the same: tags' numbers, id, TTL, source. */
static void forge(struct frame *f, size_t ip_at, bool ip6, uint32_t *random)
{
	static const uint8_t bytes[] = { 0x00, 0x45, 0x60, 0xff, 6, 17, 44, 60 },
			     approved[] = { 192, 0, 2, 53 };
	static const struct {
		size_t at;
		bool ip6;
	} free[] = { { 1, false }, { 4, false }, { 5, false }, { 8, false }, { 10, false },
		     { 1, true },  { 2, true },	 { 3, true },  { 7, true } };
	const size_t src_at = ip_at + (ip6 ? 8 + take_random(random) % 13 : 12);

	for (size_t i = 0; i < LEN(free); i++)
		if (free[i].ip6 == ip6 && take_random(random) % 2)
			f->bytes[ip_at + free[i].at] = bytes[take_random(random) % LEN(bytes)];
	for (size_t at = ETHER_LEN; at < ip_at && is_tag(f->bytes + at - 2); at += 4)
		f->bytes[at] = bytes[take_random(random) % LEN(bytes)];
	if (take_random(random) % 2)
		memcpy(f->bytes + src_at, approved, sizeof(approved));
}

/*
 * Out of reach: called IP, and a tag's number makes a header of that version of
 * it, whose protocol has no ports, or whose destination is part of the source; and
 * PPPoE in a tag, called PPPoE, as this host's own is.
 */
static bool is_limit(const struct frame *f)
{
	const int version = f->called == 0x0800 ? 4 : f->called == 0x86dd ? 6 : -1;

	if (!f->ether_len || !is_tag(f->bytes + ETHER_LEN - 2))
		return false;
	return f->bytes[ETHER_LEN] >> 4 == version ||
	       (f->called == 0x8864 && !memcmp(f->bytes + ETHER_LEN + 2, "\x88\x64", 2));
}

/* A query to nobody's resolver gets out by no name that a packet socket gives its frame. */
static void test_forged(void **state)
{
	static const uint16_t names[] = { 0x0800, 0x86dd, 0x8100, 0x88a8, 0x8864, 0x88b5, 0x0003 };
	struct scene s = scene_of(false, false, false, false);
	uint32_t random = 1;

	(void)state;
	for (size_t i = 0; i < 200000; i++) {
		struct query q = { .ip = (enum ip)(take_random(&random) % IPS),
				   .wrap = (enum wrap)(take_random(&random) % WRAP_THREE_VLANS),
				   .proto = take_random(&random) % 2 ? IPPROTO_UDP : IPPROTO_TCP,
				   .port = take_random(&random) % 2 ? 53 : 853 };
		const bool ip6 = query_is_ip6(&q),
			   bare = q.wrap == WRAP_BARE || q.wrap == WRAP_BARE_LYING;
		const struct rule *drop;
		struct frame f;
		size_t ip_at;

		if (q.ip == IP4_AH || q.ip == IP6_AH)
			continue; /* out of reach without strict */
		assert_int_equal(addr_parse(ip6 ? "2001:db8::99" : "198.51.100.1", &q.dst), 0);
		q.src.family = q.dst.family;
		f = frame_of(&q, &ip_at);
		forge(&f, ip_at, ip6, &random);
		if (!bare || take_random(&random) % 2)
			f.called = names[take_random(&random) % LEN(names)];
		/* packet_parse_headers(): behind the link's header, whatever that says */
		f.network_at = f.ether_len;
		drop = find_drop(&s.rules[FAMILY_NETDEV], &f, take_random(&random) % 2);
		assert_row(drop || is_limit(&f), wrap_words[q.wrap], "%s, called %04x, %zu: passes",
			   ip_words[q.ip], f.called, i);
	}
	scene_fini(&s);
}

/*
 * Nothing tells where a frame of a bypass begins.  What is called IP and is not is
 * dropped; of the rest strict drops all, and auto a query that stands where it should.
 */
static void test_unread(void **state)
{
	(void)state;
	for (size_t i = 0; i < IPS * WRAP_BARE_LYING * 8; i++) {
		struct scene s = scene_of(i & 1, false, false, false);
		struct query q = { .ip = (enum ip)(i / 8 % IPS),
				   .wrap = (enum wrap)(i / 8 / IPS),
				   .proto = i & 2 ? IPPROTO_TCP : IPPROTO_UDP,
				   .port = i & 4 ? 443 : 853 };
		const bool misnamed = q.wrap == WRAP_OTHER_IP || q.wrap == WRAP_VLAN_LYING;
		const bool exact = q.wrap == WRAP_LYING && q.port == 853 &&
				   (q.ip == IP4_PLAIN || q.ip == IP6_PLAIN || q.ip == IP4_FIRST);
		const struct rule *drop;
		struct frame f;
		size_t ip_at;

		assert_int_equal(addr_parse(query_is_ip6(&q) ? "2001:db8::99" : "198.51.100.1",
					    &q.dst),
				 0);
		q.src = q.dst;
		f = frame_of(&q, &ip_at);
		f.unread = true;
		drop = find_drop(&s.rules[FAMILY_NETDEV], &f, false);
		/* A later fragment's bytes may look like a port, too. */
		if (q.wrap > WRAP_BARE && q.ip != IP4_LATER)
			assert_row(!!drop == (misnamed || s.strict || exact), wrap_words[q.wrap],
				   "%s%s to port %u: %s", ip_words[q.ip],
				   s.strict ? ", strict," : "", q.port,
				   drop ? drop->comment : "passes");
		scene_fini(&s);
	}
}

/* Cut off anywhere: what was dropped is dropped as long as a port is left to be seen. */
static void test_cut_off(void **state)
{
	struct scene s = scene_of(false, false, false, false);
	struct query q = { .proto = IPPROTO_UDP, .port = 53 };

	(void)state;
	for (size_t i = 0; i < IPS * WRAP_THREE_VLANS; i++) {
		struct frame f;
		size_t ip_at, least;

		q.ip = (enum ip)(i % IPS);
		q.wrap = (enum wrap)(i / IPS);
		assert_int_equal(addr_parse(query_is_ip6(&q) ? "2001:db8::99" : "198.51.100.1",
					    &q.dst),
				 0);
		q.src = q.dst;
		f = frame_of(&q, &ip_at);
		f.bridged = q.wrap == WRAP_TAGGED;
		/* Behind the headers, whose payload is ports and 36 bytes more. */
		least = q.ip == IP6_PORTLESS || q.ip == IP6_HIDES ? f.len : f.len - 36;
		for (; f.len >= least && q.ip != IP4_AH && q.ip != IP6_AH; f.len--)
			assert_row(find_drop(&s.rules[FAMILY_NETDEV], &f, false),
				   wrap_words[q.wrap], "%s of %zu bytes passes", ip_words[q.ip],
				   f.len);
		/* And no shorter one makes more of it than there is. */
		for (f.len = least; f.len--;)
			(void)find_drop(&s.rules[FAMILY_NETDEV], &f, true);
	}
	scene_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices), cmocka_unit_test(test_bridge),
		cmocka_unit_test(test_ppp),	cmocka_unit_test(test_forged),
		cmocka_unit_test(test_unread),	cmocka_unit_test(test_cut_off)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
