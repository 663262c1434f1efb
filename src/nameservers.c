#include "nameservers.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "netstate.h"

#define BLANKS " \t\r"

static struct nameservers_file *file_of(struct nameservers *ns, const char *path)
{
	struct nameservers_file *f;

	for (size_t i = 0; i < ns->files_len; i++)
		if (!strncmp(ns->files[i].path, path, NAMESERVERS_PATH - 1))
			return &ns->files[i];
	if (ns->files_len == NAMESERVERS_FILES)
		return NULL;
	f = &ns->files[ns->files_len++];
	*f = (struct nameservers_file){ .junk = 0 };
	snprintf(f->path, sizeof(f->path), "%s", path);
	return f;
}

static void count_junk(struct nameservers *ns, const char *path)
{
	struct nameservers_file *f = file_of(ns, path);

	if (f)
		f->junk++;
}

void nameservers_add(struct nameservers *ns, const struct nameserver *server)
{
	for (size_t i = 0; i < ns->len; i++)
		if (!addr_cmp(&ns->list[i].addr, &server->addr) &&
		    (!*server->link || !strcmp(ns->list[i].link, server->link)))
			return;
	if (ns->len == NAMESERVERS_MAX)
		ns->more++;
	else
		ns->list[ns->len++] = *server;
}

/*
 * "ADDR" or "ADDR%LINK", and of systemd-resolved also "ADDR:PORT", "[V6]:PORT"
 * and "#NAME" behind it.  Cuts the word in place.
 */
static void take_word(struct nameservers *ns, char *word, const char *link, const char *path)
{
	struct nameserver server = { .source = "" };
	char *zone, *colon;

	word[strcspn(word, "#")] = '\0';
	if (*word == '[') {
		word++;
		word[strcspn(word, "]")] = '\0';
	}
	zone = strchr(word, '%');
	if (zone)
		*zone++ = '\0';
	colon = strchr(word, ':');
	if (colon && colon == strrchr(word, ':'))
		*colon = '\0';
	if (addr_parse(word, &server.addr)) {
		count_junk(ns, path);
		return;
	}
	if (zone && addr_is_linklocal(&server.addr) && ifname_parse(zone, server.link)) {
		count_junk(ns, path);
		return;
	}
	if (link)
		memcpy(server.link, link, sizeof(server.link));
	snprintf(server.source, sizeof(server.source), "%s", path);
	nameservers_add(ns, &server);
}

/* resolv.conf(5): the keyword starts the line, white space follows. */
static void take_line(struct nameservers *ns, char *line, const char *path)
{
	static const char key[] = "nameserver";
	char *word, *save = NULL;

	if (strncmp(line, key, sizeof(key) - 1) ||
	    !strchr(BLANKS, line[sizeof(key) - 1]) /* also at the end of the line */)
		return;
	word = strtok_r(line + sizeof(key) - 1, BLANKS, &save);
	if (word)
		take_word(ns, word, NULL, path);
	else
		count_junk(ns, path);
}

/* systemd-resolved's file of one link, which it reads again when it is restarted. */
static void take_link_line(struct nameservers *ns, char *line, const char *link, const char *path)
{
	static const char key[] = "SERVERS=";
	char *save = NULL;

	if (strncmp(line, key, sizeof(key) - 1))
		return;
	for (char *word = strtok_r(line + sizeof(key) - 1, BLANKS, &save); word;
	     word = strtok_r(NULL, BLANKS, &save))
		take_word(ns, word, link, path);
}

static void read_file(struct nameservers *ns, const char *path, const char *link)
{
	struct check_file file = { .len = 0 };
	const int err = check_file_read("", path, &file);
	struct nameservers_file *f = err == -EINVAL || file.cut ? file_of(ns, path) : NULL;

	if (f) {
		f->irregular = err == -EINVAL;
		f->cut = file.cut;
	}
	/* What is behind a NUL in a line is not looked at. */
	for (char *line = file.text; line && line < file.text + file.len;) {
		char *const end = memchr(line, '\n', (size_t)(file.text + file.len - line)) ?:
					  file.text + file.len;

		*end = '\0';
		if (link)
			take_link_line(ns, line, link, path);
		else
			take_line(ns, line, path);
		line = end + 1;
	}
	check_file_fini(&file);
}

void nameservers_read(struct nameservers *ns, const char *path)
{
	read_file(ns, path, NULL);
}

/* One file for each link and program, of resolvconf and openresolv. */
static void read_folder(struct nameservers *ns, const char *folder)
{
	struct check_dir dir = { .len = 0 };
	char path[PATH_MAX];

	if (check_dir_read("", folder, "", &dir))
		return;
	for (size_t i = 0; i < dir.len; i++)
		if (snprintf(path, sizeof(path), "%s/%s", folder, dir.names[i]) < PATH_MAX)
			read_file(ns, path, NULL);
	check_dir_fini(&dir);
}

void nameservers_read_upstream(struct nameservers *ns, const char *run,
			       const struct netstate *links)
{
	static const char *const lists[] = {
		"systemd/resolve/resolv.conf",
		"NetworkManager/no-stub-resolv.conf",
		"dnsmasq/resolv.conf",
	};
	/* Debian's resolvconf; openresolv. */
	static const char folders[][22] = { "resolvconf/interface", "resolvconf/interfaces" };
	char path[PATH_MAX];

	/* First what is tied to a link. */
	for (size_t i = 0; i < links->links_len; i++) {
		snprintf(path, sizeof(path), "%s/systemd/resolve/netif/%d", run,
			 links->links[i].index);
		read_file(ns, path, links->links[i].name);
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", run, lists[i]);
		read_file(ns, path, NULL);
	}
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", run, folders[i]);
		read_folder(ns, path);
	}
}
