"""Frames: hand-made, sent by packet sockets, and captured as they are.

A frame is one of PACKETS (what is inside, from the IP header on) in one of
LINKS (what is around it), sent by one of SENDERS. Each carries a label of its
own, which tells whether the provider's side has seen it.
"""

import dataclasses
import fcntl
import json
import mmap
import socket
import struct
import subprocess

import labnet
import netns
import packets
from capture import ETH_P_ALL, PACKET_OUTGOING, SOL_PACKET, Capture, Packet
from probes import LABEL, make_query, new_label

IP, IPV6, ARP = 0x0800, 0x86dd, 0x0806
VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN = 0x8100, 0x88a8, 0x9100
PPPOE_DISCOVERY, PPPOE, MPLS = 0x8863, 0x8864, 0x8847
UNKNOWN = 0x1234
PPP_IP, PPP_IPV6, PPP_LCP = 0x0021, 0x0057, 0xc021
ICMP, ICMPV6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
UDP, TCP = packets.UDP, packets.TCP
HARMLESS_PORT = 9
ETHERNET_BYTES = 14
IDENT = 0x4c47

SIOCGIFHWADDR = 0x8927
PACKET_VERSION, PACKET_TX_RING, PACKET_VNET_HDR = 10, 13, 15
PACKET_QDISC_BYPASS = 20
SEND_REQUEST = 1  # TP_STATUS_SEND_REQUEST


# --- what is inside ---------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Inside:
    """A way to carry a segment: build(src, dst, protocol number, segment).

    hides       the port cannot be read where the frame is an odd one
    portless    nor anywhere else: what it carries is told by its protocol
    """

    build: object
    families: tuple = (4, 6)
    hides: bool = False
    portless: bool = False


def _plain(src, dst, header, segment):
    if ":" in dst:
        return packets.ipv6(src, dst, header, segment)
    return packets.ipv4(src, dst, header, segment)


def _options(options):
    def build(src, dst, header, segment):
        return packets.ipv4(src, dst, header, segment, options)
    return build


def _chain(*numbers):
    """Extension headers of these numbers, in this order."""
    def build(src, dst, header, segment):
        for number in reversed(numbers):
            segment = EXTENSIONS[number](header) + segment
            header = number
        return packets.ipv6(src, dst, header, segment)
    return build


EXTENSIONS = {
    packets.HOP_BY_HOP: packets.options_header,
    packets.DESTINATION: packets.options_header,
    packets.ROUTING: packets.routing_header,
    packets.FRAGMENT: lambda h: packets.fragment_header(h, 0, 0, IDENT),
    packets.AUTHENTICATION: packets.authentication_header,
}


def _fragment(number, *sizes, options=b""):
    """Piece `number` of those that `sizes` cuts; the label is in each."""
    def build(src, dst, header, segment):
        if options:
            segment, header = options + bytes(segment), packets.DESTINATION
        return packets.fragments(src, dst, segment, sizes, header)[number]
    return build


def _ends_inside(missing):
    """A first fragment with less than the header in front of the ports: of
    its options, which hold the label, `missing` bytes are in the next one."""
    def build(src, dst, header, segment):
        label = LABEL.search(segment).group()
        head = bytes([header, 4, 1, 36]) + label.ljust(36, b"\0")
        return packets.fragments(src, dst, head + segment, (40 - missing,),
                                 packets.DESTINATION)[0]
    return build


def _authenticated(src, dst, header, segment):
    return _plain(src, dst, packets.AUTHENTICATION,
                  packets.authentication_header(header) + segment)


NOP, END = packets.NOP, 0
RECORD_ROUTE = bytes([NOP, packets.RECORD_ROUTE, 7, 4, 0, 0, 0, 0])
OPTIONS = packets.options_header(UDP)
PACKETS = {
    "plain": Inside(_plain),
    "options": Inside(_options(RECORD_ROUTE), (4,), hides=True),
    "most options": Inside(_options(bytes([NOP]) * 40), (4,), hides=True),
    "hop by hop": Inside(_chain(packets.HOP_BY_HOP), (6,), hides=True),
    "destination": Inside(_chain(packets.DESTINATION), (6,), hides=True),
    "routing": Inside(_chain(packets.ROUTING), (6,), hides=True),
    "atomic": Inside(_chain(packets.FRAGMENT), (6,), hides=True),
    "chain": Inside(_chain(packets.HOP_BY_HOP, packets.DESTINATION,
                           packets.ROUTING, packets.FRAGMENT,
                           packets.DESTINATION), (6,), hides=True),
    "first": Inside(_fragment(0, 64), (4,)),
    "first, IPv6": Inside(_fragment(0, 64), (6,), hides=True),
    "later": Inside(_fragment(1, 64), hides=True, portless=True),
    "last": Inside(_fragment(2, 64, 256), hides=True, portless=True),
    "later, options first": Inside(
        _fragment(1, 64, options=OPTIONS), (6,), hides=True, portless=True),
    "ends after options": Inside(_ends_inside(0), (6,), True, True),
    "ends in options": Inside(_ends_inside(16), (6,), True, True),
}
AUTHENTICATED = Inside(_authenticated)


def segment(src, dst, proto, port, label):
    """UDP or TCP with a query, or an echo request; the label all over."""
    if proto == UDP:
        return packets.udp(src, dst, 5300, port, make_query(
            label, pad=label.encode() * 24))
    if proto == TCP:
        return packets.tcp(src, dst, 5300, port, packets.PSH | packets.ACK,
                           make_query(label, pad=label.encode() * 24))
    kind = 128 if proto == ICMPV6 else 8
    return struct.pack("!BBHHH", kind, 0, 0, 1, 1) + label.encode() * 24


# --- what is around it ------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Around:
    """Ethernet types and headers between the addresses and the packet.

    head        of a family and the packet's length: all of it, with the types
    protocol    of a family: what the sender's address says (sll_protocol);
                without, it is what the frame says
    """

    head: object
    protocol: object = None

    def types(self, family, length):
        head = self.head(family, length)
        said = self.protocol and self.protocol(family)
        return head, said or struct.unpack("!H", head[:2])[0]

    @property
    def is_honest(self):
        return self.protocol is None


def ip_type(family):
    return IP if family == 4 else IPV6


def _other_type(family):
    return IPV6 if family == 4 else IP


def _half(value):
    return struct.pack("!H", value)


def _ethernet(family, length=0):
    del length
    return _half(ip_type(family))


def tagged(*types, number=7, inside=_ethernet):
    """Tags of these types around what is inside."""
    def head(family, length):
        return b"".join(_half(kind) + _half(number)
                        for kind in types) + inside(family, length)
    return head


def pppoe(family, length):
    """A session's header (RFC 2516), with the PPP protocol."""
    return (struct.pack("!HBBHH", PPPOE, 0x11, 0, 1, length + 2)
            + _half(PPP_IP if family == 4 else PPP_IPV6))


def _says(value):
    return lambda family: value


HONEST = {
    "ethernet": Around(_ethernet),
}
ODD = {
    "802.1Q": Around(tagged(VLAN)),
    "priority": Around(tagged(VLAN, number=0xe000)),
    "802.1ad": Around(tagged(SERVICE_VLAN)),
    "8100/8100": Around(tagged(VLAN, VLAN)),
    "88a8/8100": Around(tagged(SERVICE_VLAN, VLAN)),
    "9100/8100": Around(tagged(OLD_SERVICE_VLAN, VLAN)),
    "PPPoE": Around(pppoe),
    "PPPoE in 802.1Q": Around(tagged(VLAN, inside=pppoe)),
}
LYING = {
    "says nothing known": Around(_ethernet, _says(UNKNOWN)),
    "says ARP": Around(_ethernet, _says(ARP)),
    "says 802.3": Around(_ethernet, _says(1)),
    "says 802.1Q": Around(_ethernet, _says(VLAN)),
    "says PPPoE": Around(_ethernet, _says(PPPOE)),
    "says the other IP": Around(_ethernet, _other_type),
    "802.1Q says IP": Around(tagged(VLAN), ip_type),
    "802.1Q says the other IP": Around(tagged(VLAN), _other_type),
    "802.1Q says ARP": Around(tagged(VLAN), _says(ARP)),
    "8100/8100 says IP": Around(tagged(VLAN, VLAN), ip_type),
    "PPPoE says IP": Around(pppoe, ip_type),
    "PPPoE says nothing known": Around(pppoe, _says(UNKNOWN)),
}
LINKS = HONEST | ODD | LYING


# --- frames -----------------------------------------------------------------

@dataclasses.dataclass
class Frame:
    """What goes to the wire; `protocol`: what sll_protocol says."""

    data: bytes
    protocol: int
    label: str
    name: str

    def __str__(self):
        return self.name


class Wire:
    """The host's link towards the provider: addresses and a capture."""

    def __init__(self, lab, link="wan0", far=None, far_link="cust0"):
        self.lab, self.link = lab, link
        self.far, self.far_link = far or lab.isp, far_link
        self.addresses = (hardware_address(self.far, far_link)
                          + hardware_address(lab.host, link))

    def frame(self, inside="plain", around="ethernet", family=4, proto=UDP,
              port=53, target="public"):
        """One frame; proto None: an echo request."""
        src = labnet.HOST_WAN[family == 6]
        dst = labnet.RESOLVERS[target][family == 6]
        label = new_label()
        proto = proto or (ICMP if family == 4 else ICMPV6)
        built = (PACKETS[inside] if isinstance(inside, str) else inside).build(
            src, dst, proto, segment(src, dst, proto, port, label))
        shape = LINKS[around] if isinstance(around, str) else around
        head, protocol = shape.types(family, len(built))
        name = f"{inside} in {around}, v{family} {proto}/{port} to {target}"
        return Frame(self.addresses + head + built, protocol, label, name)

    def other(self, protocol, payload, destination=None):
        """A frame of some other protocol, its label behind the payload."""
        label = new_label()
        addresses = (destination or self.addresses[:6]) + self.addresses[6:]
        return Frame(addresses + _half(protocol) + payload + label.encode(),
                     protocol, label, f"{protocol:#06x}")

    def capture(self):
        return FrameCapture(self.far, self.far_link)

    def seen(self, sender, frames):
        """Send by one of SENDERS, or a function; which of them got out."""
        with self.capture() as capture:
            if isinstance(sender, str):
                sender = SENDERS[sender]
            sender(self.lab.host, self.link, frames)
            self.lab.barrier(capture, self.lab.host)
        return [f for f in frames if f.label.encode() in capture.labels()]

    def are_seen(self, sender, frames):
        """All or none: any other outcome fails, and names the frames."""
        out = self.seen(sender, frames)
        assert len(out) in (0, len(frames)), [
            str(f) for f in (out if len(out) * 2 < len(frames) else
                             [f for f in frames if f not in out])]
        return bool(out)


def hardware_address(namespace, link):
    with namespace.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        request = struct.pack("16s24x", link.encode())
        return fcntl.ioctl(sock, SIOCGIFHWADDR, request)[18:24]


class FrameCapture(Capture):
    """Whole frames, whatever their protocol; the kernel has taken the outer
    tag off. `payload` of its packets is the frame."""

    def __init__(self, namespace, link):
        # pylint: disable=super-init-not-called # another kind of socket
        self.link, self.ports, self.packets = link, (), []
        with namespace.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._enlarge_buffer()
            self.socket.bind((link, ETH_P_ALL))
        self.socket.setblocking(False)

    def collect(self):
        while True:
            try:
                data, address = self.socket.recvfrom(65535)
            except OSError:
                return self.packets  # BlockingIOError, or the link has gone
            if address[2] != PACKET_OUTGOING:
                self.packets.append(Packet(0, 0, "", "", payload=data))

    def labels(self):
        return {label for packet in self.packets
                for label in LABEL.findall(packet.payload)}


# --- senders: send(namespace, link, frames) ---------------------------------

SENDERS = {}


def sender(name):
    def register(function):
        SENDERS[name] = function
        return function
    return register


def packet_socket(namespace, kind, *options):
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, kind, 0)
    for option, value in options:
        sock.setsockopt(SOL_PACKET, option, value)
    return sock


def _send_raw(namespace, link, frames, *options, before=b""):
    with packet_socket(namespace, socket.SOCK_RAW, *options) as sock:
        for frame in frames:
            sock.sendto(before + frame.data, (link, frame.protocol))


@sender("raw")
def _raw(namespace, link, frames):
    _send_raw(namespace, link, frames)


@sender("raw, type not said")
def _raw_unsaid(namespace, link, frames):
    """The kernel looks into the frame for what the address does not say."""
    with packet_socket(namespace, socket.SOCK_RAW) as sock:
        for frame in frames:
            sock.sendto(frame.data, (link, 0))


@sender("raw, bound")
def _raw_bound(namespace, link, frames):
    """send() without an address: the socket's own protocol."""
    for protocol in {frame.protocol for frame in frames}:
        with packet_socket(namespace, socket.SOCK_RAW) as sock:
            sock.bind((link, protocol))
            for frame in frames:
                if frame.protocol == protocol:
                    sock.send(frame.data)


@sender("dgram")
def _dgram(namespace, link, frames):
    """The kernel writes the Ethernet header: its type is what is said."""
    with packet_socket(namespace, socket.SOCK_DGRAM) as sock:
        for frame in frames:
            sock.sendto(frame.data[ETHERNET_BYTES:],
                        (link, frame.protocol, 0, 0, frame.data[:6]))


@sender("bypass")
def _bypass(namespace, link, frames):
    _send_raw(namespace, link, frames, (PACKET_QDISC_BYPASS, 1))


@sender("bypass, dgram")
def _bypass_dgram(namespace, link, frames):
    with packet_socket(namespace, socket.SOCK_DGRAM,
                       (PACKET_QDISC_BYPASS, 1)) as sock:
        for frame in frames:
            sock.sendto(frame.data[ETHERNET_BYTES:],
                        (link, frame.protocol, 0, 0, frame.data[:6]))


BLOCK_BYTES, SLOT_BYTES, SLOTS = 1 << 16, 1 << 12, 64
# version -> (request's tail, offset of the length, of the status, of the data)
RINGS = {2: (b"", 4, 0, 32), 3: (bytes(12), 16, 20, 48)}


def _ring(version, *options):
    """PACKET_TX_RING: frames are put into memory shared with the kernel."""
    tail, length_at, status_at, data_at = RINGS[version]

    def send(namespace, link, frames):
        sock = packet_socket(namespace, socket.SOCK_RAW, *options,
                             (PACKET_VERSION, version - 1))
        request = struct.pack("=IIII", BLOCK_BYTES, SLOTS * SLOT_BYTES
                              // BLOCK_BYTES, SLOT_BYTES, SLOTS)
        sock.setsockopt(SOL_PACKET, PACKET_TX_RING, request + tail)
        with sock, mmap.mmap(sock.fileno(), SLOTS * SLOT_BYTES) as ring:
            for number, frame in enumerate(frames):
                slot = number % SLOTS * SLOT_BYTES
                ring[slot + data_at:slot + data_at + len(frame.data)] \
                    = frame.data
                struct.pack_into("=I", ring, slot + length_at,
                                 len(frame.data))
                struct.pack_into("=I", ring, slot + status_at, SEND_REQUEST)
                # Blocks until the kernel is done with the slot.
                sock.sendto(b"", (link, frame.protocol))
    return send


SENDERS["ring v2"] = _ring(2)
SENDERS["ring v3"] = _ring(3)
SENDERS["ring v3, bypass"] = _ring(3, (PACKET_QDISC_BYPASS, 1))


@sender("offload header")
def _offload_header(namespace, link, frames):
    """A virtio_net_hdr that asks for nothing."""
    _send_raw(namespace, link, frames, (PACKET_VNET_HDR, 1), before=bytes(10))


SEGMENTED = {(IP, UDP): 5, (IPV6, UDP): 5, (IP, TCP): 1, (IPV6, TCP): 4}


@sender("segmentation offload")
def _segmentation(namespace, link, frames):
    """Plain frames, each with its payload thrice, to be cut by the device."""
    with packet_socket(namespace, socket.SOCK_RAW,
                       (PACKET_VNET_HDR, 1)) as sock:
        for frame in frames:
            sock.sendto(_thrice(frame), (link, frame.protocol))


def _thrice(frame):
    """The frame with a virtio_net_hdr (linux/virtio_net.h) in front."""
    start = ETHERNET_BYTES + (20 if frame.protocol == IP else 40)
    proto = frame.data[23 if frame.protocol == IP else 20]
    end = start + (8 if proto == UDP else 20)
    payload = frame.data[end:]
    data = bytearray(frame.data + payload * 2)
    length, sum_at = len(data) - start, 6 if proto == UDP else 16
    if frame.protocol == IP:
        struct.pack_into("!H", data, 16, len(data) - ETHERNET_BYTES)
        data[24:26] = bytes(2)
        data[24:26] = _half(packets.checksum(bytes(data[14:34])))
        pseudo = bytes(data[26:34])
    else:
        struct.pack_into("!H", data, 18, length)
        pseudo = bytes(data[22:54])
    if proto == UDP:
        struct.pack_into("!H", data, start + 4, length)
    # The device ends the sum that starts with the pseudo header's.
    pseudo += struct.pack("!II", length, proto)
    struct.pack_into("!H", data, start + sum_at,
                     ~packets.checksum(pseudo) & 0xffff)
    return struct.pack("=BBHHHH", 1, SEGMENTED[frame.protocol, proto], end,
                       len(payload), start, sum_at) + data


# --- scapy ------------------------------------------------------------------

SENDP = """
import json, sys
from scapy.all import *
SOURCE, DESTINATION, LINK, FRAMES = json.load(sys.stdin)
ETHER = Ether(src=SOURCE, dst=DESTINATION)
for label, host, address, text in FRAMES:
    HOST, ADDRESS = host, address
    QUERY = DNS(rd=1, qd=DNSQR(qname=label + ".lab.example"))
    BIG = UDP(sport=5300, dport=53) / QUERY / Raw(label.encode() * 40)
    QUERY = UDP(sport=5300, dport=53) / QUERY
    for packet in eval(text):
        sendp(ETHER / packet, iface=LINK, verbose=False)
"""
# name -> (family, an expression for packets that follow the Ethernet header)
SCAPY = {
    "plain": (4, "[IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "plain, IPv6": (6, "[IPv6(src=HOST, dst=ADDRESS) / QUERY]"),
    "options": (4, "[IP(src=HOST, dst=ADDRESS, options=[IPOption_RR()])"
                   " / QUERY]"),
    "extension headers": (
        6, "[IPv6(src=HOST, dst=ADDRESS) / IPv6ExtHdrHopByHop()"
           " / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / QUERY]"),
    "802.1Q": (4, "[Dot1Q(vlan=7) / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "802.1Q, IPv6": (6, "[Dot1Q(vlan=7) / IPv6(src=HOST, dst=ADDRESS)"
                        " / QUERY]"),
    "QinQ": (4, "[Dot1AD(vlan=7) / Dot1Q(vlan=8)"
                " / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "PPPoE": (4, "[PPPoE(sessionid=1) / PPP()"
                 " / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "fragments": (4, "fragment(IP(src=HOST, dst=ADDRESS) / BIG, 200)"),
    "fragments, IPv6": (
        6, "fragment6(IPv6(src=HOST, dst=ADDRESS)"
           " / IPv6ExtHdrFragment() / BIG, 200)"),
}


def scapy_seen(wire, names=tuple(SCAPY)):
    """Send by scapy's sendp(): {name: how many frames of it got out}."""
    labels = {name: new_label() for name in names}
    public = labnet.RESOLVERS["public"]
    rows = [(labels[name], labnet.HOST_WAN[SCAPY[name][0] == 6],
             public[SCAPY[name][0] == 6], SCAPY[name][1]) for name in names]
    far, near = (wire.addresses[at:at + 6].hex(":") for at in (0, 6))
    with wire.capture() as capture:
        wire.lab.host.run(["/usr/bin/python3", "-c", SENDP],
                          stdin=json.dumps([near, far, wire.link, rows]))
        wire.lab.barrier(capture, wire.lab.host)
    return {name: sum(label.encode() in packet.payload
                      for packet in capture.packets)
            for name, label in labels.items()}


# --- a user namespace -------------------------------------------------------

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
STRANGER = """
import os, socket, sys
print("ready", flush=True)
for line in sys.stdin:
    link, protocol, data = line.split()
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.sendto(bytes.fromhex(data), (link, int(protocol)))
        print("sent", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


class Stranger:
    """An unprivileged user's process, root of a user namespace of its own;
    with a network namespace of its own, or in the host's."""

    def __init__(self, lab, own_network=True):
        self.process = lab.host.popen(
            [*NOBODY, "unshare", "--user", "--map-root-user",
             *(["--net"] if own_network else []),
             "/usr/bin/python3", "-c", STRANGER], cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def send(self, link, frame):
        """"sent", or why not."""
        print(link, frame.protocol, frame.data.hex(), flush=True,
              file=self.process.stdin)
        return self.process.stdout.readline().strip()

    def close(self):
        netns.stop(self.process)
        self.process.stdin.close()
        self.process.stdout.close()
