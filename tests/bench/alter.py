"""What it takes to approve one resolver more, by the number of those there.

`in force` is the moment from which the new one is answered: when its packet is
let out, since before the exec. "nft add element" is the least that there can be:
someone who knows the sets by heart.
"""

import contextlib
import time

import netns
import report
from change import (UNIT, address, configuration, draw, iptables, show,
                    tabulate, time_command)
from guard import TABLES, Guard
from place import Place
from tools import run_inside

COUNTS = [1, 100, 10000, 100000]
LIMITS = {"iptables-nft-restore": 1000, "iptables-legacy-restore": 10000}
SLOW, SLOW_SHARE = 10000, 5
MEASURES = {"guarded": "in force", "wall": "wall", "cpu": "cpu"}


class Way:
    """With COUNT resolvers in force, in a place of its own."""

    def __init__(self, place, count):
        self.place, self.count = place, count
        self.files = [f"{place.dir}/{n}" for n in (count, count + 1)]
        for path, number in zip(self.files, (count, count + 1), strict=True):
            with open(path, "w", encoding="ascii") as file:
                file.write(self.text(number))

    def run(self, argv, check=True):
        done = run_inside(self.place.host, argv, timeout=120)
        if done.rc and check:
            raise netns.CommandError(repr(done))
        return done

    def clean(self):
        self.run(["nft", "flush", "ruleset"])


class Reload(Way):
    def __init__(self, place, count):
        self.guard = Guard(place)
        super().__init__(place, count)

    def text(self, number):
        return configuration(number)

    def first(self):
        """Put the shorter list in force, and the longer one where it is read."""
        self.guard.config = self.files[0]
        self.run(self.guard.command("enable", "--no-watch"))
        self.guard.config = self.files[1]
        return self.guard.command("reload")

    def clean(self):
        self.run(self.guard.command("disable"))


class NftFile(Way):
    """The listing of the longer list, in the place of what is there."""

    def text(self, number):
        guard = Guard(self.place)
        guard.configure(configuration(number))
        done = self.run(guard.command("rules"))
        return "".join(f"add table {table}\ndelete table {table}\n"
                       for table in TABLES) + done.stdout

    def first(self):
        self.run(["nft", "-f", self.files[0]])
        return ["nft", "-f", self.files[1]]


class NftElement(NftFile):
    def first(self):
        super().first()
        new = address(self.count)
        return ["nft", "; ".join(f"add element {table} resolver4 {{ {new} }}"
                                 for table in TABLES)]


class Restore(Way):
    kind = "nft"

    def text(self, number):
        return f"*filter\n{iptables(number)[0]}COMMIT\n"

    def first(self):
        self.run([f"iptables-{self.kind}-restore", self.files[0]])
        return [f"iptables-{self.kind}-restore", self.files[1]]


class RestoreLegacy(Restore):
    kind = "legacy"

    def clean(self):
        self.place.host.run(["iptables-legacy-restore"],
                            stdin="*filter\nCOMMIT\n")


WAYS = {"leakguard reload": Reload, "nft -f": NftFile,
        "nft add element": NftElement, "iptables-nft-restore": Restore,
        "iptables-legacy-restore": RestoreLegacy}


def measure(rounds):
    samples = report.Samples("alter", rounds, seed=2)
    with contextlib.ExitStack() as stack:
        ways = {}
        for n, (name, kind) in enumerate(WAYS.items()):
            place = stack.enter_context(Place(f"a{n}"))
            ways.update({(name, count): kind(place, count) for count in COUNTS
                         if count <= LIMITS.get(name, count)})
        for number in range(rounds):
            for name, count in samples.shuffled(ways):
                if count >= SLOW and number % SLOW_SHARE:
                    continue
                way, new = ways[name, count], address(count)
                command = way.first()
                for one, value in time_command(name, way.place, command, "-a",
                                               new, new).items():
                    samples.add(number, name, count, MEASURES[one], value)
                way.clean()
    return samples


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    measures = MEASURES.values()
    tables = tabulate(samples, WAYS, COUNTS, measures)
    report.write(out, samples, tables, about)
    seconds = time.monotonic() - started
    show(tables, COUNTS, {
        one: f"One resolver more, {one}, by the number there, to {UNIT} of the "
             f"whole; medians of up to {rounds} rounds ({seconds:.0f} s)"
        for one in measures})
    draw(f"{out}/alter.svg", "One resolver more: until it is in force",
         "resolvers", WAYS, tables["in force"])
