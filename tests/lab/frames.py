"""Frames: hand-made, sent by packet sockets, and captured as they are.

A frame is one of PACKETS (what is inside, from the IP header on) in one of
LINKS (what is around it), sent by one of frame_senders.SENDERS. Each carries
a label of its own: has the provider's side seen it?
"""

import dataclasses
import fcntl
import json
import socket
import struct

import labnet
import packets
from capture import (ETH_P_ALL, PACKET_OUTGOING, Capture, Packet,
                     send_sentinels)
from frame_senders import IP, IPV6, SCAPY, SENDERS, SENDP
from probes import LABEL, make_query, new_label

ARP = 0x0806
VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN = 0x8100, 0x88a8, 0x9100
PPPOE_DISCOVERY, PPPOE, MPLS = 0x8863, 0x8864, 0x8847
UNKNOWN = 0x1234
PPP_IP, PPP_IPV6, PPP_LCP = 0x0021, 0x0057, 0xc021
ICMP, ICMPV6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
UDP, TCP = packets.UDP, packets.TCP
HARMLESS_PORT = 9
SOURCE_PORT = 5300
IDENT = 0x4c47

SIOCGIFHWADDR = 0x8927


# --- what is inside ---------------------------------------------------------

@dataclasses.dataclass(frozen=True, repr=False)
class Inside:
    """A way to carry a segment: build(src, dst, protocol number, segment).

    hides       the port cannot be read where the frame is an odd one
    portless    nor anywhere else: what it carries is told by its protocol
    nameless    and its protocol is not told either
    extended    IPv6 headers in front: looked behind of the host's own alone
    """

    build: object
    families: tuple = (4, 6)
    hides: bool = False
    portless: bool = False
    nameless: bool = False
    extended: bool = False


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


def _extended(*numbers):
    return Inside(_chain(*numbers), (6,), hides=True, extended=True)


RECORD_ROUTE = bytes([packets.NOP, packets.RECORD_ROUTE, 7, 4, 0, 0, 0, 0])
OPTIONS = packets.options_header(UDP)
PACKETS = {
    "plain": Inside(_plain),
    "options": Inside(_options(RECORD_ROUTE), (4,), hides=True),
    "most options": Inside(_options(bytes([packets.NOP]) * 40), (4,),
                           hides=True),
    "hop by hop": _extended(packets.HOP_BY_HOP),
    "destination": _extended(packets.DESTINATION),
    "routing": _extended(packets.ROUTING),
    "atomic": Inside(_chain(packets.FRAGMENT), (6,), hides=True),
    "chain": _extended(packets.HOP_BY_HOP, packets.DESTINATION,
                       packets.ROUTING, packets.FRAGMENT,
                       packets.DESTINATION),
    "first": Inside(_fragment(0, 64), (4,)),
    "first, IPv6": Inside(_fragment(0, 64), (6,), hides=True),
    "later": Inside(_fragment(1, 64), hides=True, portless=True),
    "last": Inside(_fragment(2, 64, 256), hides=True, portless=True),
    "later, options first": Inside(
        _fragment(1, 64, options=OPTIONS), (6,), True, True, True),
    "ends after options": Inside(_ends_inside(0), (6,), True, True, True),
    "ends in options": Inside(_ends_inside(16), (6,), True, True, True),
}
AUTHENTICATED = Inside(_authenticated)


def segment(src, dst, proto, port, label):
    """UDP or TCP with a query, or an echo request; the label all over."""
    if proto == UDP:
        return packets.udp(src, dst, SOURCE_PORT, port, make_query(
            label, pad=label.encode() * 24))
    if proto == TCP:
        return packets.tcp(src, dst, SOURCE_PORT, port,
                           packets.PSH | packets.ACK,
                           make_query(label, pad=label.encode() * 24))
    kind = 128 if proto == ICMPV6 else 8
    return struct.pack("!BBHHH", kind, 0, 0, 1, 1) + label.encode() * 24


# --- what is around it ------------------------------------------------------

@dataclasses.dataclass(frozen=True, repr=False)
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


def pppoe_compressed(family, length):
    """The same, PPP's protocol in one byte (RFC 1661, 6.5)."""
    return (struct.pack("!HBBHH", PPPOE, 0x11, 0, 1, length + 1)
            + (b"\x21" if family == 4 else b"\x57"))


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
    "PPPoE in 88a8/8100": Around(tagged(SERVICE_VLAN, VLAN, inside=pppoe)),
    "PPPoE, compressed": Around(pppoe_compressed),
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

@dataclasses.dataclass(repr=False)
class Frame:
    """What goes to the wire; `protocol`: what sll_protocol says."""

    data: bytes
    protocol: int
    label: str
    name: str

    def __repr__(self):
        return self.name


def _shape(wanted, table):
    """By its name, or one that is in no table."""
    return table[wanted] if isinstance(wanted, str) else wanted


class Wire:
    """A link of the host, the one towards the provider or another: the
    addresses at both ends, and a capture at the far one."""

    def __init__(self, lab, link="wan0", far=None, far_link="cust0",
                 gateway=labnet.GATEWAY.v4):
        self.lab, self.link, self.gateway = lab, link, gateway
        self.far, self.far_link = far or lab.isp, far_link
        self.addresses = (hardware_address(self.far, far_link)
                          + hardware_address(lab.host, link))
        # Without them the host would send answers back, labels and all, in
        # an ICMP message.
        self.takers = [taker(lab.host, family)
                       for family in (socket.AF_INET, socket.AF_INET6)]

    def frame(self, inside="plain", around="ethernet", family=4, proto=UDP,
              port=53, target="public", source=None):
        """One frame; proto None: an echo request."""
        src = source or labnet.HOST_WAN[family == 6]
        dst = labnet.RESOLVERS[target][family == 6]
        label = new_label()
        proto = proto or (ICMP if family == 4 else ICMPV6)
        built = _shape(inside, PACKETS).build(
            src, dst, proto, segment(src, dst, proto, port, label))
        head, protocol = _shape(around, LINKS).types(family, len(built))
        name = f"{inside} in {around}, v{family} {proto}/{port} to {target}"
        return Frame(self.addresses + head + built, protocol, label, name)

    def frames(self, insides=("plain",), arounds=("ethernet",),
               protos=(UDP, TCP), ports=(53, 853), target="public"):
        """All of these that there are."""
        return [self.frame(inside, around, family, proto, port, target)
                for inside in insides for around in arounds
                for family in _shape(inside, PACKETS).families
                for proto in protos for port in ports]

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
            self.barrier(capture)
        return [f for f in frames if f.label.encode() in capture.labels()]

    def barrier(self, capture):
        capture.wait_for(send_sentinels(self.lab.host, self.gateway,
                                        self.link))

    def are_seen(self, sender, frames):
        """All or none: any other outcome fails, and names the odd ones."""
        out = self.seen(sender, frames)
        some = out if len(out) * 2 < len(frames) else [
            frame for frame in frames if frame not in out]
        assert len(out) in (0, len(frames)), (
            f"{len(out)} of {len(frames)}", some)
        return bool(out)


def taker(namespace, family):
    """A socket that answers go to, and are forgotten."""
    with namespace.inside():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", SOURCE_PORT))
    return sock


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
        wire.barrier(capture)
    return {name: sum(label.encode() in packet.payload
                      for packet in capture.packets)
            for name, label in labels.items()}
