"""Other people's firewalls on the guarded host."""

import contextlib
import os
import pathlib
import shutil

import netns
from labnet import RESOLVERS

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "build/tools"
PYTHON = "/usr/bin/python3"

# What a distribution has in /etc/nftables.conf.
NFTABLES_CONF = """#!/usr/sbin/nft -f

flush ruleset

table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iif lo accept
    }
    chain forward {
        type filter hook forward priority filter;
    }
    chain output {
        type filter hook output priority filter;
        accept
    }
}
"""

# What iptables-save has written once, restored at boot.
IPTABLES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A OUTPUT -p udp -m udp --dport 53 -j ACCEPT
-A FORWARD -p udp -m udp --dport 53 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
"""

# A container engine's: its bridge, published ports, and a resolver of its own
# at 127.0.0.11 that is in truth somewhere else.
DOCKER = f"""*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER -i docker0 -j RETURN
-A DOCKER_OUTPUT -p udp -m udp --dport 53 -j DNAT --to-destination {RESOLVERS["public"].v4}:53
-A DOCKER_OUTPUT -p tcp -m tcp --dport 53 -j DNAT --to-destination {RESOLVERS["public"].v4}:53
COMMIT
"""


class IptablesRestore:
    """Restored at boot, and again whenever an administrator likes."""

    mark = "table ip filter"

    def __init__(self, lab):
        self.namespace = lab.host

    def start(self):
        self.namespace.run(["iptables-nft-restore"], stdin=IPTABLES)
        self.namespace.run(["ip6tables-nft-restore"],
                           stdin=IPTABLES.replace("icmp-", "icmp6-"))

    def reload(self):
        self.start()

    def stop(self):
        for command in ("iptables-nft", "ip6tables-nft"):
            for table in ("filter", "nat"):
                self.namespace.run([command, "-t", table, "-F"])
                self.namespace.run([command, "-t", table, "-X"])


class Docker(IptablesRestore):
    """The chains of a container engine that comes and goes."""

    mark = "chain DOCKER_OUTPUT"

    def start(self):
        super().start()
        self.namespace.run(["iptables-nft-restore", "--noflush"],
                           stdin=DOCKER)


class Ufw:
    """ufw(8), with files of its own."""

    mark = "chain ufw-user-output"

    def __init__(self, lab):
        self.namespace, self.root = lab.host, f"{lab.dir}/ufw"
        for part in ("etc/ufw", "lib/ufw", "usr/share/ufw"):
            shutil.copytree(TOOLS / part, f"{self.root}/{part}",
                            dirs_exist_ok=True)
        share = pathlib.Path(self.root, "usr/share/ufw")
        for source in (*share.glob("iptables/*.rules"), share / "ufw.conf"):
            shutil.copy(source, f"{self.root}/etc/ufw")
        # It would switch the lab's reverse path filters on.
        os.makedirs(f"{self.root}/etc/default", exist_ok=True)
        defaults = (TOOLS / "etc/default/ufw").read_text(encoding="utf-8")
        with open(f"{self.root}/etc/default/ufw", "w",
                  encoding="utf-8") as file:
            file.write(defaults + "\nIPT_SYSCTL=\n")

    def _run(self, *words):
        self.namespace.run(
            [PYTHON, TOOLS / "usr/sbin/ufw", f"--rootdir={self.root}",
             f"--datadir={self.root}", *words], timeout=60, env=python_env(
                 PYTHONPATH=TOOLS / "usr/lib/python3/dist-packages"))

    def start(self):
        self._run("--force", "enable")

    def reload(self):
        self._run("reload")

    def stop(self):
        self._run("disable")


BUS = """<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class Firewalld:
    """firewalld(1), on a message bus of its own."""

    mark = "table inet firewalld"

    def __init__(self, lab):
        self.namespace, self.dir = lab.host, f"{lab.dir}/firewalld"
        self.bus = self.daemon = None
        # Empty: Debian's file says what the program takes for granted.
        os.makedirs(f"{self.dir}/etc", exist_ok=True)
        os.makedirs("/run/firewalld", exist_ok=True)
        self.env = python_env(
            DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={self.dir}/bus")
        with open(f"{self.dir}/bus.conf", "w", encoding="ascii") as file:
            file.write(BUS.format(path=f"{self.dir}/bus"))

    def _tell(self, word, check=True):
        return self.namespace.run([PYTHON, TOOLS / "usr/bin/firewall-cmd",
                                   word], check=check, timeout=60,
                                  env=self.env)

    def start(self):
        with open(f"{self.dir}/log", "ab") as log:
            quiet = {"stdout": log, "stderr": log, "env": self.env}
            self.bus = self.namespace.popen(
                ["dbus-daemon", f"--config-file={self.dir}/bus.conf",
                 "--nofork", "--nopidfile"], **quiet)
            netns.wait_until(lambda: os.path.exists(f"{self.dir}/bus"),
                             "the message bus")
            self.daemon = self.namespace.popen(
                [PYTHON, TOOLS / "usr/sbin/firewalld", "--nofork", "--nopid",
                 "--log-target", "console", "--system-config",
                 f"{self.dir}/etc", "--default-config",
                 TOOLS / "usr/lib/firewalld"], **quiet)
        netns.wait_until(lambda: self._tell("--state", check=False).rc == 0,
                         f"firewalld runs ({self.dir}/log)", 60, 0.2)

    def reload(self):
        self._tell("--reload")
        self._tell("--complete-reload")

    def stop(self):
        netns.stop(self.daemon, 30)
        netns.stop(self.bus)
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{self.dir}/bus")


FIREWALLS = {"iptables-restore": IptablesRestore, "docker": Docker,
             "ufw": Ufw, "firewalld": Firewalld}


def python_env(**more):
    """For Debian's interpreter; nothing is written beside what it loads."""
    return dict(os.environ, PYTHONDONTWRITEBYTECODE="1",
                **{key: str(value) for key, value in more.items()})
