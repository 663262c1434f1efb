"""The listings of rules/, read; and any listing as rules that can be taken out."""

import collections
import pathlib
import re
import shlex
import sys

from guard import FAMILIES, REPOSITORY

sys.path.append(str(REPOSITORY / "tests/golden"))
import normalise as golden  # noqa: E402 pylint: disable=C0413

RULES = pathlib.Path(REPOSITORY, "rules")
NAMES = sorted(path.stem for path in RULES.glob("*.nft"))
COMMAND = re.compile(r"^#\s+leakguard enable (.*)$", re.MULTILINE)
RULE = re.compile(r'\t\t(?P<text>.*) comment "S(?P<promise>\d+) [^"]*"')
CHAIN = re.compile(r"\tchain (\w+) \{")
TABLE = re.compile(r"table (\w+) leakguard \{")
BY_HAND = re.compile(r"^    link=eth0\n((?:    .*\n)+)", re.MULTILINE)
normalise = golden.normalise
LINK_CHAIN = re.compile(
    r'\tchain \w+ \{\n\t\ttype filter hook egress .*\n(?:\t\t.*\n)*\t\}\n')

# line: where it stands in the listing, from 0; table: its family.
Rule = collections.namedtuple("Rule", "line table chain text promise comment")


def path(name):
    return RULES / f"{name}.nft"


def options(name):
    """Of the command that the header names, as a list."""
    return shlex.split(COMMAND.search(path(name).read_text())[1])


def without_links(listing):
    """The same without what a file cannot have: a chain for each link."""
    return LINK_CHAIN.sub("", listing)


def read_rules(listing):
    """All rules of a listing, in order."""
    found, table, chain = [], None, None
    for number, line in enumerate(listing.splitlines()):
        if begun := TABLE.match(line):
            table = begun[1]
        elif begun := CHAIN.match(line):
            chain = begun[1]
        elif rule := RULE.match(line):
            comment = line.rpartition(' comment "')[2].rstrip('"')
            found.append(Rule(number, table, chain, rule["text"],
                              int(rule["promise"]), comment))
    return found


def without(listing, *rules):
    """The listing with these rules taken out."""
    gone = {rule.line for rule in rules}
    return "\n".join(line for number, line in enumerate(listing.splitlines())
                     if number not in gone) + "\n"


def hook(namespace, *links):
    """Give links a chain in table netdev, as README.md says to."""
    commands = BY_HAND.search((RULES / "README.md").read_text())[1]
    for link in links:
        namespace.run(["sh", "-ec", f"link={link}\n{commands}"])


REMOVAL = "".join(f"table {family} leakguard\ndelete table {family} leakguard\n"
                  for family in FAMILIES)


def replace_table(namespace, listing):
    """Put this listing in the place of whatever is there, all at once."""
    namespace.nft(REMOVAL + listing)


def delete_table(namespace):
    namespace.nft(REMOVAL)
