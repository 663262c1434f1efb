"""Other people's rules on the same host: rewriting and re-marking packets.

Each of these gets a query past a filter in the output chain. The guard judges
by the packet's last address and last device (S8), whatever happened before.
"""

import pytest

import labnet
from probes import Probe, fire

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
# Addresses of the host itself, as a local stub resolver's would be.
LOCAL_PUBLIC = labnet.Addresses("127.0.0.9", "fd99::9")
LOCAL_APPROVED = labnet.Addresses("127.0.0.10", "fd99::10")
OTHER_PORT = 5300

# A local address in front of a resolver outside; source rewritten as well, so
# that the answer finds back.
DNAT_LOCAL = """
table inet foreign {{
    chain output {{
        type nat hook output priority -100
        ip daddr 127.0.0.9 dnat ip to {public.v4}
        ip daddr 127.0.0.10 dnat ip to {approved.v4}
        ip6 daddr fd99::9 dnat ip6 to {public.v6}
        ip6 daddr fd99::10 dnat ip6 to {approved.v6}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname != "lo" ip saddr 127.0.0.0/8 masquerade
        oifname != "lo" ip6 saddr fd99::/64 masquerade
    }}
}}
""".format(public=PUBLIC, approved=APPROVED)

# Another port in front of 53, for local programs and for the LAN.
DNAT_PORT = f"""
table inet foreign {{
    chain output {{
        type nat hook output priority -100
        meta l4proto {{ tcp, udp }} th dport {OTHER_PORT} dnat to :53
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        meta l4proto {{ tcp, udp }} th dport {OTHER_PORT} dnat to :53
    }}
}}
"""

# Marked, and so routed again: out of the tunnel, onto the WAN. With the WAN's
# source address, or no answer would find back.
RE_MARK = """
table inet foreign {
    chain output {
        type route hook output priority mangle
        meta l4proto { tcp, udp } th dport { 53, 853 } meta mark set 0x77
    }
    chain prerouting {
        type filter hook prerouting priority mangle
        meta l4proto { tcp, udp } th dport { 53, 853 } meta mark set 0x77
    }
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "wan0" meta mark 0x77 masquerade
    }
}
"""

# Says yes at every hook, before the guard and after it.
ACCEPT_ALL = "table inet foreign {\n" + "".join(
    f"    chain {hook}{number} {{ type filter hook {hook} priority {priority}\n"
    "        accept\n    }\n"
    for hook in ("output", "forward", "postrouting")
    for number, priority in enumerate((-400, 400))) + "}\n"


@pytest.fixture
def foreign(lab):
    """foreign(ruleset): somebody else's table on the host."""
    yield lab.host.nft
    lab.host.run(["nft", "delete", "table", "inet", "foreign"], check=False)


@pytest.fixture
def local_addresses(lab):
    """Loopback addresses that may be rewritten to go elsewhere."""
    lab.host.sysctl(net__ipv4__conf__all__route_localnet=1)
    ours = [f"{both.v6}/128" for both in (LOCAL_PUBLIC, LOCAL_APPROVED)]
    lab.host.ip(*(f"address add {address} dev lo nodad" for address in ours))
    yield
    lab.host.ip(*(f"address del {address} dev lo" for address in ours))
    lab.host.sysctl(net__ipv4__conf__all__route_localnet=0)


@pytest.fixture
def mark_route(lab):
    """The policy route that a mark selects: past the tunnel."""
    rule = f"fwmark 0x77 lookup {labnet.WAN_TABLE}"
    lab.host.ip(f"rule add {rule}")
    lab.host.ip6(f"rule add {rule}")
    yield
    lab.host.ip(f"rule del {rule}")
    lab.host.ip6(f"rule del {rule}")


def probes_to(targets, origins=("host",), ports=(53,)):
    """To (v4, v6) pairs, or names of resolvers, by UDP and TCP."""
    return [Probe(origin, "routed", family, port, proto,
                  target if isinstance(target, str) else target[family == 6])
            for origin in origins for family in (4, 6)
            for proto in ("udp", "tcp") for port in ports
            for target in targets]


def all_seen(lab, probes, tunnel=None):
    """The control: every probe gets out, and is answered."""
    volley = fire(lab, probes, tunnel, lambda _: True)
    silent = [str(o) for o in volley if not o.seen or not o.answer]
    assert not silent, "control: " + "\n".join(silent)


def none_seen(lab, probes, tunnel=None):
    volley = fire(lab, probes, tunnel)
    got_out = [str(o) for o in volley if o.seen]
    got_out += [f"stray {packet}" for packet in volley.strays]
    assert not got_out, "got out: " + "\n".join(got_out)
    return volley


def walk(lab, guard, tunnel, probes, approved=()):
    """Control, then each guarded state, then the control again.

    `tunnel` is up already: what the foreign rules send to the WAN would have
    gone into it. `approved` probes must get through wherever the guard is.
    """
    all_seen(lab, [*probes, *approved], tunnel)
    tunnel.down()
    all_seen(lab, [*probes, *approved])
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    for enter in (lambda: None, tunnel.up, tunnel.kill, tunnel.remake):
        enter()
        none_seen(lab, probes)
        all_seen(lab, approved)
    guard.disable()
    all_seen(lab, probes)


def test_loopback_address_sent_elsewhere(lab, guard, veth_tunnel, foreign,
                                         local_addresses):
    """The packet is for 127.0.0.9 when it passes the output chain first."""
    del local_addresses
    foreign(DNAT_LOCAL)
    for address in PUBLIC:  # else it would leave through the tunnel
        lab.host.ip(f"route add {address} via {_gateway(address)}")
    try:
        walk(lab, guard, veth_tunnel,
             probes_to([LOCAL_PUBLIC], ports=(53, 853)),
             probes_to([LOCAL_APPROVED], ports=(53, 853)))
    finally:
        lab.host.ip(*(f"route del {address}" for address in PUBLIC))


def test_other_port_becomes_53(lab, guard, veth_tunnel, foreign):
    foreign(DNAT_PORT)
    everyone = ("host", "lan")
    walk(lab, guard, veth_tunnel,
         probes_to(["gateway"], everyone, [OTHER_PORT]),
         probes_to(["approved"], everyone, [OTHER_PORT]))


def test_marked_onto_the_wan(lab, guard, veth_tunnel, foreign, mark_route):
    del mark_route
    foreign(RE_MARK)
    everyone = ("host", "lan")
    walk(lab, guard, veth_tunnel,
         probes_to(["provider", "public", "inside", "gateway"], everyone,
                   [53, 853]),
         probes_to(["approved"], everyone, [53, 853]))


def test_somebody_accepts_everything(lab, guard, veth_tunnel, foreign):
    """Accepting is not final between base chains; dropping is."""
    foreign(ACCEPT_ALL)
    walk(lab, guard, veth_tunnel, probes_to(["gateway"], ("host", "lan"),
                                            [53, 853]))


def test_rules_added_while_guarded(lab, guard, veth_tunnel, foreign,
                                   mark_route):
    """Order of arrival makes no difference."""
    del mark_route
    probes = probes_to(["public"], ("host", "lan"), [53, 853])
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED])
    volley = none_seen(lab, probes, veth_tunnel)
    assert all(o.tunnelled for o in volley)
    foreign(RE_MARK)
    volley = none_seen(lab, probes, veth_tunnel)
    assert not any(o.tunnelled for o in volley)


def test_rogue_route(lab, guard, veth_tunnel):
    """A more specific route draws the tunnel's resolver outside."""
    probes = probes_to(["inside", "public"], ("host", "lan"), [53, 853])
    rogue = [*INSIDE, *PUBLIC]
    guard.enable(tunnel=veth_tunnel.link)
    guard.up(veth_tunnel.link, *INSIDE)
    volley = none_seen(lab, probes, veth_tunnel)
    assert all(o.tunnelled for o in volley)
    routes = [f"{address} via {_gateway(address)} dev wan0 metric 1"
              for address in rogue]
    lab.host.ip(*(f"route add {route}" for route in routes))
    try:
        none_seen(lab, probes)
        guard.disable()
        all_seen(lab, probes)
    finally:
        lab.host.ip(*(f"route del {route}" for route in routes))


def _gateway(address):
    both = labnet.GATEWAY
    return both.v6 if ":" in address else both.v4
