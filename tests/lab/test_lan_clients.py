"""Clients behind a router: bridged LAN, guests' network, delegated IPv6.

Each asks hard-coded addresses by UDP and TCP on 53 and 853, as a phone with
its own ideas does. S3 to S7 hold for them as for the router.
"""

import pytest

import clients
import labnet
from guests import NONE, WAYS, ask
from lan_router import BRIDGES, Router, own_resolver

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
PROVIDER = labnet.RESOLVERS["provider"]
INSIDE = labnet.RESOLVERS["inside"]

everyone = pytest.mark.parametrize("name", ["phone", "shelf", "visitor"])


@pytest.fixture(scope="module")
def router(lab):
    made = Router(lab)
    yield made
    made.close()


@everyone
def test_blocked(lab, guard, router, name):
    client = getattr(router, name)
    assert ask(lab, client, PUBLIC, due=WAYS) == (WAYS, WAYS)
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert ask(lab, client, PUBLIC) == (NONE, NONE)
    assert ask(lab, client, APPROVED, due=WAYS) == (WAYS, WAYS)
    guard.enable(tunnel="tun0", frames="off")
    assert ask(lab, client, PUBLIC) == (NONE, NONE)
    guard.disable()
    assert ask(lab, client, PUBLIC, due=WAYS) == (WAYS, WAYS)


@everyone
def test_rejected(lab, guard, router, name):
    """The client's programs know at once, and nothing gets out."""
    client = getattr(router, name)
    guard.enable(tunnel="tun0", action="reject")
    for address in PUBLIC:
        for options in (["+tcp"], ["+notcp"]):
            asked = clients.dig(client, address, *options)
            assert "timed out" not in asked.result.stdout, asked.result
    assert ask(lab, client, PUBLIC) == (NONE, NONE)


@pytest.mark.parametrize("name", ["phone", "visitor"])
def test_tunnel(lab, guard, router, make_tunnel, name):
    """Into it, and nowhere when it ends: also in IPv6, whose packets leave by
    the wire as they are, with an address that the provider delegated."""
    client = getattr(router, name)
    tunnel = make_tunnel("veth").up()
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    with tunnel.capture() as outside:
        outside.far = INSIDE  # where what follows the queries goes
        assert ask(lab, client, INSIDE, due=WAYS,
                   outside=outside) == (WAYS, WAYS)
    assert ask(lab, client, INSIDE, due=WAYS) == (NONE, WAYS)
    tunnel.down()
    assert ask(lab, client, INSIDE) == (NONE, NONE)
    guard.disable()
    seen, _ = ask(lab, client, INSIDE, due=WAYS)
    assert seen == WAYS  # the provider would have had them


def test_pause(lab, guard, router):
    guard.enable(tunnel="tun0")
    guard.pause("60s")
    assert ask(lab, router.phone, PUBLIC, due=WAYS) == (WAYS, WAYS)
    guard.resume()
    assert ask(lab, router.phone, PUBLIC) == (NONE, NONE)


@pytest.mark.parametrize("program", ["dig", "dig +tcp", "dig +tls", "kdig +tls"])
def test_programs(lab, guard, router, program):
    """A phone's own DNS over TLS, and DNS over TCP."""
    for address in PUBLIC:
        with lab.watch(router.phone) as seen:
            asked = clients.run_program(router.phone, program, address)
        assert asked.answer == "public" and seen.name_traffic()
        guard.enable(tunnel="tun0")
        with lab.watch(router.phone) as seen:
            asked = clients.run_program(router.phone, program, address)
        assert asked.answer is None and not seen.name_traffic()
        guard.disable()


def test_own_resolver(lab, guard, router):
    """The router's own dnsmasq answers its clients by queries of its own, and
    these are guarded as output."""
    listen = BRIDGES["br-lan"]
    for servers, tag in ((PROVIDER, "provider"), (APPROVED, "approved")):
        with own_resolver(lab, listen, servers):
            for address in listen:
                with lab.watch(router.phone) as seen:
                    asked = clients.dig(router.phone, address, "+short")
                assert asked.answer == tag and seen.name_traffic(asked.label)
            guard.enable(tunnel="tun0", resolver=[*APPROVED])
            for address in listen:
                with lab.watch(router.phone) as seen:
                    asked = clients.dig(router.phone, address, "+short")
                if tag == "approved":
                    assert asked.answer == tag
                    assert {packet.dst for packet in seen.name_traffic()
                            } <= set(APPROVED)
                else:
                    assert asked.answer is None
                    assert not seen.name_traffic()
            guard.disable()


def test_own_resolver_through_tunnel(lab, guard, router, make_tunnel):
    """Its upstream is the VPN's; when the tunnel ends, its queries do."""
    tunnel = make_tunnel("veth").up()
    listen = BRIDGES["br-lan"]
    guard.enable(tunnel=tunnel.link)
    with own_resolver(lab, listen, INSIDE):
        with lab.watch(router.phone) as seen:
            asked = clients.dig(router.phone, listen.v4, "+short")
        assert asked.answer == "inside" and not seen.name_traffic()
        tunnel.down()
        with lab.watch(router.phone) as seen:
            asked = clients.dig(router.phone, listen.v4, "+short")
        assert asked.answer is None and not seen.name_traffic()
        guard.disable()
        asked = clients.dig(router.phone, listen.v4, "+short")
        assert asked.answer == "forged"  # who would have answered
