"""strongSwan at both ends of a tunnel, with ESP in user space.

Its plug-in kernel-libipsec needs nothing of the kernel but a tun device, ipsec0,
which lives as long as charon.
"""

import os
import pathlib
import subprocess

import labnet
import netns
from resolvers import find_tool

LINK = "ipsec0"
# The gateway wants an address of its own in each. Not all of the world: what the
# lab sends to tell the end of a capture would go into the tunnel as well.
NETWORKS = ("10.64.0.0/16", "fd64::/16")
MARK = "0x42"  # what charon itself sends goes past its own routes
PLUGINS = ("random nonce openssl pem pkcs1 x509 pubkey kdf hmac socket-default "
           "kernel-libipsec kernel-netlink vici updown resolve").split()

# Compiled in is the plug-ins' place alone; all else is named here.
DAEMON = """
charon {{
    load_modular = yes
    retransmit_timeout = 0.5
    retransmit_tries = 2
    delete_rekeyed_delay = 1
    {settings}
    plugins {{
        {load}
        vici {{
            socket = unix://{directory}/vici
        }}
        kernel-netlink {{
            fwmark = !{mark}
        }}
        socket-default {{
            fwmark = {mark}
        }}
        resolve {{
            file = {directory}/resolv.conf
        }}
    }}
    filelog {{
        log {{
            path = {directory}/log
            flush_line = yes
        }}
    }}
}}
{more}
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

    def __init__(self, lab, namespace):
        self.namespace = namespace
        self.directory = pathlib.Path(f"{lab.dir}/charon-{namespace.name}")
        self.directory.mkdir(exist_ok=True)
        self.env = dict(os.environ,
                        STRONGSWAN_CONF=str(self.directory / "strongswan.conf"))
        self.process = None

    def start(self, connections, settings="", more=""):
        """SETTINGS of charon, and MORE files of strongswan.d."""
        for name in ("vici", "log"):
            (self.directory / name).unlink(missing_ok=True)
        (self.directory / "strongswan.conf").write_text(DAEMON.format(
            directory=self.directory, mark=MARK, settings=settings, more=more,
            load="\n".join(f"{name} {{\n load = yes\n}}" for name in PLUGINS)),
            encoding="ascii")
        self.process = self.namespace.popen(
            [find_tool("charon-systemd")], env=self.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        netns.wait_until(
            lambda: self.swanctl("--stats", check=False).rc == 0,
            "charon listens", 20, 0.1)
        self.load(connections)

    def load(self, connections):
        path = self.directory / "swanctl.conf"
        path.write_text(connections + SECRETS, encoding="utf-8")
        self.swanctl("--load-all", "--file", path)

    def swanctl(self, *args, check=True, timeout=20):
        return self.namespace.run(
            ["swanctl", *args, "--uri", f"unix://{self.directory}/vici"],
            env=self.env, check=check, timeout=timeout)

    @property
    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self):
        if self.process:
            netns.stop(self.process, 10)

    def kill(self):
        netns.kill(self.process)


def server(dns, pools=labnet.TUNNEL_HOST):
    """A gateway that hands out one address and one resolver by family."""
    return f"""
connections {{
    gateway {{
        version = 2
        local_addrs = {labnet.VPN_ENDPOINT.v4}
        pools = v4, v6
        local {{
            auth = psk
            id = vpn.lab.example
        }}
        remote {{
            auth = psk
        }}
        children {{
            net {{
                local_ts = 0.0.0.0/0, ::/0
            }}
        }}
    }}
}}
pools {{
    v4 {{
        addrs = {pools.v4}/32
        dns = {dns.v4}
    }}
    v6 {{
        addrs = {pools.v6}/128
        dns = {dns.v6}
    }}
}}
"""


def client(updown, identity="client.lab.example", children=None):
    """UPDOWN: the line for each child; CHILDREN: {name: what is behind them}."""
    children = children or {"net": ", ".join(NETWORKS)}
    text = "".join(f"""
            {name} {{
                remote_ts = {networks}
                {updown}
                dpd_action = clear
                start_action = none
            }}""" for name, networks in children.items())
    return f"""
connections {{
    vpn {{
        version = 2
        remote_addrs = {labnet.VPN_ENDPOINT.v4}
        vips = 0.0.0.0, ::
        dpd_delay = 1
        local {{
            auth = psk
            id = "{identity}"
        }}
        remote {{
            auth = psk
            id = vpn.lab.example
        }}
        children {{{text}
        }}
    }}
}}
"""
