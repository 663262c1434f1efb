"""Ways to keep name traffic inside a tunnel, and what they are measured by.

Each has the same policy where it can: ports 53 and 853, UDP and TCP, leave
through tun0 only. `guards` is what of it the way can do at all.
"""

import netns
from guard import Guard
from place import MARK, PATHS
from tools import run_inside

LOCAL = [path for path in PATHS if path.startswith("local")]

EMPTY = """
table inet bench {
    chain postrouting { type filter hook postrouting priority 99; }
}
"""

# The kernel puts datagrams together before anybody else sees them: what that
# costs alone, which each way with it has to pay.
REASSEMBLY = """
table inet bench {
    chain postrouting { type filter hook postrouting priority 99; }
    chain never_reached {
        meta nfproto ipv4 meta l4proto udp tproxy ip to :1
        meta nfproto ipv6 meta l4proto udp tproxy ip6 to :1
    }
}
"""

# One rule a port and protocol, in both chains that see what leaves.
IPTABLES = "*filter\n" + "".join(
    f"-A {chain} ! -o tun0 -p {protocol} --dport {port} -j DROP\n"
    for chain in ("OUTPUT", "FORWARD") for protocol in ("udp", "tcp")
    for port in (53, 853)) + "COMMIT\n"

# wg-quick(8)'s kill switch, its -I in the form of iptables-restore.
WG_QUICK = ("*filter\n"
            f"-I OUTPUT ! -o tun0 -m mark ! --mark {MARK} -m addrtype "
            "! --dst-type LOCAL -j REJECT\nCOMMIT\n")


def sequential(conntrack):
    """What VPN clients' filters look like: one rule after the other for each
    thing that is let out. 60 of them, which a packet of others passes all."""
    head = ['oifname "lo" accept', 'oifname "tun0" accept']
    if conntrack:
        head.insert(1, "ct state established,related accept")
    head += [f"udp sport {sport} udp dport {dport} accept"
             for sport, dport in ((68, 67), (67, 68), (546, 547), (547, 546))]
    head += [f"icmpv6 type {kind} accept"
             for kind in ("nd-router-solicit", "nd-router-advert",
                          "nd-neighbor-solicit", "nd-neighbor-advert")]
    head += [f"ip daddr {net} accept" for net in
             ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
              "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255")]
    head += [f"ip6 daddr {net} accept" for net in
             ("fe80::/10", "fc00::/7", "ff00::/8")]
    drops = [f"{protocol} dport {port} drop" for protocol in ("udp", "tcp")
             for port in (53, 853)]
    middle = [f"ip daddr 198.51.100.{n} {'udp' if n % 2 else 'tcp'} dport "
              f"{1194 + n} accept" for n in range(60 - len(head) - len(drops))]
    rules = "\n        ".join([*head, *middle, *drops])
    return "table inet bench {" + "".join(f"""
    chain {chain} {{
        type filter hook {chain} priority 0
        {rules}
    }}""" for chain in ("output", "forward")) + "\n}\n"


class Variant:
    """A way of guarding, in a place that others were in force in before."""

    guards = PATHS
    stays = False  # something of it is left when it is removed

    def __init__(self, place):
        self.place = place

    def run(self, argv, stdin=None):
        if stdin is None:
            done = run_inside(self.place.host, argv)
            if done.rc:
                raise netns.CommandError(repr(done))
            return done
        return self.place.host.run(argv, stdin=stdin)

    def reason(self):
        """Why it cannot be here, or None."""
        return None

    def install(self):
        """Put it in force."""

    def remove(self):
        self.run(["nft", "flush", "ruleset"])


class Nothing(Variant):
    guards = []

    def remove(self):
        pass


class Nft(Variant):
    def __init__(self, place, text, guards=None):
        super().__init__(place)
        self.text = text
        if guards is not None:
            self.guards = guards

    def install(self):
        self.place.host.nft(self.text)


class Leakguard(Variant):
    def __init__(self, place, frames, *options):
        super().__init__(place)
        self.guard = Guard(place, namespace=place.host)
        self.options = ["--frames", frames, *options]

    def install(self):
        self.run(self.guard.command("enable", "--no-watch", "--tunnel", "tun0",
                                    *self.options))

    def remove(self):
        self.run(self.guard.command("disable"))


class Iptables(Variant):
    def __init__(self, place, kind, text, guards=None):
        super().__init__(place)
        self.kind, self.text = kind, text
        # A legacy table's hooks are there until the namespace goes.
        self.stays = kind == "legacy"
        if guards is not None:
            self.guards = guards

    def _restore(self, text):
        for program in ("iptables", "ip6tables"):
            self.run([f"{program}-{self.kind}-restore"], stdin=text)

    def reason(self):
        try:
            self._restore(self.text)
        except netns.CommandError as error:
            return f"not here: {' '.join(str(error).split())[:200]}"
        self.remove()
        return None

    def install(self):
        self._restore(self.text)

    def remove(self):
        if self.kind == "nft":
            super().remove()
        else:
            self._restore("*filter\nCOMMIT\n")


# In the order of the table.
VARIANTS = {
    "nothing": Nothing,
    "nothing again": Nothing,
    "empty chain": lambda place: Nft(place, EMPTY, guards=[]),
    "empty chain, reassembly": lambda place: Nft(place, REASSEMBLY, guards=[]),
    "leakguard inet": lambda place: Leakguard(place, "off"),
    "leakguard inet, no reassembly":
        lambda place: Leakguard(place, "off", "--fragments", "drop"),
    "leakguard inet, reject":
        lambda place: Leakguard(place, "off", "--action", "reject"),
    "leakguard inet, frames": lambda place: Leakguard(place, "require"),
    "leakguard inet, frames, no reassembly":
        lambda place: Leakguard(place, "require", "--fragments", "drop"),
    "leakguard inet, frames strict": lambda place: Leakguard(place, "strict"),
    "iptables-nft": lambda place: Iptables(place, "nft", IPTABLES),
    "iptables-legacy": lambda place: Iptables(place, "legacy", IPTABLES),
    "wg-quick rule, local only":
        lambda place: Iptables(place, "nft", WG_QUICK, LOCAL),
    "60 rules": lambda place: Nft(place, sequential(False)),
    "60 rules, ct": lambda place: Nft(place, sequential(True)),
}
