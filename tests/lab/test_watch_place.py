"""The watcher's place: one in each run directory, found there by commands.

Whatever becomes of the directory, and whoever speaks on the socket in it, the
rules stand, and commands find the watcher again.
"""

import array
import contextlib
import fcntl
import itertools
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import threading

import pytest

import labnet
import netns
from commits import stranger
from guard import TABLES
from procfs import Process, family
from test_watch_crash import (BACK_S, BASE, assert_in_order,
                              assert_refused, end_watcher, is_pinned, judge,
                              Policy, read_rules, start, wait_gone, wait_watcher)
from tools import SOAK, generation, run_inside

STORM = 40 if SOAK else 6  # times that several start at once


@pytest.fixture(scope="module")
def lab():
    """Without NAT on the host."""
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture
def watched(guard, target):
    """A guard with a watcher behind it."""
    del target  # its control comes before the guard
    guard.enable(*BASE[1:], watch=True)
    return guard


def line_of(done, word):
    """Its one line on stderr, which has this in it."""
    lines = done.stderr.splitlines()
    assert done.rc == 1 and not done.stdout and len(lines) == 1, done
    assert word in lines[0] and lines[0].startswith("leakguard: "), done
    return lines[0]


def watchers_of(guard):
    """Processes that watch here, by their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        process = Process(int(pid))
        with contextlib.suppress(OSError):
            words = process.read("cmdline").split("\0")
            if guard.run_dir in words and "watch" in words:
                found.append(process)
    return found


# --- several at once ---

def start_watch(guard, *options):
    with guard.namespace.inside():
        return subprocess.Popen(
            guard.command("watch", *options), text=True,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("count, options", [
    (2, []), (10, []),
    (2, ["--until-disable"])])
def test_watchers_at_once(guard, target, count, options):
    """One runs; the others say so, and end."""
    guard.enable(*BASE[1:])
    with target.flooded():
        for _ in range(STORM // 3):
            started = [start_watch(guard, *options) for _ in range(count)]
            found = wait_watcher(guard)
            others = [one for one in started
                      if one.pid != Process(found["pid"]).parent.pid]
            assert len(others) == count - 1
            for process in others:
                _, err = process.communicate(timeout=BACK_S)
                assert process.returncode == 1, err
                assert len(err.splitlines()) == 1, err
                assert "a watcher runs here already" in err
            assert guard.watcher["pid"] == found["pid"]
            assert len(watchers_of(guard)) == 2  # with its keeper
            assert_in_order(guard)
            end_watcher(guard)
            for process in started:
                process.communicate(timeout=BACK_S)


AT_ONCE = {
    "the same": [BASE] * 2,
    "six of them": [BASE] * 6,
    "different ones": [BASE, [*BASE, "--tunnel", "wg0"]],
    "two hooks": [["up", "--tunnel", f"wg{number}"] for number in range(2)],
}


@pytest.mark.parametrize("commands", AT_ONCE.values(), ids=AT_ONCE)
def test_first_commands_at_once(guard, target, commands):
    """Of a guard that is off: all succeed, and one watcher is left."""
    del target
    for _ in range(STORM):
        started = [start(guard, argv) for argv in commands]
        for process in started:
            out, err = process.communicate(timeout=90)
            assert process.returncode == 0 and not err, out + err
        netns.wait_until(lambda: len(watchers_of(guard)) == 2,
                         "a keeper and its watcher are left", BACK_S)
        assert_in_order(guard)
        processes = family(guard).values()
        assert guard.disable().rc == 0
        wait_gone(*processes)


# --- its place is taken away ---

def bind_silent(path):
    """A socket that takes connections, and says nothing."""
    other = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.bind(str(path))
    other.listen(1)
    return other


def put_instead(make):
    """The watcher is quick to put its own back: again, until it is there."""
    def replace(path):
        for _ in range(1000):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                return make(path)
        raise TimeoutError(f"{path} is always there")
    return replace


def make_file(path):
    with open(path, "xb") as file:
        file.write(bytes(100))


CONTROL = {
    "removed": lambda path: path.unlink(),
    "another socket": put_instead(bind_silent),
    "a file": put_instead(make_file),
    "a directory": put_instead(lambda path: path.mkdir()),
    "a link to nowhere": put_instead(lambda path: path.symlink_to("/no")),
    "a link to another": put_instead(
        lambda path: path.symlink_to("/run/lab/other")),
    "a FIFO": put_instead(os.mkfifo),
}
DIRECTORY = {
    "removed": lambda path: netns.wait_until(
        lambda: shutil.rmtree(path, ignore_errors=True)
        or not path.exists(), "it is gone, however quickly put back"),
    "renamed": lambda path: path.rename(f"{path}.old"),
    "renamed, and another there": lambda path: (
        path.rename(f"{path}.old"), path.mkdir(0o700, exist_ok=True)),
    "emptied": lambda path: [one.unlink() for one in path.iterdir()],
}


@pytest.fixture
def no_leftovers(guard):
    """What was moved away goes as well."""
    yield
    path = pathlib.Path(guard.run_dir)
    for one in path.parent.glob(f"{path.name}.*"):
        shutil.rmtree(one, ignore_errors=True)


def assert_found(guard, worker):
    """Commands find it; nobody else takes its place; the record is there."""
    found = netns.wait_until(lambda: guard.watcher, "commands find it",
                             BACK_S)
    assert found["pid"] == worker.pid and found["owner"]
    assert guard.up("wg7").rc == 0
    assert guard.watcher["pid"] == worker.pid
    assert_refused(guard.namespace)
    with (open(f"{guard.run_dir}/watch.pid", "rb+") as claim,
          pytest.raises(BlockingIOError)):
        fcntl.lockf(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert_in_order(guard)
    assert '"wg7"' in guard.listing()


@pytest.mark.parametrize("what", CONTROL)
def test_socket_replaced(watched, target, what):
    worker = family(watched)["worker"]
    with target.flooded():
        kept = CONTROL[what](pathlib.Path(watched.run_dir, "control"))
        assert_found(watched, worker)
    del kept


@pytest.mark.parametrize("what", DIRECTORY)
def test_directory_gone(watched, target, no_leftovers, what):
    del no_leftovers
    processes = family(watched)
    with target.flooded():
        DIRECTORY[what](pathlib.Path(watched.run_dir))
        assert_found(watched, processes["worker"])
        # A new one has to find what it watches where it is now.
        processes["worker"].kill()
        wait_watcher(watched, processes["worker"].pid)
        assert watched.down("wg7").rc == 0
        assert_refused(watched.namespace)
        assert_in_order(watched)
    assert watched.disable().rc == 0
    wait_gone(*processes.values())
    assert not watchers_of(watched)


@contextlib.contextmanager
def closed_to_it(path):
    """A watcher has no right to other people's files."""
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(0o700)


@contextlib.contextmanager
def a_file_instead(path):
    """Renamed over it: it is back within milliseconds when it is gone."""
    other = path.with_name("a file")
    while not path.is_file():
        other.touch()
        path.rename(f"{path}.{len(list(path.parent.iterdir()))}")
        with contextlib.suppress(IsADirectoryError):
            other.rename(path)
    yield
    path.unlink()


@contextlib.contextmanager
def mounted_over(path):
    with mounted(path, "mode=700,nr_inodes=1"):
        yield


@contextlib.contextmanager
def mounted(path, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path],
                   check=True, timeout=10)
    try:
        yield
    finally:
        # A watcher that found its place holds a directory open in it.
        subprocess.run(["umount", "-l", path], check=True, timeout=10)


@pytest.mark.parametrize("spoil", [closed_to_it, a_file_instead,
                                   mounted_over])
def test_no_place_for_a_while(watched, target, no_leftovers, spoil):
    """Commands are refused, and the rules as they were; then all is well."""
    del no_leftovers
    rules, worker = read_rules(watched), family(watched)["worker"]
    with target.flooded():
        with spoil(pathlib.Path(watched.run_dir)):
            # Where a watcher cannot be asked, its table cannot be changed.
            line_of(watched.run("up", "--tunnel", "wg8", timeout=90),
                    "leakguard")
            assert read_rules(watched) == rules
            assert_refused(watched.namespace)
        assert_found(watched, worker)


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        for _ in range(1024):
            file.write(bytes(512))


def test_disk_full(lab, guard, target, make_tunnel):
    """A change is refused; a pin is in force, and recorded when it can be."""
    inside, tunnel = labnet.RESOLVERS["inside"].v4, make_tunnel("veth")
    directory = pathlib.Path(guard.run_dir)
    directory.mkdir(mode=0o700, exist_ok=True)
    with mounted(directory, "size=64k,mode=700"):
        guard.enable(tunnel=tunnel.link, resolver=inside, watch=True)
        with target.flooded():
            rules = read_rules(guard)
            fill(directory / "full")
            line_of(guard.enable(tunnel="tun1", check=False, watch=True),
                    "No space left")
            line_of(guard.up("wg1", check=False), "No space left")
            assert read_rules(guard) == rules
            tunnel.up()
            netns.wait_until(lambda: read_rules(guard) != rules,
                             "the resolver is closed outside", BACK_S)
            record = directory / "state"
            assert "[pinned]\n[end]" in record.read_text(encoding="ascii")
            (directory / "full").unlink()
            netns.wait_until(
                lambda: f"[pinned]\nresolver = {inside}" in
                record.read_text(encoding="ascii"), "it is recorded", BACK_S)
            assert is_pinned(guard, inside)
            assert guard.up("wg1").rc == 0
        guard.disable()


def test_record_damaged(watched, target):
    """Commands that need it are refused; the watcher goes on as it was."""
    rules, worker = read_rules(watched), family(watched)["worker"]
    record = pathlib.Path(watched.run_dir, "state")
    text = record.read_bytes()
    with target.flooded():
        record.write_bytes(text[:len(text) // 2])
        line_of(watched.up("wg1", check=False), str(record))
        assert read_rules(watched) == rules
        # One that has to read it waits for it, and the rules stand.
        worker.kill()
        assert_refused(watched.namespace)
        line_of(watched.up("wg1", check=False), str(record))
        assert read_rules(watched) == rules
        record.write_bytes(text)
        wait_watcher(watched, worker.pid)
        assert watched.up("wg1").rc == 0
    assert_in_order(watched)


def test_own_pin_is_no_alteration(lab, guard, make_tunnel):
    """While it is asked all the time, status never says "not guarded"."""
    make_tunnel("veth", full=False).up()
    addresses = [f"203.0.113.{number}" for number in range(200, 206)]
    guard.enable(tunnel="tun0", resolver=addresses, watch=True)
    over, states = threading.Event(), set()

    def ask():
        while not over.is_set():
            done = run_inside(guard.namespace, guard.command("status"))
            states.add((done.rc, done.stdout.split("\n", 1)[0]))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for address in addresses:
            lab.host.ip(f"route add {address} via {labnet.TUNNEL_FAR.v4}")
            netns.wait_until(lambda a=address: is_pinned(guard, a),
                             f"{address} is pinned")
    finally:
        over.set()
        for thread in threads:
            thread.join(BACK_S)
        lab.host.ip(*(f"route del {address} via {labnet.TUNNEL_FAR.v4}"
                      for address in addresses))
    assert states == {(0, "state     GUARDED")}


# --- who speaks on the socket ---

def connect(guard, timeout=5.0):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(timeout)
    # sun_path has 107 bytes; the lab's run directories fit.
    client.connect(f"{guard.run_dir}/control")
    return client


STATUS = struct.pack("BB6x", 1, 1)  # control.h: version, verb


def say_garbage(client):
    """Of another version: eight bytes of chance are `disable` now and then."""
    client.send(b"\0" + os.urandom(7))


def ask_for_nothing(client):
    client.send(b"\1\0" + os.urandom(6))


def say_too_much(client):
    client.send(bytes(60000))


def say_a_byte(client):
    client.send(b"\1")


def say_nothing(client):
    del client


def close_half(client):
    client.shutdown(socket.SHUT_WR)


def hear_nothing(client):
    client.shutdown(socket.SHUT_RD)
    client.send(STATUS)


def send_files(client):
    client.sendmsg([STATUS], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                               array.array("i", [0] * 50))])


HOSTILE = [say_garbage, ask_for_nothing, say_too_much, say_a_byte,
           say_nothing, close_half, hear_nothing, send_files]


def pester(guard, over, tally):
    """Hold some hundred connections of all sorts, for as long as asked."""
    held = []
    for number in itertools.count():
        if over.is_set():
            break
        with contextlib.suppress(OSError):
            client = connect(guard, 0.05)
            held.append(client)
            HOSTILE[number % len(HOSTILE)](client)
            tally.append(1)
        if len(held) > 250:
            held.pop(0).close()
    for client in held:
        client.close()


def test_hostile_clients(watched, target):
    """They cost their own connections; every command gets through."""
    policy, over, tally = Policy(watched), threading.Event(), []
    worker = family(watched)["worker"]
    files = len(worker.files)
    threads = [threading.Thread(target=pester, args=(watched, over, tally))
               for _ in range(4)]
    with target.flooded():
        for thread in threads:
            thread.start()
        try:
            netns.wait_until(lambda: len(tally) > 1000, "a thousand came", 60)
            for number in range(60 if SOAK else 9):
                verb = (policy.enable, policy.up, policy.down)[number % 3]
                before = policy.read()
                argv, expected = verb(before)
                assert judge(policy, start(watched, argv), before,
                             expected) == 0
            assert wait_watcher(watched)["pid"] == worker.pid
        finally:
            over.set()
            for thread in threads:
                thread.join(BACK_S)
        netns.wait_until(lambda: len(worker.files) <= files,
                         "no descriptor is left over", BACK_S)
    assert_in_order(watched)


ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
client.settimeout(10)
client.connect(sys.argv[1])
try:
    client.send(bytes([1, 1, 0, 0, 0, 0, 0, 0]))
    print(len(client.recv(65536)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
"""


@pytest.mark.root
def test_other_users(watched):
    """Refused, even where somebody opened the way to the socket for them."""
    path = f"{watched.run_dir}/control"
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    ask = ["/usr/bin/python3", "-c", ASK, path]
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(watched.run_dir).st_mode & 0o777 == 0o700
    assert int(watched.namespace.run(ask).stdout) > 1000
    done = watched.namespace.run([*other, *ask], check=False)
    assert done.rc and "PermissionError" in done.stderr, done
    opened = [pathlib.Path(path), *itertools.takewhile(
        lambda one: str(one) != "/run", pathlib.Path(path).parents)]
    for one in opened:
        one.chmod(0o711 if one.is_dir() else 0o666)
    assert watched.namespace.run([*other, *ask]).stdout == "0\n"
    assert watched.namespace.run(ask).stdout != "0\n"


# --- a table that somebody else owns ---

@pytest.mark.parametrize("options", [[], ["--no-watch"], [
    "--ownership", "off"], ["--frames", "off"]], ids=" ".join)
@pytest.mark.parametrize("table", TABLES)
def test_table_of_a_stranger(lab, guard, target, options, table):
    """Refused in a line, and nothing done; an orphan of it is adopted."""
    with stranger(lab.host, table):
        assert "flags owner" in guard.listings()[table]
        assert_refused(lab.host, [table])
        number, rules = generation(lab.host), guard.listings()
        for argv in (["enable", *options, *BASE[1:]],
                     ["up", "--tunnel", "wg0"], ["disable"]):
            done = run_inside(lab.host, guard.command(*argv))
            line_of(done, "leakguard")
        assert generation(lab.host) == number and guard.listings() == rules
        assert not watchers_of(guard)
    assert target.is_open()
    done = guard.run("enable", *options, *BASE[1:])
    assert done.rc == 0, done
    wanted = TABLES[:1] if "--frames" in options else TABLES
    with target.flooded(frames=wanted == TABLES):
        assert [*guard.listings()] == wanted


# --- off, and on at boot ---

def test_disable_leaves_nothing(lab, guard, target):
    """And nobody raises the guard again by starting a watcher."""
    guard.enable(*BASE[1:], watch=True)
    guard.configure("tunnel = tun0\n")
    processes = family(guard)
    assert guard.disable().rc == 0
    wait_gone(*processes.values())
    assert not watchers_of(guard)
    assert "leakguard" not in lab.host.run(["nft", "list", "ruleset"]).stdout
    assert not os.path.exists(f"{guard.run_dir}/control")
    watch = guard.watch()
    try:
        wait_watcher(guard)
        assert guard.state == "OFF" and target.is_open()
        guard.enable(*BASE[1:], watch=True)
        assert guard.watcher["owner"]
        with target.flooded():
            assert_in_order(guard)
        assert guard.disable().rc == 0
        assert guard.state == "OFF" and guard.watcher
    finally:
        netns.stop(watch)


@pytest.mark.parametrize("options", [[], ["--tunnel", "tun1"]])
def test_boot(lab, guard, target, options):
    """A fresh run directory: the guard is up before anyone is told "ready"."""
    shutil.rmtree(guard.run_dir, ignore_errors=True)
    guard.configure("tunnel = tun0\n")
    path = f"{lab.dir}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        pathlib.Path(path).unlink(missing_ok=True)
        manager.bind(path)
        manager.settimeout(BACK_S)
        watch = guard.watch(*options,
                            env=dict(os.environ, NOTIFY_SOCKET=path))
        try:
            while b"READY=1" not in manager.recv(4096):
                pass
            with target.flooded():
                tunnel = options[1] if options else "tun0"
                assert f'"{tunnel}"' in guard.listing()
            assert guard.state == "LOCKED"
            assert guard.disable().rc == 0
        finally:
            netns.stop(watch)
