"""Status tells when the rules are not what leakguard made them.

Each edit of somebody else in turn; where it opens the host, the capture says
so, and status must not say that the host is guarded.
"""

import re

import pytest

import labnet
from clients import dig
from probes import Probe, fire

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
# Without a path, status would warn that they are routed outside the tunnel.
ANYWHERE = [f"{address} via any" for address in APPROVED]
TABLE = "inet leakguard"
EXIT_DONE, EXIT_NOT_GUARDED = 0, 3


def status(guard):
    """(state, exit status, warning codes); text and JSON agree."""
    text, as_json = guard.run("status"), guard.run("status", "--json")
    found = guard.status()
    assert text.rc == as_json.rc
    assert f"state     {found['state']}\n" in text.stdout
    assert found["guarded"] == (text.rc == EXIT_DONE)
    codes = [warning["code"] for warning in found["warnings"]]
    assert text.stdout.count("warning   ") == len(codes)
    return found["state"], text.rc, codes


def leaks(lab):
    probes = [Probe(origin, "routed", family, 53, "udp", "public")
              for origin in ("host", "lan") for family in (4, 6)]
    return any(outcome.seen for outcome in fire(lab, probes))


def handle(lab, chain, comment):
    """Of the first rule of our chain with this in it."""
    listing = lab.host.run(["nft", "-a", "list", "chain", "inet", "leakguard",
                            chain]).stdout
    line = next(line for line in listing.splitlines() if comment in line)
    return line.rpartition("handle ")[2]


def delete_rule(chain, comment):
    return lambda lab: (f"delete rule {TABLE} {chain} handle "
                        f"{handle(lab, chain, comment)}")


# name -> (what nft is told, whether that opens the host)
EDITS = {
    "verdict deleted": (delete_rule("verdict", "S7 any other"), True),
    "hot path deleted": (delete_rule("postrouting", "jump name_traffic"),
                         True),
    "chain flushed": (f"flush chain {TABLE} postrouting", True),
    "table flushed": (f"flush table {TABLE}", True),
    "table dormant": (f"add table {TABLE} {{ flags dormant; }}", True),
    "accept inserted": (f"insert rule {TABLE} verdict accept", True),
    "accept in front": (f"insert rule {TABLE} postrouting accept", True),
    "tunnel added": (f'add element {TABLE} tunnel {{ "wan0" }}', True),
    "resolver added": (f"add element {TABLE} resolver4 {{ {PUBLIC.v4} }}",
                       True),
    "tunnel deleted": (f'delete element {TABLE} tunnel {{ "tun0" }}', False),
    "resolver deleted": (
        f"delete element {TABLE} resolver4 {{ {APPROVED.v4} }}", False),
    "rule added": (f"add rule {TABLE} verdict counter", False),
    "S5 deleted": (delete_rule("verdict", "@resolver6"), False),
    "policy changed": (f"add chain {TABLE} postrouting {{ policy drop; }}",
                       False),
    "S9 deleted": (delete_rule("name_traffic", "S9"), False),
    "defrag deleted": (f"flush chain {TABLE} defrag", False),
    "base chain added": (f"add chain {TABLE} late {{ type filter hook "
                         "postrouting priority 300; }", False),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edit(lab, guard, edit):
    assert leaks(lab), "the control"
    guard.enable(tunnel="tun0", resolver=ANYWHERE, fragments="defrag",
                 frames="off")  # which would keep in what these edits let out
    assert status(guard) == ("LOCKED", EXIT_DONE, ["no-tunnel-link"])
    assert not leaks(lab)
    ruleset, opens = EDITS[edit]
    lab.host.nft(ruleset if isinstance(ruleset, str) else ruleset(lab))
    assert leaks(lab) == opens
    state, code, codes = status(guard)
    assert (state, code) == ("ALTERED", EXIT_NOT_GUARDED)
    assert "altered" in codes
    guard.reload()
    assert status(guard) == ("LOCKED", EXIT_DONE, ["no-tunnel-link"])
    assert not leaks(lab)


FRAME_EDITS = {
    "table": "delete table {0}",
    "verdict": "insert rule {0} verdict accept",
    "hot path": "insert rule {0} frame accept",
    "fixed offset": "flush chain {0} ip4_at_18",
    "element": 'add element {0} tunnel {{ "wan0" }}',
    "chain": "add chain {0} late",
}


@pytest.mark.parametrize("family", ["netdev", "bridge"])
@pytest.mark.parametrize("edit", FRAME_EDITS)
def test_edit_of_frames(lab, guard, family, edit):
    guard.enable(tunnel="tun0", frames="require")
    lab.host.nft(FRAME_EDITS[edit].format(f"{family} leakguard"))
    state, code, codes = status(guard)
    assert (state, code) == ("ALTERED", EXIT_NOT_GUARDED)
    assert "altered" in codes
    guard.reload()
    assert status(guard) == ("LOCKED", EXIT_DONE, ["no-tunnel-link"])


def test_link_loses_its_chain(lab, guard):
    """It cannot be told from a link that has just appeared."""
    guard.enable(tunnel="tun0")
    listing = lab.host.run(["nft", "list", "table", "netdev",
                            "leakguard"]).stdout
    chain = re.search(r'chain (egress_\d+) {\s+type filter hook egress '
                      r'device "wan0"', listing)[1]
    lab.host.nft(f"flush chain netdev leakguard {chain}\n"
                 f"delete chain netdev leakguard {chain}")
    assert status(guard) == ("LOCKED", EXIT_DONE,
                             ["no-tunnel-link", "link-uncovered"])
    guard.reload()
    assert status(guard) == ("LOCKED", EXIT_DONE, ["no-tunnel-link"])


def test_base_chain_deleted(lab, guard):
    guard.enable(tunnel="tun0", frames="off")
    lab.host.nft(f"flush chain {TABLE} postrouting\n"
                 f"delete chain {TABLE} postrouting\n")
    assert leaks(lab)
    state, code, codes = status(guard)
    assert (state, code) == ("ALTERED", EXIT_NOT_GUARDED)
    assert "altered" in codes
    guard.reload()
    assert status(guard)[0] == "LOCKED" and not leaks(lab)


@pytest.mark.parametrize("command", ["reload", "enable"])
def test_flush_ruleset(lab, guard, command):
    """All tables of all: leakguard's record says more than the kernel has."""
    guard.enable(tunnel="tun0")
    lab.host.nft("flush ruleset")
    try:
        assert leaks(lab)
        assert status(guard)[:2] == ("OFF", EXIT_NOT_GUARDED)
        text = guard.run("status").stdout
        assert "no rules" in text
        guard.reload() if command == "reload" else guard.enable(tunnel="tun0")
        assert status(guard)[:2] == ("LOCKED", EXIT_DONE)
        assert not leaks(lab)
    finally:
        lab.host.nft(labnet.HOST_MASQUERADE)


def test_firewall_restored_from_a_file(lab, guard):
    """`nft list ruleset > file; nft -f file`, as firewall scripts do: the
    rules stand as before, and status finds nothing altered. But for table
    bridge: of "meta protocol ip ip daddr" nft lists the second half alone, and
    reads it back as a look at the frame's type, where a VLAN's tag may be."""
    guard.enable(tunnel="tun0", resolver=ANYWHERE)
    before = status(guard)
    saved = lab.host.run(["nft", "list", "ruleset"]).stdout
    lab.host.nft("flush ruleset\n" + saved)
    assert not leaks(lab)
    text = guard.run("status").stdout
    assert "first difference: bridge: rules of chain name_traffic" in text
    guard.reload()
    assert status(guard) == before


def test_counters_reset_is_no_alteration(lab, guard):
    guard.enable(tunnel="tun0")
    dig(lab.host, PUBLIC.v4)
    lab.host.run(["nft", "reset", "counters", "table", "inet", "leakguard"])
    assert status(guard) == ("LOCKED", EXIT_DONE, ["no-tunnel-link"])
    assert guard.status()["counters"]["S7"]["packets"] == 0
