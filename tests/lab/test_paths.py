"""A resolver's path: any, one link, tunnels only, and pinned (design, 4)."""

import pytest

import labnet
from probes import all_probes, fire

INSIDE = labnet.RESOLVERS["inside"]
PUBLIC = labnet.RESOLVERS["public"]
PUBLIC_PROBES = all_probes(targets=("public",))
INSIDE_PROBES = all_probes(targets=("inside",))


def via(addresses, path):
    return [f"{address} via {path}" for address in addresses]


def paths(lab, probes, tunnel=None):
    """{way: set of paths that probes of this way took}, of seen, tunnelled."""
    found = {"routed": set(), "wan": set()}
    for outcome in fire(lab, probes, tunnel):
        found[outcome.probe.way].add(
            "wan" if outcome.seen else
            "tunnel" if outcome.tunnelled else None)
    return found


BOTH_OUT = {"routed": {"wan"}, "wan": {"wan"}}
NONE_OUT = {"routed": {None}, "wan": {None}}
TUNNEL_ONLY = {"routed": {"tunnel"}, "wan": {None}}


def test_any_path_until_seen_inside(lab, guard, make_tunnel):
    """A plain entry is approved anywhere; once routed into the tunnel, it is
    closed elsewhere until disable."""
    tunnel = make_tunnel("veth")
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE])
    assert paths(lab, INSIDE_PROBES) == BOTH_OUT
    tunnel.up()
    guard.up(tunnel.link)
    assert paths(lab, INSIDE_PROBES, tunnel) == TUNNEL_ONLY
    tunnel.kill()
    assert paths(lab, INSIDE_PROBES) == NONE_OUT
    guard.down(tunnel.link)
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE])
    assert paths(lab, INSIDE_PROBES) == NONE_OUT, "a pin outlives enable"
    guard.disable()
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE])
    assert paths(lab, INSIDE_PROBES) == BOTH_OUT


def test_pinned_at_enable(lab, guard, veth_tunnel):
    """Raised while the tunnel is up already."""
    guard.enable(tunnel=veth_tunnel.link, resolver=[*INSIDE])
    assert paths(lab, INSIDE_PROBES, veth_tunnel) == TUNNEL_ONLY
    veth_tunnel.down()
    assert paths(lab, INSIDE_PROBES) == NONE_OUT


def test_pinned_by_name_pattern(lab, guard, veth_tunnel):
    """tun* stands for tun0 and no other link."""
    guard.enable(tunnel="tun*", resolver=[*INSIDE])
    assert paths(lab, INSIDE_PROBES, veth_tunnel) == TUNNEL_ONLY
    assert paths(lab, PUBLIC_PROBES, veth_tunnel) == TUNNEL_ONLY
    veth_tunnel.kill()
    assert paths(lab, INSIDE_PROBES) == NONE_OUT


def test_via_tunnel(lab, guard, make_tunnel):
    """Pinned from the start."""
    tunnel = make_tunnel("veth")
    guard.enable(tunnel=tunnel.link, resolver=via(INSIDE, "tunnel"))
    assert paths(lab, INSIDE_PROBES) == NONE_OUT
    tunnel.up()
    assert paths(lab, INSIDE_PROBES, tunnel) == TUNNEL_ONLY


def test_via_any(lab, guard, veth_tunnel):
    """Never pinned."""
    guard.enable(tunnel=veth_tunnel.link, resolver=via(INSIDE, "any"))
    assert paths(lab, INSIDE_PROBES, veth_tunnel) == {
        "routed": {"tunnel"}, "wan": {"wan"}}
    veth_tunnel.kill()
    assert paths(lab, INSIDE_PROBES) == BOTH_OUT


@pytest.mark.parametrize("link, expected", [
    ("wan0", BOTH_OUT), ("wan1", NONE_OUT), ("wan", NONE_OUT),
    ("lan0", NONE_OUT)])
def test_via_link(lab, guard, link, expected):
    """Tied to one link, by its whole name."""
    guard.enable(resolver=via(PUBLIC, link))
    assert paths(lab, PUBLIC_PROBES) == expected


@pytest.mark.parametrize("name, expected", [
    ("tun0", TUNNEL_ONLY), ("tun", NONE_OUT), ("tun00", NONE_OUT),
    ("t*", TUNNEL_ONLY), ("tun0*", TUNNEL_ONLY), ("x*", NONE_OUT)])
def test_tunnel_name(lab, guard, veth_tunnel, name, expected):
    """S4: the exact name, or a prefix where the entry ends in a star."""
    guard.enable(tunnel=name)
    assert paths(lab, PUBLIC_PROBES, veth_tunnel) == expected


def test_up_ties_to_its_tunnel(lab, guard, veth_tunnel):
    """What up brings is approved through that tunnel and nowhere else, and
    not any more after down."""
    guard.enable(mode="both", tunnel="other0")
    guard.up(veth_tunnel.link, *INSIDE)
    assert paths(lab, INSIDE_PROBES, veth_tunnel) == TUNNEL_ONLY
    assert paths(lab, PUBLIC_PROBES, veth_tunnel) == NONE_OUT
    guard.down(veth_tunnel.link)
    assert paths(lab, INSIDE_PROBES, veth_tunnel) == NONE_OUT


def test_state(lab, guard, make_tunnel):
    """OFF, LOCKED, GUARDED as status names them."""
    tunnel = make_tunnel("veth")
    assert guard.state == "OFF"
    guard.enable(tunnel=tunnel.link)
    assert guard.state == "LOCKED"
    tunnel.up()
    assert guard.state == "GUARDED"
    tunnel.down()
    assert guard.state == "LOCKED"
    guard.disable()
    assert guard.state == "OFF"
    assert not guard.listing()
