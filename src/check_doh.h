/* check_doh.h - DNS over HTTPS that policy files of browsers turn on */
#ifndef CHECK_DOH_H
#define CHECK_DOH_H

#include <stdbool.h>
#include <stddef.h>

struct check;
struct check_json;

enum doh {
	DOH_UNSET, /* nothing is said of it */
	DOH_OFF,
	DOH_NAMED, /* servers are named, and nothing is turned on */
	DOH_ON,
};

#define DOH_SERVER 128

/*
 * What a policy file says: of Firefox and its kin (DNSOverHTTPS, and the preference
 * network.trr.mode), of Chromium and its kin (DnsOverHttpsMode, DnsOverHttpsTemplates).
 * The server it names, or "", cut to its room.  Pure.
 */
enum doh doh_of_firefox(struct check_json *json, char ret_server[DOH_SERVER]);
enum doh doh_of_chromium(struct check_json *json, char ret_server[DOH_SERVER]);

/* Tell of every file that does. */
void check_doh(const struct check *c);

#endif
