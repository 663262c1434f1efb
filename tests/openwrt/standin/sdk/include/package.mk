# Stand-in for OpenWrt's package.mk: of each package with BUILD_VARIANT's VARIANT
# the installed files in OUT/NAME, what makes up its control file beside it. It
# compiles with this machine's compiler, or takes PROGRAM. See ../../../README.md.

.PHONY: all
all:

define Build/Prepare/Default
	mkdir -p $(PKG_BUILD_DIR)
	echo "$(PKG_HASH)  $(subst file://,,$(PKG_SOURCE_URL))/$(PKG_SOURCE)" | sha256sum -c --quiet
	tar -xzf $(subst file://,,$(PKG_SOURCE_URL))/$(PKG_SOURCE) -C $(PKG_BUILD_DIR) --strip-components=1
endef

# OpenWrt gives flags by the environment, and CC as an argument.
define Build/Compile/Default
	+$(if $(PROGRAM),install -D $(PROGRAM) $(PKG_BUILD_DIR)/build/leakguard,\
	CFLAGS="-Os" LDFLAGS="" $(MAKE) -s -C $(PKG_BUILD_DIR) CC=cc $(1))
	echo '$(1)' >$(OUT)/compiled
endef

define Build/Done
	rm -rf $(PKG_BUILD_DIR)
	$(Build/Prepare)
	$(Build/Configure)
	$(Build/Compile)
endef

# The fields are assignments, as in the original: they hold for one package.
define BuildPackage
  VARIANT:=
  DEPENDS:=
  TITLE:=
  PROVIDES:=
  CONFLICTS:=
  $$(eval $$(Package/$(1)))
  ifeq ($$(VARIANT),$$(BUILD_VARIANT))
    $(1)-depends := $$(DEPENDS)
    all: $(1)
    .PHONY: $(1)
    $(1):
	$$(Build/Done)
	rm -rf $$(OUT)/$(1)
	mkdir -p $$(OUT)/$(1) $$(shell mkdir -p $$(OUT)/control)
	$$(call Package/$(1)/install,$$(OUT)/$(1))
	$$(file >$$(OUT)/control/$(1).depends,$$($(1)-depends))
	$$(file >$$(OUT)/control/$(1).conffiles,$$(Package/$(1)/conffiles))
	$$(file >$$(OUT)/control/$(1).postinst,$$(Package/$(1)/postinst))
	$$(file >$$(OUT)/control/$(1).prerm,$$(Package/$(1)/prerm))
  endif
endef
