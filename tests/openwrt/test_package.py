"""The package directory: what its check refuses, what its Makefile installs
below the stand-in for OpenWrt's, and the feed that stands alone."""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess

import pytest

from guard import REPOSITORY
from router import PACKAGE, install

FEED = REPOSITORY / "scripts/packaging/openwrt"
loader = importlib.machinery.SourceFileLoader("check", str(FEED / "check"))
check = importlib.util.module_from_spec(
    importlib.util.spec_from_loader("check", loader))
loader.exec_module(check)

INSTALLED = {
    "etc/config/leakguard": 0o600,
    "etc/hotplug.d/iface/30-leakguard": 0o644,
    "etc/init.d/leakguard": 0o755,
    "usr/lib/leakguard/attempts": 0o755,
    "usr/lib/leakguard/early": 0o755,
    "usr/lib/leakguard/hook.sh": 0o644,
    "usr/lib/leakguard/uci.sh": 0o644,
    "usr/libexec/rpcd/leakguard": 0o755,
    "usr/sbin/leakguard": 0o755,
    "usr/share/rpcd/acl.d/leakguard.json": 0o644,
}


def test_as_it_is():
    assert check.Package(PACKAGE).check() == []


MAKEFILE, INIT = "Makefile", "files/leakguard.init"
# file -> name -> (what is there, what is put instead, what check says of it)
MUTATIONS = {
    MAKEFILE: {
        "no-version": (r"PKG_VERSION:=.*", "", "PKG_VERSION is missing"),
        "other-version": (r"PKG_VERSION:=.*", "PKG_VERSION:=9",
                          "PKG_VERSION is not"),
        "no-hash": (r"PKG_HASH:=.*", "PKG_HASH:=", "PKG_HASH:="),
        "short-hash": (r"PKG_HASH:=.*", "PKG_HASH:=abc", "PKG_HASH:=abc"),
        "license": (r"PKG_LICENSE:=.*", "PKG_LICENSE:=GPL v2", "PKG_LICENSE:="),
        "license-file": (r"PKG_LICENSE_FILES:=.*", "PKG_LICENSE_FILES:=COPYING",
                         "no COPYING"),
        "maintainer": (r"PKG_MAINTAINER:=.*", "PKG_MAINTAINER:=me",
                       "PKG_MAINTAINER"),
        "release": (r"PKG_RELEASE:=1", "PKG_RELEASE:=0", "PKG_RELEASE"),
        "flags": (r"gc-sections lto", "gc-section", "PKG_BUILD_FLAGS"),
        "order": (r"include \$\(INCLUDE_DIR\)/package.mk", "", "in this order"),
        "no-package": (r"\$\(eval.*", "", "builds no package"),
        "no-tab": (r"\t\$\(INSTALL_CONF\)", "        $(INSTALL_CONF)",
                   "a command without a tab"),
        "field-tab": (r"  VARIANT:=full", "\tVARIANT:=full",
                      "a field without two blanks"),
        "blanks": (r"VARIANT:=full", "VARIANT:=full ", "blanks at the end"),
        "no-endef": (r"(define Package/leakguard/prerm(?s:.*?))endef", r"\1",
                     "without endef"),
        "no-title": (r"  TITLE:=.*", "", "TITLE is missing"),
        "no-category": (r"  CATEGORY:=.*", "", "CATEGORY is missing"),
        "no-description": (r"define Package/leakguard/description(?s:.*?)endef",
                           "", "description is missing"),
        "no-install": (r"define Package/leakguard/install(?s:.*?)endef", "",
                       "install is missing"),
        "depends": (r"\+libmnl", "+libmnl,", "what is +libmnl,"),
        "depends-name": (r"kmod-nft-netdev", "kmod-nft-netdv",
                         "no package kmod-nft-netdv"),
        "optional": (r"(libcap-ng libseccomp) libnetfilter_log", r"\1",
                     "no word of libnetfilter_log"),
        "absolute": (r"files/leakguard.init \$\(1\)", "files/leakguard.init ",
                     "not below $(1)"),
        "no-source": (r"\./files/uci.sh", "./files/uci2.sh", "no files/uci2.sh"),
        "conffile": (r"^/etc/config/leakguard$", "/etc/config/leakgard",
                     "is not installed"),
        "as-data": (r"INSTALL_BIN\) \./files/leakguard.init",
                    "INSTALL_DATA) ./files/leakguard.init", "executable"),
        "instroot": (r'\[ -z "\$\$\{IPKG_INSTROOT\}" \]', "true", "IPKG_INSTROOT"),
        "one-dollar": (r"\$\$\{IPKG", "${IPKG", "make takes for its own"),
    },
    INIT: {
        "syntax": (r"^start_service\(\) \{", "start_service() { if", "syntax"),
        "bashism": (r'\[ "\$lg_enabled" = 1 \]', '[[ "$lg_enabled" == 1 ]]', "[["),
        "start": (r"START=14", "START=21", "START"),
        "no-procd": (r"USE_PROCD=1", "", "no USE_PROCD"),
        "shebang": (r"/etc/rc.common", "", "expected #!/bin/sh /etc/rc.common"),
    },
    "files/leakguard.config": {
        "enabled": ("enabled '0'", "enabled '1'", "must not be enabled"),
        "no-uci": ("option enabled '0'", "option enabled '0", "no line of uci"),
    },
    "files/acl.json": {
        "json": (r"\[ ", "[[ ", "acl.json"),
    },
}


@pytest.mark.parametrize("file, mutation", [
    (file, name) for file, mutations in MUTATIONS.items() for name in mutations])
def test_refused(tmp_path, file, mutation):
    pattern, replacement, expected = MUTATIONS[file][mutation]
    shutil.copytree(PACKAGE, tmp_path / "leakguard")
    path = tmp_path / "leakguard" / file
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.M)
    assert count
    path.write_text(text)
    problems = check.Package(tmp_path / "leakguard").check()
    assert any(expected in problem for problem in problems), problems


def test_refused_modes(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "leakguard")
    (tmp_path / "leakguard" / INIT).chmod(0o644)
    (tmp_path / "leakguard/files/stray").write_text("")
    problems = "\n".join(check.Package(tmp_path / "leakguard").check())
    assert "executable" in problems and "stray: is not installed" in problems


def installed_files(tree):
    return {str(path.relative_to(tree)): path.stat().st_mode & 0o7777
            for path in tree.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.mark.parametrize("variant", ["full", "mini"])
def test_installed(tmp_path, variant):
    os.umask(0o022)
    tree = install(tmp_path, variant, program="/bin/true")
    assert installed_files(tree) == INSTALLED
    assert os.readlink(tree / "etc/leakguard.conf") == "/var/etc/leakguard.conf"
    # No /run there: neither the program's nor the script's.
    assert "run=/var/run/leakguard" in (tree / "usr/lib/leakguard/early").read_text()
    header = next(tmp_path.glob("build_dir/*/*/src/cmd.h")).read_text()
    assert '"/var/run/leakguard"' in header and '"/run/' not in header
    control = tmp_path / "control" / tree.name
    assert control.with_suffix(".conffiles").read_text().split() == [
        "/etc/config/leakguard"]
    depends = control.with_suffix(".depends").read_text()
    assert ("libseccomp" in depends) == (variant == "full")
    without = (tmp_path / "compiled").read_text()
    assert ("libseccomp" in without) == (variant == "mini")


@pytest.mark.parametrize("script", ["postinst", "prerm"])
def test_silent_in_an_image(tmp_path, script):
    """While an image is built nothing of this machine is looked at."""
    install(tmp_path, program="/bin/true")
    done = subprocess.run(
        [shutil.which("dash"), "-eu", tmp_path / f"control/leakguard.{script}"], check=False,
        env={"IPKG_INSTROOT": "/image", "PATH": "/nowhere"},
        capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_feed(tmp_path):
    """Dropped anywhere, it builds from the tarball that its hash names."""
    done = subprocess.run([FEED / "feed", tmp_path / "feed"], check=False,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    package = tmp_path / "feed/leakguard"
    assert check.Package(package).check() == []
    tree = install(tmp_path / "out", "mini", package=package)
    assert installed_files(tree) == INSTALLED
    version = subprocess.run([tree / "usr/sbin/leakguard", "--version"],
                             check=True, capture_output=True, text=True)
    assert re.search(r"^PKG_VERSION:=(.*)$", (package / MAKEFILE).read_text(),
                     re.M)[1] in version.stdout
    # The parts that the variant leaves out are left out.
    libraries = subprocess.run(["ldd", tree / "usr/sbin/leakguard"], check=True,
                               capture_output=True, text=True).stdout
    assert "libmnl" in libraries and "libseccomp" not in libraries

    tarball = next(package.glob("*.tar.gz"))
    tarball.write_bytes(tarball.read_bytes() + b"x")
    with pytest.raises(subprocess.CalledProcessError):
        install(tmp_path / "out", "mini", program="/bin/true", package=package)
