"""The tests' C helpers, built on first use into build/tests.

    flood    sends as fast as it can            Flood
    count    counts what arrived over a link    Counter
    churn    somebody else's transactions       Churn
    rival    changes of leakguard's own table   Rival
    killat   kill -9 at the K-th system call    kill_at
    killin   the same of one that runs already  KillIn
    failk    the K-th call of a function fails  Failing
    skew     clocks go ahead                    preloaded, see its head
"""

import os
import pathlib
import re
import socket
import struct
import subprocess
import uuid

import netns

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[2] / "build" / "tests"
CFLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra"]
FLAGS = {"failk": ["-shared", "-fPIC"], "skew": ["-shared", "-fPIC"],
         "churn": ["-lmnl"]}

# SOAK=1 (make soak): the whole length. LAB_SOAK is the lab's own word for it.
SOAK = "1" in (os.environ.get("SOAK"), os.environ.get("LAB_SOAK"))


def build(name):
    """The helper's path; compiled when missing or older than its source."""
    source, target = HERE / f"{name}.c", BUILD / name
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    if target.exists() and target.stat().st_mtime >= newest:
        return str(target)
    BUILD.mkdir(parents=True, exist_ok=True)
    # Renamed into place: another run of the lab may be using the old one.
    fresh = BUILD / f".{name}.{uuid.uuid4()}"
    compiler = os.environ.get("CC", "cc").split()
    done = subprocess.run(
        [*compiler, *CFLAGS, "-o", fresh, source, *FLAGS.get(name, [])],
        capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise netns.CommandError(f"{source}: {done.stderr}")
    os.replace(fresh, target)
    return str(target)


def run_inside(namespace, argv, timeout=30.0, **kwargs):
    """namespace.run() without ip(8) in between: thousands of runs add up."""
    with namespace.inside():
        done = subprocess.run(
            [str(word) for word in argv], capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=timeout, check=False,
            errors="replace", **kwargs)
    return netns.Result(argv, done.returncode, done.stdout, done.stderr)


class _Helper:
    """A C helper at work; it says "ready" and ends when its input does."""

    def __init__(self, namespace, program, *arguments):
        argv = [program, *map(str, arguments)]
        with namespace.inside():
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            netns.kill(self.process)
            raise netns.CommandError(f"{argv}: did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            netns.kill(self.process)

    def finish(self, timeout=30):
        """End its input, and return the rest of its output."""
        return self.process.communicate(timeout=timeout)[0]


class Flood(_Helper):
    """Packets from a namespace to addresses, until stop()."""

    def __init__(self, namespace, *addresses, fragments=False, batches=0):
        options = ["-f"] if fragments else []
        if batches:
            options += ["-n", batches]
        super().__init__(namespace, build("flood"), *options, *addresses)

    def stop(self):
        """{address: (sent, refused)}; any other outcome is a failure."""
        result = {}
        for line in self.finish(120).splitlines():
            found = re.match(
                r"(\S+) sent (\d+) refused (\d+) other (\d+) (.*)", line)
            address, sent, refused, other, why = found.groups()
            if int(other):
                raise netns.CommandError(f"flood: {line}: {why}")
            result[address] = int(sent), int(refused)
        return result


class Counter(_Helper):
    """Packets that arrive for each address, from now on."""

    def __init__(self, namespace, link, *addresses):
        self.addresses = addresses
        super().__init__(namespace, build("count"), link, *addresses)

    def read(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        numbers = self.process.stdout.readline().split()
        return dict(zip(self.addresses, map(int, numbers), strict=True))

    def total(self):
        return sum(self.read().values())


class Churn(_Helper):
    """Transactions in a table of its own, without a pause, until stop().

    Without a command the helper, which is as fast as the kernel.
    """

    def __init__(self, namespace, *command):
        super().__init__(namespace, *(command or [build("churn")]))

    def stop(self):
        return int(self.finish().split()[1])


class Rival(Churn):
    """Changes our table without a pause until stop(): how often it could."""

    def __init__(self, namespace, how):
        super().__init__(namespace, build("rival"), how)


def kill_at(namespace, number, argv):
    """The system call the program was killed at, or None: it ended before."""
    done = run_inside(namespace, [build("killat"), number, *argv])
    found = re.search(r"^(killed|ended) (\d+)", done.stdout, re.M)
    if not found:
        raise netns.CommandError(repr(done))
    return int(found.group(2)) if found.group(1) == "killed" else None


class KillIn(_Helper):
    """Kills a process at its K-th system call from now on, if it gets there."""

    def __init__(self, namespace, number, pid):
        super().__init__(namespace, build("killin"), number, pid)

    def stop(self):
        """The call it was killed at, or None: it goes on."""
        netns.stop(self.process)
        found = re.search(r"^killed (\d+)", self.process.stdout.read(), re.M)
        return int(found.group(1)) if found else None


class Failing:
    """Runs of a program in which some call of a function fails."""

    def __init__(self, lab, namespace):
        self.namespace = namespace
        self.report = f"{lab.dir}/failk-{namespace.name}"

    def run(self, argv, call, at, how, times=1, timeout=20):
        """The Result, with `calls` and `failed` counted."""
        with open(self.report, "w", encoding="ascii"):
            pass
        env = dict(os.environ, LD_PRELOAD=build("failk"), FAILK_CALL=call,
                   FAILK_AT=str(at), FAILK_HOW=str(how),
                   FAILK_TIMES=str(times), FAILK_REPORT=self.report)
        done = run_inside(self.namespace, argv, timeout=timeout, env=env)
        with open(self.report, encoding="ascii") as file:
            words = file.read().split()
        # Killed by a signal, it could not write its report.
        done.calls, done.failed = map(int, words or (0, 0))
        return done


NETLINK_NETFILTER, NFT_MSG_GETGEN, NFTA_GEN_ID = 12, 16, 1


def generation(namespace):
    """How many transactions the namespace's nf_tables has seen."""
    kind = 10 << 8 | NFT_MSG_GETGEN  # NFNL_SUBSYS_NFTABLES
    with namespace.inside():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                             NETLINK_NETFILTER)
    with sock:
        sock.send(struct.pack("=IHHIIBBH", 20, kind, 1, 1, 0, 0, 0, 0))
        answer = sock.recv(4096)
    length, attribute = struct.unpack_from("=HH", answer, 20)
    if attribute != NFTA_GEN_ID or length != 8:
        raise netns.CommandError(f"generation: {answer!r}")
    return struct.unpack_from("!I", answer, 24)[0]


def comparable(listing):
    """A table's listing without counts, and what it counts by, in one order.

    Sets and their elements are listed in the order they came; what a chain
    does depends on the order of its rules, which stays.
    """
    text = re.sub(r"\n\s*elements = \{[^}]* counter packets [^}]*\}", "",
                  listing)
    text = re.sub(r"packets \d+ bytes \d+", "packets N bytes N", text)
    text = re.sub(r"elements = \{([^}]*)\}", _sort_elements, text)
    head, _, body = text.partition("{\n")
    blocks = [block.strip() for block in body.rstrip("}\n").split("\n\n")]
    return "\n\n".join([head, *sorted(blocks)])


def _sort_elements(found):
    elements = sorted(one.strip() for one in found.group(1).split(","))
    return "elements = { " + ", ".join(elements) + " }"
