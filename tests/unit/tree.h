/* tree.h - a made-up machine's files, below a directory of its own; *state is its path */
#ifndef TREE_H
#define TREE_H

#include <ftw.h>
#include <time.h>

#include "files.h"

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* cmocka's teardown, with all that is below. */
static inline int remove_tree(void **state)
{
	const int err = nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return err;
}

/* The path below root of a file, whose folders are made. */
static inline void make_folders(const char *root, const char *path, char ret_path[PATH_SIZE * 2])
{
	snprintf(ret_path, PATH_SIZE * 2, "%s%s", root, path);
	for (char *slash = ret_path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		(void)mkdir(ret_path, 0700);
		*slash = '/';
	}
}

static inline void put(const char *root, const char *path, const void *data, size_t len)
{
	char joined[PATH_SIZE * 2];

	make_folders(root, path, joined);
	write_file(joined, data, len);
}

#endif
