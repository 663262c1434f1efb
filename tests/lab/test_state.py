"""The run directory, commands at the same time, and changes that cost little.

A record that is damaged, foreign or missing makes a command fail with a line
that names the file, and the rules stay as they are.
"""

import contextlib
import fcntl
import itertools
import os
import pathlib
import random
import re
import shutil
import subprocess
import time

import pytest

import netns
from guard import TABLES, Guard
from tools import SOAK, comparable, generation, run_inside

BASE = ["enable", "--no-watch", "--tunnel", "tun0", "--resolver",
        "203.0.113.53", "--resolver", "2001:db8:113::53@53"]
UP = ["up", "--tunnel", "wg0", "--resolver", "10.64.0.1"]
NEEDING_RECORD = [UP, ["down", "--tunnel", "wg0"], ["reload"],
                  ["enable", "--no-watch"]]
MIB = 1 << 20
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.fixture
def raised(guard):
    """A guard that is up, with a record of some size."""
    run(guard, BASE)
    run(guard, UP)
    return guard


@pytest.fixture
def record(raised):
    return pathlib.Path(raised.run_dir, "state")


def attempt(guard, argv, prefix=(), timeout=40, **kwargs):
    return run_inside(guard.namespace, [*prefix, *guard.command(*argv)],
                      timeout=timeout, **kwargs)


def run(guard, argv):
    done = attempt(guard, argv)
    assert done.rc == 0, done
    return done


def rules(guard):
    return "\n".join(map(comparable, guard.listings().values()))


def assert_refused(done, *words, rc=1):
    """One line on stderr with these words in it, and nothing else."""
    assert done.rc == rc and not done.stdout, done
    lines = done.stderr.rstrip("\n").split("\n")
    assert len(lines) == 1 and lines[0].startswith("leakguard: "), done
    for word in words:
        assert word in lines[0], f"{word!r} missing: {done}"


def assert_all_refused(guard, *words, commands=NEEDING_RECORD, **kwargs):
    before, number = rules(guard), generation(guard.namespace)
    assert before
    for argv in commands:
        assert_refused(attempt(guard, argv, **kwargs), *words)
    # Nothing was committed, so nothing changed.
    assert generation(guard.namespace) == number
    assert rules(guard) == before


# --- a damaged record ---

def test_cut_short_anywhere(raised, record):
    """After every byte (a sample of them): never taken for a whole one."""
    text, number = record.read_bytes(), generation(raised.namespace)
    lengths = range(len(text) - 1)  # without its last newline it is whole
    if not SOAK:
        lengths = sorted({*lengths[::9], *lengths[-12:]})
    for length in lengths:
        record.write_bytes(text[:length])
        assert_refused(attempt(raised, UP), str(record))
    assert generation(raised.namespace) == number
    record.write_bytes(text)
    run(raised, UP)


def random_bytes(_):
    chance = random.Random(1)
    return bytes(chance.randrange(256) for _ in range(4096))


def without_line(text, number):
    lines = text.splitlines(keepends=True)
    return b"".join(lines[:number] + lines[number + 1:])


def line_twice(text, number):
    lines = text.splitlines(keepends=True)
    return b"".join(lines[:number + 1] + lines[number:])


# What is no record of this guard, made of the one that is.
FOREIGN = {
    "empty": lambda text: b"",
    "garbage": lambda text: b"hello, world\n",
    "another program's": lambda text: b"[main]\ndns = none\n",
    "binary": random_bytes,
    "zeros": lambda text: bytes(8192),
    "one huge line": lambda text: b"x" * (8 * MIB),
    "many lines": lambda text: b"resolver = 192.0.2.1\n" * (MIB // 4),
    "a line twice": lambda text: line_twice(text, 7),
    "a line less": lambda text: without_line(text, 7),
    "something behind": lambda text: text + b"tunnel = eth0\n",
    "another version": lambda text: text.replace(b"version = 1",
                                                 b"version = 2"),
    "another namespace": lambda text: re.sub(rb"netns = \S+", b"netns = 4:1",
                                             text),
    "NUL inside": lambda text: text.replace(b"tun0", b"tu\0n"),
    "a bad value": lambda text: text.replace(b"203.0.113.", b"203.0.1130."),
    "two of them": lambda text: text + text,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_foreign_content(raised, record, make):
    text = record.read_bytes()
    assert make(text) != text
    record.write_bytes(make(text))
    assert_all_refused(raised, str(record))
    record.write_bytes(text)
    run(raised, ["reload"])


def test_message_is_printable(raised, record):
    """What stands in a file must not steer the terminal of who reads on."""
    text = record.read_bytes()
    for bad in (b"[state]\nversion = \x1b[2J\a\n",
                b"[\x1b[2J]\na = b\n"):
        record.write_bytes(bad)
        done = attempt(raised, UP)
        assert done.rc == 1, done
        assert not CONTROL.search(done.stderr), done
    record.write_bytes(text)


def make_directory(path):
    path.mkdir()


def make_symlink(path):
    saved = path.with_name("elsewhere")
    saved.write_text("[state]\nversion = 1\n", encoding="ascii")
    path.symlink_to(saved)


ODD_FILES = {"directory": make_directory, "symbolic link": make_symlink,
             "FIFO": os.mkfifo,
             "device": lambda path: os.mknod(path, 0o20600, os.makedev(1, 3))}


@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_no_regular_file(raised, record, make):
    """Not followed, not waited for."""
    text = record.read_bytes()
    record.unlink()
    make(record)
    assert_all_refused(raised, str(record))
    if record.is_dir() and not record.is_symlink():
        record.rmdir()
    else:
        record.unlink()
    record.write_bytes(text)
    run(raised, ["reload"])


def test_record_lost(raised, record):
    """What only adds to it cannot; enable says all anew."""
    record.unlink()
    assert_all_refused(raised, str(raised.run_dir), commands=[UP])
    assert_all_refused(raised, "record", commands=[["reload"]])
    run(raised, BASE)
    run(raised, UP)


def test_record_of_another_namespace(lab, raised, record):
    """The same run directory used from two namespaces."""
    other = Guard(lab, namespace=lab.vpn)
    other.run_dir = raised.run_dir
    before, text = rules(raised), record.read_bytes()
    for argv in (BASE, UP, ["reload"]):
        assert_refused(attempt(other, argv), str(record), "namespace")
    assert not other.listings() and rules(raised) == before
    assert record.read_bytes() == text


# --- the directory ---

@contextlib.contextmanager
def mounted(path, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path],
                   check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True, timeout=10)


def fill(path):
    """Write until no byte fits."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        for _ in range(1024):
            file.write(bytes(4096))


@pytest.mark.parametrize("options", ["size=16k", "nr_inodes=4"])
def test_full_directory(raised, record, options):
    """No room for the new record: found before the rules change."""
    text, directory = record.read_bytes(), raised.run_dir
    with mounted(directory, options + ",mode=700"):
        record.write_bytes(text)
        pathlib.Path(directory, "lock").touch()
        if "inodes" in options:
            pathlib.Path(directory, "full").touch()
        else:
            fill(f"{directory}/full")
        assert_all_refused(raised, directory, "No space left", commands=[
            ["up", "--tunnel", "wg1"], ["enable", "--no-watch"]])
        assert record.read_bytes() == text
        os.unlink(f"{directory}/full")
        run(raised, ["up", "--tunnel", "wg1"])


def test_read_only_directory(raised):
    with mounted(raised.run_dir, "mode=700"):
        subprocess.run(["mount", "-o", "remount,ro", raised.run_dir],
                       check=True, timeout=10)
        assert_all_refused(raised, raised.run_dir, "Read-only")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_others_may_write(raised, mode):
    """They could put a record there that approves their resolver."""
    os.chmod(raised.run_dir, mode)
    assert_all_refused(raised, raised.run_dir)
    os.chmod(raised.run_dir, 0o700)
    run(raised, ["reload"])


def test_somebody_elses_directory(raised):
    os.chown(raised.run_dir, 65534, 65534)
    assert_all_refused(raised, raised.run_dir)
    os.chown(raised.run_dir, 0, 0)


def test_missing_directory(guard):
    """Made with its owner's rights only; its parent is not made."""
    shutil.rmtree(guard.run_dir, ignore_errors=True)
    run(guard, BASE)
    assert os.stat(guard.run_dir).st_mode & 0o777 == 0o700
    guard.disable()
    parent = guard.run_dir
    guard.run_dir = f"{parent}/not/there"
    assert_refused(attempt(guard, BASE), guard.run_dir)
    assert not guard.listings()
    guard.run_dir = parent


def test_a_file_in_its_place(guard):
    shutil.rmtree(guard.run_dir, ignore_errors=True)
    pathlib.Path(guard.run_dir).touch()
    assert_refused(attempt(guard, BASE), guard.run_dir)
    assert not guard.listings()
    os.unlink(guard.run_dir)


# --- at the same time ---

def many_commands():
    for number in range(5):
        yield ["enable", "--no-watch", "--tunnel", "tun0", "--resolver",
               f"203.0.113.{number + 1}", "--action",
               ("drop", "reject")[number % 2]]
        yield ["up", "--tunnel", f"wg{number}", "--resolver",
               f"10.64.{number}.1"]
        yield ["down", "--tunnel", f"wg{(number + 2) % 5}"]
        yield ["reload"] if number % 2 else ["status", "--json"]


def test_twenty_commands_at_once(raised):
    """Each waits for the one before; the last leaves what it would alone."""
    with raised.namespace.inside():
        started = [(argv, subprocess.Popen(
            raised.command(*argv), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            for argv in many_commands()]
    for argv, process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and not err, f"{argv}: {out}{err}"
    # The kernel has what the record says: told again, nothing changes.
    number, left = generation(raised.namespace), rules(raised)
    run(raised, ["reload"])
    assert generation(raised.namespace) == number and rules(raised) == left
    assert left.count("S7 ") >= 1
    approved = re.findall(r"203\.0\.113\.\d+", left)
    assert len(set(approved)) == 1, "one enable won, not a mixture of them"
    rejects = "reject" in left
    assert rejects == (int(approved[0].rpartition(".")[2]) % 2 == 0)


@contextlib.contextmanager
def lock_held(guard):
    with open(f"{guard.run_dir}/lock", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_held_lock(raised):
    """The next one waits; let go in time, it goes on."""
    with raised.namespace.inside(), lock_held(raised):
        waiting = subprocess.Popen(raised.command(*UP), text=True,
                                   stdout=subprocess.PIPE)
        netns.wait_until(lambda: holds_open(waiting, "lock"),
                         "the second command waits")
        assert waiting.poll() is None
    assert waiting.communicate(timeout=20) and waiting.returncode == 0


def holds_open(process, name):
    folder = f"/proc/{process.pid}/fd"
    with contextlib.suppress(FileNotFoundError):
        return any(os.readlink(f"{folder}/{fd}").endswith(f"/{name}")
                   for fd in os.listdir(folder))
    return False


def test_lock_never_let_go(raised):
    """Past 10 s: one line that names the lock."""
    started = time.monotonic()
    with lock_held(raised):
        assert_all_refused(raised, f"{raised.run_dir}/lock", commands=[UP])
        assert 9 < time.monotonic() - started < 30
        # To look needs no lock.
        assert attempt(raised, ["status", "--json"]).rc == 0


def test_dead_holder_of_the_lock(raised):
    """The kernel lets go for it: no stale lock is left."""
    script = f"exec 9>{raised.run_dir}/lock; flock 9; echo ready; read line"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "ready\n"
        holder.kill()
        holder.wait(5)
        run(raised, UP)


# --- what others left of the tables ---

PIECES = [gone for number in range(1, len(TABLES) + 1)
          for gone in itertools.combinations(TABLES, number)]


@pytest.mark.parametrize("argv", [["disable"], ["pause", "1m"],
                                  *NEEDING_RECORD], ids=lambda argv: argv[0])
@pytest.mark.parametrize("gone", PIECES, ids=", ".join)
def test_some_tables_are_gone(raised, gone, argv):
    """Whatever is asked for next: all of it is back, or none is left."""
    raised.namespace.nft("".join(f"delete table {table}\n"
                                 for table in gone))
    assert [*raised.listings()] == [table for table in TABLES
                                    if table not in gone]
    assert not raised.status()["guarded"]
    run(raised, argv)
    assert [*raised.listings()] == ([] if argv == ["disable"] else TABLES)
    assert raised.status()["guarded"] == (argv != ["disable"])


# --- a bad configuration ---

BAD_CONFIGURATIONS = [
    ("tunnel = tun0\nresolver = 10.0.0\n", 2, "10.0.0"),
    ("\n\n\nmode = sometimes\n", 4, "either or both"),
    ("ports = 53,70000\n", 1, "1 to 16 ports"),
    ("tunnel = *\n", 1, "every link"),
    ("# fine\nno such key = 1\n", 2, "no such key"),
    ("tunnel tun0\n", 1, "key = value"),
    ("[section]\ntunnel = tun0\n", 2, "section"),
    ("resolver = 192.0.2.1\n" * 9 + "resolver = ::%eth0\n", 10, "::%eth0"),
    ("tunnel = " + "x" * 300 + "\n", 1, "too long"),
]


def test_bad_configuration_on_reload(raised):
    before, number = rules(raised), generation(raised.namespace)
    for text, line, word in BAD_CONFIGURATIONS:
        raised.configure(text)
        assert_refused(attempt(raised, ["reload"]),
                       f"{raised.config}:{line}: ", word, rc=2)
    assert generation(raised.namespace) == number
    assert rules(raised) == before
    raised.configure("")
    run(raised, ["reload"])
    assert rules(raised) == before


def test_reload_names_its_file(guard, default_config):
    """The default one, too: without a name it is the file from before."""
    guard.configure("tunnel = tun0\n")
    default_config.write_text("tunnel = tun9\n", encoding="ascii")
    run(guard, ["enable", "--no-watch"])
    reload = [guard.program, "--run-dir", guard.run_dir, "reload"]
    for argv, tunnel in ((reload, "tun0"),
                         ([*reload, "-c", default_config], "tun9"),
                         (reload, "tun9")):
        guard.namespace.run(argv)
        assert [one["name"] for one in guard.status()["tunnels"]] == [tunnel]


@pytest.fixture
def default_config():
    path = pathlib.Path("/etc/leakguard.conf")  # the lab's own
    yield path
    path.unlink(missing_ok=True)
