#include "ruleset_print.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "ruleset.h"

static const struct {
	const char *type;  /* in a set's type */
	const char *match; /* in a rule */
} fields[] = {
	[FIELD_OIFNAME] = { "ifname", "oifname" },
	[FIELD_IIFNAME] = { "ifname", "iifname" },
	[FIELD_SADDR4] = { "ipv4_addr", "ip saddr" },
	[FIELD_SADDR6] = { "ipv6_addr", "ip6 saddr" },
	[FIELD_SMAC] = { "ether_addr", "ether saddr" },
	[FIELD_OIFKIND] = { "ifname", "meta oifkind" },
	[FIELD_NFPROTO] = { "nf_proto", "meta nfproto" },
	[FIELD_PROTOCOL] = { "ether_type", "meta protocol" },
	[FIELD_DADDR4] = { "ipv4_addr", "ip daddr" },
	[FIELD_DADDR6] = { "ipv6_addr", "ip6 daddr" },
	[FIELD_L4PROTO] = { "inet_proto", "meta l4proto" },
	[FIELD_DPORT] = { "inet_service", "th dport" },
	[FIELD_MARK] = { "mark", "meta mark" },
};

static void print_field(enum field field, const uint8_t *value, FILE *out)
{
	char text[ADDR_TEXT];
	uint16_t port_be;
	uint32_t mark;

	switch (field) {
	case FIELD_OIFNAME:
	case FIELD_IIFNAME:
	case FIELD_OIFKIND:
		fprintf(out, "\"%.*s\"", IFNAMSIZ, (const char *)value);
		break;
	case FIELD_NFPROTO:
		fputs(*value == 2 ? "ipv4" : "ipv6", out); /* NFPROTO_IPV4, linux/netfilter.h */
		break;
	case FIELD_PROTOCOL:
		memcpy(&port_be, value, sizeof(port_be));
		fputs(ntohs(port_be) == 0x0800 ? "ip" : "ip6",
		      out); /* ETH_P_IP, linux/if_ether.h */
		break;
	case FIELD_SMAC:
		fputs(mac_format(value, text), out);
		break;
	case FIELD_SADDR4:
	case FIELD_DADDR4:
		fputs(inet_ntop(AF_INET, value, text, sizeof(text)) ?: "?", out);
		break;
	case FIELD_SADDR6:
	case FIELD_DADDR6:
		fputs(inet_ntop(AF_INET6, value, text, sizeof(text)) ?: "?", out);
		break;
	case FIELD_L4PROTO:
		fputs(proto_format(*value), out);
		break;
	case FIELD_DPORT:
		memcpy(&port_be, value, sizeof(port_be));
		fprintf(out, "%u", ntohs(port_be));
		break;
	case FIELD_MARK:
		memcpy(&mark, value, sizeof(mark));
		fprintf(out, "0x%08x", mark);
		break;
	}
}

static void print_set(const struct set *set, FILE *out)
{
	fprintf(out, "\tset %s {\n\t\ttype ", set->name);
	for (size_t i = 0; i < set->fields_len; i++)
		fprintf(out, "%s%s", i ? " . " : "", fields[set->fields[i]].type);
	fputc('\n', out);
	if (set_size(set))
		fprintf(out, "\t\tsize %u\n", set_size(set));
	if (set->counts)
		fputs("\t\tflags dynamic\n", out);
	if (set->timed)
		fputs("\t\tflags timeout\n", out);
	for (size_t e = 0; e < set->elems_len; e++) {
		fputs(e ? ",\n\t\t\t     " : "\t\telements = { ", out);
		for (size_t i = 0; i < set->fields_len; i++) {
			fputs(i ? " . " : "", out);
			print_field(set->fields[i],
				    set->elems + e * set->key_len + set_field_offset(set, i), out);
		}
	}
	fputs(set->elems_len ? " }\n\t}\n\n" : "\t}\n\n", out);
}

static void print_raw(const struct ruleset *rs, const struct raw *raw, FILE *out)
{
	static const char *const bases[] = {
		[RAW_LINK] = "ll",
		[RAW_NETWORK] = "nh",
		[RAW_TRANSPORT] = "th",
	};
	const uint16_t *values;
	const size_t n = ruleset_raw_values(rs, raw, &values);

	for (size_t i = 0; i < n; i++) {
		fprintf(out, "@%s,%u,%u ", bases[raw->base], raw->at * 8u, raw->len * 8u);
		if (raw->mask)
			fprintf(out, "& 0x%x ", raw->mask);
		fprintf(out, "%s0x%x ", raw->differs ? "!= " : raw->mask ? "== " : "", values[i]);
	}
}

static void print_match(const struct ruleset *rs, const struct match *m, FILE *out)
{
	char text[POLICY_TEXT];
	const struct set *set;

	/* Else nft would look for the type of a frame where a VLAN's tag may stand. */
	if (rs->family == FAMILY_BRIDGE && (m->kind == MATCH_LATER_FRAG6 || m->kind == MATCH_FRAG6))
		fputs("meta protocol ip6 ", out);
	switch (m->kind) {
	case MATCH_DPORT:
		fprintf(out, "th dport %u ", m->port);
		break;
	case MATCH_SPORT:
		fprintf(out, "th sport %u ", m->port);
		break;
	case MATCH_OTHER_DPORT:
		for (size_t i = 0; i < rs->ports_len; i++)
			fprintf(out, "th dport != %u ", rs->ports[i]);
		break;
	case MATCH_NO_PORTS:
		fputs("meta l4proto != udp meta l4proto != tcp ", out);
		break;
	case MATCH_L4PROTO:
		fprintf(out, "meta l4proto %s ",
			m->proto == IPPROTO_AH ? "ah" : proto_format(m->proto));
		break;
	case MATCH_FAMILY:
		if (rs->family == FAMILY_INET)
			fprintf(out, "meta nfproto %s ", m->family == AF_INET ? "ipv4" : "ipv6");
		else
			fprintf(out, "meta protocol %s ", m->family == AF_INET ? "ip" : "ip6");
		break;
	case MATCH_OIF_LO:
		fputs("oif \"lo\" ", out);
		break;
	case MATCH_OIFNAME:
		fprintf(out, "oifname \"%s\" ", tunnel_format(&m->link, text));
		break;
	case MATCH_IIFNAME:
		fprintf(out, "iifname \"%s\" ", tunnel_format(&m->link, text));
		break;
	case MATCH_LOCAL:
		fputs("fib daddr type local ", out);
		break;
	case MATCH_CT_DNAT:
		fputs("ct status dnat ", out);
		break;
	case MATCH_SET:
		set = &rs->sets[m->set];
		for (size_t i = 0; i < set->fields_len; i++)
			fprintf(out, "%s%s ", i ? ". " : "", fields[set->fields[i]].match);
		fprintf(out, "@%s ", set->name);
		break;
	case MATCH_DADDR_LO4:
		fputs("ip daddr 127.0.0.0/8 ", out);
		break;
	case MATCH_DADDR_LO6:
		fputs("ip6 daddr ::1 ", out);
		break;
	case MATCH_MARKED:
		fputs("meta mark != 0x00000000 ", out);
		break;
	case MATCH_HAS_PORT4:
		fputs("ip frag-off & 8191 == 0 ", out);
		break;
	case MATCH_LATER_FRAG4:
		fputs("ip frag-off & 8191 != 0 ", out);
		break;
	case MATCH_LATER_FRAG6:
		fputs("frag frag-off != 0 ", out);
		break;
	case MATCH_CT_INVALID:
		fputs("ct state invalid ", out);
		break;
	case MATCH_FRAG6:
		fputs("exthdr frag exists ", out);
		break;
	case MATCH_ANY_L4PROTO:
		fputs("meta l4proto != 255 ", out);
		break;
	case MATCH_ROUTED:
		fputs("meta rtclassid != 4294967295 ", out);
		break;
	case MATCH_NOT_BRIDGED:
		fputs("meta pkttype host ", out);
		break;
	case MATCH_STAMPED:
		fputs("meta priority " RULESET_STAMP_TEXT " ", out);
		break;
	case MATCH_PROTOCOL:
		if (m->port == 0x8100) /* ETH_P_8021Q, linux/if_ether.h */
			fputs("meta protocol 8021q ", out);
		else
			fprintf(out, "meta protocol 0x%04x ", m->port);
		break;
	case MATCH_OIFTYPE:
		fprintf(out, "meta oiftype %u ", m->port);
		break;
	case MATCH_RAW:
		print_raw(rs, &m->raw, out);
		break;
	case MATCH_IPSEC:
		if (m->reqid)
			fprintf(out, "ipsec out reqid %u ", m->reqid);
		else
			fputs("rt ipsec exists ", out);
		break;
	}
}

static void print_dnat(const struct redirect *to, FILE *out)
{
	const bool v6 = to->addr.family == AF_INET6;
	char text[ADDR_TEXT];

	fprintf(out, "dnat %s to %s%s%s:%u", v6 ? "ip6" : "ip", v6 ? "[" : "",
		addr_format(&to->addr, text), v6 ? "]" : "", to->port);
}

static void print_verdict(const struct ruleset *rs, const struct rule *rule, FILE *out)
{
	switch (rule->verdict) {
	case VERDICT_ACCEPT:
		fputs("accept", out);
		break;
	case VERDICT_DROP:
		fputs("drop", out);
		break;
	case VERDICT_RETURN:
		fputs("return", out);
		break;
	case VERDICT_JUMP:
		fprintf(out, "jump %s", rule->target);
		break;
	case VERDICT_GOTO:
		fprintf(out, "goto %s", rule->target);
		break;
	case VERDICT_REJECT_RESET:
		fputs("reject with tcp reset", out);
		break;
	case VERDICT_REJECT_ADMIN:
		fputs("reject with icmpx admin-prohibited", out);
		break;
	case VERDICT_LOG:
		fprintf(out,
			"limit rate %u/second burst 5 packets log prefix \"leakguard S%u \" group %u",
			rs->log_rate, rule->promise, rs->log_group);
		break;
	case VERDICT_TPROXY4:
		fputs("tproxy ip to :1", out);
		break;
	case VERDICT_TPROXY6:
		fputs("tproxy ip6 to :1", out);
		break;
	case VERDICT_DNAT:
		print_dnat(&rule->to, out);
		break;
	case VERDICT_REDIRECT:
		fputs("redirect", out);
		break;
	case VERDICT_COUNT:
		fputs("update @" RULESET_BLOCKED " { oifname . th dport counter }", out);
		break;
	case VERDICT_STAMP:
		fputs("meta priority set " RULESET_STAMP_TEXT, out);
		break;
	case VERDICT_NO_OFFLOAD:
		fputs("ct expectation set \"" RULESET_NO_OFFLOAD "\"", out);
		break;
	case VERDICT_MASQUERADE:
		fputs("masquerade", out);
		break;
	}
}

static const char *hook_name(enum hook hook)
{
	switch (hook) {
	case HOOK_NONE:
		break;
	case HOOK_POSTROUTING:
		return "postrouting";
	case HOOK_OUTPUT:
		return "output";
	case HOOK_FORWARD:
	case HOOK_EARLY_FORWARD:
		return "forward";
	case HOOK_EGRESS:
		return "egress";
	case HOOK_DNAT:
		return "prerouting";
	case HOOK_SNAT:
		return "postrouting";
	}
	return "?";
}

/* Each line behind `margin`. */
static void print_rules(const struct ruleset *rs, const struct chain *chain, const char *margin,
			FILE *out)
{
	for (size_t i = 0; i < chain->rules_len; i++) {
		const struct rule *rule = &chain->rules[i];

		fprintf(out, "\t%s\t", margin);
		for (size_t k = 0; k < rule->matches_len; k++)
			print_match(rs, &rule->matches[k], out);
		if (rule->counted)
			fprintf(out, "counter name \"S%u\" ", rule->promise);
		print_verdict(rs, rule, out);
		fprintf(out, " comment \"%s\"\n", rule->comment);
	}
	fprintf(out, "\t%s}\n", margin);
}

static void print_chain(const struct ruleset *rs, const struct chain *chain, FILE *out)
{
	fprintf(out, "\tchain %s {\n", chain->name);
	if (chain->hook != HOOK_NONE)
		fprintf(out, "\t\ttype %s hook %s priority %d; policy accept;\n",
			chain->hook == HOOK_DNAT || chain->hook == HOOK_SNAT ? "nat" : "filter",
			hook_name(chain->hook), chain->priority);
	print_rules(rs, chain, "", out);
}

static void print_device_chain(const struct ruleset *rs, const struct chain *chain,
			       const char *name, const char *device, const char *margin, FILE *out)
{
	fprintf(out, "\t%schain %s {\n", margin, name);
	fprintf(out, "\t%s\ttype filter hook egress device \"%s\" priority %d; policy accept;\n",
		margin, device, chain->priority);
	print_rules(rs, chain, margin, out);
}

static void print_device_chains(const struct ruleset *rs, const struct chain *chain, FILE *out)
{
	char name[RULESET_NAME], shown[IFNAMSIZ];

	for (size_t i = 0; i < rs->devices_len; i++) {
		fputs(i ? "\n" : "", out);
		print_device_chain(rs, chain, ruleset_device_chain(&rs->devices[i], name),
				   text_quotable(rs->devices[i].name, shown, sizeof(shown)), "",
				   out);
	}
	if (rs->devices_len)
		return;
	fputs("\t# and for each link:\n", out);
	print_device_chain(rs, chain, "egress_N", "LINK", "# ", out);
}

int ruleset_print(const struct ruleset *rs, FILE *out)
{
	if (!rs->chains_len)
		return 0;
	fprintf(out, "table %s %s {\n", family_format(rs->family), RULESET_TABLE);
	for (size_t i = 0; i < rs->counters_len; i++)
		fprintf(out, "\tcounter S%u {\n\t}\n\n", rs->counters[i]);
	if (rs->no_offload)
		fputs("\tct expectation " RULESET_NO_OFFLOAD
		      " {\n\t\tprotocol udp\n\t\tdport 1\n\t\ttimeout 1s\n\t\tsize 0\n\t\tl3proto ip\n\t}\n\n",
		      out);
	for (size_t i = 0; i < rs->sets_len; i++)
		print_set(&rs->sets[i], out);
	for (size_t i = 0; i < rs->chains_len; i++) {
		fputs(i ? "\n" : "", out);
		if (rs->chains[i].hook == HOOK_EGRESS)
			print_device_chains(rs, &rs->chains[i], out);
		else
			print_chain(rs, &rs->chains[i], out);
	}
	fputs("}\n", out);
	return ferror(out) ? -EIO : 0;
}
