"""Clients that try to get a query out: real programs, and crafted packets.

PROGRAMS are command lines; CRAFTED are senders on sockets of all sorts. Both
are tables, so that a test can go through all of them.
"""

import collections
import contextlib
import errno
import itertools
import socket
import struct

import labnet
import packets
from probes import make_query, new_label
from resolvers import BIG_ZONE, TAGS, ZONE

IPV6_HOPOPTS, IPV6_DSTOPTS = 54, 59  # linux/in6.h
UDP_SEGMENT = 103                    # linux/udp.h
SO_BINDTODEVICE = socket.SO_BINDTODEVICE
PORT = 53
_source_ports = itertools.cycle(range(2000, 9000))

# --- programs ---------------------------------------------------------------

Asked = collections.namedtuple("Asked", "label answer result")

DIG = ["dig", "+tries=1", "+time=1"]
KDIG = ["kdig", "+retry=0", "+timeout=2"]


def _wan_address(address):
    wan = labnet.HOST_WAN
    return wan.v6 if ":" in address else wan.v4


# name -> (address, query name) -> argv. Run on the host.
PROGRAMS = {
    "dig": lambda a, n: [*DIG, "+short", f"@{a}", n],
    "dig +tcp": lambda a, n: [*DIG, "+short", "+tcp", f"@{a}", n],
    "dig -4 or -6": lambda a, n: [*DIG, "+short", "-6" if ":" in a else "-4",
                                  f"@{a}", n],
    "dig -b": lambda a, n: [*DIG, "+short", "-b", _wan_address(a), f"@{a}", n],
    "dig -b +tcp": lambda a, n: [*DIG, "+short", "+tcp", "-b", _wan_address(a),
                                 f"@{a}", n],
    "dig padded": lambda a, n: [*DIG, "+short", "+padding=512", f"@{a}", n],
    "dig +bufsize": lambda a, n: [*DIG, "+short", "+bufsize=4096", "+dnssec",
                                  f"@{a}", n],
    "dig +tls": lambda a, n: [*DIG, "+short", "+tls", f"@{a}", n],
    "kdig": lambda a, n: [*KDIG, "+short", f"@{a}", n],
    "kdig +tcp": lambda a, n: [*KDIG, "+short", "+tcp", f"@{a}", n],
    "kdig +tls": lambda a, n: [*KDIG, "+short", "+tls", f"@{a}", n],
    "delv": lambda a, n: ["delv", "+short", "-i", f"@{a}", n],
    "nslookup": lambda a, n: ["nslookup", "-timeout=1", "-retry=1", n, a],
    "host": lambda a, n: ["host", "-W", "1", "-R", "1", n, a],
}


def run_program(namespace, program, address):
    """Ask `address` through one of PROGRAMS."""
    label = new_label()
    args = PROGRAMS[program](address, f"{label}.{ZONE}")
    return _asked(label, namespace.run(args, check=False))


def dig(namespace, address, *options, bind=None, zone=ZONE):
    """dig with any options; the answer's tag, or its raw text."""
    label = new_label()
    source = ["-b", bind] if bind else []
    args = [*DIG, *source, f"@{address}", f"{label}.{zone}", *options]
    return _asked(label, namespace.run(args, check=False))


def dig_big(namespace, address):
    """A query by UDP for an answer that needs EDNS and fragments."""
    return dig(namespace, address, "TXT", "+bufsize=4096", "+notcp", "+short",
               zone=BIG_ZONE)


def _asked(label, result):
    tags = {tag for text, tag in TAGS.items() if text in result.stdout.split()}
    return Asked(label, tags.pop() if tags else None, result)


# --- crafted ----------------------------------------------------------------

CRAFTED = {}
Sender = collections.namedtuple("Sender", "send families origins is_fragment")


def crafted(name, families=(4, 6), origins=("host", "lan"),
            is_fragment=False):
    """Register a sender: send(namespace, address, link, label)."""
    def register(function):
        CRAFTED[name] = Sender(function, families, origins, is_fragment)
        return function
    return register


def send_crafted(name, namespace, address, link=None):
    """Send; returns the errno's name of a refusal, or None."""
    try:
        with namespace.inside():
            CRAFTED[name].send(namespace, address, link, new_label())
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return None


@contextlib.contextmanager
def _socket(address, kind, proto=0, link=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind, proto) as sock:
        sock.settimeout(1)
        if link:
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, link.encode())
        yield sock


def _udp_socket(address, link):
    return _socket(address, socket.SOCK_DGRAM, link=link)


def send_raw(address, link, *datagrams, options=()):
    """Packets with their own IP header, from the namespace we are in.

    All are sent, also after a refusal: what follows the first fragment must
    be stopped for itself. The first refusal is raised in the end.
    """
    refusal = None
    with _socket(address, socket.SOCK_RAW, socket.IPPROTO_RAW, link) as sock:
        for option in options:
            sock.setsockopt(*option)
        for datagram in datagrams:
            try:
                sock.sendto(datagram, (address, 0))
            except OSError as error:
                refusal = refusal or error
    if refusal:
        raise refusal


def source_of(namespace, address):
    """The namespace's own address of the same family."""
    both = {"host": labnet.HOST_WAN, "lan": labnet.LAN_CLIENT}[namespace.name]
    return both.v6 if ":" in address else both.v4


def _datagram(namespace, address, label, size=0):
    """A UDP query; made larger with its label all over, to be recognised."""
    pad = (label.encode() * (size // len(label) + 1))[:size]
    return packets.udp(source_of(namespace, address), address,
                       next(_source_ports), PORT, make_query(label, pad=pad))


@crafted("udp")
def _udp(_, address, link, label):
    with _udp_socket(address, link) as sock:
        sock.sendto(make_query(label), (address, PORT))


@crafted("tcp")
def _tcp(_, address, link, label):
    del label  # the connection request is enough
    with _socket(address, socket.SOCK_STREAM, link=link) as sock:
        sock.settimeout(0.2)
        sock.connect((address, PORT))


@crafted("tcp fast open")
def _tcp_fast_open(namespace, address, link, label):
    namespace.sysctl(net__ipv4__tcp_fastopen=0x5)  # also without a cookie
    with _socket(address, socket.SOCK_STREAM, link=link) as sock:
        sock.setblocking(False)
        query = make_query(label)
        sock.sendto(struct.pack("!H", len(query)) + query,
                    socket.MSG_FASTOPEN, (address, PORT))


@crafted("udp by a mapped address", families=(4,))
def _mapped(_, address, link, label):
    with _socket("::", socket.SOCK_DGRAM, link=link) as sock:
        sock.sendto(make_query(label), (f"::ffff:{address}", PORT))


@crafted("udp by packet info", origins=("host",))
def _packet_info(_, address, link, label):
    index = socket.if_nametoindex(link or "wan0")
    if ":" in address:
        level, kind = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
        info = struct.pack("16si", b"", index)
    else:
        level, kind = socket.IPPROTO_IP, 8  # IP_PKTINFO
        info = struct.pack("i4s4s", index, b"", b"")
    with _udp_socket(address, None) as sock:
        sock.sendmsg([make_query(label)], [(level, kind, info)], 0,
                     (address, PORT))


@crafted("udp segmentation offload")
def _segmentation_offload(_, address, link, label):
    query = make_query(label)
    with _udp_socket(address, link) as sock:
        sock.setsockopt(socket.SOL_UDP, UDP_SEGMENT, len(query))
        sock.sendto(query * 3, (address, PORT))


@crafted("udp zero copy")
def _zero_copy(_, address, link, label):
    with _udp_socket(address, link) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
        sock.sendto(make_query(label), 0x4000000, (address, PORT))


@crafted("broadcast", families=(4,), origins=("host",))
def _broadcast(_, address, link, label):
    del address
    with _udp_socket("0.0.0.0", link or "wan0") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for everyone in ("192.0.2.255", "255.255.255.255"):
            sock.sendto(make_query(label), (everyone, PORT))


@crafted("multicast", origins=("host",))
def _multicast(_, address, link, label):
    group = "ff02::fb" if ":" in address else "224.0.0.251"
    with _udp_socket(address, link or "wan0") as sock:
        sock.sendto(make_query(label), (group, PORT))


@crafted("own header")
def _own_header(namespace, address, link, label):
    build = packets.ipv6 if ":" in address else packets.ipv4
    send_raw(address, link,
             build(source_of(namespace, address), address, packets.UDP,
                   _datagram(namespace, address, label)))


@crafted("own header tcp")
def _own_header_tcp(namespace, address, link, label):
    del label
    build, source = (packets.ipv6 if ":" in address else packets.ipv4,
                     source_of(namespace, address))
    syn = packets.tcp_syn(source, address, next(_source_ports), PORT)
    send_raw(address, link,
             build(source, address, packets.TCP, syn))


@crafted("own header with options", families=(4,))
def _own_header_options(namespace, address, link, label):
    record_route = bytes([packets.NOP, packets.RECORD_ROUTE, 7, 4, 0, 0, 0, 0])
    send_raw(address, link,
             packets.ipv4(source_of(namespace, address), address, packets.UDP,
                          _datagram(namespace, address, label), record_route))


@crafted("options", families=(4,))
def _options(_, address, link, label):
    record_route = bytes([packets.NOP, packets.RECORD_ROUTE, 7, 4, 0, 0, 0, 0])
    with _udp_socket(address, link) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, record_route)
        sock.sendto(make_query(label), (address, PORT))


def _udp_with_extension(address, link, label, option):
    with _udp_socket(address, link) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, option,
                        packets.options_header(0))
        sock.sendto(make_query(label), (address, PORT))


@crafted("hop-by-hop options", families=(6,))
def _hop_by_hop(_, address, link, label):
    _udp_with_extension(address, link, label, IPV6_HOPOPTS)


@crafted("destination options", families=(6,))
def _destination_options(_, address, link, label):
    _udp_with_extension(address, link, label, IPV6_DSTOPTS)


@crafted("chain of extension headers", families=(6,))
def _extension_chain(namespace, address, link, label):
    chain = (packets.options_header(packets.DESTINATION)
             + packets.options_header(packets.ROUTING)
             + packets.routing_header(packets.DESTINATION)
             + packets.options_header(packets.UDP))
    send_raw(address, link,
             packets.ipv6(source_of(namespace, address), address,
                          packets.HOP_BY_HOP,
                          chain + _datagram(namespace, address, label)))


@crafted("authentication header", families=(6,))
def _authentication_header(namespace, address, link, label):
    head = packets.authentication_header(packets.UDP)
    send_raw(address, link,
             packets.ipv6(source_of(namespace, address), address,
                          packets.AUTHENTICATION,
                          head + _datagram(namespace, address, label)))


@crafted("atomic fragment", families=(6,), is_fragment=True)
def _atomic_fragment(namespace, address, link, label):
    head = packets.fragment_header(packets.UDP, 0, 0, 1)
    send_raw(address, link,
             packets.ipv6(source_of(namespace, address), address,
                          packets.FRAGMENT,
                          head + _datagram(namespace, address, label)))


@crafted("large query", is_fragment=True)
def _large_query(_, address, link, label):
    with _udp_socket(address, link) as sock:
        sock.sendto(make_query(label, pad=label.encode() * 180),
                    (address, PORT))


def _send_fragments(namespace, address, link, label, sizes, keep=slice(None)):
    datagram = _datagram(namespace, address, label, 600)
    pieces = packets.fragments(source_of(namespace, address), address,
                               datagram, sizes)
    send_raw(address, link, *pieces[keep])


@crafted("fragments", is_fragment=True)
def _fragments(namespace, address, link, label):
    _send_fragments(namespace, address, link, label, (64, 256))


@crafted("fragments, the first with ports only", is_fragment=True)
def _tiny_fragments(namespace, address, link, label):
    _send_fragments(namespace, address, link, label, (8, 8, 64))


@crafted("fragments in reverse", is_fragment=True)
def _reverse_fragments(namespace, address, link, label):
    _send_fragments(namespace, address, link, label, (64, 256),
                    slice(None, None, -1))


@crafted("later fragments alone", is_fragment=True)
def _later_fragments(namespace, address, link, label):
    _send_fragments(namespace, address, link, label, (64, 256),
                    slice(1, None))
