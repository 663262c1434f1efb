"""Only what differs is sent, what stays keeps its handle and its count.

And the limits: each is held in full, and one more is refused by name.
"""

import contextlib
import re
import socket
import time

import pytest

import labnet
import packets
from guard import TABLES
from tools import generation, run_inside

MANY = 100000
# Of each table the base chains that no policy changes.
KEPT = dict(zip(TABLES, ("postrouting", r"egress_\d+", "forward"),
                strict=True))


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
        # Without an end, in the third part, one is validated only.
        lines = [line for line in file if "NFNL_MSG_BATCH_BEGIN" in line
                 and "msg_iovlen=3" in line]
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
     "192.0.2.7:53/udp,mark=7", "--endpoint", "[2001:db8::7]:853/tcp",
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
    before, listings = generation(guard.namespace), guard.listings()
    assert [*listings] == TABLES
    run(guard, "enable", "--no-watch", *options)
    run(guard, "up", "--tunnel", "wg0", "--resolver", "10.64.0.2")
    run(guard, "down", "--tunnel", "tun7")
    run(guard, "reload")
    run(guard, "enable", "--dry-run", "--tunnel", "other0")
    assert generation(guard.namespace) == before
    assert guard.listings() == listings


def test_second_time_sends_no_transaction(guard, trace):
    """The probes that validate without an end are no transactions."""
    argv = ["enable", "--no-watch", "--fragments", "drop"]
    assert len(transactions(guard, argv, trace)) == 1
    assert not transactions(guard, argv, trace)


@pytest.mark.parametrize("change", ["one more", "one less"])
def test_one_of_many_is_one_element(guard, trace, change):
    """In a list of 100,000: no more bytes than in a list of one, a table."""
    before, after = MANY, MANY + (1 if change == "one more" else -1)
    guard.configure(resolvers(before))
    run(guard, "enable", "--no-watch", "--fragments", "drop")
    guard.configure(resolvers(after))
    sent = transactions(guard, ["reload"], trace)
    assert len(sent) == 1 and sent[0] < 300, sent
    assert sent[0] > len(TABLES) * 60, "an element for each"
    # The kernel says the same, asked by somebody else.
    changed = address(min(before, after))
    for table in TABLES:
        found = guard.namespace.run(
            ["nft", "get", "element", *table.split(), "resolver4",
             f"{{ {changed} }}"], check=False)
        assert (found.rc == 0) == (after > before), found


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
    ["enable", "--no-watch", "--frames", "strict"],
    ["up", "--tunnel", "wg0", "--resolver", "10.64.0.1"],
    ["down", "--tunnel", "wg0"],
    ["enable", "--no-watch"],
    ["reload"],
]


def handles(guard):
    """The numbers that tables and base chains were born with."""
    return {table: re.findall(
        rf"((?:table {table}|chain {KEPT[table]}) {{ # handle \d+)", text)
        for table, text in guard.listings("-a").items()}


def test_tables_and_base_chains_are_kept(guard):
    """Made once; deleting and adding them again would leak (facts.md 2)."""
    run(guard, "enable", "--no-watch")
    first = handles(guard)
    assert [*map(len, first.values())] == [2, 3, 2]  # wan0 and lan0 are two
    for change in KINDS_OF_CHANGE:
        run(guard, *change)
        assert handles(guard) == first, change
    run(guard, "enable", "--no-watch", "--frames", "off")
    assert handles(guard) == {TABLES[0]: first[TABLES[0]]}
    run(guard, "enable", "--no-watch")
    again = handles(guard)
    assert again[TABLES[0]] == first[TABLES[0]]
    assert again != first  # the control: it can be told
    guard.disable()
    run(guard, "enable", "--no-watch")
    assert handles(guard)[TABLES[0]] != first[TABLES[0]]


def test_what_others_hook_goes_alone(guard):
    """At the same links, at another place: ours stand as they are."""
    run(guard, "enable", "--no-watch")
    first = handles(guard)
    for link in ("wan0", "lan0"):
        guard.namespace.nft(f"add chain {TABLES[1]} late {{ type filter hook "
                            f'egress device "{link}" priority 500; }}')
        run(guard, "reload")
        assert handles(guard) == first, link


def counts(guard):
    return {name: (counter["packets"], counter["bytes"]) for name, counter
            in guard.status()["counters"].items()}


def test_counters_keep_their_values(lab, guard):
    run(guard, "enable", "--no-watch")
    with lab.host.inside():
        run_inside(lab.host, ["dig", "+tries=1", "+time=1",
                              f"@{labnet.GATEWAY.v4}", "lab.example"])
        send_frame()
    before = counts(guard)
    assert before["S7"][0] > 0 and before["S11"][0] > 0
    for change in KINDS_OF_CHANGE:
        run(guard, *change)
        now = counts(guard)
        assert all(now[name] == value for name, value in before.items()
                   if name in now), change
        assert "S7" in now and "S11" in now


def send_frame():
    """Round the IP stack."""
    packet = packets.ipv4(
        labnet.HOST_WAN.v4, labnet.GATEWAY.v4, packets.UDP, packets.udp(
            labnet.HOST_WAN.v4, labnet.GATEWAY.v4, 40000, 53, b"query"))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock, \
            contextlib.suppress(OSError):  # that it was dropped
        sock.sendto(packet, ("wan0", 0x0800, 0, 0, b"\xff" * 6))


# --- limits ---

def lines(form, count):
    return "".join(form.format(n=n, address=address(n)) + "\n"
                   for n in range(count))


# key -> (limit, lines of that many, what the refusal names)
LIMITS = {
    "tunnel": (64, "tunnel = t{n}", "64 links of a sort"),
    "lan": (64, "lan = l{n}", "64 links of a sort"),
    "lan-exempt": (64, "lan-exempt = {address}", "64 exempt clients"),
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
    for listing in guard.listings().values():
        assert listing.count("192.0.2.9") == 1
        assert listing.count('"tun0"') == 1
