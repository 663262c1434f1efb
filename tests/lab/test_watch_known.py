"""What a watcher reads when links change: which chains there are, for one goes with
its link and no commit tells; not what is in them, which only a commit can change."""

import re

import pytest

import netns
from procfs import family

LINKS = 40
MADE = [f"many{n}" for n in range(LINKS)]


@pytest.fixture(params=["auto", "off"])
def watched(request, guard):
    """With a watcher that owns the tables or not; and it is at rest."""
    guard.namespace.ip(*(f"link add {link} group 77 type veth peer name {link}p "
                         "group 77" for link in MADE))
    guard.configure(f"tunnel = tun0\nownership = {request.param}\n")
    guard.enable(watch=True)
    guard.ownership = request.param
    flap(guard)
    yield guard
    guard.namespace.ip("link del group 77")


def look(guard, change):
    """Have the watcher look by a change of links."""
    looked = guard.watcher["looked"]
    change()
    netns.wait_until(lambda: guard.watcher["looked"] > looked, "a look", 30)


def flap(guard):
    look(guard, lambda: guard.namespace.ip("link set many0 up"))
    look(guard, lambda: guard.namespace.ip("link set many0 down"))


def asked(guard, change):
    """What it asks the kernel for at that: {"CHAIN": dumps, "RULE": dumps}."""
    trace = f"{guard.run_dir}.asked"
    worker = family(guard)["worker"]
    strace = guard.namespace.popen(["strace", "-f", "-qq", "-o", trace, "-e",
                                    "trace=sendto", "-p", str(worker.pid)])
    netns.wait_until(lambda: worker.status("TracerPid") != "0", "strace", 30)
    look(guard, change)
    netns.stop(strace)
    with open(trace, encoding="ascii", errors="replace") as file:
        text = file.read()
    return {what: text.count(f"NFT_MSG_GET{what}") for what in ("CHAIN", "RULE")}


def rules_by_link(guard):
    """{link: its chain's rules}"""
    listing = guard.namespace.run(["nft", "list", "table", "netdev",
                                   "leakguard"]).stdout
    return dict(re.findall(r'hook egress device "(\w+)" [^\n]*\n(.*?)\t}', listing,
                           re.S))


def test_rules_are_not_read(watched):
    before = rules_by_link(watched)
    assert set(MADE) < set(before) and len(set(before.values())) == 1
    found = asked(watched, lambda: watched.namespace.ip("link set many1 up"))
    assert found["CHAIN"] and not found["RULE"]


def test_a_link_made_anew_has_all(watched):
    """Its chain went with it, or lost it."""
    before = rules_by_link(watched)
    host = watched.namespace
    found = asked(watched, lambda: host.ip("link del many2"))
    assert found["CHAIN"] and "many2" not in rules_by_link(watched)
    look(watched, lambda: host.ip("link add many2 group 77 type veth peer name "
                                  "many2p group 77"))
    netns.wait_until(lambda: rules_by_link(watched) == before, "its chain", 30)


def test_others_commit(watched):
    """Whoever does not own the tables cannot know what that was."""
    watched.namespace.nft("add table inet others\ndelete table inet others\n")
    found = asked(watched, lambda: watched.namespace.ip("link set many1 up"))
    assert bool(found["RULE"]) == (watched.ownership == "off")
    flap(watched)
    found = asked(watched, lambda: watched.namespace.ip("link set many1 down"))
    assert not found["RULE"], "known again"


def test_its_own_commit_is_read_back(watched):
    host = watched.namespace
    found = asked(watched, lambda: host.ip(
        "link add many_more group 77 type veth peer name many_other group 77"))
    assert found["RULE"]
    netns.wait_until(lambda: "many_more" in rules_by_link(watched), "its chain", 30)
