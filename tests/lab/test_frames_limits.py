"""What gets out by frames, as README says: each is seen to do so.

If one of these fails because nothing gets out any more, README has to say so.
"""

import contextlib
import ctypes
import mmap
import socket
import struct

import pytest

import frames
import labnet
import netns
import packets
from capture import send_sentinels
from frame_senders import packet_socket, push
from frames import Around, Inside, Wire
from probes import new_label
from test_fragments import send_all

APPROVED = labnet.RESOLVERS["approved"]


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture(scope="module")
def wire(lab):
    return Wire(lab)


def _half(value):
    return struct.pack("!H", value)


def _inside(number, header=b""):
    """In another packet of the same family, with this protocol number."""
    def build(src, dst, proto, segment):
        whole = packets.ipv6 if ":" in dst else packets.ipv4
        return whole(src, dst, number(dst), header
                     + whole(src, dst, proto, segment))
    return Inside(build)


def _gre(src, dst, proto, segment):
    whole = packets.ipv6 if ":" in dst else packets.ipv4
    kind = frames.IPV6 if ":" in dst else frames.IP
    return whole(src, dst, 47, _half(0) + _half(kind)
                 + whole(src, dst, proto, segment))


def _vxlan(src, dst, proto, segment):
    """RFC 7348: an Ethernet frame in UDP to port 4789."""
    whole = packets.ipv6 if ":" in dst else packets.ipv4
    kind = frames.IPV6 if ":" in dst else frames.IP
    inner = (bytes.fromhex("0800000000000700") + b"\2" * 12 + _half(kind)
             + whole(src, dst, proto, segment))
    return whole(src, dst, packets.UDP,
                 packets.udp(src, dst, 4789, 4789, inner))


INSIDES = {
    "authentication header": frames.AUTHENTICATED,
    "IP in IP": _inside(lambda dst: 41 if ":" in dst else 4),
    "GRE": Inside(_gre),
    "VXLAN": Inside(_vxlan),
}


def _snap(family, length):
    """RFC 1042: a length for a type, and the type behind LLC."""
    return (_half(length + 8) + bytes.fromhex("aaaa03000000")
            + _half(frames.ip_type(family)))


def _mpls(family, length):
    del family, length
    return _half(frames.MPLS) + struct.pack("!I", 16 << 12 | 1 << 8 | 64)


TAGS = (frames.SERVICE_VLAN, frames.VLAN)
AROUNDS = {
    "three tags": Around(frames.tagged(*TAGS, frames.VLAN)),
    "PPPoE in a tag, compressed": Around(frames.tagged(
        frames.VLAN, inside=frames.pppoe_compressed)),
    "SNAP": Around(_snap, lambda family: 4),  # ETH_P_802_2
    "MPLS": Around(_mpls),
}


@pytest.mark.parametrize("name", INSIDES)
def test_limit_inside(guard, wire, name):
    guard.enable(tunnel="tun0")
    assert not wire.are_seen("raw", wire.frames()), "the guard is up"
    assert wire.are_seen("raw", wire.frames([INSIDES[name]]))


@pytest.mark.parametrize("name", AROUNDS)
@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_limit_around(guard, wire, name, mode):
    guard.enable(tunnel="tun0", frames=mode)
    assert not wire.are_seen("raw", wire.frames()), "the guard is up"
    assert wire.are_seen("raw", wire.frames(arounds=[AROUNDS[name]]))


def test_limit_https(guard, wire):
    """DNS over HTTPS is a connection to port 443 as any."""
    guard.enable(tunnel="tun0", frames="strict")
    assert wire.are_seen("raw", wire.frames(ports=(443,)))


# --- a VLAN's tag that looks like an IP header ---

def _looks_like_ipv4(src, dst, proto, segment):
    """Behind tag 0x4500 and type 0x0800: a header of 2,048 bytes in all,
    whose protocol is a byte of the true one's identification."""
    packet = bytearray(packets.ipv4(src, dst, proto, segment.ljust(2100)))
    packet[5] = socket.IPPROTO_ICMP
    packet[10:12] = bytes(2)
    packet[10:12] = _half(packets.checksum(bytes(packet[:20])))
    return bytes(packet)


def test_limit_tag_that_looks_like_ipv4(lab, guard, wire):
    """Where frames of more than 2,048 bytes fit."""
    disguise = Inside(_looks_like_ipv4, (4,))
    tag = Around(frames.tagged(frames.VLAN, number=0x4500),
                 lambda family: frames.IP)
    lab.host.ip("link set wan0 mtu 9000")
    lab.isp.ip("link set cust0 mtu 9000")
    try:
        guard.enable(tunnel="tun0")
        assert not wire.are_seen("raw", wire.frames()), "the guard is up"
        assert wire.are_seen("raw", wire.frames([disguise], [tag]))
    finally:
        lab.host.ip("link set wan0 mtu 1500")
        lab.isp.ip("link set cust0 mtu 1500")


# --- frames that do not pass the device's hook ---

AF_XDP, SOL_XDP, XDP_COPY = 44, 283, 1 << 1
XDP_MMAP_OFFSETS, XDP_TX_RING, XDP_UMEM_REG = 1, 3, 4
XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING = 5, 6
XDP_PGOFF_TX_RING = 0x80000000
XDP_SLOTS, XDP_SLOT_BYTES = 64, 2048


def _send_by_xdp(namespace, link, some):
    """AF_XDP in copy mode (Documentation/networking/af_xdp.rst)."""
    # pylint: disable=too-many-locals
    area = mmap.mmap(-1, XDP_SLOTS * XDP_SLOT_BYTES)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    with namespace.inside():
        sock = socket.socket(AF_XDP, socket.SOCK_RAW)
        index = socket.if_nametoindex(link)
    sock.setsockopt(SOL_XDP, XDP_UMEM_REG, struct.pack(
        "=QQIIII", start, len(area), XDP_SLOT_BYTES, 0, 0, 0))
    for ring in (XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING):
        sock.setsockopt(SOL_XDP, ring, XDP_SLOTS)
    offsets = struct.unpack("=16Q", sock.getsockopt(
        SOL_XDP, XDP_MMAP_OFFSETS, 128))
    producer, _, descriptors = offsets[4:7]  # rx, then tx
    address = struct.pack("=HHIII", AF_XDP, XDP_COPY, index, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), "bind")
    with sock, mmap.mmap(sock.fileno(), descriptors + 16 * XDP_SLOTS,
                         offset=XDP_PGOFF_TX_RING) as ring:
        for number, frame in enumerate(some):
            at = number * XDP_SLOT_BYTES
            area[at:at + len(frame.data)] = frame.data
            struct.pack_into("=QII", ring, descriptors + 16 * number, at,
                             len(frame.data), 0)
            struct.pack_into("=I", ring, producer, number + 1)
            sock.send(b"", socket.MSG_DONTWAIT)


def test_limit_xdp(guard, wire):
    try:
        assert wire.are_seen(_send_by_xdp, wire.frames()), "control"
    except OSError as error:
        pytest.skip(f"no AF_XDP here: {error}")
    guard.enable(tunnel="tun0", frames="strict")
    assert not wire.are_seen("raw", wire.frames()), "the guard is up"
    assert wire.are_seen(_send_by_xdp, wire.frames())


@contextlib.contextmanager
def _redirected(namespace, link, side, target):
    """Frames of `link` go out by `target`, by tc(8)."""
    namespace.run(["tc", "qdisc", "add", "dev", link, "clsact"])
    try:
        namespace.run(["tc", "filter", "add", "dev", link, side, "protocol",
                       "all", "u32", "match", "u32", "0", "0", "action",
                       "mirred", "egress", "redirect", "dev", target])
        yield
    finally:
        namespace.run(["tc", "qdisc", "del", "dev", link, "clsact"])


def test_limit_redirect(lab, guard, wire):
    """What tc redirects passes neither stack nor hook."""
    guard.enable(tunnel="tun0", frames="strict")

    queries = wire.frames()
    with _redirected(lab.host, "lan0", "ingress", "wan0"), \
         wire.capture() as seen:
        with packet_socket(lab.lan, socket.SOCK_RAW) as sock:
            for frame in queries:
                push(sock.sendto, frame.data, ("eth0", frame.protocol))
        netns.wait_until(lambda: seen.collect() and {
            frame.label.encode() for frame in queries} <= seen.labels(),
            "they get out")


def test_limit_redirect_of_the_tunnel(lab, guard, wire, veth_tunnel):
    """What was let into the tunnel leaves elsewhere."""
    guard.enable(tunnel=veth_tunnel.link, frames="strict")
    tunnelled = Wire(lab, veth_tunnel.link, lab.vpn, veth_tunnel.far_link,
                     labnet.TUNNEL_FAR.v4)
    assert tunnelled.are_seen("raw", tunnelled.frames())

    def send(namespace, _, some):
        with packet_socket(namespace, socket.SOCK_RAW) as sock:
            for frame in some:
                push(sock.sendto, frame.data,
                     (veth_tunnel.link, frame.protocol))

    with _redirected(lab.host, veth_tunnel.link, "egress", "wan0"):
        assert wire.are_seen(send, wire.frames())


def test_limit_mode_both_in_the_tunnel(lab, guard, veth_tunnel):
    """No link that is a tunnel has a chain: what is approved inside it is
    for the IP stack alone to tell."""
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED], mode="both")
    tunnelled = Wire(lab, veth_tunnel.link, lab.vpn, veth_tunnel.far_link,
                     labnet.TUNNEL_FAR.v4)
    assert tunnelled.are_seen("raw", tunnelled.frames())


# --- another stack on our device ---

@pytest.fixture
def guest(lab):
    """A namespace with a macvlan of wan0 and an address at the provider."""
    made = netns.Namespace("macguest")
    lab.host.ip("link add mv0 link wan0 type macvlan mode bridge",
                "link set mv0 netns macguest")
    labnet.add_addresses(made, "mv0", "192.0.2.9/24")
    made.ip("route add default via 192.0.2.1")
    netns.wait_until(lambda: labnet.can_reach(made, APPROVED.v4),
                     "the guest reaches the provider")
    yield made
    made.ip("link del mv0")
    made.delete()


@pytest.mark.parametrize("mode, seen", [("auto", True), ("strict", False)])
def test_limit_later_fragments_of_a_macvlan(guard, wire, guest, mode, seen):
    """By its own stack: they have a route, as those of the host have."""
    label = new_label()
    datagram = packets.udp("192.0.2.9", labnet.GATEWAY.v4, 5300, 53,
                           label.encode() * 60)
    _, *later = packets.fragments("192.0.2.9", labnet.GATEWAY.v4, datagram,
                                  (64, 400))
    guard.enable(tunnel="tun0", frames=mode)
    with wire.capture() as capture:
        send_all(guest, labnet.GATEWAY.v4, later, nodefrag=True)
        capture.wait_for(send_sentinels(guest, labnet.GATEWAY.v4, "mv0"))
    assert (label.encode() in capture.labels()) == seen
