"""scripts/service/early: before the network the host is guarded by its
configuration, or closed; whatever is wrong with that, or with the lookups.

/etc and /run are the lab's own, so these are the very paths of the script.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import labnet
import supervisors
from early import APPROVED, CONFIG, RUN
from guard import TABLES, find_program
from probes import Probe, fire
from tools import Counter, Flood

PUBLIC = labnet.RESOLVERS["public"]
TARGET = labnet.NOBODY
SERVER = "vpn.elsewhere.example"
PROBES = [Probe(origin, "routed", family, port, "udp", "public")
          for origin in ("host", "lan") for family in (4, 6)
          for port in (53, 853)]


def is_open(lab):
    seen = {o.seen for o in fire(lab, PROBES)}
    assert len(seen) == 1
    return seen.pop()


def test_as_configured(lab, early):
    assert is_open(lab)
    early.guard.configure(f"tunnel = tun0\nresolver = {APPROVED.v4}\n")
    done = early.run()
    assert not done.stderr
    assert not is_open(lab)
    assert early.is_approved()
    status = early.guard.status()
    assert status["state"] == "LOCKED" and not status["watcher"]
    assert [*early.guard.listings()] == TABLES
    assert sorted(os.listdir(RUN)) == ["lock", "state"]


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n#tunnel = wg0\n"],
                         ids=["absent", "empty", "untouched"])
def test_nothing_configured(lab, early, text):
    """Who enables it at boot wants to be guarded; nothing is approved then."""
    assert is_open(lab)
    if text is not None:
        early.guard.configure(text)
    assert "to this host itself" in early.run().stdout
    assert not is_open(lab)
    assert early.guard.state == "LOCKED"


def make_directory():
    CONFIG.mkdir()


def make_loop():
    CONFIG.symlink_to(CONFIG)


BROKEN = {
    "wrong-key": lambda: CONFIG.write_text("tunnle = tun0\n"),
    "wrong-value": lambda: CONFIG.write_text("tunnel = tun0\nports = x\n"),
    "binary": lambda: CONFIG.write_bytes(bytes(range(256)) * 64),
    "wrong-endpoint": lambda: CONFIG.write_text(
        "endpoint = vpn.elsewhere.example:53/sctp\nendpoint = 192.0.2.1\n"),
    "directory": make_directory,
    "unreadable": make_loop,
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken(lab, early, how):
    """Closed, with a line that says so; what is repaired is taken by reload."""
    assert is_open(lab)
    BROKEN[how]()
    done = early.run(check=False)
    assert done.rc == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all(CONFIG.name in line for line in lines)
    assert "guarded all the same" in lines[1]
    assert not is_open(lab)
    assert early.guard.state == "LOCKED"
    # Again: a manager that tries once more changes nothing.
    assert early.run(check=False).rc == 1
    assert not is_open(lab)
    assert early.guard.reload(check=False).rc != 0

    subprocess.run(["rm", "-rf", CONFIG], check=True)
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    assert not early.is_approved()
    early.guard.reload()
    assert early.is_approved()
    assert not is_open(lab)


def test_repaired_and_started_again(lab, early):
    early.guard.configure("tunnle = tun0\n")
    assert early.run(check=False).rc == 1
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    early.run()
    assert early.is_approved()
    assert sorted(os.listdir(RUN)) == ["lock", "state"]
    assert not is_open(lab)


def test_kernel_refuses(lab, early):
    """Without the kernel's part nothing can close it: it says so, and 3."""
    script = supervisors.install("early", lab, "/bin/false")
    done = lab.host.run([script], check=False)
    assert done.rc == 3
    assert "NOT GUARDED" in done.stderr
    assert is_open(lab)


def test_no_run_directory(lab, early):
    RUN.write_text("somebody's file")
    done = early.run(check=False)
    assert done.rc == 3
    assert str(RUN) in done.stderr and "NOT GUARDED" in done.stderr
    assert is_open(lab)


def test_stays_as_it_is(lab, early):
    """Whoever spoke since the boot has the last word."""
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    early.run()
    early.guard.configure("tunnle = tun0\n")
    early.run()
    assert early.is_approved()
    early.guard.configure("")
    early.run()
    assert early.is_approved()
    early.guard.disable()
    early.run()
    assert is_open(lab)
    early.guard.enable()
    assert not is_open(lab)


# --- endpoints by name ---

def names_seen(lab, function):
    """What function() let out of name traffic, with the network up."""
    with lab.watch(lab.host) as seen:
        function()
    return seen.name_traffic()


def endpoint_text(early):
    return re.findall(r"(\S+) \. udp \. 1853", early.guard.listing())


def test_name_unknown(lab, early):
    """Guarded by all the rest, and nothing was asked outside; later reload."""
    lab.host.set_resolv_conf(f"nameserver {PUBLIC.v4}\n")
    early.guard.configure(
        f"resolver = {APPROVED.v4}\n"
        "endpoint = 192.0.2.9:1854/udp\n"
        "endpoint = [2001:db8::9]:1854/udp\n"
        f"  endpoint={SERVER}:1853/udp,mark=7\n"
        "ports = 53,853,1853,1854\n")
    assert names_seen(lab, lambda: early.guard.enable(check=False)), "control"
    early.forget()
    early.guard.configure(
        f"resolver = {APPROVED.v4}\n"
        "endpoint = 192.0.2.9:1854/udp\n"
        "endpoint = [2001:db8::9]:1854/udp\n"
        f"  endpoint={SERVER}:1853/udp,mark=7\n"
        "ports = 53,853,1853,1854\n")
    early.set_hosts("")
    done = None

    def run():
        nonlocal done
        done = early.run()

    assert not names_seen(lab, run)
    assert SERVER in done.stderr and "without the endpoints" in done.stderr
    assert early.is_approved()
    assert not is_open(lab)
    listing = early.guard.listing()
    assert "192.0.2.9 . udp . 1854" in listing
    assert "2001:db8::9 . udp . 1854" in listing
    assert not endpoint_text(early)

    early.set_hosts(f"192.0.2.77 {SERVER}\n")
    early.guard.reload()
    assert "192.0.2.77" in early.guard.listing()
    assert early.is_approved()
    lab.host.set_resolv_conf("")


def test_name_in_hosts(lab, early):
    early.guard.configure(f"endpoint = {SERVER}:53/udp\n")
    early.set_hosts(f"192.0.2.77 {SERVER}\n")
    assert not early.run().stderr
    assert "192.0.2.77 . udp . 53" in early.guard.listing()
    assert not is_open(lab)


def test_name_beside_a_mistake(lab, early):
    """Two things at once: closed."""
    early.guard.configure(f"endpoint = {SERVER}:53/udp\ntunnle = tun0\n")
    early.set_hosts("")
    assert early.run(check=False).rc == 1
    assert not is_open(lab)


# --- where it runs ---

def test_left_from_the_initramfs(lab, early):
    """Rules, record and the mark come along; the real configuration counts."""
    early.guard.configure(f"resolver = {PUBLIC.v4}\n")
    early.run()
    (RUN / "early.conf").symlink_to(CONFIG)
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    early.run()
    assert early.is_approved()
    assert not is_open(lab)


def test_record_lost(lab, early):
    """Rules without a record: those of the configuration, without a gap."""
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    early.run()
    shutil.rmtree(RUN)
    with flooded(lab):
        early.run()
    assert early.is_approved()
    shutil.rmtree(RUN)
    early.guard.configure("tunnle = tun0\n")
    with flooded(lab):
        assert early.run(check=False).rc == 1
    assert early.is_approved(), "what was in force stays"


@pytest.mark.root
def test_read_only(lab, early):
    """Nothing is written but to /run."""
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    lab.host.run(["unshare", "--mount", "sh", "-c", """
        mount -o remount,bind,ro / && mount -o remount,bind,ro /etc &&
        ! touch /etc/x 2>/dev/null && exec "$0" """, early.script])
    assert early.is_approved()
    assert not is_open(lab)


# --- with the watcher, under systemd ---

UNITS = ("leakguard-early.service", "leakguard.service")


@pytest.fixture(scope="module")
def systemd(lab):
    if not os.access(supervisors.SYSTEMD, os.X_OK):
        pytest.skip("no systemd")
    try:
        made = supervisors.Systemd(lab, lab.host)
    except OSError as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture
def units(lab, early, systemd):
    for name in UNITS:
        path = supervisors.install(f"systemd/{name}", lab,
                                   early.guard.program)
        systemd.write_unit(name, pathlib.Path(path).read_text())
    systemd.control("daemon-reload")
    yield systemd
    early.guard.disable(check=False)
    systemd.control("stop", *UNITS, check=False)
    systemd.control("reset-failed", check=False)


def results(systemd):
    return [(systemd.show(name, "ActiveState"), systemd.show(name, "Result"))
            for name in UNITS]


@pytest.mark.root
def test_unit_files(units):
    """systemd understands them, and finds them well locked up."""
    paths = [f"{supervisors.UNITS}/{name}" for name in UNITS]
    done = units.run("systemd-analyze", "verify", *paths, check=False)
    complaints = [line for line in done.stderr.splitlines()
                  if "FileDescriptorStorePreserve" not in line  # 254
                  and "Command 'man " not in line
                  and "leakguard" in line]
    assert not complaints, done
    for path, most in zip(paths, (17, 27)):
        done = units.run("systemd-analyze", "security", "--offline=true",
                         f"--threshold={most}", path, check=False)
        assert done.rc == 0, done.stdout[-200:]


@pytest.mark.root
def test_units(lab, early, units):
    """The watcher takes over what was raised without it, and owns it then."""
    early.guard.configure(f"tunnel = tun0\nresolver = {APPROVED.v4}\n")
    units.control("start", UNITS[0])
    assert early.guard.status()["owner"] in ("none", "orphan")
    assert not early.guard.watcher
    with flooded(lab):
        units.control("start", UNITS[1])
        assert early.guard.watcher["held"]
        assert early.guard.status()["owner"] in ("socket", "none")
        units.control("stop", *UNITS)
        units.control("restart", *UNITS)
    assert results(units) == [("active", "success")] * 2
    assert early.is_approved()
    early.guard.disable()
    units.control("restart", *UNITS)
    assert is_open(lab)
    assert results(units) == [("active", "success")] * 2


@pytest.mark.root
def test_units_broken(lab, early, units):
    """One start of the service: failed to see, closed, and followed."""
    early.guard.configure("tunnle = tun0\n")
    units.control("start", UNITS[1])
    assert results(units) == [("failed", "exit-code"), ("active", "success")]
    assert not is_open(lab)
    assert early.guard.watcher["held"]
    assert units.control("reload", UNITS[1], check=False).rc != 0
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    with flooded(lab):
        units.control("reload", UNITS[1])
    assert early.is_approved()
    units.control("start", UNITS[0])
    assert results(units) == [("active", "success")] * 2
    assert early.is_approved()


@pytest.mark.root
def test_units_required(lab, early, units):
    """README's lines for no network rather than an open one."""
    units.write_unit("network.service", f"""
[Unit]
DefaultDependencies=no
Requires={UNITS[0]}
After={UNITS[0]}
[Service]
Type=oneshot
ExecStart=/bin/true
""")
    units.control("daemon-reload")
    units.control("start", "network.service")
    early.guard.disable()
    early.forget()
    units.control("stop", *UNITS)
    os.unlink(early.guard.program)
    try:
        assert units.control("start", "network.service", check=False).rc
    finally:
        shutil.copy(find_program(), early.guard.program)
    assert units.show(UNITS[0], "ExecMainStatus") == "3"
    assert is_open(lab)


@pytest.mark.root
def test_units_read_only(lab, early, units):
    """As it is before the root is mounted for writing, or for good."""
    def remount(how):
        for place in ("/", "/etc"):
            units.run("mount", "-o", f"remount,bind,{how}", place)

    early.guard.configure("tunnel = tun0\n")
    remount("ro")
    try:
        assert units.run("touch", "/tmp/x", check=False).rc
        units.control("start", UNITS[1])
        assert results(units) == [("active", "success")] * 2
    finally:
        remount("rw")
    assert not is_open(lab)
    assert early.guard.watcher["held"]


@pytest.mark.root
def test_units_name(lab, early, units):
    """/etc/hosts is asked, and nobody else, whatever the network."""
    lab.host.set_resolv_conf(f"nameserver {PUBLIC.v4}\n")
    early.guard.configure(f"endpoint = {SERVER}:53/udp\n")
    early.set_hosts(f"192.0.2.77 {SERVER}\n")
    assert not names_seen(lab, lambda: units.control("start", UNITS[0]))
    assert results(units)[0] == ("active", "success")
    assert "192.0.2.77 . udp . 53" in early.guard.listing()
    lab.host.set_resolv_conf("")


@contextlib.contextmanager
def flooded(lab):
    """Nothing gets out while the block runs, however much is tried."""
    with Counter(lab.isp, "cust0", *TARGET) as counter, \
            Flood(lab.host, *TARGET) as flood:
        yield
        tried = flood.stop()
        with lab.watch(lab.host, ports=(1,)):
            pass  # what is under way has arrived then
        assert all(sum(one) for one in tried.values()), tried
        assert counter.total() == 0, f"of {tried}"
