"""What a run of the program asks, sends and reads, as strace counts it."""

import collections
import re

from tools import run_inside


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


def cost(guard, *argv):
    """Of this verb, which has to succeed."""
    trace = f"{guard.run_dir}.trace"
    done = run_inside(
        guard.namespace, ["strace", "-f", "-qq", "-o", trace, "-e",
                          "trace=sendto,sendmsg,recvmsg,fsync,renameat",
                          *guard.command(*argv)], timeout=120)
    assert done.rc == 0, done
    return Cost(trace)
