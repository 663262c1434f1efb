/* fwsock.h: questions to a real kernel, in a network namespace of the test's own */
#include "unit.h"

#include <errno.h>

#include "child.h"
#include "fwsock.h"
#include "tables.h"

#define MANY 2000 /* rules: a dump of some 20 datagrams, of which the kernel prepares two */

struct scene {
	struct fwsock fs, other;
	unsigned int seen;
	int fail; /* errno that the callback gives at the first rule; 0: it does not fail */
	bool disturb;
};

/* A table with this many rules. */
static int fill(struct fwsock *by, unsigned int rules)
{
	static const struct chain chain = { .name = "many" };
	static const struct rule rule = { .promise = 1,
					  .verdict = VERDICT_RETURN,
					  .comment = "S1 one of many" };
	static const struct ruleset none;
	struct fwtxn_fail fail;
	struct fwtxn txn;
	int err;

	fwtxn_init(&txn);
	fwtxn_add_table(&txn, 0);
	fwtxn_add_chain(&txn, &chain);
	for (unsigned int i = 0; i < rules; i++)
		fwtxn_add_rule(&txn, &none, &chain, &rule);
	err = txn.err ?: fwtxn_commit(by, &txn, 0, &fail);
	fwtxn_fini(&txn);
	return err;
}

/* Somebody's commit, which makes a dump in progress inconsistent. */
static int disturb(struct fwsock *by)
{
	struct fwtxn_fail fail;
	struct fwtxn txn;
	int err;

	fwtxn_init(&txn);
	fwtxn_add_counter(&txn, "mine");
	err = fwtxn_commit(by, &txn, 0, &fail);
	fwtxn_fini(&txn);
	return err;
}

static int count(const struct nlmsghdr *nlh, void *data)
{
	struct scene *s = data;

	(void)nlh;
	if (!s->seen++ && s->disturb && disturb(&s->other))
		return MNL_CB_STOP;
	errno = s->fail;
	return s->fail ? MNL_CB_ERROR : MNL_CB_OK;
}

static int dump(struct scene *s)
{
	static _Alignas(struct nlmsghdr) char buf[FWSOCK_BUF];

	s->seen = 0;
	return fwsock_query(&s->fs,
			    fwsock_begin(&s->fs, buf, NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP),
			    count, s);
}

static int begin(struct scene *s, unsigned int rules)
{
	*s = (struct scene){ 0 };
	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	CHECK(!fwsock_open(&s->fs) && !fwsock_open(&s->other));
	CHECK(!fill(&s->other, rules));
	CHECK(!dump(s) && s->seen == rules);
	return 0;
}

#define BEGIN(scene, rules)                             \
	do {                                            \
		const int begun_ = begin(scene, rules); \
		if (begun_)                             \
			return begun_;                  \
	} while (0)

/* What comes after one that was given up: a dump (EBUSY once), and what is no dump. */
static int ask_more(struct scene *s, unsigned int rules)
{
	uint32_t generation = 0;

	s->disturb = false;
	s->fail = 0;
	CHECK(!dump(s) && s->seen == rules);
	CHECK(!fwsock_read_generation(&s->fs, &generation) && generation);
	return 0;
}

/* A commit comes in between: the dump is to be asked for again, and can be. */
static int run_interrupted(void)
{
	struct scene s;

	BEGIN(&s, MANY);
	s.disturb = true;
	CHECK(dump(&s) == -EINTR);
	CHECK(s.seen && s.seen < MANY);
	CHECK(!ask_more(&s, MANY));
	fwsock_close(&s.fs);
	fwsock_close(&s.other);
	return 0;
}

/* The reader gives up, over a long dump and over one that fits a datagram. */
static int give_up(unsigned int rules)
{
	struct scene s;

	BEGIN(&s, rules);
	s.fail = ENOMEM;
	for (int i = 0; i < 3; i++)
		CHECK(dump(&s) == -ENOMEM && s.seen == 1);
	CHECK(!ask_more(&s, rules));
	fwsock_close(&s.fs);
	fwsock_close(&s.other);
	return 0;
}

static int run_given_up(void)
{
	return give_up(MANY);
}

static int run_given_up_short(void)
{
	return give_up(1);
}

/* One that was killed over a dump: the socket's next process finds it clean. */
static int run_adopted(void)
{
	static _Alignas(struct nlmsghdr) char buf[FWSOCK_BUF];
	const struct nlmsghdr *nlh;
	struct scene s;
	int fd;

	BEGIN(&s, MANY);
	nlh = fwsock_begin(&s.fs, buf, NFT_MSG_GETRULE, NFPROTO_INET, NLM_F_DUMP);
	CHECK(mnl_socket_sendto(s.fs.nl, nlh, nlh->nlmsg_len) > 0);
	fd = fcntl(mnl_socket_get_fd(s.fs.nl), F_DUPFD_CLOEXEC, 0);
	CHECK(fd >= 0);
	fwsock_close(&s.fs);
	CHECK(!fwsock_adopt(&s.fs, fd));
	CHECK(!ask_more(&s, MANY));
	fwsock_close(&s.fs);
	fwsock_close(&s.other);
	return 0;
}

/* What is no such socket is refused, and not left open. */
static int run_adopt_refused(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int inet = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct fwsock fs;

	CHECK(null >= 0 && inet >= 0);
	CHECK(fwsock_adopt(&fs, null) == -EPROTOTYPE && fcntl(null, F_GETFD) < 0);
	CHECK(fwsock_adopt(&fs, inet) == -EPROTOTYPE && fcntl(inet, F_GETFD) < 0);
	fwsock_close(&fs);
	return 0;
}

CHILD_TEST(test_interrupted, run_interrupted)
CHILD_TEST(test_given_up, run_given_up)
CHILD_TEST(test_given_up_short, run_given_up_short)
CHILD_TEST(test_adopted, run_adopted)
CHILD_TEST(test_adopt_refused, run_adopt_refused)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interrupted),    cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_given_up_short), cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_adopt_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
