# tests.mk - the tests that need neither root nor a network: unit and golden; measuring
#
# Included by the Makefile, whose LIB_OBJ, BUILD and flags it uses.

TEST_BUILD = $(BUILD)/tests
TEST_LIB   = $(TEST_BUILD)/leakguard.a
UNIT       = $(patsubst tests/unit/%.c,$(TEST_BUILD)/%,$(wildcard tests/unit/test_*.c))

.PHONY: unit golden
unit: $(UNIT)
	$(Q)tests/unit/run $^

golden: $(BUILD)/leakguard $(TEST_BUILD)/bytecode
	$(Q)BUILD=$(BUILD) tests/golden/run

# An archive, so that a test links only what it uses: no test has main's tables.
$(TEST_LIB): $(LIB_OBJ)
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(TEST_BUILD)/%: tests/unit/%.c $(wildcard tests/unit/*.h src/*.h) $(TEST_LIB)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Isrc $(ALL_LDFLAGS) -o $@ $< $(TEST_LIB) $(LIBS) -lcmocka

$(TEST_BUILD)/%: tests/golden/%.c $(wildcard src/*.h) $(TEST_LIB)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -Isrc $(ALL_LDFLAGS) -o $@ $< $(TEST_LIB) $(LIBS)

# What it costs: no test, and no part of CI. (These PARTS are not the program's.)
.PHONY: bench
bench:
	$(Q)scripts/setup bench
	$(Q)$(MAKE) --no-print-directory program
	$(Q)LEAKGUARD='$(abspath $(BUILD))/leakguard' tests/bench/run --out '$(BUILD)/bench' \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(findstring command,$(origin PARTS)),$(PARTS))
