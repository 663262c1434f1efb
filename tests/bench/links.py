"""From no guard to one, by the number of links: each has a chain of its own.

As in part change, of which the ways are: leakguard, and nft that loads the
listing of the same rules. Those of iptables do not judge at links.
"""

import contextlib
import time

import netns
import plot
import report
from change import TITLES, Enable, NftFile, in_ms, time_command
from packet import pick, rows
from place import OUTSIDE, Place
from tools import run_inside

COUNTS = [1, 10, 100, 1000]
SLOW, SLOW_SHARE = 1000, 5
MEASURES = ["guarded", "wall", "cpu"]
WAYS = {"leakguard enable": Enable, "nft -f": NftFile}
UNIT = "nft -f"


def add_links(place, count):
    """Both ends of a veth are links: besides those that are there."""
    path = f"{place.dir}/links"
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"link add many{n}a type veth peer name many{n}b\n"
                        for n in range((count + 1) // 2))
    done = run_inside(place.host, ["ip", "-batch", path], timeout=120)
    if done.rc:
        raise netns.CommandError(repr(done)[:2000])


def measure(rounds):
    samples = report.Samples("links", rounds, seed=5)
    with contextlib.ExitStack() as stack:
        ways = {}
        for n, count in enumerate(COUNTS):
            place = stack.enter_context(Place(f"l{n}"))
            if count > 1:
                add_links(place, count)
            ways.update({(name, count): kind(place, 1)
                         for name, kind in WAYS.items()})
        for number in range(rounds):
            for name, count in samples.shuffled(ways):
                if count >= SLOW and number % SLOW_SHARE:
                    continue
                way = ways[name, count]
                for one, value in time_command(
                        name, way.place, way.command, OUTSIDE["local4"],
                        OUTSIDE["local6"]).items():
                    samples.add(number, name, count, one, value)
                way.reset()
    samples.notes.append("besides lo, wan0, lan0 and tun0")
    return samples


def run(rounds, out, about):
    started = time.monotonic()
    samples = measure(rounds)
    tables = {kind: [] for one in MEASURES for kind in (one, f"{one} ratio")}
    for name in WAYS:
        for count in COUNTS:
            for one in MEASURES:
                tables[one].append({"row": name, "column": count, "unit": "s",
                                    **samples.summary(name, count, one)})
                tables[f"{one} ratio"].append(
                    {"row": name, "column": count,
                     **samples.ratio(name, UNIT, count, one)})
    report.write(out, samples, tables, about)
    seconds = time.monotonic() - started
    for one in MEASURES:
        report.print_table(
            f"{TITLES[one]}, by the number of links, to {UNIT}; medians of up "
            f"to {rounds} rounds ({seconds:.0f} s)", ["", *COUNTS],
            [[row, *(report.with_range(pick(tables[f"{one} ratio"], row, n))
                     for n in COUNTS)] for row in rows(tables[one])])
        report.print_table("The same in ms, with quartiles", ["", *COUNTS],
                           [[row, *(in_ms(pick(tables[one], row, n))
                                    for n in COUNTS)]
                            for row in rows(tables[one])])
    plot.lines(
        f"{out}/links.svg", TITLES["guarded"], "links", "seconds",
        {name: {line["column"]: (line["median"], line["low"], line["high"])
                for line in tables["guarded"] if line["row"] == name}
         for name in WAYS})
