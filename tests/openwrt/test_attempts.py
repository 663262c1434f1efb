"""The list of last attempts: who asked for what, in memory, bounded, and only
where it is wanted. The page that shows it: tests/luci."""

import json
import os
import re
import signal
import stat
import subprocess

import pytest

import labnet
import netns
from clients import dig
from monitor import listener
from probes import make_query
from router import is_open

APPROVED = labnet.RESOLVERS["approved"]
PUBLIC = labnet.RESOLVERS["public"]
RESOLVER = f"list resolver '{APPROVED.v4}'"
KEEP = "option attempts '1'"
# Else what is_open() asks may be all that is logged in that second.
OFTEN = "option log_rate '100000'"
DIRECTORY = "tmp/run/leakguard.attempts"


@pytest.fixture
def keeping(router):
    router.configure(RESOLVER, KEEP, OFTEN)
    router.boot()
    wait_until_kept(router)
    return router


def answer(router):
    return json.loads(router.rpcd("call", "attempts", stdin="{}\n").stdout)


def wait_until_kept(router, group=53):
    """Somebody listens, and it is ours."""
    netns.wait_until(lambda: listener(router.host, group)
                     and answer(router)["state"] == "kept", "the list is kept", 20)


def names(router):
    return [one["name"] for one in answer(router)["attempts"]]


def wait_for(router, label):
    """The attempt, once it is in the list."""
    return netns.wait_until(
        lambda: next((one for one in answer(router)["attempts"]
                      if label in (one["name"] or "")), None), f"{label} is told", 20)


def test_off_by_default(lab, router):
    router.configure(RESOLVER)
    router.boot()
    asked = dig(lab.host, PUBLIC.v4)
    assert asked.answer is None
    assert answer(router) == {"state": "off", "not_shown": 0, "attempts": []}
    assert [*router.instances] == ["instance1"]
    assert "log-group" not in router.conf()
    assert not (router.root / DIRECTORY).exists()


def test_kept(lab, keeping):
    """Of this machine's programs and of clients; nothing more gets out by it."""
    router = keeping
    assert "\nlog-group = 53\n" in router.conf()
    assert router.instances["attempts"]["respawn"] == ["3600", "30", "5"]
    assert answer(router) == {"state": "kept", "not_shown": 0, "attempts": []}
    own, clients = dig(lab.host, PUBLIC.v4), dig(lab.lan, PUBLIC.v6, "-t", "AAAA")
    one = wait_for(router, own.label)
    assert one["event"] == "blocked" and one["program"] == "dig"
    assert (one["name"], one["type"], one["client"]) == (
        f"{own.label}.lab.example", "A", None)
    assert (one["resolver"], one["port"], one["link"]) == (PUBLIC.v4, 53, "wan0")
    one = wait_for(router, clients.label)
    assert (one["client"]["address"], one["type"]) == (
        labnet.LAN_CLIENT.v6, "AAAA")
    assert [n for n in names(router) if own.label in n or clients.label in n] == \
        sorted(names(router), key=lambda n: own.label not in n)
    assert not is_open(lab) and dig(lab.host, APPROVED.v4).answer == "approved"
    assert not router.log()


# --- bounds ---

# Blocked at once, each with a name of its own; of those that come faster than
# the kernel logs some are only counted.
ASK = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from probes import make_query
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    try:
        sock.sendto(make_query(f"n{number}"), (sys.argv[2], 53))
    except PermissionError:
        pass
"""


def ask_many(lab, first, end):
    lab.host.run(["/usr/bin/python3", "-c", ASK, os.path.dirname(labnet.__file__),
                  PUBLIC.v4, str(first), str(end)])


def files(router):
    """{name: (mode, bytes, lines)}"""
    found = {}
    for path in (router.root / DIRECTORY).iterdir():
        data = path.read_bytes()
        found[path.name] = (stat.S_IMODE(path.stat().st_mode), len(data),
                            data.count(b"\n"))
    return found


def test_last_hundred(lab, router):
    router.configure(RESOLVER, KEEP, OFTEN)
    router.boot()
    wait_until_kept(router)
    for first in range(0, 20000, 500):
        ask_many(lab, first, first + 500)
        last = dig(lab.host, PUBLIC.v4).label
        wait_for(router, last)
        if "before" in files(router):
            break
    numbers = [int(found[1]) for found in
               (re.match(r"n(\d+)\.", name) for name in names(router)) if found]
    assert len(names(router)) == 100 and last in names(router)[-1]
    assert len(numbers) >= 95 and numbers == sorted(set(numbers))
    found = files(router)
    assert found["before"][2] == 100 and 1 <= found["now"][2] <= 100
    assert {mode for mode, _, _ in found.values()} == {0o600}
    assert stat.S_IMODE((router.root / DIRECTORY).stat().st_mode) == 0o700


def test_more_than_is_logged(lab, router):
    """What is in the list and what is said of the rest are all there was."""
    router.configure(RESOLVER, KEEP, "option log_rate '1'")
    router.boot()
    wait_until_kept(router)
    before = router.guard.status()["counters"]["S7"]["packets"]
    ask_many(lab, 0, 40)
    blocked = router.guard.status()["counters"]["S7"]["packets"] - before
    assert blocked >= 40

    def told():
        says = answer(router)
        return says["not_shown"] and \
            len(says["attempts"]) + says["not_shown"] >= blocked
    netns.wait_until(told, "the rest is told", 30)
    assert len(answer(router)["attempts"]) < 40


# In the program's place: says what is in /tmp/says, and more as that grows.
SPEAKER = """#!/bin/sh
[ "$1 $2" = 'monitor --json' ] || exec /usr/sbin/leakguard.real "$@"
exec tail -n +1 -f /tmp/says
"""


@pytest.fixture
def speaker(router):
    """say(text): what `monitor` says."""
    program = router.root / "usr/sbin/leakguard"
    program.rename(f"{program}.real")
    program.write_text(SPEAKER)
    program.chmod(0o755)
    says = router.root / "tmp/says"

    def say(text):
        with open(says, "a", encoding="latin1") as file:
            file.write(text)
    router.configure(RESOLVER, KEEP)
    say("")
    router.boot()
    netns.wait_until(lambda: answer(router)["state"] == "kept", "the list is kept")
    yield say
    router.init("stop")
    router.settle()
    program.with_name("leakguard.real").rename(program)


def blocked(name):
    return json.dumps({"event": "blocked", "name": name},
                      separators=(",", ":")) + "\n"


def test_long_names(router, speaker):
    """Bytes are bounded, too, however long the lines are."""
    for number in range(90):
        speaker(blocked(f"{number:02d}" + "x" * 1500))
    netns.wait_until(lambda: (names(router) or [""])[-1].startswith("89"), "all")
    found = files(router)
    assert found["before"][1] <= 49152 and found["now"][1] <= 49152
    assert 30 < len(names(router)) < 90


def test_other_events(router, speaker):
    """Half a line is none; what is not known is passed over; hostile names are
    no events."""
    speaker('{"event":"guard","up":false}\n{"event":"news"}\n'
            '{"event":"not_shown","packets":7}\n'
            + blocked('x","event":"not_shown","packets":"9')
            + blocked("$(id)`id`\\n%s*")
            + '{"event":"not_shown","packets":5}\n{"event":"blocked","na')
    netns.wait_until(lambda: answer(router)["not_shown"] == 12, "12 more")
    assert names(router) == ['x","event":"not_shown","packets":"9',
                             "$(id)`id`\\n%s*"]
    speaker('me":"whole"}\n')
    netns.wait_until(lambda: len(names(router)) == 3, "the other half")


# --- who ends it, and what becomes of the list ---

def is_gone(router):
    return not (router.root / DIRECTORY).exists()


ENDS = {
    "stop": lambda router: router.init("stop"),
    "off": lambda router: (router.configure(RESOLVER), router.init("reload")),
    "zero": lambda router: (router.configure(RESOLVER, "option attempts '0'"),
                            router.init("reload")),
    "disabled": lambda router: (router.configure(RESOLVER, KEEP, enabled="0"),
                                router.init("reload")),
    "lost": lambda router: (router.config.unlink(), router.init("reload")),
}


@pytest.mark.parametrize("how", ENDS)
def test_gone(lab, keeping, how):
    """With the list that it kept, and nobody listens."""
    router = keeping
    wait_for(router, dig(lab.host, PUBLIC.v4).label)
    with lab.watch(lab.host) as seen:
        ENDS[how](router)
        router.settle()
    netns.wait_until(lambda: not listener(router.host, 53), "nobody listens")
    assert is_gone(router)
    assert answer(router)["attempts"] == []
    assert [*router.instances] == (
        [] if how in ("stop", "disabled") else ["instance1"])
    if how != "disabled":
        assert not seen.name_traffic() and not is_open(lab)


def test_asked_to_end(lab, keeping):
    """As procd asks, without the init script's help."""
    router = keeping
    wait_for(router, dig(lab.host, PUBLIC.v4).label)
    process = router.running["attempts"][1]
    process.terminate()
    assert process.wait(10) == 0
    assert is_gone(router)
    netns.wait_until(lambda: not listener(router.host, 53), "nobody listens")


def test_on_and_off_again(lab, router):
    """One transaction each; nothing gets out meanwhile."""
    assert is_open(lab)
    router.configure(RESOLVER)
    router.boot()
    watcher = router.guard.watcher["pid"]
    with lab.watch(lab.host) as seen:
        for _ in range(2):
            router.configure(RESOLVER, KEEP)
            router.reload()
            wait_until_kept(router)
            wait_for(router, dig(lab.host, PUBLIC.v4).label)
            router.configure(RESOLVER)
            router.reload()
            assert answer(router)["state"] == "off" and is_gone(router)
    assert not seen.name_traffic()
    assert not is_open(lab)
    assert router.guard.watcher["pid"] == watcher
    assert not router.log()


def test_left_over(router):
    """Not wanted, it is not told, whatever lies there."""
    router.configure(RESOLVER)
    router.boot()
    path = router.root / DIRECTORY
    path.mkdir()
    (path / "now").write_text(blocked("left"))
    assert answer(router) == {"state": "off", "not_shown": 0, "attempts": []}
    router.reload()
    assert is_gone(router)


def kill(router, whose):
    """kill -9 of the script, or of the monitor below it."""
    pid = script = router.running["attempts"][1].pid
    if whose == "monitor":
        with open(f"/proc/{script}/task/{script}/children", encoding="ascii") as file:
            pid = int(file.read().split()[0])
    os.kill(pid, signal.SIGKILL)
    router.running["attempts"][1].wait(5)


@pytest.mark.parametrize("whose", ["script", "monitor"])
def test_killed(lab, keeping, whose):
    """The guard does not notice; procd starts it anew. What the monitor alone
    leaves is whole, and kept."""
    router = keeping
    old = dig(lab.host, PUBLIC.v4)
    wait_for(router, old.label)
    kill(router, whose)
    netns.wait_until(lambda: not listener(router.host, 53), "nobody listens")
    assert answer(router)["state"] == "ended"
    assert not is_open(lab) and dig(lab.host, APPROVED.v4).answer == "approved"
    router.settle()
    wait_until_kept(router)
    wait_for(router, dig(lab.host, PUBLIC.v4).label)
    assert any(old.label in name for name in names(router)) == (whose == "monitor")
    assert not is_open(lab)


def test_no_room(lab, router):
    """/tmp is full: the list makes room, and is whole; then it goes on."""
    router.configure(RESOLVER, KEEP, OFTEN)
    router.boot()
    router.init("stop")
    router.settle()
    path = router.root / DIRECTORY
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k,mode=700", "tmpfs",
                    path], check=True)
    try:
        process = router.popen("/usr/lib/leakguard/attempts",
                               stderr=subprocess.PIPE)
        wait_until_kept(router)
        first = dig(lab.host, PUBLIC.v4).label
        wait_for(router, first)
        for number in range(0, 20000, 500):
            ask_many(lab, number, number + 500)
            wait_for(router, dig(lab.host, PUBLIC.v4).label)
            if not any(first in name for name in names(router)):
                break
        assert 0 < len(names(router)) < 100
        assert sum(size for _, size, _ in files(router).values()) <= 24 * 1024
        assert process.poll() is None
        netns.stop(process)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


# --- what it needs ---

def test_own_group(router):
    router.configure(RESOLVER, KEEP, "option log_group '7'")
    router.boot()
    wait_until_kept(router, 7)
    assert not listener(router.host, 53)
    assert router.conf().count("log-group") == 1


def test_group_is_taken(lab, router):
    """Somebody else listens there: it says so, and keeps nothing."""
    router.configure(RESOLVER, "option log_group '7'")
    router.boot()
    other = router.popen("leakguard", "monitor", stdout=subprocess.DEVNULL)
    netns.wait_until(lambda: listener(router.host, 7), "somebody listens")
    router.configure(RESOLVER, KEEP, "option log_group '7'")
    router.reload()
    process = router.running["attempts"][1]
    assert process.wait(10) == 1
    assert answer(router) == {"state": "ended", "not_shown": 0, "attempts": []}
    said = router.run("/usr/lib/leakguard/attempts", check=False)
    assert "another process listens to nflog group 7" in said.stderr
    netns.stop(other)
    router.settle()
    wait_until_kept(router, 7)
    wait_for(router, dig(lab.host, PUBLIC.v4).label)


def test_without_monitor(lab, router):
    """leakguard-mini: the setting is taken, and the rest of it is not."""
    program = router.root / "usr/sbin/leakguard"
    program.rename(f"{program}.real")
    program.write_text("#!/bin/sh\n[ \"$1\" != monitor ] || exit 2\n"
                       "exec /usr/sbin/leakguard.real \"$@\"\n")
    program.chmod(0o755)
    try:
        router.configure(RESOLVER, KEEP)
        router.boot()
        assert answer(router) == {"state": "unable", "not_shown": 0, "attempts": []}
        assert [*router.instances] == ["instance1"]
        assert "log-group" not in router.conf()
        assert not is_open(lab) and not router.log()
    finally:
        router.power_off()
        program.with_name("leakguard.real").rename(program)


def test_not_a_boolean(lab, router):
    """Refused, and no list."""
    router.configure(RESOLVER)
    router.boot()
    router.configure(RESOLVER, "option attempts 'maybe'")
    router.reload()
    assert "attempts=maybe" in router.log()
    assert [*router.instances] == ["instance1"] and is_gone(router)
    assert not is_open(lab) and dig(lab.host, APPROVED.v4).answer == "approved"


def hostile_query():
    """A name of all bytes that mean something to a shell, JSON or a page."""
    labels = [b"<script>alert(1)</script>", b"\"},{\"x\":\"", b"\\'$(id)`id`\n\r\t\0",
              bytes(range(128, 190)), b"*?[a-z]%s%n"]
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    whole = make_query("x")
    return whole[:12] + name + whole[-4:]


def test_hostile_name(lab, keeping):
    router = keeping
    lab.host.run(["/usr/bin/python3", "-c", "import socket\ntry:\n"
                  " socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto("
                  f"bytes.fromhex('{hostile_query().hex()}'), ('{PUBLIC.v4}', 53))\n"
                  "except PermissionError:\n pass"])
    one = wait_for(router, "<script>")
    assert one["name"].startswith("<script>") and one["name"].endswith("%s%n")
    assert all(" " <= c <= "~" for c in one["name"])
