"""Programs that look names up for their own use, and the classic leak.

The classic leak: resolv.conf names the VPN's resolver first and the provider's
second; the first is slow, so the program turns to the second.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

import labnet
from lookups import (BY_OWN_SERVER, BY_RESOLV_CONF, look_up, look_up_at,
                     resolv_conf)
from resolvers import SlowResolver

PROVIDER = labnet.RESOLVERS["provider"]
PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
# Longer than a program waits for its first server, by "timeout:1".
SLOW_S = 1.5
# These name the server that they ask: all of resolv.conf is not for them.
FIRST_SERVER_ONLY = {"busybox nslookup"}


@pytest.fixture(autouse=True)
def resolv_conf_is_empty_afterwards(lab):
    yield
    lab.host.set_resolv_conf("")


@pytest.fixture
def provider_is_near(lab):
    """As after DHCP: the provider's resolver has a route of its own, past
    any tunnel."""
    routes = [f"{PROVIDER.v4} via {labnet.GATEWAY.v4}",
              f"{PROVIDER.v6} via {labnet.GATEWAY.v6}"]
    lab.host.ip(*(f"route add {route}" for route in routes))
    yield
    lab.host.ip(*(f"route del {route}" for route in routes))


@pytest.fixture
def slow(lab, veth_tunnel):
    """The VPN's resolver takes longer than programs want to wait."""
    assert veth_tunnel.exists()  # brought the address
    resolver = SlowResolver(lab.vpn, labnet.TUNNEL_FAR.v4, SLOW_S)
    yield labnet.TUNNEL_FAR.v4
    resolver.stop()


def got_out(lab, ask):
    """What ask() returned, and what left in clear while it ran."""
    with lab.watch(lab.host) as seen:
        asked = ask()
    return asked, seen.name_traffic()


def require_seen(lab, ask, answers):
    """The control: the query is seen, and answered by one of `answers`."""
    asked, packets = got_out(lab, ask)
    assert [p for p in packets if asked.label.encode() in p.payload], asked
    assert asked.answer in answers, asked


def require_hidden(lab, ask, *answers):
    """Nothing is seen; `answers` are those that may come all the same."""
    asked, packets = got_out(lab, ask)
    assert not packets, "got out: " + "; ".join(map(str, packets))
    assert asked.answer in answers, asked


@pytest.mark.usefixtures("provider_is_near")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("program", BY_RESOLV_CONF)
def test_resolv_conf_of_the_provider(lab, guard, make_tunnel, program, family):
    """The VPN's client did not touch resolv.conf at all."""
    tunnel = make_tunnel("veth")
    lab.host.set_resolv_conf(resolv_conf(PROVIDER[family == 6]))

    def ask():
        return look_up(lab, program)

    require_seen(lab, ask, ["provider"])
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    require_hidden(lab, ask, None)
    tunnel.up()
    require_hidden(lab, ask, None)
    tunnel.down()
    require_hidden(lab, ask, None)
    lab.host.set_resolv_conf(resolv_conf(APPROVED[family == 6]))
    assert ask().answer == "approved"


@pytest.mark.usefixtures("provider_is_near")
@pytest.mark.parametrize("program", sorted(
    BY_RESOLV_CONF.keys() - FIRST_SERVER_ONLY))
def test_slow_first_server(lab, guard, veth_tunnel, slow, program):
    """A slow VPN resolver must not bring the old one back."""
    lab.host.set_resolv_conf(resolv_conf(slow, PROVIDER.v4))

    def ask():
        return look_up(lab, program)

    require_seen(lab, ask, ["provider"])
    guard.enable(tunnel=veth_tunnel.link)
    guard.up(veth_tunnel.link, slow)
    require_hidden(lab, ask, "slow", None)
    veth_tunnel.down()
    require_hidden(lab, ask, None)
    guard.disable()
    _, packets = got_out(lab, ask)
    assert {p.dst for p in packets} == {slow, PROVIDER.v4}, "the control"


@pytest.mark.usefixtures("provider_is_near")
@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_slow_first_server_of_a_real_vpn(lab, guard, make_tunnel, kind):
    """Connected, killed while the program asks, and connected anew."""
    tunnel = make_tunnel(kind).up()
    server = SlowResolver(lab.vpn, labnet.TUNNEL_FAR.v4, SLOW_S)
    lab.host.set_resolv_conf(resolv_conf(labnet.TUNNEL_FAR.v4, PROVIDER.v4))

    def ask():
        return look_up(lab, "getent")

    def ask_while_killed():
        with ThreadPoolExecutor(1) as thread:
            asking = thread.submit(ask)
            tunnel.kill()
            return asking.result()

    try:
        require_seen(lab, ask, ["provider"])
        guard.enable(tunnel=tunnel.link)
        guard.up(tunnel.link, labnet.TUNNEL_FAR.v4)
        require_hidden(lab, ask, "slow", None)
        require_hidden(lab, ask_while_killed, None)
        require_hidden(lab, ask, None)
    finally:
        server.stop()
    tunnel.remake()
    server = SlowResolver(lab.vpn, labnet.TUNNEL_FAR.v4, 0)
    try:
        require_hidden(lab, ask, "slow")
    finally:
        server.stop()


@pytest.mark.usefixtures("provider_is_near")
def test_slow_first_server_gets_its_time(lab, guard, veth_tunnel, slow):
    """The answer is worth waiting for: the guard lets it through."""
    guard.enable(tunnel=veth_tunnel.link)
    guard.up(veth_tunnel.link, slow)
    lab.host.set_resolv_conf(resolv_conf(slow, PROVIDER.v4,
                                         options="timeout:4"))
    for program in ("getent", "musl, static"):
        require_hidden(lab, lambda p=program: look_up(lab, p), "slow")


@pytest.mark.usefixtures("provider_is_near")
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("program", BY_OWN_SERVER)
def test_built_in_server(lab, guard, make_tunnel, program, family):
    """resolv.conf is as it should be; the program does not care."""
    tunnel = make_tunnel("veth")
    lab.host.set_resolv_conf(resolv_conf(*APPROVED))
    server = PROVIDER[family == 6]

    def ask():
        return look_up_at(lab, program, server)

    require_seen(lab, ask, ["provider"])
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    require_hidden(lab, ask, None)
    tunnel.up()
    require_hidden(lab, ask, None)
    tunnel.down()
    require_hidden(lab, ask, None)
    assert look_up_at(lab, program, APPROVED[family == 6]).answer == "approved"


@pytest.mark.parametrize("program", BY_OWN_SERVER)
def test_built_in_server_through_the_tunnel(lab, guard, veth_tunnel, program):
    """Without a route past the tunnel the same query goes into it (S4)."""
    guard.enable(tunnel=veth_tunnel.link)
    for server in PUBLIC:
        require_hidden(lab, lambda s=server: look_up_at(lab, program, s),
                       "public")
