"""Guests of the host and links of its own: what goes round its IP stack.

  guest                 host                                 isp
 +-----------------+   +--------------------------------+   +--------------+
 | eth0 192.0.2.20 |---| vm0 --- br0 --- wan0           |---| cust0        |
 |      2001:..:20 |   |         192.0.2.2   (bridged)  |   | 192.0.2.1    |
 +-----------------+   |                                |   | 2001:..:2::1 |
 | eth0 192.0.2.20 |=====macvlan of======= wan0         |   +--------------+
 +-----------------+   |                                |    isp2
 | eth0 172.21.0.2 |---| ct0 --- docker0 .1  (routed)   |   +--------------+
 +-----------------+   |                           eth1 |---| eth1         |
     a program --------| tap0 198.18.5.1                |   +--------------+
                       +--------------------------------+

One shape at a time, each a context manager that puts the host back. What got
out is what a capture on the far side saw: ask() for what has an IP stack,
shoot() for frames by packet sockets.
"""

import collections
import contextlib
import fcntl
import itertools
import os
import re
import select
import socket
import struct
import time

import pytest

import labnet
import netns
import packets
from capture import TCP, Capture, parse, send_sentinels
from labnet import Addresses
from probes import make_query, new_label

GUESTS = (Addresses("192.0.2.20", "2001:db8:2::20"),
          Addresses("192.0.2.21", "2001:db8:2::21"))
BOX, BOX_GATEWAY = (Addresses("172.21.0.2", "fd21::2"),
                    Addresses("172.21.0.1", "fd21::1"))
BOX_PREFIX = Addresses("172.21.0.0/24", "fd21::/64")
BOX_NAT = """
table inet lab_guests {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "wan0" ip saddr 172.21.0.0/24 masquerade
        oifname "wan0" ip6 saddr fd21::/64 masquerade
    }
}
"""
TAP, TAP_FAR = (Addresses("198.18.5.1", "fd18::1"),
                Addresses("198.18.5.2", "fd18::2"))
MACS = ("02:00:00:00:05:01", "02:00:00:00:05:02")
TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454ca, 1, 2, 0x1000

ANYWHERE = ("0.0.0.0/0", "::/0")
PORTS = (53, 853)
ICMP = (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
WAYS = frozenset(f"{proto}{family}/{port}" for proto in ("udp", "tcp")
                 for family in (4, 6) for port in PORTS)
NONE = frozenset()
Asked = collections.namedtuple("Asked", "seen answered")
_source_ports = itertools.cycle(range(30000, 32700))


# --- asking -----------------------------------------------------------------

class _Query:
    """One query by one way, on its way."""

    def __init__(self, way, addresses):
        self.way, self.label = way, new_label()
        self.is_udp, self.is_v6 = way[0] == "u", way[3] == "6"
        self.port, self.sport = int(way[5:]), next(_source_ports)
        self.address = addresses[self.is_v6]
        self.answered, self.sock = False, None

    def send(self, link):
        self.sock = socket.socket(
            socket.AF_INET6 if self.is_v6 else socket.AF_INET,
            socket.SOCK_DGRAM if self.is_udp else socket.SOCK_STREAM)
        self.sock.setblocking(False)
        if link:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE,
                                 link.encode())
        if not self.is_udp:  # leave by RST: no FIN in a later capture
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 struct.pack("ii", 1, 0))
        self.sock.bind(("::" if self.is_v6 else "0.0.0.0", self.sport))
        self.sock.connect_ex((self.address, self.port))
        if self.is_udp:
            with contextlib.suppress(OSError):  # EPERM: the inet table's
                self.sock.send(make_query(self.label))

    def advance(self):
        """Something has come: a connection, an answer, a refusal."""
        with contextlib.suppress(OSError):
            if self.is_udp:
                self.answered = bool(self.sock.recv(4096))
            else:
                self.answered = 0 == self.sock.getsockopt(
                    socket.SOL_SOCKET, socket.SO_ERROR)

    def is_in(self, capture):
        return any(self._is(packet) for packet in capture.name_traffic())

    def _is(self, packet):
        if self.is_udp:
            return self.label.encode() in packet.payload
        return ((packet.proto, packet.sport, packet.family)
                == (TCP, self.sport, 6 if self.is_v6 else 4))


def _await(queries, due, deadline):
    """Until all that are due are answered; the others have their chance."""
    while True:
        waiting = [q for q in queries if not q.answered]
        poll, by_fd = select.poll(), {q.sock.fileno(): q for q in waiting}
        for query in waiting:
            poll.register(query.sock, select.POLLIN if query.is_udp
                          else select.POLLOUT)
        is_due = any(q.way in due for q in waiting)
        left_ms = max(deadline - time.monotonic(), 0) * 1000 if is_due else 0
        found = poll.poll(left_ms)
        for number, _ in found:
            by_fd[number].advance()
        if not is_due or time.monotonic() >= deadline:
            return


def ask(lab, origin, addresses, link=None, due=NONE, outside=None,
        timeout=5.0):
    """Queries from a namespace by all WAYS; which were seen and answered.

    `due`: the ways that an answer is waited for. `outside`: another capture
    than that of the provider's side of wan0.
    """
    queries = [_Query(way, addresses) for way in sorted(WAYS)]
    with contextlib.ExitStack() as stack:
        capture = outside or stack.enter_context(lab.capture())
        capture.clear()
        with origin.inside():
            for query in queries:
                query.send(link)
        _await(queries, due, time.monotonic() + timeout)
        for query in queries:
            query.sock.close()
        capture.wait_for([token for address in getattr(
            capture, "far", labnet.GATEWAY)
            for token in send_sentinels(origin, address, link)])
        return Asked({q.way for q in queries if q.is_in(capture)},
                     {q.way for q in queries if q.answered})


def reaches(lab, origin, addresses, **options):
    """Does a server answer by each way."""
    return ask(lab, origin, addresses, due=WAYS, **options).answered == WAYS


def harmless(namespace, addresses=labnet.GATEWAY):
    """What of the traffic that is none of ours fails: empty, it should be."""
    failed = []
    namespace.run(["ip", "neighbour", "flush", "all"])  # ARP and ND as well
    for address in addresses:
        for size in (56, 3000):  # in fragments, too
            done = namespace.run(["ping", "-n", "-c", "1", "-W", "3", "-s",
                                  size, address], check=False)
            if done.rc:
                failed.append((address, size))
    return failed


def large_udp(lab, namespace, address, port=9):
    """Offsets of the fragments seen of a large datagram."""
    token = new_label().encode()
    with lab.capture() as capture:
        with namespace.inside(), socket.socket(
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_DGRAM) as sock:
            with contextlib.suppress(OSError):  # EPERM: the inet table's
                sock.sendto(token * 200, (address, port))
        capture.wait_for(send_sentinels(namespace, address))
        return sorted(p.fragment_offset for p in capture.packets
                      if p.proto not in ICMP and token in p.payload)


# --- frames -----------------------------------------------------------------

def frame(family, proto, port, payload, sport=4000):
    """An Ethernet frame that nobody's stack takes for its own."""
    source, address = GUESTS[1][family == 6], TAP_FAR[family == 6]
    body = (packets.udp(source, address, sport, port, payload)
            if proto == "udp" else
            packets.tcp(source, address, sport, port, packets.SYN, payload))
    number = packets.UDP if proto == "udp" else packets.TCP
    build, kind = ((packets.ipv6, 0x86dd) if family == 6
                   else (packets.ipv4, 0x0800))
    ether = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in MACS)
    return ether + struct.pack("!H", kind) + build(source, address, number,
                                                   body)


def shoot(namespace, link, capture, headless=False):
    """Frames with queries by a packet socket; the ways that the capture saw.

    headless: for links without a link-layer header, as tun.
    """
    netns.wait_until(lambda: " qdisc noop " not in namespace.run(
        ["ip", "-o", "link", "show", link]).stdout, f"{link} sends")
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind((link, 0))
    with sock:
        return shoot_by(lambda data: sock.send(data[14 * headless:]), capture)


def shoot_by(send, capture):
    """The same by a function. Frames to port 9 follow from every CPU, and
    are waited for."""
    labels = {way: new_label().encode() for way in WAYS}
    allowed, tokens = os.sched_getaffinity(0), []
    for way, label in labels.items():
        with contextlib.suppress(OSError):  # ENOBUFS: dropped at the device
            send(frame(int(way[3]), way[:3], int(way[5:]),
                       make_query(label.decode())))
    for cpu in sorted(allowed):
        os.sched_setaffinity(0, {cpu})
        tokens.append(new_label().encode())
        send(frame(4, "udp", 9, tokens[-1]))
    os.sched_setaffinity(0, allowed)
    capture.wait_for(tokens)
    return {way for way, label in labels.items()
            if any(label in p.payload for p in capture.name_traffic())}


# --- shapes -----------------------------------------------------------------

def new_namespace(name):
    made = netns.Namespace(name)
    # As elsewhere in the lab: addresses are usable at once.
    made.sysctl(net__ipv6__conf__all__accept_dad=0,
                net__ipv6__conf__default__accept_dad=0,
                net__ipv6__conf__default__accept_ra=0)
    return made


def links_of(namespace):
    with namespace.inside():
        return {name for _, name in socket.if_nameindex()}


def drop(namespace):
    """Delete it, its links at once: the kernel would do that later."""
    for link in links_of(namespace) - {"lo"}:
        namespace.ip(f"link del {link}")
    namespace.delete()


def _wait_reach(origin, addresses=labnet.RESOLVERS["approved"], link=None):
    for address in addresses:
        netns.wait_until(lambda a=address: labnet.can_reach(origin, a, link),
                         f"{origin.name} reaches {address}")


def _join(guest, addresses):
    """A guest of the provider's network, with a way back to the LAN."""
    labnet.add_addresses(guest, "eth0", f"{addresses.v4}/24",
                         f"{addresses.v6}/64")
    guest.ip(*(f"route add {prefix} via {via}" for prefix, via in (
        ("default", labnet.GATEWAY.v4), ("::/0", labnet.GATEWAY.v6),
        *zip(labnet.LAN_PREFIX, labnet.HOST_WAN, strict=True))))
    _wait_reach(guest)


def _lead(lab, link):
    """The host's addresses and routes at the provider, on this link."""
    labnet.add_addresses(lab.host, link, f"{labnet.HOST_WAN.v4}/24",
                         f"{labnet.HOST_WAN.v6}/64")
    plain = [*ANYWHERE, *labnet.RESOLVERS["approved"], *labnet.VPN_ENDPOINT]
    lab.host.ip(*(
        f"route replace {prefix} via {labnet.GATEWAY[':' in prefix]} "
        f"dev {link} table {table}" for table, prefixes in (
            ("main", plain), (labnet.WAN_TABLE, ANYWHERE))
        for prefix in prefixes))
    _wait_reach(lab.host, link=link)


@contextlib.contextmanager
def bridged(lab, count=1, nf_call=0):
    """wan0 in a bridge, the host's addresses on br0, and guests beside it."""
    host, guests = lab.host, []
    mac = host.run(["cat", "/sys/class/net/wan0/address"]).stdout.strip()
    host.ip("link set wan0 down", "address flush dev wan0",
            f"link add br0 address {mac} type bridge",
            "link set wan0 master br0", "link set wan0 up",
            "link set br0 up")
    try:
        set_nf_call(host, nf_call)
        _lead(lab, "br0")
        for number in range(count):
            guests.append(new_namespace(f"guest{number}"))
            netns.ip(f"link add vm{number} netns host type veth "
                     f"peer name eth0 netns guest{number}")
            host.ip(f"link set vm{number} master br0 up")
            _join(guests[-1], GUESTS[number])
        yield guests
    finally:
        for guest in guests:
            drop(guest)
        host.ip("link del br0", "link set wan0 down", "link set wan0 up")
        set_nf_call(host, 1)
        _lead(lab, "wan0")


def has_nf_call():
    return os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables")


def set_nf_call(namespace, value):
    if has_nf_call():
        namespace.sysctl(**{f"net__bridge__bridge-nf-call-{kind}": value
                            for kind in ("iptables", "ip6tables")})


@contextlib.contextmanager
def child(lab, mode, kind="macvlan"):
    """A namespace whose link is a child of wan0: macvlan or ipvlan."""
    guest = new_namespace("child")
    try:
        lab.host.ip(f"link add link wan0 name mv0 type {kind} mode {mode}",
                    "link set mv0 netns child name eth0")
        _join(guest, GUESTS[0])
        yield guest
    finally:
        drop(guest)
        _wait_reach(lab.host)  # in mode passthru it was cut off


@contextlib.contextmanager
def container(lab, nat=True):
    """What container engines make: a bridge that the host routes for."""
    guest, host = new_namespace("container"), lab.host
    try:
        netns.ip("link add ct0 netns host type veth "
                 "peer name eth0 netns container")
        host.ip("link add docker0 type bridge", "link set ct0 master docker0",
                "link set ct0 up")
        labnet.add_addresses(host, "docker0", f"{BOX_GATEWAY.v4}/24",
                             f"{BOX_GATEWAY.v6}/64")
        labnet.add_addresses(guest, "eth0", f"{BOX.v4}/24", f"{BOX.v6}/64")
        guest.ip(f"route add default via {BOX_GATEWAY.v4}",
                 f"route add ::/0 via {BOX_GATEWAY.v6}")
        if nat:
            host.nft(BOX_NAT)
        else:
            lab.isp.ip(*(f"route add {prefix} via {via}" for prefix, via in
                         zip(BOX_PREFIX, labnet.HOST_WAN, strict=True)))
        _wait_reach(guest)
        yield guest
    finally:
        host.run(["nft", "delete table inet lab_guests"], check=False)
        for prefix in BOX_PREFIX:
            lab.isp.run(["ip", "route", "del", prefix], check=False)
        drop(guest)
        host.ip("link del docker0")


class Device(Capture):
    """A tun or tap device of the host; what comes out of it is outside.

    Its far end is no stack but this program, which answers nobody.
    """

    far = TAP_FAR

    def __init__(self, lab, mode="tap", link=None):
        # pylint: disable=super-init-not-called # no socket at all
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("no access to /dev/net/tun")
        self.lab, self.mode, self.link = lab, mode, link or f"{mode}0"
        self.ports, self.packets = PORTS, []
        flags = (IFF_TAP if mode == "tap" else IFF_TUN) | IFF_NO_PI
        with lab.host.inside():
            self.socket = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.socket, TUNSETIFF, struct.pack(
                "16sH22x", self.link.encode(), flags))
        labnet.add_addresses(lab.host, self.link, f"{TAP.v4}/24",
                             f"{TAP.v6}/64")
        if mode == "tap":
            lab.host.ip(*(f"neighbour replace {address} lladdr {MACS[0]} "
                          f"dev {self.link} nud permanent"
                          for address in TAP_FAR))

    def close(self):
        os.close(self.socket)

    def shoot(self, capture):
        """Frames from the far end, as from a virtual machine's."""
        return shoot_by(lambda data: os.write(self.socket, data), capture)

    def collect(self):
        while True:
            try:
                data = os.read(self.socket, 65535)
            except BlockingIOError:
                return self.packets
            if packet := parse(data[14:] if self.mode == "tap" else data):
                self.packets.append(packet)

    def _require_no_loss(self):
        path = f"/sys/class/net/{self.link}/statistics/tx_dropped"
        dropped = self.lab.host.run(["cat", path]).stdout.strip()
        if dropped != "0":
            raise RuntimeError(f"{self.link}: {dropped} packets lost")


@contextlib.contextmanager
def second_provider():
    """Another network, for links that come and go: see wire()."""
    made = new_namespace("isp2")
    try:
        yield made
    finally:
        drop(made)


def wire(lab, link, far=None, index=None):
    """A link of the host whose other end, of that name, is at isp2."""
    far, number = far or link, f"index {index}" if index else ""
    netns.ip(f"link add {link} {number} netns host type veth "
             f"peer name {far} netns isp2")
    netns.ip(f"link set {far} up", namespace="isp2")
    lab.host.ip(f"link set {link} up")


# --- what the guard says ----------------------------------------------------

def frames_of(guard):
    """{link: what status says of its frames}"""
    return {one["name"]: one["frames"] for one in guard.status()["links"]}


def wait_frames(guard, timeout=10, **expected):
    """Until status says so: wait_frames(guard, eth1="covered")."""
    def are():
        found = frames_of(guard)
        return all(found.get(link) == what
                   for link, what in expected.items())
    netns.wait_until(are, f"links are {expected}", timeout)


def chain_handles(namespace):
    """{link: the number its egress chain was born with}"""
    done = namespace.run(["nft", "-a", "list", "table", "netdev",
                          "leakguard"])
    found = re.findall(r'# handle (\d+)\n\s+type filter hook egress '
                       r'device "?([^" ]+)', done.stdout)
    assert len(found) == len({link for _, link in found}), found
    return {link: number for number, link in found}


def has_kind(kind):
    """Can this kernel make links of that kind."""
    try:
        netns.ip(f"link add probe0 type {kind}", "link del probe0")
    except netns.CommandError as error:
        if "Unknown device type" in str(error):
            return False
        raise
    return True
