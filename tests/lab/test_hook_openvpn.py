"""OpenVPN, the real one, with the lines that scripts/hooks/README.md gives.

In mode both a query is answered only where the resolver that the server pushed
has reached the guard: that is how these tests see that it has.
"""

import os
import pathlib
import re
import signal
import subprocess

import pytest

import labnet
import netns
from clients import dig
from guard import REPOSITORY
from hooks import (HookedGuard, assert_open, assert_served, assert_shut)
from resolvers import find_tool, make_certificate

SECTION = "OpenVPN"
SCRIPT, SECOND_SCRIPT, UNPRIVILEGED = range(3)  # the section's pieces
LINK = "tun0"
ENDPOINT = labnet.VPN_ENDPOINT
INSIDE = labnet.RESOLVERS["inside"]
PUBLIC = labnet.RESOLVERS["public"]
TOOLS = REPOSITORY / "build/tools"
CONNECTED = "Initialization Sequence Completed"

SERVER = """
mode server
tls-server
dev tunfar
dev-type tun
topology subnet
server 10.65.0.0 255.255.255.0
server-ipv6 fd65::/64
dh none
keepalive 1 6
push "route 0.0.0.0 128.0.0.0"
push "route 128.0.0.0 128.0.0.0"
push "route-ipv6 ::/1"
push "route-ipv6 8000::/1"
push "dhcp-option DOMAIN lab.example"
verb 3
"""
CLIENT = """
client
dev tun0
nobind
connect-retry 1
server-poll-timeout 2
verb 3
"""
# What servers push: the older form, and that of OpenVPN 2.6.
FORMS = {
    "dhcp-option": lambda addresses: [f"dhcp-option DNS {address}"
                                      for address in addresses],
    "dns server": lambda addresses: ["dns server 0 address "
                                     + " ".join(addresses)],
}
PUSH = FORMS["dhcp-option"]


def brought(addresses):
    return {f"{address} via {LINK}" for address in addresses}


UP = ("GUARDED", {LINK}, brought(INSIDE))
DOWN = ("LOCKED", set(), set())


class OpenVpn:
    """A server in mode server at the VPN, which pushes; a client on the host."""

    def __init__(self, lab, guard, endpoint=ENDPOINT.v4, port=1194,
                 proto="udp"):
        self.lab, self.guard = lab, guard
        self.client = self.server = None
        self.endpoint, self.port, self.proto = endpoint, port, proto
        self.family = "6" if ":" in endpoint else "4"
        self.keys = {name: make_certificate(lab.dir, f"openvpn-{name}")
                     for name in ("client", "server")}

    def serve(self, *pushed):
        """A new server; what it pushes besides routes."""
        lines = [f"local {self.endpoint}", f"lport {self.port}",
                 f"proto {self._proto('server')}",
                 *(f'push "{line}"' for line in pushed)]
        self.stop_server()
        self.server = self._start(self.lab.vpn, "server",
                                  SERVER + "\n".join(lines))
        self._wait("server")

    def connect(self, *lines, piece=SCRIPT, wait=True, through=()):
        """A new client, started THROUGH other commands; lines of its
        configuration besides the README's."""
        lines = [f"remote {self.endpoint} {self.port}",
                 f"proto {self._proto('client')}",
                 f"setenv LEAKGUARD {self.guard.wrapper}",
                 self.guard.readme(SECTION, piece), *lines]
        self.client = self._start(self.lab.host, "client",
                                  CLIENT + "\n".join(lines), through)
        if wait:
            self.wait_connected(1)

    def wait_connected(self, times):
        self._wait("client", times)

    def reconnect(self):
        times = self.log.count(CONNECTED)
        self.client.send_signal(signal.SIGUSR1)
        self.wait_connected(times + 1)

    def down(self):
        netns.stop(self.client, 10)
        self._wait_gone()

    def kill(self):
        netns.kill(self.client)
        self._wait_gone()

    def kill_server(self):
        netns.kill(self.server)

    def stop_server(self):
        if self.server:
            netns.stop(self.server)

    def close(self):
        for process in filter(None, (self.client, self.server)):
            netns.stop(process)

    @property
    def log(self):
        return self._log("client")

    def wait_log(self, text, timeout=20):
        netns.wait_until(lambda: text in self.log, f"OpenVPN says {text}",
                         timeout)

    def _proto(self, role):
        suffix = f"-{role}" if self.proto == "tcp" else ""
        return f"{self.proto}{self.family}{suffix}"

    def _log(self, name):
        path = pathlib.Path(f"{self.lab.dir}/openvpn-{name}.log")
        return path.read_text(errors="replace")

    def _start(self, namespace, name, config, through=()):
        peer = "client" if name == "server" else "server"
        certificate, key = self.keys[name]
        path = pathlib.Path(f"{self.lab.dir}/openvpn-{name}.conf")
        path.write_text("\n".join([
            config, f"cert {certificate}", f"key {key}",
            f"peer-fingerprint {fingerprint(self.keys[peer][0])}", ""]),
            encoding="ascii")
        with open(f"{self.lab.dir}/openvpn-{name}.log", "wb") as log:
            return namespace.popen(
                [*through, find_tool("openvpn"), "--config", path],
                stdout=log, stderr=log)

    def _wait(self, name, times=1):
        process = getattr(self, name)
        netns.wait_until(
            lambda: self._log(name).count(CONNECTED) >= times
            or process.poll() is not None, f"the {name} is up", 20)
        assert process.poll() is None, self._log(name)

    def _wait_gone(self):
        netns.wait_until(lambda: not link_exists(self.lab.host),
                         f"{LINK} has gone")


def link_exists(namespace):
    return not namespace.run(["ip", "link", "show", LINK], check=False).rc


def fingerprint(certificate):
    done = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in",
         certificate], check=True, capture_output=True, text=True, timeout=10)
    return re.search(r"=([0-9A-F:]+)", done.stdout)[1]


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def make_vpn(lab, guard):
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    made = []

    def make(**options):
        made.append(OpenVpn(lab, guard, **options))
        return made[-1]

    yield make
    for vpn in made:
        vpn.close()


@pytest.fixture
def vpn(make_vpn):
    return make_vpn()


@pytest.fixture
def locked(lab, guard):
    """The guard is up before any client; with its control."""
    assert_open(lab)
    guard.enable(tunnel=LINK, mode="both")
    assert_shut(lab)
    assert guard.says() == DOWN
    return guard


@pytest.mark.parametrize("form", FORMS)
def test_before_connecting_up_down(lab, locked, vpn, form):
    vpn.connect(wait=False)
    vpn.wait_log("link remote")
    assert_shut(lab)  # no server yet
    assert locked.says() == DOWN
    vpn.serve(*FORMS[form](INSIDE))
    vpn.wait_connected(1)
    assert locked.says() == UP
    assert_served(lab)
    vpn.down()
    assert locked.says() == DOWN
    assert_shut(lab)


def test_up_raises_the_guard(lab, guard, vpn):
    assert_open(lab)
    guard.configure("mode = both\n")
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert guard.says() == UP
    assert_served(lab)
    vpn.down()
    assert guard.says() == DOWN
    assert_shut(lab)


@pytest.mark.root
def test_with_the_capabilities_of_the_unit(lab, guard, vpn):
    """Those that Debian's openvpn-client@.service leaves it: enough to raise
    the guard, with a watcher."""
    unit = next(path for root in (TOOLS, pathlib.Path("/"))
                for path in root.glob("lib/systemd/system/openvpn-client@*"))
    names = re.search("^CapabilityBoundingSet=(.*)$", unit.read_text(), re.M)[1]
    bounds = ",".join("+" + name.lower().removeprefix("cap_")
                      for name in names.split())
    guard.configure("mode = both\n")
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(through=["setpriv", f"--bounding-set=-all,{bounds}"])
    assert guard.says() == UP
    assert guard.watcher
    assert_served(lab)
    vpn.down()
    assert guard.says() == DOWN
    assert_shut(lab)


def test_failing_up_ends_the_client(lab, guard, vpn):
    """No tunnel without its guard. The control is the test above."""
    guard.configure("mode = neither\n")
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(wait=False)
    assert vpn.client.wait(20) == 1
    assert 'mode "neither"' in vpn.log
    assert "leakguard: openvpn: " in vpn.log
    assert CONNECTED not in vpn.log
    assert not link_exists(lab.host)
    assert guard.says()[0] == "OFF"


def test_rekey(lab, locked, vpn):
    vpn.serve(*PUSH(INSIDE))
    vpn.connect("reneg-sec 2")
    netns.wait_until(lambda: vpn.log.count("Control Channel: TLS") >= 3,
                     "the keys are changed twice", 20)
    assert locked.says() == UP
    assert_served(lab)


@pytest.mark.parametrize("lines", [
    [], ["persist-tun"], ["persist-tun", "up-restart"]], ids=" ".join)
def test_reconnect(lab, locked, vpn, lines):
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(*lines)
    assert_served(lab)
    vpn.reconnect()
    assert locked.says() == UP
    assert_served(lab)
    # The server comes back after a while, and pushes another resolver.
    vpn.stop_server()
    vpn.wait_log("process restarting")
    assert_shut(lab)
    vpn.serve(*PUSH(PUBLIC[:1]))
    vpn.wait_connected(3)
    assert locked.says() == ("GUARDED", {LINK}, brought(PUBLIC[:1]))
    with lab.watch() as seen:
        assert dig(lab.host, PUBLIC.v4).answer == "public"
        assert not dig(lab.host, INSIDE.v4).answer
        assert not dig(lab.host, INSIDE.v6).answer
    # What the VPN's far side passes on is not the host's.
    assert not seen.name_traffic()


def test_port_of_a_resolver(lab, locked, vpn):
    vpn.serve(f"dns server 0 address {INSIDE.v4} [{INSIDE.v6}]:853",
              *PUSH(PUBLIC))  # `dns` takes the place of `dhcp-option`
    vpn.connect()
    assert {(resolver["address"], resolver["port"], resolver["link"])
            for resolver in locked.status()["resolvers"]} == {
                (INSIDE.v4, None, LINK), (INSIDE.v6, 853, LINK)}
    with lab.watch() as seen:
        assert dig(lab.host, INSIDE.v4).answer == "inside"
        assert dig(lab.host, INSIDE.v6, "+tls").answer == "inside"
        assert not dig(lab.host, INSIDE.v6).answer
        assert not dig(lab.host, PUBLIC.v4).answer
    assert not seen.name_traffic()


def test_server_killed(lab, locked, vpn):
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert_served(lab)
    vpn.kill_server()
    assert_shut(lab)
    vpn.wait_log("Inactivity timeout")
    netns.wait_until(lambda: not link_exists(lab.host), f"{LINK} has gone")
    netns.wait_until(lambda: locked.says() == DOWN, "down has been told")
    assert_shut(lab)
    vpn.serve(*PUSH(INSIDE))
    vpn.wait_connected(2)
    assert locked.says() == UP
    assert_served(lab)


def test_client_killed(lab, locked, vpn):
    """Nobody says down: what up brought stays, and is tied to a link that is
    gone. The next up replaces it."""
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert_served(lab)
    vpn.kill()
    assert locked.says() == ("LOCKED", set(), brought(INSIDE))
    assert_shut(lab)
    vpn.serve(*PUSH(INSIDE[:1]))
    vpn.connect()
    assert locked.says() == ("GUARDED", {LINK}, brought(INSIDE[:1]))
    assert dig(lab.host, INSIDE.v4).answer == "inside"


@pytest.mark.parametrize("line", ["down-pre", "route-pre-down"])
def test_before_the_link_goes(lab, locked, vpn, line):
    """Called earlier, and twice."""
    if line == "route-pre-down":
        script = re.search("^up (.*)$", locked.readme(SECTION), re.M)[1]
        line = f"route-pre-down {script}"
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(line)
    assert_served(lab)
    vpn.down()
    assert locked.says() == DOWN
    assert_shut(lab)


def test_script_behind_it(lab, locked, vpn):
    script = pathlib.Path("/etc/openvpn/update-resolv-conf")
    script.parent.mkdir(exist_ok=True)
    said = pathlib.Path(f"{lab.dir}/script-said")
    script.write_text(f'#!/bin/sh\necho "$script_type $*" >>{said}\n',
                      encoding="ascii")
    script.chmod(0o755)
    assert str(script) in locked.readme(SECTION, SECOND_SCRIPT)
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(piece=SECOND_SCRIPT)
    assert locked.says() == UP
    assert_served(lab)
    vpn.down()
    assert locked.says() == DOWN
    assert [line.split()[:3] for line in said.read_text().splitlines()] == [
        ["up", LINK, "1500"], ["down", LINK, "1500"]]


@pytest.mark.root
def test_down_without_privileges(lab, locked, vpn):
    """The same as a client that was killed."""
    vpn.serve(*PUSH(INSIDE))
    vpn.connect("user nobody", "persist-tun", "persist-key")
    assert_served(lab)
    vpn.reconnect()
    assert locked.says() == UP
    vpn.down()
    assert "down --tunnel tun0 failed" in vpn.log
    assert locked.says() == ("LOCKED", set(), brought(INSIDE))
    assert_shut(lab)


@pytest.mark.root
def test_other_push_without_plugin(lab, locked, vpn):
    vpn.serve(*PUSH(INSIDE))
    vpn.connect("user nobody", "persist-tun", "persist-key")
    assert_served(lab)
    vpn.serve(*PUSH(PUBLIC))
    assert vpn.client.wait(20) == 1
    assert "up --tunnel tun0 failed" in vpn.log
    assert locked.says() == ("LOCKED", set(), brought(INSIDE))
    assert_shut(lab)


@pytest.fixture
def with_plugin(locked):
    """The README's piece; the system's own plug-ins are where OpenVPN was
    built to find them, those of the lab are not."""
    plugin = "openvpn-plugin-down-root.so"
    path = next(TOOLS.glob(f"usr/lib/*/openvpn/plugins/{plugin}"), plugin)
    piece = locked.readme(SECTION, UNPRIVILEGED)
    assert plugin in piece
    locked.readme = lambda *_: piece.replace(plugin, str(path))
    return locked


@pytest.mark.root
def test_down_by_the_plugin(lab, with_plugin, vpn):
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert_served(lab)
    vpn.reconnect()
    assert with_plugin.says() == UP
    vpn.down()
    assert with_plugin.says() == DOWN
    assert_shut(lab)


@pytest.mark.root
def test_other_push_with_plugin(lab, with_plugin, vpn):
    """OpenVPN closes the link to open another, and ends: the plug-in has no
    second time, as `up` would have no privileges."""
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert_served(lab)
    vpn.serve(*PUSH(PUBLIC))
    assert vpn.client.wait(20) == 1
    assert "Exiting due to fatal error" in vpn.log
    assert with_plugin.says() == DOWN
    assert_shut(lab)


CARRIERS = [(address, proto) for address in ENDPOINT
            for proto in ("udp", "tcp")]


@pytest.mark.parametrize("address,proto", CARRIERS)
def test_carrier_on_port_53(lab, guard, make_vpn, address, proto):
    """The guard is raised by up, which brings the carrier with it."""
    guard.configure("mode = both\n")
    vpn = make_vpn(endpoint=address, port=53, proto=proto)
    vpn.serve(*PUSH(INSIDE))
    vpn.connect()
    assert guard.says() == UP
    assert guard.status()["policy"]["endpoints"] == [
        f"{'[' + address + ']' if ':' in address else address}:53/{proto}"]
    assert dig(lab.host, INSIDE.v4).answer == "inside"
    assert dig(lab.host, INSIDE.v6).answer == "inside"
    guard.up(LINK, *INSIDE)  # the control: what a hook without it would say
    assert not dig(lab.host, INSIDE.v4).answer


def test_configured_endpoint_lets_it_connect_again(lab, guard, make_vpn):
    """A client that has to connect, or connect again, with the guard up."""
    endpoint = f"{ENDPOINT.v4}:53/udp"
    guard.enable(tunnel=LINK, mode="both")
    vpn = make_vpn(port=53)
    vpn.serve(*PUSH(INSIDE))
    vpn.connect(wait=False)
    vpn.wait_log("Server poll timeout")  # the control
    netns.stop(vpn.client)
    guard.disable()
    guard.enable(tunnel=LINK, mode="both", endpoint=endpoint)
    vpn.connect()
    assert guard.says() == UP
    vpn.reconnect()
    assert_served_by_carrier(lab)
    vpn.down()
    assert guard.says() == DOWN
    assert guard.status()["policy"]["endpoints"] == [endpoint]


def assert_served_by_carrier(lab):
    """Answered, and what leaves the host goes to the VPN's server alone."""
    with lab.watch() as seen:
        assert dig(lab.host, INSIDE.v4).answer == "inside"
        assert not dig(lab.host, PUBLIC.v4, bind=labnet.HOST_WAN.v4).answer
    out = seen.name_traffic()
    assert out
    assert {packet.dst for packet in out} == {ENDPOINT.v4}
