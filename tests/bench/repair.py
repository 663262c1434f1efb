"""How long a host is open after somebody else flushed the rules.

`nft flush ruleset` under a sender at full speed: what got out, and the time from
the first packet that did to the first one after the last that did not.
"""

import contextlib
import subprocess
import time

import netns
import plot
import report
from guard import Guard
from packet import NotInForce, expect, pick, rows
from place import OUTSIDE, Place, build
from tools import run_inside

LIMIT_MS = 3000
OPEN_MS = 300  # how long one is watched that stays open

# As one would write it: what is taken away is loaded again.
MONITOR = """nft monitor ruleset | while read -r line; do
    case $line in "delete table inet leakguard"*) nft -f {listing} ;; esac
done
"""
POLL = """while sleep 1; do
    nft list table inet leakguard >/dev/null 2>&1 || nft -f {listing}
done
"""


class Way:
    """A guard, and somebody who watches over it or not."""

    limit_ms = LIMIT_MS
    stays_open = False

    def __init__(self, place):
        self.place, self.guard = place, Guard(place)
        self.listing = f"{place.dir}/listing"
        with open(self.listing, "w", encoding="ascii") as file:
            file.write(self.run(self.guard.command("rules", "--tunnel",
                                                   "tun0")).stdout)

    def run(self, argv, check=True):
        done = run_inside(self.place.host, argv)
        if check and done.rc:
            raise netns.CommandError(repr(done))
        return done

    def is_there(self):
        return not self.run(["nft", "list", "table", "inet", "leakguard"],
                            check=False).rc

    def raise_(self):
        """Guarded, and watched over."""
        self.run(["nft", "-f", self.listing])

    def check(self):
        """Afterwards: there was something to do."""

    def lower(self):
        self.run(["nft", "flush", "ruleset"])


class Nobody(Way):
    """The control: the flush is one, and it opens the host."""

    limit_ms, stays_open = OPEN_MS, True


class Leakguard(Way):
    ownership = "auto"

    def raise_(self):
        self.run(self.guard.command("enable", "--tunnel", "tun0", "--ownership",
                                    self.ownership))
        netns.wait_until(lambda: self.guard.watcher, "the watcher answers")
        expect("leakguard", "owner", self.guard.status()["owner"],
               "socket" if self.ownership == "auto" else "none")

    def lower(self):
        self.guard.disable()


class Unowned(Leakguard):
    ownership = "off"

    def check(self):
        netns.wait_until(lambda: self.guard.watcher["undone"],
                         "the watcher has undone the flush")


class Shell(Way):
    script = MONITOR

    def raise_(self):
        super().raise_()
        self.process = self.place.host.popen(
            ["sh", "-c", self.script.format(listing=self.listing)],
            start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)  # nft monitor warns of what is gone
        self.wait_ready()

    def wait_ready(self):
        """It listens: a flush is undone."""
        def is_undone():
            if not self.is_there():
                super(Shell, self).raise_()
            self.run(["nft", "flush", "ruleset"])
            with contextlib.suppress(TimeoutError):
                netns.wait_until(self.is_there, "it is there", 1.0)
                return True
            return False
        netns.wait_until(is_undone, "the shell undoes a flush", 20)

    def lower(self):
        run_inside(self.place.host, ["kill", "--", f"-{self.process.pid}"])
        self.process.wait(5)
        super().lower()


class Polling(Shell):
    script = POLL

    def wait_ready(self):
        pass


WAYS = {"leakguard, owned": Leakguard, "leakguard, not owned": Unowned,
        "shell on nft monitor": Shell, "shell, every second": Polling,
        "nobody": Nobody}
UNIT = "leakguard, not owned"


def measure_one(name, way, samples, number):
    # In no step with who looks every second.
    time.sleep(samples.random.random())
    done = run_inside(way.place.host,
                      [build("gap"), way.limit_ms, OUTSIDE["local4"], "nft",
                       "flush", "ruleset"], timeout=30)
    if done.rc:
        raise netns.CommandError(repr(done))
    words = done.stdout.split()
    found = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    expect(name, "exit status of the flush", found["status"], 0)
    expect(name, "refused again", bool(found["shut"]), not way.stays_open)
    if way.stays_open and not found["out"]:
        raise NotInForce(f"{name}: the flush opened nothing: {found}")
    way.check()
    samples.add(number, name, "out", "packets", found["out"])
    samples.add(number, name, "open", "s", found["open_ns"] / 1e9)


def measure(rounds):
    samples = report.Samples("repair", rounds, seed=3)
    with contextlib.ExitStack() as stack:
        ways = {name: kind(stack.enter_context(Place(f"r{n}")))
                for n, (name, kind) in enumerate(WAYS.items())}
        for number in range(rounds):
            for name in samples.shuffled(ways):
                ways[name].raise_()
                try:
                    measure_one(name, ways[name], samples, number)
                finally:
                    ways[name].lower()
    samples.notes.append(f"nobody: the control, watched for {OPEN_MS} ms")
    return samples


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    tables = {"out": [], "open": []}
    for name in WAYS:
        for column, one in (("out", "packets"), ("open", "s")):
            tables[column].append({"row": name, "column": column, "unit": one,
                                   **samples.summary(name, column, one),
                                   "most": max(samples.series(
                                       name, column, one).values())})
    report.write(out, samples, tables, about)
    shown = [line for line in tables["out"] if line["row"] != "nobody"]
    plot.bars(f"{out}/repair.svg", "After somebody flushed all rules",
              "packets that got out, of a sender at full speed", rows(shown),
              {"out": {line["row"]: (line["median"], line["low"], line["high"])
                       for line in shown}}, form="%.0f", log=True)
    report.print_table(
        f"After a foreign flush of all rules, {rounds} rounds "
        f"({time.monotonic() - started:.0f} s)",
        ["", "packets out", "most", "ms open", "most"],
        [[row, report.with_range(pick(tables["out"], row, "out"), "{:.0f}"),
          pick(tables["out"], row, "out")["most"],
          report.with_range(
              {key: pick(tables["open"], row, "open")[key] * 1000
               for key in ("median", "low", "high")}, "{:.2f}"),
          f"{pick(tables['open'], row, 'open')['most'] * 1000:.2f}"]
         for row in rows(tables["out"])])
    for note in samples.notes:
        print(f"  {note}")
