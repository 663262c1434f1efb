"""Service managers at work in a namespace: systemd itself, runit, and a stand-in.

Systemd runs as process 1 of namespaces of its own, below a control group that
goes with it; it shares /run and /etc with the lab.
"""

import array
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import netns
from procfs import Process

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SERVICES = REPOSITORY / "scripts/service"
UNIT = SERVICES / "systemd/leakguard.service"
UNPACKED = REPOSITORY / "build/tools"
TOOLS = UNPACKED / "usr/bin"
SYSTEMD = "/lib/systemd/systemd"
# As units and scripts name them.
PROGRAM, EARLY = "/usr/sbin/leakguard", "/usr/lib/leakguard/early"
UNITS = "/run/systemd/system"

# Nothing is to start but what a test asks for, and nothing outside to change:
# systemd raises limits in /proc/sys, and runs generators for the machine.
SYSTEMD_START = """
set -e
echo $$ >"$1/cgroup.procs"
shift
exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc \\
    --mount-proc sh -e -c '
        umount -R /sys/fs/cgroup 2>/dev/null || :
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys
        mount -t tmpfs tmpfs /lib/systemd/system-generators
        exec "$@"' - "$@"
"""
LAB_TARGET = """
[Unit]
Description=Nothing but what a test starts
DefaultDependencies=no
AllowIsolate=yes
"""


def forget_manager(environment):
    """Without what a service manager of the outer system said to us."""
    about = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC",
             "INVOCATION_ID", "LISTEN_FDS", "container")
    return {k: v for k, v in environment.items() if k not in about}


def install(name, lab, program):
    """A file of scripts/service, with these programs for the installed ones;
    its path, which is the early script's for all others of the lab."""
    text = (SERVICES / name).read_text()
    if name != "early":
        text = text.replace(EARLY, f"{lab.dir}/early")
    path = pathlib.Path(lab.dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(PROGRAM, program), encoding="ascii")
    path.chmod(0o755)
    return str(path)


def first_child(process):
    """What unshare(1) made, as a Process; None while there is none."""
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(path, encoding="ascii") as file:
        children = file.read().split()
    return Process(int(children[0])) if children else None


class ControlGroup:
    """One of version 2, below our own; raises OSError where there is none."""

    def __init__(self, lab):
        self.mount = tempfile.mkdtemp(prefix="cgroup-", dir=lab.dir)
        done = subprocess.run(["mount", "-t", "cgroup2", "cgroup2",
                               self.mount], check=False, capture_output=True)
        if done.returncode:
            raise OSError("no control groups of version 2")
        with open("/proc/self/cgroup", encoding="ascii") as file:
            own = re.search(r"^0::(.*)$", file.read(), re.M).group(1)
        # Where other runs of the lab have theirs, with the same process numbers.
        self.path = tempfile.mkdtemp(prefix="lab-", dir=f"{self.mount}/{own}")

    def _groups(self):
        """Itself and those below, deepest first."""
        return [found for found, _, _ in os.walk(self.path, topdown=False)]

    def is_empty(self):
        for group in self._groups():
            with contextlib.suppress(OSError), \
                    open(f"{group}/cgroup.procs", encoding="ascii") as file:
                if file.read():
                    return False
        return True

    def remove(self):
        netns.wait_until(self.is_empty, "the control group is empty")
        for group in self._groups():
            os.rmdir(group)
        subprocess.run(["umount", self.mount], check=True)


class Systemd:
    """The real one. A context manager."""

    def __init__(self, lab, namespace):
        self.lab, self.namespace = lab, namespace
        self.group = ControlGroup(lab)
        self.log_path = f"{lab.dir}/systemd.log"
        os.makedirs(UNITS, exist_ok=True)
        self.write_unit("lab.target", LAB_TARGET)
        self.journal = Journal("/run/systemd/journal")
        environment = forget_manager(os.environ)
        environment |= {"container": "lab", "SYSTEMD_LOG_TARGET": "console"}
        with open(self.log_path, "wb") as log:
            self.process = namespace.popen(
                ["sh", "-c", SYSTEMD_START, "-", self.group.path, SYSTEMD,
                 "--system", "--unit=lab.target", "--log-target=console",
                 "--show-status=0"],
                stdout=log, stderr=log, env=environment)
        self.init = netns.wait_until(self._find_init, "systemd has started")
        netns.wait_until(lambda: self.control(
            "is-system-running", check=False).stdout.strip() == "running",
            "systemd is up", 30)

    def _find_init(self):
        """The process that unshare(1) made, once it has become systemd."""
        child = first_child(self.process)
        return child if child and child.read("comm") == "systemd\n" else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.init.kill()  # and with it all of its namespace
        netns.kill(self.process)
        self.journal.close()
        self.group.remove()
        shutil.rmtree("/run/systemd", ignore_errors=True)

    @staticmethod
    def write_unit(name, text):
        path = pathlib.Path(UNITS, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")

    def run(self, *argv, check=True):
        """A program beside it, where its process numbers hold."""
        return self.namespace.run(
            ["nsenter", "-t", self.init.pid, "-m", "-p", "-C", "--", *argv],
            check=check)

    def control(self, *arguments, check=True):
        return self.run("systemctl", "--no-pager", *arguments, check=check)

    def show(self, unit, key):
        return self.control("show", "--value", "-p", key,
                            unit).stdout.strip()

    @property
    def log(self):
        return pathlib.Path(self.log_path).read_text(
            encoding="utf-8", errors="replace")


class Inbox:
    """Datagrams to a socket, as they come; with passed descriptors."""

    def __init__(self, path, take):
        self.path, self._take = str(path), take
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._sock.bind(self.path)
        self._sock.settimeout(0.1)
        self._ending = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        size = array.array("i").itemsize
        while not self._ending:
            try:
                data, control, _, _ = self._sock.recvmsg(
                    65536, socket.CMSG_SPACE(8 * size))
            except TimeoutError:
                continue
            fds = array.array("i")
            for level, kind, body in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(body[:len(body) // size * size])
            self._take(data, list(fds))

    def close(self):
        self._ending = True
        self._thread.join()
        self._sock.close()
        os.unlink(self.path)


class Journal:
    """journald's two ends: `messages`, each a dict of the fields it came with.

    Of lines on standard output nothing is kept; only with somebody there does
    systemd connect a service to the journal.
    """

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.messages = []
        self._inbox = Inbox(f"{directory}/socket", self._take)
        self._lines = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lines.bind(f"{directory}/stdout")
        self._lines.listen(64)
        self._taken = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._lines.accept()[0])

    def _take(self, data, _):
        self.messages.append(dict(
            line.partition("=")[::2]
            for line in data.decode(errors="replace").splitlines()))

    def events(self):
        return [m["LEAKGUARD_EVENT"] for m in self.messages
                if "LEAKGUARD_EVENT" in m]

    def close(self):
        self._inbox.close()
        self._lines.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (self._lines, *self._taken):
            one.close()


class Manager:
    """Plays systemd's part by sd_notify(3): a service of Type=notify, with a
    watchdog and a store for descriptors."""

    def __init__(self, namespace, directory):
        self.namespace = namespace
        self.path = f"{directory}/notify"
        self.assignments, self.stored = [], {}
        self.beats = 0
        self._inbox = Inbox(self.path, self._take)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._inbox.close()
        self.drop_stored()

    def drop_stored(self):
        for fd in self.stored.values():
            os.close(fd)
        self.stored = {}

    def _take(self, data, fds):
        said = dict(line.partition("=")[::2]
                    for line in data.decode().splitlines())
        if said.get("FDSTORE") == "1" and fds:
            old = self.stored.get(said["FDNAME"])
            self.stored[said["FDNAME"]] = fds.pop()
            if old is not None:
                os.close(old)
        for fd in fds:
            os.close(fd)
        self.beats += said == {"WATCHDOG": "1"}
        self.assignments.append(said)

    def said(self, key):
        """The values of an assignment, in order."""
        return [said[key] for said in self.assignments if key in said]

    def start(self, argv):
        """The service, with what is stored; returns once it is ready."""
        env = forget_manager(os.environ)
        env |= {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "1000000"}
        lines, kept = "", list(self.stored.values())
        if kept:
            env |= {"LISTEN_FDS": str(len(kept)),
                    "LISTEN_FDNAMES": ":".join(self.stored)}
            lines = "export LISTEN_PID=$$; "
        moves = "".join(f" {number}<&{fd}"
                        for number, fd in enumerate(kept, start=3))
        ready = len(self.said("READY"))
        process = self.namespace.popen(
            ["bash", "-c", f'{lines}exec "$@"{moves}', "-", *argv],
            env=env, pass_fds=kept)
        netns.wait_until(lambda: len(self.said("READY")) > ready,
                         "it is ready", 30)
        return process


class Runit:
    """runsv over one service directory. A context manager."""

    def __init__(self, namespace, directory):
        self.namespace, self.directory = namespace, directory
        self.process = namespace.popen([find_runit("runsv"), directory],
                                       env=forget_manager(os.environ))

    def __enter__(self):
        netns.wait_until(lambda: self.control("status", check=False).rc == 0,
                         "runsv has started")
        return self

    def __exit__(self, *_):
        self.control("force-exit", check=False)
        netns.stop(self.process)

    def control(self, verb, check=True):
        return self.namespace.run([find_runit("sv"), "-w", "20", verb,
                                   self.directory], check=check)


def find_runit(name):
    """Unpacked by scripts/setup, or the system's own; None."""
    return shutil.which(name, path=f"{TOOLS}:{os.environ.get('PATH', '')}")


# Programs and files of unpacked packages, as if they were installed, and an
# /etc that is written to. Process 1 has to take what is left by the dead, or
# who waits for their end waits for good: the shell does, with each sleep.
LAY_OVER = """
set -e
unpacked=$1 upper=$2
mount -t tmpfs tmpfs "$upper"
lay_over() {
    mkdir -p "$upper/$1/upper" "$upper/$1/work"
    mount -t overlay overlay -o "lowerdir=$unpacked/$1:$(readlink -f "/$1"),\
upperdir=$upper/$1/upper,workdir=$upper/$1/work" "$(readlink -f "/$1")"
}
for part in lib sbin bin etc; do lay_over $part; done
rm -rf /etc/init.d/* /etc/rc?.d/* /etc/runlevels/*/*
echo ready
while :; do sleep 0.1; done
"""


class InitTree:
    """Namespaces for mounts and processes in which OpenRC and sysvinit's tools
    are at home; /etc/init.d has what a test puts there. A context manager."""

    def __init__(self, lab, namespace):
        self.lab, self.namespace = lab, namespace
        upper = f"{lab.dir}/upper"
        os.makedirs(upper, exist_ok=True)
        self.holder = namespace.popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", LAY_OVER, "-", UNPACKED, upper],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise OSError(self.holder.stderr.read().decode())
        self.init = first_child(self.holder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.init.kill()  # and with it all of its namespace
        netns.kill(self.holder)
        for stream in (self.holder.stdout, self.holder.stderr):
            stream.close()

    def run(self, *argv, check=True):
        """What it says, to either, in stdout: a file, for what it leaves
        running would hold a pipe open."""
        said = pathlib.Path(self.lab.dir, "said")
        with open(said, "wb") as file:
            process = self.namespace.popen(
                ["nsenter", "-t", self.init.pid, "-m", "-p", "--", *argv],
                stdout=file, stderr=file)
            process.wait(60)
        done = netns.Result(argv, process.returncode,
                            said.read_text(errors="replace"), "")
        if check and done.rc:
            raise netns.CommandError(repr(done))
        return done

    def write(self, name, text):
        """A script of /etc/init.d."""
        self.run("sh", "-c", 'printf %s "$2" >"/etc/init.d/$1" &&'
                 'chmod +x "/etc/init.d/$1"', "-", name, text)
