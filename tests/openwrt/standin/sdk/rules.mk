# Stand-in for OpenWrt's rules.mk, for `make -f PACKAGE/Makefile TOPDIR=here
# OUT=...`: only what the package uses. See tests/openwrt/README.md.

INCLUDE_DIR := $(TOPDIR)/include
BUILD_DIR   := $(OUT)/build_dir
ARCH	    ?= x86_64

INSTALL_DIR  = install -d -m0755
INSTALL_BIN  = install -m0755
INSTALL_DATA = install -m0644
INSTALL_CONF = install -m0600
CP	     = cp -fpR
LN	     = ln -sf
SED	     = sed -i -e
