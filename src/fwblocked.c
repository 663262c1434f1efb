#include "fwblocked.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "fwattr.h"
#include "fwexpr.h"
#include "fwread.h"
#include "fwsock.h"
#include "ruleset.h"

#define KEY_LEN	   (IFNAMSIZ + 4) /* the port is padded */
#define MOST	   (FAMILIES * RULESET_MAX_BLOCKED)
#define DUMP_TRIES 20

struct reading {
	struct fwblocked *list; /* room for MOST */
	size_t len;
};

/* The counter is an element's only expression, or the first of a list. */
static const struct nlattr *counter_of(const struct nlattr *elem)
{
	const struct nlattr *expr = fwattr_nested(elem, NFTA_SET_ELEM_EXPR);

	if (!expr)
		expr = fwattr_nested(fwattr_nested(elem, NFTA_SET_ELEM_EXPRESSIONS),
				     NFTA_LIST_ELEM);
	return fwattr_nested(expr, NFTA_EXPR_DATA);
}

static void take_elem(struct reading *rd, const struct nlattr *elem)
{
	const struct nlattr *value =
		fwattr_nested(fwattr_nested(elem, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
	const struct nlattr *counter = counter_of(elem);
	struct fwblocked *b = &rd->list[rd->len];
	const uint8_t *key;
	uint16_t port_be;

	if (!value || !counter || mnl_attr_get_payload_len(value) != KEY_LEN || rd->len == MOST)
		return;
	key = mnl_attr_get_payload(value);
	memcpy(b->link, key, IFNAMSIZ);
	b->link[IFNAMSIZ - 1] = '\0';
	memcpy(&port_be, key + IFNAMSIZ, sizeof(port_be));
	b->port = ntohs(port_be);
	b->packets = fwattr_u64(fwattr_nested(counter, NFTA_COUNTER_PACKETS));
	b->bytes = fwattr_u64(fwattr_nested(counter, NFTA_COUNTER_BYTES));
	rd->len++;
}

static int take_elems(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr, *elem;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(elem, attr)
			take_elem(data, elem);
	}
	return MNL_CB_OK;
}

static int dump(struct fwsock *fs, enum family family, struct reading *rd)
{
	_Alignas(struct nlmsghdr) char buf[512];
	const size_t before = rd->len;
	int err = -EINTR;

	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		struct nlmsghdr *nlh = fwsock_begin(fs, buf, NFT_MSG_GETSETELEM,
						    fwexpr_family(family), NLM_F_DUMP);

		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, RULESET_TABLE);
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, RULESET_BLOCKED);
		rd->len = before;
		err = fwsock_query(fs, nlh, take_elems, rd);
	}
	return err == -ENOENT ? 0 : err;
}

static int compare(const void *a, const void *b)
{
	const struct fwblocked *x = a, *y = b;
	const int c = strcmp(x->link, y->link);

	return c ? c : (int)x->port - (int)y->port;
}

static void add_up(struct reading *rd)
{
	size_t n = 0;

	qsort(rd->list, rd->len, sizeof(*rd->list), compare);
	for (size_t i = 0; i < rd->len; i++) {
		if (n && !compare(&rd->list[n - 1], &rd->list[i])) {
			rd->list[n - 1].packets += rd->list[i].packets;
			rd->list[n - 1].bytes += rd->list[i].bytes;
		} else {
			rd->list[n++] = rd->list[i];
		}
	}
	rd->len = n;
}

int fwblocked_read(struct fwsock *fs, const struct fwtables *tables, struct fwblocked **ret_list,
		   size_t *ret_len)
{
	struct reading rd = { .list = calloc(MOST + 1, sizeof(*rd.list)) };
	int err = rd.list ? 0 : -ENOMEM;

	for (enum family f = 0; !err && f < FAMILIES; f++)
		if (fwtable_set(&tables->of[f], RULESET_BLOCKED))
			err = dump(fs, f, &rd);
	if (err) {
		free(rd.list);
		return err;
	}
	add_up(&rd);
	*ret_list = rd.list;
	*ret_len = rd.len;
	return 0;
}
