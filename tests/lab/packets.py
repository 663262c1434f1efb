"""Hand-made IPv4 and IPv6 packets, for raw sockets that bring their header."""

import random
import socket
import struct

UDP, TCP, ICMP = socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMP
SYN, PSH, ACK = 2, 8, 16
MORE_FRAGMENTS = 1
NOP, RECORD_ROUTE = 1, 7  # IPv4 options
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60


def checksum(data):
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _address(text):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text)


def _pseudo_header(src, dst, proto, length):
    return _address(src) + _address(dst) + struct.pack("!II", length, proto)


def udp(src, dst, sport, dport, payload):
    """A UDP datagram with its checksum."""
    length = 8 + len(payload)
    head = struct.pack("!HHH", sport, dport, length)
    total = checksum(_pseudo_header(src, dst, UDP, length) + head + b"\0\0"
                     + payload)
    return head + struct.pack("!H", total or 0xffff) + payload


def tcp(src, dst, sport, dport, flags, payload=b""):
    """A segment without options."""
    head = struct.pack("!HHIIBBH", sport, dport, random.getrandbits(32), 0,
                       5 << 4, flags, 65535)
    total = checksum(_pseudo_header(src, dst, TCP, 20 + len(payload)) + head
                     + b"\0\0\0\0" + payload)
    return head + struct.pack("!HH", total, 0) + payload


def tcp_syn(src, dst, sport, dport):
    """A connection request."""
    return tcp(src, dst, sport, dport, SYN)


def ipv4(src, dst, proto, payload, options=b"", fragment=(0, 0, None)):
    """fragment: (offset in bytes, more fragments, identification)."""
    offset, more, ident = fragment
    words = 5 + len(options) // 4
    head = struct.pack(
        "!BBHHHBBH4s4s", 4 << 4 | words, 0, words * 4 + len(payload),
        random.getrandbits(16) if ident is None else ident,
        more << 13 | offset // 8, 64, proto, 0, _address(src), _address(dst))
    total = checksum(head + options)
    return head[:10] + struct.pack("!H", total) + head[12:] + options + payload


def ipv6(src, dst, header, payload):
    """`header`: the protocol number of what the payload starts with."""
    return (struct.pack("!IHBB", 6 << 28, len(payload), header, 64)
            + _address(src) + _address(dst) + payload)


def options_header(header):
    """An empty hop-by-hop or destination options header (PadN)."""
    return bytes([header, 0, 1, 4, 0, 0, 0, 0])


def routing_header(header):
    """A segment routing header that is at its end (type 4, RFC 8754)."""
    return bytes([header, 0, 4, 0, 0, 0, 0, 0])


def authentication_header(header):
    """With a made-up association and check value (RFC 4302)."""
    return struct.pack("!BBHII12x", header, 4, 0, 1, 1)


def fragment_header(header, offset, more, ident):
    return struct.pack("!BBHI", header, 0, offset | more, ident)


def fragments(src, dst, datagram, sizes, header=UDP, before=b""):
    """Cut a datagram; `sizes`: bytes of each piece but the last.

    `header`: the number of what it starts with; IPv6 only: `before`, a
    destination options header in front of the fragment header.
    """
    ident, offset, pieces = random.getrandbits(16), 0, []
    for size in (*sizes, len(datagram)):
        piece = datagram[offset:offset + size]
        more = MORE_FRAGMENTS if offset + len(piece) < len(datagram) else 0
        if ":" in dst:
            head = before + fragment_header(header, offset, more, ident)
            pieces.append(ipv6(src, dst, DESTINATION if before else FRAGMENT,
                               head + piece))
        else:
            pieces.append(ipv4(src, dst, header, piece,
                               fragment=(offset, more, ident)))
        offset += len(piece)
    return pieces
