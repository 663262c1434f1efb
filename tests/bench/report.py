"""What was measured: samples, what they come to, and where that is written."""

import csv
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import time

RESAMPLES = 400


class Samples:
    """A part's figures: for each row and column one of each round."""

    def __init__(self, part, rounds, seed=1):
        self.part, self.rounds = part, rounds
        self.values = []  # {"round", "row", "column", "measure", "value"}
        self.notes = []
        # Which order, and which resamples: the same each time.
        self.random = random.Random(seed)

    def add(self, number, row, column, measure, value):
        self.values.append({"round": number, "row": row, "column": column,
                            "measure": measure, "value": value})

    def shuffled(self, rows):
        rows = list(rows)
        self.random.shuffle(rows)
        return rows

    def series(self, row, column, measure):
        """{round: value}"""
        return {one["round"]: one["value"] for one in self.values
                if (one["row"], one["column"], one["measure"])
                == (row, column, measure)}

    def summary(self, row, column, measure):
        """Median and quartiles, or None where nothing was measured."""
        found = list(self.series(row, column, measure).values())
        return spread(found) if found else None

    def ratio(self, above, below, column, measure, base=None):
        """The ratio of two rows' medians, and the range that holds it in 95 of
        100 resamples of the rounds; with a base, of what each has above it, in
        the same round. None where nothing was measured."""
        rows = [self.series(row, column, measure)
                for row in (above, below, *([base] if base else []))]
        rounds = sorted(set.intersection(*(set(row) for row in rows)))
        if not rounds:
            return None
        pairs = [(rows[0][n] - (rows[2][n] if base else 0),
                  rows[1][n] - (rows[2][n] if base else 0)) for n in rounds]
        middle = _ratio(pairs)
        again = sorted(_ratio(self.random.choices(pairs, k=len(pairs)))
                       for _ in range(RESAMPLES))
        return {"ratio": middle, "low": again[RESAMPLES // 40],
                "high": again[-RESAMPLES // 40 - 1], "rounds": len(rounds)}


def _ratio(pairs):
    below = statistics.median(pair[1] for pair in pairs)
    return (statistics.median(pair[0] for pair in pairs) / below
            if below else float("nan"))


def spread(values):
    low, middle, high = (statistics.quantiles(values, n=4, method="inclusive")
                         if len(values) > 1 else values * 3)
    return {"median": middle, "low": low, "high": high, "rounds": len(values)}


def with_range(found, form="{:.2f}"):
    """"1.20 [1.10 1.30]", or a dash."""
    if not found:
        return "-"
    middle = found["ratio"] if "ratio" in found else found["median"]
    return " ".join([form.format(middle),
                     f"[{form.format(found['low'])}",
                     f"{form.format(found['high'])}]"])


def print_table(title, head, lines):
    print(f"\n{title}")
    widths = [max(len(str(line[n])) for line in [head, *lines])
              for n in range(len(head))]
    for line in [head, *lines]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width
                               in zip(line, widths, strict=True)).rstrip(),
              flush=True)


def machine():
    """What the figures depend on besides the program."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    nft = subprocess.run(["nft", "--version"], capture_output=True, text=True,
                         check=False).stdout.strip()
    return {"processor": model, "processors": os.cpu_count(),
            "architecture": platform.machine(),
            "kernel": f"{platform.release()} {platform.version()}",
            "nft": nft, "load": os.getloadavg(),
            "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}


def write(out, samples, tables, about):
    """PART.json: tables and machine; PART.csv: every sample."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{samples.part}.json", "w", encoding="utf-8") as file:
        json.dump({"part": samples.part, "rounds": samples.rounds,
                   "machine": about, "notes": samples.notes,
                   "tables": tables}, file, indent=1)
        file.write("\n")
    with open(out / f"{samples.part}.csv", "w", encoding="utf-8",
              newline="") as file:
        lines = csv.DictWriter(
            file, ["round", "row", "column", "measure", "value"])
        lines.writeheader()
        lines.writerows(samples.values)
