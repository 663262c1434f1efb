"""monitor: who asked for which name, whom, by which link; and no guess."""

import contextlib
import pathlib
import random
import re
import socket
import struct
import subprocess

import pytest

import clients
import lookups
import netns
import packets
import systems
from guard import Guard
from labnet import HOST_WAN, LAN_CLIENT, RESOLVERS
from monitor import LOGGING, Monitor
from probes import make_query, new_label

PUBLIC = RESOLVERS["public"]
LEASES = pathlib.Path("/var/lib/misc/dnsmasq.leases")
# What a program closes as soon as it is refused cannot be looked at any more.
CLOSES_AT_ONCE = {"delv", "kdig"}
KEEPS = {"musl, static"}
COMMS = {"proxychains4": "curl", "musl, static": "static_lookup",
         "c-ares": "python3", "dnspython": "python3",
         "busybox nslookup": "busybox"}

# Asks, says so, and keeps its socket until its input ends.
ASKER = """
import os, socket, sys
def rename(name):
    open("/proc/self/comm", "wb").write(name)
family = socket.AF_INET6 if ":" in "{address}" else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
{before}
try:
    sock.sendto(bytes.fromhex("{query}"), ("{address}", 53))
except PermissionError:
    pass
{after}
print("asked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def asker(namespace, label, address=PUBLIC.v4, before="", after="",
          query=None):
    """A program that has asked once, in its own process."""
    text = ASKER.format(address=address, before=before, after=after,
                        query=(query or make_query(label)).hex())
    process = namespace.popen(["/usr/bin/python3", "-c", text],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    try:
        assert process.stdout.readline() == "asked\n"
        yield process
    finally:
        process.communicate(timeout=10)


@pytest.fixture(scope="module")
def shared(lab):
    """One guard and one monitor for all tests of the file. Its lease files
    are in a directory that is nobody's, mounted before it starts: ip(8) gives
    it mounts of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", LEASES.parent],
                   check=True)
    guard = Guard(lab)
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0")
    with Monitor(guard) as monitor:
        yield monitor
    guard.disable()
    subprocess.run(["umount", LEASES.parent], check=True)


@pytest.fixture
def leases():
    yield LEASES
    LEASES.unlink()


def expected_program(program):
    return program.split()[0]


@pytest.mark.parametrize("program", clients.PROGRAMS)
def test_program(lab, shared, program):
    before = len(shared.blocked())
    asked = clients.run_program(lab.host, program, PUBLIC.v4)
    encrypted = "tls" in program
    proto = "tcp" if "tcp" in program or encrypted else "udp"
    shared.wait(lambda one: shared.blocked().index(one) >= before,
                f"monitor shows {program}")
    found = shared.blocked()[before:]
    for one in found:
        right = {expected_program(program)}
        assert one["program"] in right | (
            {None} if program in CLOSES_AT_ONCE or proto == "tcp" else set()), one
        assert (one["pid"] is None) == (one["program"] is None)
        assert one["user"] == "root" and one["uid"] == 0
        assert one["client"] is None and one["in_link"] is None
        assert (one["link"], one["source"], one["resolver"]) == \
            ("wan0", HOST_WAN.v4, PUBLIC.v4)
        assert (one["protocol"], one["rule"]) == (proto, "S7")
        assert one["port"] == (853 if encrypted else 53)
        assert one["encrypted"] == encrypted
        if proto == "udp":
            assert (one["name"], one["type"]) == \
                (f"{asked.label}.lab.example", "A")
        else:
            assert (one["name"], one["type"]) == (None, None)


def test_program_v6(lab, shared):
    asked = clients.dig(lab.host, PUBLIC.v6, "-t", "AAAA")
    one = shared.wait_name(asked.label)
    assert (one["program"], one["source"], one["resolver"], one["type"]) == \
        ("dig", HOST_WAN.v6, PUBLIC.v6, "AAAA")


@pytest.mark.parametrize("program", lookups.BY_RESOLV_CONF)
def test_lookup(lab, shared, program):
    """Through the C library too, which closes its socket when refused: the
    program is the right one or not known."""
    lab.host.set_resolv_conf(lookups.resolv_conf(PUBLIC.v4))
    asked = lookups.look_up(lab, program)
    one = shared.wait_name(asked.label)
    right = COMMS.get(program, program)
    assert one["program"] in ({right} if program in KEEPS else {right, None})
    assert (one["user"], one["resolver"], one["type"]) == \
        ("root", PUBLIC.v4, "A")


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("address", PUBLIC)
def test_pid(lab, shared, address, connected):
    """A resolver of its own on a plain socket, as Go's."""
    label = new_label()
    before = f"sock.connect(('{address}', 53))" if connected else ""
    with asker(lab.host, label, address, before) as process:
        one = shared.wait_name(label)
        assert (one["program"], one["pid"]) == ("python3", process.pid)


def test_mapped_address(lab, shared):
    label = new_label()
    with asker(lab.host, label, "::ffff:" + PUBLIC.v4) as process:
        one = shared.wait_name(label)
        assert (one["pid"], one["resolver"]) == (process.pid, PUBLIC.v4)


def test_has_ended(lab, shared):
    """Who is gone is never taken for another."""
    for _ in range(20):
        label = new_label()
        lab.host.run(["/usr/bin/python3", "-c", ASKER.format(
            address=PUBLIC.v4, query=make_query(label).hex(), before="",
            after="os._exit(0)")])
        one = shared.wait_name(label)
        assert one["program"] in ("python3", None)
        assert one["uid"] == 0


@pytest.mark.root
def test_user(lab, shared):
    label = new_label()
    with asker(lab.host, label, before="os.setgid(65534); os.setuid(65534); "
               "sock = socket.socket(family, socket.SOCK_DGRAM)") as process:
        one = shared.wait_name(label)
        assert (one["uid"], one["user"], one["pid"]) == \
            (65534, "nobody", process.pid)


def test_inherited_socket(lab, shared):
    """Two processes of one name have it: the name is certain, the pid not."""
    label = new_label()
    with asker(lab.host, label, before="""
child = os.fork()
if not child:
    sys.stdin.read()
    os._exit(0)"""):
        one = shared.wait_name(label)
        assert (one["program"], one["pid"]) == ("python3", None)


def test_inherited_by_another(lab, shared):
    """Of two names either could be it: none is said, or who was dropped."""
    label = new_label()
    with asker(lab.host, label, before="""
read, write = os.pipe()
child = os.fork()
if not child:
    rename(b"somebody else")
    os.write(write, b"x")
    sys.stdin.read()
    os._exit(0)
os.read(read, 1)""") as process:
        one = shared.wait_name(label)
        assert (one["program"], one["pid"]) in (
            (None, None), ("python3", process.pid))
        assert one["uid"] == 0


REUSED = """
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("0.0.0.0", 4053))
rename(b"{name}")"""


def test_shared_port(lab, shared):
    """Two sockets on one port: only one of them was it, and its process
    was dropped."""
    first, second = new_label(), new_label()
    with asker(lab.host, first, before=REUSED.format(name="first")) as one:
        assert shared.wait_name(first)["pid"] == one.pid
        with asker(lab.host, second,
                   before=REUSED.format(name="second")) as two:
            found = shared.wait_name(second)
            assert (found["program"], found["pid"]) in (
                (None, None), ("second", two.pid))
    third = new_label()
    with asker(lab.host, third, before=REUSED.format(name="third")) as one:
        assert shared.wait_name(third)["pid"] == one.pid


# --- others' packets ---

def test_phone(lab, shared, leases):
    mac = lab.lan.run(["cat", "/sys/class/net/eth0/address"]).stdout.strip()
    asked = clients.dig(lab.lan, PUBLIC.v4)
    one = shared.wait_name(asked.label)
    assert one["client"] == {"address": LAN_CLIENT.v4, "mac": mac,
                             "name": None}
    leases.write_text(f"1700000000 {mac} {LAN_CLIENT.v4} annas-phone *\n",
                      encoding="ascii")
    for address, source in zip(PUBLIC, LAN_CLIENT, strict=True):
        asked = clients.dig(lab.lan, address)
        one = shared.wait_name(asked.label)
        # Its IPv6 address has no lease of its own.
        assert one["client"] == {"address": source, "mac": mac,
                                 "name": "annas-phone"}
        assert (one["link"], one["in_link"], one["resolver"]) == \
            ("wan0", "lan0", address)
        # The lab's phone is a process of this machine; another machine's
        # packets are in test_monitor_containers.
        assert one["program"] in ("dig", None)


def test_hostile_lease(lab, shared, leases):
    leases.write_bytes(f"1 02:00:00:00:00:01 {LAN_CLIENT.v4} ".encode()
                       + b"\x1b[31m\x9b\xff\" *\n")
    asked = clients.dig(lab.lan, PUBLIC.v4)
    assert shared.wait_name(asked.label)["client"]["name"] == '?[31m??"'


def test_container(lab, shared):
    box = systems.Box(lab)
    try:
        asked = clients.dig(box.namespace, PUBLIC.v4)
        one = shared.wait_name(asked.label)
        assert one["client"]["address"] == systems.BOX.v4
        assert (one["in_link"], one["link"]) == ("br0", "wan0")
        assert (one["name"], one["resolver"]) == \
            (f"{asked.label}.lab.example", PUBLIC.v4)
        # Masqueraded, but after the rules. It waits a second for an answer.
        assert (one["program"], one["uid"]) in (("dig", 0), (None, None))
    finally:
        box.close()


def test_frame(lab, shared):
    """By a packet socket: the user is certain, the program not to be had."""
    label = new_label()
    datagram = packets.udp(HOST_WAN.v4, PUBLIC.v4, 4000, 53, make_query(label))
    frame = bytes.fromhex("020000000001" "020000000002" "0800") \
        + packets.ipv4(HOST_WAN.v4, PUBLIC.v4, packets.UDP, datagram)
    with lab.host.inside(), socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind(("wan0", 0x0800))
        with contextlib.suppress(OSError):  # ENOBUFS: dropped at the device
            sock.send(frame)
    one = shared.wait_name(label)
    assert (one["rule"], one["link"], one["uid"]) == ("S11", "wan0", 0)
    assert (one["program"], one["pid"]) == (None, None)
    assert (one["source"], one["resolver"]) == (HOST_WAN.v4, PUBLIC.v4)


# --- names ---

def query_of(*labels):
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + name \
        + struct.pack("!HH", 16, 1)


def test_every_byte(lab, shared):
    """No byte of a name comes out as it is that a terminal could obey."""
    everything = bytes(range(256))
    parts = [everything[i:i + 60] for i in range(0, 256, 60)]
    token = new_label()
    for part in parts:
        query = query_of(token.encode(), part)
        with asker(lab.host, token, query=query):
            pass
    netns.wait_until(lambda: sum(token in (one["name"] or "")
                                 for one in shared.blocked()) == len(parts),
                     "all are shown")
    text = ""
    for one in shared.blocked():
        if token in (one["name"] or ""):
            assert one["type"] == "TXT"
            text += one["name"].removeprefix(token + ".")
    assert all("!" <= character <= "~" for character in text)
    back = re.sub(rb"\\(\d{3}|.)", lambda found: bytes(
        [int(found[1])] if found[1].isdigit() and len(found[1]) == 3
        else found[1]), text.encode())
    assert back == everything


def test_hostile_program(lab, shared):
    label = new_label()
    with asker(lab.host, label, before=r'rename(b"\x1b[31m\x9b\n\"\xff")'):
        one = shared.wait_name(label)
        assert re.fullmatch(r'\?\[31m\?\??"?\??', one["program"])


def test_malformed(lab, shared):
    """10,000 that are none, and then one that is."""
    seeded = random.Random(9)
    with lab.host.inside(), socket.socket(type=socket.SOCK_DGRAM) as sock:
        for _ in range(10000):
            data = bytearray(make_query(new_label()))
            for _ in range(seeded.randrange(6)):
                data[seeded.randrange(len(data))] = seeded.randrange(256)
            with contextlib.suppress(PermissionError):
                sock.sendto(data[:seeded.randrange(len(data) + 1)],
                            (PUBLIC.v4, 53))
    label = new_label()
    with asker(lab.host, label):
        assert shared.wait_name(label)["program"] == "python3"
    assert shared.process.poll() is None
    assert len(shared.blocked()) > 500  # the log has a limit
    assert all("!" <= character <= "~" for one in shared.blocked()
               for character in one["name"] or "")
