/* fwwatch.h: whose commits are told, by real ones in a network namespace of the test's own */
#include "unit.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "child.h"
#include "fwsock.h"
#include "fwwatch.h"
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

#include "tables.h"

#define POLICY "tunnel = wg0\nresolver = 10.0.0.1\n"

/* Two programs that commit, and the watcher, for whom `own` is the one that it commits by. */
struct scene {
	struct fwsock own, other;
	struct fwwatch fw;
	struct ruleset rules;
	struct fwevent ev;
};

static int begin(struct scene *s)
{
	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	CHECK(!fwsock_open(&s->own) && !fwsock_open(&s->other));
	CHECK(fwsock_port(&s->own) != fwsock_port(&s->other));
	CHECK(!fwwatch_open(&s->fw));
	s->rules = rules_of(POLICY);
	return 0;
}

#define BEGIN(scene)                             \
	do {                                     \
		const int begun_ = begin(scene); \
		if (begun_)                      \
			return begun_;           \
	} while (0)

static int end(struct scene *s)
{
	ruleset_fini(&s->rules);
	fwwatch_close(&s->fw);
	fwwatch_close(&s->fw);
	fwsock_close(&s->own);
	fwsock_close(&s->other);
	return 0;
}

static int read_event(struct scene *s)
{
	return fwwatch_read(&s->fw, fwsock_port(&s->own), &s->ev);
}

/* With all that is told of it. */
static int next(struct scene *s)
{
	const int got = read_event(s);

	return got == 1 && s->ev.touched && !s->ev.ended ? read_event(s) : got;
}

/* Ends the transaction. */
static int commit(struct fwsock *by, struct fwtxn *txn)
{
	struct fwtxn_fail fail;
	const int err = fwtxn_commit(by, txn, 0, &fail);

	fwtxn_fini(txn);
	return err;
}

static void put_all(struct scene *s, struct fwtxn *txn)
{
	const struct fwtables nothing = { .generation = 1 };
	const struct ruleset rules[FAMILIES] = { s->rules };
	struct fwdiff_found found;

	(void)fwdiff_build(&nothing, rules, 0, txn, &found);
}

static int install(struct scene *s, struct fwsock *by)
{
	struct fwtxn txn;

	fwtxn_init(&txn);
	put_all(s, &txn);
	return commit(by, &txn);
}

static int flush(struct fwsock *by, const char *chain)
{
	struct fwtxn txn;

	fwtxn_init(&txn);
	fwtxn_flush_chain(&txn, chain);
	return commit(by, &txn);
}

/* Our own commits are none; the same by others are, each once. */
static int run_whose(void)
{
	struct scene s;

	BEGIN(&s);
	CHECK(next(&s) == 0);
	CHECK(!install(&s, &s.own));
	CHECK(next(&s) == 0 && !s.ev.touched && !s.ev.lost);
	CHECK(!flush(&s.own, "verdict"));
	CHECK(next(&s) == 0);
	CHECK(!flush(&s.other, "fragment"));
	CHECK(next(&s) == 1 && s.ev.touched && !s.ev.lost);
	CHECK(!strcmp(s.ev.what, "removal of a rule of chain fragment"));
	CHECK(next(&s) == 0 && !s.ev.touched);
	/* Between each other, and not read at once. */
	CHECK(!flush(&s.other, "name_traffic"));
	CHECK(!install(&s, &s.own));
	CHECK(!flush(&s.other, "defrag"));
	CHECK(next(&s) == 1 && strstr(s.ev.what, "chain name_traffic"));
	CHECK(next(&s) == 1 && strstr(s.ev.what, "chain defrag"));
	CHECK(next(&s) == 0);
	return end(&s);
}

/* What has changed, in the words of a log. */
static int run_what(void)
{
	static const struct chain odd = { .name = "ev\nil\x1b[31m" };
	static const uint8_t elem[4] = { 192, 0, 2, 1 };
	struct fwtxn txn;
	struct scene s;

	BEGIN(&s);
	CHECK(!install(&s, &s.other));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "table"));
	fwtxn_init(&txn);
	fwtxn_add_elems(&txn, "resolver4", elem, 1, 4, 0);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "an element of set resolver4"));
	fwtxn_init(&txn);
	fwtxn_del_elems(&txn, "resolver4", elem, 1, 4);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of an element of set resolver4"));
	fwtxn_init(&txn);
	fwtxn_add_counter(&txn, "mine");
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "object mine"));
	/* Nothing of another program's names breaks a line. */
	fwtxn_init(&txn);
	fwtxn_add_chain(&txn, &odd);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "chain ev?il?[31m"));
	/* Of many the first, but for the worst. */
	fwtxn_init(&txn);
	fwtxn_flush_chain(&txn, "verdict");
	fwtxn_flush_chain(&txn, "fragment");
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of a rule of chain verdict"));
	fwtxn_init(&txn);
	fwtxn_flush_chain(&txn, "name_traffic");
	fwtxn_del_table(&txn, RULESET_TABLE);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of table"));
	CHECK(next(&s) == 0);
	return end(&s);
}

/* One event a transaction, however much is in it, and none is joined to another. */
static int run_made_anew(void)
{
	struct fwtxn txn;
	struct scene s;

	BEGIN(&s);
	CHECK(!install(&s, &s.own));
	fwtxn_init(&txn);
	fwtxn_del_table(&txn, RULESET_TABLE);
	put_all(&s, &txn);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of table"));
	CHECK(next(&s) == 0);
	fwtxn_init(&txn);
	fwtxn_del_table(&txn, RULESET_TABLE);
	CHECK(!commit(&s.other, &txn));
	CHECK(!install(&s, &s.other));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of table"));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "table"));
	CHECK(next(&s) == 0);
	return end(&s);
}

/* What is nobody's business of ours. */
static int run_others_tables(void)
{
	struct fwtxn_fail fail;
	struct nfgenmsg *nfg;
	struct fwtxn txn;
	struct scene s;

	BEGIN(&s);
	for (int i = 0; i < 2; i++) {
		fwtxn_init(&txn);
		txn.table = i ? "filter" : RULESET_STANDIN;
		put_all(&s, &txn);
		CHECK(!commit(&s.other, &txn));
		fwtxn_init(&txn);
		fwtxn_del_table(&txn, i ? "filter" : RULESET_STANDIN);
		CHECK(!commit(&s.other, &txn));
		CHECK(next(&s) == 0 && !s.ev.touched);
	}
	/* Our name in another family. */
	fwtxn_init(&txn);
	fwtxn_add_table(&txn, 0);
	nfg = mnl_nlmsg_get_payload((struct nlmsghdr *)txn.buf);
	CHECK(nfg->nfgen_family == NFPROTO_INET);
	nfg->nfgen_family = NFPROTO_IPV4;
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 0);
	/* What was refused, and what was only tried. */
	CHECK(!install(&s, &s.own));
	fwtxn_init(&txn);
	fwtxn_flush_chain(&txn, "verdict");
	fwtxn_flush_chain(&txn, "no such chain");
	CHECK(fwtxn_commit(&s.other, &txn, 0, &fail) == -ENOENT);
	fwtxn_fini(&txn);
	fwtxn_init(&txn);
	fwtxn_del_table(&txn, RULESET_TABLE);
	CHECK(!fwtxn_validate(&s.other, &txn, &fail));
	fwtxn_fini(&txn);
	CHECK(next(&s) == 0 && !s.ev.touched);
	CHECK(!flush(&s.other, "verdict")); /* and it did listen */
	CHECK(next(&s) == 1);
	return end(&s);
}

/* By whom.  The process id is that of the kernel's first namespace, so not ours to know. */
static int run_by_whom(void)
{
	struct scene s;
	uint32_t pid;
	int status;
	pid_t child;

	BEGIN(&s);
	CHECK(!install(&s, &s.own));
	CHECK(!prctl(PR_SET_NAME, "a\nfoe\x1b[31m"));
	CHECK(!flush(&s.other, "verdict"));
	CHECK(next(&s) == 1 && s.ev.pid && !strcmp(s.ev.name, "a?foe?[31m"));
	pid = s.ev.pid;
	CHECK(!prctl(PR_SET_NAME, "fifteen-bytes-x"));
	CHECK(!flush(&s.other, "fragment"));
	CHECK(next(&s) == 1 && s.ev.pid == pid && !strcmp(s.ev.name, "fifteen-bytes-x"));
	child = fork();
	CHECK(child >= 0);
	if (!child)
		_exit(flush(&s.other, "defrag") != 0);
	CHECK(waitpid(child, &status, 0) == child && !status);
	CHECK(next(&s) == 1 && s.ev.pid && s.ev.pid != pid);
	return end(&s);
}

/* A transaction that the kernel tells in many datagrams is one event. */
static int run_long(void)
{
	uint8_t elems[400][4];
	struct fwtxn txn;
	struct scene s;

	for (size_t i = 0; i < LEN(elems); i++)
		memcpy(elems[i], (uint8_t[]){ 10, 1, (uint8_t)(i >> 8), (uint8_t)i }, 4);
	BEGIN(&s);
	CHECK(!install(&s, &s.own));
	fwtxn_init(&txn);
	for (size_t i = 0; i < LEN(elems); i++)
		fwtxn_add_elems(&txn, "resolver4", elems[i], 1, 4, 0);
	CHECK(!commit(&s.other, &txn));
	CHECK(next(&s) == 1 && s.ev.touched && !s.ev.lost);
	CHECK(!strcmp(s.ev.what, "an element of set resolver4"));
	CHECK(next(&s) == 0);
	return end(&s);
}

/* An event comes with the first message of a commit, and with the last whose it was. */
static int run_at_once(void)
{
	struct fwtxn txn;
	struct scene s;

	BEGIN(&s);
	CHECK(!install(&s, &s.own));
	fwtxn_init(&txn);
	fwtxn_flush_chain(&txn, "name_traffic");
	fwtxn_del_table(&txn, RULESET_TABLE);
	CHECK(!commit(&s.other, &txn));
	CHECK(!install(&s, &s.own)); /* the repair */
	CHECK(read_event(&s) == 1 && s.ev.touched && !s.ev.ended && !s.ev.pid);
	CHECK(strstr(s.ev.what, "chain name_traffic"));
	CHECK(read_event(&s) == 1 && s.ev.touched && s.ev.ended && s.ev.pid);
	CHECK(!strcmp(s.ev.what, "removal of table"));
	CHECK(read_event(&s) == 0 && !s.ev.touched && !s.fw.touched);
	return end(&s);
}

/* More by others than the watcher's socket takes. */
static int overflow(struct scene *s)
{
	const int few = 4096, many = 1 << 20;

	CHECK(!install(s, &s->own));
	CHECK(next(s) == 0);
	CHECK(!setsockopt(fwwatch_fd(&s->fw), SOL_SOCKET, SO_RCVBUF, &few, sizeof(few)));
	for (int i = 0; i < 50; i++) {
		CHECK(!install(s, &s->other));
		CHECK(!flush(&s->other, "verdict"));
	}
	return setsockopt(fwwatch_fd(&s->fw), SOL_SOCKET, SO_RCVBUF, &many, sizeof(many));
}

/*
 * The kernel says once that events were dropped, and drops all that come until
 * the socket is empty.  So it is told twice, and what comes then as before.
 */
static int run_lost(void)
{
	int lost = 0, got = 1;
	bool last_lost = false;
	struct scene s;

	BEGIN(&s);
	CHECK(!overflow(&s));
	CHECK(next(&s) == 1 && s.ev.lost);
	for (int i = 0; i < 200 && (got = next(&s)) != 0; i++) {
		CHECK(got == 1 && s.ev.lost != s.ev.touched);
		lost += s.ev.lost;
		last_lost = s.ev.lost;
	}
	CHECK(got == 0 && lost == 1 && last_lost);
	CHECK(!flush(&s.other, "fragment"));
	CHECK(next(&s) == 1 && s.ev.touched && !s.ev.lost);
	CHECK(next(&s) == 0 && !s.ev.lost);
	return end(&s);
}

/* A change made after the first loss was told, which nothing but the second tells of. */
static int run_lost_in_between(void)
{
	bool lost = false, named = false;
	struct scene s;

	BEGIN(&s);
	CHECK(!overflow(&s));
	CHECK(next(&s) == 1 && s.ev.lost);
	CHECK(!flush(&s.other, "fragment"));
	for (int i = 0; i < 200 && next(&s) == 1; i++) {
		lost |= s.ev.lost;
		named |= !!strstr(s.ev.what, "chain fragment");
	}
	CHECK(lost && !named);
	return end(&s);
}

/* Of a transaction whose end was dropped, nothing is left to the next, which may be our own. */
static int run_lost_half(void)
{
	struct scene s;

	BEGIN(&s);
	CHECK(!overflow(&s));
	for (int i = 0; i < 200 && next(&s) == 1; i++)
		continue;
	CHECK(!flush(&s.own, "fragment"));
	CHECK(next(&s) == 0 && !s.ev.touched);
	CHECK(!flush(&s.other, "defrag"));
	CHECK(next(&s) == 1 && !strcmp(s.ev.what, "removal of a rule of chain defrag"));
	return end(&s);
}

/* A socket that is none any more says so, instead of nothing for ever. */
static int run_broken(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct scene s;

	BEGIN(&s);
	CHECK(null >= 0 && dup2(null, fwwatch_fd(&s.fw)) >= 0);
	CHECK(next(&s) == -ENOTSOCK);
	return end(&s);
}

static int run_refused(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { 0 };
	struct fwwatch fw;

	if (child_isolate(CLONE_NEWNET))
		return CHILD_SKIP;
	CHECK(!syscall(SYS_capset, &header, none));
	CHECK(fwwatch_open(&fw) == -EPERM);
	fwwatch_close(&fw);
	return 0;
}

CHILD_TEST(test_whose, run_whose)
CHILD_TEST(test_what, run_what)
CHILD_TEST(test_made_anew, run_made_anew)
CHILD_TEST(test_others_tables, run_others_tables)
CHILD_TEST(test_by_whom, run_by_whom)
CHILD_TEST(test_long, run_long)
CHILD_TEST(test_at_once, run_at_once)
CHILD_TEST(test_lost, run_lost)
CHILD_TEST(test_lost_in_between, run_lost_in_between)
CHILD_TEST(test_broken, run_broken)
CHILD_TEST(test_refused, run_refused)
CHILD_TEST(test_lost_half, run_lost_half)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whose),	  cmocka_unit_test(test_what),
		cmocka_unit_test(test_made_anew), cmocka_unit_test(test_others_tables),
		cmocka_unit_test(test_by_whom),	  cmocka_unit_test(test_long),
		cmocka_unit_test(test_lost),	  cmocka_unit_test(test_lost_in_between),
		cmocka_unit_test(test_lost_half), cmocka_unit_test(test_broken),
		cmocka_unit_test(test_refused),	  cmocka_unit_test(test_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
