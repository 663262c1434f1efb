"""Late: no room where the package writes, and what sysupgrade keeps.

Two starts at once, a read-only root and nothing made yet are in test_service.py;
links that come and go in test_readme.py, and with clients in tests/lab.
"""

import contextlib
import os
import pathlib
import subprocess
import tarfile

import pytest

import labnet
import netns
from clients import dig
from router import is_open
from tools import comparable

APPROVED = labnet.RESOLVERS["approved"]
PUBLIC = labnet.RESOLVERS["public"]
RESOLVER = f"list resolver '{APPROVED.v4}'"


def is_approved(lab):
    return dig(lab.host, APPROVED.v4).answer == "approved"


# --- no room ---

PLACES = ("run", "etc")  # where leakguard writes, below /tmp


@pytest.fixture
def small(router):
    """Those are file systems of their own, of a few KiB: for the stand-in's
    log and procd there has to be room."""
    paths = [router.root / "tmp" / name for name in PLACES]
    for path in paths:
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k,mode=755",
                        "tmpfs", path], check=True)
    yield router
    router.init("stop")
    router.settle()
    router.guard.disable(check=False)
    for path in paths:
        subprocess.run(["umount", "-l", path], check=True)


@contextlib.contextmanager
def filled(router):
    """No byte more goes in there."""
    ballast = [router.root / "tmp" / name / "ballast" for name in PLACES]
    for path in ballast:
        with contextlib.suppress(OSError), open(path, "wb", 0) as file:
            while True:
                file.write(bytes(512))
    yield
    for path in ballast:
        path.unlink()


def test_no_room_at_reload(lab, small):
    """What is in force stays, and its file; then the change is made."""
    router = small
    router.configure(RESOLVER)
    router.boot()
    rules, conf = router.guard.listings("-s"), router.conf()
    with filled(router):
        router.configure(f"list resolver '{PUBLIC.v4}'")
        said = router.init("reload").stderr
        router.settle()
        assert "cannot write" in said or "No space left" in said, said
        assert router.guard.listings("-s").keys() == rules.keys()
        assert is_approved(lab) and not is_open(lab)
        assert router.conf() == conf
        router.init("restart")
        router.settle()
        assert router.guard.watcher
        assert is_approved(lab) and not is_open(lab)
    router.reload()
    assert not is_approved(lab)
    assert dig(lab.host, PUBLIC.v4).answer == "public"


def test_no_room_at_boot(lab, small):
    """Nothing can be recorded, so nothing is raised, which is said; procd's
    watcher closes the router as soon as there is room, and a reload brings
    what is configured."""
    router = small
    router.configure(RESOLVER)
    with filled(router):
        said = router.init("boot", script="/etc/rc.d/S14leakguard").stderr
        assert "NOT GUARDED" in said and "No space left" in said
        assert is_open(lab)
        router.settle()
    netns.wait_until(lambda: router.settle() and router.guard.watcher,
                     "procd's watcher has raised it", 30, 0.2)
    assert router.guard.state == "LOCKED"
    assert not is_open(lab) and not is_approved(lab)
    router.reload()
    assert is_approved(lab) and not is_open(lab)
    assert router.settle()["command"] == ["/usr/sbin/leakguard", "watch"]


# --- sysupgrade ---

def on_flash(router):
    """{file or link: what is in it} of all that is not in memory."""
    found = {}
    for top, directories, names in os.walk(router.root):
        if top == str(router.root):
            for name in ("tmp", "proc", "sys", "dev"):
                directories.remove(name)
        for path in (pathlib.Path(top, name) for name in directories + names):
            name = str(path.relative_to(router.root))
            if path.is_symlink():
                found[name] = os.readlink(path)
            elif path.is_file():
                found[name] = path.read_bytes()
    return found


def list_kept(router, image):
    """What `sysupgrade -l` lists of this package: its conffiles that are no
    more as the image has them."""
    conffiles = pathlib.Path(router.lab.dir, "sdk/control/leakguard.conffiles")
    now = on_flash(router)
    return [name[1:] for name in conffiles.read_text().split()
            if now[name[1:]] != image[name[1:]]]


def rules_of(router):
    return {table: comparable(text) for table, text in
            router.guard.listings("-s").items()}


def test_sysupgrade(lab, router):
    """What is kept is all that was ever written, and makes the same rules of
    a fresh image, before there is a network."""
    image = on_flash(router)
    router.configure(RESOLVER, "option action 'reject'", "list tunnel 'wg0'",
                     network="config network\n\toption name 'vpn'\n"
                             "\toption tunnel '1'\n")
    router.boot()
    router.hotplug("ifup", "vpn", "tun0")
    rules = rules_of(router)
    assert not is_open(lab)
    now = on_flash(router)
    kept = list_kept(router, image)
    assert kept == ["etc/config/leakguard"]
    assert {name for name in now.keys() | image.keys()
            if now.get(name) != image.get(name)} == {*kept}
    backup = pathlib.Path(lab.dir, "backup.tar")
    with tarfile.open(backup, "w") as archive:
        for name in kept:
            archive.add(router.root / name, name)

    router.power_off()
    router.config.write_text(router.shipped)
    assert on_flash(router) == image
    router.boot()
    assert is_open(lab), "the control: nothing was kept"
    router.power_off()
    with tarfile.open(backup) as archive:
        archive.extractall(router.root)
    router.boot()
    assert rules_of(router) == rules
    assert not is_open(lab) and is_approved(lab)
