#include "check_doh.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "check_json.h"
#include "check_report.h"

/* network.trr.mode: DNS over HTTPS first, and nothing else. */
#define TRR_FIRST 2
#define TRR_ONLY  3

static void take_server(struct check_json *json, char ret_server[DOH_SERVER])
{
	const char *const text = check_json_text(json);

	snprintf(ret_server, DOH_SERVER, "%s", text ?: "");
}

/* { "Value": 2, "Status": ... }, or the bare number of older versions. */
static int preference(struct check_json *policies, const char *name)
{
	struct check_json *const pref =
		check_json_member(check_json_member(policies, "Preferences"), name);
	const int bare = check_json_number(pref);

	return bare >= 0 ? bare : check_json_number(check_json_member(pref, "Value"));
}

enum doh doh_of_firefox(struct check_json *json, char ret_server[DOH_SERVER])
{
	struct check_json *const policies = check_json_member(json, "policies");
	struct check_json *const doh = check_json_member(policies, "DNSOverHTTPS");
	const int enabled = check_json_bool(check_json_member(doh, "Enabled"));
	const int mode = preference(policies, "network.trr.mode");

	take_server(check_json_member(doh, "ProviderURL"), ret_server);
	if (enabled == 1 || mode == TRR_FIRST || mode == TRR_ONLY)
		return DOH_ON;
	if (enabled == 0)
		return DOH_OFF;
	if (*ret_server)
		return DOH_NAMED;
	return mode >= 0 ? DOH_OFF : DOH_UNSET;
}

enum doh doh_of_chromium(struct check_json *json, char ret_server[DOH_SERVER])
{
	const char *const mode = check_json_text(check_json_member(json, "DnsOverHttpsMode"));

	take_server(check_json_member(json, "DnsOverHttpsTemplates"), ret_server);
	if (mode && (!strcmp(mode, "automatic") || !strcmp(mode, "secure")))
		return DOH_ON;
	if (mode)
		return DOH_OFF;
	return *ret_server ? DOH_NAMED : DOH_UNSET;
}

typedef enum doh doh_fn(struct check_json *json, char ret_server[DOH_SERVER]);

/* How a sort of browsers is told apart, and told to stop. */
struct kin {
	doh_fn *read;
	const char *advice;
};

static const struct kin firefox = {
	doh_of_firefox,
	"set DNSOverHTTPS to {\"Enabled\": false, \"Locked\": true} there: it goes to port 443, which leakguard does not guard",
};
static const struct kin chromium = {
	doh_of_chromium,
	"set DnsOverHttpsMode to \"off\" there: it goes to port 443, which leakguard does not guard",
};

static void tell_doh(const struct check *c, const char *path, enum doh doh, const char *server,
		     const struct kin *kin)
{
	struct finding f = check_finding("doh", doh == DOH_ON, path);

	check_say(&f, "%s %s%s%s", path,
		  doh == DOH_ON ? "turns DNS over HTTPS on" :
				  "names a server for DNS over HTTPS, and does not turn it off",
		  *server ? ": " : "", server);
	check_advise(&f, "%s", kin->advice);
	check_tell(c, &f);
}

static void read_policies(const struct check *c, const char *path, struct check_file *file,
			  void *ctx)
{
	const struct kin *const kin = ctx;
	struct check_json *json = NULL;
	char server[DOH_SERVER];
	enum doh doh;

	/* An empty file is no JSON either, but nobody can turn something on with it. */
	if (!file->text[strspn(file->text, " \t\r\n")] || !check_take_json(c, path, file, &json))
		return;
	doh = kin->read(json, server);
	if (doh == DOH_ON || doh == DOH_NAMED)
		tell_doh(c, path, doh, server, kin);
	check_json_free(json);
}

void check_doh(const struct check *c)
{
	/* The installation's own folder, and the administrator's. */
	static const char files[][50] = {
		"/etc/firefox/policies/policies.json",
		"/etc/firefox-esr/policies/policies.json",
		"/etc/librewolf/policies/policies.json",
		"/etc/thunderbird/policies/policies.json",
		"/usr/lib/firefox/distribution/policies.json",
		"/usr/lib64/firefox/distribution/policies.json",
		"/usr/lib/firefox-esr/distribution/policies.json",
		"/usr/share/firefox/distribution/policies.json",
		"/usr/share/firefox-esr/distribution/policies.json",
		"/usr/lib/librewolf/distribution/policies.json",
		"/usr/lib/thunderbird/distribution/policies.json",
		"/opt/firefox/distribution/policies.json",
	};
	static const char folders[][32] = {
		"/etc/chromium/policies",   "/etc/chromium-browser/policies",
		"/etc/opt/chrome/policies", "/etc/opt/edge/policies",
		"/etc/brave/policies",
	};
	static const char levels[][12] = { "managed", "recommended" };
	char path[PATH_MAX];
	struct check_file file;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (!check_open(c, files[i], &file))
			continue;
		read_policies(c, files[i], &file, (void *)&firefox);
		check_file_fini(&file);
	}
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		for (size_t j = 0; j < 2; j++) {
			snprintf(path, sizeof(path), "%s/%s", folders[i], levels[j]);
			check_each(c, path, ".json", read_policies, (void *)&chromium);
		}
}
