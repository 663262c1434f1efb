"""monitor: floods, its own end, and what it says when it cannot."""

import fcntl
import os
import pty
import signal
import struct
import termios
import time

import pytest

import clients
import netns
from labnet import RESOLVERS
from monitor import GROUP, LOGGING, Monitor, listener
from probes import new_label
from procfs import Process
from test_monitor import asker
from tools import Flood

PUBLIC = RESOLVERS["public"]
# Its tables, of fixed size, become memory as they are filled.
TABLES_KIB = 768


@pytest.fixture
def logging(guard):
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0")
    return guard


def flood(lab, batches, note=None):
    """How many packets were refused, of all that were sent; a note of how
    many in a second."""
    began = time.monotonic()
    with Flood(lab.host, PUBLIC.v4, batches=batches) as running:
        (sent, refused), = running.stop().values()
    assert sent == 0
    if note:
        note("blocked_per_s", round(refused / (time.monotonic() - began)))
    return refused


@pytest.mark.parametrize("rate", [10, 100000])
def test_flood(lab, guard, rate, record_property):
    """Memory stays as it is, the guard stands, and every packet is counted."""
    guard.configure(f"log-group = {GROUP}\nlog-rate = {rate}\n")
    guard.enable(tunnel="tun0")
    with Monitor(guard) as monitor:
        flood(lab, 1000)
        monitor.text()
        netns.wait_until(monitor.not_shown if rate == 10 else monitor.blocked,
                         "it has seen a flood", 20)
        before, memory = 16 * 1000, Process(monitor.pid).memory_kib
        refused = before + flood(lab, 40000, record_property)
        assert refused == before + 16 * 40000
        assert Process(monitor.pid).memory_kib <= memory + TABLES_KIB
        events, status = monitor.finish()
        not_shown = monitor.not_shown()
    assert status == 0
    shown = sum(one["event"] == "blocked" for one in events)
    assert shown > (1000 if rate > 10 else 0)
    assert shown + not_shown == refused
    assert guard.status()["counters"]["S7"]["packets"] == refused
    with lab.watch() as seen:
        clients.dig(lab.host, PUBLIC.v4)
    assert not seen.name_traffic()


def test_killed(lab, logging):
    """The guard does not notice, and the next one can listen."""
    with Monitor(logging) as monitor:
        before = logging.listings("-s")
        monitor.process.send_signal(signal.SIGKILL)
        monitor.process.wait(5)
        assert logging.listings("-s") == before
        with lab.watch() as seen:
            clients.dig(lab.host, PUBLIC.v4)
        assert not seen.name_traffic()
    with Monitor(logging) as monitor:
        asked = clients.dig(lab.host, PUBLIC.v4)
        assert monitor.wait_name(asked.label)["program"] == "dig"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(lab, logging, number):
    with Monitor(logging) as monitor:
        asked = clients.dig(lab.host, PUBLIC.v4)
        monitor.wait_name(asked.label)
        assert monitor.finish(number)[1] == 0
        assert monitor.process.stderr.read() == b""
    assert listener(lab.host) is None


def test_nobody_reads(logging):
    """A pipe that was closed ends it, also when nothing is blocked."""
    with Monitor(logging) as monitor:
        monitor.process.stdout.close()
        assert monitor.process.wait(10) == 0
        assert monitor.process.stderr.read() == b""
        monitor.process.stdout = open(os.devnull, "rb")


def waiting(pipe):
    """Bytes in it."""
    count = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return struct.unpack("i", count)[0]


def test_output_is_full(lab, logging):
    """Who does not read on does not keep it from ending."""
    with Monitor(logging) as monitor:
        before = -1
        while waiting(monitor.process.stdout) != before:
            before = waiting(monitor.process.stdout)
            flood(lab, 1000)
        monitor.process.send_signal(signal.SIGTERM)
        assert monitor.process.wait(10) == 0


def test_summary(lab, logging):
    with Monitor(logging, "--summary", "4") as monitor:
        label = new_label()
        with asker(lab.host, label), asker(lab.host, label):
            asked = clients.dig(lab.lan, PUBLIC.v4)
        assert monitor.process.wait(15) == 0
        one, = monitor.events()
    assert one["event"] == "summary" and one["seconds"] == 4
    assert (one["shown"], one["not_shown"]) == (3, 0)
    assert one["programs"][0] == {"what": "python3 root", "packets": 2}
    assert [(o["what"], o["packets"]) for o in one["names"]] == \
        [(f"{label}.lab.example A", 2), (f"{asked.label}.lab.example A", 1)]
    assert one["resolvers"] == [{"what": f"{PUBLIC.v4}:53", "packets": 3}]
    assert len(one["clients"]) == 1
    assert one["clients"][0]["what"].startswith("192.168.7.10 ")


def test_summary_text(lab, logging):
    """By a signal it ends sooner."""
    with Monitor(logging, "--summary", "1h", json_too=False) as monitor:
        with asker(lab.host, new_label()):
            pass
        flood(lab, 100)
        monitor.process.send_signal(signal.SIGINT)
        assert monitor.process.wait(10) == 0
        text = monitor.text()
    assert "1601 packets blocked in " in text
    assert "\nprograms\n" in text and "\nresolvers\n" in text


@pytest.mark.parametrize("env, colour", [
    ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False),
    ({"TERM": "xterm", "NO_COLOR": "1"}, False)])
def test_terminal(lab, logging, env, colour):
    ours, theirs = pty.openpty()
    process = lab.host.popen(logging.command("monitor"), stdout=theirs,
                             env=dict(os.environ, **env))
    os.close(theirs)
    netns.wait_until(lambda: listener(lab.host), "monitor listens")
    asked = clients.dig(lab.host, PUBLIC.v4)
    text = b""
    while asked.label.encode() not in text or b"\n" not in text:
        text += os.read(ours, 4096)
    netns.stop(process)
    os.close(ours)
    assert (b"\x1b[" in text) == colour
    assert b"dig[" in text and PUBLIC.v4.encode() + b":53 udp" in text


def test_lines(lab, logging):
    """For people, and into a file: no colour, one line a packet."""
    with Monitor(logging, json_too=False) as monitor:
        asked = clients.dig(lab.host, PUBLIC.v6)
        netns.wait_until(lambda: "\n" in monitor.text(), "a line")
        flood(lab, 5000)
        monitor.process.send_signal(signal.SIGTERM)
        netns.wait_until(lambda: monitor.text() and
                         monitor.process.poll() is not None, "it has ended")
        text = monitor.text()
    first, last = text.splitlines()[0], text.splitlines()[-1]
    assert f"{asked.label}.lab.example A to [{PUBLIC.v6}]:53 udp by wan0" \
        in first
    assert "S7" in first and "dig[" in first and " root " in first
    assert last.endswith(" more were blocked and not shown")
    assert all(" " <= c <= "~" or c == "\n" for c in text)


def test_raised_anew(lab, guard):
    """With another group: it follows, and says what became of the guard."""
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0")
    with Monitor(guard) as monitor:
        guard.disable()
        netns.wait_until(lambda: {"event": "guard", "up": False}
                         in monitor.events(), "it says that it is open")
        guard.configure(LOGGING.replace(str(GROUP), "6"))
        guard.enable(tunnel="tun0")
        netns.wait_until(lambda: {"event": "guard", "up": True}
                         in monitor.events(), "it says that it is closed")
        netns.wait_until(lambda: listener(lab.host, 6), "it follows")
        asked = clients.dig(lab.host, PUBLIC.v4)
        assert monitor.wait_name(asked.label)["program"] == "dig"


# --- when it cannot ---

def refusal(guard, *options, prefix=()):
    done = guard.namespace.run([*prefix, *guard.command("monitor", *options)],
                               check=False)
    assert done.stdout == "" and done.stderr.count("\n") == 1
    return done.rc, done.stderr


def test_without_guard(guard):
    status, text = refusal(guard)
    assert status == 1 and "the guard is not up" in text


def test_without_log(guard):
    guard.configure("log-group = 0\n")
    guard.enable(tunnel="tun0")
    status, text = refusal(guard)
    assert status == 1 and "expected log-group = " in text


def test_second(logging):
    with Monitor(logging):
        status, text = refusal(logging)
        assert status == 1 and "another process listens to nflog group 5" \
            in text


def test_without_capability(logging):
    status, text = refusal(logging, prefix=(
        "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"))
    assert status == 1 and "CAP_NET_ADMIN" in text


def test_bad_duration(logging):
    status, text = refusal(logging, "--summary", "soon")
    assert status == 2 and "expected a duration" in text
