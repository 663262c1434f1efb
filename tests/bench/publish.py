#!/usr/bin/python3
"""Put figures of the last `make bench` where README.md shows them.

    tests/bench/publish.py            build/bench's part packet, into README.md and packet.svg here
    tests/bench/publish.py --check    README.md and packet.svg have the same figures

In README.md it replaces what is between the two lines of MARKS.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
README, SVG, OUT = TOP / "README.md", HERE / "packet.svg", TOP / "build/bench"
MARKS = "<!-- figures of tests/bench/publish.py -->", "<!-- end of figures -->"
COLUMNS = {"local4": "local, IPv4", "local6": "local, IPv6",
           "forwarded4": "forwarded, IPv4", "forwarded6": "forwarded, IPv6",
           "all four": "mean", "range": "its range"}
LEFT_OUT = "nothing again", "empty chain"  # the method's own error, and the unit


def table(found):
    """The lines of README.md, of packet.json."""
    ratio = {(line["row"], line["column"]): line
             for line in found["tables"]["ratio"]}
    lines = [f"![What a packet that is not DNS pays]({SVG.relative_to(TOP)})", "",
             f"| | {' | '.join(COLUMNS.values())} |", "|---" * 7 + "|"]
    for row in dict.fromkeys(row for row, _ in ratio):
        if row in LEFT_OUT:
            continue
        mean = ratio[row, "all four"]
        cells = [f"{ratio[row, column]['ratio']:.2f}" for column in
                 list(COLUMNS)[:-1]]
        lines.append(f"| {row} | {' | '.join(cells)} | {mean['low']:.2f} to "
                     f"{mean['high']:.2f} |")
    again, about = ratio["nothing again", "all four"], found["machine"]
    return [*lines, "",
            f"Medians of {found['rounds']} rounds, and the range of the mean in 95 "
            "of 100 resamples;",
            f"nothing at all, measured a second time: {again['ratio']:.2f}. "
            f"{about['processor']}, {about['processors']} processors,",
            f"{about['architecture']}, Linux {about['kernel'].split()[0]}, "
            f"{about['nft'].split(' (')[0]}."]


def between_marks(text):
    """(before, between, after)"""
    found = re.fullmatch(f"(.*{MARKS[0]}\n)(.*)({MARKS[1]}\n.*)", text, re.S)
    if not found:
        sys.exit(f"{README}: expected the lines {MARKS[0]} and {MARKS[1]}")
    return found.groups()


def publish():
    before, _, after = between_marks(README.read_text(encoding="utf-8"))
    found = json.loads((OUT / "packet.json").read_text(encoding="utf-8"))
    drawn = (OUT / "packet.svg").read_text(encoding="utf-8")
    README.write_text(before + "\n".join(table(found)) + "\n" + after,
                      encoding="utf-8")
    SVG.write_text(re.sub(" +$", "", drawn, flags=re.M), encoding="utf-8")


def check():
    """Rows and their means, in the order in which both have them."""
    lines = between_marks(README.read_text(encoding="utf-8"))[1].splitlines()
    told = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines
            if re.match(r"\| [^|]", line)]
    drawn = re.findall("<text[^>]*>([^<]*)</text>",
                       SVG.read_text(encoding="utf-8"))
    for what, wanted in (("rows", [row[0] for row in told]),
                         ("means", [row[5] for row in told])):
        if not wanted or not any(drawn[n:n + len(wanted)] == wanted
                                 for n in range(len(drawn))):
            sys.exit(f"{SVG}: expected README.md's {what}: {' '.join(wanted)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        publish()
