"""S1 and S2: what is not name traffic, and what stays on the host."""

import socket
import struct

import pytest

import labnet
import packets
from clients import dig
from guard import TABLES
from probes import Probe, all_probes, fire, make_query
from resolvers import SlowResolver

PUBLIC = labnet.RESOLVERS["public"]
OTHER_PORTS = (52, 54, 80, 123, 443, 852, 854, 5353, 53 << 8, 53 + 256)
ICMP_ECHO, ICMPV6_ECHO = 8, 128


def arrived(lab, send):
    """What send() brought out of the host, whatever it was."""
    with lab.watch(everything=True) as seen:
        send()
    return seen.packets


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("origin", ["host", "lan"])
def test_other_ports(lab, guard, origin, family):
    """Also where a byte of the port, or the other port, is 53."""
    guard.enable(tunnel="tun0")
    namespace = getattr(lab, origin)
    address = PUBLIC.v4 if family == 4 else PUBLIC.v6
    kind = socket.AF_INET if family == 4 else socket.AF_INET6

    def send():
        with namespace.inside():
            sock = socket.socket(kind, socket.SOCK_DGRAM)
        with sock:
            sock.bind(("", 53))
            for port in OTHER_PORTS:
                sock.sendto(b"other", (address, port))

    ports = {p.dport for p in arrived(lab, send) if p.payload == b"other"}
    assert ports == set(OTHER_PORTS)


@pytest.mark.parametrize("origin", ["host", "lan"])
def test_other_ports_by_tcp(lab, guard, origin):
    guard.enable(tunnel="tun0", action="reject")
    namespace = getattr(lab, origin)
    for address in PUBLIC:
        for port in (52, 54, 443, 852, 854):
            assert labnet.can_reach(namespace, address, port=port, timeout=2)


def icmp_echo_with_checksum(address, source, wanted):
    """An echo request whose checksum, where UDP has its port, is `wanted`."""
    is_ipv6 = ":" in address
    kind = ICMPV6_ECHO if is_ipv6 else ICMP_ECHO
    head = struct.pack("!BBHHH", kind, 0, 0, 7, 1)
    pseudo = b""
    if is_ipv6:
        pseudo = (socket.inet_pton(socket.AF_INET6, source)
                  + socket.inet_pton(socket.AF_INET6, address)
                  + struct.pack("!II", len(head) + 2, socket.IPPROTO_ICMPV6))
    # One more word: the difference, in one's complement, to what is wanted.
    filler = packets.checksum(pseudo + head) + (~wanted & 0xffff)
    filler = (filler & 0xffff) + (filler >> 16)
    body = head[4:] + struct.pack("!H", filler)
    total = packets.checksum(pseudo + head[:2] + b"\0\0" + body)
    return head[:2] + struct.pack("!H", total) + body


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("port", [53, 853])
def test_icmp_that_looks_like_a_port(lab, guard, address, port):
    """The short test reads the bytes of any protocol."""
    guard.enable(tunnel="tun0")
    is_ipv6 = ":" in address
    source = labnet.HOST_WAN[is_ipv6]
    message = icmp_echo_with_checksum(address, source, port)
    assert struct.unpack_from("!H", message, 2)[0] == port
    build = packets.ipv6 if is_ipv6 else packets.ipv4
    proto = socket.IPPROTO_ICMPV6 if is_ipv6 else socket.IPPROTO_ICMP
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET

    def send():
        with lab.host.inside():
            sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with sock:
            sock.sendto(build(source, address, proto, message), (address, 0))

    assert [p for p in arrived(lab, send)
            if p.proto == proto and p.payload == message]


@pytest.mark.parametrize("way", ["auto", "defrag", "conntrack"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("origin", ["host", "lan"])
def test_fragments_to_other_ports(lab, guard, origin, family, way):
    """A large datagram that is no query arrives whole."""
    guard.enable(tunnel="tun0", fragments=way)
    namespace = getattr(lab, origin)
    address = PUBLIC.v4 if family == 4 else PUBLIC.v6
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with lab.isp.inside():
        server = socket.socket(kind, socket.SOCK_DGRAM)
    with namespace.inside():
        client = socket.socket(kind, socket.SOCK_DGRAM)
    with server, client:
        server.bind((address, 4000))
        server.settimeout(5)
        client.sendto(b"large" * 1000, (address, 4000))
        assert server.recv(65535) == b"large" * 1000


@pytest.mark.parametrize("action", ["drop", "reject"])
@pytest.mark.parametrize("address", [
    "127.0.0.53", "::1", labnet.HOST_LAN.v4, labnet.HOST_WAN.v6])
def test_stub_on_the_host(lab, guard, address, action):
    """S2: a resolver on any of the host's own addresses, mode both too."""
    stub = SlowResolver(lab.host, address, 0, tag="stub")
    try:
        for mode in ("either", "both"):
            guard.enable(tunnel="tun0", mode=mode, action=action)
            asked = dig(lab.host, address, "+short")
            assert asked.answer == "stub", asked
    finally:
        stub.stop()


def test_resolver_for_the_lan(lab, guard):
    """A server on the router answers its clients, from port 53 and to it."""
    stub = SlowResolver(lab.host, labnet.HOST_LAN.v4, 0, tag="stub")
    try:
        guard.enable(tunnel="tun0")
        asked = dig(lab.lan, labnet.HOST_LAN.v4, "+short")
        assert asked.answer == "stub", asked
    finally:
        stub.stop()


# At the same hooks, and of the same name in families that are none of ours.
NEIGHBOURS = """\
table inet neighbour { chain c { type filter hook postrouting priority 99; }; }
table netdev neighbour { chain egress_2 { }; }
table bridge neighbour { chain c { type filter hook forward priority 400; }; }
table ip leakguard { chain neighbour { }; }
table arp leakguard { chain c { }; }
"""


def test_tables_of_others_stay(lab, guard):
    """S15: nothing outside leakguard's own tables is changed."""
    def others():
        listing = lab.host.run(["nft", "list", "ruleset"]).stdout
        for own in guard.listings().values():
            listing = listing.replace(own, "")
        return listing

    lab.host.nft(NEIGHBOURS)
    try:
        before = others()
        guard.enable(tunnel="tun0", resolver=[*PUBLIC])
        assert others() == before and [*guard.listings()] == TABLES
        guard.disable()
        assert lab.host.run(["nft", "list", "ruleset"]).stdout == before
        assert before.count("neighbour") == 4
    finally:
        lab.host.nft("".join(f"delete {line.partition('{')[0]}\n"
                             for line in NEIGHBOURS.splitlines()))


def test_open_connection_is_cut(lab, guard):
    """A connection made before the guard rose carries no query after it."""
    with lab.host.inside():
        sock = socket.create_connection((PUBLIC.v4, 53), timeout=5)
    with sock:
        guard.enable(tunnel="tun0")
        query = make_query("already")
        with lab.watch(lab.host) as seen:
            sock.send(struct.pack("!H", len(query)) + query)
        assert not seen.name_traffic()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))


def test_approved_port_only(lab, guard):
    """ADDR@PORT approves that port and no other."""
    guard.enable(tunnel="tun0", resolver=[f"{PUBLIC.v4}@853",
                                          f"[{PUBLIC.v6}]@853"])
    volley = fire(lab, all_probes(targets=("public",)), None,
                  lambda probe: probe.port == 853)
    assert {o.probe.port for o in volley if o.seen} == {853}
    assert all(o.seen == (o.probe.port == 853) for o in volley)


def test_other_guarded_ports(lab, guard):
    """--ports guards what it lists, and only that."""
    guard.enable(tunnel="tun0", ports="53,5353")
    probes = [Probe(origin, "routed", family, port, "udp", "public")
              for origin in ("host", "lan") for family in (4, 6)
              for port in (53, 853, 5353)]
    with lab.watch(ports=(53, 853, 5353)) as seen:
        fire(lab, probes)
    assert {p.dport for p in seen.name_traffic()} == {853}
    assert len(seen.name_traffic()) == 4
