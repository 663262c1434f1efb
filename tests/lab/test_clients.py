"""Clients of all sorts: seen without the guard, not seen with it."""

import itertools

import pytest

import labnet
from clients import CRAFTED, PROGRAMS, dig_big, run_program, send_crafted

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
FRAGMENT_WAYS = ("auto", "defrag", "conntrack", "drop")


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


def _by_family(addresses, family):
    return addresses.v4 if family == 4 else addresses.v6


def _cases(only_fragments=False):
    for name, sender in CRAFTED.items():
        if only_fragments and not sender.is_fragment:
            continue
        yield from itertools.product(
            [name], sender.origins, sender.families)


def _what_got_out(lab, send):
    with lab.watch() as seen:
        send()
    return seen.name_traffic()


def _descriptions(found):
    return "got out: " + "; ".join(map(str, found))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(lab, guard, program, family):
    public, approved = (_by_family(resolver, family)
                        for resolver in (PUBLIC, APPROVED))
    assert run_program(lab.host, program, public).answer == "public"
    guard.enable(resolver=[*APPROVED])
    asked = []
    found = _what_got_out(lab, lambda: asked.append(
        run_program(lab.host, program, public)))
    assert not found, _descriptions(found)
    assert asked[0].answer is None
    assert run_program(lab.host, program, approved).answer == "approved"


@pytest.mark.parametrize("name, origin, family", _cases())
def test_crafted(lab, guard, name, origin, family):
    """Without tunnel, along the routing table."""
    namespace, address = getattr(lab, origin), _by_family(PUBLIC, family)
    assert _what_got_out(
        lab, lambda: send_crafted(name, namespace, address)), "the control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    found = _what_got_out(lab, lambda: send_crafted(name, namespace, address))
    assert not found, _descriptions(found)


@pytest.mark.parametrize("name, family", [
    (name, family) for name, origin, family in _cases() if origin == "host"])
def test_crafted_past_the_tunnel(lab, guard, veth_tunnel, name, family):
    """A tunnel is up, and the socket is bound to the physical link."""
    address = _by_family(PUBLIC, family)

    def send():
        send_crafted(name, lab.host, address, "wan0")

    assert _what_got_out(lab, send), "the control"
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED])
    found = _what_got_out(lab, send)
    assert not found, _descriptions(found)


@pytest.mark.parametrize("masquerade", [True, False], indirect=True)
@pytest.mark.parametrize("way", FRAGMENT_WAYS)
def test_fragments(lab, guard, way, masquerade):
    """S9, each way of dealing with them, with and without conntrack."""
    del masquerade
    guard.enable(tunnel="tun0", resolver=[*APPROVED], fragments=way)
    for name, origin, family in _cases(only_fragments=True):
        namespace, address = getattr(lab, origin), _by_family(PUBLIC, family)
        with lab.watch() as seen:
            send_crafted(name, namespace, address)
        found = seen.name_traffic()
        assert not found, f"{name}, {origin}: {_descriptions(found)}"


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("origin", ["host", "lan"])
def test_large_answer(lab, guard, origin, family):
    """An answer in fragments from the approved resolver still arrives."""
    namespace, address = getattr(lab, origin), _by_family(APPROVED, family)
    plain = dig_big(namespace, address).result.stdout
    assert len(plain) > 2000
    guard.enable(resolver=[*APPROVED])
    assert len(dig_big(namespace, address).result.stdout) == len(plain)
