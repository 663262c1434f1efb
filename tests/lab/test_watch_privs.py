"""What a watcher keeps of those who started it, and what it may: little.

Of the processes themselves, as /proc shows them: the worker, and the keeper
above it, which is smaller still, but has to start workers.
"""

import os
import select
import signal
import sys

import pytest

import netns
from guard import TABLES
from procfs import family
from tools import run_inside

NET_ADMIN, SYS_NICE = 1 << 12, 1 << 23
LIMITS = {"Max open files": "64", "Max core file size": "0",
          "Max file size": str(64 << 20), "Max address space": str(1 << 30)}
MOST_FILES = {"worker": 16, "keeper": 6}
# What service managers tell the processes that they start.
MANAGERS = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "3000000",
            "WATCHDOG_PID": "1", "JOURNAL_STREAM": "8:9"}

names = pytest.mark.parametrize("name", ["worker", "keeper"])


def leave_behind(guard):
    guard.enable(tunnel="tun0", watch=True)


def in_foreground(guard):
    guard.enable(tunnel="tun0")
    guard.watch()
    netns.wait_until(lambda: guard.watcher, "the watcher answers")


@pytest.fixture(params=[leave_behind, in_foreground])
def watcher(request, guard):
    """{"worker": process, "keeper": process}, started in either way."""
    request.param(guard)
    who = family(guard)
    yield who
    who["keeper"].kill(signal.SIGTERM)
    netns.wait_until(lambda: not any(one.is_alive() for one in who.values()),
                     "they have ended")


def with_library(guard, library):
    """Some libraries may be left out at build."""
    done = run_inside(guard.namespace, ["ldd", guard.program])
    if library not in done.stdout:
        pytest.skip(f"built without {library}")


@names
def test_capabilities(guard, watcher, name):
    with_library(guard, "libcap-ng")
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert (int(watcher[name].status(which), 16)
                == NET_ADMIN | SYS_NICE), which
    for which in ("CapInh", "CapAmb"):
        assert int(watcher[name].status(which), 16) == 0, which


@pytest.mark.root  # a user namespace has no say in it
@pytest.mark.parametrize("ownership", ["auto", "off"])
def test_urgency(guard, ownership):
    """While it waits for what others do to rules that are not its own."""
    guard.enable(tunnel="tun0", watch=True, ownership=ownership)
    listens = guard.status()["owner"] != "socket"
    pid = guard.watcher["pid"]
    expected = (os.SCHED_FIFO, 1) if listens else (os.SCHED_OTHER, 0)

    def waits():
        return (os.sched_getscheduler(pid),
                os.sched_getparam(pid).sched_priority) == expected

    netns.wait_until(waits, f"{expected}")
    if listens:
        guard.namespace.run(["nft", "flush", "ruleset"])
        netns.wait_until(lambda: guard.watcher["undone"], "it is undone")
        netns.wait_until(waits, f"{expected} again")
    keeper = family(guard)["keeper"].pid
    assert os.sched_getscheduler(keeper) == os.SCHED_OTHER


@names
def test_no_way_back(watcher, name):
    assert watcher[name].status("NoNewPrivs") == "1"
    assert watcher[name].status("Uid").split() == ["0"] * 4
    assert watcher[name].status("Umask") == "0077"
    assert watcher[name].status("Threads") == "1"
    assert {key: watcher[name].limit(key) for key in LIMITS} == LIMITS


def test_system_calls(guard, watcher):
    """Filtered (2) in the worker; the keeper makes processes."""
    with_library(guard, "libseccomp")
    assert watcher["worker"].status("Seccomp") == "2"


@names
def test_open_files(watcher, name):
    files = watcher[name].files
    assert len(files) <= MOST_FILES[name], files


def test_open_files_close_on_exec(watcher):
    """A program that is run by mistake would get none of them."""
    for one in watcher.values():
        assert not {fd: path for fd, path in one.files.items()
                    if fd > 2 and not one.closes_on_exec(fd)}


def test_a_session_of_its_own(guard):
    leave_behind(guard)
    for one in family(guard).values():
        assert os.getsid(one.pid) == family(guard)["keeper"].pid
        assert one.link("cwd") == "/"
        assert {fd: one.files[fd] for fd in range(3)} == \
            dict.fromkeys(range(3), "/dev/null")


def test_nothing_of_a_service_manager(guard):
    """It would answer for the one who said `enable`."""
    listen = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
    guard.enable(tunnel="tun0", watch=True,
                 env={**os.environ, **MANAGERS, **listen})
    for one in family(guard).values():
        assert not one.environment.keys() & MANAGERS.keys()
        # Its own descriptors came by the same way.
        assert one.environment["LISTEN_FDNAMES"] == "nftables:claim"
        assert one.environment.keys() == listen.keys()


def enable_as(guard, python, timeout=30, **kwargs):
    """Raise the guard from a process that was prepared so before."""
    code = f"{python}\nos.execv(sys.argv[1], sys.argv[1:])"
    return run_inside(guard.namespace, [
        sys.executable, "-c", f"import os, signal, sys\n{code}",
        *guard.command("enable", "--tunnel", "tun0")], timeout, **kwargs)


@pytest.mark.parametrize("descriptor", [3, 9, 900])
def test_nothing_of_its_caller_is_kept(guard, descriptor):
    """The end of a pipe is seen by who reads it, as soon as enable is over."""
    reader, writer = os.pipe()
    done = enable_as(guard, f"os.dup2({writer}, {descriptor})",
                     pass_fds=[writer])
    os.close(writer)
    assert done.rc == 0 and guard.watcher, done
    assert select.select([reader], [], [], 10)[0], "somebody has it open"
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_pipeline_ends(guard):
    words = " ".join(guard.command("enable", "--tunnel", "tun0"))
    done = run_inside(guard.namespace, ["sh", "-c", f"{words} 2>&1 | cat"],
                      timeout=20)
    assert done.rc == 0 and "guarded" in done.stdout
    assert guard.watcher


# Daemons, shells and nohup leave signals ignored or blocked to their children.
CALLERS = {
    "ignored": "for number in (1, 2, 15, 17):\n"
               "    signal.signal(number, signal.SIG_IGN)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
}


@pytest.mark.parametrize("caller", CALLERS)
def test_signals_of_its_caller(guard, caller):
    """It is started again all the same, and ends when it is told to."""
    done = enable_as(guard, CALLERS[caller])
    assert done.rc == 0, done
    who = family(guard)
    last = who["worker"].pid
    who["worker"].kill(signal.SIGKILL)

    def is_anew():
        now = guard.watcher
        return now and now["pid"] != last

    try:
        netns.wait_until(is_anew, "it is started again")
        who["worker"] = family(guard)["worker"]
        who["keeper"].kill(signal.SIGTERM)
        netns.wait_until(lambda: not any(one.is_alive()
                                         for one in who.values()),
                         "they have ended")
    finally:
        if who["keeper"].is_alive():
            who["keeper"].kill(signal.SIGKILL)
    assert [*guard.listings()] == TABLES


def test_one_that_follows_is_no_different(guard):
    """Killed and started again: no privilege more, no descriptor left over."""
    leave_behind(guard)
    who = family(guard)

    def look(one):
        return (sorted(one.files), one.environment,
                [one.status(key) for key in ("CapPrm", "CapBnd", "NoNewPrivs",
                                             "Seccomp", "Umask", "SigBlk")],
                {key: one.limit(key) for key in LIMITS})

    first = {name: look(one) for name, one in who.items()}
    for _ in range(4):
        last = family(guard)["worker"]
        last.kill(signal.SIGKILL)
        netns.wait_until(lambda pid=last.pid: guard.watcher
                         and guard.watcher["pid"] != pid, "the next one", 30)
    now = family(guard)
    assert now["keeper"].pid == who["keeper"].pid
    assert {name: look(one) for name, one in now.items()} == first
