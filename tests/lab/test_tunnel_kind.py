"""tunnel-kind: a tunnel's name alone, or a link that is one.

A veth pair stands for whatever takes a tunnel's name; its far end is the VPN,
so that what passes through it is seen. Real tunnels come from OpenVPN and
wireguard-go.
"""

import pathlib
import re

import pytest

import labnet
import netns
import profiles
from guard import TABLES, split_tables
from probes import Probe, fire
from test_fragments import cut, later, send_all
from tools import SOAK, Counter, Flood
from tunnels import VethTunnel

INSIDE = labnet.RESOLVERS["inside"]
CHANGES = 2000 if SOAK else 100
PATIENCE_S = 20
# Nobody's address: the VPN throws its packets away.
TARGET = labnet.NOBODY


class Impostor(VethTunnel):
    """A veth pair that was renamed to a tunnel's name."""

    def __init__(self, lab, link="wg0"):
        super().__init__(lab)
        self.link, self.far_link = link, f"{link}far"

    def _start(self):
        netns.ip("link add spare0 netns host type veth "
                 f"peer name {self.far_link} netns vpn")
        self.lab.host.ip(f"link set spare0 name {self.link}")
        self._addresses()


@pytest.fixture(scope="module")
def lab():
    """Without NAT on the host: connection tracking would reassemble for us."""
    with labnet.Lab(masquerade=False) as made:
        for address in TARGET:
            made.vpn.ip(f"route add blackhole {address}")
        yield made


@pytest.fixture
def impostor(lab):
    """An impostor by this name, wg0 unless told otherwise, up."""
    made = []

    def make(link="wg0"):
        made.append(Impostor(lab, link))
        return made[-1].up()

    yield make
    for link in made:
        link.remove()


def probes(targets=("inside",), ways=("routed", "wan")):
    return [Probe(origin, way, family, port, proto, target)
            for origin in ("host", "lan") for way in ways
            for family in (4, 6) for port in (53, 853)
            for proto in ("udp", "tcp") for target in targets]


def paths(lab, which, tunnel=None):
    return {"wan" if o.seen else "tunnel" if o.tunnelled else None
            for o in fire(lab, which, tunnel)}


def warnings(guard):
    return [warning["text"] for warning in guard.status()["warnings"]
            if warning["code"] == "tunnel-kind"]


# --- any --------------------------------------------------------------------

def test_any_accepts_and_warns(lab, guard, impostor):
    """The default: VPNs in containers do use veth. Status and log say so."""
    guard.enable(tunnel="wg0", resolver=[*INSIDE])
    path = pathlib.Path(lab.dir, "kind.log")
    with open(path, "wb") as file:
        watcher = lab.host.popen(guard.command("watch"), stderr=file)
    try:
        netns.wait_until(lambda: guard.watcher, "the watcher answers",
                         PATIENCE_S)
        assert not warnings(guard)
        link = impostor()
        line = netns.wait_until(
            lambda: [line for line in path.read_text().splitlines()
                     if "tunnel's name" in line], "the log warns",
            PATIENCE_S)
        assert len(line) == 1 and "wg0" in line[0] and "veth" in line[0]
        text, = warnings(guard)
        assert "wg0" in text and "veth" in text and "let out" in text
        assert paths(lab, probes(ways=("routed",)), link) == {"tunnel"}
    finally:
        netns.stop(watcher)


# --- strict, and lists ------------------------------------------------------

@pytest.mark.parametrize("action", ["drop", "reject"])
@pytest.mark.parametrize("mode", ["either", "both"])
@pytest.mark.parametrize("entry, name", [("wg0", "wg0"), ("tun*", "tun7")])
def test_strict_refuses_the_name_alone(lab, guard, impostor, entry, name,
                                       mode, action):
    link = impostor(name)
    options = dict(tunnel=entry, mode=mode, action=action,
                   resolver=[f"{address} via tunnel" for address in INSIDE])
    targets = ("inside", "public") if mode == "either" else ("inside",)
    guard.enable(**options, tunnel_kind="strict")
    assert paths(lab, probes(targets), link) == {None}
    text, = warnings(guard)
    assert name in text and "veth" in text and "blocked" in text
    guard.enable(**options, tunnel_kind="any")
    assert paths(lab, probes(targets, ("routed",)), link) == {"tunnel"}


@pytest.mark.parametrize("mode", ["either", "both"])
def test_strict_refuses_what_up_brings(lab, guard, impostor, mode):
    link = impostor()
    guard.enable(tunnel="tun9", mode=mode, tunnel_kind="strict")
    guard.up(link.link, *INSIDE)
    assert paths(lab, probes(), link) == {None}
    guard.enable(tunnel="tun9", mode=mode, tunnel_kind="any")
    assert paths(lab, probes(ways=("routed",)), link) == {"tunnel"}


def send_late_fragments(lab, link):
    """How many of them came out of the tunnel, IPv4 and IPv6."""
    with link.capture() as seen:
        for source, address in zip(labnet.TUNNEL_HOST, INSIDE, strict=True):
            pieces = cut(source, address)[1:]
            send_all(lab.host, address, pieces, nodefrag=":" not in address)
        link.barrier(seen)
    return len(later(seen))


@pytest.mark.parametrize("mode", ["either", "both"])
def test_strict_refuses_fragments(lab, guard, impostor, mode):
    link = impostor()
    assert send_late_fragments(lab, link) == 4, "the control"
    for kind, expected in (("any", 4), ("strict", 0), ("veth", 4)):
        guard.enable(tunnel="wg*", mode=mode, fragments="drop",
                     tunnel_kind=kind)
        assert (send_late_fragments(lab, link)
                == (expected if mode == "either" else 0))


@pytest.mark.parametrize("mode", ["either", "both"])
@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_strict_accepts_tunnels(lab, guard, make_tunnel, impostor, kind,
                                mode):
    """Until a veth takes the name after them."""
    tunnel = make_tunnel(kind)
    guard.enable(tunnel=tunnel.link, tunnel_kind="strict", mode=mode,
                 resolver=[f"{address} via tunnel" for address in INSIDE])
    tunnel.up()
    assert paths(lab, probes(ways=("routed",)), tunnel) == {"tunnel"}
    assert not warnings(guard)
    tunnel.remove()
    link = impostor(tunnel.link)
    assert paths(lab, probes(), link) == {None}
    guard.disable()
    assert paths(lab, probes(ways=("routed",)), link) == {"tunnel"}


@pytest.mark.parametrize("kinds, expected", [
    ("tun,veth", "tunnel"), ("veth", "tunnel"), ("tun", None),
    ("vet", None), ("veth0", None), ("tun,wireguard,ppp", None)])
def test_list(lab, guard, impostor, kinds, expected):
    link = impostor()
    guard.enable(tunnel="wg0", tunnel_kind=kinds)
    assert paths(lab, probes(ways=("routed",)), link) == {expected}
    assert bool(warnings(guard)) == (expected is None)
    assert set(guard.status()["policy"]["tunnel_kinds"]) == {*kinds.split(",")}


@pytest.mark.root  # opens /dev/net/tun
def test_warns_of_a_tunnel_of_another_kind(lab, guard):
    """A true tunnel is blocked all the same when its kind is not asked for."""
    lab.host.ip("tuntap add dev tun5 mode tun", "link set tun5 up")
    try:
        guard.enable(tunnel="tun5", tunnel_kind="wireguard")
        text, = warnings(guard)
        assert "tun5" in text and "blocked" in text
    finally:
        lab.host.ip("tuntap del dev tun5 mode tun")


def test_impostor_neither_guards_nor_pins(lab, guard, impostor):
    """Where the kind is asked for, the name alone makes no tunnel of it."""
    guard.enable(tunnel="wg0", tunnel_kind="strict", resolver=[*INSIDE])
    link = impostor()
    guard.reload()
    found = guard.status()
    assert found["state"] == "LOCKED"
    assert not any(r["pinned"] for r in found["resolvers"])
    assert not any(r["through_tunnel"] for r in found["resolvers"])
    link.remove()
    assert paths(lab, probes(ways=("routed",))) == {"wan"}


# --- the rules themselves ---------------------------------------------------

POLICIES = [
    ["--tunnel", "wg0"],
    ["--tunnel", "wg0", "--tunnel", "tun*", "--action", "reject"],
    ["--tunnel", "tun*", "--mode", "both", "--action", "reject",
     "--resolver", INSIDE.v4, "--resolver", f"{INSIDE.v6} via tunnel",
     "--fragments", "drop"],
]


ETHER_TYPES = {"0x800": "ip", "0x86dd": "ip6", "0x8100": "8021q",
               "0x88a8": "8021ad"}


def normalise(tables):
    """In table bridge nft lists "@ll,96,16" as the ether type that it is."""
    return {table: profiles.normalise(re.sub(
        r"@ll,96,16 (\S+)",
        lambda at: f"ether type {ETHER_TYPES.get(at[1], at[1])}", text)
        if table.startswith("bridge") else text)
        for table, text in tables.items()}


@pytest.mark.parametrize("kinds", ["strict", "tun,veth"])
@pytest.mark.parametrize("policy", POLICIES)
def test_rules_are_what_is_listed(lab, guard, policy, kinds):
    """leakguard rules, the kernel after enable, and after nft(8) loaded it."""
    printed = guard.run("rules", *policy, "--tunnel-kind", kinds).stdout
    guard.enable(*policy, "--tunnel-kind", kinds)
    listed = normalise(guard.listings())
    guard.disable()
    lab.host.nft(printed)
    loaded = normalise(guard.listings())
    lab.host.nft("".join(f"delete table {table}\n" for table in loaded))
    assert [*listed] == TABLES
    assert all("meta oifkind @tunnel_kind" in text
               for text in listed.values())
    assert normalise(split_tables(printed)) == listed == loaded


def test_kinds_are_read_back(guard):
    """Without its record, status reads the policy off the rules."""
    guard.enable(tunnel="wg*", tunnel_kind="veth,tun")
    pathlib.Path(guard.run_dir, "state").unlink()
    assert set(guard.status()["policy"]["tunnel_kinds"]) == {"tun", "veth"}
    assert guard.state == "LOCKED"


# --- changed under load -----------------------------------------------------

SLOW = "".join(f"tunnel = slow{number}x*\n" for number in range(50))
BOTH = "mode = both\nresolver = 10.64.0.1\nresolver = fd64::1\n"
APPROVED = f"mode = both\nresolver = {TARGET.v4}\nresolver = {TARGET.v6}\n"
# Each pair refuses TARGET through wg0, a veth; the rules of the one with the
# sets of the other would not.
MIXTURES = {
    "prefixes": (
        f"{SLOW}tunnel = x*\ntunnel-kind = tun,veth\n",
        f"{SLOW}tunnel = wg*\ntunnel-kind = tun\n"),
    "kinds and resolvers in mode both": (
        f"{BOTH}tunnel = wg0\ntunnel-kind = veth\n",
        f"{APPROVED}tunnel = wg0\ntunnel-kind = strict\n"),
}


def settle(lab, link):
    """What was sent has met its verdict, and has arrived. (No port is 1.)"""
    with lab.watch(ports=(1,)):
        pass
    with link.capture(ports=(1,)) as seen:
        link.barrier(seen)


@pytest.mark.parametrize("pair", MIXTURES.values(), ids=MIXTURES)
def test_never_a_mixture(lab, guard, impostor, record_property, pair):
    link = impostor()
    with Counter(lab.vpn, link.far_link, *TARGET) as counter:
        with Flood(lab.host, *TARGET, batches=100) as one, \
                Flood(lab.lan, *TARGET, batches=100) as two:
            sent = sum(sent for flood in (one, two)
                       for sent, _ in flood.stop().values())
        settle(lab, link)
        assert counter.total() == sent > 1000, "the control"
        guard.configure(pair[0])
        guard.enable()
        with Flood(lab.host, *TARGET) as one, Flood(lab.lan, *TARGET) as two:
            for number in range(CHANGES):
                guard.configure(pair[(number + 1) % 2])
                guard.reload()
            tried = one.stop(), two.stop()
        settle(lab, link)
        out = counter.total() - sent
    record_property("tried", str(tried))
    record_property("out", str(out))
    assert all(sum(one) > 1000 for each in tried for one in each.values())
    assert out == 0
