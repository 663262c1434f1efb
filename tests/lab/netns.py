"""Network namespaces: make them, run programs and open sockets in them.

Everything here works below the private namespaces that tests/lab/run made,
and refuses to be imported anywhere else.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import time

EXIT_SKIPPED = 77
CLONE_NEWNET = 0x40000000
RUN_DIR = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)


def current():
    return os.readlink("/proc/self/ns/net")


def require_private():
    """End the process unless it left the namespace it was started from."""
    outer = os.environ.get("OUTER_NETNS")
    if not outer or outer == current():
        print("refusing to run: not in a private network namespace "
              "(start through tests/lab/run)", file=sys.stderr)
        sys.stderr.flush()
        os._exit(EXIT_SKIPPED)


require_private()


def wait_until(condition, what, timeout=10.0, interval=0.01):
    """Return condition()'s first true value; fail, naming WHAT, if none."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(interval)


class CommandError(Exception):
    """A program that had to succeed did not."""


class Result:
    """What a finished program left: rc, stdout, stderr."""

    def __init__(self, args, rc, stdout, stderr):
        self.args, self.rc = args, rc
        self.stdout, self.stderr = stdout, stderr

    def __repr__(self):
        return (f"{' '.join(map(str, self.args))}: exit {self.rc}\n"
                f"{self.stdout}{self.stderr}")


class Namespace:
    """A named network namespace; also a holder of the processes in it."""

    def __init__(self, name):
        self.name = name
        self.processes = []
        ip(f"netns add {name}")
        self.ip("link set lo up")
        os.makedirs(f"/etc/netns/{name}", exist_ok=True)
        self.set_resolv_conf("")

    def delete(self):
        for process in self.processes:
            stop(process)
        self.processes.clear()
        ip(f"netns del {self.name}")

    @contextlib.contextmanager
    def inside(self):
        """Put this thread into the namespace: sockets, files of /proc/sys."""
        with open("/proc/thread-self/ns/net", "rb") as before, \
             open(f"{RUN_DIR}/{self.name}", "rb") as there:
            _setns(there.fileno())
            try:
                yield self
            finally:
                _setns(before.fileno())

    def ip(self, *lines):
        """Run one or several ip(8) command lines, as one batch."""
        ip(*lines, namespace=self.name)

    def ip6(self, *lines):
        """The same with -6, where ip(8) cannot tell the family itself."""
        ip(*lines, namespace=self.name, options=("-6",))

    def nft(self, ruleset):
        """Load a ruleset; anyone's but leakguard's, which loads its own."""
        self.run(["nft", "-f", "-"], stdin=ruleset)

    def sysctl(self, **values):
        """sysctl(net__ipv4__ip_forward=1): two underscores for a dot."""
        with self.inside():
            for key, value in values.items():
                path = key.replace("__", "/").replace("%", ".")
                with open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
                    file.write(f"{value}\n")

    def set_resolv_conf(self, text):
        """What programs started by run() and popen() find in /etc."""
        path = f"/etc/netns/{self.name}/resolv.conf"
        with open(path, "w", encoding="ascii") as file:
            file.write(text)

    def command(self, args):
        return ["ip", "netns", "exec", self.name, *map(str, args)]

    def run(self, args, stdin="", timeout=30.0, check=True, env=None):
        """Run a program to its end; its output as text in a Result."""
        done = subprocess.run(
            self.command(args), input=stdin, text=True, capture_output=True,
            timeout=timeout, check=False, env=env, errors="replace")
        result = Result(args, done.returncode, done.stdout, done.stderr)
        if check and result.rc:
            raise CommandError(repr(result))
        return result

    def popen(self, args, **kwargs):
        """Start a program; stopped at the latest with the namespace."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.command(args), **kwargs)
        self.processes.append(process)
        return process


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def ip(*lines, namespace=None, options=()):
    """Run ip(8) command lines as one batch, in a namespace or here."""
    where = [*options, *(["-n", namespace] if namespace else [])]
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input="\n".join(lines) + "\n",
        text=True, capture_output=True, timeout=30, check=False)
    if done.returncode:
        raise CommandError(f"ip {' '.join(where)}: {done.stderr}{lines}")


def stop(process, timeout=5.0):
    """Ask a child to end, then make it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process):
    """kill -9 and reap; `ip netns exec` has become the program by then."""
    if process.poll() is None:
        process.kill()
    process.wait(5)
