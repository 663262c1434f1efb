"""The listings of rules/, read; and any listing as rules that can be taken out."""

import collections
import pathlib
import re
import shlex

from guard import REPOSITORY

RULES = pathlib.Path(REPOSITORY, "rules")
NAMES = sorted(path.stem for path in RULES.glob("*.nft"))
COMMAND = re.compile(r"^#\s+leakguard enable (.*)$", re.MULTILINE)
RULE = re.compile(r'\t\t(?P<text>.*) comment "S(?P<promise>\d+) [^"]*"')
CHAIN = re.compile(r"\tchain (\w+) \{")

# line: where it stands in the listing, from 0.
Rule = collections.namedtuple("Rule", "line chain text promise comment")


def path(name):
    return RULES / f"{name}.nft"


def options(name):
    """Of the command that the header names, as a list."""
    return shlex.split(COMMAND.search(path(name).read_text())[1])


def normalise(listing):
    """A file's text and the kernel's listing of it become the same.

    Counts are left out, elements sorted, and the hook's priority written as
    the number that it is.
    """
    text = re.sub(r"(?m)^#.*\n|^\s*\n", "", listing)
    text = re.sub(r"(?m)^\s*packets \d+ bytes \d+\n", "", text)
    text = text.replace("priority srcnat - 1;", "priority 99;")
    return re.sub(r"elements = \{([^}]*)\}", _sort_elements, text)


def _sort_elements(match):
    elements = sorted(one.strip() for one in match[1].split(","))
    return f"elements = {{ {', '.join(elements)} }}"


def read_rules(listing):
    """All rules of a listing, in order."""
    found, chain = [], None
    for number, line in enumerate(listing.splitlines()):
        if begun := CHAIN.match(line):
            chain = begun[1]
        elif rule := RULE.match(line):
            comment = line.rpartition(' comment "')[2].rstrip('"')
            found.append(Rule(number, chain, rule["text"],
                              int(rule["promise"]), comment))
    return found


def without(listing, *rules):
    """The listing with these rules taken out."""
    gone = {rule.line for rule in rules}
    return "\n".join(line for number, line in enumerate(listing.splitlines())
                     if number not in gone) + "\n"


def replace_table(namespace, listing):
    """Put this listing in the place of whatever is there, all at once."""
    namespace.nft("table inet leakguard\ndelete table inet leakguard\n"
                  + listing)


def delete_table(namespace):
    namespace.nft("table inet leakguard\ndelete table inet leakguard\n")
