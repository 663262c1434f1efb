"""What others do to the rules does not stand (S14), under full load.

Where the watcher owns the tables nothing gets out, since nothing can be done
to them. Where it does not (`--ownership off`), every change is undone. While
one of the three is open the others still stand; without them what got out
until the repair is counted: build/undone-frames-off.txt has how
much, and how soon.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import time

import pytest

import labnet
import netns
from commits import OURS, Commits, deafen
from firewalls import FIREWALLS, NFTABLES_CONF
from guard import REPOSITORY, TABLES, egress_chain
from procfs import family
from test_altered import ANYWHERE, EDITS, FRAME_EDITS, TABLE
from test_update import TARGET, Load, control, report, settle
from tools import (SOAK, Churn, Counter, Rival, comparable, generation,
                   run_inside)

BUILD = pathlib.Path(os.environ.get("BUILD", REPOSITORY / "build"))
ROUNDS = 2000 if SOAK else 60
TIMEOUT_S = 60
POLICY = ["--tunnel", "tun0", "--fragments", "defrag",
          *(word for address in ANYWHERE for word in ("--resolver", address))]
OFF = ["--ownership", "off"]
# The watcher's bounded rate: so many at once, then so many a second.
BURST, RATE = 200, 200

FLUSH_POSTROUTING = f"flush chain {TABLE} postrouting\n"
# With those of test_altered.py: everything there is, deleted, changed or
# added to. name -> ruleset, or a function that looks up what it needs.
CHANGES = {
    **{name: ruleset for name, (ruleset, _) in EDITS.items()},
    "table deleted": f"delete table {TABLE}",
    "base chain deleted":
        f"{FLUSH_POSTROUTING}delete chain {TABLE} postrouting",
    "base chain made anew, later":
        f"{FLUSH_POSTROUTING}delete chain {TABLE} postrouting\n"
        f"add chain {TABLE} postrouting {{ type filter hook postrouting "
        "priority 300; }",
    "table made anew, empty": f"delete table {TABLE}\nadd table {TABLE}",
    "set flushed": f"flush set {TABLE} resolver4",
    "set added": f"add set {TABLE} more {{ type ipv4_addr; }}",
    "paused for good":
        f"add element {TABLE} pause {{ ipv4, ipv6 }}",
    "paused for an hour":
        f"add element {TABLE} pause {{ ipv4 timeout 1h, ipv6 timeout 1h }}",
    "resolvers added, both families":
        f"add element {TABLE} resolver4 {{ {TARGET.v4} }}\n"
        f"add element {TABLE} resolver6 {{ {TARGET.v6} }}",
}

WAN_CHAIN, HOOK = "netdev leakguard {0}", "type filter hook egress"
# What is done to the chain of a link, {0}.
LINK_CHANGES = {
    "deleted": f"flush chain {WAN_CHAIN}\ndelete chain {WAN_CHAIN}",
    "flushed": f"flush chain {WAN_CHAIN}",
    "accepts": f"insert rule {WAN_CHAIN} accept",
    "at another link": f"""flush chain {WAN_CHAIN}
        delete chain {WAN_CHAIN}
        add chain {WAN_CHAIN} {{{{ {HOOK} device "lan0" priority 400; }}}}""",
    "at two links":
        f'add chain {WAN_CHAIN} {{{{ {HOOK} devices = {{{{ "lan0" }}}} '
        "priority 400; }}",
    "drops": f"add chain {WAN_CHAIN} {{{{ policy drop; }}}}",
    "is not alone": "add chain netdev leakguard late "
                    f'{{{{ {HOOK} device "wan0" priority 500; }}}}',
}
# The same of the tables for frames: {0}.
FRAME_CHANGES = {
    **FRAME_EDITS,
    "table flushed": "flush table {0}",
    "table dormant": "add table {0} {{ flags dormant; }}",
    "table made anew, empty": "delete table {0}\nadd table {0}",
    "set flushed": "flush set {0} resolver4",
    "set added": "add set {0} more {{ type ipv4_addr; }}",
    "paused for good": "add element {0} pause {{ ip, ip6 }}",
    "resolvers added": f"add element {{0}} resolver4 {{{{ {TARGET.v4} }}}}\n"
                       f"add element {{0}} resolver6 {{{{ {TARGET.v6} }}}}",
}
FRAMES = {
    **{f"{table.split()[0]}: {name}": ruleset.format(table)
       for name, ruleset in FRAME_CHANGES.items() for table in TABLES[1:]},
    **{f"link's chain {name}": lambda lab, ruleset=ruleset: ruleset.format(
        egress_chain(lab.host, "wan0"))
       for name, ruleset in LINK_CHANGES.items()},
    "bridge: base chain deleted": "flush chain bridge leakguard forward\n"
                                  "delete chain bridge leakguard forward",
}
ALL_DELETED = {"all tables deleted":
               "".join(f"delete table {table}\n" for table in TABLES)}
# Of everybody's tables, not of ours alone.
SWEEPS = {
    "flush ruleset": "flush ruleset",
    "nftables.conf": NFTABLES_CONF,
}
EVERY = {**CHANGES, **FRAMES, **ALL_DELETED, **SWEEPS}


@pytest.fixture(scope="module")
def lab():
    """Without NAT on the host: connection tracking would reassemble for us."""
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture
def counter(lab):
    """Everything that reaches the provider for the target's addresses."""
    with Counter(lab.isp, "cust0", *TARGET) as counting:
        yield counting


@pytest.fixture
def commits(lab):
    with Commits(lab.host) as listening:
        yield listening


@pytest.fixture
def watched(lab, guard, counter):
    """watched(*options): the guard raised, with a watcher left behind."""
    control(lab, counter, TARGET)

    def enable(*options):
        guard.enable(*POLICY, *options, watch=True)
        assert guard.status()["owner"] == ("none" if options else "socket")
        return guard

    yield enable
    guard.disable()
    lab.host.nft("flush ruleset")
    control(lab, counter, TARGET)


def edit(lab, change):
    """The Result of nft(8), told this."""
    ruleset = change if isinstance(change, str) else change(lab)
    with open(f"{lab.dir}/edit", "w", encoding="ascii") as file:
        file.write(ruleset)
    return run_inside(lab.host, ["nft", "-f", file.name])


def rules(guard, *options):
    """What our tables say, whatever the order that chains were made in, and
    what those of links are called."""
    return {table: comparable(re.sub(r"chain egress_\w+ ", "chain ", listing)
                              .replace("\n\t}\n", "\n"))
            for table, listing in guard.listings(*options).items()}


def handles(guard):
    """Every rule, set and chain of ours with the number it was born with."""
    return rules(guard, "-a")


def others(lab):
    """Everybody else's tables, with handles."""
    listing = lab.host.run(["nft", "-a", "list", "ruleset"]).stdout
    return [table for table in re.split(r"^(?=table )", listing, flags=re.M)
            if table and " ".join(table.split()[1:3]) not in TABLES]


def is_restored(guard, before):
    """The rules are those of `before`, and status agrees."""
    return rules(guard) == before and guard.state == "LOCKED"


def wait_restored(guard, before, what):
    netns.wait_until(lambda: is_restored(guard, before), what, TIMEOUT_S, 0.05)


# --- owned ---

def test_owned(lab, watched, counter, record_property):
    """All is refused or passes by; not a rule is made anew."""
    guard, chance = watched(), random.Random(53)
    before, base = handles(guard), counter.total()
    assert [*before] == TABLES
    with Load(lab, TARGET) as load:
        for number in range(ROUNDS):
            name = (list(EVERY)[number] if number < len(EVERY)
                    else chance.choice(list(EVERY)))
            done = edit(lab, EVERY[name])
            assert (done.rc == 0) == (name in SWEEPS), f"{name}: {done}"
            assert done.rc == 0 or "not permitted" in done.stderr, done
        tried = load.stop()
    out = counter.total() - base
    report(record_property, rounds=ROUNDS, tried=tried, out=out)
    assert out == 0
    assert handles(guard) == before
    status = guard.status()
    assert (status["state"], status["owner"]) == ("LOCKED", "socket")
    assert (status["watcher"]["undone"], status["watcher"]["owner"]) == (0, True)


# In three transactions; each is of all families.
MADE_ANEW = [(verb, f"{table}{name}") for verb, name in (
    ("add", "_standin"), ("delete", ""), ("add", ""), ("delete", "_standin"))
    for table in TABLES]


def test_ownership_comes_and_goes(lab, watched, counter, commits):
    """A running watcher gives the tables up and takes them back, under load;
    each time second ones with the same rules stand meanwhile."""
    guard = watched()
    made = len(commits.tables)
    before, base, pid = rules(guard), counter.total(), None
    with Load(lab, TARGET) as load:
        for ownership, owner in [("off", "none"), ("auto", "socket")] * 4:
            guard.enable(*POLICY, "--ownership", ownership, watch=True)
            status = guard.status()
            pid = pid or status["watcher"]["pid"]
            assert (status["state"], status["owner"]) == ("LOCKED", owner)
            assert status["watcher"]["owner"] == (owner == "socket")
            assert status["watcher"]["pid"] == pid
            for table in TABLES if owner == "socket" else []:
                done = edit(lab, f"delete table {table}")
                assert "not permitted" in done.stderr
        assert rules(guard) == before
        load.stop()
    assert counter.total() == base
    netns.wait_until(lambda: commits.tables[made:] == MADE_ANEW * 8,
                     "each by way of second tables")
    assert [*guard.listings()] == TABLES and not others(lab)
    # Anybody's again, they are watched as such.
    guard.enable(*POLICY, *OFF, watch=True)
    before = rules(guard)
    for table in TABLES:
        assert edit(lab, f"delete table {table}").rc == 0
        wait_restored(guard, before, f"undone once it is given up: {table}")


# --- undone ---

# Somebody else's: a table that another process owns, and one with a bit of all.
OWNED = "add table inet neighbour_owned { flags owner; }"
ODDS = """
table ip neighbour {
    set s { type ipv4_addr; elements = { 192.0.2.77 }; }
    chain out { type filter hook output priority 7; ip daddr @s counter drop; }
    chain leakguard { accept; }
}
table netdev neighbour { chain leakguard { accept; }; }
table bridge neighbour { chain leakguard { accept; }; }
table arp leakguard { chain c { }; }
table ip leakguard { chain postrouting { counter; }; }
"""


@contextlib.contextmanager
def neighbours(lab):
    """Tables of others; one is owned as long as this lasts."""
    lab.host.nft(ODDS)
    owner = lab.host.popen(["nft", "-i"], stdin=-1, stdout=-3, text=True)
    try:
        owner.stdin.write(OWNED + "\nadd chain inet neighbour_owned c\n")
        owner.stdin.flush()
        netns.wait_until(lambda: "chain c" in lab.host.run(
            ["nft", "list", "ruleset"]).stdout.partition("neighbour_owned")[2],
            "a table with another owner")
        yield
    finally:
        netns.kill(owner)


class Figures:
    """What got out, and for how long, for each kind of change."""

    def __init__(self):
        self.rows = {}

    def add(self, name, packets, seconds):
        self.rows.setdefault(name, []).append((packets, seconds * 1000))

    def out(self):
        """{change: packets} of those that let any out."""
        return {name: total for name, row in self.rows.items()
                if (total := sum(packets for packets, _ in row))}

    def text(self):
        rows = {**self.rows, "all": sum(self.rows.values(), [])}
        lines = [f"{'change':<46} {'times':>5}  {'packets out':^22} "
                 f"{'ms to repair':^24}",
                 f"{'':<46} {'':>5}  {'median':>6} {'95 %':>7} {'most':>7} "
                 f"{'median':>8} {'95 %':>7} {'most':>7}"]
        for name, values in rows.items():
            packets, times = (sorted(one) for one in zip(*values, strict=True))
            lines.append(
                f"{name:<46} {len(values):>5}  "
                + " ".join(f"{_part(packets, p):>{w}}"
                           for p, w in ((.5, 6), (.95, 7), (1, 7)))
                + " " + " ".join(f"{_part(times, p):>{w}.2f}"
                                 for p, w in ((.5, 8), (.95, 7), (1, 7))))
        return "\n".join(lines) + "\n"


def _part(values, share):
    return values[min(int(len(values) * share), len(values) - 1)]


def undo_each(lab, guard, counter, commits, names, figures):
    """Each change in turn, undone before the next."""
    before = rules(guard)
    for name in names:
        since, base = len(commits.seen), counter.total()
        done = edit(lab, EVERY[name])
        assert done.rc == 0, f"{name}: {done}"
        seconds = commits.wait_repair(since, TIMEOUT_S)
        figures.add(name, counter.total() - base, seconds)
        netns.wait_until(lambda: rules(guard) == before,
                         f"undone: {name}", TIMEOUT_S)
    assert is_restored(guard, before)


@pytest.mark.parametrize("frames", ["require", "off"])
def test_undone(lab, watched, counter, commits, record_property, frames):
    """All changes of our tables, then everybody's; others' stay what they
    are. What goes past one of two tables meets the other."""
    guard = watched(*OFF, "--frames", frames)
    ours, all_deleted = ((CHANGES, {}) if frames == "off" else
                         ({**CHANGES, **FRAMES}, ALL_DELETED))
    chance, figures = random.Random(853), Figures()
    rounds = [*ours] + chance.choices([*ours], k=ROUNDS // 2)
    sweeps = [*all_deleted] + chance.choices([*SWEEPS], k=max(
        ROUNDS - len(rounds), 6))
    with neighbours(lab), Load(lab, TARGET) as load:
        theirs = others(lab)
        undo_each(lab, guard, counter, commits, rounds, figures)
        out = figures.out()
        assert others(lab) == theirs
        base = guard.watcher["undone"]
        assert base >= len(rounds)
        undo_each(lab, guard, counter, commits, sweeps, figures)
        watcher = guard.watcher
        tried = load.stop()
    assert watcher["undone"] >= base + len(sweeps) and not watcher["lost"]
    assert watcher["last_undone"]["name"] == "nft"
    assert watcher["last_undone"]["pid"] > 1
    assert "table" in watcher["last_undone"]["what"]
    record_property("tried", str(tried))
    BUILD.mkdir(exist_ok=True)
    (BUILD / f"undone-frames-{frames}.txt").write_text(figures.text())
    print("\n" + figures.text())
    assert not out or frames == "off"


def test_nothing_comes_before_the_repair(lab, guard):
    """Neither a question nor the rest of the events: the kernel's mutex goes to
    the next who asks, and that may be the culprit who closes its socket."""
    guard.enable(tunnel="tun0", watch=True, ownership="off")
    worker = family(guard)["worker"]
    trace = pathlib.Path(f"{guard.run_dir}.trace")
    strace = lab.host.popen(["strace", "-qq", "-o", trace, "-e",
                             "trace=network,/epoll_p?wait", "-p",
                             str(worker.pid)])
    netns.wait_until(lambda: worker.status("TracerPid") != "0", "strace", 30)
    lab.host.run(["nft", "flush", "ruleset"])
    netns.wait_until(lambda: guard.watcher["undone"] == 1, "it is undone", 30)
    netns.stop(strace)
    # By what it was woken for, each.
    woken = re.split(r"(?m)^(?:<\.\.\. )?epoll_.*", trace.read_text(encoding="ascii"))
    calls = next(called for called in (re.findall(r"(?m)^(\w+)\(", text)
                                       for text in woken) if "sendmsg" in called)
    assert calls[:5] == ["recvmsg", "getsockopt", "getsockopt", "recvfrom",
                         "sendmsg"]
    assert calls.count("recvmsg") > 5, "events are read, later"
    assert guard.watcher["last_undone"]["name"] == "nft"


def test_log_names_who(lab, guard):
    """In the foreground, so that stderr has the log; one line a second."""
    log, started = pathlib.Path(lab.dir, "watch.log"), time.monotonic()
    with open(log, "wb") as file:
        process = lab.host.popen(guard.command("watch", *POLICY, *OFF),
                                 stderr=file)
    try:
        netns.wait_until(lambda: guard.state == "LOCKED", "guarded")
        before = rules(guard)
        for table in TABLES * 2:
            assert edit(lab, f"delete table {table}").rc == 0
            wait_restored(guard, before, "undone")
        seconds = time.monotonic() - started
    finally:
        netns.stop(process)
    lines = [line for line in log.read_text(encoding="utf-8").splitlines()
             if "undone" in line]
    assert "removal of table by nft (process " in lines[0]
    assert len(lines) <= seconds + 1


# --- side by side ---

@pytest.mark.parametrize("options", [[], OFF], ids=["owned", "off"])
@pytest.mark.parametrize("name", FIREWALLS)
def test_firewall(lab, watched, counter, record_property, name, options):
    """Real ones come, reload and go; none of them touches our table."""
    guard = watched(*options)
    before, base = handles(guard), counter.total()
    firewall = FIREWALLS[name](lab)
    with Load(lab, TARGET) as load:
        for _ in range(50 if SOAK else 1):
            firewall.start()
            try:
                assert firewall.mark in lab.host.run(
                    ["nft", "list", "ruleset"]).stdout
                firewall.reload()
            finally:
                firewall.stop()
        tried = load.stop()
    out = counter.total() - base
    report(record_property, firewall=name, tried=tried, out=out)
    assert out == 0
    assert handles(guard) == before
    assert guard.state == "LOCKED"
    assert guard.watcher["undone"] == 0


# --- fighting ---

FIGHT_S = 30 if SOAK else 4


@pytest.mark.parametrize("how", ["delete", "chains"])
def test_fight(lab, watched, counter, commits, record_property, how):
    """Said so, at a bounded rate, and never given up."""
    guard = watched(*OFF)
    before = rules(guard)
    started, undone = time.monotonic(), []
    with Rival(lab.host, how) as rival, Load(lab, TARGET) as load:
        while time.monotonic() - started < FIGHT_S:
            undone.append(status_in_a_storm(guard)["watcher"]["undone"])
            netns.wait_until(  # going on: never given up
                lambda: status_in_a_storm(guard)["watcher"]["undone"]
                > undone[-1], f"another repair, {undone}", TIMEOUT_S, 0.1)
        netns.wait_until(
            lambda: status_in_a_storm(guard)["watcher"]["fighting"],
            "a fight", TIMEOUT_S, 0.1)
        watcher = status_in_a_storm(guard)["watcher"]
        seconds = time.monotonic() - started
        changes = rival.stop()
        load.stop()
    wait_restored(guard, before, "the rules are back after the fight")
    report(record_property, how=how, seconds=round(seconds, 1),
           changes=changes, undone=watcher["undone"], lost=watcher["lost"],
           commits=len(commits.by(OURS)))
    status = guard.status()
    assert watcher["fighting"] and status["watcher"]["fighting"]
    assert "fight" in codes(status)
    assert watcher["undone"] <= BURST + RATE * (seconds + 1)
    # Of one whose event the kernel had no room for nobody knows.
    assert watcher["last_undone"]["name"] in (
        ("rival", "") if watcher["lost"] else ("rival",))
    settle(lab)
    base = counter.total()
    with Load(lab, TARGET, batches=500) as load:
        load.stop()
    assert counter.total() == base


def status_in_a_storm(guard):
    """A table that grows without a pause cannot always be read, and keeps the
    watcher from its answer now and then."""
    def read():
        done = guard.run("status", "--json")
        status = done.stdout and json.loads(done.stdout)
        return status if status and status["watcher"] else None

    return netns.wait_until(read, "a status", TIMEOUT_S)


def codes(status):
    return [warning["code"] for warning in status["warnings"]]


def test_fight_is_said_without_a_table(lab, watched):
    guard = watched(*OFF)

    def caught():
        status = status_in_a_storm(guard)
        fighting = status["watcher"]["fighting"]
        return status if fighting and status["state"] == "OFF" else None

    with Rival(lab.host, "delete"):
        status = netns.wait_until(caught, "a moment without rules", TIMEOUT_S)
    assert "fight" in codes(status)


def test_fight_with_an_owner(lab, watched, counter, record_property):
    guard = watched()
    before, base = handles(guard), counter.total()
    for how in ("delete", "chains"):
        with Rival(lab.host, how) as rival, Load(lab, TARGET) as load:
            netns.wait_until(lambda: guard.watcher["pid"], "the watcher")
            changes = rival.stop()
            load.stop()
        assert changes == 0
    report(record_property, out=counter.total() - base)
    assert counter.total() == base and handles(guard) == before
    assert guard.watcher["undone"] == 0 and not guard.watcher["fighting"]


# --- what is not told ---

def test_events_are_lost(lab, watched):
    """More than the socket holds while the watcher cannot read. Until it has
    been emptied the kernel drops what comes, and does not say so again."""
    guard = watched(*OFF)
    before, watcher = rules(guard), guard.watcher
    with paused(watcher["pid"]):
        assert edit(lab, ALL_DELETED["all tables deleted"]).rc == 0
        since = generation(lab.host)
        with Churn(lab.host) as churn:
            netns.wait_until(lambda: generation(lab.host) > since + 60000,
                             "many transactions", TIMEOUT_S)
            churn.stop()
        assert not guard.listings()
        since = generation(lab.host)
    netns.wait_until(lambda: generation(lab.host) > since, "a repair",
                     TIMEOUT_S, 0.001)
    assert edit(lab, FLUSH_POSTROUTING).rc == 0
    wait_restored(guard, before, "put back after a loss, twice")
    after = guard.watcher
    assert after["lost"] > watcher["lost"] and after["pid"] == watcher["pid"]
    assert "audit" not in after["last_undone"]["what"]
    # Hearing again: what comes next is undone as well, and said whose it was.
    assert edit(lab, FLUSH_POSTROUTING).rc == 0
    wait_restored(guard, before, "undone after a loss")
    assert guard.watcher["last_undone"]["name"] == "nft"


@contextlib.contextmanager
def paused(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_audit(lab, watched):
    """A change that sent no event is found by looking now and then."""
    guard = watched(*OFF)
    before, watcher = rules(guard), guard.watcher
    assert deafen(watcher["pid"]) == 1
    assert edit(lab, FLUSH_POSTROUTING
                + "".join(f"flush chain {table} frame\n"
                          for table in TABLES[1:])
                + FRAMES["link's chain deleted"](lab)).rc == 0
    wait_restored(guard, before, "found by an audit")
    after = guard.watcher
    assert after["undone"] == watcher["undone"] + 1
    assert "found by an audit" in after["last_undone"]["what"]
    assert after["pid"] == watcher["pid"]
