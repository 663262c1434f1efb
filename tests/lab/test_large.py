"""A large policy: what its sets hold is read only where it is not known.

Known is what a command has read back, as long as nobody has committed anything
since: it notes the kernel's generation beside its record. Each way in which the
note could be wrong has to end in a full reading, and in the right rules.
"""

import pathlib
import re
import shutil
import struct

import pytest

import netns
from cost import address, cost
from guard import FAMILIES
from tools import build, generation, run_inside

MANY = 20000  # of RULESET_LARGE = 1024; reading them is more than all else together
ROGUE = "203.0.113.66"
# Bytes: to read an element takes 16 or more, and in all what is there besides.
READ = 16 * MANY * len(FAMILIES)


class Large:
    def __init__(self, guard):
        self.guard, self.host = guard, guard.namespace
        self.record = pathlib.Path(guard.run_dir, "state")
        self.note = pathlib.Path(guard.run_dir, "generation")

    def want(self, *numbers):
        self.wanted = {address(n) for n in numbers}
        self.guard.configure("tunnel = tun0\n" + "".join(
            f"resolver = {one} via any\n" for one in self.wanted))

    def run(self, *argv):
        """The verb's cost; in the end there is what is wanted."""
        found = cost(self.guard, *argv)
        for family in FAMILIES:
            assert self.elements(family) == self.wanted
        return found

    def elements(self, family, name="resolver4"):
        listing = run_inside(self.host, ["nft", "list", "set", family,
                                         "leakguard", name]).stdout
        found = re.search(r"elements = \{(.*?)\}", listing, re.S)
        return {one.split()[0] for one in found[1].split(",")} if found else set()

    def rogue(self):
        """Somebody approves a resolver of theirs, in all tables; one commit."""
        self.host.nft("".join(
            f"add element {family} leakguard resolver4 {{ {ROGUE} }}\n"
            for family in FAMILIES))

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
        f"{edit} element {family} leakguard resolver4 {{ {element} }}\n"
        for family in FAMILIES))
    large.want(*range(MANY + 1))
    assert is_read(large.run("reload"))
    large.want(*range(MANY + 2))
    assert not is_read(large.run("reload")), "known again"


def test_somebody_edits_and_undoes_it(large):
    """The rules are what they were; the generation is not."""
    large.rogue()
    large.host.nft("".join(
        f"delete element {family} leakguard resolver4 {{ {ROGUE} }}\n"
        for family in FAMILIES))
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
    for family in FAMILIES:
        assert large.elements(family) == large.wanted


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


@pytest.mark.parametrize("call", range(1, 4))
def test_killed_between_commit_and_record(large, call):
    """At its renames: of the record, of the note. Then somebody edits."""
    large.want(*range(1, MANY + 1))
    done = run_inside(large.host, [
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e",
        f"inject=renameat:signal=KILL:when={call}",
        *large.guard.command("reload")])
    assert (done.rc != 0) == (call < 3), "there are two"
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


@pytest.mark.parametrize("ownership", ["auto", "off"])
def test_a_watcher(guard, ownership):
    """What it owns others cannot touch, what it does not own it is told of."""
    large = Large(guard)
    large.want(*range(MANY))
    with open(guard.config, "a", encoding="ascii") as file:
        file.write(f"ownership = {ownership}\n")
    guard.enable(watch=True)
    assert guard.watcher
    large.host.run(["nft", "add", "element", "inet", "leakguard", "resolver4",
                    f"{{ {ROGUE} }}"], check=False)
    for more in range(1, 4):
        large.want(*range(more, MANY + more))
        with open(guard.config, "a", encoding="ascii") as file:
            file.write(f"ownership = {ownership}\n")
        large.host.nft("add table inet others")
        large.run("reload")
