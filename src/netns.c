#include "netns.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/rtnetlink.h>

#include "ask.h"
#include "clock.h"

/* --- what can be asked --- */

struct macs {
	netns_mac_fn *found;
	void *ctx;
};

static int take_link(const struct nlmsghdr *nlh, void *data)
{
	const struct macs *macs = data;
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(struct ifinfomsg))
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(struct ifinfomsg))
		if (mnl_attr_get_type(attr) == IFLA_ADDRESS &&
		    mnl_attr_get_payload_len(attr) == MAC_LEN)
			macs->found(macs->ctx, mnl_attr_get_payload(attr));
	return MNL_CB_OK;
}

int netns_list_macs(netns_mac_fn *found, void *ctx)
{
	struct macs macs = { found, ctx };
	_Alignas(struct nlmsghdr) char buf[64];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	return ask_kernel(NETLINK_ROUTE, nlh, take_link, &macs);
}

static int take_route(const struct nlmsghdr *nlh, void *data)
{
	bool *is_local = data;

	if (nlh->nlmsg_type == RTM_NEWROUTE &&
	    mnl_nlmsg_get_payload_len(nlh) >= sizeof(struct rtmsg))
		*is_local =
			((const struct rtmsg *)mnl_nlmsg_get_payload(nlh))->rtm_type == RTN_LOCAL;
	return MNL_CB_OK;
}

/* One question, however many addresses there are; 127.0.0.0/8 is local as well. */
bool netns_is_local(const struct addr *addr)
{
	_Alignas(struct nlmsghdr) char buf[128];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(nlh, sizeof(*route));
	bool is_local = false;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	route->rtm_family = addr->family;
	route->rtm_dst_len = (uint8_t)(addr_len(addr) * 8);
	mnl_attr_put(nlh, RTA_DST, addr_len(addr), addr->bytes);
	return !ask_kernel(NETLINK_ROUTE, nlh, take_route, &is_local) && is_local;
}

/* --- there and back --- */

struct tour {
	netns_visit_fn *visit;
	void *ctx;
	int home_fd, proc_fd;
	dev_t dev;
	ino_t seen[NETNS_MOST + 1]; /* our own first */
	size_t seen_len;
	uint64_t until_ms;
};

static bool is_seen(const struct tour *t, ino_t ino)
{
	for (size_t i = 0; i < t->seen_len; i++)
		if (t->seen[i] == ino)
			return true;
	return false;
}

/* As netns_visit_others(). */
static int visit_one(struct tour *t, const char *path)
{
	const int fd = openat(t->proc_fd, path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int ret = 1;

	if (fd < 0)
		return 1; /* it has ended */
	/* Another one's by now, if the process entered another. */
	if (fstat(fd, &st) || is_seen(t, st.st_ino)) {
		close(fd);
		return 1;
	}
	if (t->seen_len == NETNS_MOST + 1 || clock_monotonic_ms() >= t->until_ms ||
	    setns(fd, CLONE_NEWNET)) {
		ret = 0;
	} else {
		t->seen[t->seen_len++] = st.st_ino;
		t->visit(t->ctx);
		if (setns(t->home_fd, CLONE_NEWNET))
			ret = -errno;
	}
	close(fd);
	return ret;
}

static int visit_all(struct tour *t, DIR *proc)
{
	const struct dirent *entry;
	int ret = 1;

	while (ret == 1 && (entry = readdir(proc))) {
		char path[32];
		struct stat st;

		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%.16s/ns/net", entry->d_name);
		if (!fstatat(t->proc_fd, path, &st, 0) && st.st_dev == t->dev &&
		    !is_seen(t, st.st_ino))
			ret = visit_one(t, path);
	}
	return ret;
}

int netns_visit_others(netns_visit_fn *visit, void *ctx)
{
	struct tour t = { .visit = visit,
			  .ctx = ctx,
			  .until_ms = clock_monotonic_ms() + NETNS_MOST_MS };
	DIR *const proc = opendir("/proc");
	struct stat own;
	int ret = 0;

	t.home_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (proc && t.home_fd >= 0 && !fstat(t.home_fd, &own)) {
		t.proc_fd = dirfd(proc);
		t.dev = own.st_dev;
		t.seen[t.seen_len++] = own.st_ino;
		ret = visit_all(&t, proc);
	}
	if (t.home_fd >= 0)
		close(t.home_fd);
	if (proc)
		closedir(proc);
	return ret;
}
