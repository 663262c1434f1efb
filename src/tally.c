#include "tally.h"

#include <stdio.h>
#include <string.h>

/* FNV-1a; http://www.isthe.com/chongo/tech/comp/fnv/ gives both numbers */
static uint64_t hash_text(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	return hash;
}

static struct tally_entry *least(struct tally *t)
{
	struct tally_entry *found = &t->places[0];

	for (size_t i = 1; i < t->len; i++)
		if (t->places[i].count < found->count)
			found = &t->places[i];
	return found;
}

void tally_count(struct tally *t, const char *text)
{
	const uint64_t hash = hash_text(text);
	struct tally_entry *e = NULL;

	for (size_t i = 0; i < t->len && !e; i++)
		if (t->places[i].hash == hash && !strncmp(t->places[i].text, text, TALLY_TEXT - 4))
			e = &t->places[i];
	if (e) {
		e->count++;
		return;
	}
	if (t->len < TALLY_PLACES) {
		e = &t->places[t->len++];
	} else {
		e = least(t);
		t->others += e->count;
	}
	e->count = 1;
	e->hash = hash;
	if (snprintf(e->text, sizeof(e->text), "%s", text) >= TALLY_TEXT)
		strcpy(e->text + TALLY_TEXT - 4, "...");
}

size_t tally_sort(struct tally *t, size_t n)
{
	if (n > t->len)
		n = t->len;
	for (size_t i = 0; i < n; i++) {
		size_t most = i;
		struct tally_entry e;

		for (size_t k = i + 1; k < t->len; k++)
			if (t->places[k].count > t->places[most].count)
				most = k;
		e = t->places[i];
		t->places[i] = t->places[most];
		t->places[most] = e;
	}
	return n;
}
