"""A router that is not one: the package's files in a tree of their own, below
busybox, the program and stand-ins for OpenWrt's functions (README.md)."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import netns
from guard import REPOSITORY, Guard, find_program
from probes import Probe, fire

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = REPOSITORY / "scripts/packaging/openwrt/leakguard"
WATCHER = "instance1"  # it has no name
BUSYBOX = REPOSITORY / "build/tools/kernels/busybox-static/bin/busybox"
ENVIRONMENT = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
# /sys is the network namespace's own there.
ENTER = """
mount --bind /sys "$1/sys" && root=$1 && shift && exec chroot "$root" "$@"
"""
PROBES = [Probe(origin, "routed", family, port, "udp", "public")
          for origin in ("host", "lan") for family in (4, 6)
          for port in (53, 853)]
NETWORK = """
config interface 'loopback'
\toption device 'lo'
\toption proto 'static'

config interface 'lan'
\toption device 'lan0'
\toption proto 'static'

config interface 'wan'
\toption device 'wan0'
\toption proto 'dhcp'

config interface 'vpn'
\toption device 'tun0'
\toption proto 'none'
"""


def is_open(lab):
    """Whether name traffic goes anywhere; it must be all or nothing."""
    seen = {outcome.seen for outcome in fire(lab, PROBES)}
    assert len(seen) == 1, "some get out"
    return seen.pop()


def install(out, variant="full", program=None, package=PACKAGE):
    """Run the package's Makefile below the stand-in for OpenWrt's; the tree
    that it installs. Whatever make started the tests had its own variables."""
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD")}
    subprocess.run(
        ["make", "-s", "-C", package, f"TOPDIR={HERE}/standin/sdk",
         f"OUT={out}", f"BUILD_VARIANT={variant}",
         *([f"PROGRAM={program}"] if program else [])],
        check=True, capture_output=True, timeout=300, env=environment)
    return pathlib.Path(out, "leakguard" if variant == "full" else
                        f"leakguard-{variant}")


def make_router(lab):
    """One for all tests; skips or fails where something is missing."""
    if not os.access(BUSYBOX, os.X_OK):
        pytest.skip("no busybox-static: scripts/setup kernels")
    if not os.access(find_program(), os.X_OK):
        pytest.fail(f"{find_program()}: not built (make), or set LEAKGUARD")
    return Router(lab)


class Router:
    """In the lab's host. boot() comes first."""

    def __init__(self, lab):
        self.lab, self.host = lab, lab.host
        self.root = pathlib.Path(lab.dir, "router")
        self.guard = Guard(lab)
        self.running = {}  # instance -> (command, process)
        self._make_tree()

    def _make_tree(self):
        root = self.root
        for name in ("bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys",
                     "dev", "tmp", "etc/rc.d", "etc/config", "root"):
            (root / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for applet in subprocess.run(
                [BUSYBOX, "--list"], check=True, text=True,
                capture_output=True).stdout.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        # As OpenWrt has it; the program is built for /run, which it has not.
        (root / "var").symlink_to("tmp")
        (root / "run").symlink_to("var/run")
        for source in (HERE / "standin/root",
                       install(f"{self.lab.dir}/sdk", program=find_program())):
            shutil.copytree(source, root, symlinks=True, dirs_exist_ok=True)
        listed = subprocess.run(["ldd", find_program()], check=True, text=True,
                                capture_output=True).stdout
        for library in re.findall(r"/[^ )]+", listed):
            path = root / library[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, path)
        (root / "etc/rc.d/S14leakguard").symlink_to("../init.d/leakguard")
        for name in ("proc", "dev"):
            subprocess.run(["mount", "--bind", f"/{name}", root / name],
                           check=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root / "tmp"],
                       check=True)
        # What leakguard has in there, seen from outside.
        self.guard.run_dir = str(root / "tmp/run/leakguard")
        self.guard.config = str(root / "etc/leakguard.conf")
        self.shipped = self.config.read_text()

    @property
    def config(self):
        return self.root / "etc/config/leakguard"

    @property
    def networks(self):
        return self.root / "etc/config/network"

    def command(self, args):
        return ["sh", "-c", ENTER, "-", self.root, *ENVIRONMENT, *args]

    def run(self, *args, check=True, **kwargs):
        return self.host.run(self.command(args), check=check, **kwargs)

    def popen(self, *args, **kwargs):
        return self.host.popen(self.command(args), **kwargs)

    def ash(self, script, *args, check=True):
        """A script with the package's functions at hand."""
        return self.run("sh", "-c", ". /lib/functions.sh\n"
                        ". /lib/functions/procd.sh\n"
                        f". /usr/lib/leakguard/uci.sh\n{script}", "-", *args,
                        check=check)

    def configure(self, *lines, enabled="1", network=""):
        """UCI's file: these lines in its main section."""
        text = "".join(f"\t{line}\n" for line in lines)
        if enabled is not None:
            text = f"\toption enabled '{enabled}'\n{text}"
        self.config.write_text(f"config leakguard 'main'\n{text}\n{network}")

    @contextlib.contextmanager
    def as_shipped(self):
        """Off before and after, with the configuration that is shipped."""
        self.power_off()
        self.config.write_text(self.shipped)
        self.networks.write_text(NETWORK)
        yield self
        self.power_off()

    def power_off(self):
        """Nothing that runs or is in memory is left."""
        for process in self.host.processes:
            netns.stop(process)
        self.running.clear()
        self.host.processes.clear()
        self.guard.disable(check=False)
        for path in (self.root / "tmp").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def boot(self, settle=True):
        """/etc/init.d/boot has made what is there before S14."""
        for name in ("run", "lock", "log"):
            (self.root / "tmp" / name).mkdir(exist_ok=True)
        done = self.init("boot", script="/etc/rc.d/S14leakguard")
        if settle:
            self.settle()
        return done

    def init(self, verb, check=True, script="/etc/init.d/leakguard"):
        return self.run(script, verb, check=check)

    def reload(self):
        """What a trigger of procd's does."""
        self.init("reload")
        self.settle()

    def settle(self):
        """procd's part: what was written down runs, and nothing else. What was
        written of the watcher, and of the service."""
        written, instances = self._written()
        for name, (command, process) in [*self.running.items()]:
            if process.poll() is not None or \
                    command != instances.get(name, {}).get("command"):
                netns.stop(process)
                del self.running[name]
        for name, params in instances.items():
            if name not in self.running:
                command = params["command"]
                self.running[name] = command, self.popen(
                    *command, stderr=subprocess.DEVNULL)
        if WATCHER in self.running:
            netns.wait_until(lambda: self.guard.watcher or
                             self.watcher.poll() is not None, "a watcher")
        return {**written, **instances.get(WATCHER, {})}

    def _written(self):
        """Of the service, and {instance: parameters}."""
        path = self.root / "tmp/procd/leakguard"
        written, instances = {}, {}
        into = written
        for line in path.read_text().splitlines() if path.exists() else []:
            key, *values = line.split("\t")
            if key == "instance":
                into = instances[values[0]] = {}
            elif key == "close":
                into = written
            else:
                into[key] = values
        return written, instances

    @property
    def instances(self):
        """{name: parameters} of what is to run."""
        return self._written()[1]

    @property
    def watcher(self):
        """Its process, if it is to run."""
        return self.running.get(WATCHER, (None, None))[1]

    def log(self):
        path = self.root / "tmp/log/messages"
        return path.read_text() if path.exists() else ""

    def conf(self):
        return (self.root / "tmp/etc/leakguard.conf").read_text()

    def netifd(self, network, **says):
        path = self.root / "tmp/netifd"
        path.mkdir(exist_ok=True)
        (path / network).write_text(
            "".join(f"{key} {value}\n" for key, value in says.items()))

    def hotplug(self, action, interface, device=""):
        """As hotplug-call does, which sources what is in the directory."""
        return self.run("env", f"ACTION={action}", f"INTERFACE={interface}",
                        f"DEVICE={device}", "sh", "-c",
                        "for script in /etc/hotplug.d/iface/*; do"
                        " (. $script); done", check=False)

    def rpcd(self, *args, stdin="", check=True):
        return self.run("/usr/libexec/rpcd/leakguard", *args, stdin=stdin,
                        check=check)


def has_key(key):
    """Whether the program knows it."""
    done = subprocess.run([find_program(), "enable", "-h"], check=True,
                          text=True, capture_output=True)
    return f"--{key} " in done.stdout
