#include "config_value.h"

#include <errno.h>
#include <string.h>

int value_parse_links(const char *value, struct tunnel *ret_links, const char **reterr_expects)
{
	const size_t len = strlen(value);
	struct tunnel t = { .prefix = len && value[len - 1] == '*' };
	char name[IFNAMSIZ + 1];

	if (len > IFNAMSIZ)
		return -EINVAL;
	memcpy(name, value, len + 1);
	if (t.prefix)
		name[len - 1] = '\0';
	if (t.prefix && len == 1) {
		*reterr_expects = "a link name before the \"*\": every link would be one";
		return -EINVAL;
	}
	if (ifname_parse(name, t.name))
		return -EINVAL;
	if (!strncmp("lo", t.name, t.prefix ? strlen(t.name) : IFNAMSIZ)) {
		*reterr_expects = "another link; this one takes in the loopback device";
		return -EINVAL;
	}
	*ret_links = t;
	return 0;
}

int value_split_port(char *text, char sep, char **ret_host, char **ret_rest)
{
	char *end = text;

	*ret_host = text;
	*ret_rest = NULL;
	if (*text == '[') {
		*ret_host = text + 1;
		end = strchr(text, ']');
		if (!end)
			return -EINVAL;
		*end++ = '\0';
		if (*end && *end != sep)
			return -EINVAL;
	} else {
		end = strchr(text, sep);
	}
	if (end && *end) {
		*end = '\0';
		*ret_rest = end + 1;
	}
	return 0;
}

int value_parse_host(const char *value, struct addr *ret_addr, uint16_t *ret_port,
		     const char **reterr_expects)
{
	char text[POLICY_TEXT], *host, *port;
	uint32_t number = 0;
	struct addr addr;

	if (strlen(value) >= sizeof(text))
		return -EINVAL;
	strcpy(text, value);
	if (value_split_port(text, '@', &host, &port) || addr_parse(host, &addr) ||
	    !addr_is_unicast(&addr))
		return -EINVAL;
	if (port && number_parse(port, 1, 65535, &number)) {
		*reterr_expects = "a port, 1 to 65535, after the \"@\"";
		return -EINVAL;
	}
	*ret_addr = addr;
	*ret_port = (uint16_t)number;
	return 0;
}
