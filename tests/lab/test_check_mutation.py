"""A half-broken guard: each rule taken out once, and check finds every leak.

A rule whose removal lets one of check's packets out, as the provider saw it,
has to end in exit 4 with just these rows. Rules are those of the kernel, of a
guard that was enabled; table inet is looked at with frames = off, since the
verdict at the device would hide what is missing in it.
"""

import pytest

import labnet
import profiles
from lookups import resolv_conf
from test_check import CLOSED, LEAK, Report

APPROVED, PROVIDER = labnet.RESOLVERS["approved"], labnet.RESOLVERS["provider"]

VARIANTS = {
    "laptop": ["--tunnel", "tun0"],
    "resolvers": ["--tunnel", "tun*", "--resolver", PROVIDER.v4, "--resolver",
                  f"{APPROVED.v6}@53 via wan0", "--mode", "either"],
    "router": ["--tunnel", "tun0", "--action", "reject", "--ports", "53,853",
               "--endpoint", f"{PROVIDER.v4}:53/udp"],
    "mode both": ["--tunnel", "tun0", "--mode", "both", "--resolver",
                  "10.64.0.1"],
    "fragments": ["--tunnel", "tun0", "--fragments", "drop"],
}
# Those that plain frames meet; behind the others are odd ones, which check does
# not send (test_frames_odd.py).
CHAINS = ("frame", "frame6", "name_traffic", "verdict", "approved", "fragment")
# How many removals let check's own packets out, at least: less would be a
# test that has become blind. With `reject` two rules stop what the host sends.
LEAST = {("laptop", "inet"): 4, ("laptop", "netdev"): 5,
         ("fragments", "inet"): 6}


@pytest.fixture(scope="module")
def lab():
    # Nothing but the guard puts fragments together.
    with labnet.Lab(masquerade=False) as made:
        made.host.set_resolv_conf(resolv_conf(PROVIDER.v4, APPROVED.v6))
        yield made


def wanted(family, row):
    """With frames off, frames are another test's."""
    return row["way"].startswith("frame") == (family == "netdev")


def leaks(lab, guard, family, listing):
    """(check's leaks, what the provider saw of its queries, the report), under
    these rules; two sets of rows. Without them at the end: a rule that is gone
    may close what the sentinels need."""
    profiles.replace_table(lab.host, listing)
    if "table netdev" in listing:
        profiles.hook(lab.host, "wan0", "lan0")
    with lab.capture() as seen:
        done = guard.run("check", "--json")
        profiles.delete_table(lab.host)
        lab.barrier(seen, lab.host)
    report = Report(done, seen)
    rows = [row for row in report.rows if wanted(family, row)
            and row["verdict"] not in ("approved", "inside")]
    assert rows

    def key(row):
        return tuple(row[name] for name in (
            "link", "way", "address", "protocol", "port"))
    found = {key(row) for row in rows if row["verdict"] == "leak"
             and "wan0" in row["left_by"]}
    assert not found or report.rc == LEAK
    return found, {key(row) for row in rows if report.was_seen(row)}, report


def fresh_rules(listing, family, met, variant):
    """Those of the family that no variant before had; of the one that does not
    put fragments together all, for there the others cover less."""
    for rule in profiles.read_rules(listing):
        key = (rule.table, rule.chain, rule.text, variant == "fragments")
        if (rule.table == family and key not in met
                and (family == "inet" or rule.chain in CHAINS)):
            met.add(key)
            yield rule


@pytest.fixture(scope="module")
def met():
    return set()


@pytest.mark.parametrize("variant, family", [
    (variant, family) for variant in VARIANTS for family in ("inet", "netdev")
    if (variant, family) != ("fragments", "netdev")])
def test_each_rule_is_missed(lab, guard, veth_tunnel, met, variant, family):
    frames = "off" if family == "inet" else "require"
    options = [*VARIANTS[variant], "--frames", frames]
    guard.enable(*options)
    listing = guard.run("rules", *options, check=True).stdout
    found, seen, report = leaks(lab, guard, family, listing)
    assert not found and not seen, "whole"
    assert report.rc == (LEAK if family == "inet" else CLOSED)
    leaky = {}
    for rule in fresh_rules(listing, family, met, variant):
        found, seen, _ = leaks(lab, guard, family,
                               profiles.without(listing, rule))
        assert found == seen, rule
        if seen:
            leaky[f"{rule.chain}: {rule.text}"] = len(seen)
    assert len(leaky) >= LEAST.get((variant, family), 0), leaky
    del veth_tunnel
