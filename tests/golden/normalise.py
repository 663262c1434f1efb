"""Two listings of the same rules become the same text.

What nft lists of a rule is not always what was written: where it knows a word
for bytes at a place, it takes the word.
"""

import re

ETHER_TYPES = {"ip": "0x800", "ip6": "0x86dd", "8021q": "0x8100",
               "8021ad": "0x88a8"}
WORDS = {
    "priority raw;": "priority -300;",
    "priority dstnat - 1;": "priority -101;",
    "priority srcnat;": "priority 100;",
    "priority srcnat - 1;": "priority 99;",
    "priority srcnat + 1;": "priority 101;",
    " burst 5 packets": "",  # nft's default goes unsaid
    "meta oiftype ether ": "meta oiftype 1 ",
    "meta oiftype ppp ": "meta oiftype 512 ",
    "ip6 version != 6 ": "meta protocol ip6 @nh,0,8 & 0xf0 != 0x60 ",
    "ip version != 4 ": "meta protocol ip @nh,0,8 & 0xf0 != 0x40 ",
    "ah nexthdr != udp ah nexthdr != tcp ":
        "meta l4proto ah @th,0,8 != 0x11 @th,0,8 != 0x6 ",
    # Said for nft, which leaves it out.
    "meta protocol ip6 exthdr frag ": "exthdr frag ",
    "meta protocol ip6 frag frag-off ": "frag frag-off ",
}


def normalise(listing):
    """Without counts, comments and blanks; elements sorted, for they are a set."""
    text = re.sub(r"\n\s*elements = \{[^}]* counter packets [^}]*\}", "",
                  listing)
    text = re.sub(r"(?m)^\s*#.*\n|^\s*\n|^\s*packets \d+ bytes \d+\n", "", text)
    for word, bytes_there in WORDS.items():
        text = text.replace(word, bytes_there)
    text = re.sub(r"ether type (!= )?(\w+)", lambda match: "@ll,96,16 "
                  + (match[1] or "") + ETHER_TYPES.get(match[2], match[2]), text)
    return re.sub(r"elements = \{([^}]*)\}", lambda match: "elements = " + ", ".join(
        sorted(one.strip() for one in match[1].split(","))), text)
