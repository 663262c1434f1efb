"""What it takes to raise a guard and to change it, by the number of resolvers.

Each way gets the same policy, written down before the clock runs. `guarded` is
the moment from which a packet of either family is refused, since before the
exec; `wall` is until the process is gone; `cpu` its own and its children's.
"""

import contextlib
import time

import netns
import plot
import report
from guard import Guard
from packet import NotInForce, expect, pick, rows
from place import OUTSIDE, Place, build
from tools import run_inside

COUNTS = [1, 10, 100, 1000, 10000, 100000]
# Beyond this many resolvers a way takes minutes; and with few rounds the
# largest alone would take most of the time.
LIMITS = {"iptables-nft-restore": 1000, "iptables-legacy-restore": 10000,
          "shell of iptables": 10}
SLOW, SLOW_SHARE = 10000, 5  # one round in so many has as many resolvers
MEASURES = ["guarded", "wall", "cpu"]


def address(number):
    """Of resolver N; all of them in 10/8, which has no other use here."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def iptables(count):
    """The same policy as rules of iptables: (IPv4's, IPv6's)."""
    accepts = "".join(
        f"-A {chain} -d {address(n)}/32 -p {protocol} -m multiport "
        "--dports 53,853 -j ACCEPT\n" for chain in ("OUTPUT", "FORWARD")
        for n in range(count) for protocol in ("udp", "tcp"))
    drops = "".join(
        f"-A {chain} ! -o tun0 -p {protocol} -m multiport --dports 53,853 "
        "-j DROP\n" for chain in ("OUTPUT", "FORWARD")
        for protocol in ("udp", "tcp"))
    return accepts + drops, drops


class Way:
    """One way to come from no guard to this policy, in a place of its own."""

    def __init__(self, place, count):
        self.place, self.count = place, count
        self.prepare()

    def file(self, name, text):
        path = f"{self.place.dir}/{self.count}-{name}"
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        return path

    def prepare(self):
        """Write down what the command reads."""

    def reset(self):
        run_inside(self.place.host, ["nft", "flush", "ruleset"], timeout=120)


class Enable(Way):
    def prepare(self):
        self.guard = Guard(self.place)
        self.guard.config = self.file("conf", configuration(self.count))
        self.command = self.guard.command("enable", "--no-watch")

    def reset(self):
        run_inside(self.place.host, self.guard.command("disable"), timeout=120)


def configuration(count):
    return "tunnel = tun0\n" + "".join(f"resolver = {address(n)} via any\n"
                                       for n in range(count))


class NftFile(Way):
    """The listing that `leakguard rules` prints for the same policy."""

    def prepare(self):
        guard = Guard(self.place)
        guard.config = self.file("nft.conf", configuration(self.count))
        done = run_inside(self.place.host, guard.command("rules"), timeout=120)
        if done.rc:
            raise netns.CommandError(repr(done))
        self.command = ["nft", "-f", self.file("nft", done.stdout)]


class Restore(Way):
    kind = "nft"

    def prepare(self):
        script = ""
        for program, rules in zip(("iptables", "ip6tables"),
                                  iptables(self.count), strict=True):
            path = self.file(program, f"*filter\n{rules}COMMIT\n")
            script += f"{program}-{self.kind}-restore {path} || exit\n"
        self.command = ["sh", self.file("restore", script)]


class RestoreLegacy(Restore):
    kind = "legacy"

    def reset(self):
        for program in ("iptables", "ip6tables"):
            self.place.host.run([f"{program}-legacy-restore"],
                                stdin="*filter\nCOMMIT\n")


class Shell(Way):
    def prepare(self):
        script = "".join(
            f"{program} {line} || exit\n" for program, rules in zip(
                ("iptables", "ip6tables"), iptables(self.count), strict=True)
            for line in rules.splitlines())
        self.command = ["sh", self.file("shell", script)]


WAYS = {"leakguard enable": Enable, "nft -f": NftFile,
        "iptables-nft-restore": Restore,
        "iptables-legacy-restore": RestoreLegacy, "shell of iptables": Shell}
UNIT = "nft -f"


def time_command(name, place, command, *probes):
    """Seconds: {"guarded", "wall", "cpu"}; it has to guard by its end, or, with
    probes that begin with -a, to allow."""
    done = run_inside(place.host, [build("moment"), *probes, *command],
                      timeout=300)
    # Its own line is the last: the command may have printed.
    words = done.stdout.split()[-10:]
    if done.rc or "status" not in words:
        raise netns.CommandError(repr(done))
    found = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    expect(name, f"exit status {done.stderr}", found["status"], 0)
    guarded = [found["guarded4"], found["guarded6"]]
    if min(guarded) < 0:
        raise NotInForce(f"{name}: it does not do what it should: {done}")
    return {"guarded": max(guarded) / 1e9, "wall": found["exit"] / 1e9,
            "cpu": found["cpu"] / 1e9}


def make_ways(stack, samples):
    """{(way, count): Way}, each way in a place of its own."""
    found = {}
    for n, (name, kind) in enumerate(WAYS.items()):
        place = stack.enter_context(Place(f"c{n}"))
        for count in COUNTS:
            if count <= LIMITS.get(name, count):
                found[name, count] = kind(place, count)
        if name in LIMITS:
            samples.notes.append(f"{name}: not beyond {LIMITS[name]}: it takes "
                                 "too long")
    return found


def measure(rounds):
    samples = report.Samples("change", rounds)
    with contextlib.ExitStack() as stack:
        ways = make_ways(stack, samples)
        for number in range(rounds):
            for name, count in samples.shuffled(ways):
                if count >= SLOW and number % SLOW_SHARE:
                    continue
                way = ways[name, count]
                for measured, value in time_command(
                        name, way.place, way.command, OUTSIDE["local4"],
                        OUTSIDE["local6"]).items():
                    samples.add(number, name, count, measured, value)
                way.reset()
    return samples


def tabulate(samples, ways, counts, measures):
    """The tables of what was measured: in seconds, and to UNIT."""
    tables = {kind: [] for one in measures for kind in (one, f"{one} ratio")}
    for name in ways:
        for count in counts:
            for one in measures:
                found = samples.summary(name, count, one)
                if found:
                    tables[one].append({"row": name, "column": count,
                                        "unit": "s", **found})
                    tables[f"{one} ratio"].append(
                        {"row": name, "column": count,
                         **samples.ratio(name, UNIT, count, one)})
    return tables


def show(tables, counts, titles):
    """Print them; {measure: title of its ratios}."""
    for one, title in titles.items():
        report.print_table(
            title, ["", *counts],
            [[row, *(report.with_range(pick(tables[f"{one} ratio"], row, n))
                     for n in counts)] for row in rows(tables[one])])
        report.print_table("The same in ms, with quartiles", ["", *counts],
                           [[row, *(in_ms(pick(tables[one], row, n))
                                    for n in counts)]
                            for row in rows(tables[one])])


def draw(path, title, what, ways, table):
    plot.lines(
        path, title, what, "seconds",
        {name: {line["column"]: (line["median"], line["low"], line["high"])
                for line in table if line["row"] == name} for name in ways})


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    tables = tabulate(samples, WAYS, COUNTS, MEASURES)
    report.write(out, samples, tables, about)
    seconds = time.monotonic() - started
    show(tables, COUNTS, {
        one: f"{TITLES[one]}, by the number of resolvers, to {UNIT}; medians of "
             f"up to {rounds} rounds ({seconds:.0f} s)" for one in MEASURES})
    for note in samples.notes:
        print(f"  {note}")
    for one in ("guarded", "wall"):
        draw(f"{out}/change-{one}.svg", TITLES[one], "resolvers", WAYS,
             tables[one])


TITLES = {"guarded": "From no guard to where packets are refused",
          "wall": "From no guard to the end of the command",
          "cpu": "CPU time of the command"}


def in_ms(found):
    if not found:
        return "-"
    return report.with_range(
        {key: found[key] * 1000 for key in ("median", "low", "high")}, "{:.1f}")
