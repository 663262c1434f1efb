/*
 * nameservers.h - the name servers that the system's files tell of
 *
 * Files are somebody else's: any size, any bytes, of any kind.
 */
#ifndef NAMESERVERS_H
#define NAMESERVERS_H

#include <stdbool.h>
#include <stddef.h>

#include "check_file.h"
#include "text.h"

#define NAMESERVERS_MAX	  64
#define NAMESERVERS_FILES 24		   /* that are named with what was wrong in them */
#define NAMESERVERS_BYTES CHECK_FILE_BYTES /* of one file; the rest is not read */
#define NAMESERVERS_PATH  96

struct nameserver {
	struct addr addr;
	char link[IFNAMSIZ]; /* asked through this link alone; "": wherever routes lead */
	char source[NAMESERVERS_PATH];
};

/* A file that has something which is no name server's address. */
struct nameservers_file {
	char path[NAMESERVERS_PATH];
	size_t junk;	/* lines */
	bool cut;	/* longer than NAMESERVERS_BYTES */
	bool irregular; /* a FIFO, a directory, a device: not read */
};

struct nameservers {
	struct nameserver list[NAMESERVERS_MAX]; /* each address once for a link */
	size_t len;
	size_t more; /* that found no room */
	struct nameservers_file files[NAMESERVERS_FILES];
	size_t files_len;
};

/*
 * Add one, unless it is there: an entry of a link alone is worth more than the
 * same in a common list.  Where there is no more room it counts as `more`.
 */
void nameservers_add(struct nameservers *ns, const struct nameserver *server);

/*
 * Add those of a file like resolv.conf(5).  One that cannot be opened has none;
 * a FIFO or a device is not waited for.
 */
void nameservers_read(struct nameservers *ns, const char *path);

/*
 * The same of all that programs keep below `run` for a local stub resolver which
 * asks for others: systemd-resolved, NetworkManager, dnsmasq, resolvconf.
 * `links` are the kernel's, by whose number systemd-resolved names its files.
 */
struct netstate;
void nameservers_read_upstream(struct nameservers *ns, const char *run,
			       const struct netstate *links);

#endif
