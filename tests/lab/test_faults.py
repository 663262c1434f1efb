"""Commands that are killed or fail half way: the old rules or the new (S13).

Each command of CASES takes a host from one policy to another. Whatever happens
to it, the kernel has the rules of the one or of the other, whole and in all
three tables; nothing that both keep closed gets out, as a packet or as a
frame; and the command can be given again.
"""

import collections
import contextlib
import errno
import os
import pathlib
import re
import socket
import subprocess

import pytest

import labnet
import netns
from frame_senders import packet_socket, push
from frames import Wire
from guard import Guard
from tools import (SOAK, Failing, comparable, generation, kill_at,
                   run_inside)

# A table of ours, as nft lists it among others.
TABLE = re.compile(r"^table \w+ leakguard\w* \{.*?^\}$", re.M | re.S)
HANG_S = 8  # the program waits 5 s for an answer that was lost
MOST_CALLS = 3000  # ten times what a command makes

# Closed in every policy below; the gateway answers, so a leak would show.
CLOSED = labnet.RESOLVERS["gateway"]
OLD = ["enable", "--no-watch", "--tunnel", "tun0", "--resolver",
       "203.0.113.53", "--resolver", "2001:db8:113::53 via tunnel"]
UP = ["up", "--tunnel", "wg0", "--resolver", "10.64.0.1"]
NEW = ["enable", "--no-watch", "--tunnel", "wg*", "--action", "reject",
       "--fragments", "drop", "--resolver", "203.0.113.8@53", "--endpoint",
       "100.64.0.2:51820/udp"]
FILE = "log-group = 5\nendpoint = 100.64.0.2:53/udp\n"

# name -> (what makes the host as it is before, the configuration file then,
# the command). None before: the guard is off.
CASES = {
    "enable": ([OLD, UP], "", NEW),
    "enable at first": (None, "", NEW),
    "up": ([OLD], "", UP),
    "down": ([OLD, UP], "", ["down", "--tunnel", "wg0"]),
    "reload": ([OLD, UP], FILE, ["reload"]),
    "disable": ([OLD, UP], "", ["disable"]),
}


class Case:
    """A command, the host before it and after it, and the way back."""

    def __init__(self, lab, guard, name, leak):
        self.before, text, command = CASES[name]
        self.lab, self.guard, self.name = lab, guard, name
        self.host, self.leak = lab.host, leak
        self.argv = guard.command(*command)
        self.state = f"{guard.run_dir}/state"
        self._prepare()
        self.old = self.rules()
        self.record = self.read_record()
        guard.configure(text)
        self.seen = generation(self.host)
        self.done(self.argv)
        self.new = self.rules()
        self.new_record = self.read_record()
        assert self.old != self.new
        for rules in filter(None, (self.old, self.new)):
            assert rules.count("table ") == 3
        self.restore()

    def _prepare(self):
        self.guard.disable()
        self.guard.configure("")
        for command in self.before or []:
            self.done(self.guard.command(*command))

    def done(self, argv):
        result = run_inside(self.host, argv)
        assert result.rc == 0, result
        return result

    def rules(self):
        """What the kernel has, in all tables; empty where there is none."""
        found = run_inside(self.host, ["nft", "list", "ruleset"])
        assert found.rc == 0, found
        return "\n".join(map(comparable, TABLE.findall(found.stdout)))

    def read_record(self):
        try:
            with open(self.state, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def restore(self):
        """Back to the host before. The file that reload reads stays."""
        if self.before is None:
            self.done(self.guard.command("disable"))
        else:
            with open(self.state, "w", encoding="ascii") as file:
                file.write(self.record)
            # What a killed command left would be taken up where it is true.
            pathlib.Path(f"{self.state}.new").unlink(missing_ok=True)
            with self._first_configuration():
                self.done(self.guard.command(*self.before[0]))
        assert self.rules() == self.old and self.read_record() == self.record
        self.seen = generation(self.host)

    @contextlib.contextmanager
    def _first_configuration(self):
        with open(self.guard.config, encoding="ascii") as file:
            text = file.read()
        self.guard.configure("")
        yield
        self.guard.configure(text)

    def look(self):
        """"old", "new" or, which must not be, something else."""
        now = generation(self.host)
        if now == self.seen:  # no transaction since: nothing to compare
            return "old"
        rules = self.rules()
        return ("old" if rules == self.old else "new" if rules == self.new
                else rules or "none")

    def probe(self, rules):
        """Try to leak, where the rules that are in force have it closed."""
        if (self.old if rules == "old" else self.new):
            self.leak()

    def situation(self, rules):
        """All that a later command can find: rules, record, other files."""
        return (rules, self.read_record(),
                frozenset(os.listdir(self.guard.run_dir)))

    def is_back(self, rules):
        """Is the host as it was before, but for files of no consequence?"""
        return rules == "old" and self.read_record() == self.record


class Leak:
    """To each address that is closed a packet, which may be refused, and a
    frame, by a socket that stays open: the kernel takes its time to close."""

    def __init__(self, lab):
        self.host, wire = lab.host, Wire(lab)
        self.frames = [wire.frame(family=family, target="gateway")
                       for family in (4, 6)]
        self.sock = packet_socket(lab.host, socket.SOCK_RAW)

    def __call__(self):
        for address in CLOSED:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.host.inside(), \
                 socket.socket(family, socket.SOCK_DGRAM) as sock, \
                 contextlib.suppress(PermissionError):
                sock.sendto(b"leak", (address, 53))
        for frame in self.frames:
            push(self.sock.sendto, frame.data, ("wan0", frame.protocol))


@pytest.fixture
def prepare(lab, guard):
    """prepare(name): the host before that command, which can leak: seen."""
    leak = Leak(lab)
    with leak.sock:
        with lab.watch(lab.host) as seen:
            leak()
        assert len(seen.name_traffic()) == 2 * len(CLOSED)
        yield lambda name: Case(lab, guard, name, leak)


@pytest.fixture(params=CASES)
def case(request, prepare):
    return prepare(request.param)


def follow_up(case):
    """Lock free, record readable: the same command does its work now."""
    status = run_inside(case.host, case.guard.command("status", "--json"))
    assert status.rc in (0, 3), status
    case.done(case.argv)
    assert case.rules() == case.new
    assert case.read_record() == case.new_record
    case.restore()


def test_killed_at_each_system_call(case, record_property):
    """kill -9, at one call later in each run."""
    tally, known = collections.Counter(), set()
    with case.lab.watch(case.host) as seen:
        for number in range(1, MOST_CALLS):
            call = kill_at(case.host, number, case.argv)
            rules = case.look()
            assert rules in ("old", "new"), f"call {number} ({call}): {rules}"
            if call is None:
                break
            tally[rules] += 1
            case.probe(rules)
            situation = case.situation(rules)
            if SOAK or situation not in known:
                known.add(situation)
                follow_up(case)
            elif not case.is_back(rules):
                case.restore()
    assert call is None and rules == "new"
    assert not seen.name_traffic()
    assert tally["old"] > 100 and tally["new"] > 1
    record_property("killed", f"{dict(tally)}, situations {len(known)}")
    print(case.name, dict(tally), "situations", len(known))


def test_a_killed_change_is_finished(prepare):
    """Between commit and record; else reload would undo what the kernel has."""
    case = prepare("down")
    for number in range(1, MOST_CALLS):
        kill_at(case.host, number, case.argv)
        if case.look() == "new":
            break
    assert pathlib.Path(f"{case.state}.new").exists()
    assert case.read_record() == case.record
    case.done(case.guard.command("reload"))
    assert case.rules() == case.new
    assert not pathlib.Path(f"{case.state}.new").exists()
    case.restore()


# call -> (what it fails with, failures tried in a short run; None: all)
FAULTS = {
    "sendmsg": (errno.ENOBUFS, None),
    "recv": (errno.ENOBUFS, None),
    "recvmsg": (errno.ENOBUFS, 60),
    "sendto": (errno.ENOBUFS, 12),
    "socket": (errno.EMFILE, None),
    "open": (errno.EMFILE, None),
    "write": (errno.ENOSPC, None),
    "fsync": (errno.EIO, None),
    "rename": (errno.EIO, None),
    "calloc": (errno.ENOMEM, 20),
    "malloc": (errno.ENOMEM, 20),
    "realloc": (errno.ENOMEM, 10),
}


def chosen(calls, most):
    """Which of that many calls to fail: all, or as many, evenly spread."""
    if SOAK or most is None or calls <= most:
        return range(1, calls + 1)
    return sorted({1 + number * (calls - 1) // (most - 1)
                   for number in range(most)})


# What no run may end as.
BAD = ("half", "not done", "not said", "signal", "hang", "status", "too late")
found = []  # (kind, what happened), of all cases
swept = set()  # names of the cases that were tried


def complaints(case, done, rules):
    """Exit status, message and rules of one run have to agree."""
    if rules not in ("old", "new"):
        yield "half"  # or none, or both
    if done is None:
        yield "hang"
        return
    lines = done.stderr.splitlines()
    if done.rc < 0:
        yield "signal"
    elif done.rc > 1:
        yield "status"
    elif done.rc == 0 and (rules != "new"
                           or case.read_record() != case.new_record):
        yield "not done"
    elif done.rc == 1 and rules == "new":
        yield "too late"  # it says that what was in force before still is
    if done.rc > 0 and (len(lines) != 1 or len(lines[0]) < 20
                    or not lines[0].startswith("leakguard: ")):
        yield "not said"


def try_fault(case, failing, call, at, how, **options):
    """One run with one fault; its outcome, and the host as it was."""
    try:
        done = failing.run(case.argv, call, at, how, timeout=HANG_S, **options)
    except subprocess.TimeoutExpired:
        done = None
    rules = case.look()
    for kind in complaints(case, done, rules):
        how_it_ended = done and (done.rc, done.stderr)
        found.append((kind, f"{case.name}: {call} {at}: {rules[:500]}, "
                            f"{how_it_ended}"))
    case.probe(rules)
    if not case.is_back(rules):
        case.restore()
    return (done.rc if done else "hang"), rules


def sweep(case, call, how, most):
    """Fail one call later in each run; what the runs ended as."""
    failing = Failing(case.lab, case.host)
    calls = failing.run(case.argv, call, at=0, how=how).calls
    case.restore()
    return collections.Counter(try_fault(case, failing, call, at, how)
                               for at in chosen(calls, most))


def test_each_call_fails_once(case, record_property):
    """Judged by kind below; here, that anything happened and none got out."""
    total = collections.Counter()
    with case.lab.watch(case.host) as seen:
        for call, (how, most) in FAULTS.items():
            total += sweep(case, call, how, most)
    assert not seen.name_traffic()
    swept.add(case.name)
    record_property("failed", str(dict(total)))
    print(case.name, dict(total))
    # Least of all disable: 7 calls that cannot do without.
    assert total[1, "old"] > 5 and total[0, "new"] > 1


# (call, what it does instead, how often in a row; 0: for ever)
ODD = [("recv", errno.EINTR, 1), ("recvmsg", errno.EINTR, 1),
       ("sendmsg", errno.EINTR, 1), ("sendto", errno.EINTR, 1),
       ("recv", "short", 1), ("recvmsg", "short", 1),
       ("recv", errno.ENOBUFS, 0), ("recvmsg", errno.ENOBUFS, 0),
       ("recvmsg", errno.EAGAIN, 1), ("sendmsg", errno.EPERM, 1),
       ("sendmsg", errno.EMSGSIZE, 1), ("write", errno.EINTR, 1)]


@pytest.mark.parametrize("call, how, times", ODD)
def test_odd_answers(lab, prepare, record_property, call, how, times):
    """What a busy kernel, a signal or a lost packet can make of a call."""
    case, tally = prepare("enable"), collections.Counter()
    failing = Failing(lab, lab.host)
    calls = failing.run(case.argv, call, at=0, how=0).calls
    case.restore()
    with lab.watch(lab.host) as seen:
        for at in chosen(calls, 12):
            tally[try_fault(case, failing, call, at, how, times=times)] += 1
    assert not seen.name_traffic()
    record_property("ended", str(dict(tally)))
    print(call, how, times, dict(tally))
    if call.startswith("recv") and how == errno.EINTR:
        assert set(tally) == {(0, "new")}  # a signal is no reason to give up


@pytest.mark.parametrize("kind", BAD)
def test_no_fault_ends_badly(kind):
    """Of all the runs above."""
    if swept != set(CASES):
        pytest.skip("not all cases were tried")
    bad = [what for one, what in found if one == kind]
    assert not bad, "\n".join(bad)


def test_without_the_capability(lab, guard, prepare):
    """Root without CAP_NET_ADMIN: refused by name, nothing changed."""
    case = prepare("enable")
    powerless = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps",
                 "-net_admin"]
    for command in (NEW, UP, ["down", "--tunnel", "wg0"], ["reload"],
                    ["disable"], OLD):
        done = run_inside(lab.host, [*powerless, *guard.command(*command)])
        assert done.rc == 1 and "CAP_NET_ADMIN" in done.stderr, done
        assert len(done.stderr.splitlines()) == 1 and not done.stdout, done
        assert case.rules() == case.old and case.is_back("old")


@pytest.fixture
def user_namespace(lab):
    """A command prefix: root of a user namespace, and no more than that."""
    with lab.host.inside():
        holder = subprocess.Popen(
            ["unshare", "-Urn", "sh", "-c", "echo ready; read line"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        yield ["nsenter", "-t", holder.pid, "-U", "-n",
               "--preserve-credentials"]
    finally:
        netns.kill(holder)


def test_transaction_larger_than_the_socket(lab, user_namespace):
    """131,072 resolvers, and nobody may raise the socket's buffer for them.

    Tied to a link each is an element of 48 bytes a port: more than twice what
    the machine allows sockets anyway, which is what SO_SNDBUF can give.
    """
    with open("/proc/sys/net/core/wmem_max", encoding="ascii") as file:
        ports = max(2, 1 + 2 * int(file.read()) // (131072 * 48))
    if ports > 16:
        pytest.skip("net.core.wmem_max has room for any policy")
    guard = Guard(lab)
    guard.run_dir += "-user"

    def run(*argv):
        return run_inside(lab.host, [*user_namespace, *argv])

    def rules():
        return run("nft", "list", "table", "inet", "leakguard").stdout

    assert run(*guard.command(*OLD)).rc == 0
    old = rules()
    assert "203.0.113.53" in old
    guard.configure(
        f"ports = {','.join(map(str, range(53, 53 + ports)))}\n"
        + "".join(f"resolver = fd00::{n >> 12:x}:{n & 4095:x} via eth9\n"
                  for n in range(131072)))
    done = run(*guard.command("enable", "--no-watch"))
    assert done.rc == 1 and "wmem_max" in done.stderr, done
    assert len(done.stderr.splitlines()) == 1 and not done.stdout, done
    assert rules() == old
    assert run(*guard.command("status")).rc == 0
