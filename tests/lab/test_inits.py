"""The scripts for OpenRC and sysvinit, run by the real programs: the guard is
up before any network service starts, and nothing they do opens the host."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

import netns
import supervisors
from clients import dig
from guard import Guard, find_program
from labnet import RESOLVERS

PUBLIC = RESOLVERS["public"].v4
CONFIG, RUN = "/etc/leakguard.conf", "/run/leakguard"
BACK_S = 30
# What a network service does first.
ASK = f"dig +tries=1 +time=1 @{PUBLIC} start.lab.example"


@pytest.fixture
def tree(lab):
    """Nothing in it but the guard's script; /etc is the tree's own."""
    if not (supervisors.UNPACKED / "sbin/openrc-run").exists() \
            or not (supervisors.UNPACKED / "sbin/insserv").exists():
        pytest.skip("no openrc, no insserv: scripts/setup test")
    try:
        made = supervisors.InitTree(lab, lab.host)
    except OSError as error:
        pytest.skip(str(error))
    with made:
        yield made


class Service:
    """The guard as this init system has it."""

    def __init__(self, lab, tree, script):
        self.lab, self.tree = lab, tree
        self.guard = Guard(lab)
        self.guard.run_dir, self.guard.config = RUN, CONFIG
        self.guard.program = f"{lab.dir}/leakguard"
        shutil.copy(find_program(), self.guard.program)
        supervisors.install("early", lab, self.guard.program)
        path = supervisors.install(script, lab, self.guard.program)
        tree.write("leakguard", pathlib.Path(path).read_text())
        self.configure("tunnel = tun0\n")
        self.forget()

    @staticmethod
    def forget():
        """As after a boot, whoever has used these directories before."""
        subprocess.run(["rm", "-rf", RUN, "/run/openrc"], check=True)

    def configure(self, text):
        self.tree.run("sh", "-c", f"printf %s \"$1\" >{CONFIG}", "-", text)

    def is_open(self):
        with self.lab.watch(self.lab.host) as seen:
            label = dig(self.lab.host, PUBLIC).label
        return bool(seen.name_traffic(label))

    def wait_watcher(self, other_than=None):
        def answers():
            watcher = self.guard.watcher
            return watcher and watcher["pid"] != other_than and watcher["held"]
        netns.wait_until(answers, "a watcher answers", BACK_S)
        return self.guard.watcher["pid"]

    def kill(self, pid):
        """By the numbers of the tree's namespace, which leakguard tells."""
        self.tree.run("sh", "-c", f"kill -9 {pid}")

    def end(self):
        self.guard.disable(check=False)
        self.forget()


def replace(guard):
    """As a package manager does it: a new file under the old name."""
    shutil.copy(guard.program, f"{guard.program}.new")
    os.replace(f"{guard.program}.new", guard.program)


def use(service, control):
    """What any init system does to a service, by control(verb)."""
    worker = service.wait_watcher()
    assert not service.is_open()
    control("restart")
    worker = service.wait_watcher(worker)
    replace(service.guard)
    control("restart")
    worker = service.wait_watcher(worker)
    service.kill(worker)
    worker = service.wait_watcher(worker)
    assert not service.is_open()

    service.configure(f"tunnel = tun0\nresolver = {PUBLIC}\n")
    control("reload")
    assert service.is_open()
    service.configure("tunnle = tun0\n")
    control("reload", check=False)
    assert service.is_open()
    service.configure("tunnel = tun0\n")
    control("reload")
    assert not service.is_open()

    control("stop")
    assert service.guard.watcher is None
    assert service.guard.status()["guarded"]
    assert not service.is_open()
    control("start")
    service.wait_watcher()
    service.guard.disable()
    control("restart")
    assert service.is_open(), "only disable opens, and a restart leaves that"
    control("stop")


# --- OpenRC ---

NETWORK = f"""#!/sbin/openrc-run
depend() {{
    provide net
}}
start() {{
    {ASK} || :
}}
"""
LOCALMOUNT = """#!/sbin/openrc-run
start() {
    :
}
"""


@pytest.fixture
def openrc(lab, tree):
    made = Service(lab, tree, "openrc/leakguard")
    tree.write("network", NETWORK)
    tree.write("localmount", LOCALMOUNT)
    tree.run("rc-update", "add", "network", "boot")
    yield made
    made.tree.run("rc-service", "leakguard", "stop", check=False)
    made.end()


def boot(service):
    """The runlevels up to there; what got out meanwhile, and what was said."""
    with service.lab.watch(service.lab.host) as seen:
        service.tree.run("openrc", "sysinit")
        done = service.tree.run("openrc", "boot")
    return seen.name_traffic(), done


@pytest.mark.root
def test_openrc(lab, openrc):
    assert boot(openrc)[0], "control"
    openrc.tree.run("openrc", "shutdown")
    openrc.tree.run("rc-update", "add", "leakguard", "boot")
    seen, done = boot(openrc)
    assert not seen, done
    assert "started" in openrc.tree.run("rc-service", "network",
                                        "status").stdout

    def control(verb, check=True):
        return openrc.tree.run("rc-service", "leakguard", verb, check=check)

    use(openrc, control)


@pytest.mark.root
def test_openrc_keeper_killed(lab, openrc):
    """supervise-daemon starts it again."""
    openrc.tree.run("rc-update", "add", "leakguard", "boot")
    boot(openrc)
    worker = openrc.wait_watcher()
    openrc.kill(pathlib.Path(RUN, "watch.pid").read_text().strip())
    openrc.wait_watcher(worker)
    assert not openrc.is_open()


@pytest.mark.root
def test_openrc_broken(lab, openrc):
    openrc.tree.run("rc-update", "add", "leakguard", "boot")
    openrc.configure("tunnle = tun0\n")
    seen, done = boot(openrc)
    assert not seen
    assert "guarded all the same" in done.stdout
    assert "not as configured" in done.stdout
    openrc.wait_watcher()
    assert not openrc.is_open()


# --- sysvinit ---

def lsb(name, after, command=":"):
    return f"""#!/bin/sh
### BEGIN INIT INFO
# Provides:          {name}
# Required-Start:    {after}
# Required-Stop:
# Default-Start:     S
# Default-Stop:
# Short-Description: {name}
### END INIT INFO
[ "$1" != start ] || {command} || :
"""


@pytest.fixture
def sysvinit(lab, tree):
    """With those that Debian's early boot has, by their names and orders."""
    made = Service(lab, tree, "sysvinit/leakguard")
    tree.write("mountkernfs.sh", lsb("mountkernfs", ""))
    tree.write("mountall.sh", lsb("mountall", "mountkernfs"))
    tree.write("networking", lsb("networking", "mountkernfs $local_fs", ASK))
    tree.write("zz-early", lsb("zz-early", "$network"))
    yield made
    made.tree.run("/etc/init.d/leakguard", "stop", check=False)
    made.end()


def order(service):
    """The names in /etc/rcS.d as insserv puts them, which is how they start."""
    service.tree.run("sh", "-c", "cd /etc/init.d && insserv *")
    listed = service.tree.run("sh", "-c", "ls /etc/rcS.d /etc/rc?.d").stdout
    assert "K" not in [line[0] for line in listed.split()
                       if line.endswith("leakguard")]
    return [name[3:] for name in
            service.tree.run("ls", "/etc/rcS.d").stdout.split()]


def start_all(service):
    """As /etc/init.d/rcS does."""
    with service.lab.watch(service.lab.host) as seen:
        done = service.tree.run(
            "sh", "-c", "for one in /etc/rcS.d/S*; do $one start; done")
    return seen.name_traffic(), done


@pytest.mark.root
def test_sysvinit(lab, sysvinit):
    sysvinit.tree.run("mv", "/etc/init.d/leakguard", "/etc/leakguard.init")
    order(sysvinit)
    assert start_all(sysvinit)[0], "control"
    sysvinit.tree.run("mv", "/etc/leakguard.init", "/etc/init.d/leakguard")
    names = order(sysvinit)
    assert names.index("mountall.sh") < names.index("leakguard") \
        < names.index("networking")
    # And where they are started side by side.
    depends = sysvinit.tree.run("cat", "/etc/init.d/.depend.boot").stdout
    assert re.search("^networking:.* leakguard", depends, re.M), depends
    seen, done = start_all(sysvinit)
    assert not seen, done

    def control(verb, check=True):
        return sysvinit.tree.run("/etc/init.d/leakguard", verb, check=check)

    assert control("start").rc == 0, "a second time"
    use(sysvinit, control)
    assert control("status", check=False).rc == 3


@pytest.mark.root
def test_sysvinit_broken(lab, sysvinit):
    order(sysvinit)
    sysvinit.configure("tunnle = tun0\n")
    seen, done = start_all(sysvinit)
    assert not seen
    assert "guarded all the same" in done.stdout
    sysvinit.wait_watcher()
    assert sysvinit.tree.run("/etc/init.d/leakguard", "start",
                             check=False).rc == 1
    assert not sysvinit.is_open()
