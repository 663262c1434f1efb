"""Working systems stay working: stub resolvers, a router, containers, DHCP.

Each forwards or receives queries for others. To an approved resolver they
pass, to any other the provider sees nothing: with the guard off it did.
"""

import signal

import pytest

import labnet
import systems
from clients import dig
from lookups import look_up, resolv_conf
from resolvers import SlowResolver

PUBLIC = labnet.RESOLVERS["public"]
PROVIDER = labnet.RESOLVERS["provider"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]


def ask(lab, namespace, address):
    """(who answered, name traffic seen while asking)"""
    with lab.watch() as seen:
        asked = dig(namespace, address, "+short")
    return asked.answer, seen.name_traffic(asked.label)


def require_seen(lab, namespace, address, answer):
    """The control."""
    got, packets = ask(lab, namespace, address)
    assert got == answer and packets


def require_hidden(lab, namespace, address, answer=None):
    got, packets = ask(lab, namespace, address)
    assert not packets, "got out: " + "; ".join(map(str, packets))
    assert got == answer


def require_approved(lab, namespace, address):
    """Answered, and seen on the way to the approved resolver only."""
    got, packets = ask(lab, namespace, address)
    assert got == "approved"
    assert {packet.dst for packet in packets} <= set(APPROVED)


# --- stub resolvers ---------------------------------------------------------

@pytest.fixture(params=[
    pytest.param("systemd-resolved", marks=pytest.mark.root), "dnsmasq"])
def stub(lab, request):
    """stub(lab, servers): what listens on 127.0.0.53."""
    if request.param == "systemd-resolved" and not systems.find_resolved():
        pytest.skip("no systemd-resolved under build/tools")
    lab.host.set_resolv_conf(resolv_conf(systems.STUB))
    yield (systems.resolved_stub if request.param == "systemd-resolved"
           else systems.dnsmasq_stub)
    lab.host.set_resolv_conf("")


@pytest.mark.parametrize("family", [4, 6])
def test_stub_of_the_provider(lab, guard, make_tunnel, stub, family):
    """The stub was left at the provider's resolver."""
    tunnel = make_tunnel("veth")
    with stub(lab, [PROVIDER[family == 6]]):
        require_seen(lab, lab.host, systems.STUB, "provider")
        guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
        require_hidden(lab, lab.host, systems.STUB)
        tunnel.up()
        require_hidden(lab, lab.host, systems.STUB, "provider")
        tunnel.down()
        require_hidden(lab, lab.host, systems.STUB)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("action", ["drop", "reject"])
def test_stub_of_the_approved(lab, guard, stub, family, action):
    with stub(lab, [APPROVED[family == 6]]):
        guard.enable(tunnel="tun0", resolver=[*APPROVED], action=action)
        require_approved(lab, lab.host, systems.STUB)
        assert look_up(lab, "getent").answer == "approved"
        codes = [w["code"] for w in guard.status()["warnings"]]
        assert "resolv-conf" not in codes, "the stub is the host itself"


def test_stub_of_the_tunnel(lab, guard, veth_tunnel, stub):
    """As a VPN's client sets it up: the resolver inside, tied by `up`."""
    with stub(lab, [INSIDE.v4]):
        guard.enable(tunnel=veth_tunnel.link, mode="both")
        guard.up(veth_tunnel.link, *INSIDE)
        require_hidden(lab, lab.host, systems.STUB, "inside")
        veth_tunnel.down()
        guard.down(veth_tunnel.link)
        require_hidden(lab, lab.host, systems.STUB)
        guard.disable()
        require_seen(lab, lab.host, systems.STUB, "forged")


@pytest.mark.root
@pytest.mark.skipif(not systems.find_resolved(), reason="no systemd-resolved")
def test_resolved_by_tls(lab, guard):
    """DNS over TLS where the server has it: port 853 is guarded alike."""
    def with_tls(server):
        return systems.resolved(lab, [server], "DNSOverTLS=opportunistic")

    def seen_ports(answer):
        with lab.watch(lab.host) as seen:
            assert dig(lab.host, systems.STUB, "+short",
                       "+time=5").answer == answer
        return {packet.dport for packet in seen.name_traffic()}

    with with_tls(PUBLIC.v4):
        assert seen_ports("public") == {853}, "the control"
        guard.enable(resolver=[*APPROVED])
        assert seen_ports(None) == set()
    with with_tls(APPROVED.v4):
        assert seen_ports("approved") == {853}


# --- the router's own server ------------------------------------------------

@pytest.mark.parametrize("listen", labnet.HOST_LAN)
def test_router_serves_its_lan(lab, guard, listen):
    """dnsmasq on the router's LAN address."""
    with systems.dnsmasq_forwarder(lab, lab.host, [listen], [PUBLIC.v4]):
        require_seen(lab, lab.lan, listen, "public")
        guard.enable(tunnel="tun0", resolver=[*APPROVED])
        require_hidden(lab, lab.lan, listen)
    with systems.dnsmasq_forwarder(lab, lab.host, [listen], APPROVED):
        require_approved(lab, lab.lan, listen)
        require_approved(lab, lab.host, listen)
    guard.enable(tunnel="tun0", resolver=[*APPROVED], action="reject")
    with systems.dnsmasq_forwarder(lab, lab.host, [listen], APPROVED):
        require_approved(lab, lab.lan, listen)


def test_router_serves_its_lan_through_the_tunnel(lab, guard, veth_tunnel):
    listen = labnet.HOST_LAN.v4
    with systems.dnsmasq_forwarder(lab, lab.host, [listen], INSIDE):
        guard.enable(tunnel=veth_tunnel.link)
        require_hidden(lab, lab.lan, listen, "inside")
        veth_tunnel.down()
        require_hidden(lab, lab.lan, listen)
        guard.disable()
        require_seen(lab, lab.lan, listen, "forged")


@pytest.mark.parametrize("address", labnet.HOST_WAN)
def test_public_server_on_the_host(lab, guard, address):
    """The host serves names itself: answers have another port."""
    guard.enable(tunnel="tun0")
    server = SlowResolver(lab.host, address, 0, tag="stub")
    try:
        assert dig(lab.isp, address, "+short").answer == "stub"
    finally:
        server.stop()


# --- containers -------------------------------------------------------------

@pytest.fixture
def box(lab):
    made = systems.Box(lab)
    yield made.namespace
    made.close()


@pytest.mark.parametrize("action", ["drop", "reject"])
@pytest.mark.parametrize("family", [4, 6])
def test_container(lab, guard, make_tunnel, box, family, action):
    """Forwarded and masqueraded, as container engines do."""
    tunnel = make_tunnel("veth")
    public, approved = PUBLIC[family == 6], APPROVED[family == 6]
    require_seen(lab, box, public, "public")
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED], action=action)
    require_hidden(lab, box, public)
    require_approved(lab, box, approved)
    tunnel.up()
    require_hidden(lab, box, public, "public")
    require_approved(lab, box, approved)
    tunnel.down()
    require_hidden(lab, box, public)


def test_container_asks_the_host(lab, guard, box):
    """An engine's embedded server on the bridge's address."""
    listen = systems.BOX_GATEWAY.v4
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    with systems.dnsmasq_forwarder(lab, lab.host, [listen], APPROVED):
        require_approved(lab, box, listen)


# --- DHCP -------------------------------------------------------------------

@pytest.fixture
def dhcp_server(lab):
    """The provider's, which hands out its own resolver."""
    with systems.dnsmasq(
            lab, lab.isp, "--port=0", "--interface=cust0",
            "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--no-ping",
            "--dhcp-authoritative", f"--dhcp-leasefile={lab.dir}/leases",
            f"--dhcp-option=option:dns-server,{PROVIDER.v4}",
            "--dhcp-option=option:router"):
        yield


@pytest.mark.usefixtures("dhcp_server")
@pytest.mark.parametrize("action", ["drop", "reject"])
def test_dhcp(lab, guard, action):
    """A lease is got and renewed; what it says of name servers is told by
    status, and its resolver stays closed."""
    guard.enable(tunnel="tun0", resolver=[*APPROVED], action=action)
    client = systems.DhcpClient(lab)
    try:
        _, address, name_servers = client.wait_for("bound")
        assert address.startswith("192.0.2.1")
        assert name_servers == [PROVIDER.v4]
        client.process.send_signal(signal.SIGUSR1)  # renew, by unicast
        assert client.wait_for("renew")[1] == address
        lab.host.set_resolv_conf(resolv_conf(*name_servers))
        codes = [w["code"] for w in guard.status()["warnings"]]
        assert "resolv-conf" in codes
        require_hidden(lab, lab.host, PROVIDER.v4)
        guard.disable()
        require_seen(lab, lab.host, PROVIDER.v4, "provider")
    finally:
        client.stop()
        lab.host.set_resolv_conf("")
