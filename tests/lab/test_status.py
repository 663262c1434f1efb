"""Status is true: states, counters, warnings, and the fields of its JSON."""

import re
import shutil
import socket

import pytest

import labnet
import packets
from clients import dig, send_raw
from frame_senders import SENDERS
from frames import Wire
from lookups import resolv_conf
from probes import make_query, new_label
from resolvers import SlowResolver

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
ENDPOINT = labnet.VPN_ENDPOINT.v4
IP_NODEFRAG = 22


def codes(guard):
    return {warning["code"] for warning in guard.status()["warnings"]}


def texts(guard, code):
    return [warning["text"] for warning in guard.status()["warnings"]
            if warning["code"] == code]


# --- states and exit statuses -----------------------------------------------

@pytest.mark.parametrize("command", [[], ["--json"]])
def test_exit_status(lab, guard, make_tunnel, command):
    tunnel = make_tunnel("veth")

    def exit_status():
        return guard.run("status", *command).rc

    assert exit_status() == 3
    guard.enable(tunnel=tunnel.link)
    assert exit_status() == 0
    tunnel.up()
    assert exit_status() == 0
    guard.disable()
    assert exit_status() == 3
    del lab


def test_text_for_people(lab, guard, veth_tunnel):
    """One screen, with the same facts as the JSON."""
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED],
                 endpoint=f"{ENDPOINT}:53/udp", action="reject")
    guard.up(veth_tunnel.link, *INSIDE)
    dig(lab.host, labnet.GATEWAY.v4)
    text, found = guard.run("status").stdout, guard.status()
    lines = text.splitlines()
    assert len(lines) <= 21 + len(found["links"]) + len(found["blocked"])
    assert max(map(len, lines)) < 200
    assert lines[0] == "state     GUARDED"
    for expected in ("53 853", "action reject", "frames auto", "tun0 is up",
                     f"{ENDPOINT}:53/udp", *APPROVED, *INSIDE,
                     "routed through wan0", "routed through tun0, a tunnel"):
        assert expected in text
    for name, counter in found["counters"].items():
        line = next(line for line in lines if line.startswith(name))
        assert f" {counter['packets']} packets" in line
    for warning in found["warnings"]:
        assert f"warning   {warning['text']}" in lines
    for link in found["links"]:
        line = next(line for line in lines
                    if line.split()[:2] == ["link", link["name"]])
        assert line.endswith(
            {"covered": "frames covered"}.get(link["frames"], link["frames"]))


def test_fields(lab, guard, veth_tunnel):
    """As leakguard(8) documents them."""
    guard.enable(tunnel=[veth_tunnel.link, "wg*"], ports="53,853,5353",
                 resolver=[f"{APPROVED.v4}@53", f"{PUBLIC.v6} via wan0",
                           f"{INSIDE.v4}", f"{PUBLIC.v4} via any"],
                 endpoint=f"{ENDPOINT}:853/tcp,mark=0x7", action="reject",
                 inside=["vm*", "lan0"], frames="strict")
    found = guard.status()
    assert found["version"] == 1 and found["guarded"] is True
    assert found["policy"] == {
        "ports": [53, 853, 5353], "mode": "either", "action": "reject",
        "fragments": "defrag", "frames": "strict", "inside": ["lan0", "vm*"],
        "endpoints": [f"{ENDPOINT}:853/tcp,mark=0x7"], "lan": None,
        "tunnel_kinds": []}
    assert found["frames"] == {"egress": True, "bridge": True}
    with lab.host.inside():
        indexes = {name: index for index, name in socket.if_nameindex()}
    assert {link.pop("name"): link for link in found["links"]} == {
        name: {"kind": kind, "index": indexes[name], "frames": frames,
               "why": None}
        for name, kind, frames in (
            ("lo", "", "loopback"), ("wan0", "veth", "covered"),
            ("lan0", "veth", "inside"), ("tun0", "veth", "tunnel"))}
    tunnels = {tunnel["name"]: tunnel["links"] for tunnel in found["tunnels"]}
    assert tunnels == {"tun0": [{"name": "tun0", "kind": "veth", "up": True}],
                       "wg*": []}
    resolvers = {(r["address"], r["port"], r["path"], r["link"], r["pinned"],
                  r["route"], r["through_tunnel"])
                 for r in found["resolvers"]}
    assert resolvers == {
        (APPROVED.v4, 53, "sticky", None, False, "wan0", False),
        (PUBLIC.v6, None, "link", "wan0", False, "tun0", True),
        (INSIDE.v4, None, "sticky", None, True, "tun0", True),
        (PUBLIC.v4, None, "any", None, False, "tun0", True)}
    veth_tunnel.kill()
    found = guard.status()
    assert found["state"] == "LOCKED"
    assert not any(r["through_tunnel"] for r in found["resolvers"])
    assert {r["route"] for r in found["resolvers"]} == {"wan0"}
    links = [link for tunnel in found["tunnels"] for link in tunnel["links"]]
    assert links == [{"name": "tun0", "kind": "veth", "up": False}]
    del lab


def test_off(lab, guard):
    found = guard.status()
    assert (found["state"], found["guarded"]) == ("OFF", False)
    assert found["policy"] is None and found["counters"] == {}
    assert found["warnings"] == []
    del lab


# --- counters ---------------------------------------------------------------

def _query(lab, address, port=53):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.host.inside():
        sock = socket.socket(family, socket.SOCK_DGRAM)
    with sock:
        try:
            sock.sendto(make_query(new_label()), (address, port))
        except PermissionError:
            pass


def _later_fragments(lab, address):
    source = labnet.HOST_WAN.v4
    datagram = packets.udp(source, address, 4000, 53, b"later" * 80)
    pieces = packets.fragments(source, address, datagram, (64,))[1:]
    with lab.host.inside():
        try:
            send_raw(address, None, *pieces,
                     options=[(socket.IPPROTO_IP, IP_NODEFRAG, 1)])
        except PermissionError:
            pass


def _frame(lab, *words, **what):
    wire = Wire(lab)
    SENDERS["raw"](lab.host, "wan0", [wire.frame(*words, **what)])


# what is done -> the only counter that rises, and by how many packets
COUNTED = {
    "S2": lambda lab: _query(lab, "127.0.0.9"),
    "S2, IPv6": lambda lab: _query(lab, "::1", 853),
    "S3": lambda lab: _query(lab, ENDPOINT),
    "S4": lambda lab: _query(lab, PUBLIC.v4),
    "S4, IPv6": lambda lab: _query(lab, PUBLIC.v6, 853),
    "S5": lambda lab: _query(lab, APPROVED.v4),
    "S5, IPv6": lambda lab: _query(lab, APPROVED.v6, 853),
    "S7": lambda lab: _query(lab, labnet.GATEWAY.v4),
    "S7, IPv6": lambda lab: _query(lab, labnet.GATEWAY.v6, 853),
    "S9": lambda lab: _later_fragments(lab, labnet.GATEWAY.v4),
    "S11": lambda lab: _frame(lab, family=4),
    "S11, IPv6": lambda lab: _frame(lab, family=6, port=853),
    "S11, a later fragment": lambda lab: _frame(lab, "later"),
    "S11, in a tag": lambda lab: _frame(lab, around="802.1Q"),
    "none": lambda lab: _query(lab, labnet.GATEWAY.v4, 5353),
    "none, a frame": lambda lab: _frame(lab, port=5353),
}


def test_counters_are_in_order(guard):
    guard.enable()
    numbers = [int(line[1:].split()[0])
               for line in guard.run("status").stdout.splitlines()
               if re.match(r"S\d", line)]
    assert numbers == sorted(numbers) and len(numbers) == 8


@pytest.mark.parametrize("action", ["drop", "reject"])
@pytest.mark.parametrize("what", COUNTED)
def test_counter(lab, guard, veth_tunnel, what, action):
    """One packet, one counter, by one; under reject it is not counted twice
    on its way."""
    guard.enable(tunnel=veth_tunnel.link, resolver=[*APPROVED], action=action,
                 endpoint=f"{ENDPOINT}:53/udp")

    def read():
        return {name: counter["packets"]
                for name, counter in guard.status()["counters"].items()}

    before = read()
    COUNTED[what](lab)
    after = read()
    risen = {name: after[name] - before[name] for name in after
             if after[name] != before[name]}
    expected = what.partition(",")[0]
    assert risen == ({} if expected == "none" else {expected: 1})


# --- warnings ---------------------------------------------------------------

@pytest.fixture
def servers(lab):
    """servers(*addresses): what resolv.conf names."""
    yield lambda *names: lab.host.set_resolv_conf(resolv_conf(*names))
    lab.host.set_resolv_conf("")


def test_warns_of_resolv_conf(lab, guard, make_tunnel, servers):
    tunnel = make_tunnel("veth")
    servers(*PUBLIC)
    assert codes(guard) == set(), "off: nothing is blocked"
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    told = texts(guard, "resolv-conf")
    assert len(told) == 2
    assert all(any(a in text for text in told) for a in PUBLIC)
    servers(APPROVED.v4, PUBLIC.v4)
    assert len(texts(guard, "resolv-conf")) == 1
    for harmless in ([], APPROVED, ["127.0.0.53"], ["::1"]):
        servers(*harmless)
        assert "resolv-conf" not in codes(guard), harmless
    lab.host.set_resolv_conf(f"# nameserver {PUBLIC.v4}\n;nameserver 1.1.1.1")
    assert "resolv-conf" not in codes(guard)
    servers(*PUBLIC)
    tunnel.up()  # now queries to them go into the tunnel
    assert "resolv-conf" not in codes(guard)
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE], mode="both")
    assert "resolv-conf" in codes(guard), "blocked in the tunnel as well"


def test_stub_is_no_reason_to_warn(lab, guard, servers):
    """On any of the host's own addresses: queries to it stay here (S2)."""
    stub = SlowResolver(lab.host, labnet.HOST_LAN.v4, 0, tag="stub")
    try:
        guard.enable(tunnel="tun0")
        servers(labnet.HOST_LAN.v4)
        assert dig(lab.host, labnet.HOST_LAN.v4, "+short").answer == "stub"
        assert "resolv-conf" not in codes(guard)
    finally:
        stub.stop()


# entry -> (warned of before the tunnel, after it; is it then blocked?)
OUTSIDE = {"": (True, True, True), " via tunnel": (True, True, True),
           " via any": (False, False, None), " via wan0": (False, False, None),
           " via tun0": (True, True, True)}


@pytest.mark.parametrize("entry", OUTSIDE)
def test_warns_of_a_resolver_outside(lab, guard, make_tunnel, entry):
    """And the text says whether queries are blocked or seen: so they are."""
    tunnel = make_tunnel("veth")
    before, after, is_blocked = OUTSIDE[entry]
    code, address = "resolver-outside-tunnel", INSIDE.v4

    def is_seen():
        with lab.watch(lab.host) as seen:
            dig(lab.host, address)
        return bool(seen.name_traffic())

    guard.enable(tunnel=tunnel.link, resolver=f"{address}{entry}")
    assert (code in codes(guard)) == before
    for text in texts(guard, code):
        assert address in text and "wan0" in text
        assert ("blocked" in text) != is_seen()
    tunnel.up()
    guard.reload()
    assert code not in codes(guard)
    tunnel.down()
    assert (code in codes(guard)) == after
    for text in texts(guard, code):
        assert ("blocked" in text) == is_blocked != is_seen()


def test_no_warning_where_no_tunnel_is_meant(lab, guard):
    """A local resolver, or Tor, without any VPN."""
    guard.enable(resolver=[*APPROVED])
    assert codes(guard) == set()
    del lab


def test_warns_of_a_missing_tunnel(lab, guard, make_tunnel):
    tunnel = make_tunnel("veth")
    guard.enable(tunnel=[tunnel.link, "wg*"])
    assert codes(guard) == {"no-tunnel-link"}
    tunnel.up()
    assert codes(guard) == {"tunnel-kind"}  # a veth, after all
    tunnel.kill()
    tunnel.down()
    assert codes(guard) == {"no-tunnel-link"}
    guard.enable(tunnel="tun*")
    tunnel.up()
    assert codes(guard) == {"tunnel-kind"}  # a veth, after all
    del lab


# --- what other people's chains may do after the verdict --------------------

def late(rule, priority=150, family="inet", kind="filter"):
    return (f"table {family} foreign {{\n  chain late {{\n    type {kind} "
            f"hook postrouting priority {priority}\n    {rule}\n  }}\n}}\n")


LATE = {
    "address": late(f"ip daddr set {PUBLIC.v4}"),
    "address, IPv6": late(f"ip6 daddr set {PUBLIC.v6}"),
    "address, by its bytes": late("@nh,128,32 set 0xcb007108"),
    "port": late("udp dport set 53"),
    "port, by its bytes": late("@th,16,16 set 53"),
    "other family": late(f"ip daddr set {PUBLIC.v4}", family="ip"),
    "same priority": late(f"ip daddr set {PUBLIC.v4}", priority=99),
    "copy": late(f"dup to {PUBLIC.v4}", family="ip"),
    "in a regular chain": (
        "table inet foreign {\n  chain change {\n    ip daddr set 192.0.2.1\n"
        "  }\n  chain late {\n    type filter hook postrouting priority 150\n"
        "    jump change\n  }\n}\n"),
}
HARMLESS = {
    "before the verdict": late(f"ip daddr set {PUBLIC.v4}", priority=0),
    "masquerade": late("masquerade", kind="nat", priority=100),
    "source": late("ip saddr set 192.0.2.2"),
    "source, IPv6": late("ip6 saddr set 2001:db8:2::2"),
    "traffic class": late("ip dscp set cs1"),
    "traffic class, IPv6": late("ip6 dscp set cs1"),
    "hop limit": late("ip6 hoplimit set 64"),
    "mark": late("meta mark set 7"),
    "clamp": late("tcp flags syn tcp option maxseg size set 1200"),
    "ttl": late("ip ttl set 64"),
    "source port": late("udp sport set 4000"),
    "counter and drop": late("udp dport 9999 counter drop"),
    "another hook": late(f"ip daddr set {PUBLIC.v4}").replace(
        "postrouting", "input"),
}


@pytest.mark.parametrize("chain", (*LATE, *HARMLESS))
def test_warns_of_a_late_chain(lab, guard, chain):
    guard.enable(resolver=[*APPROVED])
    assert codes(guard) == set()
    lab.host.nft(LATE.get(chain) or HARMLESS[chain])
    try:
        assert codes(guard) == ({"late-chain"} if chain in LATE else set())
        assert all("foreign" in text for text in texts(guard, "late-chain"))
    finally:
        for family in ("inet", "ip"):
            lab.host.run(["nft", "delete", "table", family, "foreign"],
                         check=False)
    assert codes(guard) == set()


@pytest.mark.parametrize("frames, led_to", [("off", {PUBLIC.v4}),
                                            ("auto", set())])
def test_late_chain_does_lead_elsewhere(lab, guard, frames, led_to):
    """What the warning is about: the packet's address after the verdict. At
    the device there is another one."""
    guard.enable(resolver=[*APPROVED], frames=frames)
    lab.host.nft(LATE["address"].replace(
        "ip daddr set", f"ip daddr {APPROVED.v4} udp dport 53 ip daddr set"))
    try:
        with lab.watch(lab.host) as seen:
            dig(lab.host, APPROVED.v4)
        assert {p.dst for p in seen.name_traffic()} == led_to
        assert "late-chain" in codes(guard)
    finally:
        lab.host.nft("delete table inet foreign\n")


# --- the record -------------------------------------------------------------

@pytest.mark.parametrize("options", [
    {"tunnel": ["tun0", "wg*"],
     "resolver": [f"{address} via any" for address in APPROVED]},
    {"tunnel": "tun0", "mode": "both", "resolver": [*INSIDE],
     "action": "reject", "ports": "53,5353"},
    {"tunnel": "tun0", "resolver": [f"{PUBLIC.v4}@853 via wan0"],
     "endpoint": [f"{ENDPOINT}:53/udp", f"{ENDPOINT}:853/tcp,mark=0x9"],
     "fragments": "drop"},
    {"tunnel": "tun0", "frames": "strict", "inside": ["lan0", "vm*"]},
    {"tunnel": "tun0", "frames": "off"},
], ids=["either", "both", "endpoint", "frames", "no frames"])
def test_without_the_record(lab, guard, options):
    """The kernel is read, not a note of what was asked."""
    guard.enable(**options)
    before = guard.status()
    shutil.rmtree(guard.run_dir)
    after = guard.status()
    assert after["state"] == before["state"] == "LOCKED"
    assert after["policy"] == before["policy"]
    assert after["tunnels"] == before["tunnels"]
    assert [r["address"] for r in after["resolvers"]] \
        == [r["address"] for r in before["resolvers"]]
    assert "no-record" in codes(guard)
    for change in (guard.reload, lambda **k: guard.up("tun1", **k)):
        refused = change(check=False)
        assert refused.rc == 1 and "leakguard enable" in refused.stderr
    guard.enable(**options)
    assert guard.status()["warnings"] == before["warnings"]
    del lab
