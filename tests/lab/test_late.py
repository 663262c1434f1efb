"""A machine that lacks something: the right time, entropy, memory, a place to
write. It is guarded all the same, or what was in force stays (S13).
"""

import contextlib
import os
import pathlib
import re
import resource
import signal
import struct
import subprocess
import tempfile
import time

import pytest

import labnet
import netns
from guard import Guard
from guests import wait_frames
from procfs import family
from test_early import is_open
from test_watch_crash import read_rules, wait_watcher
from tools import build, run_inside

APPROVED = labnet.RESOLVERS["approved"]
YEARS_MS = 50 * 365 * 86400 * 1000
KIB = 1024


# --- the time of day ---

class Clock:
    """What programs with .env believe the time of day is."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory, "clock")
        self.path.write_bytes(bytes(16))
        self.env = dict(os.environ, LD_PRELOAD=build("skew"),
                        SKEW_FILE=str(self.path))

    def go_ahead(self, ms):
        with open(self.path, "r+b") as file:
            file.seek(8)
            file.write(struct.pack("=q", int(ms)))

    def set_1970(self):
        self.go_ahead(-time.time() * 1000 + 5000)

    def year(self, lab):
        return int(lab.host.run(["date", "+%Y"], env=self.env).stdout)


class Skewed(Guard):
    """The program, and its watcher, by that clock."""

    def __init__(self, lab, clock):
        super().__init__(lab)
        self.clock = clock

    def run(self, verb, *options, **kwargs):
        return super().run(verb, *options, **kwargs, env=self.clock.env)

    def watch(self, *options):
        return super().watch(*options, env=self.clock.env)


@pytest.fixture
def skewed(lab):
    """Where it is 1970."""
    clock = Clock(lab.dir)
    clock.set_1970()
    assert clock.year(lab) == 1970, "the control"
    made = Skewed(lab, clock)
    yield made
    made.disable(check=False)


def expires_s(guard):
    """How long the kernel itself keeps what a pause has opened."""
    found = re.findall(r" expires (?:(\d+)m)?(?:(\d+)s)?",
                       "".join(guard.listings().values()))
    return {60 * int(m or 0) + int(s or 0) for m, s in found}


@pytest.mark.parametrize("watch", [True, False])
def test_clock(lab, skewed, target, watch):
    """At 1970, and then, in a pause, in another century and back: a pause is
    as long as it is."""
    guard, clock = skewed, skewed.clock
    if watch:
        guard.watch("--until-disable")
        wait_watcher(guard)
    guard.enable("--tunnel", "tun0", watch=watch)
    with target.flooded():
        assert guard.state == "LOCKED"
    assert guard.pause("5m").rc == 0
    assert target.is_open()
    for ms in (YEARS_MS, -time.time() * 1000, 0):
        clock.go_ahead(ms)
        assert guard.reload().rc == 0
        status = guard.status()
        assert 200_000 < status["pause_left_ms"] <= 300_000
        assert min(expires_s(guard)) > 200 and max(expires_s(guard)) <= 300
        assert not watch or not status["watcher"]["stale"]
    assert clock.year(lab) > 2000
    assert target.is_open()
    clock.go_ahead(-YEARS_MS)
    assert guard.pause("1s").rc == 0
    clock.go_ahead(YEARS_MS)
    netns.wait_until(lambda: guard.status()["pause_left_ms"] == 0,
                     "the pause is over")
    with target.flooded():
        assert guard.resume().rc == 0


# --- entropy ---

def waits_for_entropy(calls):
    """The system calls of those that strace wrote down which do not return
    before the kernel has gathered enough."""
    return [call for call in calls.splitlines()
            if re.match(r'\d+ +open\w*\(.*"/dev/random"', call)
            or re.match(r"\d+ +(<\.\.\. )?getrandom", call)
            and not re.search("unfinished|GRND_(NONBLOCK|INSECURE)", call)]


@contextlib.contextmanager
def traced(lab):
    """(what to put before a command, a function for what it called)."""
    path = pathlib.Path(lab.dir, "calls")
    prefix = ["strace", "-f", "-qq", "-o", path, "-e",
              "trace=execve,open,openat,getrandom", "-e", "signal=none"]
    yield prefix, path.read_text
    path.unlink()


def test_entropy_control(lab):
    with traced(lab) as (prefix, read):
        lab.host.run([*prefix, "/usr/bin/python3", "-c", "import os;"
                      "os.getrandom(1); open('/dev/random').close();"
                      "os.getrandom(1, os.GRND_NONBLOCK)"])
        assert len(waits_for_entropy(read())) == 2


def test_no_entropy(lab, guard, early):
    """Nobody waits for it: not a command, nor what is left behind, nor the
    watcher of a service, nor the script that comes before the network."""
    with traced(lab) as (prefix, read):
        tracer = lab.host.popen(
            [*prefix, *guard.command("enable", "--tunnel", "tun0")],
            stdout=subprocess.DEVNULL)
        wait_watcher(guard)
        assert guard.state == "LOCKED"
        guard.disable()
        tracer.wait(30)  # the watcher has ended
        assert not waits_for_entropy(read())
    with traced(lab) as (prefix, read):
        early.guard.configure(f"resolver = {APPROVED.v4}\n")
        lab.host.run([*prefix, early.script])
        assert early.is_approved() and not is_open(lab)
        tracer = lab.host.popen([*prefix, *early.guard.command("watch")])
        wait_watcher(early.guard)
        assert early.guard.status()["watcher"]["held"]
        family(early.guard)["keeper"].kill(signal.SIGTERM)
        tracer.wait(30)
        assert re.search(r'execve\(".*", .*"watch"', read())
        assert not waits_for_entropy(read())


# --- memory ---

class Limited:
    """A run of a command that may have so much memory."""

    def __init__(self, guard, *argv):
        self.guard, self.argv = guard, guard.command(*argv)

    def run(self, kib):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (kib * KIB, kib * KIB))
        return run_inside(self.guard.namespace, self.argv, preexec_fn=limit)

    def enough(self):
        """How much is, to the KiB."""
        low, high = 0, 1 << 20
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.run(middle).rc == 0 else (
                middle, high)
        return high


def test_command_without_memory(guard):
    """From none to enough, a page at a time: the old rules, or the new."""
    guard.enable(tunnel="tun0", resolver="203.0.113.53")
    old = read_rules(guard)
    limited = Limited(guard, "enable", "--no-watch", "--tunnel", "wg0")
    most = limited.enough()
    new, said = read_rules(guard), set()
    assert new != old
    guard.enable(tunnel="tun0", resolver="203.0.113.53")
    for kib in range(most - 1500, most + 4, 12):
        done = limited.run(kib)
        assert read_rules(guard) == (old if done.rc else new), done
        if done.rc == 0:
            guard.enable(tunnel="tun0", resolver="203.0.113.53")
        elif done.rc == 1:
            said |= set(done.stderr.splitlines())
    assert len(said) > 1 and all("memory" in line for line in said), said


def set_room(process, room=None):
    """How much memory it may have from now on; without a number, what it was
    allowed from the start."""
    _, most = resource.prlimit(process.pid, resource.RLIMIT_AS)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (room or most, most))


def test_watcher_without_memory(lab, guard, target):
    """It cannot follow many links at once, and is not ended by that: the rules
    stand, and once it has room it follows."""
    links = [f"many{number}" for number in range(0, 400, 2)]
    guard.enable("--tunnel", "tun0", watch=True)
    processes = family(guard)
    try:
        with target.flooded():
            for process in processes.values():
                set_room(process, int(process.status("VmSize").split()[0]) * KIB)
            lab.host.ip(*(f"link add {link} type veth peer name far-{link}"
                          for link in links))
            netns.wait_until(lambda: "memory" in (guard.watcher["stale"] or ""),
                             "it cannot follow")
            assert guard.state == "STALE"
            for process in processes.values():
                set_room(process)
            wait_frames(guard, **dict.fromkeys(links, "covered"))
            assert guard.state == "LOCKED" and not guard.watcher["stale"]
        assert guard.watcher["pid"] == processes["worker"].pid
    finally:
        lab.host.ip(*(f"link del {link}" for link in links))


# --- a place to write ---

NOTHING_WRITABLE = """
for place in / /etc /run; do mount -o remount,bind,ro "$place" || exit 9; done
touch /run/x 2>/dev/null && exit 9
exec "$@"
"""


@pytest.mark.root
def test_nothing_writable(lab, early):
    """/run as it is before something is mounted there: nothing can be changed,
    which is said; what is in force stays. Then there is a place."""
    def run(*argv):
        return lab.host.run(["unshare", "--mount", "sh", "-c",
                             NOTHING_WRITABLE, "-", *argv], check=False)

    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    done = run(early.script)
    assert done.rc == 3, done
    assert "NOT GUARDED" in done.stderr and "Read-only" in done.stderr
    assert is_open(lab)
    early.run()
    assert not is_open(lab) and early.is_approved()
    rules = early.guard.listings("-s")
    for argv in (["enable", "--no-watch", "--tunnel", "wg0"], ["disable"],
                 ["up", "--tunnel", "wg0"], ["pause", "5m"]):
        done = run(*early.guard.command(*argv))
        assert done.rc == 1 and "Read-only" in done.stderr, done
        assert early.guard.listings("-s") == rules
    assert run(early.script).rc == 0
    assert run(*early.guard.command("status")).rc == 0
    assert not is_open(lab) and early.is_approved()


@pytest.mark.root
def test_flash_full(lab, early):
    """/etc has no byte left and no file: nothing is written there."""
    early.guard.configure(f"resolver = {APPROVED.v4}\n")
    with tempfile.TemporaryDirectory(dir="/run") as kept:
        lab.host.run(["unshare", "--mount", "sh", "-e", "-c", """
            cp -a /etc/leakguard.conf "$1"
            mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs /etc
            cp "$1/leakguard.conf" /etc
            ! (: >/etc/a && : >/etc/b) 2>/dev/null
            shift
            "$1"
            "$2" reload""", "-", kept, early.script, early.guard.program])
    assert early.is_approved()
    assert not is_open(lab)
