"""A battery of probes that together show every rule at work.

Battery(...).run() returns {probe: what became of it}. Of two runs under
different rules, differences() says what the one lets out or stops that the
other does not. Leaks are what a capture saw; only the cost of traffic that is
not for the guard is read from a counter, of a rule put there for it.
"""

import contextlib
import re
import select
import socket
import struct

import labnet
import packets
from probes import Probe, all_probes, fire
from test_fragments import send_all

OTHER_PORT, COUNTED_PORT = 4000, 4001
COUNTED_AS = [(version, protocol) for version in (4, 6)
              for protocol in ("udp", "tcp")]
GATEWAY, INSIDE = labnet.RESOLVERS["gateway"], labnet.RESOLVERS["inside"]
SERVER, WAN, LAN = labnet.VPN_ENDPOINT, labnet.HOST_WAN, labnet.LAN_CLIENT
MARK = 7
REFUSALS = ("ECONNREFUSED", "EHOSTUNREACH", "EACCES")

# What a run found of a probe.
OUT, TUNNELLED, DELIVERED, TOLD = "out", "tunnelled", "delivered", "told"
COUNTED = "in the cold chain"
NUMBERED = "in the set of what was blocked"

NOTRACK = """
table inet lab_notrack {
    chain prerouting { type filter hook prerouting priority -450; notrack; }
    chain output { type filter hook output priority -450; notrack; }
}
"""
# Addresses in front of this host's stub, of the tunnel's resolver, of one
# outside; and marks that lead into the tunnel and out of it.
REDIRECTED = labnet.Addresses("192.0.2.77", "2001:db8:2::77")
INTO_TUNNEL = labnet.Addresses("192.0.2.78", "2001:db8:2::78")
MARKED_IN = labnet.Addresses("192.0.2.79", "2001:db8:2::79")
LOCAL_OUT = "127.0.0.9"
FOREIGN = f"""
table inet foreign {{
    chain marks {{
        type route hook output priority mangle
        ip daddr {MARKED_IN.v4} meta mark set 0x78
        ip6 daddr {MARKED_IN.v6} meta mark set 0x78
        ip daddr {INSIDE.v4} th dport 853 meta mark set 0x77
    }}
    chain prerouting {{
        type filter hook prerouting priority mangle
        iifname "lan0" ip daddr {SERVER.v4} meta mark set {MARK}
        iifname "lan0" ip6 daddr {SERVER.v6} meta mark set {MARK}
    }}
    chain output {{
        type nat hook output priority -100
        ip daddr {REDIRECTED.v4} dnat ip to 127.0.0.1
        ip6 daddr {REDIRECTED.v6} dnat ip6 to ::1
        ip daddr {INTO_TUNNEL.v4} dnat ip to {INSIDE.v4}
        ip6 daddr {INTO_TUNNEL.v6} dnat ip6 to {INSIDE.v6}
        ip daddr {LOCAL_OUT} dnat ip to {GATEWAY.v4}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname != "lo" ip saddr 127.0.0.0/8 masquerade
    }}
}}
"""


class Battery:
    """The probes, on a lab without masquerading, with a tunnel that is up.

    refuses   the rules refuse: look who is told
    foreign   other people's rewriting and marking is part of it
    """

    def __init__(self, lab, tunnel, refuses=False, foreign=False):
        self.lab, self.tunnel = lab, tunnel
        self.refuses, self.foreign = refuses, foreign
        self.told = set()   # probes that were refused so far
        self.stubs = []

    def __enter__(self):
        with self.lab.host.inside():
            for family, address in ((socket.AF_INET, "127.0.0.1"),
                                    (socket.AF_INET6, "::1"),
                                    (socket.AF_INET, WAN.v4),
                                    (socket.AF_INET6, WAN.v6)):
                stub = socket.socket(family, socket.SOCK_DGRAM)
                stub.bind((address, 53))
                self.stubs.append(stub)
        return self

    def __exit__(self, *_):
        for stub in self.stubs:
            stub.close()

    def run(self, patience=0.3):
        """`patience`: seconds to wait for refusals that were there before."""
        found = {}
        with self._counting(found, "queries"):
            found.update(self._volley(self._plain_probes(), patience))
        with self._counting(found, "marked"):
            found.update(self._marked())
        found.update(self._local("at home", [(s.getsockname()[0], s)
                                             for s in self.stubs]))
        found.update(self._cost())
        found.update(self._fragments("fragments"))
        with self._table(NOTRACK, "inet lab_notrack"):
            found.update(self._fragments("untracked fragments"))
            found.update(self._odd_fragments())
        if self.foreign:
            with self._table(FOREIGN, "inet foreign"), \
                    self._counting(found, "rewritten"):
                found.update(self._foreign_probes(patience))
        return found

    @contextlib.contextmanager
    def _counting(self, found, what):
        """Whether anything is counted by link and port meanwhile."""
        blocked = ["set", "inet", "leakguard", "blocked"]
        self.lab.host.run(["nft", "flush", *blocked], check=False)
        yield
        listed = self.lab.host.run(["nft", "list", *blocked], check=False)
        found[f"counts of {what}"] = (
            {NUMBERED} if " counter packets " in listed.stdout else set())

    # --- connections and datagrams ---

    @staticmethod
    def _plain_probes():
        server = [Probe("host", "wan", family, port, proto, address)
                  for family, address in zip((4, 6), SERVER)
                  for port, proto in ((53, "udp"), (53, "tcp"), (853, "tcp"))]
        return server + all_probes(ways=("routed",),
                                   targets=("gateway", "approved", "inside"))

    def _volley(self, probes, patience, prefix=""):
        volley = fire(self.lab, probes, self.tunnel,
                      lambda probe: prefix + str(probe) in self.told, patience)
        found = {"strays": {OUT} if volley.strays else set()}
        for outcome in volley:
            facts = found.setdefault(prefix + str(outcome.probe), set())
            facts |= {OUT} if outcome.seen else set()
            facts |= {TUNNELLED} if outcome.tunnelled else set()
            if self.refuses and (outcome.answer == "refused"
                                 or outcome.error in REFUSALS):
                facts.add(TOLD)
                self.told.add(prefix + str(outcome.probe))
        return found

    def _marked(self):
        """To the VPN's server, carrying the mark that its packets carry."""
        found = {}
        with self.lab.watch(self.lab.host) as seen:
            for version, address in zip((4, 6), SERVER):
                for port in (53, 853):
                    self._send_marked(version, address, port)
        for version, address in zip((4, 6), SERVER):
            for port in (53, 853):
                out = any(p.dst == address and p.dport == port
                          for p in seen.name_traffic())
                found[f"marked v{version} udp/{port} to the VPN's server"] = (
                    {OUT} if out else set())
        return found

    def _send_marked(self, version, address, port):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with self.lab.host.inside(), \
             socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            with contextlib.suppress(OSError):
                sock.sendto(b"marked", (address, port))

    def _local(self, prefix, pairs):
        """To each address; what the stub behind it receives."""
        found = {}
        for address, stub in pairs:
            with self.lab.host.inside():
                sock = socket.socket(stub.family, socket.SOCK_DGRAM)
            with sock:
                token = f"{prefix} {address}".encode()
                try:
                    sock.sendto(token, (address, 53))
                except OSError:
                    token = None  # refused or dropped: nothing comes
            found[f"{prefix}: {address}"] = (
                {DELIVERED} if token and self._receives(stub, token) else set())
        return found

    @staticmethod
    def _receives(stub, token, patience=2.0):
        while select.select([stub], [], [], patience)[0]:
            if stub.recv(65535).startswith(token):
                return True
        return False

    def _cost(self):
        """Other traffic ends at the first chain: see count_cold()."""
        with self.lab.host.inside():
            for version, protocol in COUNTED_AS:
                with socket.socket(
                        socket.AF_INET if version == 4 else socket.AF_INET6,
                        socket.SOCK_DGRAM if protocol == "udp"
                        else socket.SOCK_STREAM) as sock:
                    sock.setblocking(False)
                    sock.connect_ex((GATEWAY[version == 6], COUNTED_PORT))
                    if protocol == "udp":
                        sock.send(b"other")
        done = self.lab.host.run(["nft", "list", "chain", "inet", "leakguard",
                                  "name_traffic"], check=False)
        counts = re.findall(rf" dport {COUNTED_PORT} counter packets (\d+)",
                            done.stdout)
        return {f"other traffic v{version}, {protocol}":
                {COUNTED} if int(count) else set()
                for (version, protocol), count in zip(COUNTED_AS, counts)}

    # --- fragments ---

    def _fragments(self, prefix):
        """To a guarded port, to another, into the tunnel; from the LAN."""
        found = {}
        ways = [(version, port, name) for version in (4, 6)
                for port, name in ((53, "gateway"), (OTHER_PORT, "gateway"),
                                   (53, "inside"))]
        with self.tunnel.capture() as tunnelled:
            with self.lab.watch(self.lab.lan) as seen:
                for version, port, name in ways:
                    self._send_pieces(version, port, name)
            self.tunnel.barrier(tunnelled)
        for version, port, name in ways:
            address = labnet.RESOLVERS[name][version == 6]
            token = marker(version, port, name)
            found[f"{prefix} v{version} udp/{port} to {name}"] = {
                fact for fact, capture in ((OUT, seen), (TUNNELLED, tunnelled))
                if any(p.fragment_offset and p.dst == address
                       and token in p.payload for p in capture.packets)}
        return found

    def _send_pieces(self, version, port, name):
        source = LAN[version == 6]
        target = labnet.RESOLVERS[name][version == 6]
        datagram = packets.udp(source, target, 40000, port,
                               marker(version, port, name) * 40)
        send_all(self.lab.lan, target,
                 packets.fragments(source, target, datagram, (64, 128)))

    def _odd_fragments(self):
        """Untracked: one whole in a fragment header, ICMP's, and local ones."""
        source, target = LAN.v6, SERVER.v6  # approved by nobody
        atomic = packets.ipv6(
            source, target, packets.FRAGMENT,
            packets.fragment_header(packets.UDP, 0, 0, 1)
            + packets.udp(source, target, 40000, OTHER_PORT, b"atomic"))
        echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"echo" * 60
        later = packets.ipv4(LAN.v4, GATEWAY.v4, packets.ICMP, echo[64:],
                             fragment=(64, 0, 77))
        with self.lab.watch(self.lab.lan, everything=True) as seen:
            send_all(self.lab.lan, target, [atomic])
            send_all(self.lab.lan, GATEWAY.v4, [later])
        found = {name: {OUT} if any(token in p.payload for p in seen.packets)
                 else set() for name, token in
                 (("atomic fragment to another port", b"atomic"),
                  ("later fragment of ICMP", b"echo"))}
        token = b"local fragments"
        datagram = packets.udp("127.0.0.1", "127.0.0.1", 40000, 53, token * 20)
        send_all(self.lab.host, "127.0.0.1",
                 packets.fragments("127.0.0.1", "127.0.0.1", datagram, (64,)))
        # Nothing that the kernel drops here would come later.
        found["local fragments"] = ({DELIVERED} if self._receives(
            self.stubs[0], token, 0.3) else set())
        return found

    # --- other people's rules ---

    def _foreign_probes(self, patience):
        probes = [Probe("host", "routed", version, 53, "udp", address)
                  for both in (INTO_TUNNEL, MARKED_IN)
                  for version, address in zip((4, 6), both)]
        probes += [Probe("host", "routed", 4, port, proto, address)
                   for port, address in ((53, LOCAL_OUT), (853, INSIDE.v4))
                   for proto in ("udp", "tcp")]
        probes += [Probe("lan", "routed", version, 53, "udp", address)
                   for version, address in zip((4, 6), SERVER)]
        with self._mark_routes():
            found = self._volley(probes, patience, "rewritten: ")
            found.update(self._local("redirected home",
                                     zip(REDIRECTED, self.stubs)))
        return found

    @contextlib.contextmanager
    def _mark_routes(self):
        """0x77 leads to the WAN, 0x78 into the tunnel."""
        host, link = self.lab.host, self.tunnel.link
        rules = [f"fwmark 0x77 lookup {labnet.WAN_TABLE}",
                 "fwmark 0x78 lookup 101"]
        host.sysctl(net__ipv4__conf__all__route_localnet=1)
        host.ip(f"route replace default via {labnet.TUNNEL_FAR.v4} dev {link} table 101",
                f"route replace ::/0 via {labnet.TUNNEL_FAR.v6} dev {link} table 101",
                *(f"rule add {rule}" for rule in rules))
        host.ip6(*(f"rule add {rule}" for rule in rules))
        try:
            yield
        finally:
            host.ip(*(f"rule del {rule}" for rule in rules))
            host.ip6(*(f"rule del {rule}" for rule in rules))
            host.sysctl(net__ipv4__conf__all__route_localnet=0)

    @contextlib.contextmanager
    def _table(self, ruleset, name):
        self.lab.host.nft(ruleset)
        try:
            yield
        finally:
            self.lab.host.nft(f"delete table {name}\n")


def marker(version, port, name):
    """Recognised in each piece: eight bytes, over and over."""
    return f"{name[:2]}{version}{port:05d}".encode()


def count_cold(listing):
    """Have other traffic counted that gets as far as the cold chain."""
    counters = "".join(
        f"\t\tmeta nfproto ipv{version} {protocol} dport {COUNTED_PORT} counter\n"
        for version, protocol in COUNTED_AS)
    return listing.replace("\tchain name_traffic {\n",
                           "\tchain name_traffic {\n" + counters)


def differences(before, after):
    """What `after` lets out, stops or leaves unsaid that `before` did not."""
    words = {OUT: ("leak", "blocked"), TUNNELLED: ("let in", "blocked"),
             DELIVERED: ("let in", "blocked"), TOLD: ("refused", "not told"),
             COUNTED: ("costs more", "costs less"),
             NUMBERED: ("counted", "not counted")}
    found = []
    for probe in before:
        for fact in sorted(before[probe] ^ after.get(probe, set())):
            was_there = fact in before[probe]
            found.append(f"{words[fact][was_there]}: {probe}")
    return found
