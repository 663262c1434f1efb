"""Debian's ifup and ifdown, by the lines that scripts/hooks/README.md gives."""

import os
import pathlib
import shutil

import pytest

import labnet
import netns
from clients import dig
from hooks import (HOOKS, HookedGuard, WireguardClient, ask,
                   asked_all_the_while, assert_open, assert_served,
                   assert_shut, openresolv)
from lookups import look_up
from resolvers import TOOLS
from tunnels import FULL_TUNNEL, WIREGUARD_PORT

SECTION = "ifupdown"
PACKAGES = TOOLS.parents[1]  # build/tools
INSIDE = labnet.RESOLVERS["inside"]
BROUGHT = {f"{address} via wg0" for address in INSIDE}
MARK = 0x51
# With the kernel's WireGuard, or without.
STANZA = """
iface wg0 inet static
    address {host.v4}/24
    dns-nameservers {servers}
    pre-up ip link add wg0 type wireguard 2>/dev/null || wireguard-go wg0
    pre-up wg setconf wg0 /etc/wireguard/wg0.conf
{lines}
    up ip address add {host.v6}/64 dev wg0 nodad
{routes}
    post-down ip link delete wg0
"""


@pytest.fixture(scope="module", autouse=True)
def network(lab):
    """/etc/network as Debian installs it, and resolvconf's scripts for it."""
    if not os.access(PACKAGES / "sbin/ifup", os.X_OK):
        pytest.skip("no ifupdown")
    tools = openresolv(lab.dir)
    shutil.rmtree("/etc/network", ignore_errors=True)
    os.makedirs("/run/network", exist_ok=True)
    for phase in ("pre-up", "up", "down", "post-down"):
        os.makedirs(f"/etc/network/if-{phase}.d")
    for name in ("if-up.d/000resolvconf", "if-down.d/resolvconf"):
        text = (PACKAGES / "etc/network" / name).read_text()
        path = pathlib.Path("/etc/network", name)
        path.write_text(text.replace("/sbin/resolvconf",
                                     f"{tools}/resolvconf"))
        path.chmod(0o755)


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


class Ifupdown(WireguardClient):
    """Brought up by ifup, from a stanza with these lines."""

    def __init__(self, lab, guard, *lines, servers=" ".join(INSIDE),
                 port=WIREGUARD_PORT):
        super().__init__(lab, guard, port=port)
        self.interfaces = f"{lab.dir}/interfaces"
        os.makedirs("/etc/wireguard", mode=0o700, exist_ok=True)
        pathlib.Path("/etc/wireguard/wg0.conf").write_text("\n".join([
            "[Interface]", f"PrivateKey = {self.keys['client'][0]}",
            f"FwMark = {MARK:#x}",
            "[Peer]", f"PublicKey = {self.keys['server'][1]}",
            f"Endpoint = {labnet.VPN_ENDPOINT.v4}:{port}",
            "AllowedIPs = 0.0.0.0/0, ::/0", "PersistentKeepalive = 1", ""]))
        self.configure(*lines, servers=servers)

    def configure(self, *lines, servers=" ".join(INSIDE)):
        """ifup gives its programs an environment of its own."""
        hook = str(self.guard.hooks / "ifupdown")
        routes = [f"    up ip route add {prefix} dev wg0"
                  for prefix in FULL_TUNNEL]
        pathlib.Path(self.interfaces).write_text(STANZA.format(
            host=labnet.TUNNEL_HOST, servers=servers,
            lines="\n".join(f"    {line}" for line in lines).replace(
                hook, f"LEAKGUARD={self.guard.wrapper} {hook}"),
            routes="\n".join(routes)))

    def _tell(self, verb, *options, check=True):
        return self.lab.host.run(
            [PACKAGES / "sbin" / verb, "-i", self.interfaces, *options, "wg0"],
            check=check)

    def ifup(self, check=True):
        return self._tell("ifup", check=check)

    def ifdown(self, *options, check=True):
        return self._tell("ifdown", *options, check=check)

    def wait_connected(self):
        netns.wait_until(self.handshakes, "a handshake", 20)

    def remove(self):
        self.ifdown("--force", check=False)
        super().remove()
        self.lab.host.set_resolv_conf("")


@pytest.fixture
def make_client(lab, guard):
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    made = []

    def make(*lines, **options):
        made.append(Ifupdown(lab, guard, *lines, **options))
        return made[-1]

    yield make
    for client in made:
        client.remove()


@pytest.fixture
def hook_lines(guard):
    return guard.readme(SECTION, 0).splitlines()


def test_each_step(lab, guard, make_client, hook_lines):
    assert_open(lab)
    client = make_client(*hook_lines)
    guard.enable(watch=True)
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)

    client.ifup()                                   # connecting: no server yet
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    assert_shut(lab)

    client.start_server()
    client.wait_connected()
    assert_served(lab)
    assert look_up(lab, "getent").answer == "inside"

    before = guard.says()                           # a new session
    client.kill_server()
    assert_shut(lab)
    assert guard.says() == before
    client.start_server()
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "a new session", 30)
    assert_served(lab)

    client.kill_client()
    assert_shut(lab)
    netns.wait_until(lambda: guard.says() == ("LOCKED", set(), BROUGHT),
                     "status has seen it")

    client.ifdown(check=False)                      # its link has gone
    assert guard.says() == ("LOCKED", set(), set())
    client.ifup()
    client.wait_connected()
    assert_served(lab)
    client.ifdown()
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)
    guard.disable()
    assert_open(lab)


def test_nothing_gets_out_between_the_steps(lab, guard, make_client,
                                            hook_lines):
    def steps():
        client.ifup()
        client.wait_connected()
        client.kill_client()
        client.ifdown(check=False)
        client.ifup()
        client.ifdown()

    client = make_client(*hook_lines)
    client.start_server()
    guard.enable(watch=True)
    with asked_all_the_while(lab) as seen:
        steps()
    assert not seen.out
    guard.disable()
    client.configure()
    with asked_all_the_while(lab) as seen:
        steps()
    assert seen.out, "the control: without a guard"


def test_killed_client_leaks_without_a_guard(lab, make_client):
    client = make_client()
    client.start_server()
    client.ifup()
    client.wait_connected()
    client.kill_client()
    assert ask(lab, answered=True)[1] == {"forged"}


def test_hook_raises_the_guard_before_the_tunnel(lab, guard, make_client,
                                                 hook_lines):
    listing = f"{lab.dir}/before-up"
    client = make_client(*hook_lines, f"pre-up nft list tables >{listing}")
    client.start_server()
    client.ifup()
    assert "leakguard" in pathlib.Path(listing).read_text()
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    client.wait_connected()
    assert_served(lab)


def test_failing_hook_leaves_the_tunnel_down(lab, guard, make_client,
                                             hook_lines):
    client = make_client(*hook_lines)
    guard.enable(watch=True)
    pathlib.Path(guard.wrapper).write_text("#!/bin/sh\nexit 1\n")
    done = client.ifup(check=False)
    assert done.rc == 1 and "leakguard: ifupdown: " in done.stderr, done
    shown = lab.host.run(["ip", "-o", "address", "show", "dev", "wg0"])
    assert labnet.TUNNEL_HOST.v4 not in shown.stdout
    assert_shut(lab)


def test_link_that_leads_out_raises_the_guard(lab, guard):
    """Before it has been up for a single packet."""
    line = guard.readme(SECTION, 1).strip()
    listing = f"{lab.dir}/before-link"
    interfaces = pathlib.Path(lab.dir, "interfaces-out")
    interfaces.write_text(
        f"iface out0 inet static\n    address 192.0.2.77/32\n    {line}\n"
        f"    pre-up nft list tables >{listing}; ip -o link >>{listing}\n")
    lab.host.ip("link add out0 type veth peer name out1")
    ifup = [PACKAGES / "sbin/ifup", "-i", interfaces, "out0"]
    try:
        lab.host.run(ifup)
        text = pathlib.Path(listing).read_text()
        assert "table inet leakguard" in text
        assert ",UP" not in text.partition(" out0@")[2].partition("\n")[0]
        assert guard.state == "LOCKED"
        lab.host.run([PACKAGES / "sbin/ifdown", *ifup[1:]])
        pathlib.Path(guard.wrapper).write_text("#!/bin/sh\nexit 1\n")
        assert lab.host.run(ifup, check=False).rc == 1
        shown = lab.host.run(["ip", "-o", "link", "show", "dev", "out0"])
        assert ",UP" not in shown.stdout
    finally:
        lab.host.ip("link del out0")


def test_carrier_on_a_guarded_port(lab, guard, make_client, hook_lines):
    client = make_client(*hook_lines, port=53)
    guard.enable(watch=True)
    client.start_server()
    client.ifup()
    assert guard.status()["policy"]["endpoints"] == [
        f"{labnet.VPN_ENDPOINT.v4}:53/udp,mark={MARK:#x}"]
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "the tunnel carries", 30)
    with lab.watch(lab.host) as seen:
        label = dig(lab.host, labnet.VPN_ENDPOINT.v4,
                    bind=labnet.HOST_WAN.v4).label
    assert not seen.name_traffic(label)
    client.ifdown()
    assert not guard.status()["policy"]["endpoints"]


def test_what_is_no_address_is_left_out(guard, make_client, hook_lines):
    odd = f"$(id) `id` * 1.2.3 ; 10.64.0.1 {'1' * 10000} fd64::1 \"fd64::2\""
    client = make_client(*hook_lines, servers=odd)
    # resolvconf's own script would stumble over it.
    done = client._tell("ifup", "--no-scripts")
    assert done.stderr.count("no resolver, left out") == 7, done
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)


@pytest.mark.parametrize("variables, rc", [
    ({}, 2), ({"MODE": "up", "IFACE": "wg0"}, 2), ({"MODE": "start"}, 1),
    ({"MODE": "start", "IFACE": "--all"}, 1),
    ({"MODE": "start", "IFACE": "wg0:1"}, 1),
    ({"MODE": "start", "IFACE": "a\nb"}, 1),
    ({"MODE": "stop", "IFACE": "--all"}, 0)])
def test_odd_environments_touch_nothing(lab, guard, variables, rc):
    done = lab.host.run([HOOKS / "ifupdown"], check=False,
                        env=guard.env | variables)
    assert done.rc == rc, done
    assert "leakguard: ifupdown: " in done.stderr
    assert guard.state == "OFF"
