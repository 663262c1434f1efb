"""monitor: whose packet it was in another network namespace, and no guess.

  box0                  host                                 isp
 +-----------------+   +--------------------------------+   +-------+
 | eth0 172.22.0.10|---| in0 --- ctbr --- (forwarded)   |   |       |
 +-----------------+   |         172.22.0.1        wan0 |---| cust0 |
 | eth0 172.22.0.11|---| in1                            |   |       |
 +-----------------+   +--------------------------------+   +-------+
  box1
"""

import contextlib
import errno
import os
import signal
import socket
import subprocess

import pytest

import guests
import labnet
import netns
import packets
from guard import Guard
from labnet import LAN_CLIENT, RESOLVERS
from monitor import LOGGING, Monitor
from probes import make_query, new_label
from procfs import Process
from test_monitor import asker
from test_watch_privs import NET_ADMIN, with_library
from tools import build

PUBLIC = RESOLVERS["public"]
BRIDGE = labnet.Addresses("172.22.0.1", "fd22::1")
PORT = 4053
BOUND_ANY = f"sock.bind(('::' if family == socket.AF_INET6 else '', {PORT}))"
BOUND = f"sock.bind(('', {PORT}))"
DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN = 1 << 2, 1 << 19, 1 << 21
MOST_NAMESPACES = 64  # src/netns.h


class Box:
    """A container: a namespace behind the bridge."""

    def __init__(self, host, number):
        self.name, self.number = f"box{number}", number
        self.addresses = labnet.Addresses(f"172.22.0.{10 + number}",
                                          f"fd22::{10 + number}")
        self.namespace = guests.new_namespace(self.name)
        netns.ip(f"link add in{number} netns {host.name} type veth "
                 f"peer name eth0 netns {self.name}")
        host.ip(f"link set in{number} master ctbr up")
        labnet.add_addresses(self.namespace, "eth0",
                             f"{self.addresses.v4}/24",
                             f"{self.addresses.v6}/64")
        self.namespace.ip(f"route add default via {BRIDGE.v4}",
                          f"route add ::/0 via {BRIDGE.v6}")
        for address in BRIDGE:
            netns.wait_until(
                lambda a=address: labnet.can_reach(self.namespace, a),
                f"{self.name} reaches {address}")

    @property
    def mac(self):
        return self.namespace.run(
            ["cat", "/sys/class/net/eth0/address"]).stdout.strip()


@pytest.fixture(scope="module")
def boxes(lab):
    host = lab.host
    host.ip("link add ctbr type bridge")
    labnet.add_addresses(host, "ctbr", f"{BRIDGE.v4}/24", f"{BRIDGE.v6}/64")
    made = [Box(host, number) for number in range(2)]
    yield made
    for box in made:
        guests.drop(box.namespace)
    host.ip("link del ctbr")


@pytest.fixture(scope="module")
def logging(lab):
    """One guard for all tests of the file."""
    guard = Guard(lab)
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0")
    yield guard
    guard.disable()


@pytest.fixture
def monitor(logging):
    with Monitor(logging) as made:
        yield made


def who(one):
    return one["program"], one["pid"], one["uid"], one["user"]


UNKNOWN = (None, None, None, None)


def python3(process, uid=0, user="root"):
    return "python3", process.pid, uid, user


def send_frame(namespace, link, source, mac, label, sport=PORT, to=None):
    """A query that no UDP socket sent; `to`: the next hop's link address."""
    datagram = packets.udp(source, PUBLIC.v4, sport, 53, make_query(label))
    frame = bytes.fromhex((to + mac).replace(":", "") + "0800") \
        + packets.ipv4(source, PUBLIC.v4, packets.UDP, datagram)
    with namespace.inside(), socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((link, 0x0800))
        with contextlib.suppress(OSError):  # ENOBUFS: dropped at the device
            sock.send(frame)


def link_address(namespace, link):
    return namespace.run(["cat", f"/sys/class/net/{link}/address"]
                         ).stdout.strip()


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("address", PUBLIC)
def test_program(monitor, boxes, address, connected):
    label, box = new_label(), boxes[0]
    before = f"sock.connect(('{address}', 53))" if connected else ""
    with asker(box.namespace, label, address, before) as process:
        one = monitor.wait_name(label)
        assert who(one) == python3(process)
        assert one["client"] == {"address": box.addresses[":" in address],
                                 "mac": box.mac, "name": None}
        assert (one["in_link"], one["link"], one["rule"]) == \
            ("ctbr", "wan0", "S7")


def test_tcp(monitor, boxes):
    """While it is being set up, it has its socket."""
    with asker(boxes[0].namespace, new_label(), before=f"""
sock.close()
sock = socket.socket(family, socket.SOCK_STREAM)
sock.setblocking(False)
sock.bind(("", {PORT}))
sock.connect_ex(("{PUBLIC.v4}", 53))
sock, other = socket.socket(family, socket.SOCK_DGRAM), sock""") as process:
        one = monitor.wait(lambda one: (one["protocol"], one["source_port"])
                          == ("tcp", PORT), "the SYN is shown")
        assert who(one) == python3(process)


def test_dig(monitor, boxes):
    label = new_label()
    process = boxes[0].namespace.popen(
        ["dig", f"@{PUBLIC.v4}", "+tries=1", "+time=30", f"{label}.example"],
        stdout=subprocess.DEVNULL)
    try:
        assert who(monitor.wait_name(label)) == ("dig", process.pid, 0, "root")
    finally:
        netns.stop(process)


@pytest.mark.root
def test_user(monitor, boxes):
    """Of the container as this machine counts them."""
    label = new_label()
    with asker(boxes[0].namespace, label, before="os.setgid(65534); "
               "os.setuid(65534); "
               "sock = socket.socket(family, socket.SOCK_DGRAM)") as process:
        assert who(monitor.wait_name(label)) == \
            python3(process, 65534, "nobody")


def test_same_port(lab, monitor, boxes):
    """The same one in two containers and on the host, bound to no address."""
    with contextlib.ExitStack() as stack:
        asked = []
        for namespace in (boxes[0].namespace, lab.host, boxes[1].namespace):
            label = new_label()
            asked.append((label, stack.enter_context(
                asker(namespace, label, before=BOUND))))
        for label, process in asked:
            assert who(monitor.wait_name(label)) == python3(process)


def test_is_gone(lab, monitor, boxes):
    """It has no socket; another container's with that port is not it."""
    label, other, box = new_label(), new_label(), boxes[0]
    with asker(boxes[1].namespace, other, before=BOUND) as process:
        assert who(monitor.wait_name(other)) == python3(process)
        send_frame(box.namespace, "eth0", box.addresses.v4, box.mac, label,
                   to=link_address(lab.host, "ctbr"))
        one = monitor.wait_name(label)
        assert who(one) == UNKNOWN
        assert one["client"]["address"] == box.addresses.v4


@pytest.mark.parametrize("mac, address", [
    ("02:00:00:00:09:09", LAN_CLIENT.v4), (None, "192.168.7.99")])
def test_stranger(lab, monitor, mac, address):
    """Another machine's packet, though a program here has its port: the link
    address, or the address, is none of its namespace's."""
    label, other, lan = new_label(), new_label(), lab.lan
    mac = mac or link_address(lan, "eth0")
    with asker(lan, other, before=BOUND) as process:
        assert who(monitor.wait_name(other)) == python3(process)
        send_frame(lan, "eth0", address, mac, label,
                   to=link_address(lab.host, "lan0"))
        one = monitor.wait_name(label)
        assert who(one) == UNKNOWN
        assert (one["client"]["mac"], one["client"]["address"]) == \
            (mac, address)


def test_spoofed(lab, monitor):
    """From no address of this namespace: not by who has that port here."""
    label, other = new_label(), new_label()
    data = packets.ipv4("192.0.2.77", PUBLIC.v4, packets.UDP, packets.udp(
        "192.0.2.77", PUBLIC.v4, PORT, 53, make_query(label)))
    with asker(lab.host, other, before=BOUND) as process:
        assert who(monitor.wait_name(other)) == python3(process)
        with lab.host.inside(), socket.socket(
                socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock, \
                contextlib.suppress(PermissionError):
            sock.sendto(data, (PUBLIC.v4, 0))
        # Of this very process, if it is known.
        assert who(monitor.wait_name(label)) in (
            (None, None, 0, "root"), ("python3", os.getpid(), 0, "root"))


@contextlib.contextmanager
def held(namespace):
    """A process in it, so that it is known by one older than others to come."""
    process = namespace.popen(["sleep", "1000"])
    netns.wait_until(lambda: Process(process.pid).status("Name") == "sleep",
                     "it is inside")
    try:
        yield
    finally:
        netns.stop(process)


@contextlib.contextmanager
def twin(box, address):
    """Another namespace with the same link address, looked into later."""
    made = guests.new_namespace("twin")
    made.ip(f"link add br9 address {box.mac} type bridge")
    labnet.add_addresses(made, "br9", f"{address}/24")
    try:
        with held(box.namespace), held(made):
            yield
    finally:
        guests.drop(made)


def ask_named(monitor, box):
    """Who it says has asked, and who has."""
    label = new_label()
    with asker(box.namespace, label) as process:
        return who(monitor.wait_name(label)), python3(process)


def test_twins(monitor, boxes):
    """Either could be it."""
    box = boxes[0]
    with twin(box, box.addresses.v4):
        assert ask_named(monitor, box)[0] == UNKNOWN
        assert len(set(ask_named(monitor, boxes[1]))) == 1
    assert len(set(ask_named(monitor, box))) == 1
    with twin(box, boxes[1].addresses.v4):
        assert len(set(ask_named(monitor, box))) == 1


def test_too_many(lab, monitor, boxes):
    """One that was not looked into might have been it."""
    with held(boxes[0].namespace):
        crowd = subprocess.Popen(
            ["sh", "-c", f"for i in $(seq {MOST_NAMESPACES}); do "
             "unshare --net sleep 1000 & done; wait"], start_new_session=True)
        try:
            netns.wait_until(lambda: lab.host.run(
                ["pgrep", "-c", "-g", crowd.pid, "sleep"], check=False
            ).stdout.strip() == str(MOST_NAMESPACES), "they are there", 60)
            assert ask_named(monitor, boxes[0])[0] == UNKNOWN
        finally:
            os.killpg(crowd.pid, signal.SIGKILL)
            crowd.wait(10)
        netns.wait_until(
            lambda: len(set(ask_named(monitor, boxes[0]))) == 1,
            "they are gone", 30)


# --- guests that share the host's link ---

def test_macvlan(lab, monitor):
    """Its frames come with their user, as if this namespace had sent them."""
    with guests.child(lab, "bridge") as guest:
        for address in PUBLIC:
            label, other = new_label(), new_label()
            with asker(lab.host, other, address, BOUND_ANY) as own, \
                    asker(guest, label, address, BOUND_ANY) as process:
                one = monitor.wait_name(label)
                assert who(one) == python3(process)
                assert one["client"]["mac"] == link_address(guest, "eth0")
                assert (one["rule"], one["link"]) == ("S11", "wan0")
                assert who(monitor.wait_name(other)) == python3(own)
        label, other = new_label(), new_label()
        with asker(lab.host, other, before=BOUND) as own:
            assert who(monitor.wait_name(other)) == python3(own)
            send_frame(guest, "eth0", guests.GUESTS[0].v4,
                       link_address(guest, "eth0"), label,
                       to=link_address(lab.isp, "cust0"))
            # No more than the kernel says of it.
            assert who(monitor.wait_name(label)) == (None, None, 0, "root")


@pytest.mark.parametrize("nf_call", [0, 1])
def test_bridged(lab, monitor, nf_call):
    if nf_call and not guests.has_nf_call():
        pytest.skip("this kernel's bridges never ask the IP stack's rules")
    with guests.bridged(lab, 2, nf_call) as both, \
            contextlib.ExitStack() as stack:
        asked = []
        for guest in both:
            label = new_label()
            asked.append((label, stack.enter_context(
                asker(guest, label, before=BOUND))))
        for label, process in asked:
            assert who(monitor.wait_name(label)) == python3(process)


# --- what it may, what it prints ---

def test_capabilities(logging, monitor):
    with_library(logging, "libcap-ng")
    process = Process(monitor.pid)
    needed = NET_ADMIN | DAC_READ_SEARCH | SYS_PTRACE | SYS_ADMIN
    mine = int(Process(os.getpid()).status("CapPrm"), 16)
    assert mine & ~needed, "the control"
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert int(process.status(which), 16) == needed, which
    for which in ("CapInh", "CapAmb"):
        assert int(process.status(which), 16) == 0, which
    assert process.status("NoNewPrivs") == "1"


class Lacking:
    """The guard's program without a capability."""

    def __init__(self, guard, lack):
        self.namespace, self.guard, self.lack = guard.namespace, guard, lack

    def command(self, *arguments):
        return ["setpriv", f"--bounding-set=-{self.lack}",
                f"--inh-caps=-{self.lack}", *self.guard.command(*arguments)]


def test_may_not_look(lab, logging, boxes):
    """Nothing is said of others' programs; own ones are named as ever."""
    with Monitor(Lacking(logging, "sys_admin")) as monitor:
        for _ in range(2):
            assert ask_named(monitor, boxes[0])[0] == UNKNOWN
        label = new_label()
        with asker(lab.host, label) as process:
            assert who(monitor.wait_name(label)) == python3(process)
        assert monitor.finish()[1] == 0
        assert monitor.process.stderr.read() == b""


def no_setns(at):
    """ip(8) enters by its first; after that the program's own are counted."""
    return dict(os.environ, LD_PRELOAD=build("failk"), FAILK_CALL="setns",
                FAILK_AT=str(at), FAILK_HOW=str(errno.ENOMEM))


def test_cannot_enter(logging, boxes):
    """One of the last, once: what it has found before is not believed."""
    with Monitor(logging, env=no_setns(5)) as monitor, \
            held(boxes[0].namespace), held(boxes[1].namespace):
        assert ask_named(monitor, boxes[0])[0] == UNKNOWN
        netns.wait_until(lambda: len(set(ask_named(monitor, boxes[0]))) == 1,
                         "it looks again")


def test_cannot_come_back(logging, boxes):
    """It would read another namespace's counters for its own."""
    with Monitor(logging, env=no_setns(2)) as monitor, \
            asker(boxes[0].namespace, new_label()):
        assert monitor.process.wait(10) == 1
        assert monitor.process.stderr.read().decode() == \
            "leakguard: monitor: cannot return to its own network namespace: " \
            f"{os.strerror(errno.ENOMEM)}\n"
        assert not monitor.blocked()


def test_text(logging, boxes):
    box, label = boxes[0], new_label()
    with Monitor(logging, json_too=False) as monitor, \
            asker(box.namespace, label) as process:
        line = netns.wait_until(lambda: next((
            one for one in monitor.text().splitlines() if label in one), None),
            "the line")
        assert f" S7  python3[{process.pid}] root in {box.addresses.v4} " \
            f"{box.mac} {label}" in line
        assert line.endswith(f" by wan0 from {box.addresses.v4} of ctbr")


def test_summary(logging, boxes):
    box = boxes[0]
    with Monitor(logging, "--summary", "1h") as monitor, \
            asker(box.namespace, new_label()), \
            asker(box.namespace, new_label()):
        events, status = monitor.finish()
    assert status == 0
    client = f"{box.addresses.v4} {box.mac}"
    assert events[-1]["clients"] == [{"what": client, "packets": 2}]
    assert {"what": f"python3 root in {client}", "packets": 2} \
        in events[-1]["programs"]
