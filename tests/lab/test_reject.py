"""action = reject: who is told, how soon, and who must not be."""

import errno
import socket
import time

import pytest

import labnet
from clients import run_program
from lookups import look_up, resolv_conf
from probes import Probe, fire, make_query, new_label

PUBLIC = labnet.RESOLVERS["public"]
PROVIDER = labnet.RESOLVERS["provider"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
AT_ONCE_S = 0.9  # less than any program's first timeout
TOLD = {errno.ECONNREFUSED, errno.EPERM, errno.EACCES, errno.EHOSTUNREACH,
        errno.ENETUNREACH, errno.ECONNRESET}
TCP_RESET = 4
# (type, code): destination unreachable, administratively prohibited
ICMP_PROHIBITED, ICMPV6_PROHIBITED = (3, 13), (1, 1)
MARK = 0x88

# Sends what was for the WAN into the tunnel.
MARK_INTO_TUNNEL = f"""
table inet foreign {{
    chain output {{
        type route hook output priority mangle
        meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} meta mark set {MARK}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "tun0" masquerade
    }}
}}
"""
# As VPN clients do it: whatever resolver was asked, the VPN's answers.
DNAT_INTO_TUNNEL = """
table inet foreign {{
    chain output {{
        type nat hook output priority -100
        meta nfproto ipv4 th dport 53 dnat ip to {v4}
        meta nfproto ipv6 th dport 53 dnat ip6 to {v6}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "tun0" masquerade
    }}
}}
""".format(v4=INSIDE.v4, v6=INSIDE.v6)


@pytest.fixture
def foreign(lab):
    """foreign(ruleset): somebody else's table on the host."""
    yield lab.host.nft
    lab.host.run(["nft", "delete", "table", "inet", "foreign"], check=False)


@pytest.fixture
def mark_route(lab):
    """A marked packet is routed into the tunnel (up already)."""
    rule = f"fwmark {MARK} lookup {MARK}"
    lab.host.ip(f"rule add {rule}",
                f"route add default via {labnet.TUNNEL_FAR.v4} table {MARK}")
    lab.host.ip6(f"rule add {rule}",
                 f"route add default via {labnet.TUNNEL_FAR.v6} table {MARK}")
    yield
    lab.host.ip(f"rule del {rule}")
    lab.host.ip6(f"rule del {rule}")


def query(namespace, address, kind, port=53, timeout=5):
    """(errno of a query from a connected socket, seconds it took).

    0 for an answer, None for silence. By TCP it lacks its length, and so is
    never answered.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.inside():
        sock = socket.socket(family, kind)
    with sock:
        sock.settimeout(timeout)
        started = time.monotonic()
        try:
            sock.connect((address, port))
            sock.send(make_query(new_label()))
            sock.recv(4096)
        except TimeoutError:
            return None, time.monotonic() - started
        except OSError as error:
            return error.errno, time.monotonic() - started
    return 0, time.monotonic() - started


@pytest.mark.parametrize("port", [53, 853])
@pytest.mark.parametrize("origin", ["host", "lan"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_error_at_once(lab, guard, kind, origin, port):
    namespace = getattr(lab, origin)
    with lab.watch() as seen:
        for address in PUBLIC:
            query(namespace, address, kind, port, timeout=0.2)
    assert {p.dst for p in seen.name_traffic()} == set(PUBLIC), "the control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED], action="reject")
    with lab.watch() as seen:
        for address in PUBLIC:
            code, took = query(namespace, address, kind, port)
            expected = ({errno.ECONNREFUSED} if kind == socket.SOCK_STREAM
                        else TOLD)
            assert code in expected, errno.errorcode.get(code, code)
            assert took < AT_ONCE_S
    assert not seen.name_traffic()


def test_programs_give_up_at_once(lab, guard):
    """As a user meets it: an error where "drop" would be a long wait."""
    lab.host.set_resolv_conf(resolv_conf(*PROVIDER, options="timeout:5"))
    try:
        with lab.watch(lab.host) as seen:
            assert look_up(lab, "getent").answer == "provider"
        assert seen.name_traffic(), "the control"
        guard.enable(resolver=[*APPROVED], action="reject")
        for ask in (lambda: look_up(lab, "getent"),
                    lambda: run_program(lab.host, "dig +tcp", PUBLIC.v6),
                    lambda: run_program(lab.host, "kdig +tls", PUBLIC.v4)):
            started = time.monotonic()
            with lab.watch(lab.host) as seen:
                asked = ask()
            assert asked.answer is None
            assert time.monotonic() - started < 2 * AT_ONCE_S, asked
            assert not seen.name_traffic()
    finally:
        lab.host.set_resolv_conf("")


def answers_on_the_lan(lab, send):
    """(resets, ICMP (type, code)s) that the LAN client's link brought in."""
    with labnet.Capture(lab.lan, "eth0", everything=True) as capture:
        send()  # returns when it was told, or not in time
        capture.collect()
    resets = {p.src for p in capture.packets
              if p.proto == socket.IPPROTO_TCP and p.payload[13] & TCP_RESET}
    icmp = {(p.payload[0], p.payload[1]) for p in capture.packets
            if p.proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)}
    return resets, icmp


@pytest.mark.parametrize("address, prohibited", [
    (PUBLIC.v4, ICMP_PROHIBITED), (PUBLIC.v6, ICMPV6_PROHIBITED)])
def test_what_the_lan_is_told(lab, guard, address, prohibited):
    """TCP: a reset in the resolver's name. UDP: ICMP or ICMPv6."""
    def send_tcp():
        query(lab.lan, address, socket.SOCK_STREAM, timeout=0.5)

    def send_udp():
        query(lab.lan, address, socket.SOCK_DGRAM, timeout=0.5)

    with lab.watch() as seen:
        send_tcp()
        send_udp()
    assert {p.proto for p in seen.name_traffic()} == {
        socket.IPPROTO_TCP, socket.IPPROTO_UDP}, "the control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED], action="reject")
    with lab.watch() as seen:
        resets, _ = answers_on_the_lan(lab, send_tcp)
        _, icmp = answers_on_the_lan(lab, send_udp)
    assert not seen.name_traffic()
    assert resets == {address}
    assert prohibited in icmp


def test_what_is_allowed_is_not_refused(lab, guard, veth_tunnel):
    """Through the tunnel, to the approved resolver, to other ports."""
    probes = [Probe(origin, "routed", family, port, proto, target)
              for origin in ("host", "lan") for family in (4, 6)
              for port in (53, 853) for proto in ("udp", "tcp")
              for target in ("public", "approved", "inside")]
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED],
                 action="reject")
    volley = fire(lab, probes, veth_tunnel,
                  lambda p: (p.proto, p.port) != ("udp", 853))
    for outcome in volley:
        is_approved = outcome.probe.target == "approved"
        assert outcome.seen == is_approved, str(outcome)
        assert outcome.tunnelled != is_approved, str(outcome)
    for namespace in (lab.host, lab.lan):
        for address in labnet.GATEWAY:
            for port in (52, 443, 852):
                assert labnet.can_reach(namespace, address, port=port,
                                        timeout=2)
    assert guard.status()["counters"]["S7"]["packets"] == 0


def gateway_probes(ports=(53, 853)):
    """To the gateway: on-link, so not drawn into the tunnel by routes."""
    return [Probe("host", "routed", family, port, proto, "gateway")
            for family in (4, 6) for port in ports
            for proto in ("udp", "tcp")]


def paths(lab, probes, tunnel):
    volley = fire(lab, probes, tunnel,
                  lambda p: (p.proto, p.port) != ("udp", 853))
    return {"wan" if o.seen else "tunnel" if o.tunnelled else str(o)
            for o in volley}


@pytest.mark.usefixtures("veth_tunnel", "mark_route")
def test_marked_into_the_tunnel(lab, guard, veth_tunnel, foreign):
    """The output hook still names the WAN; the packet goes into the tunnel."""
    assert paths(lab, gateway_probes(), veth_tunnel) == {"wan"}
    guard.enable(tunnel=veth_tunnel.link, action="reject")
    volley = fire(lab, gateway_probes(), veth_tunnel)
    assert not any(o.seen or o.tunnelled for o in volley)
    foreign(MARK_INTO_TUNNEL)
    assert paths(lab, gateway_probes(), veth_tunnel) == {"tunnel"}
    veth_tunnel.down()
    volley = fire(lab, gateway_probes())
    assert not any(o.seen for o in volley)


@pytest.mark.parametrize("approve", [
    lambda guard: guard.up("tun0", *INSIDE),
    lambda guard: guard.enable(tunnel="tun0", action="reject",
                               resolver=[f"{a} via tunnel" for a in INSIDE]),
    lambda guard: guard.enable(tunnel="tun0", action="reject",
                               resolver=[*INSIDE]),
    lambda guard: guard.enable(tunnel="tun0", action="reject", mode="both",
                               resolver=[*INSIDE]),
], ids=["up", "via tunnel", "pinned", "mode both"])
def test_dnat_to_the_resolver_inside(lab, guard, veth_tunnel, foreign,
                                     approve):
    """Asked the gateway, sent to the VPN's resolver: by its last address and
    device it is allowed (S8), and so must not be refused before."""
    probes = gateway_probes(ports=(53,))
    assert paths(lab, probes, veth_tunnel) == {"wan"}
    guard.enable(tunnel=veth_tunnel.link, action="reject")
    volley = fire(lab, probes, veth_tunnel)
    assert not any(o.seen or o.tunnelled for o in volley)
    approve(guard)
    foreign(DNAT_INTO_TUNNEL)
    assert paths(lab, probes, veth_tunnel) == {"tunnel"}
    veth_tunnel.down()
    volley = fire(lab, probes)
    assert not any(o.seen for o in volley)


@pytest.mark.xfail(strict=True, reason="S4: refuse_output goes by the device "
                   "of the first route, and lets undecided what mark or "
                   "approval may change, but not a foreign DNAT")
def test_dnat_into_the_tunnel(lab, guard, veth_tunnel, foreign):
    """The same to an address that nothing but its route approves (S4)."""
    probes = gateway_probes(ports=(53,))
    guard.enable(tunnel=veth_tunnel.link, action="reject")
    foreign(DNAT_INTO_TUNNEL)
    assert paths(lab, probes, veth_tunnel) == {"tunnel"}
    veth_tunnel.down()
    volley = fire(lab, probes)
    assert not any(o.seen for o in volley)
    guard.disable()
    assert paths(lab, probes, None) == {"wan"}
