"""Routes that would draw a resolver outside, once it has been inside.

A DHCP server's classless route (option 121), a route advertisement, a dropped
tunnel: whatever moves the route, a pinned resolver is closed outside (S5).
"""

import pytest

import labnet
from probes import Probe, fire

INSIDE = labnet.RESOLVERS["inside"]
PORTS = (53, 853)


def probes(port=None):
    return [Probe(origin, "routed", family, p, proto, "inside")
            for origin in ("host", "lan") for family in (4, 6)
            for p in PORTS if port in (None, p)
            for proto in ("udp", "tcp")]


def paths(lab, which, tunnel=None):
    return {"wan" if o.seen else "tunnel" if o.tunnelled else None
            for o in fire(lab, which, tunnel)}


@pytest.fixture
def rogue_route(lab):
    """rogue_route(): host routes to the resolver inside, by the gateway."""
    routes = [f"{address} via {gateway} dev wan0 metric 1"
              for address, gateway in zip(INSIDE, labnet.GATEWAY)]
    added = []

    def add():
        lab.host.ip(*(f"route add {route}" for route in routes))
        added.extend(routes)

    yield add
    lab.host.ip(*(f"route del {route}" for route in added))


def resolvers(suffix):
    return [f"{INSIDE.v4}{suffix}", f"[{INSIDE.v6}]{suffix}" if "@" in suffix
            else f"{INSIDE.v6}{suffix}"]


# how the resolver is written -> where its queries may go with a rogue route
ENTRIES = {"": {None}, " via tunnel": {None}, " via any": {"wan"},
           " via tun0": {None}, " via wan0": {"wan"}}


@pytest.mark.parametrize("entry", ENTRIES)
def test_rogue_route(lab, guard, veth_tunnel, rogue_route, entry):
    guard.enable(tunnel=veth_tunnel.link, resolver=resolvers(entry))
    assert paths(lab, probes(), veth_tunnel) == {"tunnel"}
    rogue_route()
    assert paths(lab, probes(), veth_tunnel) == ENTRIES[entry]
    guard.reload()  # looks at the routes once more: a pin stays
    assert paths(lab, probes(), veth_tunnel) == ENTRIES[entry]
    veth_tunnel.kill()
    assert paths(lab, probes()) == ENTRIES[entry]
    guard.disable()
    assert paths(lab, probes()) == {"wan"}, "the control"


@pytest.mark.parametrize("entry", ENTRIES)
def test_route_inside_comes_late(lab, guard, make_tunnel, entry):
    """Raised without a tunnel: an entry without a path is open till then."""
    tunnel = make_tunnel("veth")
    before = {"wan"} if entry == "" else ENTRIES[entry]
    guard.enable(tunnel=tunnel.link, resolver=resolvers(entry))
    assert paths(lab, probes()) == before
    tunnel.up()
    guard.up(tunnel.link)  # looks at the routes
    assert paths(lab, probes(), tunnel) == {"tunnel"}
    tunnel.down()
    guard.down(tunnel.link)
    assert paths(lab, probes()) == ENTRIES[entry]
    guard.disable()
    assert paths(lab, probes()) == {"wan"}, "the control"


@pytest.mark.parametrize("port, other", [(53, 853), (853, 53)])
def test_port_and_pin(lab, guard, veth_tunnel, port, other):
    """ADDR@PORT: that port only, and only inside once it was there."""
    guard.enable(tunnel="tun9", resolver=resolvers(f"@{port}"))
    veth_tunnel.kill()
    assert paths(lab, probes(port)) == {"wan"}, "the control"
    assert paths(lab, probes(other)) == {None}
    veth_tunnel.remake()
    guard.up(veth_tunnel.link)
    veth_tunnel.kill()
    assert paths(lab, probes(port)) == {None}


def test_up_takes_its_resolvers_back(lab, guard, veth_tunnel, rogue_route):
    """What `up` brought is tied to its tunnel, and a second one's to its."""
    guard.enable(mode="both", tunnel="wg7")
    guard.up(veth_tunnel.link, *INSIDE)
    assert paths(lab, probes(), veth_tunnel) == {"tunnel"}
    guard.up("tun9", *INSIDE)
    guard.down(veth_tunnel.link)
    assert paths(lab, probes(), veth_tunnel) == {None}
    guard.up(veth_tunnel.link, *INSIDE)
    guard.down("tun9")
    assert paths(lab, probes(), veth_tunnel) == {"tunnel"}
    rogue_route()
    assert paths(lab, probes(), veth_tunnel) == {None}
    guard.disable()
    assert paths(lab, probes(), veth_tunnel) == {"wan"}, "the control"
