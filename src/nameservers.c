#include "nameservers.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "netstate.h"

#define MAX_ENTRIES 256 /* of a directory */
#define BLANKS	    " \t\r"

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

/* The whole file as one text for free(3), NULs and all; or NULL. */
static char *read_text(struct nameservers *ns, const char *path, size_t *ret_len)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct nameservers_file *f;
	struct stat st;
	size_t len = 0;
	ssize_t got = 1;
	char *text;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		f = file_of(ns, path);
		if (f)
			f->irregular = true;
		close(fd);
		return NULL;
	}
	text = malloc(NAMESERVERS_BYTES + 1);
	while (text && len < NAMESERVERS_BYTES && got > 0) {
		got = read(fd, text + len, NAMESERVERS_BYTES - len);
		if (got > 0)
			len += (size_t)got;
	}
	if (text && len == NAMESERVERS_BYTES && read(fd, &(char){ 0 }, 1) == 1) {
		f = file_of(ns, path);
		if (f)
			f->cut = true;
		/* Half an address may be another one. */
		while (len && text[len - 1] != '\n')
			len--;
	}
	close(fd);
	if (text)
		text[len] = '\0';
	*ret_len = len;
	return text;
}

static void read_file(struct nameservers *ns, const char *path, const char *link)
{
	size_t len = 0;
	char *const text = read_text(ns, path, &len);

	/* What is behind a NUL in a line is not looked at. */
	for (char *line = text; text && line < text + len;) {
		char *const newline = memchr(line, '\n', (size_t)(text + len - line));
		char *const end = newline ?: text + len;

		*end = '\0';
		if (link)
			take_link_line(ns, line, link, path);
		else
			take_line(ns, line, path);
		line = end + 1;
	}
	free(text);
}

void nameservers_read(struct nameservers *ns, const char *path)
{
	read_file(ns, path, NULL);
}

/* One file for each link and program, of resolvconf and openresolv. */
static void read_folder(struct nameservers *ns, const char *folder)
{
	DIR *const dir = opendir(folder);
	const struct dirent *entry;
	char path[PATH_MAX];

	for (int i = 0; dir && i < MAX_ENTRIES && (entry = readdir(dir)); i++) {
		if (*entry->d_name != '.' &&
		    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < PATH_MAX)
			read_file(ns, path, NULL);
	}
	if (dir)
		closedir(dir);
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
