"""Systems that a guarded host is part of: stub resolvers, DHCP, containers."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess

import labnet
import netns
from capture import Capture, send_sentinels
from resolvers import SlowResolver

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "build/tools"
STUB = "127.0.0.53"
READY_S = 10

# The namespace "box": what container engines set up on a host.
BOX = labnet.Addresses("172.20.0.2", "fd20::2")
BOX_GATEWAY = labnet.Addresses("172.20.0.1", "fd20::1")
BOX_MASQUERADE = """
table inet lab_box {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname != "br0" ip saddr 172.20.0.0/24 masquerade
        oifname != "br0" ip6 saddr fd20::/64 masquerade
    }
}
"""

UDHCPC_SCRIPT = """#!/bin/sh
# What a distribution's script does, as far as it concerns name queries.
event=$1
if [ "$event" = bound ]; then
    ip address add "$ip/$mask" dev "$interface"
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        ip route add "$1" via "$2" dev "$interface"
        shift 2
    done
fi
echo "$event $ip $dns" >>{log}
"""


class Daemon:
    """A program in a namespace that listens on UDP and TCP port 53."""

    def __init__(self, namespace, args, log):
        self.namespace = namespace
        with open(log, "ab") as file:
            self.process = namespace.popen(args, stdout=file, stderr=file)
        self.log = log

    def wait_for_port(self, address, port=53):
        def accepts():
            if self.process.poll() is not None:
                text = pathlib.Path(self.log).read_text(errors="replace")
                raise netns.CommandError(f"{self.log}: ended: {text[-400:]}")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.namespace.inside(), socket.socket(family) as sock:
                return sock.connect_ex((address, port)) == 0
        netns.wait_until(accepts, f"{self.log} listens on {address}", READY_S)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        netns.stop(self.process)


def dnsmasq(lab, namespace, *options):
    """dnsmasq without any configuration but these options. --no-daemon: it
    stays who it is, which the root of a user namespace cannot change."""
    return Daemon(namespace, [
        "dnsmasq", "--no-daemon", "--conf-file=/dev/null", *options],
        f"{lab.dir}/dnsmasq-{namespace.name}.log")


def dnsmasq_forwarder(lab, namespace, listen, servers):
    """Forwards what it is asked at `listen` to `servers`, caching nothing."""
    return dnsmasq(
        lab, namespace, "--bind-interfaces", "--no-resolv", "--no-hosts",
        "--cache-size=0", "--all-servers",
        *(f"--listen-address={address}" for address in listen),
        *(f"--server={server}" for server in servers)
    ).wait_for_port(listen[0])


def find_resolved():
    """systemd-resolved as scripts/setup unpacked it; None without."""
    for folder in ("lib/systemd", "usr/lib/systemd"):
        path = TOOLS / folder / "systemd-resolved"
        if path.exists():
            return path
    return shutil.which("systemd-resolved", path="/lib/systemd")


def resolved(lab, servers, *more):
    """The real systemd-resolved, without systemd and D-Bus: it waits for the
    bus, and serves the stub address meanwhile. /etc and /run are the lab's
    own copies (tests/lab/run)."""
    for path, line in (("/etc/passwd", "systemd-resolve:x:987:987::/:/\n"),
                       ("/etc/group", "systemd-resolve:x:987:\n")):
        text = pathlib.Path(path).read_text(encoding="utf-8")
        if "systemd-resolve:" not in text:
            pathlib.Path(path).write_text(text + line, encoding="utf-8")
    os.makedirs("/run/systemd", exist_ok=True)
    os.makedirs("/etc/systemd", exist_ok=True)
    settings = [f"DNS={' '.join(servers)}", "FallbackDNS=", "Cache=no",
                "DNSSEC=no", "LLMNR=no", "MulticastDNS=no", *more]
    pathlib.Path("/etc/systemd/resolved.conf").write_text(
        "[Resolve]\n" + "\n".join(settings) + "\n", encoding="ascii")
    return Daemon(lab.host, [find_resolved()],
                  f"{lab.dir}/resolved.log").wait_for_port(STUB)


def resolved_stub(lab, servers):
    return resolved(lab, servers)


def dnsmasq_stub(lab, servers):
    """In place of systemd-resolved, at the same address."""
    return dnsmasq_forwarder(lab, lab.host, [STUB], servers)


class Box:
    """A container-like namespace: bridge, veth pair, masquerading."""

    def __init__(self, lab):
        self.lab = lab
        self.namespace = netns.Namespace("box")
        host = lab.host
        netns.ip("link add boxhost netns host type veth "
                 "peer name eth0 netns box")
        host.ip("link add br0 type bridge", "link set boxhost master br0",
                "link set boxhost up")
        # As elsewhere in the lab: usable at once.
        self.namespace.sysctl(net__ipv6__conf__all__accept_dad=0,
                              net__ipv6__conf__default__accept_dad=0)
        labnet.add_addresses(host, "br0", f"{BOX_GATEWAY.v4}/24",
                             f"{BOX_GATEWAY.v6}/64")
        labnet.add_addresses(self.namespace, "eth0", f"{BOX.v4}/24",
                             f"{BOX.v6}/64")
        self.namespace.ip(f"route add default via {BOX_GATEWAY.v4}",
                          f"route add ::/0 via {BOX_GATEWAY.v6}")
        host.nft(BOX_MASQUERADE)
        for address in labnet.RESOLVERS["approved"]:
            netns.wait_until(
                lambda a=address: labnet.can_reach(self.namespace, a),
                f"box reaches {address}")

    def close(self):
        self.lab.host.nft("delete table inet lab_box")
        self.lab.host.ip("link del boxhost", "link del br0")
        self.namespace.delete()


class DhcpClient:
    """udhcpc on a link of the host; `events` are its script's calls."""

    def __init__(self, lab, link="wan0"):
        self.lab, self.link = lab, link
        self.log = pathlib.Path(lab.dir, "udhcpc.events")
        self.log.write_text("", encoding="ascii")
        script = pathlib.Path(lab.dir, "udhcpc.script")
        script.write_text(UDHCPC_SCRIPT.format(log=self.log),
                          encoding="ascii")
        script.chmod(0o755)
        self.process = lab.host.popen(
            ["udhcpc", "-f", "-i", link, "-s", script, "-t", "5", "-T", "1",
             "-O", "staticroutes"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def events(self):
        """[(event, address, name servers)]"""
        lines = self.log.read_text(encoding="ascii").splitlines()
        return [(words[0], words[1] if len(words) > 1 else None, words[2:])
                for words in (line.split() for line in lines)]

    def wait_for(self, event):
        def found():
            return [e for e in self.events() if e[0] == event]
        return netns.wait_until(found, f"udhcpc: {event}", READY_S)[-1]

    def stop(self):
        netns.stop(self.process)
        for _, address, _ in self.events():
            if address:
                self.lab.host.run(["ip", "address", "flush", "to", address,
                                   "dev", self.link], check=False)


class RogueNetwork:
    """A network that the host joins by its link wifi0, and whose owner wants
    its queries: a DHCP server that leads `resolver` there, and its double."""

    link = "wifi0"

    def __init__(self, lab, gateway, resolver):
        self.lab, self.gateway = lab, gateway
        self.namespace = netns.Namespace("rogue")
        netns.ip(f"link add {self.link} netns host type veth "
                 "peer name eth0 netns rogue")
        labnet.add_addresses(self.namespace, "eth0", f"{gateway}/24")
        labnet.add_addresses(self.namespace, "lo", resolver)
        lab.host.ip(f"link set {self.link} up")
        self.forger = SlowResolver(self.namespace, resolver, 0, tag="forged")
        self.server = self.client = None

    def join(self, *routes):
        """The host takes a lease, and with it routes (option 121, RFC 3442)."""
        network = self.gateway.rpartition(".")[0]
        words = ",".join(f"{route},{self.gateway}" for route in routes)
        option = [f"--dhcp-option=121,{words}"] if routes else []
        self.server = dnsmasq(
            self.lab, self.namespace, "--port=0", "--interface=eth0",
            f"--dhcp-range={network}.100,{network}.150,2m", "--no-ping",
            "--dhcp-authoritative", "--dhcp-option=option:router",
            f"--dhcp-leasefile={self.lab.dir}/leases-rogue", *option)
        self.client = DhcpClient(self.lab, self.link)
        self.client.wait_for("bound")
        netns.wait_until(
            lambda: labnet.can_reach(self.lab.host, self.gateway, self.link),
            "the host reaches the rogue network")

    @contextlib.contextmanager
    def watch(self):
        """A capture of what comes from the host, complete when left."""
        with Capture(self.namespace, "eth0") as capture:
            yield capture
            capture.wait_for(send_sentinels(self.lab.host, self.gateway,
                                            self.link))

    def close(self):
        if self.client:
            self.client.stop()
        if self.server:
            netns.stop(self.server.process)
        self.forger.stop()
        self.lab.host.ip(f"link del {self.link}")
        self.namespace.delete()
