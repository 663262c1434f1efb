/* fwattr.h - attributes of nf_tables' messages.  All accept NULL, which is one that is not there. */
#ifndef FWATTR_H
#define FWATTR_H

#include <stdint.h>

struct nlattr;
struct nlmsghdr;

/* The attribute of this type of a message, or among the nested ones; or NULL.  Points into it. */
const struct nlattr *fwattr_find(const struct nlmsghdr *nlh, uint16_t type);
const struct nlattr *fwattr_nested(const struct nlattr *in, uint16_t type);

/* Its value, in host order; NULL or 0 where it is none of that sort. */
const char *fwattr_str(const struct nlattr *attr);
uint32_t fwattr_u32(const struct nlattr *attr);
uint64_t fwattr_u64(const struct nlattr *attr);

#endif
