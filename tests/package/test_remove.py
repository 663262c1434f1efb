"""The package is removed and purged: what stays, what is said, what opens it."""

import re

import netns
import pytest

from machine import PROGRAM

NAME = "leakguard"
SCRIPTS = "/var/lib/dpkg/info/leakguard."
# All calls of Debian's policy, 6.5 to 6.8, but those that take it away.
CALLS = (
    "postinst configure 0.0.1-1", "postinst abort-upgrade 9.0-1",
    "postinst abort-remove", "postinst abort-remove in-favour other 1",
    "postinst abort-deconfigure in-favour other 1", "postinst triggered x",
    "prerm upgrade 9.0-1", "prerm failed-upgrade 0.0.1-1 9.0-1",
    "prerm deconfigure in-favour other 1", "prerm remove",
    "prerm remove in-favour other 1",
    "postrm upgrade 9.0-1", "postrm failed-upgrade 0.0.1-1 9.0-1",
    "postrm abort-install", "postrm abort-install 0.0.1-1 9.0-1",
    "postrm abort-upgrade 0.0.1-1 9.0-1", "postrm disappear other 1",
)


def said(done):
    """The package's own lines."""
    return [line for line in done.stdout.splitlines()
            if line.startswith(("leakguard:", "To open it: "))]


def opening(lines):
    """The command that the lines name."""
    return re.fullmatch("To open it: (.*)", lines[-1])[1]


@pytest.fixture
def guarded(machine, debs):
    """Installed, and closed; open before."""
    machine.dpkg("-i", debs.deb)
    assert not machine.is_closed()
    machine.leakguard("enable", "--tunnel", "tun0")
    assert machine.is_closed() and machine.watchers()
    return machine


def test_removed_it_stays_closed_and_says_so(guarded):
    with guarded.watched() as seen:
        done = guarded.dpkg("-r", NAME)
    assert not seen.queries
    assert guarded.is_closed()
    lines = said(done)
    assert len(lines) == 2 and "stays up" in lines[0]
    netns.wait_until(lambda: not guarded.watchers(), "the watcher has ended")
    assert not guarded.path(PROGRAM).exists()
    assert guarded.path("etc/leakguard.conf").exists()
    guarded.shell(opening(lines))
    assert not guarded.is_closed()
    assert guarded.host.run(["nft", "list", "ruleset"]).stdout == ""


def test_purged_it_stays_closed_and_says_so(guarded):
    guarded.dpkg("-r", NAME)
    with guarded.watched() as seen:
        done = guarded.dpkg("-P", NAME)
    assert not seen.queries
    lines = said(done)
    assert len(lines) == 2 and "closed" in lines[0]
    for name in ("etc/leakguard.conf", "run/leakguard", "usr/lib/leakguard",
                 "usr/share/doc/leakguard"):
        assert not guarded.path(name).exists(), name
    guarded.shell(opening(lines))
    assert not guarded.is_closed()


def test_purged_at_once(guarded):
    with guarded.watched() as seen:
        done = guarded.dpkg("-P", NAME)
    assert not seen.queries and guarded.is_closed()
    netns.wait_until(lambda: not guarded.watchers(), "the watcher has ended")
    guarded.shell(opening(said(done)))
    assert not guarded.is_closed()


def test_nothing_is_left_of_it(machine, debs):
    """All files of the tree, but dpkg's own."""
    def files():
        return set(machine.run(
            "find", "/", "-xdev", "-path", "/var/lib/dpkg", "-prune", "-o",
            "-path", "/var/log", "-prune", "-o", "-path", "/tmp", "-prune",
            "-o", "-print").stdout.splitlines())

    before = files()
    machine.dpkg("-i", debs.deb)
    machine.leakguard("enable")
    assert len(files()) > len(before) + 20
    machine.leakguard("disable")
    machine.dpkg("-P", NAME)
    left = {path for path in files() - before
            if not path.startswith("/var/lib/systemd/deb-systemd-helper")}
    assert not left
    assert before <= files()


def test_opened_before_nothing_is_said(guarded):
    guarded.leakguard("disable")
    done = guarded.dpkg("-r", NAME)
    assert not said(done) and not guarded.is_closed()
    assert not said(guarded.dpkg("-P", NAME))


def test_opened_by_hand_purge_says_nothing(guarded):
    guarded.shell(opening(said(guarded.dpkg("-r", NAME))))
    assert not said(guarded.dpkg("-P", NAME))


def test_installed_again_it_goes_on(guarded, debs):
    """The record is there, too: it can be opened, and followed again."""
    with guarded.watched() as seen:
        guarded.dpkg("-r", NAME)
        guarded.dpkg("-i", debs.deb)
        guarded.leakguard("reload")
    assert not seen.queries and guarded.watchers()
    assert "LOCKED" in guarded.leakguard("status").stdout
    guarded.leakguard("disable")
    assert not guarded.is_closed()


def test_purged_and_installed_again_it_can_be_opened(guarded, debs):
    guarded.dpkg("-P", NAME)
    guarded.dpkg("-i", debs.deb)
    assert guarded.is_closed()
    guarded.leakguard("disable")
    assert not guarded.is_closed()


def test_any_call_of_a_script(guarded):
    """Twice; it succeeds, the host stays closed, the watcher is alive."""
    before = guarded.watchers()
    for call in CALLS:
        script, *arguments = call.split()
        with guarded.watched() as seen:
            for _ in range(2):
                guarded.run(SCRIPTS + script, *arguments)
        assert not seen.queries, call
        assert guarded.watchers() == before, call


def test_without_rights_or_a_network(machine, debs):
    """As where an image is made: nobody may touch nf_tables or start a thing."""
    policy = machine.path("usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    machine.host.run(["cp", debs.deb, machine.path("tmp/package.deb")])
    for call in (["-i", "/tmp/package.deb"], ["-i", "/tmp/package.deb"],
                 ["-r", NAME], ["-P", NAME]):
        done = machine.run("setpriv", "--bounding-set=-net_admin",
                           "--inh-caps=-net_admin", "dpkg", *call)
        assert not said(done)
    assert not machine.watchers()


def test_somebody_elses_leakguard_is_left_alone(guarded, debs):
    """One from /usr/local, which has the run directory."""
    guarded.leakguard("disable")
    netns.wait_until(lambda: not guarded.watchers(), "no watcher")
    guarded.run("install", "-D", PROGRAM, "/usr/local/sbin/leakguard")
    guarded.run("/usr/local/sbin/leakguard", "enable")
    before = guarded.watchers()
    guarded.dpkg("-i", debs.make("9.0-1"))
    guarded.dpkg("-r", NAME)
    assert before and guarded.watchers() == before
