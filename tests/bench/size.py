"""How large the program is, and what it takes to be there and wait."""

import os
import re
import subprocess
import time

import netns
import report
from guard import Guard, find_program
from place import Place
from procfs import family
from tools import run_inside

ENABLE = ["enable", "--no-watch", "--tunnel", "tun0", "--resolver",
          "203.0.113.53"]


def sizes(directory):
    """{what: bytes} of the program."""
    program, stripped = find_program(), f"{directory}/stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    line = subprocess.run(["size", program], check=True, capture_output=True,
                          text=True).stdout.splitlines()[1].split()
    return {"stripped, bytes": os.path.getsize(stripped),
            "text, bytes": int(line[0]),
            "data and bss, bytes": int(line[1]) + int(line[2])}


def calls(place, argv):
    """System calls of a command and its children, by strace."""
    path = f"{place.dir}/calls"
    done = run_inside(place.host, ["strace", "-f", "-c", "-U", "calls,name",
                                   "-o", path, *argv], timeout=60)
    if done.rc:
        raise netns.CommandError(repr(done))
    with open(path, encoding="ascii") as file:
        return int(re.search(r"^\s*(\d+) total$", file.read(), re.M)[1])


def at_rest(guard, place):
    """Memory of the watcher's two processes, once it has nothing to do."""
    run_inside(place.host, guard.command(
        "enable", "--tunnel", "tun0", "--resolver", "203.0.113.53"))
    netns.wait_until(lambda: guard.watcher, "the watcher answers")
    found = family(guard)
    values = {}
    for name, process in found.items():
        values[f"{name}: RSS, KiB"] = process.memory_kib
        values[f"{name}: PSS, KiB"] = process.share_kib
    values["both: PSS, KiB"] = sum(process.share_kib
                                   for process in found.values())
    guard.disable()
    return values


def run(rounds, out, about):
    started = time.monotonic()
    samples = report.Samples("size", rounds)
    with Place("s") as place:
        guard = Guard(place)
        for what, value in sizes(place.dir).items():
            samples.add(0, "leakguard", what, "size", value)
        listing = f"{place.dir}/listing"
        with open(listing, "w", encoding="ascii") as file:
            file.write(run_inside(
                place.host, guard.command("rules", *ENABLE[2:])).stdout)
        samples.add(0, "leakguard enable", "system calls", "size",
                    calls(place, guard.command(*ENABLE)))
        guard.disable()
        samples.add(0, "nft -f", "system calls", "size",
                    calls(place, ["nft", "-f", listing]))
        run_inside(place.host, ["nft", "flush", "ruleset"])
        for number in range(min(rounds, 5)):
            for what, value in at_rest(guard, place).items():
                samples.add(number, "leakguard watch", what, "size", value)
    samples.notes.append("how long the start takes: part change, one resolver")
    lines = list(dict.fromkeys((one["row"], one["column"])
                               for one in samples.values))
    table = [{"row": row, "column": column,
              **samples.summary(row, column, "size")} for row, column in lines]
    report.write(out, samples, {"size": table}, about)
    report.print_table(
        f"Size ({time.monotonic() - started:.0f} s)", ["", "", ""],
        [[line["row"], line["column"], report.with_range(line, "{:.0f}")]
         for line in table])
    for note in samples.notes:
        print(f"  {note}")
