"""A process as /proc shows it: what it holds, what it may, what it took."""

import contextlib
import os
import signal

import netns

CLOSE_ON_EXEC = 0o2000000  # O_CLOEXEC, as fdinfo shows it (fs/proc/fd.c)


class Process:
    def __init__(self, pid):
        self.pid = pid

    def read(self, name):
        with open(f"/proc/{self.pid}/{name}", encoding="utf-8",
                  errors="replace") as file:
            return file.read()

    def link(self, name):
        return os.readlink(f"/proc/{self.pid}/{name}")

    def is_alive(self):
        try:
            return self.read("stat").rpartition(")")[2].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def status(self, key):
        """A line of /proc/PID/status, without its key."""
        for line in self.read("status").splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return value.strip()
        raise KeyError(key)

    @property
    def parent(self):
        return Process(int(self.status("PPid")))

    @property
    def most_kib(self):
        """The most memory it ever had, shared libraries and all."""
        return int(self.status("VmHWM").split()[0])

    @property
    def memory_kib(self):
        return int(self.status("VmRSS").split()[0])

    @property
    def share_kib(self):
        """What it has, pages of several processes divided among them."""
        for line in self.read("smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise KeyError("Pss")

    @property
    def cpu_s(self):
        """User and system time: to the ns, or to the tick."""
        try:
            return int(self.read("schedstat").split()[0]) / 1e9
        except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO
            fields = self.read("stat").rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            return ticks / os.sysconf("SC_CLK_TCK")

    @property
    def files(self):
        """{descriptor: what it leads to}."""
        found = {}
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found[int(fd)] = self.link(f"fd/{fd}")
        return found

    def closes_on_exec(self, fd):
        for line in self.read(f"fdinfo/{fd}").splitlines():
            if line.startswith("flags:"):
                return bool(int(line.split()[1], 8) & CLOSE_ON_EXEC)
        raise KeyError(fd)

    def limit(self, name):
        """A soft limit, as text."""
        for line in self.read("limits").splitlines():
            if line.startswith(name):
                return line[len(name):].split()[0]
        raise KeyError(name)

    @property
    def environment(self):
        return dict(one.partition("=")[::2]
                    for one in self.read("environ").split("\0") if one)

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def stop(self):
        """Freeze it, and return when it is."""
        self.kill(signal.SIGSTOP)
        netns.wait_until(lambda: self.status("State").startswith("T"),
                         f"process {self.pid} has stopped")

    def go_on(self):
        self.kill(signal.SIGCONT)


def family(guard):
    """{"worker": the watcher's process, "keeper": the one above it}."""
    worker = Process(guard.watcher["pid"])
    return {"worker": worker, "keeper": worker.parent}
