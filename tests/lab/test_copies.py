"""S8: a foreign rule that copies what stays on the host onto the wire.

`dup` and iptables' TEE send a copy wherever they like. The copy passes the
hooks once more, as a packet of its own, and meets the verdict there.
"""

import pytest

import labnet
from clients import dig
from resolvers import SlowResolver

LOCAL = labnet.Addresses("127.0.0.53", "::1")
# (hook, priority): before the verdict, after it, and on the way in
PLACES = [("output", 0), ("postrouting", -50), ("postrouting", 150),
          ("prerouting", -200), ("input", 0)]


def copying(family, hook, priority):
    name, gateway = (("ip", labnet.GATEWAY.v4), ("ip6", labnet.GATEWAY.v6)
                     )[family == 6]
    return (f"table {name} foreign {{\n  chain copy {{\n    type filter hook "
            f"{hook} priority {priority}\n    udp dport 53 dup to {gateway} "
            'device "wan0"\n  }\n}\n')


@pytest.fixture
def stub(lab, family):
    server = SlowResolver(lab.host, LOCAL[family == 6], 0, tag="stub")
    yield LOCAL[family == 6]
    server.stop()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("hook, priority", PLACES)
def test_copy(lab, guard, stub, family, hook, priority):
    def copies():
        with lab.watch(lab.host) as seen:
            assert dig(lab.host, stub, "+short").answer == "stub"
        return seen.name_traffic()

    lab.host.nft(copying(family, hook, priority))
    try:
        assert copies(), "the control"
        guard.enable(tunnel="tun0")
        assert not copies()
    finally:
        lab.host.nft(f"delete table {('ip', 'ip6')[family == 6]} foreign\n")
