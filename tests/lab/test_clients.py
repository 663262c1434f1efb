"""Clients of all sorts: seen without the guard, not seen with it."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

import labnet
from clients import CRAFTED, PROGRAMS, run_program, send_crafted

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]


@pytest.fixture(scope="module")
def lab():
    """Without masquerading: conntrack would reassemble every fragment before
    the guard sees it, and hold back those that are not complete."""
    with labnet.Lab(masquerade=False) as made:
        yield made


def _by_family(addresses, family):
    return addresses.v4 if family == 4 else addresses.v6


# What gets out although it should not; strict, so that a repair is noticed.
DEFECTS = {
    "authentication header": "nf_tables takes IPv6's AH for the transport "
                             "protocol: the port behind it is not looked at",
}


def _cases():
    for name, sender in CRAFTED.items():
        marks = [pytest.mark.xfail(strict=True, reason=DEFECTS[name])] \
            if name in DEFECTS else []
        for origin, family in itertools.product(sender.origins,
                                                sender.families):
            yield pytest.param(name, origin, family, marks=marks)


def _what_got_out(lab, send):
    with lab.watch() as seen:
        send()
    return seen.name_traffic()


def _descriptions(found):
    return "got out: " + "; ".join(map(str, found))


@pytest.fixture
def public_is_near(lab):
    """The resolver has a route of its own, past any tunnel."""
    routes = [f"{address} via {gateway}"
              for address, gateway in zip(PUBLIC, labnet.GATEWAY)]
    lab.host.ip(*(f"route add {route}" for route in routes))
    yield
    lab.host.ip(*(f"route del {route}" for route in routes))


def ask_both(lab, program, addresses=PUBLIC):
    """IPv4 and IPv6 at once; what they were told, and what was seen."""
    with lab.watch(lab.host) as seen, ThreadPoolExecutor(2) as threads:
        asked = list(threads.map(
            lambda address: run_program(lab.host, program, address),
            addresses))
    return [one.answer for one in asked], seen.name_traffic()


@pytest.mark.usefixtures("public_is_near")
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(lab, guard, make_tunnel, program):
    """Before the tunnel, beside it and after it."""
    tunnel = make_tunnel("veth")
    answers, found = ask_both(lab, program)
    assert answers == ["public"] * 2
    assert {packet.dst for packet in found} == set(PUBLIC), "the control"
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    for change in (lambda: None, tunnel.up, tunnel.down):
        change()
        answers, found = ask_both(lab, program)
        assert not found, _descriptions(found)
        assert answers == [None] * 2
    assert ask_both(lab, program, APPROVED)[0] == ["approved"] * 2


@pytest.mark.parametrize("program", sorted(
    name for name in PROGRAMS if " -b" not in name))
def test_program_through_the_tunnel(lab, guard, veth_tunnel, program):
    """Where its route leads into the tunnel, the program gets its answer."""
    guard.enable(tunnel=veth_tunnel.link)
    answers, found = ask_both(lab, program)
    assert not found, _descriptions(found)
    assert answers == ["public"] * 2


@pytest.mark.parametrize("name, origin, family", _cases())
def test_crafted(lab, guard, name, origin, family):
    """Without tunnel, along the routing table."""
    namespace, address = getattr(lab, origin), _by_family(PUBLIC, family)
    assert _what_got_out(
        lab, lambda: send_crafted(name, namespace, address)), "the control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    found = _what_got_out(lab, lambda: send_crafted(name, namespace, address))
    assert not found, _descriptions(found)


@pytest.fixture
def lan_past_the_tunnel(lab):
    """The LAN client's packets are routed to the WAN whatever the tunnel."""
    v4, v6 = (f"rule add from {address} lookup {labnet.WAN_TABLE}"
              for address in labnet.LAN_CLIENT)
    lab.host.ip(v4)
    lab.host.ip6(v6)
    yield
    lab.host.ip(v4.replace("add", "del"))
    lab.host.ip6(v6.replace("add", "del"))


@pytest.mark.usefixtures("lan_past_the_tunnel")
@pytest.mark.parametrize("name, origin, family", _cases())
def test_crafted_past_the_tunnel(lab, guard, veth_tunnel, name, origin,
                                 family):
    """A tunnel is up; sockets of the host are bound to the physical link."""
    namespace, address = getattr(lab, origin), _by_family(PUBLIC, family)
    link = "wan0" if origin == "host" else None

    def send():
        send_crafted(name, namespace, address, link)

    assert _what_got_out(lab, send), "the control"
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED])
    found = _what_got_out(lab, send)
    assert not found, _descriptions(found)
    veth_tunnel.down()
    found = _what_got_out(lab, send)
    assert not found, _descriptions(found)
