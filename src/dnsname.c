#include "dnsname.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* RFC 1035, 4.1.1 and 2.3.4 */
#define HEADER_LEN  12
#define IS_RESPONSE 0x80
#define MAX_LABEL   63
#define MAX_NAME    255

/* What ns_name_ntop(3) escapes: a master file would take it for something else. */
#define SPECIAL "\"$().;@\\"

static char *put_byte(char *at, uint8_t byte)
{
	if (byte <= ' ' || byte >= 0x7f)
		return at + snprintf(at, sizeof("\\255"), "\\%03u", byte);
	if (strchr(SPECIAL, byte))
		*at++ = '\\';
	*at++ = (char)byte;
	return at;
}

/* The name at the start of `data`: its length there, or -errno. */
static int parse_name(const uint8_t *data, size_t len, char text[DNSNAME_TEXT])
{
	char *at = text;
	size_t i = 0;

	while (i < len && data[i]) {
		const uint8_t label = data[i++];

		if (label > MAX_LABEL || i + label + 1 > MAX_NAME)
			return -EBADMSG;
		if (label > len - i)
			return -ENODATA;
		if (at != text)
			*at++ = '.';
		for (const size_t end = i + label; i < end; i++)
			at = put_byte(at, data[i]);
	}
	if (i == len)
		return -ENODATA;
	if (at == text)
		*at++ = '.';
	*at = '\0';
	return (int)i + 1;
}

int dnsname_parse(const uint8_t *data, size_t len, char ret_name[DNSNAME_TEXT], uint16_t *ret_type)
{
	char text[DNSNAME_TEXT];
	int name_len;

	if (len < HEADER_LEN)
		return -ENODATA;
	if (data[2] & IS_RESPONSE || !(data[4] | data[5]))
		return -EBADMSG;
	data += HEADER_LEN;
	len -= HEADER_LEN;
	name_len = parse_name(data, len, text);
	if (name_len < 0)
		return name_len;
	/* The type, and the class, without which there is no question either. */
	if (len - (size_t)name_len < 4)
		return -ENODATA;
	*ret_type = (uint16_t)(data[name_len] << 8 | data[name_len + 1]);
	strcpy(ret_name, text);
	return 0;
}

const char *dnsname_type_format(uint16_t type, char *buf)
{
	/* Those that programs ask for; the rest has its number. */
	static const struct {
		uint16_t type;
		char name[12];
	} names[] = {
		/* clang-format off */
		{ 1, "A" }, { 2, "NS" }, { 5, "CNAME" }, { 6, "SOA" }, { 12, "PTR" },
		{ 15, "MX" }, { 16, "TXT" }, { 28, "AAAA" }, { 33, "SRV" },
		{ 35, "NAPTR" }, { 43, "DS" }, { 44, "SSHFP" }, { 46, "RRSIG" },
		{ 48, "DNSKEY" }, { 52, "TLSA" }, { 61, "OPENPGPKEY" }, { 64, "SVCB" },
		{ 65, "HTTPS" }, { 251, "IXFR" }, { 252, "AXFR" }, { 255, "ANY" },
		{ 257, "CAA" },
		/* clang-format on */
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].type == type)
			return strcpy(buf, names[i].name);
	snprintf(buf, DNSNAME_TYPE_TEXT, "TYPE%u", type);
	return buf;
}
