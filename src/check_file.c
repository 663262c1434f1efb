#include "check_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A path that goes through a file, or is too long for any, leads to nothing. */
static int open_error(int err)
{
	return err == ENOTDIR || err == ENAMETOOLONG ? -ENOENT : -err;
}

static int join(const char *root, const char *path, char ret_path[PATH_MAX])
{
	return snprintf(ret_path, PATH_MAX, "%s%s", root, path) < PATH_MAX ? 0 : -ENOENT;
}

/* What nobody is hurt by reading: devices.txt has the numbers of /dev/null. */
static bool is_readable(const struct stat *st)
{
	return S_ISREG(st->st_mode) || (S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3));
}

/* Up to the limit, and a NUL behind it.  0 or -errno. */
static int read_text(int fd, struct check_file *file)
{
	ssize_t got = 1;

	file->text = malloc(CHECK_FILE_BYTES + 1);
	if (!file->text)
		return -ENOMEM;
	while (file->len < CHECK_FILE_BYTES && got > 0) {
		got = read(fd, file->text + file->len, CHECK_FILE_BYTES - file->len);
		if (got > 0)
			file->len += (size_t)got;
	}
	if (got < 0)
		return -errno;
	file->cut = file->len == CHECK_FILE_BYTES && read(fd, &(char){ 0 }, 1) == 1;
	/* Half a line may say something else. */
	while (file->cut && file->len && file->text[file->len - 1] != '\n')
		file->len--;
	file->text[file->len] = '\0';
	return 0;
}

int check_file_read(const char *root, const char *path, struct check_file *ret_file)
{
	struct check_file file = { .len = 0 };
	char joined[PATH_MAX];
	struct stat st;
	int fd, err = join(root, path, joined);

	if (err)
		return err;
	fd = open(joined, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		/* A socket or a device without a driver. */
		return errno == ENXIO || errno == ENODEV ? -EINVAL : open_error(errno);
	if (fstat(fd, &st))
		err = -errno;
	else if (!is_readable(&st))
		err = -EINVAL;
	else
		err = read_text(fd, &file);
	close(fd);
	if (err) {
		check_file_fini(&file);
		return err;
	}
	file.changed = st.st_mtime;
	*ret_file = file;
	return 0;
}

void check_file_fini(struct check_file *file)
{
	free(file->text);
	*file = (struct check_file){ .len = 0 };
}

static bool has_suffix(const char *name, const char *suffix)
{
	const size_t len = strlen(name), end = strlen(suffix);

	return len >= end && !strcmp(name + len - end, suffix);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int check_dir_read(const char *root, const char *path, const char *suffix,
		   struct check_dir *ret_dir)
{
	struct check_dir dir = { .len = 0 };
	const struct dirent *entry;
	char joined[PATH_MAX];
	int err = join(root, path, joined);
	DIR *const stream = err ? NULL : opendir(joined);

	if (!stream)
		return err ?: open_error(errno);
	while (!err && !dir.more && (entry = readdir(stream))) {
		if (*entry->d_name == '.' || !has_suffix(entry->d_name, suffix))
			continue;
		dir.more = dir.len == CHECK_DIR_ENTRIES;
		if (dir.more)
			break;
		dir.names[dir.len] = strdup(entry->d_name);
		if (!dir.names[dir.len])
			err = -ENOMEM;
		else
			dir.len++;
	}
	closedir(stream);
	if (err) {
		check_dir_fini(&dir);
		return err;
	}
	qsort(dir.names, dir.len, sizeof(dir.names[0]), compare);
	*ret_dir = dir;
	return 0;
}

void check_dir_fini(struct check_dir *dir)
{
	for (size_t i = 0; i < dir->len; i++)
		free(dir->names[i]);
	dir->len = 0;
}

bool check_file_exists(const char *root, const char *path)
{
	char joined[PATH_MAX];
	struct stat st;

	return !join(root, path, joined) && !lstat(joined, &st);
}
