"""make install and make uninstall, for those without a package manager."""

import hashlib
import os
import pathlib
import re
import stat
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
PREFIXES = ("/usr/local", "/usr")


def make(build, *arguments, cwd=TOP, umask=0o022):
    done = subprocess.run(
        ["make", "-s", f"BUILD={build}", *arguments], cwd=cwd, text=True,
        capture_output=True, timeout=300, check=False, umask=umask)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def snapshot(root):
    """{path: mode and what is in it} of all below."""
    found = {}
    for path in sorted(root.rglob("*")):
        mode = stat.filemode(path.lstat().st_mode)
        data = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (mode, data)
    return found


def files(found):
    return {path: of for path, of in found.items() if of[0][0] != "d"}


@pytest.fixture(scope="module", autouse=True)
def built(build):
    make(build, "all")


@pytest.fixture
def destination(tmp_path):
    made = tmp_path / "with a blank"
    made.mkdir()
    return made


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_installed(build, destination, prefix):
    make(build, "install", f"DESTDIR={destination}", f"PREFIX={prefix}")
    root = destination / prefix.lstrip("/")
    found = snapshot(root)
    assert {path.split("/")[0] for path in found} == {"lib", "sbin", "share"}
    assert os.listdir(destination) == ["usr"]
    for path, (mode, _) in found.items():
        program = path.startswith(("sbin/", "lib/leakguard/")) and \
            not path.endswith("/hook.sh")
        assert mode in (("-rwxr-xr-x",) if program else
                        ("-rw-r--r--", "drwxr-xr-x")), (path, mode)
    hooks = {path.name for path in (TOP / "scripts/hooks").iterdir()}
    assert set(os.listdir(root / "lib/leakguard")) == \
        hooks - {"README.md"} | {"early"}
    assert {"leakguard.service", "leakguard-early.service"} <= \
        set(os.listdir(root / "lib/systemd/system"))
    for note in ("README.md", "rules/README.md", "rules/router.nft",
                 "scripts/hooks/README.md", "scripts/service/README.md",
                 "leakguard.conf.example"):
        assert f"share/doc/leakguard/{note}" in found
    for page in ("man8/leakguard.8", "man5/leakguard.conf.5"):
        assert f"share/man/{page}" in found


@pytest.mark.parametrize("prefix", PREFIXES)
def test_places_are_named_as_they_are(build, destination, prefix):
    """Scripts and units name nothing that is not there."""
    make(build, "install", f"DESTDIR={destination}", f"PREFIX={prefix}")
    root = destination / prefix.lstrip("/")
    named = set()
    for path in [*(root / "lib").rglob("*"),
                 *(root / "share/doc").rglob("*")]:
        if path.is_file() and path.suffix != ".md":
            named |= set(re.findall(r"/usr/[\w/]*/leakguard\b(?:/[\w.-]+)?",
                                    path.read_text()))
    assert f"{prefix}/sbin/leakguard" in named
    for place in named:
        assert place.startswith(prefix) and \
            (destination / place.lstrip("/")).exists(), place


@pytest.mark.parametrize("prefix", PREFIXES)
def test_uninstall_takes_back_what_install_made(build, destination, prefix):
    make(build, "install", f"DESTDIR={destination}", f"PREFIX={prefix}")
    make(build, "uninstall", f"DESTDIR={destination}", f"PREFIX={prefix}")
    left = snapshot(destination)
    assert not files(left)
    assert not [path for path in left if "leakguard" in path]


def test_uninstall_leaves_what_is_the_users(build, destination):
    root = destination / "usr/local"
    own = ("sbin/own", "lib/leakguard/own-hook", "lib/systemd/system/own.service",
           "share/doc/leakguard/scripts/hooks/own", "share/man/man8/own.8",
           "lib/systemd/system/leakguard.service.d/own.conf")
    for name in own:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "lib/leakguard/own-directory").mkdir()
    before = snapshot(destination)
    make(build, "install", f"DESTDIR={destination}")
    assert len(files(snapshot(destination))) > len(own) + 10
    make(build, "uninstall", f"DESTDIR={destination}")
    after = snapshot(destination)
    assert files(after) == files(before)
    assert before.items() <= after.items()


def test_uninstall_alone_does_nothing(build, destination):
    make(build, "uninstall", f"DESTDIR={destination}")
    assert not snapshot(destination)


def test_installed_twice_it_is_the_same(build, destination, tmp_path):
    """Whoever's umask it is; over an older installation, too."""
    make(build, "install", f"DESTDIR={destination}")
    first = snapshot(destination)
    make(build, "install", f"DESTDIR={destination}")
    assert snapshot(destination) == first
    make(build, "install", f"DESTDIR={tmp_path / 'other'}", umask=0o077)
    assert snapshot(tmp_path / "other") == first


def test_places_by_variables(build, destination):
    make(build, "install", f"DESTDIR={destination}", "SYSTEMD_UNITDIR=",
         "SBINDIR=/opt/bin", "LIBDIR=/opt/lib/hooks")
    assert (destination / "opt/bin/leakguard").exists()
    assert not list(destination.rglob("*.service"))
    assert "/opt/bin/leakguard" in \
        (destination / "opt/lib/hooks/hook.sh").read_text()
    make(build, "uninstall", f"DESTDIR={destination}", "SYSTEMD_UNITDIR=",
         "SBINDIR=/opt/bin", "LIBDIR=/opt/lib/hooks")
    assert not files(snapshot(destination))


def test_the_source_is_only_read(build, destination, tmp_path):
    """Everything that is generated is under BUILD."""
    there = tmp_path / "source"
    there.mkdir()
    subprocess.run(["mount", "--bind", TOP, there], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", there], check=True)
        make(tmp_path / "built", "install", f"DESTDIR={destination}",
             "CFLAGS=-O0", cwd=there)
    finally:
        subprocess.run(["umount", there], check=True)
    assert (destination / "usr/local/sbin/leakguard").exists()
