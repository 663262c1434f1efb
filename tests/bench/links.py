"""From no guard to one, by the number of links: each has a chain of its own.

As in part change, of which the ways are: leakguard, and nft that loads the
listing of the same rules. Those of iptables do not judge at links.
"""

import contextlib
import time

import netns
import report
from change import (MEASURES, TITLES, UNIT, Enable, NftFile, draw, show,
                    tabulate, time_command)
from place import OUTSIDE, Place
from tools import run_inside

COUNTS = [1, 10, 100, 1000]
SLOW, SLOW_SHARE = 1000, 5
WAYS = {"leakguard enable": Enable, "nft -f": NftFile}


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
    tables = tabulate(samples, WAYS, COUNTS, MEASURES)
    report.write(out, samples, tables, about)
    seconds = time.monotonic() - started
    show(tables, COUNTS, {
        one: f"{TITLES[one]}, by the number of links, to {UNIT}; medians of up "
             f"to {rounds} rounds ({seconds:.0f} s)" for one in MEASURES})
    draw(f"{out}/links.svg", TITLES["guarded"], "links", WAYS,
         tables["guarded"])
