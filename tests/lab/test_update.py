"""Changing the rules under full load: none slips between old and new (S12).

Two senders, one on the host and one on the LAN, send without a pause to an
address that no policy approves, while commands change everything that can be
changed. What arrived is counted at the provider's end of the link.
"""

import random
import re
import time

import pytest

import labnet
from tools import SOAK, Churn, Counter, Flood, run_inside

CHANGES, RELOADS = (2000, 200) if SOAK else (200, 40)
TARGET = labnet.NOBODY
# Nobody's either: the provider's router throws their packets away.
APPROVED = labnet.Addresses("203.0.113.67", "2001:db8:113::67")
OTHERS = ("198.51.100.53", "2001:db8:51::53", "203.0.113.53@53",
          "[2001:db8:113::53]@853", "10.64.0.1 via tunnel",
          "fd64::1 via tunnel", "192.168.7.10 via lan0")

ALWAYS = ["--resolver", f"{APPROVED.v4} via any",
          "--resolver", f"{APPROVED.v6} via any"]
TUNNELS = [["--tunnel", "tun0"], ["--tunnel", "tun*"],
           ["--tunnel", "wg0", "--tunnel", "tun0"], []]
PORTS = ["53,853", "853,53,5353", "53,853,8853,443"]
UPS = [["up", "--tunnel", "tun1", "--resolver", "10.64.0.1"],
       ["up", "--tunnel", "tun2", "--resolver", "fd64::1"],
       ["down", "--tunnel", "tun1"], ["down", "--tunnel", "tun2"]]
# What the command line does not say comes from here.
FILES = ["", "endpoint = 100.64.0.2:53/udp\n",
         "endpoint = [2001:db8:64::2]:53/udp,mark=7\nlog-group = 5\n",
         "log-group = 5\nlog-rate = 100\n",
         "".join(f"endpoint = 100.64.1.{n}:53/tcp\n" for n in range(1, 200))]


@pytest.fixture(scope="module")
def lab():
    """Without NAT on the host: connection tracking would reassemble for us."""
    with labnet.Lab(masquerade=False) as made:
        for address in APPROVED:
            made.isp.ip(f"route add blackhole {address}")
        yield made


@pytest.fixture
def counter(lab):
    """Everything that reaches the provider for the two pairs of addresses."""
    with Counter(lab.isp, "cust0", *TARGET, *APPROVED) as counting:
        yield counting


class Load:
    """A sender on the host and one on the LAN."""

    def __init__(self, lab, addresses, **options):
        self.lab = lab
        self.senders = [Flood(origin, *addresses, **options)
                        for origin in (lab.host, lab.lan)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sender in self.senders:
            sender.__exit__()

    def stop(self):
        """{origin: (sent, refused)}, when all that was sent has arrived."""
        total = {}
        for origin, sender in zip(("host", "lan"), self.senders, strict=True):
            outcome = sender.stop().values()
            total[origin] = tuple(map(sum, zip(*outcome, strict=True)))
            assert all(sum(one) > 1000 for one in outcome), outcome
        settle(self.lab)
        return total


def settle(lab):
    """Whatever is under way over the link has arrived. (No port is 1.)"""
    with lab.watch(ports=(1,)):
        pass


def control(lab, counter, addresses, **options):
    """Without a guard all of it arrives, or what follows proves nothing."""
    before = counter.total()
    with Load(lab, addresses, batches=500, **options) as load:
        outcome = load.stop()
    sent = sum(sent for sent, _ in outcome.values())
    assert not sum(refused for _, refused in outcome.values())
    # A raw socket's packets may meet a full queue; a counter never does.
    assert counter.total() - before == sent
    assert sent == 2 * len(addresses) * 500 * 16


def random_enable(chance, approved=False):
    """One of some hundred policies; none approves TARGET outside a tunnel."""
    argv = ["enable", "--no-watch", "--ports", chance.choice(PORTS),
            "--action", chance.choice(["drop", "reject"]),
            "--fragments", chance.choice(["auto", "defrag", "conntrack",
                                          "drop"])]
    argv += chance.choice(TUNNELS)
    mode = "either" if approved else chance.choice(["either", "both"])
    argv += ["--mode", mode]
    if approved:
        argv += ALWAYS
    for resolver in chance.sample(OTHERS, chance.randrange(4)):
        if mode == "either" or "lan0" not in resolver:
            argv += ["--resolver", resolver]
    return argv


def change(guard, argv, timeout=60):
    done = run_inside(guard.namespace, guard.command(*argv), timeout=timeout)
    assert done.rc == 0, done


def change_all(guard, changes, reloads, approved=False):
    """That many commands, the reloads spread evenly among the others."""
    chance, every = random.Random(53), changes // reloads
    for number in range(changes):
        if chance.random() < 0.25:
            change(guard, chance.choice(UPS))
        else:
            change(guard, random_enable(chance, approved))
        if number % every == 0:
            guard.configure(chance.choice(FILES))
            change(guard, ["reload"])


def report(record_property, **figures):
    for name, figure in figures.items():
        record_property(name, str(figure))
    print(", ".join(f"{name} {figure}" for name, figure in figures.items()))


def test_nothing_slips_through(lab, guard, counter, record_property):
    control(lab, counter, TARGET)
    guard.enable()
    before, started = counter.total(), time.monotonic()
    with Load(lab, TARGET) as load:
        change_all(guard, CHANGES, RELOADS)
        tried = load.stop()
    out = counter.total() - before
    report(record_property, changes=CHANGES, reloads=RELOADS, tried=tried,
           out=out, seconds=round(time.monotonic() - started))
    assert out == 0
    guard.disable()
    control(lab, counter, TARGET)


def test_fragments_while_their_way_changes(lab, guard, counter,
                                           record_property):
    """Later fragments alone: reassembly comes and goes, they stay inside."""
    control(lab, counter, TARGET, fragments=True)
    guard.enable(fragments="drop")
    before = counter.total()
    with Load(lab, TARGET, fragments=True) as load:
        for number in range(CHANGES // 4):
            way = ("defrag", "drop", "conntrack", "drop")[number % 4]
            change(guard, ["enable", "--no-watch", "--fragments", way])
        tried = load.stop()
    out = counter.total() - before
    report(record_property, changes=CHANGES // 4, tried=tried, out=out)
    assert out == 0


@pytest.mark.parametrize("watch", (False, True), ids=("alone", "watched"))
def test_a_verdict_that_moves(lab, guard, counter, record_property, watch):
    """A first IPsec policy takes the verdict behind source NAT, for good."""
    control(lab, counter, TARGET)
    moves, out, tried = CHANGES // 20, 0, []
    for _ in range(moves):
        guard.enable(watch=watch)
        before = counter.total()
        with Load(lab, TARGET) as load:
            assert verdict_priority(lab) == "srcnat - 1"
            change(guard, ["up", "--tunnel", "ipsec:9"])
            assert verdict_priority(lab) == "srcnat + 1"
            change(guard, ["down", "--tunnel", "ipsec:9"])
            assert verdict_priority(lab) == "srcnat + 1"
            tried.append(load.stop())
        out += counter.total() - before
        guard.disable()
    report(record_property, moves=moves, tried=tried[0], out=out)
    assert out == 0


def verdict_priority(lab):
    listed = lab.host.run(["nft", "list", "chain", "inet", "leakguard",
                           "postrouting"]).stdout
    return re.search(r"hook postrouting priority ([^;]+);", listed)[1]


# Rules that take their time before they look into the set that matters: the
# rules a packet meets are chosen when it enters, a set's elements when it gets
# there, and a commit in between is what is looked for.
SLOW = [word for number in range(60)
        for word in ("--tunnel", f"slow{number}x*")]
BOTH = ["--mode", "both", "--tunnel", "tun0"]
# Each pair leaves TARGET closed outside tunnels; a packet that meets the rules
# of the one and the sets of the other would find it open.
MIXTURES = {
    "approved in mode both": (
        [*SLOW, *ALWAYS],
        [*BOTH, "--resolver", APPROVED.v4, "--resolver", APPROVED.v6,
         "--resolver", TARGET.v4, "--resolver", TARGET.v6]),
    "another tunnel and another resolver in mode both": (
        [*BOTH, *SLOW, "--tunnel", "wan*", "--resolver", APPROVED.v4,
         "--resolver", APPROVED.v6],
        [*BOTH, "--resolver", TARGET.v4, "--resolver", TARGET.v6]),
    "a tunnel in mode both": (
        ["--tunnel", "tun0", "--endpoint", "192.0.2.9:53/udp", "--endpoint",
         "[2001:db8:2::9]:53/udp,mark=1"],
        [*BOTH, "--tunnel", "wan0", "--resolver", APPROVED.v4]),
}


@pytest.mark.parametrize("pair", MIXTURES.values(), ids=MIXTURES)
def test_never_a_mixture(lab, guard, counter, record_property, pair):
    """The rules of one policy with the sets of the other are neither."""
    control(lab, counter, TARGET)
    change(guard, ["enable", "--no-watch", *pair[0]])
    before = counter.total()
    with Load(lab, TARGET) as load:
        for number in range(CHANGES):
            change(guard, ["enable", "--no-watch", *pair[(number + 1) % 2]])
            if counter.total() != before:
                break
        tried = load.stop()
    out = counter.total() - before
    report(record_property, changes=number + 1, tried=tried, out=out)
    assert out == 0


def blocked(guard):
    """What the guard counted as blocked, in packets."""
    return guard.status()["counters"]["S7"]["packets"]


def test_what_stays_approved_stays_open(lab, guard, counter, record_property):
    """facts.md section 2: sets that only allow fail closed, hardly ever."""
    guard.enable(*ALWAYS)
    before, base = counter.total(), blocked(guard)
    with Load(lab, APPROVED) as load:
        change_all(guard, CHANGES, RELOADS, approved=True)
        tried = load.stop()
    lost = blocked(guard) - base
    arrived = counter.total() - before
    report(record_property, tried=tried, arrived=arrived, blocked=lost)
    assert tried["host"][0] > 1000 and arrived > 1000
    assert lost <= 1 + CHANGES // 1000


# nft(8) as scripts use it: a process for each change, without a pause.
NFT_LOOP = """
nft add table inet churn && nft add chain inet churn busy && echo ready
n=0
while ! read -t 0 line; do
    nft add rule inet churn busy counter && nft flush chain inet churn busy
    n=$((n + 2))
done
nft delete table inet churn
echo commits $n
"""
STORMS = [
    pytest.param(lambda host: Churn(host, "bash", "-c", NFT_LOOP),
                 id="nft in a loop"),
    pytest.param(Churn, id="as fast as the kernel"),
]


@pytest.mark.parametrize("storm", STORMS)
def test_somebody_else_commits_all_the_time(lab, guard, counter,
                                            record_property, storm):
    """The generation we read goes stale; the change is built again."""
    control(lab, counter, TARGET)
    guard.enable()
    before, chance = counter.total(), random.Random(853)
    with storm(lab.host) as churn, Load(lab, TARGET) as load:
        for _ in range(CHANGES // 4):
            change(guard, random_enable(chance))
        commits, tried = churn.stop(), load.stop()
    out = counter.total() - before
    report(record_property, changes=CHANGES // 4, foreign_commits=commits,
           tried=tried, out=out)
    assert commits > CHANGES // 4
    assert out == 0
