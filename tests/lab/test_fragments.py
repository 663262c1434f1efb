"""S9: later fragments that the kernel is kept from putting together.

A raw socket can ask for that (IP_NODEFRAG), and so can a rule that takes
packets out of connection tracking before reassembly (notrack below -400).
"""

import socket
import struct

import pytest

import labnet
import packets

IP_NODEFRAG = 22
PROVIDER = labnet.RESOLVERS["provider"]
WAYS = ("defrag", "conntrack", "drop")
EARLY_NOTRACK = """
table inet lab_notrack {
    chain prerouting {
        type filter hook prerouting priority -450
        notrack
    }
}
"""


def send_all(namespace, destination, pieces, nodefrag=False):
    """Each piece is tried, whatever became of the one before."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with namespace.inside():
        sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with sock:
        if nodefrag:
            sock.setsockopt(socket.IPPROTO_IP, IP_NODEFRAG, 1)
        for piece in pieces:
            try:
                sock.sendto(piece, (destination, 0))
            except PermissionError:
                pass


def cut(source, destination, port=53, head=b""):
    """A datagram in three pieces; `head`: an extension header it starts with."""
    datagram = packets.udp(source, destination, 40000, port, b"late" * 60)
    header = packets.DESTINATION if head else packets.UDP
    return packets.fragments(source, destination, head + datagram, (8, 64),
                             header=header)


def later(seen):
    return [p for p in seen.name_traffic() if p.fragment_offset]


@pytest.mark.parametrize("way", WAYS)
def test_sender_forbids_reassembly(lab, guard, way):
    pieces = cut(labnet.HOST_WAN.v4, PROVIDER.v4)
    with lab.watch(lab.host) as seen:
        send_all(lab.host, PROVIDER.v4, pieces, nodefrag=True)
    assert len(later(seen)) == 2, "control: they get out"
    guard.enable(tunnel="tun0", fragments=way)
    with lab.watch(lab.host) as seen:
        send_all(lab.host, PROVIDER.v4, pieces, nodefrag=True)
    assert not seen.name_traffic()
    assert guard.status()["counters"]["S9"]["packets"] == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("v6, head", [
    (False, b""), (True, b""), (True, packets.options_header(packets.UDP)),
], ids=["IPv4", "IPv6", "IPv6 behind options"])
def test_foreign_notrack_forbids_reassembly(lab, guard, way, v6, head):
    # The lab would masquerade LAN clients; untracked packets keep their address.
    source, destination = labnet.LAN_CLIENT[v6], PROVIDER[v6]
    pieces = cut(source, destination, head=head)
    lab.host.nft(EARLY_NOTRACK)
    try:
        with lab.watch() as seen:
            send_all(lab.lan, destination, pieces)
        assert len(later(seen)) == 2, "control: they get out"
        guard.enable(tunnel="tun0", fragments=way)
        with lab.watch() as seen:
            send_all(lab.lan, destination, pieces)
        assert not seen.name_traffic()
    finally:
        lab.host.nft("delete table inet lab_notrack\n")


@pytest.mark.parametrize("way", WAYS)
def test_other_fragments_pass(lab, guard, way):
    """An atomic fragment to another port, and later fragments of ICMP."""
    guard.enable(tunnel="tun0", fragments=way)
    source, destination = labnet.HOST_WAN.v6, PROVIDER.v6
    atomic = packets.ipv6(
        source, destination, packets.FRAGMENT,
        packets.fragment_header(packets.UDP, 0, 0, 1)
        + packets.udp(source, destination, 40000, 4000, b"atomic"))
    with lab.watch(lab.host, everything=True) as seen:
        send_all(lab.host, destination, [atomic])
    assert [p for p in seen.packets if b"atomic" in p.payload]
    for address in PROVIDER:
        done = lab.lan.run(["ping", "-c", "1", "-W", "3", "-s", "4000", address],
                           check=False)
        assert done.rc == 0, done
    assert guard.status()["counters"]["S9"]["packets"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_look_like_a_port(lab, guard, way):
    """Where the port would be, a later fragment has what its sender likes."""
    guard.enable(tunnel="tun0", fragments=way)
    datagram = packets.udp(labnet.HOST_WAN.v4, PROVIDER.v4, 40000, 53,
                           struct.pack("!HHHH", 0, 443, 0, 80) * 16)
    pieces = packets.fragments(labnet.HOST_WAN.v4, PROVIDER.v4, datagram, (8, 64))
    with lab.watch(lab.host) as seen:
        send_all(lab.host, PROVIDER.v4, pieces, nodefrag=True)
    assert not seen.name_traffic()
