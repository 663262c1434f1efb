"""systemd-networkd and networkd-dispatcher, by the lines that
scripts/hooks/README.md gives.

Both are real, on a message bus of their own. networkd takes a read-only /sys
for a system without udev, and so waits for none.
"""

import contextlib
import json
import os
import pathlib
import shlex
import shutil

import pytest

import labnet
import netns
from clients import dig
from firewalls import PYTHON, python_env
from hooks import (HOOKS, HookedGuard, WireguardClient, ask,
                   asked_all_the_while, assert_open, assert_served,
                   assert_shut)
from resolvers import TOOLS
from tunnels import FULL_TUNNEL, WIREGUARD_PORT

pytestmark = pytest.mark.root  # networkd becomes a user of its own

SECTION = "systemd-networkd"
NETWORKD = "/lib/systemd/systemd-networkd"
DISPATCHER = TOOLS.parent / "bin/networkd-dispatcher"
NETWORKS = "/etc/systemd/network"
STATES = ("routable", "dormant", "no-carrier", "off", "carrier", "degraded",
          "linger")
INSIDE = labnet.RESOLVERS["inside"]
BROUGHT = {f"{address} via wg0" for address in INSIDE}
MARK = 0x51
BUS = """<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={path}</listen>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


class Networkd:
    """Bus, networkd and dispatcher on the host. A context manager."""

    def __init__(self, lab):
        self.lab, self.host, self.processes = lab, lab.host, []
        os.chmod(lab.dir, 0o755)  # networkd is another user
        self.hooks = f"{lab.dir}/lib/leakguard"
        self.log = pathlib.Path(lab.dir, "networkd.log")
        self.env = python_env(
            DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={lab.dir}/bus",
            SYSTEMD_LOG_TARGET="console")
        self.dispatcher = None
        self._prepare()

    def _prepare(self):
        # The dispatcher runs what belongs to root and nothing else.
        shutil.copytree(HOOKS, self.hooks)
        for path in (self.hooks, *pathlib.Path(self.hooks).iterdir()):
            os.chown(path, 0, 0)
        for state in STATES:
            path = pathlib.Path(f"/etc/networkd-dispatcher/{state}.d")
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
            path.chmod(0o755)
        # So that the log tells.
        lingers = pathlib.Path("/etc/networkd-dispatcher/linger.d/nothing")
        lingers.write_text("#!/bin/sh\n")
        lingers.chmod(0o755)
        shutil.rmtree(NETWORKS, ignore_errors=True)
        os.makedirs(NETWORKS)
        pathlib.Path("/etc/systemd/networkd.conf").write_text(
            "[Network]\nManageForeignRoutingPolicyRules=no\n"
            "ManageForeignRoutes=no\n")
        passwd = pathlib.Path("/etc/passwd")
        if "systemd-network:" not in passwd.read_text():
            passwd.write_text(passwd.read_text()
                              + "systemd-network:x:998:998::/:/\n")
            group = pathlib.Path("/etc/group")
            group.write_text(group.read_text() + "systemd-network:x:998:\n")
        for name in ("links", "leases", "lldp"):
            os.makedirs(f"/run/systemd/netif/{name}", exist_ok=True)
            shutil.chown(f"/run/systemd/netif/{name}", "systemd-network")
        shutil.chown("/run/systemd/netif", "systemd-network")
        pathlib.Path(self.lab.dir, "bus.conf").write_text(
            BUS.format(path=f"{self.lab.dir}/bus"))

    def _start(self, *args, env=None):
        with open(self.log, "ab") as log:
            self.processes.append(self.host.popen(
                args, stdout=log, stderr=log, env=env or self.env))
        return self.processes[-1]

    def __enter__(self):
        self._start("dbus-daemon", f"--config-file={self.lab.dir}/bus.conf",
                    "--nofork", "--nopidfile")
        netns.wait_until(lambda: os.path.exists(f"{self.lab.dir}/bus"),
                         "the message bus")
        self._start("unshare", "--mount", "sh", "-c",
                    f"mount -o remount,bind,ro /sys && exec {NETWORKD}")
        netns.wait_until(lambda: "routable" in self.control(
            "status", "wan0").stdout, f"networkd runs ({self.log})", 20)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            netns.stop(process)
        shutil.rmtree("/run/systemd", ignore_errors=True)

    def control(self, *words):
        return self.host.run(["networkctl", "--no-pager", *words],
                             env=self.env, check=False)

    def dispatch(self, guard, **variables):
        """Start the dispatcher, as its unit does, anew."""
        if self.dispatcher:
            netns.stop(self.dispatcher)
        started = self.text().count("Startup complete")
        self.dispatcher = self._start(
            PYTHON, DISPATCHER, "-v", "--run-startup-triggers",
            env=self.env | {"LEAKGUARD": guard.wrapper} | variables)
        netns.wait_until(
            lambda: self.text().count("Startup complete") > started,
            f"networkd-dispatcher runs ({self.log})", 20)

    @contextlib.contextmanager
    def forgets(self, link):
        """The link has gone, and the dispatcher knows: it mistakes one that
        comes back before for the old one, and calls no more hooks for it."""
        said = f"linger.d/nothing' for interface {link}"
        before = self.text().count(said)
        yield
        netns.wait_until(lambda: self.text().count(said) > before,
                         f"the dispatcher has forgotten {link}", 15)

    def text(self):
        return self.log.read_text(errors="replace")

    def write(self, link, *lines):
        pathlib.Path(NETWORKS, f"{link}.network").write_text(
            "\n".join(["[Match]", f"Name={link}", "[Network]", *lines, ""]))
        self.control("reload")

    def wire(self, guard):
        """README's lines."""
        self.host.run(["sh", "-e", "-c",
                       guard.readme(SECTION, hooks=self.hooks)])

    def unwire(self):
        for path in pathlib.Path("/etc/networkd-dispatcher").glob("*.d/50-*"):
            path.unlink()


@pytest.fixture(scope="module")
def networkd(lab):
    for path in (NETWORKD, DISPATCHER):
        if not os.access(path, os.X_OK):
            pytest.skip(f"no {path}")
    with Networkd(lab) as made:
        yield made


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def wired(networkd, guard):
    networkd.wire(guard)
    networkd.dispatch(guard)
    yield networkd
    networkd.unwire()


class NetworkdClient(WireguardClient):
    """A WireGuard link that networkd configures as soon as it is there."""

    def __init__(self, lab, guard, networkd, *lines, port=WIREGUARD_PORT):
        super().__init__(lab, guard, port=port)
        self.networkd = networkd
        networkd.write(
            self.link, f"Address={labnet.TUNNEL_HOST.v4}/24",
            f"Address={labnet.TUNNEL_HOST.v6}/64", "LinkLocalAddressing=no",
            "IPv6AcceptRA=no", *lines,
            *(f"[Route]\nDestination={prefix}" for prefix in FULL_TUNNEL))

    def start(self):
        """Until networkd is done with it."""
        peer = "\n".join([
            "[Interface]", f"PrivateKey = {self.keys['client'][0]}",
            f"FwMark = {MARK:#x}",
            "[Peer]", f"PublicKey = {self.keys['server'][1]}",
            f"Endpoint = {labnet.VPN_ENDPOINT.v4}:{self.carrier_port}",
            "AllowedIPs = 0.0.0.0/0, ::/0", "PersistentKeepalive = 1", ""])
        self.lab.host.run([
            "sh", "-c", "ip link add wg0 type wireguard 2>/dev/null || "
            "wireguard-go wg0; wg setconf wg0 /dev/stdin"], stdin=peer)
        netns.wait_until(
            lambda: "routable (configured)" in
            self.networkd.control("status", self.link).stdout,
            "networkd has configured it", 20)

    def wait_connected(self):
        netns.wait_until(self.handshakes, "a handshake", 20)


@pytest.fixture(scope="module", autouse=True)
def tun_devices():
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")


@pytest.fixture
def make_client(lab, guard, networkd):
    made = []

    def make(*lines, **options):
        made.append(NetworkdClient(
            lab, guard, networkd,
            *(lines or [f"DNS={address}" for address in INSIDE]), **options))
        return made[-1]

    yield make
    for client in made:
        client.remove()


def wait_for(guard, *what):
    """The dispatcher's hook runs some time after the event."""
    netns.wait_until(lambda: guard.says() == what, f"status says {what}", 15)


def test_each_step(lab, guard, wired, make_client):
    assert_open(lab)
    client = make_client()
    guard.enable(watch=True)
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)

    client.start()                                  # connecting: no server yet
    wait_for(guard, "GUARDED", {"wg0"}, BROUGHT)
    assert_shut(lab)

    client.start_server()
    client.wait_connected()
    assert_served(lab)

    client.kill_server()                            # a new session
    assert_shut(lab)
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    client.start_server()
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "a new session", 30)
    assert_served(lab)

    with wired.forgets("wg0"):
        client.kill_client()
        assert_shut(lab)
    wait_for(guard, "LOCKED", set(), set())

    client.start()
    client.wait_connected()
    wait_for(guard, "GUARDED", {"wg0"}, BROUGHT)
    assert_served(lab)
    wired.control("down", "wg0")
    wait_for(guard, "LOCKED", set(), set())
    assert_shut(lab)
    wired.control("up", "wg0")
    wait_for(guard, "GUARDED", {"wg0"}, BROUGHT)
    client.remove()
    wait_for(guard, "LOCKED", set(), set())
    assert_shut(lab)
    guard.disable()
    assert_open(lab)


def test_nothing_gets_out_between_the_steps(lab, guard, wired, make_client):
    def steps():
        client.start()
        client.wait_connected()
        client.kill_client()
        client.start()
        wired.control("down", "wg0")
        client.kill_client()

    client = make_client()
    client.start_server()
    guard.enable(watch=True)
    with asked_all_the_while(lab) as seen:
        steps()
    assert not seen.out
    wired.unwire()
    guard.disable()
    with asked_all_the_while(lab) as seen:
        steps()
    assert seen.out, "the control: without a guard"


def test_killed_client_leaks_without_a_guard(lab, make_client):
    client = make_client()
    client.start_server()
    client.start()
    client.wait_connected()
    client.kill_client()
    assert ask(lab, answered=True)[1] == {"forged"}


def test_hook_raises_the_guard(lab, guard, wired, make_client):
    client = make_client()
    client.start_server()
    client.start()
    wait_for(guard, "GUARDED", {"wg0"}, BROUGHT)
    client.wait_connected()
    assert_served(lab)


def test_what_was_up_before_the_dispatcher(guard, networkd, make_client):
    client = make_client()
    client.start()
    assert guard.state == "OFF"
    networkd.wire(guard)
    try:
        networkd.dispatch(guard)
        assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    finally:
        networkd.unwire()


def test_carrier_on_a_guarded_port(lab, guard, wired, make_client):
    client = make_client(port=53)
    guard.enable(watch=True)
    client.start_server()
    client.start()
    netns.wait_until(lambda: guard.status()["policy"]["endpoints"] == [
        f"{labnet.VPN_ENDPOINT.v4}:53/udp,mark={MARK:#x}"], "the carrier", 15)
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "the tunnel carries", 30)
    with lab.watch(lab.host) as seen:
        label = dig(lab.host, labnet.VPN_ENDPOINT.v4,
                    bind=labnet.HOST_WAN.v4).label
    assert not seen.name_traffic(label)


def test_servers_with_more_than_an_address(guard, wired, make_client):
    client = make_client("DNS=10.64.0.1:853#dns.example",
                         "DNS=[fd64::1]:53")
    client.start()
    wait_for(guard, "GUARDED", {"wg0"}, BROUGHT)


# --- which links are tunnels ---

class Link:
    """A link that is none of WireGuard's."""

    def __init__(self, lab, name, *how):
        self.lab, self.name = lab, name
        lab.host.run(["ip", *how])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.host.ip(f"link del {self.name}")


def hook(lab, guard, **variables):
    """The hook alone, with the dispatcher's variables."""
    return lab.host.run([HOOKS / "networkd"], check=False,
                        env=guard.env | {"STATE": "routable", "json": "{}",
                                         "AdministrativeState": "configured"}
                        | variables)


@pytest.mark.parametrize("kind, is_taken", [("tun", True), ("tap", False)])
def test_tun_is_a_tunnel_and_tap_is_not(lab, guard, kind, is_taken):
    with Link(lab, "vpn7", "tuntap", "add", "vpn7", "mode", kind):
        assert hook(lab, guard, IFACE="vpn7").rc == 0
    assert (guard.state != "OFF") == is_taken


def test_veth_is_a_tunnel_if_it_is_named(lab, guard):
    with Link(lab, "vpn7", "link", "add", "vpn7", "type", "veth"):
        for names, is_taken in (("", False), ("vpn", False), ("vpn77", False),
                                ("*", False), ("wg0 vpn7", True)):
            done = hook(lab, guard, IFACE="vpn7", LEAKGUARD_TUNNELS=names)
            assert done.rc == 0 and (guard.state != "OFF") == is_taken, done


def test_name_that_the_readme_sets(lab, guard, networkd):
    """In the dispatcher's unit it is a line of its EnvironmentFile."""
    name, _, value = guard.readme(SECTION, 1).partition("=")
    value = shlex.split(value)[0]
    networkd.wire(guard)
    networkd.dispatch(guard, **{name.strip(): value})
    networkd.write("xfrm0", "Address=10.65.1.2/24", "DNS=10.64.0.1",
                   "LinkLocalAddressing=no", "IPv6AcceptRA=no")
    try:
        with Link(lab, "xfrm0", "link", "add", "xfrm0", "type", "veth",
                  "peer", "xfrm1"):
            lab.host.ip("link set xfrm1 up")
            wait_for(guard, "GUARDED", {"xfrm0"}, {"10.64.0.1 via xfrm0"})
        wait_for(guard, "LOCKED", set(), set())
    finally:
        networkd.unwire()


def test_others_links_are_left_to_their_hooks(lab, guard, wired):
    """A tun device of a VPN client that networkd has no file for."""
    guard.enable(watch=True)
    guard.up("vpn7", INSIDE.v4)
    brought = {f"{INSIDE.v4} via vpn7"}
    count = wired.text().count("leakguard for interface vpn7")
    with Link(lab, "vpn7", "tuntap", "add", "vpn7", "mode", "tun"):
        lab.host.ip("link set vpn7 up")
        netns.wait_until(
            lambda: wired.text().count("leakguard' for interface vpn7")
            > count, "the hook was called", 15)
        assert guard.says() == ("GUARDED", {"vpn7"}, brought)
    netns.wait_until(lambda: guard.says() == ("LOCKED", set(), brought),
                     "the link has gone")


# --- values ---

def servers(*values):
    return json.dumps({"AdministrativeState": "configured", "DNS": values,
                       "Description": ['"DNS": ["192.0.2.9"]'],
                       "NTP": ["192.0.2.8"]}, sort_keys=True)


def test_odd_servers_are_left_out(lab, guard):
    odd = ["$(id)", "`id`", "*", "a b", "x\ny", "\\", "1.2.3", "",
           "9" * 10000, "10.64.0.3:53", "[fd64::3]:53%a", "10.64.0.1", "], [",
           "fd64::1#$(id)", "\"", "192.0.2.9"]
    with Link(lab, "vpn7", "tuntap", "add", "vpn7", "mode", "tun"):
        done = hook(lab, guard, IFACE="vpn7", json=servers(*odd))
        assert done.rc == 0, done
        assert guard.says()[2] == {
            f"{address} via vpn7" for address in
            ("10.64.0.1", "10.64.0.3", "fd64::3", "fd64::1")}
    assert done.stderr.count("no resolver, left out") == 11, done


@pytest.mark.parametrize("text", [
    "", "{}", "[", '"DNS": ["', '{"DNS": []}', '", "', ', "', '"DNS": ["", ',
    pytest.param('{"DNS": ["' + '", "' * 2000, id="2000")])
def test_odd_json(lab, guard, text):
    with Link(lab, "vpn7", "tuntap", "add", "vpn7", "mode", "tun"):
        assert hook(lab, guard, IFACE="vpn7", json=text).rc == 0
        assert guard.says() == ("LOCKED", {"vpn7"}, set())  # it is not up


@pytest.mark.parametrize("variables, rc", [
    ({}, 1), ({"IFACE": "a\nb"}, 1), ({"IFACE": "../../tmp"}, 1),
    ({"STATE": "carrier", "IFACE": "wg0"}, 0), ({"STATE": ""}, 0),
    ({"AdministrativeState": "unmanaged", "IFACE": "lo"}, 0),
    ({"IFACE": "wan0"}, 0), ({"IFACE": "nolink"}, 0),
    ({"STATE": "off", "IFACE": "nolink"}, 0)])
def test_odd_environments_touch_nothing(lab, guard, variables, rc):
    assert hook(lab, guard, **variables).rc == rc
    assert guard.state == "OFF"
