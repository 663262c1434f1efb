"""The watcher under service managers: what they do to it leaves the host closed.

systemd itself as process 1 of a private namespace, runsv, a stand-in that
speaks sd_notify(3), and none at all.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import pytest

import labnet
import netns
import supervisors
from clients import dig
from guard import TABLES, Guard
from probes import Probe, fire
from procfs import Process, family
from tools import Counter, Flood

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
TARGET = labnet.NOBODY
DELETE_TABLES = [["nft", "delete", "table", *table.split()]
                 for table in TABLES]
DELETE_ALL = ["nft", "".join(f"delete table {table};" for table in TABLES)]
SERVICE = "leakguard.service"
BACK_S = 30
PROBES = [Probe(origin, "routed", family, port, "udp", "public")
          for origin in ("host", "lan") for family in (4, 6)
          for port in (53, 853)]


def is_open(lab):
    """Whether name traffic gets out: all of it, or nothing."""
    seen = {o.seen for o in fire(lab, PROBES)}
    assert len(seen) == 1
    return seen.pop()


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


@contextlib.contextmanager
def attacked(namespace):
    """Somebody tries to delete each table all the while, and never may."""
    ending, done = threading.Event(), []

    def attack():
        while not ending.is_set():
            done.extend(namespace.run(argv, check=False)
                        for argv in DELETE_TABLES)

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
    taken = [one for one in done if "Operation not permitted" not in
             one.stderr]
    assert done and not taken, taken[:2]


def wait_watcher(guard, other_than=None):
    """The watcher that answers, once it is another one."""
    def answers():
        watcher = guard.watcher
        return watcher if watcher and watcher["pid"] != other_than else None

    return netns.wait_until(answers, "a watcher answers", BACK_S)


# --- systemd, by its protocol ---

@pytest.fixture
def manager(lab):
    with supervisors.Manager(lab.host, lab.dir) as made:
        yield made


def test_descriptor_store(lab, guard, manager):
    """Kept by the manager, the socket owns the tables while nobody lives."""
    assert is_open(lab)
    service = manager.start(guard.command("watch", "--tunnel", "tun0"))
    if not guard.watcher["owner"]:
        pytest.skip("the kernel cannot own a table beyond its socket")
    assert list(manager.stored) == ["nftables"]
    assert manager.said("STATUS")[-1] == "guarded, no tunnel is up"
    beats = manager.beats
    netns.wait_until(lambda: manager.beats > beats, "it feeds the watchdog")

    with flooded(lab), attacked(lab.host):
        for process in (Process(service.pid), family(guard)["worker"]):
            process.kill()
            netns.wait_until(lambda p=process: not p.is_alive(), "killed")
        assert guard.watcher is None
        assert guard.status()["owner"] == "socket"
        service = manager.start(guard.command("watch"))
        assert guard.watcher["owner"]
        netns.stop(service)
        assert guard.status()["owner"] == "socket"
    assert manager.said("STOPPING") == ["1"]
    assert not is_open(lab)

    # Without the store the tables are anybody's: the attack is one.
    manager.drop_stored()
    assert guard.status()["owner"] == "orphan"
    lab.host.run(DELETE_ALL)
    assert is_open(lab)


# --- systemd itself ---

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


class Service:
    """Our unit, started; its program a copy that can be replaced."""

    def __init__(self, lab, systemd):
        self.lab, self.systemd = lab, systemd
        self.program = f"{lab.dir}/sbin/leakguard"
        os.makedirs(os.path.dirname(self.program), exist_ok=True)
        self.guard = Guard(lab)
        self.install()
        self.guard.program = self.program
        self.guard.run_dir = "/run/leakguard"
        self.guard.config = "/etc/leakguard.conf"
        self.guard.configure("tunnel = tun0\n")
        self.write_unit(SERVICE, supervisors.UNIT.read_text().replace(
            "/usr/sbin/leakguard", self.program))

    def install(self):
        """As a package manager does it: a new file under the old name."""
        shutil.copy(Guard(self.lab).program, f"{self.program}.new")
        os.replace(f"{self.program}.new", self.program)

    def write_unit(self, name, text):
        self.systemd.write_unit(name, text)
        self.systemd.control("daemon-reload")

    def control(self, *words, check=True):
        return self.systemd.control(*words, SERVICE, check=check)

    def show(self, key):
        return self.systemd.show(SERVICE, key)

    def signal(self, name, pid):
        """By the numbers of systemd's namespace, which status tells."""
        self.systemd.run("kill", f"-{name}", str(pid))

    def wait_active(self, other_than=None):
        netns.wait_until(
            lambda: self.show("ActiveState") == "active"
            and self.show("MainPID") != other_than, "active again", BACK_S)


@pytest.fixture
def service(lab, systemd):
    made = Service(lab, systemd)
    yield made
    made.guard.disable(check=False)
    made.control("stop", check=False)
    for left in ("/etc/leakguard.conf", "/run/leakguard",
                 f"{supervisors.UNITS}/{SERVICE}.d"):
        subprocess.run(["rm", "-rf", left], check=True)


@pytest.mark.root
def test_unit_file(service):
    """systemd understands all of it, and finds it well locked up."""
    for verb in (["verify"],
                 ["security", "--offline=true", "--threshold=30"]):
        done = service.systemd.run("systemd-analyze", *verb,
                                   f"{supervisors.UNITS}/{SERVICE}",
                                   check=False)
        complaints = [line for line in done.stderr.splitlines()
                      if "FileDescriptorStorePreserve" not in line  # 254
                      and "Command 'man " not in line
                      and SERVICE in line]
        assert not complaints, done
        assert verb == ["verify"] or done.rc == 0, done
    assert "ExecStop" not in re.sub("#.*", "", supervisors.UNIT.read_text())


@pytest.mark.root
def test_only_disable_opens(lab, service):
    assert is_open(lab)
    service.control("start")
    assert service.guard.status()["owner"] in ("socket", "none")
    assert service.show("StatusText") == "guarded, no tunnel is up"
    assert service.show("NFileDescriptorStore") == "1"
    with flooded(lab):
        for step in ("stop", "start", "restart", "replace", "kill",
                     "reset-failed"):
            main = service.show("MainPID")
            if step == "replace":
                service.install()
                service.control("restart")
            elif step == "kill":
                service.control("kill", "--signal=KILL")
                service.wait_active(main)
            else:
                service.control(step)
            assert not is_open(lab), step
            assert service.guard.status()["guarded"], step
    service.guard.disable()
    assert is_open(lab)
    assert service.show("ActiveState") == "active"
    service.control("restart")
    assert service.guard.state == "OFF"
    assert is_open(lab)
    service.guard.enable(tunnel="tun0", watch=True)
    assert not is_open(lab)
    assert service.guard.watcher["held"]


def stop_worker(service):
    """It hangs: the watchdog is to notice."""
    service.signal("STOP", service.guard.watcher["pid"])


@pytest.mark.root
@pytest.mark.parametrize("event", [
    lambda service: service.control("restart"),
    lambda service: service.control("kill", "--signal=KILL"),
    stop_worker,
], ids=["restart", "kill", "hang"])
def test_ownership_never_lapses(lab, service, event):
    """The store has the socket while no watcher lives."""
    service.write_unit(f"{SERVICE}.d/lab.conf", "[Service]\nWatchdogSec=2\n")
    service.control("start")
    if not service.guard.watcher["owner"]:
        pytest.skip("the kernel cannot own a table beyond its socket")
    main, worker = service.show("MainPID"), service.guard.watcher["pid"]
    with flooded(lab), attacked(lab.host):
        event(service)
        service.wait_active(main)
        assert wait_watcher(service.guard, worker)["owner"]
    assert not is_open(lab)


@pytest.mark.root
def test_started_after_enable(lab, service):
    """One that was left behind makes room for the service."""
    service.guard.enable(tunnel="tun0", watch=True)
    left_behind = service.guard.watcher["pid"]
    with flooded(lab):
        service.control("start")
        assert wait_watcher(service.guard, left_behind)["held"]
    assert not is_open(lab)


@pytest.mark.root
def test_run_directory_removed(lab, service):
    """In the sandbox, too, it is made anew: commands find the watcher."""
    service.control("start")
    # It may be there again before the last of it is removed.
    shutil.rmtree("/run/leakguard", ignore_errors=True)
    netns.wait_until(lambda: "lost-place" in service.systemd.journal.events(),
                     "it says: lost-place", BACK_S)
    worker = wait_watcher(service.guard)["pid"]
    service.guard.enable(tunnel="tun1", watch=True)
    assert wait_watcher(service.guard)["pid"] == worker
    assert not is_open(lab)


@pytest.mark.root
def test_reload(lab, service):
    """With the unit's restrictions it can still look up a name."""
    lab.host.set_resolv_conf(f"nameserver {APPROVED.v4}\n")
    service.guard.configure(f"tunnel = tun0\nresolver = {APPROVED.v4}\n")
    service.control("start")
    assert dig(lab.host, APPROVED.v4).answer == "approved"
    service.guard.configure(
        f"tunnel = tun0\nresolver = {APPROVED.v4}\nresolver = {PUBLIC.v4}\n"
        "endpoint = vpn.lab.example:53/udp\n")
    service.control("reload")
    assert dig(lab.host, PUBLIC.v4).answer == "public"
    assert re.search(r"198\.18\.0\.\d+ \. udp \. 53",
                     service.guard.listing())
    service.guard.configure("tunnel = bad name\n")
    assert service.control("reload", check=False).rc
    assert dig(lab.host, PUBLIC.v4).answer == "public"
    assert service.guard.status()["guarded"]
    assert service.show("ActiveState") == "active"
    lab.host.set_resolv_conf("")


@pytest.mark.root
def test_journal(lab, service):
    """What happens is told with a code; the sandbox lets it be undone."""
    service.guard.configure("tunnel = tun0\nownership = off\n")
    service.control("start")
    events = service.systemd.journal.events
    lab.host.run(DELETE_ALL)
    netns.wait_until(lambda: "undone" in events(), "it says: undone", BACK_S)
    assert [*service.guard.listings()] == TABLES
    worker = service.guard.watcher["pid"]
    service.signal("KILL", worker)
    wait_watcher(service.guard, worker)
    netns.wait_until(lambda: "restarted" in events(), "it says: restarted",
                     BACK_S)
    assert not is_open(lab)
    # Nothing it wants is forbidden by the unit: privileges, filter, limits.
    assert not [m["MESSAGE"] for m in service.systemd.journal.messages
                if "cannot" in m["MESSAGE"]]


# --- runit ---

@pytest.fixture
def runit(lab, guard):
    if not supervisors.find_runit("runsv"):
        pytest.skip("no runit: scripts/setup test")
    guard.run_dir, guard.config = "/run/leakguard", "/etc/leakguard.conf"
    supervisors.install("early", lab, guard.program)
    run = supervisors.install("runit/run", lab, guard.program)
    guard.configure("tunnel = tun0\n")
    with supervisors.Runit(lab.host, os.path.dirname(run)) as made:
        yield made
    guard.disable(check=False)
    subprocess.run(["rm", "-rf", guard.config, guard.run_dir], check=True)


def test_runit(lab, guard, runit):
    """runsv starts it again, whoever of the two was killed."""
    worker = wait_watcher(guard)["pid"]
    netns.wait_until(lambda: guard.status()["guarded"], "guarded")
    with flooded(lab):
        for name in ("worker", "keeper"):
            family(guard)[name].kill()
            wait_watcher(guard, worker)
            netns.wait_until(lambda: guard.watcher["held"], "by a keeper",
                             BACK_S)
            worker = guard.watcher["pid"]
        guard.configure(f"tunnel = tun0\nresolver = {PUBLIC.v4}\n")
        runit.control("hup")
        netns.wait_until(lambda: PUBLIC.v4 in guard.listing(), "reloaded")
        runit.control("restart")
        wait_watcher(guard, worker)
        runit.control("down")
        assert guard.watcher is None
    assert guard.status()["guarded"]
    guard.disable()
    assert is_open(lab)


# --- none ---

# A /dev with a log of its own; the devices are the machine's.
PRIVATE_DEV = """
set -e
mkdir -p "$1/dev"
mount -t tmpfs tmpfs "$1/dev"
for device in null zero full random urandom; do
    touch "$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
ln -s "$1/log" "$1/dev/log"
mount --rbind "$1/dev" /dev
shift
exec "$@"
"""


def test_left_behind(lab, guard):
    """A session of its own, a claim, and syslog to tell what happens."""
    lines = []
    inbox = supervisors.Inbox(f"{lab.dir}/log", lambda data, _: lines.append(
        data.decode(errors="replace")))
    lab.host.run(["unshare", "--mount", "sh", "-c", PRIVATE_DEV, "-", lab.dir,
                  *guard.command("enable", "--tunnel", "tun0", "--ownership",
                                 "off")])
    try:
        both = family(guard)
        keeper, worker = both["keeper"].pid, both["worker"].pid
        claim = pathlib.Path(guard.run_dir, "watch.pid").read_text()
        assert int(claim) == keeper
        assert {os.getsid(pid) for pid in (keeper, worker)} == {keeper}
        assert both["keeper"].link("cwd") == "/"
        for fd in range(3):
            assert both["keeper"].link(f"fd/{fd}") == "/dev/null"

        lab.host.run(DELETE_ALL)
        netns.wait_until(lambda: any(
            re.search(r"leakguard\[\d+\]: .*undone", one) for one in lines),
            "it says: undone", BACK_S)
        os.kill(worker, signal.SIGKILL)
        wait_watcher(guard, worker)
        netns.wait_until(lambda: any(
            "killed by signal 9" in one for one in lines),
            "it says: started again", BACK_S)
        assert not is_open(lab)
        guard.disable()
        netns.wait_until(lambda: not both["keeper"].is_alive(), "it ends")
    finally:
        guard.disable(check=False)
        inbox.close()
