"""A Debian with the package boots, and nothing gets out by its link from the
first packet on; or, in the control, everything does."""

import concurrent.futures
import os

import pytest

from machine import PROVIDER, PUBLIC, Machine, newest_kernel

IMAGE = f"{os.environ['BUILD']}/boot"
OUT = f"{IMAGE}/out"
NEW, OLD = (newest_kernel(IMAGE, series) for series in ("6.12", "6.1"))
JOBS = int(os.environ.get("JOBS", "2"))
NETWORKD, IFUPDOWN = (f"systemd.mask={other}.service" for other in
                      ("networking", "systemd-networkd"))
UNGUARDED = "systemd.mask=leakguard.service systemd.mask=leakguard-early.service"
READ_ONLY = "systemd.mask=systemd-remount-fs.service"  # for good
EVERYTHING = {(address, port) for address, port in zip(
    PROVIDER + PUBLIC, (53, 53, 853, 853))}
BOTH = set(PROVIDER + PUBLIC)

# The longest first.
MACHINES = {
    "guarded": (NEW, f"ro {NETWORKD}", 3),
    "sleep": (NEW, f"ro {NETWORKD} boot.sleep resume=/dev/vdb "
                   "hibernate=nocompress", 2),
    "ifupdown": (OLD, f"ro {IFUPDOWN} boot.once"),
    "control": (NEW, f"ro {NETWORKD} {UNGUARDED} boot.once"),
    "initramfs": (NEW, f"ro {NETWORKD} {READ_ONLY} ip=dhcp boot.once", 1, "network"),
    "initramfs-control": (NEW, "ro ip=dhcp boot.initramfs", 1,
                          "network-open"),
}


@pytest.fixture(scope="session")
def machines(request):
    """Of those that a test asks for, {name: what became of it}."""
    wanted = {item.get_closest_marker("machine").args[0]
              for item in request.session.items}
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        return {name: pool.submit(
            Machine(OUT, IMAGE, name, *MACHINES[name]).run)
            for name in MACHINES if name in wanted}


@pytest.fixture
def machine(machines, request):
    """The one of the test's mark; fails with what it said last."""
    return machines[request.node.get_closest_marker("machine").args[0]].result()


def is_silent(stage):
    """There was a way out, for both families, and no name traffic took it."""
    assert stage.marks == BOTH, stage
    assert not stage.names, stage
    return True


@pytest.mark.machine("control")
def test_control(machine):
    """Without the guard it is all there: from probes, and from programs."""
    stage = machine.seen()[10]
    assert stage.marks == BOTH
    assert stage.volleys == EVERYTHING
    assert stage.lookups
    assert machine.row("up")["state"] == "OFF"


@pytest.mark.machine("guarded")
def test_first_boot(machine):
    """Not one, from the first packet of the link on; DHCP and others pass."""
    seen = machine.seen()
    assert not seen[0].names, seen[0]
    assert is_silent(seen[10])
    row = machine.rows("up")[0]
    assert row == {"state": "LOCKED", "early": "success/active",
                   "watch": "success/active", "watcher": "1"}
    order = {k: int(v) for k, v in machine.row("order").items()}
    assert order["early"] <= order["udev"]
    assert order["early"] <= order["watch"] <= order["pre"]


@pytest.mark.machine("guarded")
def test_services(machine):
    """The unit is stopped, started, killed, and replaced by dpkg."""
    seen = machine.seen()
    for stage in (11, 12, 13, 14):
        assert is_silent(seen[stage]), stage
    assert machine.row("stopped")["state"] == "LOCKED"
    assert machine.row("stopped")["watcher"] == "0"
    for step in ("killed", "upgraded"):
        assert machine.row(step) == machine.rows("up")[0], step


@pytest.mark.machine("guarded")
def test_broken_configuration(machine):
    """Closed by the second boot, and seen to have failed; then repaired."""
    seen = machine.seen()
    assert is_silent(seen[20])
    row = machine.rows("up")[1]
    assert row == {"state": "LOCKED", "early": "exit-code/failed",
                   "watch": "success/active", "watcher": "1"}
    assert "guarded all the same" in machine.text
    assert seen[21].volleys == {(PROVIDER[0], 53)}, "what was approved, alone"
    assert machine.row("repaired")["state"] == "LOCKED"


@pytest.mark.machine("guarded")
def test_disable(machine):
    """It opens, until the next boot and no restart before it."""
    seen = machine.seen()
    for stage in (22, 23):
        assert seen[stage].marks == BOTH
        assert seen[stage].volleys == EVERYTHING, stage
    assert machine.row("lowered")["state"] == "OFF"
    assert is_silent(seen[25])


@pytest.mark.machine("guarded")
def test_name_of_endpoint(machine):
    """Guarded without it; taken by reload once /etc/hosts has it."""
    seen = machine.seen()
    assert is_silent(seen[25]) and is_silent(seen[26])
    row = machine.rows("up")[2]
    assert row["state"] == "LOCKED" and row["early"] == "success/active"
    assert "without the endpoints that are names" in machine.text
    assert int(machine.row("endpoint")["found"]) >= 1


@pytest.mark.machine("ifupdown")
def test_old_kernel(machine):
    """6.1, dhclient and ifupdown."""
    seen = machine.seen()
    assert not seen[0].names
    assert is_silent(seen[10]) and is_silent(seen[19])
    assert machine.row("up") == {"state": "LOCKED", "early": "success/active",
                                 "watch": "success/active", "watcher": "1"}


@pytest.mark.machine("sleep")
def test_sleep(machine):
    """Rules are memory: there after suspend, and after hibernation."""
    seen = machine.seen()
    for stage in (10, 11, 12):
        assert is_silent(seen[stage]), stage
    for step in ("woken", "resumed"):
        assert machine.row(step) == machine.row("up"), step
    assert seen[13].volleys == EVERYTHING


@pytest.mark.machine("initramfs-control")
def test_initramfs_control(machine):
    """The network of the initramfs is open without the script."""
    stage = machine.seen()[9]
    assert stage.marks >= {PROVIDER[0]}
    assert (PROVIDER[0], 53) in stage.volleys


@pytest.mark.machine("initramfs")
def test_initramfs(machine):
    """Closed there, over switch_root, and on a read-only root."""
    seen = machine.seen()
    assert not seen[0].names
    assert seen[9].marks >= {PROVIDER[0]} and not seen[9].names
    assert is_silent(seen[10]) and is_silent(seen[19])
    assert machine.row("up") == {"state": "LOCKED", "early": "success/active",
                                 "watch": "success/active", "watcher": "1"}
