"""A large policy: what its sets hold is read only where it is not known.

Known is what a command has read back, as long as nobody has committed anything
since: it notes the kernel's generation beside its record. Each way in which the
note could be wrong has to end in a full reading, and in the right rules.
"""

import os
import pathlib
import re
import shutil
import signal
import struct

import pytest

import netns
from cost import Cost, address, cost
from guard import FAMILIES
from procfs import family
from tools import build, generation, run_inside

MANY = 20000  # of RULESET_LARGE = 1024; reading them is more than all else together
ROGUE = "203.0.113.66"
# Bytes: to read an element takes 16 or more, and in all what is there besides.
READ = 16 * MANY * len(FAMILIES)


class Large:
    ownership = "auto"

    def __init__(self, guard):
        self.guard, self.host = guard, guard.namespace
        self.record = pathlib.Path(guard.run_dir, "state")
        self.note = pathlib.Path(guard.run_dir, "generation")

    def want(self, *numbers):
        self.wanted = {address(n) for n in numbers}
        self.guard.configure(
            f"tunnel = tun0\nownership = {self.ownership}\n" + "".join(
                f"resolver = {one} via any\n" for one in self.wanted))

    def run(self, *argv):
        """The verb's cost; in the end there is what is wanted."""
        found = cost(self.guard, *argv)
        for of in FAMILIES:
            assert self.elements(of) == self.wanted
        return found

    def elements(self, of, name="resolver4"):
        listing = run_inside(self.host, ["nft", "list", "set", of,
                                         "leakguard", name]).stdout
        found = re.search(r"elements = \{(.*?)\}", listing, re.S)
        return {one.split()[0] for one in found[1].split(",")} if found else set()

    def rogue(self):
        """Somebody approves a resolver of theirs, in all tables; one commit."""
        self.host.nft("".join(
            f"add element {of} leakguard resolver4 {{ {ROGUE} }}\n"
            for of in FAMILIES))

    def forge(self, change=lambda words: words):
        """The rogue, and a note that knows nothing of it, changed as told."""
        before = generation(self.host)
        self.rogue()
        words = self.note.read_text(encoding="ascii").split()
        assert int(words[3]) == before
        words[3] = str(before + 1)
        self.note.write_text(" ".join(change(words)) + "\n", encoding="ascii")


@pytest.fixture
def large(guard):
    made = Large(guard)
    made.want(*range(MANY))
    made.run("enable", "--no-watch")
    return made


def is_read(found):
    return found.received > READ


def test_one_more_and_one_less(large):
    """Nothing is read; by up, down, pause and resume neither."""
    large.want(*range(MANY + 1))
    assert not is_read(large.run("reload"))
    large.want(*range(1, MANY + 1))
    assert not is_read(large.run("reload"))
    for argv in (["up", "--no-watch", "--tunnel", "wg0"], ["pause", "10m"],
                 ["resume"], ["down", "--tunnel", "wg0"]):
        assert not is_read(large.run(*argv)), argv
    assert is_read(large.run("status")), "which always reads everything"


def test_grows_and_shrinks(large):
    """Past the number that the set was made for (32,768), over the limit of what is
    large, and back."""
    for numbers in (range(33000), range(30000, 80000), range(10), range(MANY),
                    range(1030), range(1020), range(1020 + MANY)):
        large.want(*numbers)
        large.run("reload")


@pytest.mark.parametrize("edit", ["add", "delete"])
def test_somebody_edits(large, edit):
    element = ROGUE if edit == "add" else address(7)
    large.host.nft("".join(
        f"{edit} element {of} leakguard resolver4 {{ {element} }}\n"
        for of in FAMILIES))
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))
    large.want(*range(MANY + 2))
    assert not is_read(large.run("reload")), "known again"


def test_somebody_edits_and_undoes_it(large):
    """The rules are what they were; the generation is not."""
    large.rogue()
    large.host.nft("".join(
        f"delete element {of} leakguard resolver4 {{ {ROGUE} }}\n"
        for of in FAMILIES))
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))


@pytest.mark.parametrize("when", ["enter", "exit"])
def test_somebody_edits_meanwhile(large, when):
    """Between our reading and our commit; between our commit and our reading."""
    before = generation(large.host)
    large.want(*range(MANY + 1))
    reload = large.host.popen([
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendmsg", "-e",
        f"inject=sendmsg:delay_{when}=1000000",
        *large.guard.command("reload")])
    prepared = large.record.with_name("state.new")
    netns.wait_until(prepared.exists if when == "enter" else
                     lambda: generation(large.host) > before, "a change", 30)
    large.rogue()
    assert reload.wait(timeout=60) == 0
    for of in FAMILIES:
        assert large.elements(of) == large.wanted


def test_a_forged_note_is_believed(large):
    """The control of those below: what they change of the note is all that keeps
    the forged one from being believed."""
    large.forge()
    large.want(*range(MANY + 1))
    found = cost(large.guard, "reload")
    assert not is_read(found)
    assert large.elements("inet") == large.wanted | {ROGUE}


def put(number, value):
    def change(words):
        words[number] = value(words[number])
        return words
    return change


FORGED = {
    "another boot": put(0, lambda boot: boot[::-1]),
    "another namespace": put(1, lambda cookie: str(int(cookie) + 1)),
    "another record": put(2, lambda file: re.sub(r"\d(?=:)", "9", file, count=2)),
    "a commit before": put(3, lambda number: str(int(number) - 1)),
    "a commit later": put(3, lambda number: str(int(number) + 1)),
    "no generation": put(3, lambda _: "0"),
    "of the future": put(4, lambda ms: str(int(ms) + 3600 * 1000)),
    "cut short": lambda words: words[:4],
    "more than we write": lambda words: [*words, "1"],
    "no text": lambda _: ["\1\2"],
    "empty": lambda _: [],
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_note_that_tells_nothing(large, change):
    large.forge(change)
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))


def test_a_note_of_yesterday(lab, large):
    """After a day the kernel's count might have come round."""
    path = pathlib.Path(lab.dir, "skew")
    env = {"LD_PRELOAD": build("skew"), "SKEW_FILE": str(path)}
    for hours, read in ((23, False), (25, True)):
        large.guard.disable()
        large.want(*range(MANY))
        large.run("enable", "--no-watch")
        path.write_bytes(struct.pack("=qq", hours * 3600 * 1000, 0))
        large.want(*range(MANY + 1))
        large.forge()
        done = large.guard.run("reload", env=env)
        assert done.rc == 0, done
        assert (large.elements("inet") == large.wanted) == read


def test_a_record_put_back(large):
    """Of the same length and content, but not the one that was noted."""
    large.forge()
    text = large.record.read_bytes()
    large.record.unlink()
    large.record.write_bytes(text)
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))


def test_another_run_directory(lab, large):
    """Whoever copies ours has a record of their own."""
    large.forge()
    other = f"{lab.dir}/other"
    shutil.copytree(large.guard.run_dir, other,
                    ignore=shutil.ignore_patterns("control"))
    large.guard.run_dir = other
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))


@pytest.mark.parametrize("call", range(1, 3))
def test_killed_between_commit_and_record(large, call):
    """At its rename of the record. Then somebody edits."""
    large.want(*range(1, MANY + 1))
    done = run_inside(large.host, [
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e",
        f"inject=renameat:signal=KILL:when={call}",
        *large.guard.command("reload")])
    assert (done.rc != 0) == (call == 1), "there is one"
    large.rogue()
    assert is_read(large.run("reload"))
    large.want(*range(MANY))
    assert not is_read(large.run("reload"))


def test_a_pause_lapses(large):
    """The kernel lets its elements go without a commit; they are read always."""
    before = large.run("pause", "1s")
    assert large.elements("inet", "pause")
    netns.wait_until(lambda: not large.elements("inet", "pause"), "its end", 10)
    large.want(*range(MANY + 1))
    found = large.run("reload")
    assert not is_read(before) and not is_read(found)
    assert not large.elements("inet", "pause")


def test_what_follows_from_links(guard):
    """Sets that name links change with them, without anybody's commit."""
    host = guard.namespace
    host.ip("link add upper type bridge",
            "link add lower type veth peer name other",
            "link set lower master upper")
    text = "".join(f"resolver = {address(n)} via upper\n" for n in range(3000))
    guard.configure(text)
    guard.enable()

    def links():
        listing = host.run(["nft", "list", "set", "netdev", "leakguard",
                            "resolver4_link"]).stdout
        return set(re.findall(r'"(\w+)" \.', listing))

    assert links() == {"upper", "lower"}
    host.ip("link set lower nomaster")
    cost(guard, "reload")
    assert links() == {"upper"}
    host.ip("link del upper", "link del lower")


def kill(guard):
    found = family(guard)
    for which in "keeper", "worker":
        os.kill(found[which].pid, signal.SIGKILL)


@pytest.fixture(params=["auto", "off"])
def watched(request, guard):
    """Large, with a watcher that owns the tables or not."""
    large = Large(guard)
    large.ownership = request.param
    large.want(*range(MANY))
    guard.enable(watch=True)
    netns.wait_until(lambda: guard.watcher["looked"], "a look", 30)
    return large


def read_by_watcher(large, *argv):
    """Bytes that it reads while the verb runs, and a moment longer."""
    worker = family(large.guard)["worker"]
    trace = f"{large.guard.run_dir}.watch"
    # Written out when it ends, not before.
    strace = large.host.popen(["strace", "-f", "-qq", "-o", trace, "-e",
                               "trace=recvmsg", "-p", str(worker.pid)])
    netns.wait_until(lambda: worker.status("TracerPid") != "0", "strace", 30)
    looked = large.guard.watcher["looked"]
    large.run(*argv)
    # It looks once more a moment later; that one takes what is known as well.
    netns.wait_until(lambda: large.guard.watcher["looked"] > looked, "a look", 30)
    netns.stop(strace)
    found = Cost(trace)
    assert found.received
    return found.received


def test_a_watcher_knows(watched):
    """What it owns nobody else can touch: then others' commits do not matter."""
    for others, read in (False, False), (True, watched.ownership == "off"):
        watched.want(*range(1 + others, MANY + 1 + others))
        if others:
            watched.host.nft("add table inet others; delete table inet others")
        received = read_by_watcher(watched, "reload")
        assert (received > READ) == read, (others, received)


def test_a_watcher_and_a_rogue(watched):
    """Where it owns the tables the kernel refuses, else it is undone."""
    watched.host.run(["nft", "add", "element", "inet", "leakguard", "resolver4",
                      f"{{ {ROGUE} }}"], check=False)
    watched.want(*range(1, MANY + 1))
    watched.run("reload")


@pytest.mark.parametrize("call", range(1, 5))
def test_an_answer_is_lost(watched, call):
    """Whether the kernel took the change is not known then, so nothing is."""
    worker = family(watched.guard)["worker"]
    strace = watched.host.popen([
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=recvfrom", "-e",
        f"inject=recvfrom:error=ENOBUFS:when={call}", "-p", str(worker.pid)])
    netns.wait_until(lambda: worker.status("TracerPid") != "0", "strace", 30)
    for first in 1, 2:
        watched.want(*range(first, MANY + first))
        watched.run("reload")
    netns.stop(strace)


def test_an_orphan_is_adopted(large):
    """That takes a transaction of its own, after which nothing is known."""
    large.guard.watch()
    netns.wait_until(lambda: large.guard.watcher and large.guard.watcher["looked"],
                     "a watcher", 30)
    kill(large.guard)
    netns.wait_until(lambda: not large.guard.watcher, "its end", 30)
    large.want(*range(1, MANY + 2))
    # Nobody is left behind who would look once more.
    assert len(large.run("reload").transactions) == 2
    assert not large.guard.watcher
