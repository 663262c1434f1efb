"""make bench: measure, print tables, write build/bench. See README.md."""

import argparse
import importlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import report  # noqa: E402

PARTS = ["packet", "change", "links", "alter", "repair", "watch", "size"]
# Half an hour on two processors, half of it part packet's.
ROUNDS = {"packet": 150, "change": 40, "links": 40, "alter": 40, "repair": 30,
          "watch": 3, "size": 5}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--out", default="build/bench")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{' '.join(unknown)}: expected {' '.join(PARTS)}")
    about = report.machine()
    print(f"{about['processor']}, {about['processors']} processors, Linux "
          f"{about['kernel']}, {about['nft']}, load {about['load'][0]:.1f}")
    for part in options.parts or PARTS:
        module = importlib.import_module(part if part != "watch"
                                         else "watching")
        module.run(options.rounds or ROUNDS[part], options.out, about)
    print(f"\nwritten to {options.out}: a JSON of each part's tables, a CSV of "
          "its samples, plots as SVG")


if __name__ == "__main__":
    main()
