"""Pause: all name traffic goes anywhere for a time, and no longer (S6).

It is the kernel that ends it: elements of a set, with a timeout. Those that
the tests wait out are short, and waited for in the kernel.
"""

import re

import pytest

import labnet
import netns
from guard import TABLES
from probes import Probe, fire
from procfs import family

INSIDE = labnet.RESOLVERS["inside"]
# As the sets of each table call them.
FAMILIES_OF = {table: ("ip", "ip6") for table in TABLES}
FAMILIES_OF[TABLES[0]] = ("ipv4", "ipv6")
SHORT = "3"  # seconds: long enough for a volley
EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
OWNERSHIP_OFF = ["--ownership", "off"]
UNITS_MS = {"h": 3600000, "m": 60000, "s": 1000, "ms": 1}

# Between our clock and the kernel's (src/fwdiff.c, TIMED_SLACK_MS).
SLACK_MS = 1000
PROBES = [Probe(origin, "routed", family, port, proto, "public")
          for origin in ("host", "lan") for family in (4, 6)
          for port in (53, 853) for proto in ("udp", "tcp")]


def is_open(lab):
    """Whether all name traffic gets out; if not, none may."""
    volley = fire(lab, PROBES)
    seen = {str(o.probe) for o in volley if o.seen}
    assert seen in (set(), {str(probe) for probe in PROBES})
    assert not volley.strays
    return bool(seen)


def _milliseconds(text):
    return sum(int(number) * UNITS_MS[unit]
               for number, unit in re.findall(r"(\d+)(ms|[hms])", text))


def pauses(guard):
    """{table and family: (milliseconds in all, milliseconds left)}, as the
    kernel has it."""
    return {f"{table} {family}": (_milliseconds(whole), _milliseconds(left))
            for table, listing in guard.listings().items()
            for family, whole, left in re.findall(
                r"\b(ip\w*) timeout (\w+) expires (\w+)", listing)}


# What is open in a pause: IPv4 and IPv6 in each table.
ALL = {f"{table} {family}" for table in TABLES
       for family in FAMILIES_OF[table]}


def left_ms(guard):
    return {family: left for family, (_, left) in pauses(guard).items()}


def wait_over(guard):
    """Until the kernel has taken the pause away."""
    netns.wait_until(lambda: not left_ms(guard), "the pause is over", 30)


def warnings(guard):
    return {warning["code"] for warning in guard.status()["warnings"]}


def assert_closed(lab, guard):
    assert not is_open(lab)
    status = guard.status()
    assert (status["state"], status["pause_left_ms"]) == ("LOCKED", 0)
    assert "paused" not in warnings(guard)


# --- what it opens ---

@pytest.mark.parametrize("watch, options", [
    (False, []),
    (True, ["--mode", "both", "--action", "reject"]),
    (True, OWNERSHIP_OFF),
    (False, ["--action", "reject", "--resolver", f"{INSIDE.v4} via tunnel"]),
], ids=["alone", "both, reject", "ownership off", "alone, reject"])
def test_opens_until_resume(lab, guard, watch, options):
    guard.enable("--tunnel", "tun0", *options, watch=watch)
    assert_closed(lab, guard)
    before = guard.status()["counters"]
    guard.pause("1m")
    assert is_open(lab)
    status = guard.status()
    assert 0 < status["pause_left_ms"] <= 60000
    assert set(left_ms(guard)) == ALL
    assert status["state"] == "LOCKED" and status["guarded"]
    assert "paused" in warnings(guard)
    assert guard.run("status").rc == EXIT_DONE
    assert (status["counters"]["S6"]["packets"]
            - before["S6"]["packets"]) >= len(PROBES)
    assert status["counters"]["S7"] == before["S7"]
    guard.resume()
    assert_closed(lab, guard)


def test_status_reads_the_kernel(lab, guard):
    """Its clock decides what is open, not that of the record."""
    guard.enable("--tunnel", "tun0", *OWNERSHIP_OFF, watch=False)
    guard.pause(SHORT)
    elements = "{ ipv4 timeout 1h, ipv6 timeout 1h }"
    lab.host.nft(f"flush set {TABLES[0]} pause\n"
                 f"add element {TABLES[0]} pause {elements}\n")
    assert is_open(lab)
    netns.wait_until(lambda: len(left_ms(guard)) == 2, "the others are over")
    assert guard.status()["pause_left_ms"] > 3_000_000
    assert "paused" in warnings(guard)


def kill_family(guard):
    both = family(guard)
    both["keeper"].kill()  # first: it would start another worker
    both["worker"].kill()
    for process in both.values():
        netns.wait_until(lambda p=process: not p.is_alive(), "it is dead")
    assert guard.watcher is None


@pytest.mark.parametrize("watch, options, in_the_middle", [
    (False, [], None), (True, [], None), (True, [], kill_family),
    (True, OWNERSHIP_OFF, None), (True, OWNERSHIP_OFF, kill_family),
], ids=["alone", "owned", "owned, killed", "listening", "listening, killed"])
def test_ends_by_itself(lab, guard, watch, options, in_the_middle):
    guard.enable("--tunnel", "tun0", *options, watch=watch)
    guard.pause(SHORT)
    assert is_open(lab)
    if in_the_middle:
        in_the_middle(guard)
    wait_over(guard)
    assert_closed(lab, guard)


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_short(lab, guard, watch):
    """What is said to be open is open, if only for a moment."""
    guard.enable(tunnel="tun0", watch=watch)
    guard.pause("2")
    assert left_ms(guard)
    wait_over(guard)
    assert_closed(lab, guard)


# --- what is refused ---

@pytest.mark.parametrize("duration", [
    "0", "0m", "-1", "+5", "abc", "5x", "5M", "1.5", "1 m", " 5", "5m ", "",
    "m", "1h30m", "1d", "99999999999", "4294967296h",
    "0x10"])
def test_bad_durations(guard, duration):
    guard.enable(tunnel="tun0")
    done = guard.pause(duration, check=False)
    assert done.rc == EXIT_USAGE
    assert done.stderr.count("\n") == 1 and not done.stdout
    assert not left_ms(guard)


@pytest.mark.parametrize("most, duration, taken", [
    ("", "3600", True), ("", "1h", True), ("", "3601", False),
    ("", "61m", False), ("", "2h", False), ("pause-max = 2h\n", "2h", True),
    ("pause-max = 90\n", "90s", True), ("pause-max = 90\n", "2m", False)])
def test_the_longest(guard, most, duration, taken):
    guard.configure(most)
    guard.enable(tunnel="tun0")
    done = guard.pause(duration, check=False)
    if taken:
        assert done.rc == EXIT_DONE, done
        assert set(left_ms(guard)) == ALL
    else:
        assert done.rc == EXIT_USAGE
        assert done.stderr.count("\n") == 1 and "pause-max" in done.stderr
        assert not left_ms(guard)


@pytest.mark.parametrize("verb", [["pause", "1m"], ["resume"]])
def test_no_guard(guard, verb):
    done = guard.run(*verb)
    assert done.rc == EXIT_FAILED
    assert done.stderr.count("\n") == 1 and "not up" in done.stderr
    assert guard.state == "OFF" and not guard.listings()


# --- what becomes of it ---

@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_stays_while_the_rest_changes(lab, guard, watch):
    """enable, up, down and reload leave it running, and do not prolong it."""
    guard.enable(tunnel="tun0", watch=watch)
    guard.pause("1m")
    last = left_ms(guard)
    for change in (lambda: guard.up("tun9", "10.9.9.9"),
                   lambda: guard.down("tun9"), guard.reload,
                   lambda: guard.enable(tunnel="tun8", watch=watch)):
        change()
        now = left_ms(guard)
        assert all(0 < now[family] <= last[family] for family in last), now
        last = now
    assert is_open(lab)
    guard.resume()
    assert_closed(lab, guard)


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
@pytest.mark.parametrize("first, second", [(60, 1800), (1800, 60), (55, 60),
                                           (60, 55)])
def test_another_replaces_it(guard, watch, first, second):
    guard.enable(tunnel="tun0", watch=watch)
    for seconds in (first, second):
        guard.pause(str(seconds))
        lengths = [whole for whole, _ in pauses(guard).values()]
        assert len(lengths) == len(ALL)
        assert all(0 <= seconds * 1000 - whole < 1000 for whole in lengths)


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_resume_near_the_end(lab, guard, watch):
    """The last second alone is left to the kernel."""
    guard.enable(tunnel="tun0", watch=watch)
    guard.pause("3")
    netns.wait_until(lambda: max(left_ms(guard).values(), default=0) < 1800,
                     "it is nearly over")
    guard.resume()
    assert max(left_ms(guard).values(), default=0) <= SLACK_MS
    wait_over(guard)
    assert_closed(lab, guard)


@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_disable_ends_it(lab, guard, watch):
    """The next enable starts without one."""
    guard.enable(tunnel="tun0", watch=watch)
    guard.pause("1m")
    guard.disable()
    assert guard.state == "OFF"
    guard.enable(tunnel="tun0", watch=watch)
    assert not left_ms(guard)
    assert_closed(lab, guard)


# --- other people ---

def test_flushed_in_a_pause(lab, guard):
    """What a watcher puts back is the rest of the pause."""
    guard.enable("--tunnel", "tun0", *OWNERSHIP_OFF, watch=True)
    guard.pause("1m")
    for number, text in enumerate((
            "flush ruleset", *(f"delete table {table}" for table in TABLES),
            *(f"flush set {table} pause" for table in TABLES)), start=1):
        before = left_ms(guard)
        guard.namespace.nft(text)
        netns.wait_until(
            lambda n=number: guard.watcher["undone"] >= n, "undone")
        now = left_ms(guard)
        assert set(now) == ALL, text
        assert all(0 < now[family] <= before[family] for family in now), text
    lab.host.nft(labnet.HOST_MASQUERADE)  # "flush ruleset" took it as well
    assert is_open(lab)
    guard.resume()
    assert_closed(lab, guard)


ELEMENTS = ["{0}", "{1} timeout 1h", "{0} timeout 3s", "{0} timeout 1s"]


def add_element(table, element):
    return (f"add element {table} pause {{ "
            f"{element.format(*FAMILIES_OF[table])} }}")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_undone(lab, guard, table, element):
    guard.enable("--tunnel", "tun0", *OWNERSHIP_OFF, watch=True)
    guard.namespace.nft(add_element(table, element))
    netns.wait_until(lambda: guard.watcher["undone"] == 1, "undone", 5)
    assert_closed(lab, guard)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("change", [
    "delete element {0} pause {{ {2} }}",
    "flush set {0} pause\nadd element {0} pause {{ {1} timeout 1h }}",
    "flush set {0} pause\nadd element {0} pause {{ {1}, {2} }}"],
    ids=["shortened", "prolonged", "without an end"])
def test_undone_in_a_pause(lab, guard, table, change):
    """The pause that was asked for stays."""
    guard.enable("--tunnel", "tun0", *OWNERSHIP_OFF, watch=True)
    guard.pause("1m")
    guard.namespace.nft(change.format(table, *FAMILIES_OF[table]))
    netns.wait_until(lambda: guard.watcher["undone"] == 1, "undone")
    left = left_ms(guard)
    assert set(left) == ALL
    assert all(0 < one <= 60000 for one in left.values())
    guard.resume()
    assert_closed(lab, guard)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("element", ELEMENTS)
def test_seen_without_a_watcher(guard, table, element):
    guard.enable(tunnel="tun0")
    guard.namespace.nft(add_element(table, element))
    assert guard.state == "ALTERED"
    guard.reload()
    assert guard.state == "LOCKED" and not left_ms(guard)


def test_refused_by_the_owner(lab, guard):
    guard.enable(tunnel="tun0", watch=True)
    if not guard.watcher["owner"]:
        pytest.skip("the kernel cannot own a table beyond its socket")
    for line in (line for table in TABLES for line in (
            add_element(table, "{0} timeout 1h"),
            f"flush set {table} pause")):
        done = guard.namespace.run(["nft", line], check=False)
        assert done.rc and "not permitted" in done.stderr, done
    assert_closed(lab, guard)
