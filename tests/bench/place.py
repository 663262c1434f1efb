"""Where packets are measured: a host with a tunnel, its LAN, its provider.

    lan                host                  isp
   +-------------+    +----------------+    +----------------------------+
   | eth0        |----| lan0      wan0 |----| cust0   203.0.113.8, .9 .. |
   | 192.168.7.10|    | .1          .2 |    | 192.0.2.1                  |
   | fd07::10    |    | ::1        ::2 |    | 2001:db8:2::1              |
   +-------------+    |           tun0 |----| tunfar  10.65.0.1, fd65::1 |
                      +----------------+    +----------------------------+

What reaches the far side is counted at its links' ingress, and dropped there:
the cheapest end that a packet can have, and the same for all. tun0 is a veth.
Several places stand beside each other, with names of their own.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import uuid

import netns
from labnet import add_addresses
from tools import run_inside

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "tests"
CFLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra",
          f"-I{HERE.parent}/lab/tools"]
PORT = 9999  # of what is not DNS
MARK = 51820  # of the VPN's own packets, as wg-quick(8) has it

# By the path that a packet takes: whence, and where to.
OUTSIDE = {"local4": "203.0.113.8", "local6": "2001:db8:113::8",
           "forwarded4": "203.0.113.9", "forwarded6": "2001:db8:113::9"}
TUNNEL = {"local4": "10.65.0.1", "local6": "fd65::1",
          "forwarded4": "10.65.0.9", "forwarded6": "fd65::9"}
PATHS = list(OUTSIDE)

SINK = """
table netdev sink {{
    counter other {{ }}
    {counters}
    chain name_traffic {{
        {rules}
    }}
    chain ingress {{
        type filter hook ingress devices = {{ cust0, tunfar }} priority 0
        udp dport 53 jump name_traffic
        meta l4proto udp counter name other drop
    }}
}}
"""


def build(name):
    """A helper in C of this folder: its path, compiled when it is older."""
    source, target = HERE / f"{name}.c", BUILD / f"bench-{name}"
    newest = max(one.stat().st_mtime for one in (source, *HERE.glob("*.h")))
    if not target.exists() or target.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        fresh = BUILD / f".{name}.{uuid.uuid4()}"
        subprocess.run([*os.environ.get("CC", "cc").split(), *CFLAGS, "-o",
                        fresh, source], check=True, timeout=60)
        os.replace(fresh, target)
    return str(target)


class Place:
    """The three namespaces, up once made. A context manager."""

    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix=f"bench-{name}-", dir="/run/lab")
        self.host, self.isp, self.lan = (
            netns.Namespace(f"{name}-{part}") for part in ("host", "isp", "lan"))
        self._set_sysctls()
        self._make_links()
        self._make_sink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for namespace in (self.host, self.isp, self.lan):
            namespace.delete()

    def origin(self, path):
        return self.lan if path.startswith("forwarded") else self.host

    def send(self, paths, addresses, port, chunks=1, packets=1, mark=0):
        """Packets of these paths: {path: (sent, refused, [ns a packet])}."""
        found = {}
        for origin in (self.host, self.lan):
            here = [path for path in paths if self.origin(path) is origin]
            if not here:
                continue
            done = run_inside(
                origin, [build("send"), "-m", mark, "-c", chunks, "-n", packets,
                         *(f"{addresses[path]}@{port}" for path in here)],
                timeout=120)
            if done.rc:
                raise netns.CommandError(repr(done))
            for path, line in zip(here, done.stdout.splitlines(), strict=True):
                words = line.split()
                found[path] = (int(words[2]), int(words[4]),
                               [int(word) / packets for word in words[6:]])
        return found

    def arrived(self):
        """{counter: packets} at the far side since the last call."""
        done = run_inside(self.isp, ["nft", "-j", "reset", "counters"])
        if done.rc:
            raise netns.CommandError(repr(done))
        return {one["counter"]["name"]: one["counter"]["packets"]
                for one in json.loads(done.stdout)["nftables"]
                if "counter" in one}

    def _set_sysctls(self):
        for namespace in (self.host, self.isp, self.lan):
            namespace.sysctl(net__ipv6__conf__default__accept_dad=0,
                             net__ipv6__conf__all__accept_dad=0,
                             net__ipv6__conf__default__accept_ra=0,
                             net__ipv6__conf__default__router_solicitations=0,
                             net__ipv4__conf__default__rp_filter=0,
                             net__ipv4__conf__all__rp_filter=0)
        self.host.sysctl(net__ipv4__ip_forward=1,
                         net__ipv6__conf__all__forwarding=1)

    def _make_links(self):
        host, isp, lan = self.host.name, self.isp.name, self.lan.name
        netns.ip(
            f"link add wan0 netns {host} type veth peer name cust0 netns {isp}",
            f"link add tun0 netns {host} type veth peer name tunfar netns {isp}",
            f"link add lan0 netns {host} type veth peer name eth0 netns {lan}")
        add_addresses(self.isp, "cust0", "192.0.2.1/24", "2001:db8:2::1/64")
        add_addresses(self.isp, "tunfar", "10.65.0.1/24", "fd65::1/64")
        add_addresses(self.host, "wan0", "192.0.2.2/24", "2001:db8:2::2/64")
        add_addresses(self.host, "lan0", "192.168.7.1/24", "fd07::1/64")
        add_addresses(self.host, "tun0", "10.65.0.2/24", "fd65::2/64")
        add_addresses(self.lan, "eth0", "192.168.7.10/24", "fd07::10/64")
        self.host.ip("route add default via 192.0.2.1",
                     "route add ::/0 via 2001:db8:2::1")
        self.lan.ip("route add default via 192.168.7.1",
                    "route add ::/0 via fd07::1")
        self.isp.ip("route add 192.168.7.0/24 via 192.0.2.2",
                    "route add fd07::/64 via 2001:db8:2::2")
        # Nobody asks for link addresses while packets are counted.
        for here, link, there, far, addresses in (
                (self.host, "wan0", self.isp, "cust0",
                 ("192.0.2.1", "2001:db8:2::1")),
                (self.host, "tun0", self.isp, "tunfar",
                 (*TUNNEL.values(),)),
                (self.lan, "eth0", self.host, "lan0",
                 ("192.168.7.1", "fd07::1"))):
            card = there.run(["cat", f"/sys/class/net/{far}/address"],
                             ).stdout.strip()
            here.ip(*(f"neigh replace {address} lladdr {card} dev {link} "
                      "nud permanent" for address in addresses))

    def _make_sink(self):
        names = {f"{kind}_{path}": address
                 for kind, addresses in (("outside", OUTSIDE),
                                         ("tunnel", TUNNEL))
                 for path, address in addresses.items()}
        self.isp.nft(SINK.format(
            counters="\n".join(f"counter {name} {{ }}" for name in names),
            rules="\n".join(
                f"{'ip6' if ':' in address else 'ip'} daddr {address} "
                f"counter name {name} drop" for name, address in names.items())))
