"""The listings of rules/, read; and any listing as rules that can be taken out."""

import collections
import pathlib
import re
import shlex

from guard import FAMILIES, REPOSITORY

RULES = pathlib.Path(REPOSITORY, "rules")
NAMES = sorted(path.stem for path in RULES.glob("*.nft"))
COMMAND = re.compile(r"^#\s+leakguard enable (.*)$", re.MULTILINE)
RULE = re.compile(r'\t\t(?P<text>.*) comment "S(?P<promise>\d+) [^"]*"')
CHAIN = re.compile(r"\tchain (\w+) \{")
TABLE = re.compile(r"table (\w+) leakguard \{")
BY_HAND = re.compile(r"^    link=eth0\n((?:    .*\n)+)", re.MULTILINE)
LINK_CHAIN = re.compile(
    r'\tchain \w+ \{\n\t\ttype filter hook egress .*\n(?:\t\t.*\n)*\t\}\n')
# What nft has a word for where it knows the link's header, as in table bridge.
ETHER_TYPES = {"ip": "0x800", "ip6": "0x86dd", "8021q": "0x8100",
               "8021ad": "0x88a8"}

# line: where it stands in the listing, from 0; table: its family.
Rule = collections.namedtuple("Rule", "line table chain text promise comment")


def path(name):
    return RULES / f"{name}.nft"


def options(name):
    """Of the command that the header names, as a list."""
    return shlex.split(COMMAND.search(path(name).read_text())[1])


def normalise(listing):
    """A file's text and the kernel's listing of it become the same.

    Counts are left out, elements sorted, and the hook's priority written as
    the number that it is, as are ether types.
    """
    text = re.sub(r"(?m)^\s*#.*\n|^\s*\n", "", listing)
    text = re.sub(r"(?m)^\s*packets \d+ bytes \d+\n", "", text)
    text = text.replace("priority srcnat - 1;", "priority 99;")
    text = re.sub(r"ether type (\w+)", lambda match: "@ll,96,16 "
                  + ETHER_TYPES.get(match[1], match[1]), text)
    text = re.sub(r"meta protocol ip6 (exthdr frag|frag frag-off)", r"\1", text)
    return re.sub(r"elements = \{([^}]*)\}", _sort_elements, text)


def _sort_elements(match):
    elements = sorted(one.strip() for one in match[1].split(","))
    return f"elements = {{ {', '.join(elements)} }}"


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
