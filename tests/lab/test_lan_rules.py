"""The rules for LAN clients, as objects of the kernel: what they do to packets is
in test_lan_redirect.py, and in suite zz_flows of tests/kernels."""

import importlib.util
import os

import pytest

import netns
from guard import REPOSITORY, Guard
from tools import generation

SPEC = importlib.util.spec_from_file_location(
    "normalise", REPOSITORY / "tests/golden/normalise.py")
NORMALISE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(NORMALISE)

ADDRESSES = """
tunnel = wg0
resolver = 10.64.0.1 via tunnel
resolver = fd64::1@53
resolver = 192.168.9.53@53
lan = br-lan
lan = guest*
lan-redirect = 10.64.0.1
lan-redirect = [fd64::1]@53
lan-exempt = 192.168.1.9
lan-exempt = fd00::9
lan-exempt = 02:00:5e:10:00:01
flow-offload = prevent
"""
POLICIES = {
    "addresses": ADDRESSES,
    "local": "tunnel = wg0\nlan = br-lan\nlan-redirect = local\n",
    "reject": ADDRESSES + "action = reject\n",
    "both": ADDRESSES + "mode = both\n",
    "IPsec": ADDRESSES + "tunnel = ipsec:any\naction = reject\n",
    "no redirection": "tunnel = wg0\nlan = br-lan\nflow-offload = prevent\n",
}
TABLE = "inet leakguard"
CHANGES = [
    "flush ruleset",
    f"delete table {TABLE}",
    f"flush chain {TABLE} slow_path",
    f"flush chain {TABLE} slow_path; delete ct expectation {TABLE} no_offload",
    f"flush chain {TABLE} lan_redirect",
    f"insert rule {TABLE} lan_redirect return",
    f"flush chain {TABLE} lan; delete chain {TABLE} lan",
    f"flush chain {TABLE} lan; delete chain {TABLE} lan; add chain {TABLE} lan"
    " { type nat hook prerouting priority 300; }",
    f"flush set {TABLE} lan_keep4",
    f"add element {TABLE} lan_exempt4 {{ 192.168.1.10 }}",
    f"add element {TABLE} lan {{ \"wan0\" }}",
]


@pytest.fixture
def guard(lab):
    made = Guard(lab)
    yield made
    made.disable()
    lab.host.nft("flush ruleset")


def comparable(listing):
    """Sets and chains in any order: they come as they were made."""
    return sorted(NORMALISE.normalise(listing).split("\n\t}\n"))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_kernel_has_what_is_printed(lab, guard, policy):
    guard.configure(policy + "frames = off\n")
    printed = guard.run("rules").stdout
    guard.enable()
    assert comparable(guard.listing()) == comparable(printed)
    before = generation(lab.host)
    guard.enable()
    assert generation(lab.host) == before, "enabled once more: nothing differs"
    assert guard.state == "LOCKED"


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_without_a_record_the_rules_tell(guard, policy):
    guard.configure(policy)
    guard.enable()
    told = guard.status()["policy"]["lan"]
    os.remove(f"{guard.run_dir}/state")
    status = guard.status()
    assert status["state"] == "LOCKED", status["warnings"]
    found = status["policy"]["lan"]
    assert (found is None) == ("lan-redirect" not in policy)
    if found:
        assert [text.strip("[]").removesuffix("]@53").removesuffix("@53")
                for text in found.pop("redirect")] == [
            text.strip("[").removesuffix("]@53") for text in told.pop("redirect")]
    assert found == told


@pytest.mark.parametrize("change", CHANGES)
def test_changes_by_others_do_not_stand(lab, guard, change):
    guard.configure(ADDRESSES + "ownership = off\n")
    guard.enable(watch=True)
    before = comparable(guard.listing())
    lab.host.nft(change)
    netns.wait_until(lambda: comparable(guard.listing()) == before,
                     "the rules are back", 10, 0.05)
    assert guard.watcher["undone"] == 1


def test_on_and_off(lab, guard):
    """The base chain of the verdict is the same all the while."""
    guard.configure("tunnel = wg0\n")
    guard.enable()
    plain = comparable(guard.listing())
    handle = chain_handle(lab)
    guard.configure(ADDRESSES)
    guard.reload()
    assert comparable(guard.listing()) != plain and chain_handle(lab) == handle
    guard.configure("tunnel = wg0\n")
    guard.reload()
    assert comparable(guard.listing()) == plain and chain_handle(lab) == handle


def chain_handle(lab):
    listing = lab.host.run(["nft", "-a", "list", "table", *TABLE.split()]).stdout
    return [line for line in listing.splitlines()
            if "chain postrouting {" in line]
