# leakguard: everything generated is under build/
#
#   make            the program, its manual pages and completions
#   make demo       the main job at work, in throw-away namespaces
#   make check      all tests; make soak: the long ones whole
#   make kernels    those that other kernels may answer differently, on them
#   make lint       formatters and checkers, warnings as errors
#   make install    DESTDIR= PREFIX=/usr/local
#
# V=1 shows commands; WERROR=1 makes warnings errors. Each into a BUILD= of its
# own: SAN=1 builds with sanitizers, WITHOUT="libseccomp ..." without what is
# OPTIONAL below; what is not installed is left out by itself.

PREFIX	   ?= /usr/local
DESTDIR	   ?=
BUILD	   ?= build
PKG_CONFIG ?= pkg-config
PKGS	    = libnftnl libmnl libnl-route-3.0 inih json-c
OPTIONAL    = libcap-ng libseccomp libsystemd
WITHOUT	   ?=

CFLAGS	   ?= -O2 -g
WARNINGS    = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
	      $(if $(WERROR),-Werror)
HARDEN	    = -fstack-protector-strong -fPIE
SANITIZE    = $(if $(SAN),-fsanitize=address$(,)undefined -fno-sanitize-recover=all \
	      -fno-omit-frame-pointer)
ALL_CFLAGS  = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(WARNINGS) $(HARDEN) $(SANITIZE) \
	      $(HAVE) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANITIZE) $(LDFLAGS)
LIBS	    = $(PKG_LIBS)

# Asked once, and only by what compiles: scripts/setup may have to install pkg-config first.
FOUND	    = $(eval FOUND := $$(shell for p in $(filter-out $(WITHOUT),$(OPTIONAL)); do \
	      $(PKG_CONFIG) --exists $$$$p && echo $$$$p; done))$(FOUND)
# -DHAVE_LIBCAP_NG for libcap-ng
HAVE	    = $(eval HAVE := $$(shell echo $(addprefix HAVE_,$(FOUND)) | tr a-z- A-Z_ | \
	      sed 's/HAVE_/-D&/g'))$(HAVE)
PKG_CFLAGS  = $(eval PKG_CFLAGS := $$(shell $(PKG_CONFIG) --cflags $(PKGS) $(FOUND)))$(PKG_CFLAGS)
# libsystemd's headers only: it is loaded where systemd runs (notify.h).
PKG_LIBS    = $(eval PKG_LIBS := $$(shell $(PKG_CONFIG) --libs $(PKGS) \
	      $(filter-out libsystemd,$(FOUND))) $(if $(filter libsystemd,$(FOUND)),-ldl))$(PKG_LIBS)

SRC	= $(wildcard src/*.c)
MAIN	= src/main.c
TOOL	= src/gendoc.c
LIB_OBJ	= $(patsubst src/%.c,$(BUILD)/obj/%.o,$(filter-out $(MAIN) $(TOOL),$(SRC)))
DOCS	= $(addprefix $(BUILD)/,leakguard.8 leakguard.conf.5 leakguard.bash _leakguard)
GENDOC ?= $(BUILD)/gendoc# to cross-compile: one that runs here

Q   = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(2)")
,   = ,

.PHONY: all program docs clean
all: program docs
program: $(BUILD)/leakguard
docs: $(DOCS)

$(BUILD)/leakguard: $(LIB_OBJ) $(BUILD)/obj/main.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/gendoc: $(LIB_OBJ) $(BUILD)/obj/gendoc.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

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

.PHONY: check demo lab soak kernels docs-check
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
	$(Q)tests/lab/run -q -rsx tests/lab

soak: program
	$(Q)scripts/setup test
	$(Q)LAB_SOAK=1 tests/lab/run -q -rsx tests/lab

# Debian's kernels, emulated: part of CI, not of check.
kernels:
	$(Q)scripts/setup kernels
	$(Q)$(MAKE) --no-print-directory program
	$(Q)BUILD=$(BUILD) tests/kernels/run

# --- for those who change it ---

.PHONY: lint format tests-build print-flags
lint:
	$(Q)scripts/setup lint
	$(Q)scripts/lint

tests-build: $(UNIT) $(if $(wildcard tests/golden/bytecode.c),$(TEST_BUILD)/bytecode)

print-flags:
	@echo $(ALL_CFLAGS)

format:
	clang-format -i $(wildcard src/*.[ch] tests/*/*.[ch])

# --- for those who ship it; nothing is started or enabled ---

SBIN	 = $(DESTDIR)$(PREFIX)/sbin
MAN	 = $(DESTDIR)$(PREFIX)/share/man
DOC	 = $(DESTDIR)$(PREFIX)/share/doc/leakguard
BASHCOMP = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHCOMP	 = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
UNITS	 = $(DESTDIR)$(PREFIX)/lib/systemd/system
VERSION	 = $(shell sed -n 's/^.define CMD_VERSION[^"]*"\(.*\)"/\1/p' src/cmd.h)

.PHONY: install uninstall dist
install: all
	install -D -m 755 $(BUILD)/leakguard $(SBIN)/leakguard
	install -D -m 644 $(BUILD)/leakguard.8 $(MAN)/man8/leakguard.8
	install -D -m 644 $(BUILD)/leakguard.conf.5 $(MAN)/man5/leakguard.conf.5
	install -D -m 644 $(BUILD)/leakguard.bash $(BASHCOMP)/leakguard
	install -D -m 644 $(BUILD)/_leakguard $(ZSHCOMP)/_leakguard
	install -D -m 644 src/leakguard.conf.example $(DOC)/leakguard.conf.example
	sed 's|/usr/sbin/|$(PREFIX)/sbin/|' scripts/service/systemd/leakguard.service \
		>$(BUILD)/leakguard.service
	install -D -m 644 $(BUILD)/leakguard.service $(UNITS)/leakguard.service

uninstall:
	rm -f $(SBIN)/leakguard $(MAN)/man8/leakguard.8 $(MAN)/man5/leakguard.conf.5 \
		$(BASHCOMP)/leakguard $(ZSHCOMP)/_leakguard $(DOC)/leakguard.conf.example \
		$(UNITS)/leakguard.service
	[ ! -d $(DOC) ] || rmdir --ignore-fail-on-non-empty $(DOC)

dist:
	mkdir -p $(BUILD)
	git archive --prefix=leakguard-$(VERSION)/ -o $(BUILD)/leakguard-$(VERSION).tar.gz HEAD
