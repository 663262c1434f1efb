"""S9: datagrams in pieces, in each way of dealing with them.

test_fragments.py has those that the kernel is kept from putting together.
"""

import itertools
import random
import socket
import struct

import pytest

import labnet
import packets
from clients import (CRAFTED, dig_big, send_crafted, send_raw, source_of)
from probes import make_query, new_label

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
WAYS = ("defrag", "conntrack", "drop")
PAD_BYTES = 600  # each piece carries the label somewhere
CLOSED_PORT = 7


@pytest.fixture(scope="module")
def lab():
    """Without masquerading: conntrack would reassemble every fragment before
    the guard sees it, and hold back those that are not complete."""
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture
def masquerade(lab, request):
    """Masquerading, and with it conntrack, where the parameter says so."""
    if request.param:
        lab.host.nft(labnet.HOST_MASQUERADE)
    yield
    if request.param:
        lab.host.nft("delete table inet lab_nat")


# --- what is sent -----------------------------------------------------------

def _udp(source, address, query):
    return packets.udp(source, address, random.randint(2000, 9000), 53, query)


def _tcp(source, address, query):
    """The first data of a connection: nobody asks whether there is one."""
    return packets.tcp(source, address, random.randint(2000, 9000), 53,
                       packets.PSH | packets.ACK,
                       struct.pack("!H", len(query)) + query)


def _syn(source, address, query):
    """A connection request that carries its query (RFC 7413)."""
    return packets.tcp(source, address, random.randint(2000, 9000), 53,
                       packets.SYN, struct.pack("!H", len(query)) + query)


def _behind_options(build, header):
    def built(source, address, query):
        return packets.options_header(header) + build(source, address, query)
    return built


NOTHING_FIRST = "udp, the first piece has options only"
OPTIONS = packets.options_header(packets.FRAGMENT)
# name -> (datagram, what it starts with, sizes of its pieces, families, and
# an extension header in front of the fragment header)
CUTS = {
    "udp": (_udp, packets.UDP, (64, 256), (4, 6), b""),
    "udp, ports only": (_udp, packets.UDP, (8, 8, 64), (4, 6), b""),
    "tcp": (_tcp, packets.TCP, (64, 256), (4, 6), b""),
    "tcp, ports only": (_tcp, packets.TCP, (8, 16, 64), (4, 6), b""),
    "tcp, connection request": (_syn, packets.TCP, (24, 256), (4, 6), b""),
    "udp behind options": (
        _behind_options(_udp, packets.UDP), packets.DESTINATION, (64, 256),
        (6,), b""),
    "tcp behind options": (
        _behind_options(_tcp, packets.TCP), packets.DESTINATION, (64, 256),
        (6,), b""),
    # RFC 7112 forbids such; what a name server does with it is its affair.
    NOTHING_FIRST: (
        _behind_options(_udp, packets.UDP), packets.DESTINATION, (8, 256),
        (6,), b""),
    "udp, options before the fragment header": (
        _udp, packets.UDP, (64, 256), (6,), OPTIONS),
}
PIECES = {
    "all": slice(None), "the first": slice(1), "the later": slice(1, None),
    "the last": slice(-1, None), "in reverse": slice(None, None, -1),
}


def send_pieces(lab, origin, family, cut, which):
    """Send; returns the query's label."""
    build, header, sizes, _, before = CUTS[cut]
    namespace, address = getattr(lab, origin), PUBLIC[family == 6]
    source, label = source_of(namespace, address), new_label()
    pad = (label.encode() * PAD_BYTES)[:PAD_BYTES]
    pieces = packets.fragments(
        source, address, build(source, address, make_query(label, pad=pad)),
        sizes, header, before)[PIECES[which]]
    with namespace.inside():
        try:
            send_raw(address, None, *pieces)
        except PermissionError:
            pass  # refused: all the same, what did get out?
    return label


def what_got_out(lab, send):
    """Packets to the resolver, whatever they look like."""
    with lab.watch(everything=True) as seen:
        send()
    return [p for p in seen.packets if p.dst in PUBLIC and p.dport != 9]


def each_sending(cut):
    """(origin, family, cut, pieces); but not what carries nothing at all."""
    return [case for case in itertools.product(
        ("host", "lan"), CUTS[cut][3], [cut], PIECES)
        if case[2:] != (NOTHING_FIRST, "the first")]


# --- tests ------------------------------------------------------------------

@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("way", WAYS)
def test_pieces(lab, guard, way, cut):
    """First piece and later ones, from the host and from the LAN."""
    for case in each_sending(cut):
        assert what_got_out(lab, lambda c=case: send_pieces(lab, *c)), \
            f"control: {case}"
    guard.enable(tunnel="tun0", resolver=[*APPROVED], fragments=way)
    for case in each_sending(cut):
        found = what_got_out(lab, lambda c=case: send_pieces(lab, *c))
        assert not found, f"{case} got out: {[str(p) for p in found]}"


@pytest.mark.parametrize("masquerade", [True, False], indirect=True)
@pytest.mark.parametrize("way", ["auto", *WAYS])
def test_with_and_without_conntrack(lab, guard, way, masquerade):
    """Every crafted sender of fragments; test_clients has their controls."""
    del masquerade
    guard.enable(tunnel="tun0", resolver=[*APPROVED], fragments=way)
    for name, sender in CRAFTED.items():
        if not sender.is_fragment:
            continue
        for origin, family in itertools.product(sender.origins,
                                                sender.families):
            found = what_got_out(lab, lambda n=name, o=origin, f=family:
                                 send_crafted(n, getattr(lab, o),
                                              PUBLIC[f == 6]))
            assert not found, f"{name}, {origin}: {list(map(str, found))}"


@pytest.mark.parametrize("masquerade", [True, False], indirect=True)
@pytest.mark.parametrize("way", WAYS)
def test_large_ping(lab, guard, masquerade, way):
    """Pieces of ICMP have no port either, and pass both ways."""
    guard.enable(tunnel="tun0", fragments=way)
    directions = [(lab.host, PUBLIC), (lab.lan, PUBLIC),
                  (lab.isp, labnet.HOST_WAN), (lab.isp, labnet.HOST_LAN)]
    for namespace, addresses in directions:
        for address in addresses:
            namespace.run(["ping", "-c", "1", "-W", "3", "-s", "4000",
                           address])
    counters = guard.status()["counters"]
    assert counters["S7"]["packets"] == 0
    assert counters.get("S9", {"packets": 0})["packets"] == 0
    del masquerade


def flows_tracked(lab, count):
    """By how many entries `count` new flows made conntrack's table grow."""
    def entries():
        with lab.host.inside(), open(
                "/proc/sys/net/netfilter/nf_conntrack_count",
                encoding="ascii") as file:
            return int(file.read())

    before = entries()
    with lab.host.inside():
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                   for _ in range(count)]
    for sock in sockets:
        with sock:
            sock.sendto(b"flow", (PUBLIC.v4, CLOSED_PORT))
    return entries() - before


@pytest.mark.parametrize("way, is_tracking", [
    ("defrag", False), ("drop", False), ("conntrack", True)])
def test_conntrack_stays_off(lab, guard, way, is_tracking):
    """Only the way of that name turns connection tracking on."""
    assert flows_tracked(lab, 20) <= 0
    guard.enable(tunnel="tun0", fragments=way)
    assert (flows_tracked(lab, 20) > 0) == is_tracking
    guard.disable()
    assert flows_tracked(lab, 20) <= 0


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("origin, way", [
    *(("host", way) for way in WAYS),
    # "drop" costs the LAN its large answers: they are forwarded in pieces.
    ("lan", "defrag"), ("lan", "conntrack")])
def test_large_answer(lab, guard, origin, way, family):
    """An answer in fragments from the approved resolver still arrives."""
    namespace, address = getattr(lab, origin), APPROVED[family == 6]
    plain = dig_big(namespace, address).result.stdout
    assert len(plain) > 2000
    guard.enable(resolver=[*APPROVED], fragments=way)
    assert len(dig_big(namespace, address).result.stdout) == len(plain)
