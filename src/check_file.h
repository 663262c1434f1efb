/*
 * check_file.h - files of others, below a root: read within bounds, never waited for
 */
#ifndef CHECK_FILE_H
#define CHECK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define CHECK_FILE_BYTES  (1 << 20) /* of one file; the rest is not read */
#define CHECK_DIR_ENTRIES 256	    /* of a folder that are looked at */

struct check_file {
	char *text; /* owned; a NUL behind it, and maybe some inside */
	size_t len;
	bool cut;	/* it was longer; what is here ends with a line */
	time_t changed; /* when it was written last */
};

/*
 * Read `path` below `root` ("" for the machine).  /dev/null is an empty file: so
 * people mask one.  0 and a file for check_file_fini(); -ENOENT: nothing is there;
 * -EINVAL: no regular file (nothing was read, nothing waited for); -errno of open(2).
 */
int check_file_read(const char *root, const char *path, struct check_file *ret_file);
void check_file_fini(struct check_file *file);

struct check_dir {
	char *names[CHECK_DIR_ENTRIES]; /* owned; in the order of strcmp(3) */
	size_t len;
	bool more; /* than found room */
};

/*
 * The names in a folder that end with `suffix` ("" for all), no hidden ones.  0 and a
 * list for check_dir_fini(); -ENOENT: nothing is there; -errno of opendir(3), -ENOMEM.
 */
int check_dir_read(const char *root, const char *path, const char *suffix,
		   struct check_dir *ret_dir);
void check_dir_fini(struct check_dir *dir);

/* Whether something of this name is there, of any kind. */
bool check_file_exists(const char *root, const char *path);

#endif
