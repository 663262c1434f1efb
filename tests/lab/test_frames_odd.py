"""S11: frames that are not what they are called, or are wrapped.

Nothing in them can be approved, so that no query in them gets out at all;
what cannot be one does. test_frames.py has the plain ones.
"""

import fcntl
import os
import socket
import struct

import pytest

import frames
import labnet
import packets
from frame_senders import SENDERS
from frames import (HARMLESS_PORT, HONEST, LYING, ODD, PACKETS, TCP, UDP,
                    Frame, Inside, Wire)
from probes import new_label

APPROVED = labnet.RESOLVERS["approved"]
PUBLIC = labnet.RESOLVERS["public"]
WAYS = ("raw", "bypass", "ring v3", "offload header")
WITH_PORT = [name for name, inside in PACKETS.items() if not inside.hides]
# One extension header can be looked behind.
WITH_PROTOCOL = [name for name, inside in PACKETS.items()
                 if not inside.nameless and name != "chain"]


@pytest.fixture(scope="module")
def wire(lab):
    return Wire(lab)


def arounds(sender):
    """Where the kernel writes the type, or looks for it, nothing can lie."""
    honest = "dgram" in sender or "not said" in sender
    return ODD if honest else ODD | LYING


def blocked(guard):
    return guard.status()["counters"]["S11"]["packets"]


# The kernel forgets where a frame of a bypass begins, but for a tag that it
# knows and is told of. Nothing tells where the packet of these would be.
NOT_TOLD = {"9100/8100", "802.1Q says ARP", "PPPoE says nothing known"} | {
    name for name in ODD if name.startswith("PPPoE")}


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("sender", ["bypass", "bypass, dgram",
                                    "ring v3, bypass"])
def test_bypass(guard, wire, sender, mode):
    """Strict trusts nothing that it cannot read; what auto does is a limit."""
    # Of what says 802.1Q, and has no tag, IPv6 alone can be told.
    shapes = [name for name in arounds(sender) if name != "says 802.1Q"]
    assert wire.are_seen(sender, wire.frames(arounds=shapes)), "control"
    guard.enable(tunnel="tun0", frames=mode)
    closed = [name for name in shapes
              if mode == "strict" or name not in NOT_TOLD]
    assert not wire.are_seen(sender, wire.frames(arounds=closed))
    if mode == "strict":
        return
    assert wire.are_seen(sender, wire.frames(
        arounds=[name for name in shapes if name in NOT_TOLD]))
    harmless = [name for name in closed
                if not name.endswith("IP")]  # lies: not read, not trusted
    assert wire.are_seen(sender, wire.frames(arounds=harmless,
                                             ports=(HARMLESS_PORT,)))


@pytest.mark.parametrize("sender", [
    name for name in SENDERS
    if name != "segmentation offload" and "bypass" not in name])
def test_senders(guard, wire, sender):
    """Each way to send, with each frame around the plainest query."""
    shapes = arounds(sender)
    queries = wire.frames(arounds=shapes)
    assert wire.are_seen(sender, queries), "control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not wire.are_seen(sender, queries)
    assert not wire.are_seen(sender, wire.frames(arounds=shapes,
                                                 target="approved"))
    assert wire.are_seen(sender, wire.frames(arounds=shapes,
                                             ports=(HARMLESS_PORT, 443)))
    assert wire.are_seen(sender, wire.frames(arounds=shapes, protos=(None,)))


@pytest.mark.parametrize("around", [*ODD, *LYING])
def test_packets(guard, wire, around):
    """Each packet in each frame: what hides the port is a query."""
    queries = wire.frames(PACKETS, [around])
    assert wire.are_seen("raw", queries), "control"
    guard.enable(tunnel="tun0")
    assert not wire.are_seen("raw", queries)
    assert blocked(guard) == len(queries)
    hidden = [name for name in PACKETS if name not in WITH_PORT]
    assert not wire.are_seen("raw", wire.frames(hidden, [around],
                                                ports=(HARMLESS_PORT,)))
    assert wire.are_seen("raw", wire.frames(WITH_PORT, [around],
                                            ports=(HARMLESS_PORT,)))
    assert wire.are_seen("raw", wire.frames(WITH_PROTOCOL, [around],
                                            protos=(None,)))


# An IPv4 header that is one of IPv6 as well: in its options, which no router
# knows, are an approved address and headers that end in a fragment's.
BOTH = bytes([0x5e, 40, 0, 0]) + socket.inet_pton(
    socket.AF_INET6, APPROVED.v6) + bytes([packets.FRAGMENT, *bytes(7)]) \
    + bytes([UDP, *bytes(11)])
NAMES_APPROVED = {
    # What would be the destination is part of the source.
    "IPv6 says IPv4": ("plain", LYING["says the other IP"], 6,
                       "2001:db8:2:0:cb00:7135:0:2"),
    "802.1Q says IPv4": ("plain", LYING["802.1Q says IP"], 4, APPROVED.v4),
    "IPv4 says IPv6": (Inside(lambda *given: packets.ipv4(*given, BOTH)),
                       LYING["says the other IP"], 4, None),
}


@pytest.mark.parametrize("name", NAMES_APPROVED)
@pytest.mark.parametrize("sender", WAYS)
def test_bytes_that_name_an_approved_resolver(guard, wire, name, sender):
    """They stand where the address would be, were it what it is called."""
    inside, around, family, source = NAMES_APPROVED[name]
    queries = [wire.frame(inside, around, family, proto, port, source=source)
               for proto in (UDP, TCP) for port in (53, 853)]
    assert wire.are_seen(sender, queries), "control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not wire.are_seen(sender, queries)


@pytest.mark.parametrize("options", [
    ["--mode", "both"], ["--action", "reject"], ["--frames", "require"],
    ["--frames", "strict"], ["--fragments", "drop"]], ids=" ".join)
def test_options(guard, wire, options):
    guard.enable("--tunnel", "tun0", *options)
    assert not wire.are_seen("raw", wire.frames(PACKETS, ODD | LYING))
    assert wire.are_seen("raw", wire.frames(WITH_PORT, ODD | LYING,
                                            ports=(HARMLESS_PORT,)))


def test_guarded_ports(guard, wire):
    guard.enable(tunnel="tun0", ports="53,5353")
    assert not wire.are_seen("raw", wire.frames(arounds=ODD | LYING,
                                                ports=(53, 5353)))
    assert wire.are_seen("raw", wire.frames(arounds=ODD | LYING,
                                            ports=(853,)))


def test_off(guard, wire):
    guard.enable(tunnel="tun0", frames="off")
    assert wire.are_seen("raw", wire.frames(PACKETS, ODD | LYING))


# --- what is none of our business ---

BROADCAST, LINK_GROUP = b"\xff" * 6, bytes.fromhex("0180c200000e")
MLD_GROUP = bytes.fromhex("333300000016")


def _discover():
    """DHCPDISCOVER (RFC 2131): from nobody to all."""
    message = struct.pack("!BBBBIHH", 1, 1, 6, 0, 7, 0, 0x8000) + bytes(224) \
        + bytes.fromhex("63825363350101ff")
    source, everyone = "0.0.0.0", "255.255.255.255"
    return packets.ipv4(source, everyone, UDP,
                        packets.udp(source, everyone, 68, 67, message))


def _solicit(group="ff02::1:2", port=547):
    """A DHCPv6 Solicit (RFC 8415)."""
    return packets.ipv6("fe80::1", group, UDP,
                        packets.udp("fe80::1", group, 546, port,
                                    bytes.fromhex("01000007000800020000")))


def _icmpv6(kind, destination, body, router_alert=False):
    payload = struct.pack("!BBH", kind, 0, 0) + body
    header = socket.IPPROTO_ICMPV6
    if router_alert:  # RFC 2711, and PadN
        payload = bytes([header, 0, 5, 2, 0, 0, 1, 0]) + payload
        header = packets.HOP_BY_HOP
    return packets.ipv6("fe80::1", destination, header, payload)


MLD = _icmpv6(143, "ff02::16", bytes(4) + bytes.fromhex("04000000")
              + socket.inet_pton(socket.AF_INET6, "ff02::fb"), True)
SOLICITATION = _icmpv6(135, "ff02::1:ff00:1", bytes(20))
ADVERTISEMENT = _icmpv6(136, "fe80::2", bytes(20))
ROUTER_SOLICITATION = _icmpv6(133, "ff02::2", bytes(4))
REQUEST = struct.pack("!HHBBH6s4s6s4s", 1, frames.IP, 6, 4, 1, b"\2" * 6,
                      b"\xc0\0\2\2", bytes(6), b"\xc0\0\2\1")
ESP = struct.pack("!IHH", 1, 0, 53) + bytes(40)
GRE = struct.pack("!HHHH", 0, 53, 53, 53) + bytes(20)
TAG = struct.pack("!H", 7)


def _tagged(kind, packet):
    return TAG + struct.pack("!H", kind) + packet


def _ppp(protocol, payload):
    return struct.pack("!BBHHH", 0x11, 0, 1, len(payload) + 2,
                       protocol) + payload


def _v4(proto, payload):
    return packets.ipv4("192.0.2.2", PUBLIC.v4, proto, payload)


# name -> (Ethernet type, what follows, destination)
OTHERS = {
    "ARP": (frames.ARP, REQUEST, BROADCAST),
    "ARP in 802.1Q": (frames.VLAN, _tagged(frames.ARP, REQUEST), BROADCAST),
    "RARP": (0x8035, REQUEST, BROADCAST),
    "LLDP": (0x88cc, bytes.fromhex("0207040200"), LINK_GROUP),
    "EAPOL": (0x888e, bytes.fromhex("01010000"), LINK_GROUP),
    "spanning tree": (38, bytes.fromhex("424203") + bytes(35), LINK_GROUP),
    "time of day, PTP": (0x88f7, bytes(44), LINK_GROUP),
    "PADI": (frames.PPPOE_DISCOVERY, bytes.fromhex("110900000004" "01010000"),
             BROADCAST),
    "PADI in 802.1Q": (frames.VLAN, _tagged(
        frames.PPPOE_DISCOVERY, bytes.fromhex("11090000000401010000")),
        BROADCAST),
    "LCP": (frames.PPPOE, _ppp(frames.PPP_LCP, bytes(8)), None),
    "LCP in 802.1Q": (frames.VLAN, _tagged(
        frames.PPPOE, _ppp(frames.PPP_LCP, bytes(8))), None),
    "DHCP": (frames.IP, _discover(), BROADCAST),
    "DHCP in 802.1Q": (frames.VLAN, _tagged(frames.IP, _discover()),
                       BROADCAST),
    "DHCPv6": (frames.IPV6, _solicit(), MLD_GROUP),
    "DHCPv6 in 802.1Q": (frames.VLAN, _tagged(frames.IPV6, _solicit()),
                         MLD_GROUP),
    "mDNS": (frames.IPV6, _solicit("ff02::fb", 5353), MLD_GROUP),
    "MLD": (frames.IPV6, MLD, MLD_GROUP),
    "MLD in 802.1Q": (frames.VLAN, _tagged(frames.IPV6, MLD), MLD_GROUP),
    "MLD in PPPoE": (frames.PPPOE, _ppp(frames.PPP_IPV6, MLD), None),
    "neighbour": (frames.IPV6, SOLICITATION, MLD_GROUP),
    "neighbour, answer": (frames.IPV6, ADVERTISEMENT, None),
    "neighbour in 802.1Q": (frames.VLAN, _tagged(frames.IPV6, SOLICITATION),
                            MLD_GROUP),
    "router": (frames.IPV6, ROUTER_SOLICITATION, MLD_GROUP),
    "ESP": (frames.IP, _v4(50, ESP), None),
    "GRE": (frames.IP, _v4(47, GRE), None),
    "IGMP with options": (frames.IP, packets.ipv4(
        "192.0.2.2", "224.0.0.22", 2, bytes(16), bytes.fromhex("94040000")),
        MLD_GROUP),
    "nothing": (frames.UNKNOWN, bytes(46), None),
}


@pytest.mark.parametrize("mode", ["auto", "strict"])
@pytest.mark.parametrize("sender", WAYS)
def test_other_protocols(guard, wire, mode, sender):
    every = []
    for name, (protocol, payload, destination) in OTHERS.items():
        frame = wire.other(protocol, payload, destination)
        frame.name = name
        if sender != "bypass" or protocol in (
                frames.ARP, frames.IP, frames.IPV6):
            every.append(frame)
    assert wire.are_seen(sender, every), "control"
    guard.enable(tunnel="tun0", frames=mode)
    assert wire.are_seen(sender, every)
    assert blocked(guard) == 0


# --- strict ---

def test_strict(guard, wire):
    """What is authenticated hides nothing: AH is dropped as well."""
    queries = wire.frames([frames.AUTHENTICATED], HONEST | ODD | LYING)
    assert wire.are_seen("raw", queries), "control"
    guard.enable(tunnel="tun0", frames="strict", resolver=[*APPROVED])
    assert not wire.are_seen("raw", queries)
    assert wire.are_seen("raw", wire.frames([frames.AUTHENTICATED],
                                            protos=(None,)))
    assert wire.are_seen("raw", wire.frames(target="approved"))


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("mode, arrives", [("auto", True), ("strict", False)])
def test_strict_later_fragments(lab, guard, wire, address, mode, arrives):
    """strict trusts nobody, not even the host's own stack."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    label = new_label()
    guard.enable(tunnel="tun0", frames=mode)
    with lab.host.inside():
        client = socket.socket(family, socket.SOCK_DGRAM)
    with client, wire.capture() as seen:
        client.sendto(label.encode() * 240, (address, HARMLESS_PORT))
        wire.barrier(seen)
    count = sum(label.encode() in packet.payload for packet in seen.packets)
    assert count == (3 if arrives else 1)
    # The stack gives the rest up once one has been dropped.
    assert blocked(guard) == (0 if arrives else 1)


# --- a link without Ethernet headers ---

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000


@pytest.fixture
def bare(lab):
    """A tun device raw0 that is no tunnel of ours: its descriptor."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    with lab.host.inside():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, TUNSETIFF,
                    struct.pack("16sH22x", b"raw0", IFF_TUN | IFF_NO_PI))
    lab.host.ip("link set raw0 up")
    yield descriptor
    os.close(descriptor)


def _read_all(descriptor):
    while True:
        try:
            yield os.read(descriptor, 65535)
        except BlockingIOError:
            return


def test_link_without_headers(lab, guard, wire, bare):
    """The packet is all there is; its sender calls it what he likes."""
    def out(port, said):
        some = [Frame(frame.data[14:], said or frame.protocol, frame.label,
                      frame.name)
                for frame in wire.frames(ports=(port,))]
        SENDERS["raw"](lab.host, "raw0", some)
        read = b"".join(_read_all(bare))
        return [frame.name for frame in some if frame.label.encode() in read]

    types = (None, frames.UNKNOWN, frames.ARP, frames.VLAN)
    for said in types:
        assert len(out(53, said)) == 4, "control"
    guard.enable(tunnel="tun0")
    for said in types:
        assert not out(53, said) and not out(853, said)
        assert len(out(HARMLESS_PORT, said)) == 4
