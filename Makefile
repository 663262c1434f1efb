# leakguard: everything generated is under build/
#
#   make            the program, its manual pages and completions
#   make demo       the main job at work, in throw-away namespaces
#   make check      all tests; make soak: the long ones whole
#   make lint       formatters and checkers, warnings as errors
#   make install    DESTDIR= PREFIX=/usr/local

VERSION	   = 0.1.0
PREFIX	  ?= /usr/local
DESTDIR	  ?=
BUILD	  ?= build
CC	  ?= cc
PKGS	   = libnftnl libmnl libnl-route-3.0 inih json-c
PKG_CONFIG ?= pkg-config

CFLAGS	  ?= -O2 -g
WARNINGS   = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla
HARDEN	   = -fstack-protector-strong -fPIE
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(WARNINGS) $(HARDEN) \
	     $(shell $(PKG_CONFIG) --cflags $(PKGS)) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)
LIBS	   = $(shell $(PKG_CONFIG) --libs $(PKGS))

SRC  = $(wildcard src/*.c)
MAIN = src/main.c
TOOL = src/gendoc.c
LIB_OBJ = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(filter-out $(MAIN) $(TOOL),$(SRC)))

Q = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)	$(2)")

.PHONY: all clean
all: $(BUILD)/leakguard

$(BUILD)/leakguard: $(LIB_OBJ) $(BUILD)/obj/main.o
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/obj/%.o: src/%.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

clean:
	$(Q)rm -rf $(BUILD)/obj $(BUILD)/leakguard

-include $(wildcard $(BUILD)/obj/*.d)
