/* The pure part of check_resolved.h: text -> settings */
#include "check_resolved.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "check_lines.h"

int resolved_server_parse(char *word, struct resolved_server *ret_server)
{
	struct resolved_server server = { .port = 0 };
	char *port = NULL, *zone, *close;
	uint32_t number = 0;

	word[strcspn(word, "#")] = '\0';
	zone = strchr(word, '%');
	if (zone)
		*zone++ = '\0';
	if (*word == '[') {
		close = strchr(++word, ']');
		if (!close)
			return -EINVAL;
		*close = '\0';
		port = close[1] == ':' ? close + 2 : NULL;
	} else if (strchr(word, ':') && strchr(word, ':') == strrchr(word, ':')) {
		port = strchr(word, ':');
		*port++ = '\0';
	}
	if (addr_parse(word, &server.addr) || (port && number_parse(port, 1, UINT16_MAX, &number)))
		return -EINVAL;
	if (zone && ifname_parse(zone, server.link))
		return -EINVAL;
	/* A link's number; in a link's own file it is that link's. */
	if (zone && !zone[strspn(zone, "0123456789")])
		memset(server.link, 0, sizeof(server.link));
	server.port = (uint16_t)number;
	*ret_server = server;
	return 0;
}

static void take_servers(struct resolved_servers *servers, char *value)
{
	char *word;

	servers->set = true;
	if (!*value)
		servers->len = 0;
	while (servers->len < RESOLVED_SERVERS && (word = lines_word(&value, "")))
		if (!resolved_server_parse(word, &servers->list[servers->len]))
			servers->len++;
}

static void take_support(enum resolved_support *support, const char *value)
{
	const int is = lines_bool(value);

	if (is >= 0)
		*support = is ? RESOLVED_SUPPORT_YES : RESOLVED_SUPPORT_NO;
	else if (!strcasecmp(value, "resolve"))
		*support = RESOLVED_SUPPORT_ASK;
}

static void take_tls(bool *tls, const char *value)
{
	const int is = lines_bool(value);

	if (is >= 0 || !strcasecmp(value, "opportunistic"))
		*tls = is != 0;
}

/* "~." is the domain that every name is below. */
static void take_domains(bool *all, char *value)
{
	const char *word;

	if (!*value)
		*all = false;
	while ((word = lines_word(&value, "")))
		*all |= !strcmp(word, "~.") || !strcmp(word, "~");
}

void resolved_conf_take(struct resolved_settings *s, char *text, size_t len, bool comments)
{
	char *key, *value;
	struct lines l;

	lines_init(&l, text, len);
	l.comments = comments;
	while (lines_next(&l, &key, &value)) {
		if (strcmp(l.section, "Resolve"))
			continue;
		if (!strcmp(key, "DNS"))
			take_servers(&s->dns, value);
		else if (!strcmp(key, "FallbackDNS"))
			take_servers(&s->fallback, value);
		else if (!strcmp(key, "LLMNR"))
			take_support(&s->llmnr, value);
		else if (!strcmp(key, "MulticastDNS"))
			take_support(&s->mdns, value);
		else if (!strcmp(key, "DNSOverTLS"))
			take_tls(&s->tls, value);
		else if (!strcmp(key, "Domains"))
			take_domains(&s->all, value);
	}
}

void resolved_link_take(struct resolved_settings *s, char *text, size_t len)
{
	char *key, *value, *word;
	struct lines l;

	lines_init(&l, text, len);
	while (lines_next(&l, &key, &value)) {
		if (!strcmp(key, "SERVERS") || !strcmp(key, "DNS"))
			take_servers(&s->dns, value);
		else if (!strcmp(key, "LLMNR"))
			take_support(&s->llmnr, value);
		else if (!strcmp(key, "MDNS"))
			take_support(&s->mdns, value);
		else if (!strcmp(key, "DNSOVERTLS") || !strcmp(key, "DNS_OVER_TLS"))
			take_tls(&s->tls, value);
		else if (!strcmp(key, "DOMAINS"))
			take_domains(&s->all, value);
		else if (!strcmp(key, "ADMIN_STATE"))
			s->unmanaged = !strcmp(value, "unmanaged");
		else if (!strcmp(key, "ROUTE_DOMAINS"))
			/* networkd writes these without the '~'. */
			while ((word = lines_word(&value, "")))
				s->all |= !strcmp(word, ".");
	}
}
