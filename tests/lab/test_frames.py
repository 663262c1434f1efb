"""S11: queries in frames of packet sockets, which the IP stack never sees.

test_frames_odd.py has those that are not what they are called, or wrapped;
test_frames_limits.py what gets out.
"""

import socket

import pytest

import labnet
from capture import Capture
from frame_senders import DROPPED, SCAPY, SENDERS, Stranger
from frames import HARMLESS_PORT, IP, PACKETS, TCP, UDP, Wire, scapy_seen
from test_pause import wait_over

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
LOOPED = ("raw", "bypass", "ring v3")  # three ways to the device


@pytest.fixture(scope="module")
def wire(lab):
    return Wire(lab)


@pytest.fixture(scope="module")
def lab():
    """Without conntrack, which would give the host reassembly."""
    with labnet.Lab(masquerade=False) as made:
        yield made


def blocked(guard):
    return guard.status()["counters"]["S11"]["packets"]


def to_other_ports(wire, **options):
    return wire.frames(ports=(HARMLESS_PORT, 443, 54, 53 << 8), **options)


@pytest.mark.parametrize("sender", SENDERS)
def test_senders(guard, wire, sender):
    """A query is not seen, others are; and each is counted."""
    queries = wire.frames()
    assert wire.are_seen(sender, queries), "control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not wire.are_seen(sender, queries)
    assert blocked(guard) == len(queries)
    assert wire.are_seen(sender, to_other_ports(wire))
    assert wire.are_seen(sender, wire.frames(target="approved"))
    assert blocked(guard) == len(queries)
    guard.disable()
    assert wire.are_seen(sender, queries), "control"


@pytest.mark.parametrize("sender", LOOPED)
def test_packets(guard, wire, sender):
    """The port is found behind options and extension headers; what has none
    is taken for a query where its address does not approve it."""
    queries = wire.frames(PACKETS)
    assert wire.are_seen(sender, queries), "control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not wire.are_seen(sender, queries)
    assert blocked(guard) == len(queries)
    with_port = [name for name, inside in PACKETS.items()
                 if not inside.portless and not inside.extended]
    assert wire.are_seen(sender, to_other_ports(wire, insides=with_port))
    known = [name for name, inside in PACKETS.items()
             if not inside.nameless and name != "chain"]
    assert wire.are_seen(sender, wire.frames(known, protos=(None,)))
    assert wire.are_seen(sender, wire.frames(known, target="approved"))
    assert blocked(guard) == len(queries)


def test_scapy(guard, wire):
    assert all(scapy_seen(wire).values()), "control"
    guard.enable(tunnel="tun0")
    assert scapy_seen(wire) == dict.fromkeys(SCAPY, 0)


@pytest.mark.root
def test_unprivileged_user(lab, guard, wire):
    """In a user namespace of its own he may send frames through links that
    were given to him, and through no other."""
    stranger = Stranger(lab)
    try:
        lab.host.ip("link add mv0 link wan0 type macvlan mode private",
                    f"link set mv0 netns {stranger.process.pid}")
        lab.host.run(["nsenter", "-t", stranger.process.pid, "-n",
                      "ip", "link", "set", "mv0", "up"])

        def send(_, link, some):
            del link
            assert {stranger.send("mv0", frame) for frame in some} <= {
                "sent", DROPPED}

        assert wire.are_seen(send, wire.frames(PACKETS)), "control"
        guard.enable(tunnel="tun0", resolver=[*APPROVED])
        assert not wire.are_seen(send, wire.frames(PACKETS))
        assert wire.are_seen(send, to_other_ports(wire))
        assert wire.are_seen(send, wire.frames(target="approved"))
    finally:
        stranger.close()


@pytest.mark.root
def test_unprivileged_user_of_the_host(lab, wire):
    stranger = Stranger(lab, own_network=False)
    try:
        assert stranger.send("wan0", wire.frame()) == "Operation not permitted"
    finally:
        stranger.close()


# --- what is allowed, by the same promises ---

def test_tunnel(lab, guard, wire, veth_tunnel):
    """S4: what leaves through the tunnel does, and nothing beside it."""
    through = Wire(lab, veth_tunnel.link, lab.vpn, veth_tunnel.far_link,
                   labnet.TUNNEL_FAR.v4)
    guard.enable(tunnel=veth_tunnel.link)
    assert through.are_seen("raw", through.frames(PACKETS))
    assert not wire.are_seen("raw", wire.frames(PACKETS))


def test_carrier(guard, wire):
    """S3: by address, protocol and port."""
    guard.enable(tunnel="tun0", endpoint=[f"{PUBLIC.v4}:53/udp",
                                          f"[{PUBLIC.v6}]:853/tcp"])
    seen = {(4, UDP, 53), (6, TCP, 853)}
    every = {(family, proto, port): wire.frame("plain", "ethernet", family,
                                               proto, port)
             for family in (4, 6) for proto in (UDP, TCP)
             for port in (53, 853)}
    out = wire.seen("raw", every.values())
    assert [key for key, frame in every.items() if frame in out] \
        == sorted(seen)


def test_approved_port(guard, wire):
    """S5: ADDR@PORT approves that port, and nothing that has none."""
    guard.enable(tunnel="tun0", resolver=[f"{PUBLIC.v4}@853",
                                          f"[{PUBLIC.v6}]@853"])
    assert wire.are_seen("raw", wire.frames(ports=(853,)))
    assert not wire.are_seen("raw", wire.frames(ports=(53,)))
    assert not wire.are_seen("raw", wire.frames(["later", "last"]))


@pytest.mark.parametrize("link, seen", [("wan0", True), ("lan0", False)])
def test_approved_by_link(guard, wire, link, seen):
    guard.enable(tunnel="tun0", resolver=[f"{a} via {link}" for a in PUBLIC])
    assert wire.are_seen("raw", wire.frames()) == seen


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_pause(guard, wire, watch):
    """S6: open for a time, which the kernel ends."""
    guard.enable(tunnel="tun0", watch=watch)
    assert not wire.are_seen("raw", wire.frames(PACKETS))
    guard.pause("1m")
    assert wire.are_seen("raw", wire.frames(PACKETS))
    guard.resume()
    assert not wire.are_seen("raw", wire.frames(PACKETS))
    guard.pause("2")
    assert wire.are_seen("raw", wire.frames())
    wait_over(guard)
    assert not wire.are_seen("raw", wire.frames(PACKETS))


def test_mode_both(guard, wire):
    """An approved resolver is one through the tunnel only."""
    guard.enable(tunnel="tun0", resolver=[*APPROVED], mode="both")
    assert not wire.are_seen("raw", wire.frames(PACKETS))
    assert not wire.are_seen("raw", wire.frames(PACKETS, target="approved"))
    assert wire.are_seen("raw", to_other_ports(wire))


def test_reject(guard, wire):
    """Nobody is there to be told: dropped."""
    guard.enable(tunnel="tun0", resolver=[*APPROVED], action="reject")
    assert not wire.are_seen("raw", wire.frames(PACKETS))
    assert wire.are_seen("raw", to_other_ports(wire))
    assert wire.are_seen("raw", wire.frames(target="approved"))


def test_guarded_ports(guard, wire):
    """53 alone: 853 is a port as any."""
    guard.enable(tunnel="tun0", ports="53")
    assert not wire.are_seen("raw", wire.frames(ports=(53,)))
    assert wire.are_seen("raw", wire.frames(ports=(853,)))


def test_change_of_policy(guard, wire):
    """What is approved now is now, and no longer than it is."""
    guard.enable(tunnel="tun0")
    assert not wire.are_seen("raw", wire.frames(target="approved"))
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert wire.are_seen("raw", wire.frames(target="approved"))
    guard.enable(tunnel="tun0", ports="53", resolver=APPROVED.v4)
    out = wire.seen("raw", wire.frames(target="approved"))
    assert {frame.protocol for frame in out if "/53 " in frame.name} \
        == {IP}


# --- what the host's own stack sends ---

@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("mode", ["auto", "require"])
def test_large_datagram(lab, guard, wire, address, mode):
    """4,000 bytes, which the host itself cuts, arrive whole."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    guard.enable(tunnel="tun0", frames=mode)
    with lab.isp.inside():
        server = socket.socket(family, socket.SOCK_DGRAM)
    with lab.host.inside():
        client = socket.socket(family, socket.SOCK_DGRAM)
    with server, client, Capture(lab.isp, "cust0") as seen:
        server.bind((address, HARMLESS_PORT))
        server.settimeout(5)
        client.sendto(b"large" * 800, (address, HARMLESS_PORT))
        assert server.recv(65535) == b"large" * 800
        wire.barrier(seen)
    assert len([p for p in seen.packets if p.fragment_offset]) == 2
    assert blocked(guard) == 0


# --- frames = off, and what is told ---

def test_off(guard, wire):
    """The inet table alone: frames get out, and status says so."""
    guard.enable(tunnel="tun0", frames="off")
    assert wire.are_seen("raw", wire.frames(PACKETS))
    status = guard.status()
    assert status["policy"]["frames"] == "off"
    assert {link["frames"] for link in status["links"]} <= {
        "uncovered", "loopback", "tunnel"}
    guard.enable(tunnel="tun0")
    assert not wire.are_seen("raw", wire.frames(PACKETS))
    guard.enable(tunnel="tun0", frames="off")
    assert wire.are_seen("raw", wire.frames(PACKETS))


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_status(lab, guard, veth_tunnel, watch):
    """Each link, and what becomes of its frames."""
    guard.enable("--inside", "lan*", tunnel=veth_tunnel.link, watch=watch)
    status = guard.status()
    assert status["policy"]["frames"] == "auto"
    assert status["frames"] == {"egress": True, "bridge": True}
    assert {link["name"]: link["frames"] for link in status["links"]} == {
        "lo": "loopback", "wan0": "covered", "lan0": "inside",
        veth_tunnel.link: "tunnel"}
    with lab.host.inside():
        indexes = dict(map(reversed, socket.if_nameindex()))
    assert {link["name"]: link["index"] for link in status["links"]} == indexes
    text = guard.run("status").stdout.splitlines()
    words = {tuple(line.split()[1:]) for line in text
             if line.startswith("link")}
    assert {("wan0", "frames", "covered"), ("lan0", "inside"),
            (veth_tunnel.link, "tunnel")} <= words


def test_link_that_lost_its_chain(lab, guard, wire):
    """Without a watcher a new link is not covered, and status says so."""
    guard.enable(tunnel="tun0")
    lab.host.ip("link add new0 type veth peer name new1",
                "link set new0 up")
    try:
        found = {link["name"]: link for link in guard.status()["links"]}
        assert found["new0"]["frames"] == "uncovered" and found["new0"]["why"]
        assert found["wan0"]["frames"] == "covered"
        codes = {w["code"] for w in guard.status()["warnings"]}
        assert "link-uncovered" in codes
        guard.enable(tunnel="tun0")
        found = {link["name"]: link for link in guard.status()["links"]}
        assert found["new0"]["frames"] == "covered"
        assert not wire.are_seen("raw", wire.frames())
    finally:
        lab.host.ip("link del new0")
