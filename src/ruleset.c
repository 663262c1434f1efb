#include "ruleset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int rulesets_build(const struct policy *p, const struct pins *pins, const struct netstate *ns,
		   const struct parts *parts, struct ruleset ret_rulesets[FAMILIES])
{
	int err = 0;

	memset(ret_rulesets, 0, FAMILIES * sizeof(*ret_rulesets));
	for (enum family f = 0; !err && f < FAMILIES; f++)
		err = f == FAMILY_INET ?
			      ruleset_build(p, pins, parts->fragments, &ret_rulesets[f]) :
			      ruleset_build_frames(f, p, pins, ns, parts, &ret_rulesets[f]);
	if (err)
		rulesets_fini(ret_rulesets);
	return err;
}

void rulesets_fini(struct ruleset rulesets[FAMILIES])
{
	for (enum family f = 0; f < FAMILIES; f++)
		ruleset_fini(&rulesets[f]);
}

const struct set *ruleset_set(const struct ruleset *rs, const char *name)
{
	for (size_t i = 0; i < rs->sets_len; i++)
		if (!strcmp(rs->sets[i].name, name))
			return &rs->sets[i];
	return NULL;
}

size_t ruleset_raw_values(const struct ruleset *rs, const struct raw *raw,
			  const uint16_t **ret_values)
{
	*ret_values = raw->only ? &raw->only : raw->values ?: rs->ports;
	return raw->only ? 1 : raw->values ? raw->values_len : rs->ports_len;
}

const char *ruleset_device_chain(const struct device *device, char *buf)
{
	snprintf(buf, RULESET_NAME, "egress_%d", device->index);
	return buf;
}

int ruleset_pause(struct ruleset *rs, uint64_t left_ms, bool lapsing)
{
	return ruleset_pause_sets(rs->sets, rs->sets_len, left_ms, lapsing);
}

void ruleset_fini(struct ruleset *rs)
{
	for (size_t i = 0; i < rs->chains_len; i++)
		free(rs->chains[i].rules);
	for (size_t i = 0; i < rs->sets_len; i++)
		free(rs->sets[i].elems);
	free(rs->devices);
	*rs = (struct ruleset){ 0 };
}
