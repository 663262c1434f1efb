"""Captures: what really went over a link, seen from its far side.

A capture is a packet socket that exists before the probe is sent. It is not
read against the clock: a sentinel packet follows the probe over the same link,
and once the sentinel is there, whatever is not there will not come.
"""

import ctypes
import dataclasses
import errno
import ipaddress
import itertools
import os
import select
import socket
import struct
import time

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
NAME_PORTS = (53, 853)
SENTINEL_PORT = 9  # discard (RFC 863)
# Never the same twice within conntrack's memory: a connection that was once
# masqueraded for the LAN would refuse the host's packet from the same port.
_sentinel_sources = itertools.cycle(range(40000, 65000))

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
RCVBUF_BYTES = 64 << 20

# IPv6 extension headers that are (next header, length in 8 bytes beyond 8).
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)


@dataclasses.dataclass
class Packet:
    """The fields a leak is recognised by. A later fragment has no ports."""

    family: int
    proto: int
    src: str
    dst: str
    sport: int = None
    dport: int = None
    fragment_offset: int = 0
    payload: bytes = b""

    def is_name_traffic(self, ports=NAME_PORTS):
        """To a guarded port, or a later fragment, which may be part of such."""
        if self.fragment_offset:
            return self.proto in (TCP, UDP, *EXTENSIONS)
        return self.proto in (TCP, UDP) and self.dport in ports

    def __str__(self):
        name = {TCP: "tcp", UDP: "udp"}.get(self.proto, self.proto)
        where = f"{self.src}:{self.sport} > {self.dst}:{self.dport}"
        if self.fragment_offset:
            where = f"{self.src} > {self.dst} fragment@{self.fragment_offset}"
        return f"{name} {where} {self.payload[:48]!r}"


def parse(data):
    """An IPv4 or IPv6 packet without link header; None for anything else."""
    version = data[0] >> 4 if data else 0
    try:
        if version == 4:
            return _parse_ipv4(data)
        if version == 6:
            return _parse_ipv6(data)
    except (IndexError, struct.error):
        pass  # cut short: nothing that carries a port
    return None


def _parse_ipv4(data):
    start = (data[0] & 15) * 4
    packet = Packet(4, data[9], socket.inet_ntop(socket.AF_INET, data[12:16]),
                    socket.inet_ntop(socket.AF_INET, data[16:20]))
    packet.fragment_offset = (struct.unpack_from("!H", data, 6)[0] & 8191) * 8
    return _parse_transport(packet, data, start)


def _parse_ipv6(data):
    header, start = data[6], 40
    packet = Packet(6, header, socket.inet_ntop(socket.AF_INET6, data[8:24]),
                    socket.inet_ntop(socket.AF_INET6, data[24:40]))
    while header in EXTENSIONS:
        length = (data[start + 1] + 1) * 8
        if header == FRAGMENT:
            length = 8
            offset = struct.unpack_from("!H", data, start + 2)[0] & 0xfff8
            packet.fragment_offset = offset
        elif header == AUTHENTICATION:
            length = (data[start + 1] + 2) * 4
        header = data[start]
        start += length
        if packet.fragment_offset:
            break  # what follows is the middle of something
    packet.proto = header
    return _parse_transport(packet, data, start)


def _parse_transport(packet, data, start):
    packet.payload = data[start:]
    if packet.fragment_offset == 0 and packet.proto in (TCP, UDP):
        packet.sport, packet.dport = struct.unpack_from("!HH", data, start)
        if packet.proto == UDP:
            packet.payload = data[start + 8:]
    return packet


def _name_filter(ports):
    """Classic BPF: drop plain TCP and UDP packets to other ports.

    Bulk traffic would overflow the buffer. Whatever is not plain (fragments,
    options, extension headers, other protocols) is let through, for parse().
    """
    ld_half, ld_byte, and_k = 0x28, 0x30, 0x54
    jump_equal, jump_set, jump, ret = 0x15, 0x45, 0x05, 0x06
    code = [
        ("", ld_byte, 0),
        ("", jump_equal, 0x45, "ipv4", None),
        ("", and_k, 0xf0),
        ("", jump_equal, 0x60, "ipv6", "pass"),
        ("ipv4", ld_half, 6),
        ("", jump_set, 0x3fff, "pass", None),
        ("", ld_byte, 9),
        ("", jump_equal, TCP, "port4", None),
        ("", jump_equal, UDP, "port4", "pass"),
        ("port4", ld_half, 22),
        ("", jump, "port"),
        ("ipv6", ld_byte, 6),
        ("", jump_equal, TCP, "port6", None),
        ("", jump_equal, UDP, "port6", "pass"),
        ("port6", ld_half, 42),
    ]
    checks = [("", jump_equal, port, "pass", None) for port in ports]
    checks[0] = ("port", *checks[0][1:])
    code += checks + [("", ret, 0), ("pass", ret, 0xffff)]
    place = {line[0]: number for number, line in enumerate(code) if line[0]}
    program = b""
    for number, (_, operation, value, *targets) in enumerate(code):
        if operation == jump:
            value = place[value] - number - 1
        yes, no = (place[target] - number - 1 if target else 0
                   for target in (targets or (None, None)))
        program += struct.pack("=HBBI", operation, yes, no, value)
    return program


def _attach_filter(sock, program):
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)


class Capture:
    """Packets arriving over one link of one namespace; link None: over any,
    also those that are yet to come.

    Use as a context manager. `packets` grows by collect() and by the lab's
    barrier(); it holds name traffic and sentinels only, unless `everything`.
    """

    def __init__(self, namespace, link, ports=NAME_PORTS, everything=False):
        self.link, self.ports, self.packets = link, ports, []
        with namespace.inside():
            # SOCK_DGRAM: without link header, the same on veth and tun.
            self.socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM,
                0 if link else socket.htons(ETH_P_ALL))
            self._enlarge_buffer()
            if not everything:
                program = _name_filter((*ports, SENTINEL_PORT))
                _attach_filter(self.socket, program)
            if link:
                self.socket.bind((link, ETH_P_ALL))
        self.socket.setblocking(False)

    def _enlarge_buffer(self):
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE,
                                   RCVBUF_BYTES)
        except PermissionError:
            # Without real root: the system's limit, a few hundred packets.
            # Losses are noticed; tests that need more are marked `root`.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                   RCVBUF_BYTES)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def collect(self):
        """Move what has arrived into `packets`; never blocks."""
        while True:
            try:
                data, address = self.socket.recvfrom(65535)
            except BlockingIOError:
                break
            except OSError:
                break  # ENETDOWN: the link has gone, and nothing more comes
            if address[2] != PACKET_OUTGOING and (packet := parse(data)):
                self.packets.append(packet)
        return self.packets

    def wait_for(self, tokens, timeout=5.0):
        """Collect until each of the byte strings was in some payload."""
        missing, deadline, checked = set(tokens), time.monotonic() + timeout, 0
        while True:
            self.collect()
            for packet in self.packets[checked:]:
                missing -= {t for t in missing if t in packet.payload}
            checked = len(self.packets)
            if not missing:
                break
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError(f"{self.link}: sentinel never arrived")
            select.select([self.socket], [], [], remaining)
        self._require_no_loss()

    def _require_no_loss(self):
        """A capture that lost packets proves nothing."""
        data = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        _, dropped = struct.unpack("=II", data)
        if dropped:
            raise RuntimeError(f"{self.link}: capture lost {dropped} packets")

    def name_traffic(self, label=None):
        """Captured packets to a guarded port; only those with this label."""
        return [packet for packet in self.packets
                if packet.is_name_traffic(self.ports)
                and packet.dport != SENTINEL_PORT
                and (label is None or label.encode() in packet.payload)]

    def clear(self):
        self.packets.clear()


def send_sentinels(namespace, destination, link=None):
    """One sentinel from every CPU; returns their tokens.

    A veth queues packets by the CPU that sent them, and keeps order only
    within such a queue: the sentinel must stand behind the probe in each.
    """
    family = socket.AF_INET6 if _is_ipv6(destination) else socket.AF_INET
    allowed, tokens = os.sched_getaffinity(0), []
    with namespace.inside():
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if link:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE,
                            link.encode())
        _bind_sentinel(sock)
    with sock:
        for cpu in sorted(allowed):
            os.sched_setaffinity(0, {cpu})
            token = b"sentinel-" + os.urandom(8).hex().encode()
            _send_despite_refusals(sock, token, (destination, SENTINEL_PORT))
            tokens.append(token)
    os.sched_setaffinity(0, allowed)
    return tokens


def _bind_sentinel(sock):
    for port in itertools.islice(_sentinel_sources, 100):
        try:
            sock.bind(("", port))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError("no source port left for a sentinel")


def _send_despite_refusals(sock, data, address):
    """Nobody listens at discard: the ICMP answer surfaces as an error."""
    for _ in range(8):
        try:
            sock.sendto(data, address)
            return
        except ConnectionRefusedError:
            continue
    raise RuntimeError(f"could not send to {address}")


def _is_ipv6(address):
    return ipaddress.ip_address(address).version == 6
