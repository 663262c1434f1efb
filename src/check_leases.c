#include "check_leases.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_file.h"
#include "nameservers.h"
#include "text.h"

#define MAX_BYTES  (1 << 18)
#define SEPARATORS " \t\r,;"

static void add_server(struct nameservers *ns, const char *word, const char *path)
{
	struct nameserver server = { .link = "" };

	if (addr_parse(word, &server.addr) || !addr_is_unicast(&server.addr))
		return;
	snprintf(server.source, sizeof(server.source), "%.*s", NAMESERVERS_PATH - 1, path);
	nameservers_add(ns, &server);
}

/* Behind these come addresses: dhclient.leases(5), and the two others' "DNS=". */
static void take_line(struct nameservers *ns, char *line, const char *path)
{
	static const char *const keys[] = { "domain-name-servers ", "dhcp6.name-servers ",
					    "DNS=", "domain_name_servers=" };
	char *save = NULL, *list = NULL;

	for (size_t i = 0; !list && i < sizeof(keys) / sizeof(keys[0]); i++) {
		list = strstr(line, keys[i]);
		if (list)
			list += strlen(keys[i]);
	}
	for (char *word = list ? strtok_r(list, SEPARATORS, &save) : NULL; word;
	     word = strtok_r(NULL, SEPARATORS, &save))
		add_server(ns, word, path);
}

static void read_file(struct nameservers *ns, const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = NULL, *save = NULL;
	struct stat st;
	ssize_t len = 0;

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		text = malloc(MAX_BYTES + 1);
	/* dhclient adds to the end. */
	if (text)
		len = pread(fd, text, MAX_BYTES,
			    st.st_size > MAX_BYTES ? st.st_size - MAX_BYTES : 0);
	close(fd);
	if (text && len > 0) {
		text[len] = '\0';
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			take_line(ns, line, path);
	}
	free(text);
}

void check_leases_read(struct nameservers *ns, const char *root)
{
	static const char folders[][26] = { "/run/systemd/netif/leases", "/var/lib/dhcp",
					    "/var/lib/dhclient", "/var/lib/NetworkManager" };
	struct check_dir dir = { .len = 0 };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		if (check_dir_read(root, folders[i], "", &dir))
			continue;
		for (size_t k = 0; k < dir.len; k++)
			if (snprintf(path, sizeof(path), "%s%s/%s", root, folders[i],
				     dir.names[k]) < PATH_MAX)
				read_file(ns, path);
		check_dir_fini(&dir);
	}
}
