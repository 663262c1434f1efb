"""The package itself: what is in it, and what those say whose job is to judge."""

import re
import stat
import subprocess
import tarfile

import pytest

from debs import run

PLACES = ("etc/leakguard.conf", "usr/sbin/leakguard", "usr/lib/leakguard/",
          "lib/systemd/system/leakguard", "usr/lib/systemd/system/leakguard",
          "usr/share/doc/leakguard/", "usr/share/man/man5/leakguard",
          "usr/share/man/man8/leakguard",
          "usr/share/bash-completion/completions/leakguard",
          "usr/share/zsh/vendor-completions/_leakguard",
          "usr/share/lintian/overrides/leakguard")
SCRIPTS = ("/bin/sh", "/bin/bash")


@pytest.fixture(scope="module")
def tree(debs, tmp_path_factory):
    return debs.unpack(tmp_path_factory.mktemp("deb") / "tree")


@pytest.fixture(scope="module")
def members(debs):
    """{path: TarInfo} of what is installed."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", debs.deb],
                          stdout=subprocess.PIPE) as dpkg, \
            tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
        return {member.name[2:]: member for member in archive}


def test_lintian_finds_nothing(debs):
    """No error, no warning, no override; in source package, too."""
    changes, = (debs.deb.parent).glob("*.changes")
    done = subprocess.run(
        ["lintian", "--allow-root", "--show-overrides",
         "--fail-on", "error,warning", changes],
        text=True, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_compiled_with_all_hardening(debs):
    done = subprocess.run(["blhc", "--all", debs.deb.parent / "log"], text=True,
                          capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_same_whoever_builds_it(debs, build):
    """Another folder, umask, zone; without the tests."""
    for name in (debs.deb.name, debs.orig.name):
        again = build / "package/again/deb" / name
        assert again.read_bytes() == (debs.deb.parent / name).read_bytes(), name


def test_version_is_the_programs(debs, tree):
    said = run(tree / "usr/sbin/leakguard", "--version")
    assert said == f"leakguard {debs.field('Version').rpartition('-')[0]}\n"


def test_no_file_outside_its_place(members):
    for name, member in members.items():
        assert member.isdir() or name.startswith(PLACES), name


def test_owners_and_modes(members):
    for name, member in members.items():
        assert (member.uid, member.gid) == (0, 0), name
        assert not member.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
                                  | stat.S_IWGRP | stat.S_IWOTH), name
        assert member.isdir() or member.isfile(), name
    executable = {name for name, member in members.items()
                  if member.isfile() and member.mode & 0o111}
    assert executable == {
        name for name, member in members.items() if member.isfile() and (
            name == "usr/sbin/leakguard" or
            name.startswith("usr/lib/leakguard/") and
            not name.endswith("/hook.sh"))}


def test_scripts_have_an_interpreter_that_is_there(tree, members):
    scripts = [tree / "DEBIAN" / name for name in ("postinst", "prerm", "postrm")]
    scripts += [tree / name for name, member in members.items()
                if member.isfile() and name.startswith("usr/lib/leakguard/")
                and not name.endswith("/hook.sh")]
    assert len(scripts) > 5
    for script in scripts:
        first = script.read_text().splitlines()[0]
        assert re.fullmatch(f"#!({'|'.join(SCRIPTS)})( -e)?", first), script


def test_configuration_is_all_comments(debs, tree):
    """As it is shipped it asks for nothing; and it is a conffile."""
    lines = (tree / "etc/leakguard.conf").read_text().splitlines()
    assert not [line for line in lines if line and not line.startswith("#")]
    assert run("dpkg-deb", "-I", debs.deb, "conffiles") == "/etc/leakguard.conf\n"


def test_units_and_hooks_are_not_wired(members):
    """A link in a .wants directory, /etc, ifupdown, NetworkManager ... none."""
    assert [name for name, member in members.items()
            if name.startswith("etc/") and member.isfile()] == ["etc/leakguard.conf"]
    assert not [name for name in members if ".wants" in name or "preset" in name]


def test_libraries_are_depended_on(debs):
    """What the loader needs, and nothing else; the rest is said to be optional."""
    depends = {entry.split()[0] for entry in debs.field("Depends").split(", ")}
    assert {"libc6", "libmnl0", "libnftnl11"} <= depends
    assert all(name.startswith("lib") for name in depends), depends
    assert debs.field("Recommends") == "kmod"
    assert "nftables" in debs.field("Suggests")
