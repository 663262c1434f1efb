"""leakguard monitor --json at work: what it has said, as objects."""

import json
import os
import re
import signal
import subprocess
import time

import netns

GROUP = 5
LOGGING = f"log-group = {GROUP}\nlog-rate = 10000\n"


def listener(namespace, group=GROUP):
    """The port of who listens to a group of nflog, or None."""
    with namespace.inside(), open("/proc/thread-self/net/netfilter/"
                                  "nfnetlink_log", encoding="ascii") as file:
        found = re.search(rf"^\s*{group}\s+(\d+)", file.read(), re.M)
    return int(found[1]) if found else None


class Monitor:
    """Listening once made; stopped when left."""

    def __init__(self, guard, *options, group=GROUP, env=None, json_too=True):
        self.guard, self.data = guard, b""
        modes = ["--json"] if json_too else []
        self.process = guard.namespace.popen(
            guard.command("monitor", *modes, *options), env=env,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)
        netns.wait_until(lambda: listener(guard.namespace, group)
                         or self.process.poll() is not None,
                         "monitor listens")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        netns.stop(self.process)
        self.process.stdout.close()
        self.process.stderr.close()

    @property
    def pid(self):
        return self.process.pid

    def text(self):
        """All that it has written so far."""
        while chunk := self.process.stdout.read():
            self.data += chunk
        return self.data.decode("ascii")

    def events(self):
        """Of whole lines; each must be an object."""
        return [json.loads(line) for line in
                self.text().rpartition("\n")[0].splitlines()]

    def blocked(self):
        return [one for one in self.events() if one["event"] == "blocked"]

    def wait(self, condition, what):
        """The first blocked packet of which this is true."""
        return netns.wait_until(
            lambda: next(filter(condition, self.blocked()), None), what)

    def wait_name(self, label):
        return self.wait(lambda one: label in (one["name"] or ""),
                         f"monitor shows {label}")

    def finish(self, number=signal.SIGTERM, patience=10):
        """End it; all events, and its exit status."""
        self.process.send_signal(number)
        deadline = time.monotonic() + patience
        while self.process.poll() is None and time.monotonic() < deadline:
            self.text()  # it may have more to say than a pipe holds
            time.sleep(0.01)
        return self.events(), self.process.wait(1)

    def not_shown(self):
        return sum(one["packets"] for one in self.events()
                   if one["event"] == "not_shown")
