"""One rule taken out at a time: a named probe must notice.

For every rule of every profile, and for what each option adds to them. The
same battery of probes runs under the whole rules and under the mutilated ones;
what differs is who caught it. A table goes to build/mutation.txt.
"""

import contextlib
import os
import pathlib
import socket

import pytest

import profiles
from battery import OUT, Battery, count_cold, differences
from guard import REPOSITORY
from labnet import GATEWAY, HOST_WAN, NOBODY, Lab
from nflog import NflogListener
from probes import all_probes, fire
from test_fragments import cut, send_all
from tools import Counter, Flood

BUILD = pathlib.Path(os.environ.get("BUILD", REPOSITORY / "build"))
UPSTREAM = ["--resolver", "203.0.113.53", "--resolver", "2001:db8:113::53"]
INSIDE = ["--resolver", "10.64.0.1", "--resolver", "fd64::1"]

# What options add; only the rules that no profile has are taken out.
OPTIONS = {
    "tunnel by name, resolvers by link": [
        "--tunnel", "tun0", "--resolver", "203.0.113.53 via wan0",
        "--resolver", "2001:db8:113::53 via wan0"],
    "resolvers by port": [
        "--tunnel", "tun0", "--resolver", "203.0.113.53@53",
        "--resolver", "[2001:db8:113::53]@53"],
    "carriers": [
        "--tunnel", "tun0", "--endpoint", "100.64.0.2:53/udp",
        "--endpoint", "[2001:db8:64::2]:53/udp"],
    "carriers by mark": [
        "--tunnel", "tun0", "--endpoint", "100.64.0.2:53/udp,mark=7",
        "--endpoint", "[2001:db8:64::2]:53/udp,mark=7"],
    "mode both": ["--tunnel", "tun0", "--mode", "both", *INSIDE],
    "mode both, a prefix, ports": [
        "--tunnel", "tun*", "--mode", "both", "--resolver", "10.64.0.1@53",
        "--resolver", "[fd64::1]@853"],
    "mode both, by link": [
        "--tunnel", "tun0", "--mode", "both", "--resolver",
        "10.64.0.1 via tun0", "--resolver", "fd64::1 via tun0"],
    "reject, tied to the tunnel": [
        "--tunnel", "tun*", "--action", "reject", "--resolver",
        "10.64.0.1 via tunnel", "--resolver", "fd64::1 via tunnel"],
    "reject, by link": [
        "--tunnel", "tun0", "--action", "reject", "--resolver",
        "203.0.113.53 via wan0", "--resolver", "2001:db8:113::53 via wan0"],
    "reject, by port, a carrier": [
        "--tunnel", "tun0", "--action", "reject", "--resolver",
        "203.0.113.53@53", "--resolver", "[2001:db8:113::53]@53",
        "--endpoint", "100.64.0.2:53/udp", "--endpoint",
        "[2001:db8:64::2]:53/udp,mark=7"],
    "reject, carriers": [
        "--tunnel", "tun0", "--action", "reject", "--endpoint",
        "100.64.0.2:53/udp,mark=7", "--endpoint", "[2001:db8:64::2]:53/udp"],
    "reject, mode both": ["--tunnel", "tun0", "--mode", "both", "--action",
                          "reject", *INSIDE],
    "reject, mode both, prefix": [
        "--tunnel", "tun*", "--mode", "both", "--action", "reject",
        "--resolver", "10.64.0.1@53", "--resolver", "[fd64::1]@53"],
    "reject, mode both, link": [
        "--tunnel", "tun0", "--mode", "both", "--action", "reject",
        "--resolver", "10.64.0.1 via tun0", "--resolver", "fd64::1 via tun0"],
    "fragments by conntrack": ["--tunnel", "tun0", "--fragments", "conntrack"],
    "fragments dropped": ["--tunnel", "tun0", "--fragments", "drop"],
}
VARIANTS = {**{name: profiles.options(name) for name in profiles.NAMES},
            **OPTIONS}


@pytest.fixture(scope="module")
def lab():
    """Without masquerading: nothing but the guard turns conntrack on."""
    with Lab(masquerade=False) as made:
        yield made


class Table:
    """Rows for build/mutation.txt, in the order of the promises."""

    def __init__(self):
        self.rows, self.seen = [], set()

    def add(self, promise, what, caught):
        self.rows.append((promise, what, caught))

    def text(self):
        rows = sorted(self.rows, key=lambda row: row[0])
        return "".join(f"S{promise:<3} {what:<100} {caught}\n"
                       for promise, what, caught in rows)


@pytest.fixture(scope="module")
def table():
    made = Table()
    yield made
    BUILD.mkdir(exist_ok=True)
    (BUILD / "mutation.txt").write_text(made.text())
    print("\n" + made.text())


def listing_of(guard, options):
    """What `rules` prints of table inet, so that no other has what it lets
    go; S9's way as asked for, not as the kernel has it."""
    way = [] if "--fragments" in options else ["--fragments", "defrag"]
    return guard.run("rules", "--frames", "off", *options, *way,
                     check=True).stdout


def link_of(options):
    """A link that the tunnel options name; the lab needs one in any case."""
    name = options[options.index("--tunnel") + 1] if "--tunnel" in options else "tun0"
    return name.replace("*", "0")


def fresh_rules(listing, table, is_profile):
    """All rules of a profile; of an option those that were not met before."""
    for rule in profiles.read_rules(listing):
        key = (rule.chain, rule.text, rule.comment)
        if is_profile or key not in table.seen:
            table.seen.add(key)
            yield rule


def caught_by(battery, lab, before, listing):
    """The first difference under this listing; again, to be sure of silence."""
    profiles.replace_table(lab.host, count_cold(listing))
    found = differences(before, battery.run())
    if found and all(one.startswith("not told") for one in found):
        found = differences(before, battery.run(patience=2.0))
    # A leak says more than what else went wrong with it.
    return sorted(found, key=lambda one: not one.startswith("leak"))


@contextlib.contextmanager
def battery_for(lab, make_tunnel, options, foreign=False):
    """The battery, with the tunnel that the options name."""
    tunnel = make_tunnel("veth")
    tunnel.link = link_of(options)
    tunnel.up()
    try:
        with Battery(lab, tunnel, "reject" in options, foreign) as battery:
            assert_controls(battery.run(), foreign)
            yield battery
    finally:
        profiles.delete_table(lab.host)
        tunnel.remove()


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_rule_is_missed(lab, guard, make_tunnel, table, variant):
    options = VARIANTS[variant]
    listing = listing_of(guard, options)
    unnoticed = []
    with battery_for(lab, make_tunnel, options, "reject" in options) as battery:
        before = {}
        for rule in fresh_rules(listing, table, variant in profiles.NAMES):
            rules = paused(listing) if rule.promise == 6 else listing
            if rules not in before:
                before[rules] = whole(battery, lab, rules)
            found = caught_by(battery, lab, before[rules],
                              profiles.without(rules, rule))
            table.add(rule.promise, f"{variant}: {rule.chain}: {rule.text}",
                      found[0] if found else "NOBODY")
            if not found:
                unnoticed.append(f"{rule.chain}: {rule.text}")
    assert not unnoticed, "\n".join(unnoticed)


def paused(listing):
    """In the middle of a pause, without which S6 has no work; line by line."""
    assert listing.count("\t\tflags timeout\n") == 1
    return listing.replace("\t\tflags timeout\n",
                           "\t\tflags timeout; elements = { ipv4, ipv6 }\n")


def whole(battery, lab, listing):
    """The battery's results under all rules; the same a second time."""
    profiles.replace_table(lab.host, count_cold(listing))
    before = battery.run()
    assert not differences(before, battery.run(patience=2.0)), "unsteady"
    return before


def assert_controls(found, foreign):
    """Without rules everything gets somewhere: out, into the tunnel, home."""
    lost = [probe for probe, facts in found.items() if not facts
            and probe != "strays"
            and not probe.startswith(("other traffic", "counts of"))]
    assert not lost, lost
    assert any(OUT in facts for facts in found.values())
    assert not foreign or any(p.startswith("rewritten") for p in found)


# --- what is no single rule ---

def test_verdict_at_earlier_hooks(lab, guard, make_tunnel, table):
    """S8: at output and forward, before other people's marks and DNAT."""
    options = VARIANTS["laptop-wireguard"]
    listing = listing_of(guard, options)
    with battery_for(lab, make_tunnel, options, foreign=True) as battery:
        before = whole(battery, lab, listing)
        found = caught_by(battery, lab, before, at_earlier_hooks(listing))
    for what, address in (("DNAT of a loopback address", "127.0.0.9"),
                          ("a mark that leads to the WAN", "10.64.0.1")):
        caught = [one for one in found if one.startswith("leak: rewritten")
                  and address in one]
        assert caught, found
        table.add(8, f"verdict at output and forward, {what}", caught[0])


def at_earlier_hooks(listing):
    """The same rules hooked at output and, once more, at forward."""
    begin = listing.index("\tchain postrouting {")
    end = listing.index("\t}\n", begin) + 3
    chain = listing[begin:end]
    moved = "".join(chain.replace("postrouting", hook)
                    for hook in ("output", "forward"))
    return listing[:begin] + moved + listing[end:]


def test_one_family_left_out(lab, guard, make_tunnel, table):
    """S10: the same table for one family only."""
    options = VARIANTS["laptop-wireguard"]
    listing = listing_of(guard, options)
    v4_only = "".join(
        line for line in listing.splitlines(keepends=True)
        if not any(word in line for word in ("exthdr", "frag frag-off", "ipv6",
                                             "@pause"))
    ).replace("table inet leakguard", "table ip leakguard").replace(
        "meta nfproto ipv4 ", "")
    with battery_for(lab, make_tunnel, options) as battery:
        before = whole(battery, lab, listing)
        profiles.delete_table(lab.host)
        lab.host.nft(v4_only)
        found = differences(before, battery.run())
        lab.host.nft("delete table ip leakguard\n")
    caught = [one for one in found if one.startswith("leak: ")]
    assert caught and all(" v6 " in one for one in caught), found
    table.add(10, "table ip instead of inet", caught[0])


def test_update_in_two_steps(lab, guard, table):
    """S12: delete, then add, under a sender at full speed; enable beside it."""
    listing = listing_of(guard, VARIANTS["laptop-wireguard"])
    guard.enable()
    with Counter(lab.isp, "cust0", *NOBODY) as counter, \
         Flood(lab.host, *NOBODY) as flood:
        for number in range(10):
            guard.enable("--tunnel", f"tun{number}", "--ports", f"53,853,{number + 1}")
        with lab.watch(lab.host, ports=(1,)):
            pass  # what was sent by now has arrived
        by_enable = counter.total()
        for _ in range(10):
            profiles.delete_table(lab.host)
            lab.host.nft(listing)
        sent = flood.stop()
        with lab.watch(lab.host, ports=(1,)):
            pass
        in_two_steps = counter.total() - by_enable
    guard.disable()
    assert by_enable == 0 and all(sum(one) > 1000 for one in sent.values())
    assert in_two_steps > 0
    table.add(12, "delete table, then nft -f: two transactions",
              f"leak: {in_two_steps} of a full-speed sender's packets; "
              "by enable 0 (test_update.py)")


def leaks(lab):
    """Who gets out to the gateway, which nobody approved."""
    probes = all_probes(origins=("host", "lan"), targets=("gateway",))
    return [f"leak: {o.probe}" for o in fire(lab, probes) if o.seen]


def test_down_opens(lab, guard, table):
    """S13: a down hook that lowers the guard."""
    assert leaks(lab), "control"
    for lower, opens in ((lambda: guard.down("wg0"), False),
                         (guard.disable, True)):
        guard.enable(tunnel="wg0")
        guard.up("wg0", "10.64.0.1")
        assert not leaks(lab)
        lower()
        found = leaks(lab)
        assert bool(found) == opens, found
    table.add(13, "disable in place of down", found[0])


def test_foreign_edit(lab, guard, table):
    """S14 is the watcher's; without it the edit is at least seen. The device's
    verdict stands behind it."""
    for frames in ("auto", "off"):
        guard.enable(tunnel="wg0", frames=frames)
        lab.host.nft("flush chain inet leakguard verdict\n")
        assert bool(leaks(lab)) == (frames == "off")
        assert guard.state == "ALTERED"
        guard.enable(tunnel="wg0", frames=frames)
        assert not leaks(lab) and guard.state == "LOCKED"
    table.add(14, "somebody flushes the chain verdict",
              "status: ALTERED; the next command puts it back")


def test_others_flushed(lab, guard, table):
    """S15: an enable that begins with `flush ruleset`."""
    lab.host.nft("table ip foreign { chain c { counter drop; }; }\n")
    theirs = ["nft", "-a", "list", "table", "ip", "foreign"]
    before = lab.host.run(theirs).stdout
    guard.enable(tunnel="wg0")
    guard.disable()
    assert lab.host.run(theirs).stdout == before
    lab.host.nft("flush ruleset\n"
                 + listing_of(guard, VARIANTS["laptop-wireguard"]))
    profiles.delete_table(lab.host)
    assert lab.host.run(theirs, check=False).rc != 0
    table.add(15, "flush ruleset before enable",
              "somebody's table is not as it was before enable and disable")


# --- the log of S7 and S9 ---

LOG_END = """
table inet lab_log {
    chain output {
        type filter hook output priority 0
        udp dport 9 log prefix "end" group 5
    }
}
"""


def is_logged(lab, chain):
    """What only this chain's rule sees of the host's: does the guard log it?"""
    promise = "S9" if chain == "fragment" else "S7"
    with NflogListener(lab.host, 5) as listener:
        if chain == "fragment":
            send_all(lab.host, GATEWAY.v4, cut(HOST_WAN.v4, GATEWAY.v4)[1:],
                     nodefrag=True)
        else:  # a marked packet passes the refusals and is logged at the end
            send_query(lab.host, 53, 7 if chain == "verdict" else 0)
        send_query(lab.host, 9, 0)
        return f"leakguard {promise} " in listener.prefixes_until("end")


def send_query(namespace, port, mark):
    with namespace.inside(), \
         socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        with contextlib.suppress(OSError):
            sock.sendto(b"log me", (GATEWAY.v4, port))


@pytest.mark.parametrize("action", ["drop", "reject"])
def test_log_rules_are_missed(lab, guard, table, action):
    options = ["--action", action, "--log-group", "5", "--log-rate", "100000"]
    listing = listing_of(guard, options)
    rules = [rule for rule in profiles.read_rules(listing) if "log" in rule.text]
    assert [r.chain for r in rules] == ["refuse", "verdict", "fragment"][
        action == "drop":]
    lab.host.nft(LOG_END)
    for rule in rules:
        for text, expected in ((listing, True),
                               (profiles.without(listing, rule), False)):
            profiles.replace_table(lab.host, text)
            assert is_logged(lab, rule.chain) == expected, rule
        table.add(rule.promise, f"log, {action}: {rule.chain}: {rule.text}",
                  "not logged: what is sent to the gateway")
    profiles.delete_table(lab.host)
    lab.host.nft("delete table inet lab_log\n")
