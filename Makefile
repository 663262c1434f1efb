# leakguard: everything generated is under build/
#
#   make            the program, its manual pages and completions
#   make demo       the main job at work, in throw-away namespaces
#   make check      all tests; make soak: the long ones whole
#   make kernels    those that other kernels may answer differently, on them
#   make cross      other architectures' compilers, warnings as errors
#   make foreign    s390x (big-endian) and arm64, emulated, with Debian's kernels
#   make musl       static, with musl and every library from its source
#   make boot       a Debian with the package, booted: all that its link ever sends
#   make openwrt-check  OpenWrt's package: its service, networks, rpcd's object
#   make luci-check  the router's page, in a browser
#   make bench      what it costs, measured beside other ways; ROUNDS=n PARTS="packet ..."
#   make sizes      what it takes at its smallest, whole and without its parts
#   make lint       formatters and checkers, warnings as errors
#   make install    DESTDIR= PREFIX=/usr/local; make uninstall
#   make deb        build/deb/leakguard_VERSION_ARCH.deb, of the last commit
#   make package-check  both of them tried
#
# V=1 shows commands; WERROR=1 makes warnings errors. Each into a BUILD= of its
# own: SAN=1 builds with sanitizers, SMALL=1 for little room; WITHOUT="libseccomp
# ..." without libraries that are OPTIONAL below (what is not installed is left
# out by itself), WITHOUT="suggest ..." without PARTS of the program.

PREFIX	   ?= /usr/local
DESTDIR	   ?=
BUILD	   ?= build
PKG_CONFIG ?= pkg-config
PKGS	    = libnftnl libmnl inih $(if $(filter json,$(WITHOUT)),,json-c)
OPTIONAL    = libcap-ng libseccomp libsystemd libnetfilter_log
# suggest, with --tunnel auto; rules; --json; status --prometheus; check; monitor
PARTS	    = suggest rules json prometheus check monitor
WITHOUT	   ?=
$(foreach w,$(filter-out $(OPTIONAL) $(PARTS),$(WITHOUT)),\
	$(error WITHOUT=$(w): expected one of $(OPTIONAL) $(PARTS)))
LEFT_OUT    = $(filter $(PARTS),$(WITHOUT))

# -Oz is known to clang, and to gcc from 12 on.
SMALLEST    = $(eval SMALLEST := $$(shell $(CC) -Oz -E -x c /dev/null >/dev/null 2>&1 && \
	      echo -Oz || echo -Os))$(SMALLEST)
CFLAGS	   ?= $(if $(SMALL),$(SMALLEST),-O2 -g)
WARNINGS    = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
	      $(if $(WERROR),-Werror)
HARDEN	    = -fPIE -fstack-protector$(if $(SMALL),,-strong)
# What can be collected, and nothing for debuggers to find their way by.
COLLECT	    = -ffunction-sections -fdata-sections
SHRINK	    = $(if $(SMALL),-flto=auto -fno-plt -fno-asynchronous-unwind-tables \
	      -fno-unwind-tables $(TIGHTER))
# What gcc still spends room on, for speed; clang does not know them.
TIGHTER	    = $(eval TIGHTER := $$(shell for f in move-loop-invariants caller-saves \
	      thread-jumps inline-functions-called-once; do \
	      $(CC) -Werror -fno-$$$$f -E -x c /dev/null >/dev/null 2>&1 && echo -fno-$$$$f; \
	      done))$(TIGHTER)
SHRINK_LD   = $(if $(SMALL),-Wl$(,)-z$(,)noseparate-code -Wl$(,)--build-id=none)
# Packed relocations, 8 KB less on 64 bits: of a C library that says it loads them
# (glibc 2.36), and a linker that makes them. Others are not asked.
PACKED	    = $(eval PACKED := $$(shell grep -qs GLIBC_ABI_DT_RELR \
	      "$$$$($(CC) -print-file-name=libc.so.6)" && echo 'int main(void){return 0;}' | \
	      $(CC) -fPIE -pie -Wl$(,)--fatal-warnings -Wl$(,)-z$(,)pack-relative-relocs -x c \
	      -o /dev/null - 2>/dev/null && echo -Wl$(,)-z$(,)pack-relative-relocs))$(PACKED)
SANITIZE    = $(if $(SAN),-fsanitize=address$(,)undefined -fno-sanitize-recover=all \
	      -fno-omit-frame-pointer)
ALL_CFLAGS  = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(WARNINGS) $(HARDEN) $(SANITIZE) \
	      $(COLLECT) $(SHRINK) $(HAVE) $(LESS) $(PKG_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--gc-sections $(PACKED) \
	      $(SHRINK_LD) $(SANITIZE) $(LDFLAGS)
LIBS	    = $(PKG_LIBS)

# Asked once, and only by what compiles: scripts/setup may have to install pkg-config first.
FOUND	    = $(eval FOUND := $$(shell for p in $(filter-out $(WITHOUT),$(OPTIONAL)); do \
	      $(PKG_CONFIG) --exists $$$$p && echo $$$$p; done))$(FOUND)
# -DHAVE_LIBCAP_NG for libcap-ng
HAVE	    = $(eval HAVE := $$(shell echo $(addprefix HAVE_,$(FOUND)) | tr a-z- A-Z_ | \
	      sed 's/HAVE_/-D&/g'))$(HAVE)
# -DWITHOUT_SUGGEST for suggest
LESS	    = $(eval LESS := $$(shell echo $(addprefix WITHOUT_,$(LEFT_OUT)) | tr a-z A-Z | \
	      sed 's/WITHOUT_/-D&/g'))$(LESS)
PKG_CFLAGS  = $(eval PKG_CFLAGS := $$(shell $(PKG_CONFIG) --cflags $(PKGS) $(FOUND)))$(PKG_CFLAGS)
# libsystemd's headers only: it is loaded where systemd runs (notify.h).
PKG_LIBS    = $(eval PKG_LIBS := $$(shell $(PKG_CONFIG) --libs $(PKGS) \
	      $(filter-out libsystemd,$(FOUND))) $(if $(filter libsystemd,$(FOUND)),-ldl))$(PKG_LIBS)

SRC	= $(wildcard src/*.c)
MAIN	= src/main.c
TOOL	= src/gendoc.c
# Of a part that is left out, the files that are its own; the linker takes the rest.
OWN_suggest = cmd_suggest suggest survey wireguard sockread nameservers check_file
OWN_json    = cmd_json cmd_monitor_json json_add
OWN_prometheus = cmd_prometheus
OWN_check   = cmd_check cmd_check_json cmd_check_print check_run check_survey check_plan check_judge \
	      check_packet check_tap check_send check_count check_find check_leases \
	      fwcount nameservers check_system check_servers check_resolved_conf \
	      check_resolved check_pushed_text check_pushed check_guests check_ipv6 check_doh \
	      check_report check_json check_lines check_file
OWN_monitor = cmd_monitor cmd_monitor_print outlet tally fwcount whose netns droptrace sockread \
	      leases logread blocked packet dnsname
KEPT	= $(foreach part,$(filter-out $(LEFT_OUT),$(PARTS)),$(OWN_$(part)))
UNUSED	= $(patsubst %,src/%.c,$(filter-out $(KEPT),$(foreach part,$(LEFT_OUT),$(OWN_$(part)))))
LIB_OBJ	= $(patsubst src/%.c,$(BUILD)/obj/%.o,$(filter-out $(MAIN) $(TOOL) $(UNUSED),$(SRC)))
DOCS	= $(addprefix $(BUILD)/,leakguard.8 leakguard.conf.5 leakguard.bash _leakguard)
# To cross-compile: one that runs here. The manual tells of the whole program.
GENDOC ?= $(BUILD)/$(if $(LEFT_OUT),whole/)gendoc

Q   = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(2)")
,   = ,

.PHONY: all program docs objects clean
all: program docs
program: $(BUILD)/leakguard
docs: $(DOCS)
objects: $(LIB_OBJ) $(BUILD)/obj/main.o

$(BUILD)/leakguard: $(LIB_OBJ) $(BUILD)/obj/main.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/gendoc: $(LIB_OBJ) $(BUILD)/obj/gendoc.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/whole/gendoc:
	$(Q)$(MAKE) --no-print-directory BUILD=$(@D) WITHOUT= SMALL= $@

$(BUILD)/obj/%.o: src/%.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(DOCS): $(BUILD)/%: src/%.in $(GENDOC)
	$(call say,DOC,$@)
	$(Q)$(GENDOC) <$< >$@.tmp && mv $@.tmp $@

clean:
	$(Q)rm -rf $(filter-out $(BUILD)/tools,$(wildcard $(BUILD)/*))

-include $(wildcard $(BUILD)/obj/*.d)

# --- tests: each runner ends with "NAME: N passed, N failed, N skipped" ---

.PHONY: check demo lab soak kernels boot cross foreign musl docs-check
-include tests/tests.mk

# In two steps: what the first installs, the second is made with.
check:
	$(Q)scripts/setup test
	$(Q)$(MAKE) --no-print-directory all
	$(Q)MAKE='$(MAKE)' scripts/check unit golden docs-check lab

demo:
	$(Q)scripts/setup demo
	$(Q)$(MAKE) --no-print-directory program
	$(Q)tests/lab/demo

docs-check: all
	$(Q)BUILD=$(BUILD) tests/docs/test_docs.sh

lab: program
	$(Q)BUILD=$(BUILD) tests/lab/all

soak: program
	$(Q)scripts/setup test
	$(Q)LAB_SOAK=1 tests/lab/run -q -rsx tests/lab

# Debian's kernels, emulated: part of CI, not of check.
kernels:
	$(Q)scripts/setup kernels
	$(Q)$(MAKE) --no-print-directory program
	$(Q)BUILD=$(BUILD) tests/kernels/run

# Other architectures, another C library: likewise.
cross:
	$(Q)scripts/setup cross
	$(Q)MAKE='$(MAKE)' scripts/cross

foreign:
	$(Q)scripts/setup foreign
	$(Q)MAKE='$(MAKE)' scripts/cross s390x arm64
	$(Q)BUILD=$(BUILD) tests/kernels/foreign

musl:
	$(Q)if scripts/setup musl; then MAKE='$(MAKE)' scripts/musl; \
		else echo 'skip musl: what it is built with is not to be had'; fi

# Debian itself with the package, emulated: likewise.
boot:
	$(Q)scripts/setup boot
	$(Q)BUILD='$(BUILD)' DEB_BUILD_OPTIONS=nocheck scripts/packaging/deb
	$(Q)BUILD='$(BUILD)' tests/boot/run

# The page for OpenWrt's LuCI, in a browser: likewise.
.PHONY: luci-check
luci-check:
	$(Q)scripts/setup luci
	$(Q)$(MAKE) --no-print-directory program
	$(Q)BUILD='$(BUILD)' tests/luci/run

# OpenWrt's package, below busybox: likewise.
.PHONY: openwrt-check
openwrt-check:
	$(Q)scripts/setup openwrt
	$(Q)$(MAKE) --no-print-directory program
	$(Q)scripts/packaging/openwrt/check
	$(Q)LEAKGUARD='$(abspath $(BUILD))/leakguard' tests/lab/run -q -rsx tests/openwrt

# --- for those who change it ---

.PHONY: lint format sizes tests-build print-flags
lint:
	$(Q)scripts/setup lint
	$(Q)scripts/lint

sizes:
	$(Q)MAKE='$(MAKE)' scripts/sizes

tests-build: $(UNIT) $(if $(wildcard tests/golden/bytecode.c),$(TEST_BUILD)/bytecode)

print-flags:
	@echo $(ALL_CFLAGS)

format:
	clang-format -i $(wildcard src/*.[ch] tests/*/*.[ch])

# --- for those who ship it; nothing is started, enabled or wired ---
#
# What goes where, below DESTDIR, which may have blanks in its name.
# SYSTEMD_UNITDIR= leaves units out.

SBINDIR		?= $(PREFIX)/sbin
LIBDIR		?= $(PREFIX)/lib/leakguard
MANDIR		?= $(PREFIX)/share/man
DOCDIR		?= $(PREFIX)/share/doc/leakguard
BASHCOMPDIR	?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR	?= $(PREFIX)/share/zsh/site-functions
SYSTEMD_UNITDIR	?= $(PREFIX)/lib/systemd/system
VERSION		 = $(shell sed -n 's/^.define CMD_VERSION[^"]*"\(.*\)"/\1/p' src/cmd.h)

HOOKS	= $(notdir $(filter-out %.md,$(wildcard scripts/hooks/*)))
EARLY	= $(notdir $(wildcard scripts/service/early))
UNITS	= $(notdir $(wildcard scripts/service/systemd/*.service))
# Where scripts, units and notes name what is installed.
PLACES	= s|/usr/sbin/leakguard|$(SBINDIR)/leakguard|g; s|/usr/lib/leakguard|$(LIBDIR)|g
# What there is to read, in the same folders; and other service managers' scripts.
NOTES	= README.md $(wildcard rules/*) scripts/hooks/README.md \
	  $(filter-out scripts/service/systemd/% scripts/service/early,$(shell \
	  find scripts/service -type f | sort))

.PHONY: install uninstall deb package-check dist
install: all
	install -D -m 755 -t '$(DESTDIR)$(SBINDIR)' $(BUILD)/leakguard
	install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man8' $(BUILD)/leakguard.8
	install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man5' $(BUILD)/leakguard.conf.5
	install -D -m 644 $(BUILD)/leakguard.bash '$(DESTDIR)$(BASHCOMPDIR)/leakguard'
	install -D -m 644 -t '$(DESTDIR)$(ZSHCOMPDIR)' $(BUILD)/_leakguard
	install -D -m 755 -t '$(DESTDIR)$(LIBDIR)' $(HOOKS:%=scripts/hooks/%) $(EARLY:%=scripts/service/%)
	chmod 644 '$(DESTDIR)$(LIBDIR)/hook.sh'
	cd '$(DESTDIR)$(LIBDIR)' && sed -i '$(PLACES)' $(HOOKS) $(EARLY)
ifneq ($(SYSTEMD_UNITDIR),)
	install -D -m 644 -t '$(DESTDIR)$(SYSTEMD_UNITDIR)' $(UNITS:%=scripts/service/systemd/%)
	cd '$(DESTDIR)$(SYSTEMD_UNITDIR)' && sed -i '$(PLACES)' $(UNITS)
endif
	install -D -m 644 -t '$(DESTDIR)$(DOCDIR)' src/leakguard.conf.example
	for note in $(NOTES); do \
		install -D -m 644 "$$note" '$(DESTDIR)$(DOCDIR)'/"$$note" || exit; done
	cd '$(DESTDIR)$(DOCDIR)' && sed -i '$(PLACES)' $(NOTES)

uninstall:
	rm -f '$(DESTDIR)$(SBINDIR)/leakguard' '$(DESTDIR)$(MANDIR)/man8/leakguard.8' \
		'$(DESTDIR)$(MANDIR)/man5/leakguard.conf.5' \
		'$(DESTDIR)$(BASHCOMPDIR)/leakguard' '$(DESTDIR)$(ZSHCOMPDIR)/_leakguard' \
		'$(DESTDIR)$(DOCDIR)/leakguard.conf.example'
	for name in $(HOOKS) $(EARLY); do rm -f '$(DESTDIR)$(LIBDIR)'/"$$name"; done
	for name in $(NOTES); do rm -f '$(DESTDIR)$(DOCDIR)'/"$$name"; done
ifneq ($(SYSTEMD_UNITDIR),)
	for name in $(UNITS); do rm -f '$(DESTDIR)$(SYSTEMD_UNITDIR)'/"$$name"; done
endif
	! cd '$(DESTDIR)$(DOCDIR)' 2>/dev/null || \
		rmdir -p --ignore-fail-on-non-empty $(filter-out ./,$(sort $(dir $(NOTES)))) 2>/dev/null || :
	for own in '$(DESTDIR)$(LIBDIR)' '$(DESTDIR)$(DOCDIR)'; do \
		[ ! -d "$$own" ] || rmdir --ignore-fail-on-non-empty "$$own"; done

# Of what is committed; needs no network but for setup.
deb:
	$(Q)scripts/setup deb
	$(Q)BUILD='$(BUILD)' scripts/packaging/deb

# Both in a Debian tree of their own; part of CI, not of check.
package-check:
	$(Q)scripts/setup package
	$(Q)BUILD='$(BUILD)' tests/package/run

dist:
	mkdir -p $(BUILD)
	git archive --prefix=leakguard-$(VERSION)/ -o $(BUILD)/leakguard-$(VERSION).tar.gz HEAD
