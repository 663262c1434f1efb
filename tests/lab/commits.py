"""Who commits what to nf_tables, as the kernel tells it."""

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time

SOL_NETLINK, NETLINK_NETFILTER = 270, 12
NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP = 1, 2
NFNLGRP_NFTABLES = 7
NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE = 10 << 8 | 0, 10 << 8 | 2
NFT_MSG_NEWGEN, NFTA_GEN_PROC_NAME = 10 << 8 | 15, 3
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS = 1, 2
OWNER_PERSIST = 6
BATCH_BEGIN, BATCH_END = 16, 17
NLM_F_REQUEST, NLM_F_CREATE = 1, 0x400
TABLES = {NFT_MSG_NEWTABLE: "add", NFT_MSG_DELTABLE: "delete"}
SO_RCVBUFFORCE, RCVBUF_BYTES = 33, 64 << 20
NETLINK_LIST_MEMBERSHIPS = 9
SYS_PIDFD_GETFD = 438
OURS = "leakguard"  # the tables' name, and the program's
# NFPROTO_*
FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}

_libc = ctypes.CDLL(None, use_errno=True)


class Commits:
    """Whose transactions touch our tables, as the kernel tells them."""

    def __init__(self, namespace):
        self.seen = []  # (seconds, program)
        self.tables = []  # ("add" or "delete", family and name)
        self.failed = None
        self._news, self._ending = threading.Condition(), False
        with namespace.inside():
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                       NETLINK_NETFILTER)
        with contextlib.suppress(PermissionError):  # a user namespace
            self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE,
                                  RCVBUF_BYTES)
        self._sock.bind((0, 0))  # resets groups; without a port none is heard
        self._sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
                              NFNLGRP_NFTABLES)
        self._sock.settimeout(0.2)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ending = True
        self._thread.join()
        self._sock.close()
        assert not self.failed, self.failed

    def _listen(self):
        # At once, however busy the machine is: this thread alone.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        touched = False
        while not self._ending:
            try:
                datagram = self._sock.recv(65536)
            except TimeoutError:
                continue
            except OSError as error:
                self.failed = error
                return
            now = time.monotonic()
            for kind, body in _messages(datagram):
                if kind == NFT_MSG_NEWGEN and touched:
                    self._note(now, _text(body, NFTA_GEN_PROC_NAME))
                if kind in TABLES:
                    family = FAMILIES.get(body[0], body[0])
                    name = _text(body, NFTA_TABLE_NAME)
                    self.tables.append((TABLES[kind], f"{family} {name}"))
                touched = (kind != NFT_MSG_NEWGEN
                           and (touched or OURS.encode() + b"\0" in body))

    def _note(self, now, program):
        with self._news:
            self.seen.append((now, program))
            self._news.notify_all()

    def by(self, program, since=0):
        return [when for when, who in self.seen[since:] if who == program]

    def wait_repair(self, since, timeout=30):
        """Seconds from the first change by another, of those after the first
        `since`, to the first by leakguard after it."""
        def repair():
            if self.failed:
                raise self.failed
            theirs = [when for when, who in self.seen[since:] if who != OURS]
            ours = [when for when, who in self.seen[since:]
                    if who == OURS and theirs and when >= theirs[0]]
            return (ours[0] - theirs[0],) if ours else None

        with self._news:
            found = self._news.wait_for(repair, timeout)
        if not found:
            raise TimeoutError(f"not repaired within {timeout} s: "
                               f"{self.seen[since:]}")
        return found[0]


def _messages(datagram):
    while len(datagram) >= 20:
        length, kind = struct.unpack_from("=IH", datagram)
        yield kind, datagram[16:length]
        datagram = datagram[(length + 3) & ~3:]


def _text(body, attribute):
    at = 4  # struct nfgenmsg
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == attribute:
            return body[at + 4:at + length].rstrip(b"\0").decode()
        at += max((length + 3) & ~3, 4)
    return ""


def _message(kind, flags, family, resource, payload=b""):
    """struct nlmsghdr, struct nfgenmsg, attributes."""
    return (struct.pack("=IHHIIBB", 20 + len(payload), kind,
                        NLM_F_REQUEST | flags, 1, 0, family, 0)
            + struct.pack(">H", resource) + payload)


def _attribute(kind, value):
    text = struct.pack("=HH", 4 + len(value), kind) + value
    return text + bytes(-len(text) % 4)


@contextlib.contextmanager
def stranger(namespace, table):
    """Owns this one ("inet leakguard") as long as the block runs; then it is
    an orphan."""
    family, name = table.split()
    number, = (key for key, value in FAMILIES.items() if value == family)
    with namespace.inside():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                             NETLINK_NETFILTER)
    with sock:
        sock.send(_message(BATCH_BEGIN, 0, 0, 10)
                  + _message(NFT_MSG_NEWTABLE, NLM_F_CREATE, number, 0,
                             _attribute(NFTA_TABLE_NAME, name.encode() + b"\0")
                             + _attribute(NFTA_TABLE_FLAGS,
                                          struct.pack(">I", OWNER_PERSIST)))
                  + _message(BATCH_END, 0, 0, 10))
        yield


def deafen(pid):
    """Take the nf_tables group from every netlink socket of a process, as if
    the kernel sent it nothing; how many had it."""
    deaf = 0
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            with _copy_of(pidfd, int(name)) as sock:
                if sock.family == socket.AF_NETLINK and _has_group(sock):
                    sock.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP,
                                    NFNLGRP_NFTABLES)
                    deaf += 1
    finally:
        os.close(pidfd)
    return deaf


def _copy_of(pidfd, number):
    copy = _libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    if copy < 0:
        raise OSError(f"pidfd_getfd: {number}")
    return socket.socket(fileno=copy)


def _has_group(sock):
    if sock.proto != NETLINK_NETFILTER:
        return False
    groups = sock.getsockopt(SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, 16)
    return (len(groups) >= 4  # empty where none was ever joined
            and bool(struct.unpack_from("=I", groups)[0]
                     >> (NFNLGRP_NFTABLES - 1) & 1))
