"""Senders of frames: packet sockets of every sort, scapy, a stranger.

SENDERS is a table of send(namespace, link, frames); frames.py makes those.
"""

import errno
import mmap
import socket
import struct
import subprocess

import netns
import packets
from capture import SOL_PACKET

UDP, TCP = packets.UDP, packets.TCP
IP, IPV6 = 0x0800, 0x86dd
ETHERNET_BYTES = 14
PACKET_VERSION, PACKET_TX_RING, PACKET_VNET_HDR = 10, 13, 15
PACKET_QDISC_BYPASS = 20
SEND_REQUEST = 1  # TP_STATUS_SEND_REQUEST

SENDERS = {}


def sender(name):
    def register(function):
        SENDERS[name] = function
        return function
    return register


def packet_socket(namespace, kind, *options):
    with namespace.inside():
        sock = socket.socket(socket.AF_PACKET, kind, 0)
    for option, value in options:
        sock.setsockopt(SOL_PACKET, option, value)
    return sock


def push(send, *arguments):
    """Of a frame that the device's hook drops, its sender is told: ENOBUFS.
    Whether it was not."""
    try:
        send(*arguments)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return False
    return True


def _send_raw(namespace, link, frames, *options, before=b""):
    with packet_socket(namespace, socket.SOCK_RAW, *options) as sock:
        for frame in frames:
            push(sock.sendto, before + frame.data, (link, frame.protocol))


@sender("raw")
def _raw(namespace, link, frames):
    _send_raw(namespace, link, frames)


@sender("raw, type not said")
def _raw_unsaid(namespace, link, frames):
    """The kernel looks into the frame for what the address does not say."""
    with packet_socket(namespace, socket.SOCK_RAW) as sock:
        for frame in frames:
            push(sock.sendto, frame.data, (link, 0))


@sender("raw, bound")
def _raw_bound(namespace, link, frames):
    """send() without an address: the socket's own protocol."""
    for protocol in {frame.protocol for frame in frames}:
        with packet_socket(namespace, socket.SOCK_RAW) as sock:
            sock.bind((link, protocol))
            for frame in frames:
                if frame.protocol == protocol:
                    push(sock.send, frame.data)


@sender("dgram")
def _dgram(namespace, link, frames):
    """The kernel writes the Ethernet header: its type is what is said."""
    with packet_socket(namespace, socket.SOCK_DGRAM) as sock:
        for frame in frames:
            push(sock.sendto, frame.data[ETHERNET_BYTES:],
                 (link, frame.protocol, 0, 0, frame.data[:6]))


@sender("bypass")
def _bypass(namespace, link, frames):
    _send_raw(namespace, link, frames, (PACKET_QDISC_BYPASS, 1))


@sender("bypass, dgram")
def _bypass_dgram(namespace, link, frames):
    with packet_socket(namespace, socket.SOCK_DGRAM,
                       (PACKET_QDISC_BYPASS, 1)) as sock:
        for frame in frames:
            push(sock.sendto, frame.data[ETHERNET_BYTES:],
                 (link, frame.protocol, 0, 0, frame.data[:6]))


BLOCK_BYTES, SLOT_BYTES, SLOTS = 1 << 16, 1 << 12, 64
# version -> (request's tail, offset of the length, of the status, of the data)
RINGS = {2: (b"", 4, 0, 32), 3: (bytes(12), 16, 20, 48)}


def _ring(version, *options):
    """PACKET_TX_RING: frames are put into memory shared with the kernel."""
    tail, length_at, status_at, data_at = RINGS[version]

    def send(namespace, link, frames):
        sock = packet_socket(namespace, socket.SOCK_RAW, *options,
                             (PACKET_VERSION, version - 1))
        request = struct.pack("=IIII", BLOCK_BYTES, SLOTS * SLOT_BYTES
                              // BLOCK_BYTES, SLOT_BYTES, SLOTS)
        sock.setsockopt(SOL_PACKET, PACKET_TX_RING, request + tail)
        with sock, mmap.mmap(sock.fileno(), SLOTS * SLOT_BYTES) as ring:
            number = 0
            for frame in frames:
                slot = number % SLOTS * SLOT_BYTES
                ring[slot + data_at:slot + data_at + len(frame.data)] \
                    = frame.data
                struct.pack_into("=I", ring, slot + length_at,
                                 len(frame.data))
                struct.pack_into("=I", ring, slot + status_at, SEND_REQUEST)
                # Blocks until the kernel is done with the slot. One that was
                # dropped would be tried again: the next frame replaces it.
                number += push(sock.sendto, b"", (link, frame.protocol))
    return send


SENDERS["ring v2"] = _ring(2)
SENDERS["ring v3"] = _ring(3)
SENDERS["ring v3, bypass"] = _ring(3, (PACKET_QDISC_BYPASS, 1))


@sender("offload header")
def _offload_header(namespace, link, frames):
    """A virtio_net_hdr that asks for nothing."""
    _send_raw(namespace, link, frames, (PACKET_VNET_HDR, 1), before=bytes(10))


SEGMENTED = {(IP, UDP): 5, (IPV6, UDP): 5, (IP, TCP): 1, (IPV6, TCP): 4}


@sender("segmentation offload")
def _segmentation(namespace, link, frames):
    """Plain frames, each with its payload thrice, to be cut by the device."""
    with packet_socket(namespace, socket.SOCK_RAW,
                       (PACKET_VNET_HDR, 1)) as sock:
        for frame in frames:
            push(sock.sendto, _thrice(frame), (link, frame.protocol))


def _thrice(frame):
    """The frame with a virtio_net_hdr (linux/virtio_net.h) in front."""
    start = ETHERNET_BYTES + (20 if frame.protocol == IP else 40)
    proto = frame.data[23 if frame.protocol == IP else 20]
    end = start + (8 if proto == UDP else 20)
    payload = frame.data[end:]
    data = bytearray(frame.data + payload * 2)
    length, sum_at = len(data) - start, 6 if proto == UDP else 16
    if frame.protocol == IP:
        struct.pack_into("!H", data, 16, len(data) - ETHERNET_BYTES)
        data[24:26] = bytes(2)
        struct.pack_into("!H", data, 24, packets.checksum(bytes(data[14:34])))
        pseudo = bytes(data[26:34])
    else:
        struct.pack_into("!H", data, 18, length)
        pseudo = bytes(data[22:54])
    if proto == UDP:
        struct.pack_into("!H", data, start + 4, length)
    # The device ends the sum that starts with the pseudo header's.
    pseudo += struct.pack("!II", length, proto)
    struct.pack_into("!H", data, start + sum_at,
                     ~packets.checksum(pseudo) & 0xffff)
    return struct.pack("=BBHHHH", 1, SEGMENTED[frame.protocol, proto], end,
                       len(payload), start, sum_at) + data


# --- scapy ------------------------------------------------------------------

SENDP = """
import errno, json, sys
from scapy.all import *
SOURCE, DESTINATION, LINK, FRAMES = json.load(sys.stdin)
ETHER = Ether(src=SOURCE, dst=DESTINATION)
for label, host, address, text in FRAMES:
    HOST, ADDRESS = host, address
    QUERY = DNS(rd=1, qd=DNSQR(qname=label + ".lab.example"))
    BIG = UDP(sport=5300, dport=53) / QUERY / Raw(label.encode() * 40)
    QUERY = UDP(sport=5300, dport=53) / QUERY
    for packet in eval(text):
        try:
            sendp(ETHER / packet, iface=LINK, verbose=False)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
"""
# name -> (family, an expression for packets that follow the Ethernet header)
SCAPY = {
    "plain": (4, "[IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "plain, IPv6": (6, "[IPv6(src=HOST, dst=ADDRESS) / QUERY]"),
    "options": (4, "[IP(src=HOST, dst=ADDRESS, options=[IPOption_RR()])"
                   " / QUERY]"),
    "extension headers": (
        6, "[IPv6(src=HOST, dst=ADDRESS) / IPv6ExtHdrHopByHop()"
           " / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) / QUERY]"),
    "802.1Q": (4, "[Dot1Q(vlan=7) / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "802.1Q, IPv6": (6, "[Dot1Q(vlan=7) / IPv6(src=HOST, dst=ADDRESS)"
                        " / QUERY]"),
    "QinQ": (4, "[Dot1AD(vlan=7) / Dot1Q(vlan=8)"
                " / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "PPPoE": (4, "[PPPoE(sessionid=1) / Raw(bytes([0, 33]))"
                 " / IP(src=HOST, dst=ADDRESS) / QUERY]"),
    "fragments": (4, "fragment(IP(src=HOST, dst=ADDRESS) / BIG, 200)"),
    "fragments, IPv6": (
        6, "fragment6(IPv6(src=HOST, dst=ADDRESS)"
           " / IPv6ExtHdrFragment() / BIG, 200)"),
}


# --- a user namespace -------------------------------------------------------

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
STRANGER = """
import os, socket, sys
print("ready", flush=True)
for line in sys.stdin:
    link, protocol, data = line.split()
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.sendto(bytes.fromhex(data), (link, int(protocol)))
        print("sent", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""
DROPPED = "No buffer space available"


class Stranger:
    """An unprivileged user's process, root of a user namespace of its own;
    with a network namespace of its own, or in the host's."""

    def __init__(self, lab, own_network=True):
        self.process = lab.host.popen(
            [*NOBODY, "unshare", "--user", "--map-root-user",
             *(["--net"] if own_network else []),
             "/usr/bin/python3", "-c", STRANGER], cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def send(self, link, frame):
        """"sent", or why not."""
        print(link, frame.protocol, frame.data.hex(), flush=True,
              file=self.process.stdin)
        return self.process.stdout.readline().strip()

    def close(self):
        netns.stop(self.process)
        self.process.stdin.close()
        self.process.stdout.close()
