"""strongSwan at both ends of a tunnel, with ESP in user space.

Its plug-in kernel-libipsec needs nothing of the kernel but a tun device, ipsec0.
"""

import os
import pathlib
import re
import signal
import subprocess

import labnet
import netns
from resolvers import find_tool

LINK = "ipsec0"
MARK = "0x42"  # what charon sends itself goes past its own routes

# Compiled in are the plug-ins' place alone; all else is named here.
DAEMON = """
charon {{
    load = random nonce openssl pem pkcs1 x509 pubkey kdf hmac socket-default \
kernel-libipsec kernel-netlink vici updown attr {plugins}
    piddir = {directory}
    retransmit_timeout = 1
    retransmit_tries = 2
    delete_rekeyed_delay = 1
    {settings}
    plugins {{
        vici {{
            socket = unix://{directory}/vici
        }}
        kernel-netlink {{
            fwmark = !{mark}
        }}
        socket-default {{
            fwmark = {mark}
        }}
        updown {{
            dns_handler = yes
        }}
    }}
    filelog {{
        log {{
            path = {directory}/log
            flush_line = yes
            default = 1
        }}
    }}
}}
"""
SECRETS = """
secrets {
    ike-lab {
        secret = lab
    }
}
"""


class Daemon:
    """A charon in a namespace."""

    def __init__(self, lab, namespace, settings="", plugins=""):
        self.namespace = namespace
        self.directory = pathlib.Path(f"{lab.dir}/charon-{namespace.name}")
        self.directory.mkdir(exist_ok=True)
        self.settings, self.plugins = settings, plugins
        self.process = None

    def start(self, configuration):
        for name in ("vici", "log"):
            (self.directory / name).unlink(missing_ok=True)
        conf = self.directory / "strongswan.conf"
        conf.write_text(DAEMON.format(
            directory=self.directory, mark=MARK, settings=self.settings,
            plugins=self.plugins), encoding="ascii")
        (self.directory / "swanctl.conf").write_text(
            configuration + SECRETS, encoding="utf-8")
        self.process = self.namespace.popen(
            [find_tool("charon-systemd")],
            env=dict(os.environ, STRONGSWAN_CONF=str(conf)),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        netns.wait_until((self.directory / "vici").exists, "charon listens", 20)
        self.swanctl("--load-all", "--file", self.directory / "swanctl.conf")

    def swanctl(self, *args, check=True, timeout=20):
        return self.namespace.run(
            ["swanctl", *args, "--uri", f"unix://{self.directory}/vici"],
            env=dict(os.environ,
                     STRONGSWAN_CONF=str(self.directory / "strongswan.conf")),
            check=check, timeout=timeout)

    @property
    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self):
        if self.process:
            netns.stop(self.process, 10)

    def kill(self):
        netns.kill(self.process)
