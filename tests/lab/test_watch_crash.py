"""The watcher killed, stopped, woken in another time: the rules stand (S13).

A sender floods an address that no policy here approves; what arrived of it is
counted at the provider's end of the link. A command's exit status is held
against what the kernel has.
"""

import contextlib
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import time

import pytest

import labnet
import netns
from commits import stranger
from guard import TABLES, egress_chain
from procfs import family
from tools import (SOAK, KillIn, Rival, build,
                   comparable, generation, kill_at, run_inside)

KILLS = 200 if SOAK else 8
# Each death doubles the time to the next start; a life of 2 s clears it.
IN_A_ROW, HEALTHY_MS = 8, 2100
BACK_S = 30  # deadlines: what has to happen happens within a second or so
HANG_S = 90
MOST_CALLS = 3000
BASE = ["enable", "--tunnel", "tun0", "--resolver", "203.0.113.1 via any"]


@pytest.fixture(scope="module")
def lab():
    """Without NAT on the host."""
    with labnet.Lab(masquerade=False) as made:
        yield made


# --- a command beside it, and what it leaves ---

class Policy:
    """Policies that differ in what can be found again in the rules."""

    def __init__(self, guard):
        self.guard, self.number = guard, 1
        self.carriers = 1
        guard.configure(self.text)

    @property
    def carrier(self):
        return str(self.carriers % 250 + 1)

    @property
    def text(self):
        return f"endpoint = 100.64.0.{self.carrier}:53/udp\n"

    def read(self):
        """(resolver, links that `up` brought, carrier), or None."""
        listing = run_inside(self.guard.namespace, [
            "nft", "list", "table", "inet", "leakguard"]).stdout
        if not listing:
            return None
        return (re.findall(r"203\.0\.113\.(\d+)", listing),
                sorted(re.findall(r'"wg(\d+)"', listing)),
                re.findall(r"100\.64\.0\.(\d+) \. udp \. 53", listing))

    def enable(self, now):
        self.number += 1
        argv = ["enable", "--tunnel", "tun0", "--resolver",
                f"203.0.113.{100 + self.number % 100} via any"]
        return argv, ([str(100 + self.number % 100)], now[1], [self.carrier])

    def up(self, now):
        self.number += 1
        link = str(self.number % 5)
        return (["up", "--tunnel", f"wg{link}"],
                (now[0], sorted({*now[1], link}), now[2]))

    def down(self, now):
        if not now[1]:
            return self.up(now)
        return (["down", "--tunnel", f"wg{now[1][0]}"],
                (now[0], now[1][1:], now[2]))

    def reload(self, now):
        self.carriers += 1
        self.guard.configure(self.text)
        return ["reload"], (now[0], now[1], [self.carrier])


def start(guard, argv):
    with guard.namespace.inside():
        return subprocess.Popen(
            guard.command(*argv), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def judge(policy, process, before, expected):
    """Exit status, message and rules have to agree. The exit status."""
    out, err = process.communicate(timeout=HANG_S)
    now, what = policy.read(), f"{process.args}: {out}{err}"
    assert process.returncode in (0, 1), what
    if process.returncode:
        assert now in (before, expected), f"{what} left {now}"
        assert len(err.splitlines()) == 1 and not out, what
    else:
        assert now == expected and not err, f"{what} left {now}"
    return process.returncode


def assert_refused(host, tables=TABLES):
    """Somebody else may not change the rules, at this very moment."""
    for table in tables:  # one by one: a refusal would hide what is not
        done = run_inside(host, ["nft", "delete", "table", *table.split()])
        assert done.rc and "Operation not permitted" in done.stderr, done


def wait_watcher(guard, but=None):
    """A watcher answers, and is not the process that was killed."""
    def other():
        found = guard.watcher
        return found if found and found["pid"] != but else None
    return netns.wait_until(other, "a watcher answers", BACK_S)


def wait_gone(*processes):
    for process in processes:
        netns.wait_until(lambda p=process: not p.is_alive(),
                         f"process {process.pid} has ended")


def assert_in_order(guard, tables=TABLES):
    """Kernel and record agree, nothing is left half done."""
    found = guard.status()
    assert found["state"] == "LOCKED" and found["owner"] == "socket", found
    number = generation(guard.namespace)
    assert guard.reload().rc == 0
    assert generation(guard.namespace) == number, "the record said otherwise"
    assert [*guard.listings()] == [*tables], "and nothing else of ours"


# --- the worker ---

def test_worker_killed_at_random(lab, guard, target, record_property):
    """While commands change the policy: it is back, and they are done."""
    policy, chance = Policy(guard), random.Random(53)
    commands = [policy.enable, policy.up, policy.down, policy.reload]
    guard.enable(*BASE[1:], watch=True)
    failed, slowest_s = 0, 0
    with target.flooded():
        took_s = time_command(policy)
        for number in range(1, KILLS + 1):
            before, worker = policy.read(), guard.watcher["pid"]
            argv, expected = chance.choice(commands)(before)
            process = start(guard, argv)
            time.sleep(chance.uniform(0, took_s))  # any moment of it
            os.kill(worker, signal.SIGKILL)
            died = time.monotonic()
            assert_refused(lab.host)
            failed += judge(policy, process, before, expected)
            assert wait_watcher(guard, worker)["owner"]
            slowest_s = max(slowest_s, time.monotonic() - died)
            if number % IN_A_ROW == 0 and number < KILLS:
                netns.wait_until(
                    lambda: guard.watcher["age_ms"] > HEALTHY_MS,
                    "the watcher has lived a while", BACK_S, 0.1)
    report(record_property, killed=KILLS, commands_failed=failed,
           command_ms=round(took_s * 1000),
           slowest_return_ms=round(slowest_s * 1000))
    assert failed <= KILLS // 10
    assert_in_order(guard)


def time_command(policy):
    """How long one takes here and now."""
    before, started = policy.read(), time.monotonic()
    argv, expected = policy.enable(before)
    judge(policy, start(policy.guard, argv), before, expected)
    return time.monotonic() - started


def report(record_property, **figures):
    for name, figure in figures.items():
        record_property(name, str(figure))
    print(", ".join(f"{name} {figure}" for name, figure in figures.items()))


def end_watcher(guard):
    """As a service manager does; the rules stand. No start is delayed then."""
    processes = family(guard)
    processes["keeper"].kill(signal.SIGTERM)
    wait_gone(*processes.values())


@pytest.mark.parametrize("verb", ["enable", "up", "disable"])
def test_worker_killed_at_each_system_call(lab, guard, target,
                                           record_property, verb):
    """While it does what a command asks for, at one call later each time."""
    policy, tally, number = Policy(guard), {}, 0
    guard.enable(*BASE[1:])
    with contextlib.nullcontext() if verb == "disable" else target.flooded():
        for number in range(1, MOST_CALLS, 1 if SOAK else 17):
            guard.enable(*BASE[1:], watch=True)
            before = policy.read()
            argv, expected = ((["disable"], None) if verb == "disable" else
                              getattr(policy, verb)(before))
            worker = family(guard)["worker"]
            with KillIn(lab.host, number, worker.pid) as killer:
                failed = judge(policy, start(guard, argv), before, expected)
                call = killer.stop()
            tally[failed] = tally.get(failed, 0) + 1
            if call is None:
                break
            if verb == "disable" and not failed:
                assert not guard.listings()
                netns.wait_until(lambda: not guard.watcher,
                                 "nobody watches what is off")
            else:
                wait_watcher(guard, worker.pid)
                assert_refused(lab.host)
                end_watcher(guard)
    report(record_property, calls=number, failed=tally.get(1, 0),
           done=tally.get(0))
    assert call is None and number > 20


@pytest.mark.soak
def test_command_while_it_dies_again_and_again(guard, target):
    """The keeper waits longer each time; a command waits for it."""
    guard.enable(*BASE[1:], watch=True)
    with target.flooded():
        for _ in range(12):
            worker = family(guard)["worker"]
            worker.kill()
            wait_watcher(guard, worker.pid)
        family(guard)["worker"].kill()
        assert guard.up("wg1", check=False).rc == 0


# --- the keeper, and both ---

def assert_orphaned(guard, rules):
    found = guard.status()
    assert found["owner"] == "orphan" and not found["watcher"], found
    assert found["state"] == "LOCKED"
    assert read_rules(guard) == rules


def read_rules(guard):
    """What the kernel has, whoever owns it, in whatever order."""
    return {table: comparable(re.sub(r"(?m)^table .*\n(\tflags.*\n\n)?", "",
                                     listing).replace("\n\t}\n", "\n"))
            for table, listing in guard.listings().items()}


def adopt(guard, verb):
    """What a host without a watcher may be told next."""
    if verb == "watch":
        guard.watch("--until-disable")
    elif verb == "enable":
        guard.enable(*BASE[1:], watch=True)
    else:
        argv = {"up": ["--tunnel", "wg9"], "down": ["--tunnel", "wg9"],
                "pause": ["1s"], "reload": []}[verb]
        assert guard.run(verb, *argv).rc == 0


@pytest.mark.parametrize("verb", ["up", "down", "reload", "enable", "watch"])
def test_keeper_killed_then_worker(lab, guard, target, verb):
    """The worker alone goes on; after it an orphan stands until adopted."""
    guard.enable(*BASE[1:], watch=True)
    rules, found = read_rules(guard), family(guard)
    with target.flooded():
        found["keeper"].kill()
        wait_gone(found["keeper"])
        assert_refused(lab.host)
        guard.up("wg1")
        guard.down("wg1")
        now = guard.watcher
        assert now["pid"] == found["worker"].pid and now["owner"]
        assert not now["held"], "nobody starts it again"
        found["worker"].kill()
        wait_gone(found["worker"])
        assert_orphaned(guard, rules)
        adopt(guard, verb)
        assert wait_watcher(guard, found["worker"].pid)["held"]
        netns.wait_until(lambda: guard.watcher["owner"], "adopted", BACK_S)
        assert_refused(lab.host)
    assert_in_order(guard)


@pytest.mark.parametrize("verb", ["up", "enable", "watch"])
def test_all_of_it_killed_at_once(lab, guard, target, verb):
    """As by `kill -9` of a whole control group: nothing was said to anyone."""
    guard.enable(*BASE[1:], watch=True)
    rules, processes = read_rules(guard), family(guard).values()
    with target.flooded():
        for process in processes:
            process.stop()
        for process in processes:
            process.kill()
        wait_gone(*processes)
        assert_orphaned(guard, rules)
        adopt(guard, verb)
        wait_watcher(guard)
        netns.wait_until(lambda: guard.watcher["owner"], "adopted", BACK_S)
        assert_refused(lab.host)
    assert_in_order(guard)


@pytest.mark.parametrize("killed", [True, False], ids=["alone", "kept"])
def test_another_takes_over(lab, guard, target, killed):
    """A worker whose keeper is gone makes way, and so does one that a command
    left behind for one that stays: the owning socket is handed on."""
    guard.enable(*BASE[1:], watch=True)
    rules, found, owners = read_rules(guard), family(guard), set()
    now = guard.watcher

    def other():
        status = guard.status()
        owners.add(status["owner"])
        return (status["watcher"] or now)["pid"] != now["pid"]

    with target.flooded(), Rival(lab.host, "delete") as rival:
        if killed:
            found["keeper"].kill()
            wait_gone(found["keeper"])
        number, watch = generation(lab.host), guard.watch()
        try:
            netns.wait_until(other, "the other one answers", BACK_S)
            wait_gone(*found.values())
            anew = family(guard)
            assert anew["keeper"].pid == watch.pid and owners == {"socket"}
            anew["worker"].kill()
            now = wait_watcher(guard, anew["worker"].pid)
            assert now["owner"] and now["held"] and now["undone"] == 0
            assert_refused(lab.host)
            assert rival.stop() == 0, "somebody could delete it"
            assert generation(lab.host) == number
            assert_in_order(guard)
        finally:
            netns.stop(watch)
    assert_orphaned(guard, rules)


def remove_chains(*chains):
    """Somebody else, while nobody holds the tables."""
    return "".join(f"{verb} chain {chain}\n" for chain in chains
                   for verb in ("flush", "delete"))


POSTROUTING = f"{TABLES[0]} postrouting"
# name -> (options, what nft is told of wan0's chain, state, whether it opens)
LOST = {
    "its chain": (["--frames", "off"], lambda _: remove_chains(POSTROUTING),
                  "ALTERED", True),
    "all chains": ([], lambda wan: remove_chains(
        POSTROUTING, f"{TABLES[1]} {wan}", f"{TABLES[2]} forward"),
        "ALTERED", True),
    "a link's chain": ([], lambda wan: remove_chains(f"{TABLES[1]} {wan}"),
                       "LOCKED", False),
    **{f"table {table}": ([], lambda _, t=table: f"delete table {t}",
                          "ALTERED", False) for table in TABLES},
}


@pytest.mark.parametrize("what", LOST)
@pytest.mark.parametrize("verb", ["reload", "watch"])
def test_orphan_that_lost(lab, guard, target, verb, what):
    """It is adopted and whole again, by one or the other order."""
    options, ruleset, state, opens = LOST[what]
    guard.enable(*BASE[1:], *options, watch=True)
    rules = read_rules(guard)
    wan = egress_chain(lab.host, "wan0") if TABLES[1] in rules else None
    end_watcher(guard)
    lab.host.nft(ruleset(wan))
    assert read_rules(guard) != rules and guard.state == state
    if opens:
        assert target.is_open()
    # A link that lost its chain is open to frames, and to nothing else.
    with (contextlib.nullcontext() if opens else
          target.flooded(frames="netdev" not in what and "link" not in what)):
        adopt(guard, verb)
        netns.wait_until(lambda: read_rules(guard) == rules, "it is whole", 10)
    with target.flooded(frames=len(rules) > 1):
        assert_refused(lab.host, rules)
    assert_in_order(guard, rules)


@pytest.mark.parametrize("actions", [("drop", "reject"), ("reject", "drop")],
                         ids="-".join)
def test_orphan_under_another_action(lab, guard, target, actions):
    """Chains come and go with the very change that adopts it."""
    before, after = ([*BASE[1:], "--action", one] for one in actions)
    guard.enable(*before, watch=True)
    end_watcher(guard)
    with target.flooded():
        assert guard.enable(*after, watch=True, check=False).rc == 0
        assert_refused(lab.host)
    assert_in_order(guard)


@pytest.mark.parametrize("whom", ["keeper", "worker"])
def test_asked_to_end(guard, target, whom):
    """SIGTERM ends both, and the rules stay."""
    guard.enable(*BASE[1:], watch=True)
    rules, processes = read_rules(guard), family(guard)
    with target.flooded():
        processes[whom].kill(signal.SIGTERM)
        wait_gone(*processes.values())
        assert_orphaned(guard, rules)
        assert not os.path.exists(f"{guard.run_dir}/control")


def test_told_to_reload(lab, guard, target):
    """SIGHUP takes a changed configuration; of a bad one, the log tells."""
    policy, log = Policy(guard), pathlib.Path(lab.dir, "reload.log")
    guard.enable(*BASE[1:])
    with open(log, "w", encoding="ascii") as file:
        watch = lab.host.popen(guard.command("watch", "--until-disable"),
                               stderr=file, start_new_session=True)
    wait_watcher(guard)
    processes = family(guard)
    with target.flooded():
        _, expected = policy.reload(policy.read())
        processes["keeper"].kill(signal.SIGHUP)
        netns.wait_until(lambda: policy.read() == expected, "reloaded", BACK_S)
        wait_reloaded(processes["keeper"])
        number = generation(lab.host)
        guard.configure("tunnel = tun0\nmode = sometimes\n")
        # As a terminal that goes away tells a whole group.
        os.killpg(watch.pid, signal.SIGHUP)
        netns.wait_until(lambda: ".conf:2:" in log.read_text(encoding="utf-8"),
                         "the log names the line", BACK_S)
        assert generation(lab.host) == number and policy.read() == expected
        assert guard.watcher["pid"] == processes["worker"].pid
    guard.configure(policy.text)
    assert_in_order(guard)


def wait_reloaded(keeper):
    """It has no child left but the watcher."""
    netns.wait_until(
        lambda: len(keeper.read(f"task/{keeper.pid}/children").split()) == 1,
        "the reload is done", BACK_S)


def test_told_to_reload_while_it_does(guard, target):
    """The last one sees the last configuration."""
    policy = Policy(guard)
    guard.enable(*BASE[1:], watch=True)
    processes = family(guard)
    with target.flooded():
        processes["worker"].stop()  # the first one waits for its answer
        policy.reload(policy.read())
        processes["keeper"].kill(signal.SIGHUP)
        netns.wait_until(lambda: os.path.exists(f"{guard.run_dir}/state.new"),
                         "the first has read the file", BACK_S)
        _, expected = policy.reload(policy.read())
        processes["keeper"].kill(signal.SIGHUP)
        processes["worker"].go_on()
        netns.wait_until(lambda: policy.read() == expected, "reloaded", 10)
    assert_in_order(guard)


# --- ordinary tables become owned ones ---

def make_ordinary(guard):
    """A guard nobody watches, its tables as anybody's."""
    guard.disable()
    guard.enable(*BASE[1:])
    assert not any("flags owner" in text
                   for text in guard.listings().values())


@pytest.mark.parametrize("verb", ["enable", "watch"])
def test_ordinary_tables_are_taken(lab, guard, target, verb):
    """Behind second tables with the same rules, which go again."""
    for _ in range(100 if SOAK else 3):
        make_ordinary(guard)
        with target.flooded():
            adopt(guard, verb)
            wait_watcher(guard)
            netns.wait_until(lambda: guard.watcher["owner"], "taken", BACK_S)
            assert_refused(lab.host)
        assert_in_order(guard)


def test_killed_while_it_takes_the_tables(lab, guard, target,
                                         record_property):
    """`enable`, at each system call: what it leaves goes with the next."""
    standins, number = 0, 0
    for number in range(1, MOST_CALLS, 1 if SOAK else 21):
        make_ordinary(guard)
        with target.flooded():
            call = kill_at(lab.host, number, guard.command(*BASE))
            standins += len(guard.listings()) > len(TABLES)
            guard.enable(*BASE[1:], watch=True)
            assert_refused(lab.host)
        assert_in_order(guard)
        if call is None:
            break
    report(record_property, calls=number, standins_left=standins)
    assert call is None and standins, "second tables were never needed"


@pytest.mark.parametrize("left, ownership", [
    ("owned", "auto"), ("ordinary", "off"), ("owned", "off"),
    ("ordinary", "auto")])
def test_second_tables_left_over(guard, target, left, ownership):
    """Of one that died while it took the tables, or gave them up."""
    guard.enable(*BASE[1:], watch=left == "owned")
    if left == "owned":
        end_watcher(guard)
    for table in TABLES:
        if left == "owned":
            with stranger(guard.namespace, f"{table}_standin"):
                pass
        else:
            guard.namespace.nft(f"add table {table}_standin")
    assert len(guard.listings()) == 2 * len(TABLES)
    with target.flooded():
        guard.enable(*BASE[1:], "--ownership", ownership, watch=True)
    assert [*guard.listings()] == TABLES
    assert guard.status()["owner"] == {"auto": "socket", "off": "none"}[
        ownership]


# --- suspended ---

def burst(host):
    """Links, addresses and routes as a host that wakes up sees them."""
    host.ip(*(line for number in range(200) for line in (
        f"route add 198.18.{number}.0/24 via 192.0.2.1",
        f"route del 198.18.{number}.0/24 via 192.0.2.1")),
        *["link set lan0 down", "link set lan0 up"] * 20)


def is_pinned(guard, address):
    return any(one["pinned"] for one in guard.status()["resolvers"]
               if one["address"] == address)


@pytest.mark.parametrize("ownership", ["auto", "off"])
def test_stopped_while_things_change(lab, guard, make_tunnel, target,
                                     ownership):
    """Frozen, it misses a storm, a tunnel and a flush; then it sees all."""
    inside, tunnel = labnet.RESOLVERS["inside"].v4, make_tunnel("veth")
    guard.enable(tunnel=tunnel.link, resolver=inside, ownership=ownership,
                 watch=True)
    assert not is_pinned(guard, inside)
    rules, processes = read_rules(guard), family(guard)
    owned = ownership == "auto"
    with target.flooded() if owned else contextlib.nullcontext():
        for process in processes.values():
            process.stop()
        burst(lab.host)
        tunnel.up()
        lab.host.run(["nft", "flush", "ruleset"])
        assert [*guard.listings()] == (TABLES if owned else [])
        burst(lab.host)
        started = time.monotonic()
        assert guard.run("status").rc in (0, 3)  # it is not waited for long
        assert time.monotonic() - started < BACK_S
        for process in processes.values():
            process.go_on()
        netns.wait_until(lambda: [*guard.listings()] == TABLES,
                         "the rules are back", BACK_S)
    with target.flooded():
        netns.wait_until(lambda: is_pinned(guard, inside),
                         "the resolver is pinned", BACK_S)
        found = guard.status()
        assert found["state"] == "GUARDED" and not found["watcher"]["stale"]
        assert found["watcher"]["undone"] == (0 if owned else 1)
        assert found["watcher"]["pid"] == processes["worker"].pid
    # What `up` brings, and nothing but the pin, makes the difference.
    assert read_rules(guard) != rules


@pytest.fixture
def skew(lab):
    """skew(ms): the clock of a watcher with skew.env goes ahead by as much."""
    path = pathlib.Path(lab.dir, "skew")

    def set_skew(skew_ms):
        with open(path, "r+b") as file:
            file.write(struct.pack("=q", skew_ms))

    path.write_bytes(bytes(8))
    set_skew.env = dict(os.environ, LD_PRELOAD=build("skew"),
                        SKEW_FILE=str(path))
    return set_skew


def test_pause_is_over_after_a_suspend(lab, guard, skew, target):
    """Its end is a time of day; the kernel's own timeout stood still."""
    guard.enable(*BASE[1:])
    guard.watch("--until-disable", env=skew.env)
    wait_watcher(guard)
    assert guard.pause("5m").rc == 0
    elements = re.compile(r"\bip(?:v4)? timeout \S+ expires 4m\d+s")
    assert all(map(elements.search, guard.listings().values()))
    assert guard.status()["pause_left_ms"] > 200_000
    assert target.is_open()
    skew(10 * 60 * 1000)
    netns.wait_until(lambda: not any(" expires " in text for text
                                     in guard.listings().values()),
                     "the pause is over", BACK_S)
    with target.flooded():
        assert "pause" not in pathlib.Path(guard.run_dir, "state").read_text(
            encoding="ascii").replace("pause-max", "")
    assert_in_order(guard)
