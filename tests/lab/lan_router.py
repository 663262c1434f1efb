"""The lab's host as a home router: bridged networks with clients of all sorts.

  phone, shelf            host                         isp
 +-------------------+   +----------------------+     +---------------+
 | 192.168.20.10, 11 |---| p1, p2 --- br-lan .1 |     |               |
 | 2001:db8:d1:1::10 |   |                 ::1  | wan0|               |
 +-------------------+   |                      |=====| cust0         |
  visitor                |                      |     | 2001:db8:d1:: |
 +-------------------+   |                      |     | /56 routed to |
 | 192.168.30.10     |---| p3 ---- br-guest .1  |     | the host      |
 | 2001:db8:d1:2::10 |   |                 ::1  |     +---------------+
 +-------------------+   +----------------------+

IPv4 is masqueraded, IPv6 is of the delegated prefix and leaves as it is; into a
tunnel both are masqueraded.
"""

import collections
import contextlib
import errno
import socket
import struct

import guests
import labnet
import netns
import systems
from labnet import Addresses
from probes import make_query, new_label, parse_answer

Client = collections.namedtuple("Client", "port bridge addresses mac")

BRIDGES = {"br-lan": Addresses("192.168.20.1", "2001:db8:d1:1::1"),
           "br-guest": Addresses("192.168.30.1", "2001:db8:d1:2::1")}
CLIENTS = {
    "phone": Client("p1", "br-lan", Addresses(
        "192.168.20.10", "2001:db8:d1:1::10"), "02:00:5e:00:20:10"),
    "shelf": Client("p2", "br-lan", Addresses(
        "192.168.20.11", "2001:db8:d1:1::11"), "02:00:5e:00:20:11"),
    "visitor": Client("p3", "br-guest", Addresses(
        "192.168.30.10", "2001:db8:d1:2::10"), "02:00:5e:00:30:10"),
}
# "Administratively prohibited" is the second for IPv4, the third for IPv6.
REFUSALS = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES,
            errno.ECONNRESET)
DELEGATED, PRIVATE = "2001:db8:d1::/56", "192.168.16.0/20"
NAT = """
table inet lab_router {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname != { "br-lan", "br-guest" } ip saddr 192.168.0.0/16 masquerade
        oifname != { "br-lan", "br-guest", "wan0" } ip6 saddr 2001:db8:d1::/56 masquerade
    }
}
"""


class Router:
    """.phone and .shelf are in the LAN, .visitor in the guests' network."""

    def __init__(self, lab):
        self.lab, self.clients = lab, []
        guests.set_nf_call(lab.host, 0)  # as on routers
        for name, gateway in BRIDGES.items():
            # Without a fixed address it would be that of the lowest port.
            lab.host.ip(f"link add {name} type bridge",
                        f"link set {name} address 02:00:5e:00:01:0{len(name)}")
            labnet.add_addresses(lab.host, name, f"{gateway.v4}/24",
                                 f"{gateway.v6}/64")
        for name in CLIENTS:
            self._join(name)
        lab.isp.ip(f"route add {DELEGATED} via {labnet.HOST_WAN.v6}",
                   f"route add {PRIVATE} via {labnet.HOST_WAN.v4}")
        lab.host.nft(NAT)
        for client in self.clients:
            for address in labnet.RESOLVERS["approved"]:
                netns.wait_until(
                    lambda c=client, a=address: labnet.can_reach(c, a),
                    f"{client.name} reaches {address}")

    def _join(self, name):
        port, bridge, addresses, mac = CLIENTS[name]
        client = guests.new_namespace(name)
        self.clients.append(client)
        setattr(self, name, client)
        netns.ip(f"link add {port} netns host type veth "
                 f"peer name eth0 address {mac} netns {name}")
        self.lab.host.ip(f"link set {port} master {bridge} up")
        labnet.add_addresses(client, "eth0", f"{addresses.v4}/24",
                             f"{addresses.v6}/64")
        client.ip(*(f"route add {prefix} via {gateway}" for prefix, gateway
                    in zip(("default", "::/0"), BRIDGES[bridge],
                           strict=True)))

    def close(self):
        for client in self.clients:
            guests.drop(client)
        for name in BRIDGES:
            self.lab.host.ip(f"link del {name}")
        self.lab.host.nft("delete table inet lab_router")
        self.lab.isp.ip(f"route del {DELEGATED}", f"route del {PRIVATE}")
        guests.set_nf_call(self.lab.host, 1)


@contextlib.contextmanager
def own_resolver(lab, listen, servers):
    """The router's own dnsmasq, which forwards to `servers`; port 53 of
    `listen`, and of what clients are redirected to."""
    with systems.dnsmasq_forwarder(lab, lab.host, listen, servers) as one:
        yield one


class Flow:
    """A client's UDP socket, or its TCP connection, that is kept."""

    def __init__(self, client, address, proto="udp", port=53):
        self.proto = proto
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        with client.inside():
            self.sock = socket.socket(family, kind)
        self.sock.settimeout(5)
        self.sock.connect((address, port))

    def close(self):
        if self.proto == "tcp":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        self.sock.close()

    def ask(self, timeout=3):
        """Who answers by it: a tag, "refused", or None. The socket is
        connected: what comes from another address is not for it."""
        query = make_query(new_label())
        self.sock.settimeout(timeout)
        try:
            if self.proto == "udp":
                self.sock.send(query)
                return parse_answer(self.sock.recv(4096))
            self.sock.send(struct.pack("!H", len(query)) + query)
            return parse_answer(self.sock.recv(4096)[2:])
        except TimeoutError:
            return None
        except OSError as error:  # a reset, or what an ICMP error becomes
            assert error.errno in REFUSALS, error
            return "refused"
