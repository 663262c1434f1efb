/* files.h - a directory of its own for each test that needs files */
#ifndef FILES_H
#define FILES_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 160

/* cmocka's setup and teardown: *state is the path of an empty directory. */
static inline int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char *path = malloc(PATH_SIZE);

	if (!path)
		return -1;
	snprintf(path, PATH_SIZE, "%.64s/leakguard-unit-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	*state = mkdtemp(path);
	return *state ? 0 : -1;
}

static inline int remove_dir(void **state)
{
	DIR *dir = opendir(*state);

	for (const struct dirent *e; dir && (e = readdir(dir));)
		if (unlinkat(dirfd(dir), e->d_name, 0))
			(void)unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR);
	if (dir)
		closedir(dir);
	rmdir(*state);
	free(*state);
	return 0;
}

static inline void write_file(const char *path, const void *data, size_t len)
{
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	assert_int_equal(fwrite(data, 1, len, out), len);
	assert_int_equal(fclose(out), 0);
}

/* The whole file, with a NUL behind it, for free(3). */
static inline char *read_file(const char *path, size_t *ret_len)
{
	char *data = calloc(1, 1 << 20);
	FILE *in = fopen(path, "re");

	assert_non_null(data);
	assert_non_null(in);
	*ret_len = fread(data, 1, (1 << 20) - 1, in);
	fclose(in);
	return data;
}

#endif
