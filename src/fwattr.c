#include "fwattr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <stddef.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>

const struct nlattr *fwattr_find(const struct nlmsghdr *nlh, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

const struct nlattr *fwattr_nested(const struct nlattr *in, uint16_t type)
{
	const struct nlattr *attr;

	if (in)
		mnl_attr_for_each_nested(attr, in)
			if (mnl_attr_get_type(attr) == type)
				return attr;
	return NULL;
}

const char *fwattr_str(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) == 0 ? mnl_attr_get_str(attr) :
									   NULL;
}

uint32_t fwattr_u32(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_U32) == 0 ? ntohl(mnl_attr_get_u32(attr)) :
								    0;
}

uint64_t fwattr_u64(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_U64) == 0 ?
		       be64toh(mnl_attr_get_u64(attr)) :
		       0;
}
