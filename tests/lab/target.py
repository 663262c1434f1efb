"""A flood of queries to nobody, through the IP stack and round it, and how much
of it arrived at the provider's end of the link."""

import contextlib

import labnet
import packets
from tools import Churn, Flood

TARGET = labnet.NOBODY

FRAMES = """
import select, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
tried, over = 0, False
while not over:
    for packet in map(bytes.fromhex, sys.argv[1:]):
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86dd
        try:
            sock.sendto(packet, ("wan0", kind, 0, 0, b"\\xff" * 6))
        except OSError:
            pass  # dropped
        tried += 1
    if tried == len(sys.argv) - 1:
        print("ready", flush=True)
    over = select.select([sys.stdin], [], [], 0.001)[0]
print("frames", tried)
"""


class Frames(Churn):
    """Queries in frames of a packet socket, until stop(): how many."""

    def __init__(self, host):
        super().__init__(host, "/usr/bin/python3", "-c", FRAMES, *(
            build_packet(source, target, packets.UDP, packets.udp(
                source, target, 40000, 53, b"query")).hex()
            for build_packet, source, target in zip(
                (packets.ipv4, packets.ipv6), labnet.HOST_WAN, TARGET,
                strict=True)))


class Target:
    """What nobody may reach, and how much of what was sent there did."""

    def __init__(self, lab, counter):
        self.lab, self.counter = lab, counter

    def _settle(self):
        """What is under way over the link has arrived. (No port is 1.)"""
        with self.lab.watch(self.lab.host, ports=(1,)):
            pass

    def is_open(self):
        """Whether all that is sent there arrives."""
        before = self.counter.total()
        with Flood(self.lab.host, *TARGET, batches=50) as flood, \
                Frames(self.lab.host) as frames:
            flood.stop()
            framed = frames.stop()
        self._settle()
        return (self.counter.total() - before
                == 50 * 16 * len(TARGET) + framed)

    @contextlib.contextmanager
    def flooded(self, frames=True):
        """Nothing gets there while the block runs, however much is tried, be
        it through the IP stack or round it."""
        before, framed = self.counter.total(), 1
        with contextlib.ExitStack() as stack:
            flood = stack.enter_context(Flood(self.lab.host, *TARGET))
            if frames:
                frames = stack.enter_context(Frames(self.lab.host))
            yield
            tried = flood.stop()
            if frames:
                framed = frames.stop()
        self._settle()
        assert all(sum(one) > 1000 for one in tried.values()), tried
        assert self.counter.total() == before, f"of {tried}, {framed} frames"
