"""What was blocked: by S number, by link and port; as JSON and as metrics."""

import prometheus_client.parser

import labnet
from clients import dig
from frames import Wire

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
SENT = 3


def blocked(guard):
    """(link, port) -> packets"""
    return {(row["link"], row["port"]): row["packets"]
            for row in guard.status()["blocked"]}


def ask(lab, *ports):
    """SENT queries by each family and port, from the host and from a client."""
    for _ in range(SENT):
        for port in ports:
            for namespace in (lab.host, lab.lan):
                dig(namespace, PUBLIC.v4, "-p", port)
                dig(namespace, PUBLIC.v6, "-p", port)


def metrics(guard, check=True):
    """{name: {labels: value}}, as a parser of Prometheus' own reads them."""
    text = guard.run("status", "--prometheus", check=check).stdout
    assert text.endswith("\n")
    return {family.name: {tuple(sorted(sample.labels.items())): sample.value
                          for sample in family.samples}
            for family in
            prometheus_client.parser.text_string_to_metric_families(text)}


def test_by_link_and_port(lab, guard):
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not blocked(guard)
    ask(lab, 53, 853)
    expected = {("wan0", 53): 4 * SENT, ("wan0", 853): 4 * SENT}
    assert blocked(guard) == expected
    assert guard.status()["counters"]["S7"]["packets"] == 8 * SENT
    dig(lab.host, APPROVED.v4)
    dig(lab.host, PUBLIC.v4, "-p", 443)
    assert blocked(guard) == expected, "what is let go is not blocked"


def test_kept(lab, guard):
    """Whatever changes but `disable`: rules, sets, a reload, a pause, frames."""
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    ask(lab, 53)
    for options in ({"resolver": ["203.0.113.9"]}, {"tunnel": "tun*"},
                    {"mode": "both", "resolver": [*APPROVED], "tunnel": "tun0"},
                    {"frames": "off"}, {"frames": "strict"},
                    {"ports": "53", "action": "reject"}):
        guard.enable(**{"tunnel": "tun0", **options})
        assert blocked(guard) == {("wan0", 53): 4 * SENT}, options
    guard.run("pause", "30s")
    guard.run("resume")
    guard.reload()
    assert blocked(guard) == {("wan0", 53): 4 * SENT}
    guard.disable()
    guard.enable(tunnel="tun0")
    assert not blocked(guard)


def test_refused(lab, guard):
    """Each once, wherever it was refused."""
    guard.enable(tunnel="tun0", action="reject")
    ask(lab, 53)
    assert blocked(guard) == {("wan0", 53): 4 * SENT}
    assert guard.status()["counters"]["S7"]["packets"] == 4 * SENT


def test_frames(guard, lab):
    """Those that are called IP, with the frames that show no port left out."""
    wire = Wire(lab)
    queries = wire.frames()
    assert wire.are_seen("raw", queries), "control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    assert not wire.are_seen("raw", queries)
    seen = blocked(guard)
    assert set(seen) == {("wan0", 53), ("wan0", 853)}
    assert sum(seen.values()) == guard.status()["counters"]["S11"]["packets"]


def test_metrics(lab, guard):
    guard.enable(tunnel="tun0", resolver=[*APPROVED], watch=True)
    ask(lab, 53)
    dig(lab.host, APPROVED.v4)
    found, told = metrics(guard), guard.status()
    assert found["leakguard_guarded"] == {(): 1}
    assert found["leakguard_watched"] == {(): 1}
    assert found["leakguard_state"] == {
        (("state", state),): float(state == told["state"])
        for state in ("OFF", "LOCKED", "GUARDED", "STALE", "ALTERED")}
    assert found["leakguard_packets"] == {
        (("promise", name),): row["packets"]
        for name, row in told["counters"].items()}
    assert found["leakguard_bytes"][(("promise", "S7"),)] == \
        told["counters"]["S7"]["bytes"] > 0
    assert found["leakguard_blocked_packets"] == {
        (("link", "wan0"), ("port", "53")): 4 * SENT}
    assert found["leakguard_link_up"] == {}
    assert found["leakguard_link_uncovered"] == {
        (("link", link),): 0 for link in ("wan0", "lan0")}
    assert found["leakguard_warnings"] == {(): len(told["warnings"])}
    guard.disable()
    assert guard.run("status", "--prometheus", check=False).rc == 3
    found = metrics(guard, check=False)
    assert found["leakguard_guarded"] == {(): 0}
    assert found["leakguard_state"][(("state", "OFF"),)] == 1
    assert "leakguard_packets" not in found


def test_tunnel(guard, veth_tunnel):
    guard.enable(tunnel=veth_tunnel.link)
    link = (("link", veth_tunnel.link),)
    assert metrics(guard)["leakguard_link_up"] == {link: 1}
    veth_tunnel.down()
    assert metrics(guard)["leakguard_link_up"].get(link) in (0, None)
    assert link not in metrics(guard)["leakguard_link_uncovered"]


def test_a_link_with_an_odd_name(lab, guard):
    """Links may have quotes and backslashes in their names."""
    name = 'a"b\\c'
    lab.host.ip(f"link add {name} type veth peer name odd1")
    try:
        lab.host.ip(f"link set {name} up", "link set odd1 up")
        guard.enable(tunnel="tun0")
        assert (("link", name),) in metrics(guard)["leakguard_link_uncovered"]
    finally:
        lab.host.ip("link del odd1")


def test_one_format(guard):
    refused = guard.run("status", "--json", "--prometheus", check=False)
    assert refused.rc == 2
    assert "expected one of them" in refused.stderr
