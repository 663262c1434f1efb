"""Only what differs is sent, what stays keeps its handle and its count.

And the limits: each is held in full, and one more is refused by name.
"""

import re
import time

import pytest

import labnet
from tools import generation, run_inside

MANY = 100000
POSTROUTING = re.compile(r"chain postrouting \{ # handle (\d+)")
TABLE = re.compile(r"table inet leakguard \{ # handle (\d+)")


def run(guard, *argv, rc=0):
    done = run_inside(guard.namespace, guard.command(*argv), timeout=120)
    assert done.rc == rc, done
    return done


def address(number):
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def resolvers(count):
    return "".join(f"resolver = {address(n)}\n" for n in range(count))


def transactions(guard, argv, trace):
    """Bytes of each nf_tables transaction that a command commits."""
    done = run_inside(guard.namespace,
                      ["strace", "-f", "-e", "trace=sendmsg", "-o", trace,
                       *guard.command(*argv)], timeout=120)
    assert done.rc == 0, done
    with open(trace, encoding="ascii", errors="replace") as file:
        lines = [line for line in file if "NFNL_MSG_BATCH_END" in line
                 or "NFNL_MSG_BATCH_BEGIN" in line]
    return [int(line.rpartition("= ")[2]) for line in lines]


@pytest.fixture
def trace(lab):
    return f"{lab.dir}/trace"


# With something in every set that there is.
LINK_LOCAL = {"either": "fe80::1%lan0", "both": "fe80::1%tun0"}
EVERYTHING = [
    ["--tunnel", "tun0", "--tunnel", "wg*", "--resolver", "203.0.113.53",
     "--resolver", "2001:db8::1@53", "--resolver", "10.64.0.1 via tunnel",
     "--resolver", LINK_LOCAL[mode], "--endpoint",
     "192.0.2.7:51820/udp,mark=7", "--endpoint", "[2001:db8::7]:443/tcp",
     "--ports", "53,853,5353", "--log-group", "5", "--action", action,
     "--mode", mode, "--fragments", fragments]
    for action in ("drop", "reject") for mode in LINK_LOCAL
    for fragments in ("defrag", "drop", "conntrack")]


@pytest.mark.parametrize("options", [[], *EVERYTHING],
                         ids=lambda options: " ".join(options[-5::2]))
def test_second_time_commits_nothing(guard, options):
    """enable is idempotent, and so is what repeats what is in force."""
    run(guard, "enable", "--no-watch", *options)
    run(guard, "up", "--tunnel", "wg0", "--resolver", "10.64.0.2")
    before, listing = generation(guard.namespace), guard.listing()
    run(guard, "enable", "--no-watch", *options)
    run(guard, "up", "--tunnel", "wg0", "--resolver", "10.64.0.2")
    run(guard, "down", "--tunnel", "tun7")
    run(guard, "reload")
    run(guard, "enable", "--dry-run", "--tunnel", "other0")
    assert generation(guard.namespace) == before
    assert guard.listing() == listing


def test_second_time_sends_no_transaction(guard, trace):
    """The probes that validate without an end are no transactions."""
    argv = ["enable", "--no-watch", "--fragments", "drop"]
    assert len(transactions(guard, argv, trace)) == 1
    assert not transactions(guard, argv, trace)


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_one_of_many_is_one_element(guard, trace, change):
    """In a list of 100,000: no more bytes than in a list of one."""
    before, after = MANY, MANY + (1 if change == "one more" else -1)
    guard.configure(resolvers(before))
    run(guard, "enable", "--no-watch", "--fragments", "drop")
    guard.configure(resolvers(after))
    sent = transactions(guard, ["reload"], trace)
    assert len(sent) == 1 and sent[0] < 300, sent
    # The kernel says the same, asked by somebody else.
    for number, there in ((after - 1, True), (after, False)):
        found = guard.namespace.run(
            ["nft", "get", "element", "inet", "leakguard", "resolver4",
             "{ " + address(number) + " }"], check=False)
        assert (found.rc == 0) == there, found


def test_many_are_soon_there(guard, record_property):
    """100,000 resolvers at once; the time is for the record."""
    guard.configure(resolvers(MANY))
    started = time.monotonic()
    run(guard, "enable", "--no-watch")
    record_property("seconds", round(time.monotonic() - started, 2))
    assert time.monotonic() - started < 30


KINDS_OF_CHANGE = [
    ["enable", "--no-watch", "--tunnel", "tun*"],
    ["enable", "--no-watch", "--resolver", "203.0.113.8@53"],
    ["enable", "--no-watch", "--action", "reject", "--ports", "53"],
    ["enable", "--no-watch", "--mode", "both", "--tunnel", "tun0"],
    ["enable", "--no-watch", "--fragments", "drop"],
    ["enable", "--no-watch", "--fragments", "conntrack"],
    ["enable", "--no-watch", "--log-group", "5", "--action", "reject"],
    ["up", "--tunnel", "wg0", "--resolver", "10.64.0.1"],
    ["down", "--tunnel", "wg0"],
    ["enable", "--no-watch"],
    ["reload"],
]


def handles(guard):
    listing = guard.namespace.run(
        ["nft", "-a", "list", "table", "inet", "leakguard"]).stdout
    return TABLE.search(listing).group(1), POSTROUTING.search(listing).group(1)


def test_table_and_base_chain_are_kept(guard):
    """Made once; deleting and adding them again would leak (facts.md 2)."""
    run(guard, "enable", "--no-watch")
    first = handles(guard)
    for change in KINDS_OF_CHANGE:
        run(guard, *change)
        assert handles(guard) == first, change
    guard.disable()
    run(guard, "enable", "--no-watch")
    assert handles(guard) != first  # the control: it can be told


def counts(guard):
    return {name: (counter["packets"], counter["bytes"]) for name, counter
            in guard.status()["counters"].items()}


def test_counters_keep_their_values(lab, guard):
    run(guard, "enable", "--no-watch")
    with lab.host.inside():
        run_inside(lab.host, ["dig", "+tries=1", "+time=1",
                              f"@{labnet.GATEWAY.v4}", "lab.example"])
    before = counts(guard)
    assert before["S7"][0] > 0
    for change in KINDS_OF_CHANGE:
        run(guard, *change)
        now = counts(guard)
        assert all(now[name] == value for name, value in before.items()
                   if name in now), change
        assert "S7" in now


# --- limits ---

def lines(form, count):
    return "".join(form.format(n=n, address=address(n)) + "\n"
                   for n in range(count))


# key -> (limit, lines of that many, what the refusal names)
LIMITS = {
    "tunnel": (64, "tunnel = t{n}", "64 tunnels"),
    "resolver": (131072, "resolver = {address}", "131072 resolvers"),
    "endpoint": (1024, "endpoint = {address}:443/udp", "1024 endpoints"),
}


@pytest.mark.parametrize("key", LIMITS)
def test_limit(guard, key):
    """In full it works; one more is refused, and nothing was touched."""
    limit, form, named = LIMITS[key]
    guard.configure(lines(form, limit))
    run(guard, "enable", "--no-watch")
    before = generation(guard.namespace)
    guard.configure(lines(form, limit + 1))
    for argv in (["reload"], ["enable", "--no-watch"]):
        done = run(guard, *argv, rc=2)
        assert f"{guard.config}:{limit + 1}: {key}" in done.stderr, done
        assert named in done.stderr and done.stderr.count("\n") == 1, done
    assert generation(guard.namespace) == before


def test_limit_of_ports(guard):
    ports = [str(n) for n in range(53, 53 + 17)]
    run(guard, "enable", "--no-watch", "--ports", ",".join(ports[:16]))
    before = generation(guard.namespace)
    done = run(guard, "enable", "--no-watch", "--ports", ",".join(ports), rc=2)
    assert "16 ports" in done.stderr and done.stderr.count("\n") == 1, done
    assert generation(guard.namespace) == before


def test_limit_of_tunnels_from_hooks(guard):
    """What `up` brings counts as well."""
    guard.configure(lines("tunnel = t{n}", 63))
    run(guard, "enable", "--no-watch")
    run(guard, "up", "--tunnel", "wg0", "--resolver", "10.64.0.1")
    before = generation(guard.namespace)
    done = run_inside(guard.namespace,
                      guard.command("up", "--tunnel", "wg1"))
    assert done.rc in (1, 2) and "64 tunnels" in done.stderr, done
    assert generation(guard.namespace) == before
    run(guard, "down", "--tunnel", "wg0")
    run(guard, "up", "--tunnel", "wg1")


def test_twice_is_once(guard):
    """Entries given twice are taken once, here and there."""
    guard.configure("tunnel = tun0\nresolver = 192.0.2.9\n" * 3)
    run(guard, "enable", "--no-watch")
    listing = guard.listing()
    assert listing.count("192.0.2.9") == 1 and listing.count('"tun0"') == 1
