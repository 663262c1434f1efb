"""What a command costs, in what can be counted: no time is measured here.

Times are tests/bench's. What is asked and sent depends on what changes, never on
how much is there; what is read back is all there is, once.
"""

import collections
import re

import pytest

from guard import TABLES
from tools import run_inside

FEW, MANY = 1, 10000
# 33 were counted here; other kernels may be asked more.
MOST_SENT = 60
# An element of a set of IPv4 addresses, as netlink has it: three headers of
# attributes and the address; and what there is besides, a head a message.
ELEMENT_BYTES, HEADS = 16, 1.1


def address(number):
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


class Cost:
    """Of one run of a command."""

    def __init__(self, trace):
        self.calls = collections.Counter()
        self.transactions = []  # bytes of each that is committed
        self.received = 0  # bytes from the kernel
        with open(trace, encoding="ascii", errors="replace") as file:
            for line in file:
                found = re.match(r"\d+ +(\w+)\(", line)
                if found:
                    self._add(found[1], line)

    def _add(self, call, line):
        self.calls[call] += 1
        result = line.rpartition("= ")[2].split()[0]
        # Without an end, in the third part, one is validated only.
        if (call == "sendmsg" and "NFNL_MSG_BATCH_BEGIN" in line
                and "msg_iovlen=3" in line):
            self.transactions.append(int(result))
        if call == "recvmsg" and result.isdigit():
            self.received += int(result)

    @property
    def sent(self):
        """Messages, or batches of them, to the kernel."""
        return {call: self.calls[call] for call in ("sendto", "sendmsg")}


@pytest.fixture
def cost_of(lab, guard):
    """cost_of(count, verb): with so many resolvers in the file."""
    def measure(count, *argv):
        trace = f"{lab.dir}/cost"
        guard.configure("fragments = drop\n" + "".join(
            f"resolver = {address(n)}\n" for n in range(count)))
        done = run_inside(
            guard.namespace, ["strace", "-f", "-qq", "-o", trace, "-e",
                              "trace=sendto,sendmsg,recvmsg,fsync,renameat",
                              *guard.command(*argv)], timeout=120)
        assert done.rc == 0, done
        return Cost(trace)

    return measure


def test_raising_it(guard, cost_of, record_property):
    """One transaction by one call, however large; its bytes are the elements'."""
    found = {}
    for count in FEW, MANY:
        found[count] = cost_of(count, "enable", "--no-watch")
        guard.disable()
    few, many = found[FEW], found[MANY]
    record_property("sent", few.sent)
    record_property("bytes", few.transactions + many.transactions)
    assert len(few.transactions) == len(many.transactions) == 1
    assert few.sent == many.sent
    assert few.calls["fsync"] == many.calls["fsync"]
    assert sum(few.sent.values()) < MOST_SENT, few.sent
    more = many.transactions[0] - few.transactions[0]
    elements = len(TABLES) * (MANY - FEW)
    assert elements < more / ELEMENT_BYTES < elements * HEADS


def test_changing_one(guard, cost_of, record_property):
    """The same is sent in a list of 10,000 as in a list of one; what is read is
    the tables as they were and as they are, not more often."""
    found = {}
    for count in FEW, MANY:
        cost_of(count, "enable", "--no-watch")
        found[count] = cost_of(count + 1, "reload")
        record_property(f"received with {count}", found[count].received)
        guard.disable()
    few, many = found[FEW], found[MANY]
    assert few.sent == many.sent, "asked the same number of times"
    assert few.transactions == many.transactions
    assert len(few.transactions) == 1
    more = (many.received - few.received) / ELEMENT_BYTES
    dumps = more / (len(TABLES) * (MANY - FEW))
    assert 1 < dumps < 2 * HEADS, "as it was, and as it is"
