#include "check_report.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check_json.h"
#include "netstate.h"
#include "policy.h"

/* What a terminal, a log and JSON all take as it is. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

struct finding check_finding(const char *topic, bool risk, const char *subject)
{
	struct finding f = { .topic = topic, .risk = risk };

	snprintf(f.subject, sizeof(f.subject), "%s", subject);
	return f;
}

void check_say(struct finding *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
}

void check_advise(struct finding *f, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(f->advice, sizeof(f->advice), format, args);
	va_end(args);
}

void check_tell(const struct check *c, struct finding *f)
{
	make_printable(f->subject);
	make_printable(f->text);
	make_printable(f->advice);
	c->found(c->ctx, f);
}

static void tell_unreadable(const struct check *c, const char *path, int err)
{
	struct finding f = check_finding("unreadable", false, path);

	check_say(&f, "%s: cannot be read: %s; what it sets is not known", path,
		  err == -EINVAL ? "no regular file" : strerror(-err));
	if (err == -EACCES || err == -EPERM)
		check_advise(&f, "run check as root");
	else
		check_advise(&f, "see what is there, and why");
	check_tell(c, &f);
}

static void tell_cut(const struct check *c, const char *path)
{
	struct finding f = check_finding("unreadable", false, path);

	check_say(&f, "%s: more than check looks at; only the beginning was read", path);
	check_advise(&f, "see what fills it");
	check_tell(c, &f);
}

bool check_open(const struct check *c, const char *path, struct check_file *ret_file)
{
	const int err = check_file_read(c->root, path, ret_file);

	if (err && err != -ENOENT)
		tell_unreadable(c, path, err);
	if (!err && ret_file->cut)
		tell_cut(c, path);
	return !err;
}

bool check_take_json(const struct check *c, const char *path, const struct check_file *file,
		     struct check_json **ret_json)
{
	const int err = check_json_parse(file->text, file->len, ret_json);
	struct finding f = check_finding("unreadable", false, path);

	if (!err)
		return true;
	check_say(&f, "%s: %s; what it sets is not known", path,
		  err == -EOPNOTSUPP ? "this build of leakguard reads no JSON" :
		  err == -ENOMEM     ? "out of memory" :
				       "no JSON");
	check_advise(&f, "look into it");
	check_tell(c, &f);
	return false;
}

bool check_list(const struct check *c, const char *path, const char *suffix,
		struct check_dir *ret_dir)
{
	const int err = check_dir_read(c->root, path, suffix, ret_dir);

	if (err && err != -ENOENT)
		tell_unreadable(c, path, err);
	if (!err && ret_dir->more)
		tell_cut(c, path);
	return !err;
}

void check_each(const struct check *c, const char *folder, const char *suffix, check_file_fn *fn,
		void *ctx)
{
	struct check_file file;
	struct check_dir dir;
	char path[PATH_MAX];

	if (!check_list(c, folder, suffix, &dir))
		return;
	for (size_t i = 0; i < dir.len; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", folder, dir.names[i]) >= PATH_MAX ||
		    !check_open(c, path, &file))
			continue;
		fn(c, path, &file, ctx);
		check_file_fini(&file);
	}
	check_dir_fini(&dir);
}

bool check_is_tunnel(const struct check *c, const struct link *link)
{
	return policy_is_tunnel_link(c->policy, link->name, link->kind);
}

bool check_is_outside(const struct check *c, const struct link *link)
{
	return link->up && link->index != LOOPBACK_IFINDEX && !check_is_tunnel(c, link) &&
	       !policy_is_inside(c->policy, link->name);
}

bool check_is_approved(const struct check *c, const struct addr *addr, const char *link)
{
	const struct policy *p = c->policy;
	const struct link *through = *link ? netstate_link_named(c->links, link) : NULL;

	if (addr_is_loopback(addr))
		return true;
	if (through && p->mode == POLICY_MODE_EITHER && check_is_tunnel(c, through))
		return true;
	for (size_t i = 0; i < p->resolvers_len; i++) {
		const struct resolver *r = &p->resolvers[i];

		if (!addr_cmp(&r->addr, addr) &&
		    (r->path != RESOLVER_PATH_LINK || !*link || !strncmp(r->link, link, IFNAMSIZ)))
			return true;
	}
	return false;
}
