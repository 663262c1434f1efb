"""A Debian machine: a tree to chroot into, in a network namespace with a wire.

   host                     isp
  +---------------+        +---------------------+
  | wan0 192.0.2.2|--------| cust0 192.0.2.1     |
  | 2001:db8:2::2 |        |       2001:db8:2::1 |
  +---------------+        +---------------------+

The tree is a copy in memory; /proc is that of the lab's process namespace, so
that programs in it see each other and nothing else.
"""

import contextlib
import errno
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import netns
import packets
from capture import Capture
from labnet import add_addresses, can_reach

ISP = ("192.0.2.1", "2001:db8:2::1")
HOST = ("192.0.2.2", "2001:db8:2::2")
ISP_MAC = "02:00:00:00:00:01"
PROGRAM = "/usr/sbin/leakguard"
BEAT_PORT = 7  # no name traffic
ETH_P_IP = 0x0800
PERIOD_S = 0.002
# What a sender is told of a packet that is dropped here (ENOBUFS: a frame).
REFUSED = (errno.EPERM, errno.ECONNREFUSED, errno.ENOBUFS)
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
         "DEBIAN_FRONTEND": "noninteractive"}


class Namespace(netns.Namespace):
    """All of one mount namespace, as on a machine: /proc shows paths by it."""

    def command(self, args):
        return ["nsenter", f"--net={netns.RUN_DIR}/{self.name}", *map(str, args)]


class Machine:
    """A context manager. renew() before each use."""

    def __init__(self, pristine):
        self.pristine = pristine
        self.home = pathlib.Path(tempfile.mkdtemp(dir="/run/lab"))
        self.tree = self.home / "tree"
        self.host, self.isp = Namespace("host"), Namespace("isp")
        for namespace in (self.host, self.isp):
            namespace.sysctl(net__ipv6__conf__default__accept_dad=0,
                             net__ipv6__conf__all__accept_dad=0)
        netns.ip(f"link add wan0 netns host type veth peer name cust0 netns isp"
                 f" address {ISP_MAC}")
        add_addresses(self.host, "wan0", f"{HOST[0]}/24", f"{HOST[1]}/64")
        add_addresses(self.isp, "cust0", f"{ISP[0]}/24", f"{ISP[1]}/64")
        for address in ISP:
            netns.wait_until(lambda a=address: can_reach(self.host, a),
                             f"host reaches {address}")
        self.sender = Sender(self.host)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._remove_tree()
        self.host.delete()
        self.isp.delete()

    def renew(self):
        self._remove_tree()
        subprocess.run(["cp", "-a", self.pristine, self.tree], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", self.tree / "proc"],
                       check=True)
        subprocess.run(["mount", "--bind", "/dev", self.tree / "dev"],
                       check=True)

    def _remove_tree(self):
        if self.tree.exists():
            for name in ("proc", "dev"):
                subprocess.run(["umount", "--lazy", self.tree / name], check=True)
            shutil.rmtree(self.tree)

    # --- what is done in it ---

    def command(self, *args):
        return ["chroot", self.tree, *args]

    def run(self, *args, check=True):
        """Its output has both streams, as a terminal would."""
        return self.host.run(
            ["sh", "-c", 'exec "$@" 2>&1', "-", *self.command(*args)],
            check=check, env=CLEAN, timeout=60)

    def shell(self, text, check=True):
        return self.run("sh", "-c", text, check=check)

    def popen(self, *args):
        return self.host.popen(self.command(*args), env=CLEAN,
                               stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)

    def dpkg(self, option, target, check=True):
        """dpkg -i FILE, or dpkg -r, -P and a name. What it said."""
        if pathlib.Path(target).exists():
            shutil.copy(target, self.tree / "tmp/package.deb")
            target = "/tmp/package.deb"
        return self.run("dpkg", option, target, check=check)

    def leakguard(self, *args, check=True):
        return self.run(PROGRAM, *args, check=check)

    def path(self, name):
        return self.tree / name.lstrip("/")

    def open(self):
        """Whatever was in force: nothing is. What a watcher that was killed owned
        can be deleted once the kernel has closed its socket."""
        def is_open():
            self.host.run(["nft", "flush", "ruleset"])
            return not self.host.run(["nft", "list", "ruleset"]).stdout

        netns.wait_until(is_open, "the rules are gone")

    # --- watchers ---

    def watchers(self):
        """{process: its program's file, as /proc shows it} of leakguards."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (
                        entry / "comm").read_text() == "leakguard\n":
                    found[int(entry.name)] = os.readlink(entry / "exe")
        return found

    def keeper(self):
        """The process that the run directory names."""
        return int(self.path("run/leakguard/watch.pid").read_text())

    @staticmethod
    def arguments(pid):
        data = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return data.decode().rstrip("\0").split("\0")

    def end_watchers(self):
        for pid in self.watchers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        netns.wait_until(lambda: not self.watchers(), "watchers have ended")

    # --- what gets out ---

    @contextlib.contextmanager
    def watched(self):
        """Queries all the time of the block; what of them the provider got.

            with machine.watched() as seen:
                machine.dpkg("-i", deb)
            assert not seen.queries
        """
        seen = Seen()
        with Capture(self.isp, "cust0", ports=(53, 853, BEAT_PORT)) as capture:
            with self.sender.sending():
                seen.await_beats(capture, self.sender)
                yield seen
                seen.await_beats(capture, self.sender)
        seen.count()

    def is_closed(self):
        """By what gets out; all of it does, or nothing."""
        with self.watched() as seen:
            pass
        assert not seen.queries or seen.kinds() == set(Sender.KINDS), seen.kinds()
        return not seen.queries


class Sender:
    """Queries of several kinds, one after another, each round with a beat
    behind it that is no name traffic: what shows that the rest would have
    been seen, too. On one CPU, where a veth keeps the order."""

    KINDS = ("ipv4", "ipv6", "tls", "frame")

    def __init__(self, namespace):
        with namespace.inside():
            self.ipv4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            self.packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.mac = bytes.fromhex(ISP_MAC.replace(":", ""))
        self.rounds = itertools.count()
        self.last = -1

    def _send_round(self):
        number = next(self.rounds)
        self._send("ipv4", number, lambda data: self.ipv4.sendto(
            data, (ISP[0], 53)))
        self._send("ipv6", number, lambda data: self.ipv6.sendto(
            data, (ISP[1], 53)))
        self._send("tls", number, lambda data: self.ipv4.sendto(
            data, (ISP[0], 853)))
        self._send("frame", number, lambda data: self.packet.sendto(
            packets.ipv4(HOST[0], ISP[0], packets.UDP, packets.udp(
                HOST[0], ISP[0], 4000, 53, data)),
            ("wan0", ETH_P_IP, 0, 0, self.mac)))
        self._send("beat", number, lambda data: self.ipv4.sendto(
            data, (ISP[0], BEAT_PORT)))
        self.last = number

    @staticmethod
    def _send(kind, number, send):
        try:
            send(f"{kind} {number}".encode())
        except OSError as error:
            if error.errno not in REFUSED:
                raise

    @contextlib.contextmanager
    def sending(self):
        over = threading.Event()

        def send():
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            while not over.is_set():
                self._send_round()
                time.sleep(PERIOD_S)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)


class Seen:
    """What arrived: `queries`, as (kind, round), and `beats`, as rounds."""

    def __init__(self):
        self.queries, self.beats, self.capture = [], [], None

    def await_beats(self, capture, sender):
        """Until one that is sent from now on has arrived."""
        self.capture, last = capture, sender.last
        netns.wait_until(lambda: any(
            kind == "beat" and number > last + 1
            for kind, number in map(parse, capture.collect()[-20:])),
            f"a beat behind {last}")

    def count(self):
        for kind, number in map(parse, self.capture.packets):
            if kind == "beat":
                self.beats.append(number)
            elif kind in Sender.KINDS:
                self.queries.append((kind, number))
        # None lost in between: the capture saw the whole time.
        assert self.beats == list(range(self.beats[0], self.beats[-1] + 1))

    def kinds(self):
        return {kind for kind, _ in self.queries}


def parse(packet):
    """(kind, round) of what a Sender sent; nothing of anything else."""
    kind, _, number = packet.payload.decode(errors="replace").partition(" ")
    return (kind, int(number)) if number.isdigit() else (None, -1)
