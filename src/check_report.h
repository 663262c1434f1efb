/* check_report.h - what the parts of check_system share: whom to tell, and how */
#ifndef CHECK_REPORT_H
#define CHECK_REPORT_H

#include <stdbool.h>
#include <time.h>

#include "check_file.h"
#include "check_finding.h"
#include "text.h"

struct nameserver;

struct check {
	const char *root;
	const struct policy *policy;
	const struct netstate *links;
	time_t now; /* the wall clock: leases end by it */
	finding_fn *found;
	void *ctx;
};

/* A finding without its two sentences yet. */
struct finding check_finding(const char *topic, bool risk, const char *subject);

/* The text, the advice, as printf(3); what is too long is cut. */
void check_say(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void check_advise(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Make it printable ASCII on one line each, and hand it over. */
void check_tell(const struct check *c, struct finding *f);

/*
 * Read a file, telling when it is there and cannot be read.  False: there is no text.
 */
bool check_open(const struct check *c, const char *path, struct check_file *ret_file);

struct check_json;

/*
 * The file's text as JSON, for check_json_free(); telling when it is none, or this
 * build reads none.  False: there is no value.
 */
bool check_take_json(const struct check *c, const char *path, const struct check_file *file,
		     struct check_json **ret_json);

/* What is in a folder; telling when it cannot be read.  False: there is no list. */
bool check_list(const struct check *c, const char *path, const char *suffix,
		struct check_dir *ret_dir);

/* Call for each file of a folder that ends with suffix. */
typedef void check_file_fn(const struct check *c, const char *path, struct check_file *file,
			   void *ctx);
void check_each(const struct check *c, const char *folder, const char *suffix, check_file_fn *fn,
		void *ctx);

struct link;

/* Whether the policy takes this link for a tunnel. */
bool check_is_tunnel(const struct check *c, const struct link *link);

/* Whether it is up, no tunnel, not the loopback device and not one that leads to guests. */
bool check_is_outside(const struct check *c, const struct link *link);

/*
 * Whether queries to this address are let go: approved for that link ("" for any),
 * or the link is a tunnel and the mode asks for no approval there; or on this host.
 */
bool check_is_approved(const struct check *c, const struct addr *addr, const char *link);

#endif
