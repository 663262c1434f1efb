"""Guests: bridged, macvlan children, containers, tun and tap (S11).

Their queries go round the inet table's hooks, and meet the same verdict at
wan0 or between the bridge's ports.
"""

import contextlib
import types

import pytest

import guests
import labnet
import netns
import systems
from capture import Capture
from frames import LINKS, PACKETS, Wire
from guests import (BOX, GUESTS, NONE, TAP_FAR, WAYS, Device, ask, bridged,
                    child, container, harmless, large_udp, reaches, shoot)
from resolvers import Resolver

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
GATEWAY = labnet.GATEWAY

needs_nf_call = pytest.mark.skipif(
    not guests.has_nf_call(), reason="no br_netfilter in this kernel")
nf_calls = pytest.mark.parametrize("nf_call", [
    0, pytest.param(1, marks=needs_nf_call)])


@contextlib.contextmanager
def one_bridged(lab, nf_call):
    with bridged(lab, 1, nf_call) as (guest,):
        yield guest


# name -> the shape, as a context manager that gives one guest
SHAPES = {
    "bridged": lambda lab: one_bridged(lab, 0),
    "bridged nf-call": lambda lab: one_bridged(lab, 1),
    **{f"macvlan {mode}": lambda lab, mode=mode: child(lab, mode)
       for mode in ("bridge", "private", "vepa", "passthru")},
    "ipvlan l2": lambda lab: child(lab, "l2", "ipvlan"),
    "ipvlan l3": lambda lab: child(lab, "l3", "ipvlan"),
    "container nat": lambda lab: container(lab, nat=True),
    "container routed": lambda lab: container(lab, nat=False),
}


@pytest.fixture(params=SHAPES)
def shape(lab, request):
    name = request.param
    if "ipvlan" in name and not guests.has_kind("ipvlan"):
        pytest.skip("no ipvlan in this kernel")
    if "nf-call" in name and not guests.has_nf_call():
        pytest.skip("no br_netfilter in this kernel")
    with SHAPES[name](lab) as guest:
        guest.shape = name
        yield guest


only_at_the_link = pytest.mark.parametrize(
    "shape", [name for name in SHAPES if "container" not in name],
    indirect=True)


@pytest.fixture
def server():
    """server(namespace, addresses): a resolver there, answering."""
    made = []

    def start(lab, namespace, addresses):
        made.append(Resolver(namespace, "stub", addresses, lab.certificate,
                             lab.dir))
        made[-1].wait()

    yield start
    for one in made:
        one.stop()


def via(addresses, link):
    return [f"{address} via {link}" for address in addresses]


# --- everybody's guests -----------------------------------------------------

def test_queries(lab, guard, shape):
    assert ask(lab, shape, PUBLIC, due=WAYS) == (WAYS, WAYS)
    assert not harmless(shape)
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert ask(lab, shape, PUBLIC) == (NONE, NONE)
    assert not harmless(shape)
    assert ask(lab, shape, APPROVED, due=WAYS) == (WAYS, WAYS)
    guard.enable(tunnel="tun0")
    assert ask(lab, shape, APPROVED) == (NONE, NONE)
    assert not harmless(shape)


def test_large_datagrams(lab, guard, shape):
    """To port 53 nothing of them. To others: all, but for bridged guests'
    later fragments, which nothing tells from a query's."""
    whole = [len(large_udp(lab, shape, address, port))
             for port in (9, 53) for address in GATEWAY]
    assert whole == [3] * 4
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not any(large_udp(lab, shape, address, 53) for address in GATEWAY)
    later = 0 if "bridged" in shape.shape else 2
    assert [len(large_udp(lab, shape, address)) for address in GATEWAY] == [
        1 + later] * 2
    assert [len(large_udp(lab, shape, address, 53))
            for address in APPROVED] == [3] * 2
    guard.enable(tunnel="tun0", frames="strict")
    assert [len(large_udp(lab, shape, address)) for address in GATEWAY] == [
        1] * 2
    assert not any(large_udp(lab, shape, address, 53) for address in GATEWAY)


@only_at_the_link
def test_limit_frames_off(lab, guard, shape):
    """Without the tables for frames these guests go by."""
    guard.enable(tunnel="tun0", frames="off")
    expected = NONE if "nf-call" in shape.shape else WAYS
    assert ask(lab, shape, PUBLIC, due=expected) == (expected, expected)


@only_at_the_link
def test_pause(lab, guard, shape):
    guard.enable(tunnel="tun0")
    guard.pause("60s")
    assert ask(lab, shape, PUBLIC, due=WAYS) == (WAYS, WAYS)
    guard.resume()
    assert ask(lab, shape, PUBLIC) == (NONE, NONE)


@only_at_the_link
def test_lease(lab, guard, shape):
    """From the provider's server, through the guard."""
    guard.enable(tunnel="tun0")
    with systems.dnsmasq(
            lab, lab.isp, "--port=0", "--interface=cust0", "--no-ping",
            "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--dhcp-authoritative",
            f"--dhcp-leasefile={lab.dir}/leases-guest"):
        client = systems.DhcpClient(
            types.SimpleNamespace(dir=lab.dir, host=shape), "eth0")
        try:
            assert client.wait_for("bound")[1].startswith("192.0.2.1")
        finally:
            client.stop()


@only_at_the_link
def test_frames_of_guests(lab, guard, shape):
    """By packet sockets of the guest's own, of every shape."""
    if "nf-call" in shape.shape:  # and what is in tags as well
        lab.host.sysctl(**{f"net__bridge__bridge-nf-filter-{kind}-tagged": 1
                           for kind in ("vlan", "pppoe")})
    wire = Wire(types.SimpleNamespace(host=shape, isp=lab.isp), "eth0")
    frames = (wire.frames(PACKETS)
              + wire.frames(["plain", "options"], LINKS))
    seen = wire.seen("raw", frames)
    if "nf-call" in shape.shape:  # the host puts fragments together
        assert len(seen) > 0.9 * len(frames), "control"
    else:
        assert len(seen) == len(frames), "control"
    guard.enable(tunnel="tun0")
    assert not wire.are_seen("raw", frames)
    assert wire.are_seen("raw", wire.frames(ports=(9, 443)))


# --- the bridge and what is below it ----------------------------------------

@nf_calls
@pytest.mark.parametrize("action", ["drop", "reject"])
def test_host_on_the_bridge(lab, guard, nf_call, action):
    """The host's own queries pass br0, and wan0 below it."""
    with bridged(lab, 1, nf_call) as (guest,):
        assert ask(lab, lab.host, PUBLIC, "br0", due=WAYS) == (WAYS, WAYS)
        guard.enable(tunnel="tun0", resolver=[*APPROVED], action=action)
        assert ask(lab, lab.host, PUBLIC, "br0").seen == NONE
        assert ask(lab, guest, PUBLIC) == (NONE, NONE)
        assert reaches(lab, lab.host, APPROVED, link="br0")
        assert reaches(lab, lab.lan, APPROVED)


@nf_calls
def test_resolver_by_the_bridge(lab, guard, nf_call):
    """What may leave by br0 may leave by the ports below it."""
    with bridged(lab, 1, nf_call) as (guest,):
        guard.enable(tunnel="tun0", resolver=via(APPROVED, "br0"))
        assert reaches(lab, lab.host, APPROVED, link="br0")
        assert reaches(lab, guest, APPROVED)
        assert ask(lab, guest, PUBLIC) == (NONE, NONE)


@nf_calls
def test_resolver_by_the_port(lab, guard, nf_call):
    """A path of its own: for guests, whose last link it is. The host's
    queries leave the IP stack by br0, and guests' with nf-call too."""
    with bridged(lab, 1, nf_call) as (guest,):
        guard.enable(tunnel="tun0", resolver=via(APPROVED, "wan0"))
        assert reaches(lab, guest, APPROVED) != nf_call
        assert ask(lab, guest, PUBLIC) == (NONE, NONE)
        assert ask(lab, lab.host, APPROVED, "br0").seen == NONE


def test_resolver_by_the_parent_of_a_macvlan(lab, guard):
    with child(lab, "bridge") as guest:
        guard.enable(tunnel="tun0", resolver=via(APPROVED, "wan0"))
        assert reaches(lab, guest, APPROVED)
        assert ask(lab, guest, PUBLIC) == (NONE, NONE)
        guard.enable(tunnel="tun0", resolver=via(APPROVED, "lan0"))
        assert ask(lab, guest, APPROVED) == (NONE, NONE)


def test_resolver_by_a_bridge_whose_ports_change(lab, guard):
    """A port lets out what the bridge does, as long as it is one."""
    with bridged(lab), guests.second_provider() as isp2:
        guests.wire(lab, "eth1")
        with Capture(isp2, "eth1") as capture:
            assert shoot(lab.host, "eth1", capture) == WAYS
            guard.enable(tunnel="tun0", resolver=via(TAP_FAR, "br0"),
                         watch=True)
            for change, expected in (("nomaster", NONE), ("master br0", WAYS),
                                     ("nomaster", NONE)):
                lab.host.ip(f"link set eth1 {change}")
                netns.wait_until(lambda out=expected: out == shoot(
                    lab.host, "eth1", capture), f"{change}: {expected}")


@pytest.mark.parametrize("shape", ["bridged", "macvlan bridge"],
                         indirect=True)
def test_pinned(lab, guard, shape, make_tunnel):
    """What the host's routes once led inside is closed to guests as well."""
    guard.enable(tunnel="tun0", resolver=[*INSIDE], watch=True)
    assert reaches(lab, shape, INSIDE)
    tunnel = make_tunnel("veth").up()
    netns.wait_until(lambda: ask(lab, shape, INSIDE).seen == NONE, "pinned")
    tunnel.down()
    assert ask(lab, shape, INSIDE) == (NONE, NONE)


# --- name servers in guests -------------------------------------------------

@nf_calls
def test_server_in_a_bridged_guest(lab, guard, server, nf_call):
    """Reached where it is approved, and by nobody where it is not."""
    with bridged(lab, 2, nf_call) as (guest, other):
        server(lab, guest, GUESTS[0])
        everybody = ((lab.host, "br0"), (other, None), (lab.lan, None))
        for enable, expected in ((None, WAYS), ([], NONE),
                                 ([*GUESTS[0]], WAYS)):
            if enable is not None:
                guard.enable(tunnel="tun0", resolver=enable)
            for origin, link in everybody:
                assert ask(lab, origin, GUESTS[0], link, due=expected) == (
                    NONE, expected), (origin.name, enable)


@nf_calls
def test_inside_between_bridged_guests(lab, guard, server, nf_call):
    """`inside` lets them ask each other; the provider learns nothing. With
    bridge-nf-call-iptables the inet table is asked too, and sees br0."""
    with bridged(lab, 2, nf_call) as (guest, other):
        server(lab, guest, GUESTS[0])
        guard.enable(tunnel="tun0", inside="vm*")
        expected = NONE if nf_call else WAYS
        assert ask(lab, other, GUESTS[0], due=expected) == (NONE, expected)
        for one in (guest, other):
            assert ask(lab, one, PUBLIC) == (NONE, NONE)
            assert not harmless(one)
        # The host's leave it by br0, which leads to the provider as well.
        assert ask(lab, lab.host, GUESTS[0], "br0") == (NONE, NONE)
        assert {guards_view(guard)[f"vm{n}"] for n in (0, 1)} == {"inside"}


def guards_view(guard):
    return guests.frames_of(guard)


@pytest.mark.parametrize("nat", [True, False])
def test_server_in_a_container(lab, guard, server, nat):
    with container(lab, nat) as box:
        server(lab, box, BOX)
        for options, expected in (
                (None, WAYS), ({}, NONE), ({"resolver": [*BOX]}, WAYS),
                ({"inside": ["docker0", "ct*"]}, WAYS)):
            if options is not None:
                guard.enable(tunnel="tun0", **options)
            for origin in (lab.host, lab.lan):
                assert ask(lab, origin, BOX, due=expected) == (
                    NONE, expected), (origin.name, options)
        assert ask(lab, box, PUBLIC) == (NONE, NONE)


# --- tun and tap ------------------------------------------------------------

@pytest.fixture(params=["tap", "tun"])
def device(lab, request):
    with Device(lab, request.param) as made:
        yield made


def test_device(lab, guard, device):
    """What a program reads from it is outside."""
    def both():
        return (ask(lab, lab.host, TAP_FAR, device.link,
                    outside=device).seen,
                shoot(lab.host, device.link, device, device.mode == "tun"))

    assert both() == (WAYS, WAYS)
    guard.enable(tunnel="vpn0")
    assert both() == (NONE, NONE)
    guard.enable(tunnel="vpn0", resolver=[*TAP_FAR])
    assert both() == (WAYS, WAYS)
    guard.enable(tunnel=device.link)
    assert both() == (WAYS, WAYS)
    assert guards_view(guard)[device.link] == "tunnel"


def test_virtual_machine(lab, guard):
    """Its frames come out of a tap device that is a port of the bridge."""
    with bridged(lab), Device(lab, link="vmtap") as tap:
        lab.host.ip("address flush dev vmtap", "link set vmtap master br0")
        with lab.capture() as capture:
            assert tap.shoot(capture) == WAYS
            guard.enable(tunnel="tun0")
            assert tap.shoot(capture) == NONE
            counters = guard.status()["counters"]
            assert counters["S11"]["packets"] == 2 * len(WAYS)  # two ports
            assert shoot(lab.host, "vmtap", tap) == NONE


def test_tunnel_in_the_bridge(lab, guard):
    """Guests' frames may leave by that port alone."""
    with bridged(lab) as (guest,), Device(lab, link="tap0") as tap:
        lab.host.ip("address flush dev tap0", "link set tap0 master br0")

        def ways():
            with lab.capture() as provider:
                return (shoot(guest, "eth0", tap),
                        shoot(guest, "eth0", provider))

        assert ways() == (WAYS, WAYS)
        guard.enable(tunnel="tap0")
        assert ways() == (WAYS, NONE)
        guard.enable(tunnel="tap1")
        assert ways() == (NONE, NONE)
