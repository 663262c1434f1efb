"""The lab: a guarded host, its provider, a VPN's far side, a LAN client.

  lan                host                  isp                     vpn
 +-------------+    +----------------+    +-------------------+    +-----------+
 | eth0        |----| lan0      wan0 |----| cust0         up0 |----| wan0      |
 | 192.168.7.10|    | .1          .2 |    | 192.0.2.1         |    | .2        |
 | 192.168.7.11|    |                |    |       100.64.0.1  |    |           |
 | fd07::10,11 |    | ::1        ::2 |    | 2001:db8:2::1     |    | ::2       |
 +-------------+    |                |    |     2001:db8:64::1|    |           |
                    |     tun0 or wg0|====|===================|====| far end   |
                    | 10.65.0.2      |    |                   |    | 10.65.0.1 |
                    | fd65::2        |    |                   |    | fd65::1   |
                    +----------------+    +-------------------+    +-----------+
 resolvers, UDP and TCP 53 and DNS over TLS on 853, each v4 and v6:
   isp   provider 198.51.100.53  2001:db8:51::53
         gateway  192.0.2.1      2001:db8:2::1     on-link for the host
         public   203.0.113.8    2001:db8:113::8
         approved 203.0.113.53   2001:db8:113::53  has a route of its own
         forged   10.64.0.1      fd64::1           the next one's double
   vpn   inside   10.64.0.1      fd64::1           through the tunnel

The host routes everything but the approved resolver through a tunnel that is
up, forwards for the LAN and masquerades it (v6 only into the tunnel). The VPN's
far side masquerades too, so each resolver also answers through the tunnel.

LAN traffic from .11 is policy-routed to wan0 whatever the tunnel says. Leaks
are what a Capture of cust0 saw. What is sent to NOBODY arrives at the provider
and is never answered.
"""

import collections
import contextlib
import socket
import tempfile

import netns
from capture import Capture, send_sentinels
from resolvers import Resolver, make_certificate

Addresses = collections.namedtuple("Addresses", "v4 v6")

RESOLVERS = {
    "provider": Addresses("198.51.100.53", "2001:db8:51::53"),
    "gateway": Addresses("192.0.2.1", "2001:db8:2::1"),
    "public": Addresses("203.0.113.8", "2001:db8:113::8"),
    "approved": Addresses("203.0.113.53", "2001:db8:113::53"),
    "inside": Addresses("10.64.0.1", "fd64::1"),
}
GATEWAY = RESOLVERS["gateway"]
NOBODY = Addresses("203.0.113.66", "2001:db8:113::66")
VPN_ENDPOINT = Addresses("100.64.0.2", "2001:db8:64::2")
TUNNEL_HOST = Addresses("10.65.0.2", "fd65::2")
TUNNEL_FAR = Addresses("10.65.0.1", "fd65::1")
HOST_WAN = Addresses("192.0.2.2", "2001:db8:2::2")
HOST_LAN = Addresses("192.168.7.1", "fd07::1")
LAN_CLIENT = Addresses("192.168.7.10", "fd07::10")
LAN_RULED = Addresses("192.168.7.11", "fd07::11")
LAN_PREFIX = Addresses("192.168.7.0/24", "fd07::/64")
WAN_TABLE = 100  # the routing table of LAN_RULED

HOST_MASQUERADE = """
table inet lab_nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname != "lan0" ip saddr 192.168.7.0/24 masquerade
        oifname != { "lan0", "wan0" } ip6 saddr fd07::/64 masquerade
    }
}
"""
VPN_MASQUERADE = """
table inet lab_nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "wan0" masquerade
    }
}
"""


class Lab:
    """The whole topology, up and answering once made. A context manager."""

    def __init__(self, masquerade=True):
        self.dir = tempfile.mkdtemp(prefix="lab-", dir="/run/lab")
        self.certificate = make_certificate(self.dir, "resolver.lab")
        self.host, self.isp, self.vpn, self.lan = (
            netns.Namespace(name) for name in ("host", "isp", "vpn", "lan"))
        self.namespaces = (self.host, self.isp, self.vpn, self.lan)
        self.resolvers = {}
        try:
            self._set_sysctls()
            self._make_links()
            self._add_routes()
            if masquerade:
                self.host.nft(HOST_MASQUERADE)
            self.vpn.nft(VPN_MASQUERADE)
            self._start_resolvers()
            self._warm_up()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for namespace in self.namespaces:
            namespace.delete()

    def capture(self, **options):
        """What leaves the host's WAN link, seen on the provider's side."""
        return Capture(self.isp, "cust0", **options)

    @contextlib.contextmanager
    def watch(self, *origins, **options):
        """Capture around a block; complete when the block has been left.

            with lab.watch() as seen:
                ...send...
            assert not seen.name_traffic()
        """
        with self.capture(**options) as capture:
            yield capture
            self.barrier(capture, *origins)

    def barrier(self, capture, *origins):
        """Return once all that origins sent before is in the capture."""
        tokens = []
        for origin in origins or (self.host, self.lan):
            link = "wan0" if origin is self.host else None
            for gateway in GATEWAY:
                tokens += send_sentinels(origin, gateway, link)
        capture.wait_for(tokens)

    def _set_sysctls(self):
        # Duplicate address detection would delay each new address, and reverse
        # path filtering would hide leaks that the guard has to stop. Refusals
        # (ICMP) would be limited to one a second for each client.
        for namespace in self.namespaces:
            namespace.sysctl(net__ipv6__conf__default__accept_dad=0,
                             net__ipv6__conf__all__accept_dad=0,
                             net__ipv6__conf__default__accept_ra=0,
                             net__ipv4__conf__default__rp_filter=0,
                             net__ipv4__conf__all__rp_filter=0,
                             net__ipv4__icmp_ratelimit=0,
                             net__ipv6__icmp__ratelimit=0)
        for namespace in (self.host, self.isp, self.vpn):
            namespace.sysctl(net__ipv4__ip_forward=1,
                             net__ipv6__conf__all__forwarding=1)

    def _make_links(self):
        # Both ends are born where they belong: nothing appears outside.
        netns.ip(
            "link add wan0 netns host type veth peer name cust0 netns isp",
            "link add up0 netns isp type veth peer name wan0 netns vpn",
            "link add lan0 netns host type veth peer name eth0 netns lan")
        add_addresses(self.host, "wan0", "192.0.2.2/24", "2001:db8:2::2/64")
        add_addresses(self.host, "lan0", "192.168.7.1/24", "fd07::1/64")
        add_addresses(self.isp, "cust0", "192.0.2.1/24", "2001:db8:2::1/64")
        add_addresses(self.isp, "up0", "100.64.0.1/24", "2001:db8:64::1/64")
        add_addresses(self.vpn, "wan0", "100.64.0.2/24", "2001:db8:64::2/64")
        add_addresses(self.lan, "eth0", "192.168.7.10/24", "fd07::10/64",
                      "192.168.7.11/24")
        # Deprecated: used by those who ask for it, as .11 is.
        self.lan.ip("address add fd07::11/64 dev eth0 nodad preferred_lft 0")
        for name, addresses in RESOLVERS.items():
            if name != "gateway":
                add_addresses(self.isp, "lo", *addresses)
        add_addresses(self.vpn, "lo", *RESOLVERS["inside"])

    def _add_routes(self):
        approved = RESOLVERS["approved"]
        endpoint = VPN_ENDPOINT
        self.isp.ip(*(f"route add blackhole {address}" for address in NOBODY))
        self.host.ip(
            "route add default via 192.0.2.1",
            "route add ::/0 via 2001:db8:2::1",
            f"route add {approved.v4} via 192.0.2.1",
            f"route add {approved.v6} via 2001:db8:2::1",
            f"route add {endpoint.v4} via 192.0.2.1",
            f"route add {endpoint.v6} via 2001:db8:2::1",
            f"route add default via 192.0.2.1 table {WAN_TABLE}",
            f"route add ::/0 via 2001:db8:2::1 table {WAN_TABLE}",
            f"rule add from {LAN_RULED.v4} lookup {WAN_TABLE}")
        self.host.ip6(f"rule add from {LAN_RULED.v6} lookup {WAN_TABLE}")
        self.isp.ip(f"route add {LAN_PREFIX.v4} via 192.0.2.2",
                    f"route add {LAN_PREFIX.v6} via 2001:db8:2::2")
        self.vpn.ip("route add default via 100.64.0.1",
                    "route add ::/0 via 2001:db8:64::1")
        self.lan.ip("route add default via 192.168.7.1",
                    "route add ::/0 via fd07::1")

    def _start_resolvers(self):
        for tag, addresses in RESOLVERS.items():
            where = self.vpn if tag == "inside" else self.isp
            self.resolvers[tag] = Resolver(where, tag, addresses,
                                           self.certificate, self.dir)
        self.resolvers["forged"] = Resolver(
            self.isp, "forged", RESOLVERS["inside"], self.certificate,
            self.dir)
        for resolver in self.resolvers.values():
            resolver.wait()

    def _warm_up(self):
        """First packets of a new link can be lost while addresses settle."""
        for origin in (self.host, self.lan):
            for address in (*RESOLVERS["approved"], *GATEWAY, *VPN_ENDPOINT):
                netns.wait_until(
                    lambda o=origin, a=address: can_reach(o, a),
                    f"{origin.name} reaches {address}")


def add_addresses(namespace, link, *addresses):
    """nodad: usable at once, not after duplicate address detection."""
    lines = [f"address add {address} dev {link}"
             + (" nodad" if ":" in address else "") for address in addresses]
    namespace.ip(f"link set {link} up", *lines)


def can_reach(namespace, address, link=None, port=7, timeout=0.3):
    """Does TCP to a closed port get its refusal: both ways work."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.inside():
        sock = socket.socket(family, socket.SOCK_STREAM)
    with sock:
        sock.settimeout(timeout)
        try:
            if link:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE,
                                link.encode())
            sock.connect((address, port))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return True
