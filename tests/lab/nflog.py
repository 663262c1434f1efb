"""What the kernel logs to an nflog group (linux/netfilter/nfnetlink_log.h)."""

import select
import socket
import struct
import time

NETLINK_NETFILTER = 12
SUBSYSTEM_ULOG = 4
MESSAGE_PACKET, MESSAGE_CONFIG = 0, 1
REQUEST, ACK = 1, 4
CONFIG_COMMAND, COMMAND_BIND = 1, 1
PREFIX = 10


class NflogListener:
    """Bound to a group from its making on."""

    def __init__(self, namespace, group):
        with namespace.inside():
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                        NETLINK_NETFILTER)
        command = struct.pack("=HHB3x", 5, CONFIG_COMMAND, COMMAND_BIND)
        body = struct.pack("!BBH", 0, 0, group) + command
        self.socket.send(struct.pack(
            "=IHHII", 16 + len(body), SUBSYSTEM_ULOG << 8 | MESSAGE_CONFIG,
            REQUEST | ACK, 1, 0) + body)
        answer = self.socket.recv(4096)
        code, = struct.unpack_from("=i", answer, 16)
        if code:
            raise OSError(-code, "nflog: cannot bind")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def prefixes_until(self, last, patience=5.0):
        """The prefixes that were logged, up to the one that is known to end."""
        found, deadline = [], time.monotonic() + patience
        while time.monotonic() < deadline:
            if not select.select([self.socket], [], [], 0.1)[0]:
                continue
            found += prefixes(self.socket.recv(65535))
            if last in found:
                return found[:found.index(last)]
        raise TimeoutError(f"{last!r} was never logged")


def prefixes(datagram):
    """Of each message in it; several may come together."""
    found, at = [], 0
    while at < len(datagram):
        length, kind = struct.unpack_from("=IH", datagram, at)
        if kind == SUBSYSTEM_ULOG << 8 | MESSAGE_PACKET:
            found.append(_attribute(datagram[at + 20:at + length], PREFIX))
        at += (length + 3) & ~3
    return found


def _attribute(data, wanted):
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if kind == wanted:
            return data[at + 4:at + length].rstrip(b"\0").decode()
        at += (max(length, 4) + 3) & ~3
    return ""
