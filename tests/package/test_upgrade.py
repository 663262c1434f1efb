"""The package is installed, upgraded and downgraded while somebody listens."""

import json
import pathlib
import time

import netns
import pytest

from machine import PROGRAM

TOP = pathlib.Path(__file__).resolve().parents[2]
NEWER, OLDER = "9.0-1", "0.0.1-1"
NAME = "leakguard"
# What a service manager does, in short.
SUPERVISE = f"while :; do {PROGRAM} watch; sleep 0.2; done"
UNTIL_DISABLE = "--until-disable"


def is_new(exe):
    return not exe.endswith(" (deleted)")


def status(machine):
    return json.loads(machine.leakguard("status", "--json").stdout)


def test_installing_guards_nothing(machine, debs):
    """And starts nothing, enables nothing; what it ships is as it was packed."""
    assert not machine.is_closed()
    with machine.watched() as seen:
        said = machine.dpkg("-i", debs.deb)
    assert seen.kinds() == set(machine.sender.KINDS)
    assert "leakguard:" not in said.stdout
    assert not machine.watchers()
    assert not machine.path("run/leakguard").exists()
    assert machine.run("find", "/etc/systemd", "-name", "*leakguard*",
                       check=False).stdout == ""
    assert machine.host.run(["nft", "list", "ruleset"]).stdout == ""
    assert machine.run("dpkg", "-V", NAME).stdout == ""
    assert machine.run("dpkg", "--audit").stdout == ""
    machine.leakguard("enable", "--dry-run")
    assert not machine.is_closed()


def test_its_own_test(machine, debs):
    """debian/tests, as a distribution would run it."""
    machine.dpkg("-i", debs.deb)
    test = TOP / "scripts/packaging/debian/tests/guard"
    machine.host.run(["cp", test, machine.path("tmp/guard")])
    machine.run("unshare", "--net", "/tmp/guard")


@pytest.fixture(params=["upgrade", "upgrade of another protocol", "downgrade",
                        "the same again"])
def change(request, debs):
    """The package before, and the one after."""
    older, newer = debs.make(OLDER), debs.make(NEWER)
    return {
        "upgrade": (debs.deb, newer),
        "upgrade of another protocol": (
            debs.make("0.0.2-1", debs.other_program), debs.deb),
        "downgrade": (debs.deb, older),
        "the same again": (debs.deb, debs.deb),
    }[request.param]


def test_the_host_stays_closed(machine, change):
    """Whoever of both is newer: the watcher is the new program in the end, the
    policy the same, and nothing got out."""
    before, after = change
    machine.dpkg("-i", before)
    assert not machine.is_closed()
    machine.path("etc/leakguard.conf").write_text("tunnel = tun0\n")
    machine.leakguard("enable")
    # Not what the file says from now on: that is for `reload` to read.
    machine.path("etc/leakguard.conf").write_text("tunnel = tun1\n")
    old = machine.watchers()
    assert old and machine.is_closed()
    with machine.watched() as seen:
        machine.dpkg("-i", after)
    assert not seen.queries and len(seen.beats) > 10
    netns.wait_until(lambda: machine.watchers() and all(
        map(is_new, machine.watchers().values())), "a new watcher")
    assert not old.keys() & machine.watchers().keys()
    netns.wait_until(lambda: status(machine)["watcher"], "it answers")
    now = status(machine)
    assert now["state"] == "LOCKED"
    assert [tunnel["name"] for tunnel in now["tunnels"]] == ["tun0"]
    assert "tun1" in machine.path("etc/leakguard.conf").read_text()
    assert machine.is_closed()
    machine.leakguard("disable")
    assert not machine.is_closed()
    netns.wait_until(lambda: not machine.watchers(), "it ends with the guard")


def test_commands_of_the_new_program_need_this(machine, debs):
    """The control: with the old watcher left alone they fail."""
    machine.dpkg("-i", debs.make("0.0.2-1", debs.other_program))
    machine.leakguard("enable")
    machine.run("mv", PROGRAM, "/tmp/old")
    machine.host.run(["cp", debs.unpack(debs.work / "plain") / PROGRAM[1:],
                      machine.path(PROGRAM)])
    assert "another version" in machine.leakguard("disable", check=False).stdout
    assert machine.is_closed()


def test_who_wanted_no_watcher_gets_none(machine, debs):
    machine.dpkg("-i", debs.deb)
    machine.leakguard("enable", "--no-watch")
    with machine.watched() as seen:
        machine.dpkg("-i", debs.make(NEWER))
    assert not seen.queries and not machine.watchers()
    assert machine.is_closed()


def test_no_guard_no_watcher(machine, debs):
    machine.dpkg("-i", debs.deb)
    machine.leakguard("enable")
    machine.leakguard("disable")
    machine.dpkg("-i", debs.make(NEWER))
    assert not machine.watchers() and not machine.is_closed()


def test_a_supervisor_has_its_watcher_back(machine, debs):
    """One that is not systemd: it starts the new program, and keeps it."""
    machine.dpkg("-i", debs.deb)
    supervisor = machine.popen("sh", "-c", SUPERVISE)
    netns.wait_until(lambda: machine.leakguard(
        "status", check=False).rc == 0, "the service has raised the guard")
    assert machine.is_closed()
    with machine.watched() as seen:
        machine.dpkg("-i", debs.make(NEWER))
    assert not seen.queries
    # Itself and its keeper, of the service and not of the package.
    netns.wait_until(lambda: [
        is_new(exe) and UNTIL_DISABLE not in machine.arguments(pid)
        for pid, exe in machine.watchers().items()] == [True, True],
        "the service's own watcher")
    assert machine.is_closed()
    netns.kill(supervisor)


def test_a_failed_upgrade_changes_nothing(machine, debs):
    """The new package cannot be unpacked; the old one goes on."""
    machine.dpkg("-i", debs.deb)
    machine.leakguard("enable", "--tunnel", "tun0")
    broken = debs.make(NEWER, preinst="#!/bin/sh\nexit 1\n")
    before = machine.watchers()
    with machine.watched() as seen:
        done = machine.dpkg("-i", broken, check=False)
    assert done.rc and not seen.queries
    assert machine.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}",
                       NAME).stdout == "ii "
    assert machine.watchers() == before
    assert status(machine)["state"] == "LOCKED"


def test_a_failed_configuration_is_made_good(machine, debs):
    """Unpacked, and then not configured: closed, and so when it is."""
    machine.dpkg("-i", debs.deb)
    machine.leakguard("enable")
    with machine.watched() as seen:
        machine.dpkg("--unpack", debs.make(NEWER))
        time.sleep(0.1)  # a while in between, in which it is neither
        machine.dpkg("--configure", NAME)
    assert not seen.queries
    netns.wait_until(lambda: status(machine)["watcher"], "it answers")
    assert all(map(is_new, machine.watchers().values()))


@pytest.fixture
def systemd(machine):
    """One that writes down what it is asked, in its place: asked() tells."""
    log = machine.path("tmp/log")
    for name, rest in (("systemctl", ""), (
            "systemd-run", 'shift 2; setsid --fork "$@" >/dev/null 2>&1')):
        machine.path(f"usr/bin/{name}").write_text(
            f'#!/bin/sh\necho "${{0##*/}} $*" >>/tmp/log\n{rest}\n')
        machine.path(f"usr/bin/{name}").chmod(0o755)
    machine.path("run/systemd/system").mkdir(parents=True)

    def asked(option, target):
        log.write_text("")
        machine.dpkg(option, target)
        return {line for line in log.read_text().splitlines()
                if not line.endswith("daemon-reload") and "is-" not in line}

    return asked


def test_what_systemd_is_asked(systemd, debs):
    """Nothing is enabled, or started that was not running."""
    assert systemd("-i", debs.deb) == set()
    assert systemd("-i", debs.make(NEWER)) == {
        "systemctl try-restart leakguard.service"}
    assert systemd("-r", NAME) == {"systemctl stop leakguard.service"}
    assert systemd("-P", NAME) == set()


def test_a_watcher_does_not_end_with_the_upgrade(machine, systemd, debs):
    """Whatever service runs dpkg: systemd starts it elsewhere."""
    systemd("-i", debs.deb)
    machine.leakguard("enable")
    assert systemd("-i", debs.make(NEWER)) == {
        "systemctl try-restart leakguard.service",
        f"systemd-run --quiet --collect {PROGRAM} watch {UNTIL_DISABLE}"}
    netns.wait_until(lambda: status(machine)["watcher"], "it answers")
    assert all(map(is_new, machine.watchers().values()))
