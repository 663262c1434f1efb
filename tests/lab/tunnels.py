"""Tunnels between the guarded host and the VPN's far side.

Three kinds with one interface: OpenVPN over tun, wireguard-go (user space;
not every kernel has WireGuard), and a veth named like a tunnel, for speed.

    up()      the client connects, routes lead into it, it carries packets
    down()    an orderly end
    kill()    the client dies by SIGKILL (veth: its link goes down)
    remake()  a new one of the same name after either
"""

import errno
import os
import pathlib
import re
import socket
import subprocess

import labnet
import netns
from capture import send_sentinels
from resolvers import find_tool, make_certificate

# Halves of the address space beat the default route without replacing it.
FULL_TUNNEL = ("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")
WIREGUARD_PORT = 51820
# What sending into a tunnel meets that is down, or has no such name.
GONE = (errno.ENETUNREACH, errno.ENETDOWN, errno.ENODEV)
WIREGUARD_REDIRECT = """
table ip lab_carrier {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "wan0" udp dport {port} redirect to :51820
    }}
}}
"""


class Tunnel:
    """What the kinds share: addresses, routes, waiting."""

    link = "tun0"       # its name on the host
    far_link = "tunfar"  # its name at the VPN
    carrier_port, carrier_proto = None, "udp"

    def __init__(self, lab, full=True):
        self.lab, self.full = lab, full

    @property
    def endpoint(self):
        """As leakguard's --endpoint wants it; None without a carrier."""
        if self.carrier_port is None:
            return None
        address = labnet.VPN_ENDPOINT.v4
        return f"{address}:{self.carrier_port}/{self.carrier_proto}"

    def up(self, timeout=20):
        self._start()
        self._route()
        for address in labnet.TUNNEL_FAR:
            netns.wait_until(lambda a=address: self.carries(a),
                             f"{self.link} carries to {address}", timeout)
        return self

    def down(self):
        self._stop()
        self._wait_gone()

    def kill(self):
        self._kill()
        self._wait_gone()

    def remake(self):
        self.remove()
        return self.up()

    def remove(self):
        """Whatever state it is in: nothing of it is left."""
        if self.exists():
            self.down()

    def carries(self, address):
        return labnet.can_reach(self.lab.host, address, self.link, timeout=0.5)

    def capture(self, **options):
        """What came out of the tunnel, seen at the VPN."""
        return labnet.Capture(self.lab.vpn, self.far_link, **options)

    def barrier(self, capture):
        """Return once all that was sent into it before is in its capture:
        a program may be slow. Nothing is on its way where it is gone."""
        tokens = []
        try:
            for address in labnet.TUNNEL_FAR:
                tokens += send_sentinels(self.lab.host, address, self.link)
        except OSError as error:
            if error.errno not in GONE:
                raise
        capture.wait_for(tokens)

    def exists(self):
        with self.lab.host.inside():
            return self.link in (name for _, name in socket.if_nameindex())

    def _wait_gone(self):
        netns.wait_until(lambda: not self.exists(), f"{self.link} has gone")

    def _addresses(self):
        """Both ends' addresses, where the program does not set them."""
        labnet.add_addresses(self.lab.host, self.link,
                             f"{labnet.TUNNEL_HOST.v4}/24",
                             f"{labnet.TUNNEL_HOST.v6}/64")
        labnet.add_addresses(self.lab.vpn, self.far_link,
                             f"{labnet.TUNNEL_FAR.v4}/24",
                             f"{labnet.TUNNEL_FAR.v6}/64")

    def _route(self):
        host, far = labnet.TUNNEL_HOST, labnet.TUNNEL_FAR
        inside = labnet.RESOLVERS["inside"]
        wanted = [(far, host, prefix) for prefix in
                  (FULL_TUNNEL if self.full else inside)]
        self.lab.host.ip(*(
            f"route replace {prefix} via {_by_family(via, prefix)} "
            f"dev {self.link} src {_by_family(source, prefix)}"
            for via, source, prefix in wanted))
        self.lab.vpn.ip(*(
            f"route replace {prefix} via {_by_family(host, prefix)} "
            f"dev {self.far_link}" for prefix in labnet.LAN_PREFIX))


class VethTunnel(Tunnel):
    """No program and no carrier: packets go straight to the VPN."""

    def _start(self):
        if not self.exists():
            netns.ip(f"link add {self.link} netns host type veth "
                     f"peer name {self.far_link} netns vpn")
        self._addresses()

    def _stop(self):
        self.lab.host.ip(f"link del {self.link}")

    def kill(self):
        """Nothing to kill: the link stays and goes down, its routes go."""
        self.lab.host.ip(f"link set {self.link} down")


class _ProgramTunnel(Tunnel):
    """A client process here and a server process there."""

    client = server = None

    def remove(self):
        if self.client:
            self.down()

    def _log(self, name):
        return open(f"{self.lab.dir}/{self.link}-{name}.log", "ab")

    def _spawn(self, namespace, name, args, env=None):
        with self._log(name) as log:
            return namespace.popen(args, stdout=log, stderr=log, env=env)

    def _stop(self):
        for process in filter(None, (self.client, self.server)):
            netns.stop(process)

    def _kill(self):
        netns.kill(self.client)
        # The far side notices nothing; it is ended for the next start only.
        netns.stop(self.server)


class OpenVpnTunnel(_ProgramTunnel):
    """OpenVPN 2.6, TLS between two peers who know each other's fingerprint."""

    def __init__(self, lab, full=True, port=1194, proto="udp", link="tun0"):
        super().__init__(lab, full)
        self.link, self.far_link = link, f"{link}far"
        self.carrier_port, self.carrier_proto = port, proto
        self.keys = {name: make_certificate(lab.dir, f"openvpn-{name}")
                     for name in ("client", "server")}

    def _start(self):
        self.server = self._spawn(self.lab.vpn, "server",
                                  self._arguments("server", "client"))
        self.client = self._spawn(self.lab.host, "client",
                                  self._arguments("client", "server"))
        netns.wait_until(lambda: self._log_has("client"),
                         "OpenVPN's initialization sequence", 20)

    def _arguments(self, role, peer):
        is_server = role == "server"
        ends = (labnet.TUNNEL_HOST, labnet.TUNNEL_FAR)
        far, near = ends if is_server else reversed(ends)
        certificate, key = self.keys[role]
        suffix = "" if self.carrier_proto == "udp" else f"-{role}"
        args = [find_tool("openvpn"), "--dev-type", "tun",
                "--dev", self.far_link if is_server else self.link,
                "--proto", f"{self.carrier_proto}4{suffix}",
                f"--tls-{role}", "--cert", certificate, "--key", key,
                "--peer-fingerprint", _fingerprint(self.keys[peer][0]),
                "--ifconfig", near.v4, far.v4,
                "--ifconfig-ipv6", f"{near.v6}/64", far.v6,
                "--topology", "p2p", "--verb", "1", "--connect-retry", "1"]
        if is_server:
            return args + ["--lport", self.carrier_port, "--dh", "none",
                           "--float"]
        return args + ["--nobind", "--remote", labnet.VPN_ENDPOINT.v4,
                       self.carrier_port]

    def _log_has(self, name):
        if self.client.poll() is not None:
            raise netns.CommandError("OpenVPN ended: " + self._log_text(name))
        last = self._log_text(name).rpartition("OpenVPN 2.")[2]
        return "Initialization Sequence Completed" in last and self.exists()

    def _log_text(self, name):
        path = pathlib.Path(f"{self.lab.dir}/{self.link}-{name}.log")
        return path.read_text(errors="replace")


class WireguardTunnel(_ProgramTunnel):
    """wireguard-go at both ends; set up through wg(8)."""

    def __init__(self, lab, full=True, port=WIREGUARD_PORT, link="wg0",
                 fwmark=0):
        super().__init__(lab, full)
        self.link, self.far_link = link, f"{link}far"
        self.carrier_port, self.fwmark = port, fwmark
        if port != WIREGUARD_PORT:
            # The VPN's resolver owns port 53 there; wireguard-go listens on
            # all addresses and could not share it.
            lab.vpn.nft(WIREGUARD_REDIRECT.format(port=port))
        self.keys = {name: _wireguard_keys() for name in ("client", "server")}

    def _start(self):
        self.server = self._spawn_go(self.lab.vpn, "server", self.far_link)
        self.client = self._spawn_go(self.lab.host, "client", self.link)
        self._configure(self.lab.vpn, self.far_link, "server", "client",
                        listen=WIREGUARD_PORT)
        self._configure(self.lab.host, self.link, "client", "server",
                        fwmark=self.fwmark)
        self._addresses()

    def _spawn_go(self, namespace, name, link):
        # The program warns, at length, that a kernel module would be faster.
        env = dict(os.environ, LOG_LEVEL="error",
                   WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD="1")
        socket_path = pathlib.Path(f"/var/run/wireguard/{link}.sock")
        socket_path.unlink(missing_ok=True)  # of one that was killed
        process = self._spawn(namespace, name, ["wireguard-go", "-f", link],
                              env)
        netns.wait_until(
            lambda: socket_path.exists() and process.poll() is None,
            f"wireguard-go listens for {link}")
        return process

    def _configure(self, namespace, link, own, peer, listen=0, fwmark=0):
        lines = ["[Interface]", f"PrivateKey = {self.keys[own][0]}",
                 f"ListenPort = {listen}", f"FwMark = {fwmark}",
                 "[Peer]", f"PublicKey = {self.keys[peer][1]}",
                 "AllowedIPs = 0.0.0.0/0, ::/0"]
        if not listen:
            endpoint = f"{labnet.VPN_ENDPOINT.v4}:{self.carrier_port}"
            lines += [f"Endpoint = {endpoint}", "PersistentKeepalive = 25"]
        namespace.run(["wg", "setconf", link, "/dev/stdin"],
                      stdin="\n".join(lines) + "\n")



def _by_family(addresses, prefix):
    return addresses.v6 if ":" in prefix else addresses.v4


def _fingerprint(certificate):
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in",
         certificate], check=True, capture_output=True, text=True, timeout=10)
    return re.search(r"=([0-9A-F:]+)", done.stdout).group(1)


def _wireguard_keys():
    """(private, public)"""
    def wg(*args, stdin=None):
        return subprocess.run(["wg", *args], input=stdin, check=True,
                              capture_output=True, text=True,
                              timeout=10).stdout.strip()
    private = wg("genkey")
    return private, wg("pubkey", stdin=private)


KINDS = {"veth": VethTunnel, "openvpn": OpenVpnTunnel,
         "wireguard": WireguardTunnel}
