"""Probes: queries by raw sockets, many at once, and what became of each.

A volley opens a socket for every probe, sends, waits for the answers that are
due, and reads the captures up to a sentinel. A UDP query is found again by the
random label it asks for, a TCP connection by its source port.
"""

import dataclasses
import errno
import itertools
import os
import re
import selectors
import socket
import struct
import time

import labnet
from capture import TCP
from resolvers import TAGS, ZONE

LABEL = re.compile(rb"q[0-9a-f]{16}")
# Below the ports that the kernel picks by itself (32768 and up).
_source_ports = itertools.cycle(range(10240, 30000))


@dataclasses.dataclass(frozen=True)
class Probe:
    """One way for a query to try to leave.

    origin  "host" or "lan"
    way     "routed": where the routing table sends it; "wan": past the tunnel
            (host: SO_BINDTODEVICE, LAN: a source address with a policy route)
    target  a name of labnet.RESOLVERS, or an address
    """

    origin: str
    way: str
    family: int
    port: int
    proto: str
    target: str

    @property
    def address(self):
        known = labnet.RESOLVERS.get(self.target)
        if not known:
            return self.target
        return known.v4 if self.family == 4 else known.v6

    def __str__(self):
        return (f"{self.origin} {self.way} v{self.family} {self.proto}/"
                f"{self.port} to {self.target}")


class Outcome:
    """What became of a probe.

    seen        it left the host's WAN link in clear
    tunnelled   it came out of the tunnel at the VPN
    answer      who answered (resolvers.TAGS); "open" for a TCP connection to
                853, where TLS would follow; "refused"; None
    error       errno's name where sending failed, or None
    """

    def __init__(self, probe):
        self.probe = probe
        self.label = new_label()
        self.sport = next(_source_ports)
        self.seen = self.tunnelled = False
        self.answer = self.error = None
        self.socket = None

    def __str__(self):
        facts = [f"seen={self.seen}", f"tunnelled={self.tunnelled}",
                 f"answer={self.answer}", f"error={self.error}"]
        return f"{self.probe}: {' '.join(facts)}"


def new_label():
    return "q" + os.urandom(8).hex()


def make_query(label, zone=ZONE, qtype=1, pad=b""):
    """A query for label.zone; `pad` follows as an EDNS padding option."""
    name = b"".join(bytes([len(part)]) + part.encode()
                    for part in (label, *zone.split("."))) + b"\0"
    head = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0,
                                       1 if pad else 0)
    opt = b""
    if pad:  # RFC 6891 and, option 12, RFC 7830
        opt = struct.pack("!BHHIHHH", 0, 41, 4096, 0, len(pad) + 4, 12,
                          len(pad)) + pad
    return head + name + struct.pack("!HH", qtype, 1) + opt


def parse_answer(message):
    """Who answered, from the address that ends an answer without EDNS."""
    if len(message) < 12 or message[6:8] == b"\0\0":
        return None
    return TAGS.get(socket.inet_ntoa(message[-4:]))


def _open(lab, outcome):
    """Socket, source and connect; the errno's name lands in the outcome."""
    probe = outcome.probe
    is_udp = probe.proto == "udp"
    sock = socket.socket(
        socket.AF_INET if probe.family == 4 else socket.AF_INET6,
        socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM)
    outcome.socket = sock
    sock.setblocking(False)
    if not is_udp:  # leave by RST: no FIN to be met in a later capture
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))
    if probe.origin == "host" and probe.way == "wan":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wan0")
    sock.bind((_source(probe), outcome.sport))
    code = sock.connect_ex((probe.address, probe.port))
    if code in (0, errno.EINPROGRESS) and is_udp:
        try:
            sock.send(make_query(outcome.label))
        except OSError as error:
            code = error.errno
    if code not in (0, errno.EINPROGRESS):
        outcome.error = errno.errorcode.get(code, code)


def _source(probe):
    if probe.origin == "lan":
        both = (labnet.LAN_RULED if probe.way == "wan"
                else labnet.LAN_CLIENT)
        return both.v4 if probe.family == 4 else both.v6
    return "0.0.0.0" if probe.family == 4 else "::"


def _advance(outcome):
    """The socket is ready: connection made, refused, or an answer here."""
    sock, probe = outcome.socket, outcome.probe
    try:
        if probe.proto == "udp":
            outcome.answer = parse_answer(sock.recv(4096)) or "empty"
        elif outcome.error is None and not _connected(outcome):
            pass
        elif probe.port == 853:
            outcome.answer = "open"
        else:
            outcome.answer = parse_answer(sock.recv(4096)) or "empty"
    except ConnectionRefusedError:
        outcome.answer = "refused"
    except BlockingIOError:
        pass
    except OSError as error:
        outcome.error = errno.errorcode.get(error.errno, error.errno)


def _connected(outcome):
    """First readiness of a TCP socket; sends the query once connected."""
    sock = outcome.socket
    if getattr(outcome, "query_sent", False):
        return True
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    outcome.query_sent = True
    if outcome.probe.port != 853:
        query = make_query(outcome.label)
        sock.send(struct.pack("!H", len(query)) + query)
        return False
    return True


class Volley:
    """The outcomes of probes that were fired together.

    strays: captured name traffic that belongs to no probe, which should be
    empty always: it would be a packet that changed its shape on the way.
    """

    def __init__(self, outcomes, strays):
        self.outcomes, self.strays = outcomes, strays

    def __iter__(self):
        return iter(self.outcomes)


def fire(lab, probes, tunnel=None, answer_due=lambda probe: False,
         timeout=5.0):
    """Send all probes and return the Volley.

    Waits for an answer to each probe that answer_due() names, at most
    `timeout` seconds; a missing answer shows in the outcome.
    """
    outcomes = [Outcome(probe) for probe in probes]
    captures = [lab.capture()] + ([tunnel.capture()] if tunnel else [])
    try:
        for origin in ("host", "lan"):
            with getattr(lab, origin).inside():
                for outcome in outcomes:
                    if outcome.probe.origin == origin:
                        _open(lab, outcome)
        _await_answers(outcomes, answer_due, timeout)
        for outcome in outcomes:
            outcome.socket.close()
        lab.barrier(captures[0])
        strays = _attribute(outcomes, captures[0], "seen")
        if tunnel:
            tunnel.barrier(captures[1])
            _attribute(outcomes, captures[1], "tunnelled")
    finally:
        for capture in captures:
            capture.close()
    return Volley(outcomes, strays)


def _await_answers(outcomes, answer_due, timeout):
    deadline = time.monotonic() + timeout
    due = {o for o in outcomes if answer_due(o.probe) and not o.error}
    with selectors.DefaultSelector() as selector:
        for outcome in outcomes:
            if outcome.error is None:
                _watch(selector, outcome)
        while due and time.monotonic() < deadline:
            due -= _gather(selector, deadline - time.monotonic())
        _gather(selector, 0)  # what nobody waited for, but came


def _watch(selector, outcome):
    events = selectors.EVENT_READ
    if outcome.probe.proto == "tcp":
        events |= selectors.EVENT_WRITE  # until connected
    selector.register(outcome.socket, events, outcome)


def _gather(selector, timeout):
    """One round of readiness; returns the outcomes that are settled."""
    settled = set()
    for key, _ in selector.select(max(timeout, 0)):
        outcome = key.data
        _advance(outcome)
        if outcome.answer or outcome.error:
            settled.add(outcome)
            selector.unregister(outcome.socket)
        elif outcome.probe.proto == "tcp":
            selector.modify(outcome.socket, selectors.EVENT_READ, outcome)
    return settled


def _attribute(outcomes, capture, field):
    """Set `field` on the outcomes found in the capture; return the strays."""
    by_label = {o.label.encode(): o for o in outcomes}
    by_port = {o.sport: o for o in outcomes if o.probe.proto == "tcp"}
    strays = []
    for packet in capture.name_traffic():
        if packet.proto == TCP:
            outcome = by_port.get(packet.sport)
        else:
            found = LABEL.search(packet.payload)
            outcome = by_label.get(found.group()) if found else None
        if outcome:
            setattr(outcome, field, True)
        else:
            strays.append(packet)
    return strays


def all_probes(origins=("host", "lan"), ways=("routed", "wan"),
               families=(4, 6), ports=(53, 853), protos=("udp", "tcp"),
               targets=tuple(labnet.RESOLVERS)):
    """The matrix: every combination, as a list."""
    return [Probe(*row) for row in itertools.product(
        origins, ways, families, ports, protos, targets)]
