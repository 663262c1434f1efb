"""monitor: programs that close their socket as soon as they are refused, as all
do that use the C library's resolver, by the process in which packets are dropped.
"""


import contextlib
import subprocess
import time

import pytest

import clients
import lookups
import netns
from guard import Guard
from labnet import RESOLVERS
from monitor import LOGGING, Monitor
from probes import make_query, new_label
from test_monitor import CLOSES_AT_ONCE, COMMS, REUSED, asker

PUBLIC = RESOLVERS["public"]
# The trace is of all of the machine, and other tests have packets dropped as well:
# nothing is known of a moment in which two had. They end.
QUIET_S = 120


@pytest.fixture(scope="module")
def guard(lab):
    made = Guard(lab)
    made.configure(LOGGING)
    made.enable(tunnel="tun0")
    lab.host.set_resolv_conf(lookups.resolv_conf(PUBLIC.v4))
    yield made
    made.disable()


@pytest.fixture
def shared(guard):
    with Monitor(guard) as monitor:
        yield monitor


def names(lab, monitor, program, look_up, right):
    """Whether it is named, sooner or later; nobody else ever is."""
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        one = monitor.wait_name(look_up(lab, program).label)
        assert one["program"] in (right, None), one
        if one["program"]:
            assert one["pid"] > 0
            return True
    return False


@pytest.mark.parametrize("program", lookups.BY_RESOLV_CONF)
def test_lookup(lab, shared, program):
    right = COMMS.get(program, program)
    assert names(lab, shared, program, lookups.look_up, right)


def run_client(lab, program):
    return clients.run_program(lab.host, program, PUBLIC.v4)


@pytest.mark.parametrize("program", sorted(CLOSES_AT_ONCE))
def test_client(lab, shared, program):
    assert names(lab, shared, program, run_client, program)


# --- never a guess ---

BESIDE = """
import select, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.0003)[0]:
    try:
        sock.sendto(b"", ("{address}", 9))
    except PermissionError:
        pass
"""
# By others, and so not logged by us.
DROPS = """
table inet beside {
    chain output { type filter hook output priority 0; udp dport 9 drop; }
    chain forward { type filter hook forward priority 0; udp dport 9 drop; }
}
"""


@contextlib.contextmanager
def beside(lab, namespace):
    """Another program whose packets are dropped on the host, all the time."""
    lab.host.nft(DROPS)
    process = namespace.popen(
        ["/usr/bin/python3", "-c", BESIDE.format(address=PUBLIC.v4)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.communicate(timeout=10)
        lab.host.nft("delete table inet beside")


def test_two_at_once(lab, shared):
    with beside(lab, lab.host):
        for _ in range(20):
            one = shared.wait_name(lookups.look_up(lab, "getent").label)
            assert one["program"] in ("getent", None), one


TWIN = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
{before}
for query in sys.stdin:
    try:
        sock.sendto(bytes.fromhex(query), ("{address}", 53))
    except PermissionError:
        pass
"""


@contextlib.contextmanager
def twin(lab):
    """ask(label) by the second of two sockets on a port: which of them it was
    nothing but the trace tells."""
    process = lab.host.popen(
        ["/usr/bin/python3", "-c", TWIN.format(
            address=PUBLIC.v4, before=REUSED.format(name="second").replace(
                "rename", "open('/proc/self/comm', 'wb').write"))],
        stdin=subprocess.PIPE, text=True)

    def ask(label):
        process.stdin.write(make_query(label).hex() + "\n")
        process.stdin.flush()

    with asker(lab.host, new_label(), before=REUSED.format(name="first")):
        yield ask
    process.communicate(timeout=10)


def test_forwarded_beside(lab, shared):
    """What is dropped in an interrupt meets any process: it does not count."""
    with twin(lab) as ask, beside(lab, lab.lan):
        def most_are_named():
            found = []
            for _ in range(20):
                ask(label := new_label())
                found.append(shared.wait_name(label)["program"])
            assert set(found) <= {"second", None}
            return found.count("second") > 10

        netns.wait_until(most_are_named, "most are named", QUIET_S)


def test_without_the_trace(lab, guard, tmp_path):
    """As in a container: then most are not known."""
    text = "exec setpriv --bounding-set=-perfmon,-sys_admin --inh-caps=-all"
    wrapper = tmp_path / "leakguard"
    wrapper.write_text(f'#!/bin/sh\n{text} {guard.program} "$@"\n')
    wrapper.chmod(0o755)
    unable = Guard(lab, str(wrapper))
    with Monitor(unable) as monitor:
        found = {monitor.wait_name(lookups.look_up(lab, "getent").label)[
            "program"] for _ in range(20)}
    assert None in found and found <= {None, "getent"}
