"""NetworkManager's dispatcher script, by the README's lines and the real
NetworkManager: what it brings is guarded, whatever becomes of it.

The physical link is configured by DHCP, and the provider hands out its own
resolver; NetworkManager writes resolv.conf.
"""

import os
import re
import socket
import subprocess

import pytest

import labnet
import netns
import networkmanager
import systems
from clients import dig, send_crafted
from hooks import HOOKS, INSTALLED
from lookups import ADDRESS
from networkmanager import InstalledGuard, Machine, OpenVpnServer
from probes import new_label
from resolvers import TAGS, ZONE
from tunnels import OpenVpnTunnel, WIREGUARD_PORT, WireguardTunnel

PROVIDER = labnet.RESOLVERS["provider"]
PUBLIC = labnet.RESOLVERS["public"]
INSIDE = labnet.RESOLVERS["inside"]
GATEWAY = labnet.GATEWAY
HOOK = f"{INSTALLED}/networkmanager"
DISPATCHER = "/etc/NetworkManager/dispatcher.d"
EVENTS = "/run/lab/events"
RECORDER = f"""#!/bin/sh
echo "$2 $1 ${{CONNECTION_EXTERNAL:-0}}" >>{EVENTS}
"""
WAN = f"""type=ethernet
interface-name=wan0
[ipv4]
method=auto
[ipv6]
method=manual
address1={labnet.HOST_WAN.v6}/64,{GATEWAY.v6}
"""
TUN = f"""type=tun
interface-name=nmtun0
autoconnect=false
[tun]
mode={{mode}}
[ipv4]
method=manual
address1={labnet.TUNNEL_HOST.v4}/24
dns={INSIDE.v4}
[ipv6]
method=manual
address1={labnet.TUNNEL_HOST.v6}/64
dns={INSIDE.v6}
"""
WIREGUARD = f"""type=wireguard
interface-name=nmwg0
autoconnect=false
[wireguard]
private-key={{private}}
[wireguard-peer.{{public}}]
endpoint={labnet.VPN_ENDPOINT.v4}:{{port}}
allowed-ips=0.0.0.0/0;::/0;
[ipv4]
method=manual
address1={labnet.TUNNEL_HOST.v4}/24
dns={INSIDE.v4}
[ipv6]
method=manual
address1={labnet.TUNNEL_HOST.v6}/64
dns={INSIDE.v6}
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(networkmanager.missing() is not None,
                       reason=str(networkmanager.missing())),
    pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK),
                       reason="no access to /dev/net/tun")]


def readme_lines():
    """The commands of the README's section, as they stand."""
    section = (HOOKS / "README.md").read_text(encoding="utf-8").partition(
        "\n## NetworkManager\n")[2].partition("\n## ")[0]
    return re.findall(r"^    (ln -s .*)$", section, re.M)


@pytest.fixture(scope="module")
def machine(lab):
    """The host under NetworkManager, its link up by DHCP, the hook wired."""
    with systems.dnsmasq(
            lab, lab.isp, "--port=0", "--interface=cust0",
            "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--no-ping",
            "--dhcp-authoritative", f"--dhcp-leasefile={lab.dir}/leases",
            f"--dhcp-option=option:dns-server,{PROVIDER.v4}"), \
            Machine(lab) as made:
        for line in readme_lines():
            made.run(["sh", "-c", line])
        made.write("/usr/lib/recorder", RECORDER, 0o755)
        for place in (".", "pre-up.d"):
            made.run(["ln", "-s", "/usr/lib/recorder",
                      f"{DISPATCHER}/{place}/99-recorder"])
        made.add_connection("wan", WAN)
        made.nmcli("connection", "up", "wan")
        wait_for_wan(lab)
        yield made


def wait_for_wan(lab):
    for address in (*GATEWAY, *labnet.VPN_ENDPOINT):
        netns.wait_until(lambda a=address: labnet.can_reach(lab.host, a),
                         f"the host reaches {address}")


@pytest.fixture
def guard(machine):
    made = InstalledGuard(machine)
    forget_events()
    yield made
    made.disable(check=False)
    machine.run(["rm", "-rf", "/run/leakguard-networkmanager"])


@pytest.fixture
def server(lab, machine):
    """An OpenVPN server; its client is the connection "vpn", not up."""
    with OpenVpnServer(lab) as made:
        machine.add_connection("vpn", made.connection())
        yield made
        machine.nmcli("connection", "delete", "vpn")
        wait_gone(lab, "tun0")


@pytest.fixture
def tun(lab, machine):
    """tun(mode): a connection "tun" of that device's mode, not up."""
    yield lambda mode: machine.add_connection("tun", TUN.format(mode=mode))
    machine.nmcli("connection", "delete", "tun")
    wait_gone(lab, "nmtun0")


def index_of(lab, link):
    with lab.host.inside():
        return {name: index for index, name in socket.if_nameindex()}.get(link)


def wait_gone(lab, link):
    netns.wait_until(lambda: index_of(lab, link) is None,
                     f"{link} has gone", 20)


def forget_events():
    with open(EVENTS, "w", encoding="ascii"):
        pass


def wait_for_event(event):
    def came():
        with open(EVENTS, encoding="ascii") as file:
            return event in file.read().splitlines()
    netns.wait_until(came, f"the dispatcher is told: {event}", 20)


def look_up(machine):
    """Who answers a program that reads resolv.conf."""
    env = dict(os.environ, RES_OPTIONS="timeout:1 attempts:1")
    found = machine.run(["getent", "ahostsv4", f"{new_label()}.{ZONE}"],
                        check=False, env=env)
    answers = {TAGS.get(address) for address in ADDRESS.findall(found.stdout)}
    return answers.pop() if answers else None


def attempt(lab, machine):
    """(who answered what reads resolv.conf, what the provider saw): of that
    and of queries to resolvers by address, past any tunnel too."""
    with lab.watch(lab.host) as seen:
        answer = look_up(machine)
        for address in (*PROVIDER, *PUBLIC, *INSIDE):
            send_crafted("udp", lab.host, address)
            for way in ("udp", "tcp"):
                send_crafted(way, lab.host, address, "wan0")
    return answer, seen.name_traffic()


def require_hidden(lab, machine, answer=None):
    got, packets = attempt(lab, machine)
    assert not packets, "got out: " + "; ".join(map(str, packets))
    assert got == answer


def require_seen(lab, machine, answer):
    """The control."""
    got, packets = attempt(lab, machine)
    assert got == answer
    assert {packet.dst for packet in packets} >= {*PROVIDER, *PUBLIC, *INSIDE}


def tunnels(guard):
    """{tunnel: is its link there and up}"""
    return {tunnel["name"]: any(link["up"] for link in tunnel["links"])
            for tunnel in guard.status()["tunnels"]}


def resolvers(guard):
    """{(address, the link that it is tied to)}"""
    return {(resolver["address"], resolver["link"])
            for resolver in guard.status()["resolvers"]}


def tied(link, addresses=INSIDE):
    return {(address, link) for address in addresses}


def require_status(guard, state, **links):
    """The state, and the tunnels, each with whether its link is up."""
    assert (guard.state, tunnels(guard)) == (state, links)


# --- a VPN ------------------------------------------------------------------

def connect(machine):
    forget_events()
    machine.nmcli("connection", "up", "vpn")
    wait_for_event("vpn-up tun0 0")


def wait_for_locked(guard, *names):
    """Until the hook has said that the tunnel is gone."""
    netns.wait_until(
        lambda: (guard.state, [*tunnels(guard)]) == ("LOCKED", [*names]),
        "the tunnel is taken away", 20, 0.1)


def test_way_up_and_down(lab, machine, guard, server):
    """Before, connecting, up, down."""
    assert machine.resolv_conf() == [PROVIDER.v4]
    require_seen(lab, machine, "provider")
    guard.configure("mode = both\n")
    guard.run("enable", check=True)
    require_status(guard, "LOCKED")
    require_hidden(lab, machine)

    server.stop()
    connecting = machine.popen(["nmcli", "--wait", "30", "connection", "up",
                                "vpn"], stdout=subprocess.DEVNULL)
    netns.wait_until(machine.openvpn_client, "OpenVPN connects")
    require_status(guard, "LOCKED")
    require_hidden(lab, machine)
    assert "activating" in machine.state_of("vpn")
    server.start()
    assert connecting.wait(30) == 0

    # Without a wait: NetworkManager has waited for the hook.
    assert resolvers(guard) == tied("tun0")
    require_status(guard, "GUARDED", tun0=True)
    assert machine.resolv_conf() == [*INSIDE, PROVIDER.v4]
    with labnet.Capture(lab.vpn, server.link) as inside:
        require_hidden(lab, machine, "inside")
        for address in INSIDE:
            assert dig(lab.host, address, "+short").answer == "inside"
        assert dig(lab.host, PUBLIC.v4, "+short").answer is None, "not pushed"
        inside.collect()
    assert {packet.dst for packet in inside.name_traffic()} == {*INSIDE}

    wait_for_event("up tun0 1")
    machine.nmcli("connection", "down", "vpn")
    wait_for_locked(guard)
    assert resolvers(guard) == set()
    assert machine.resolv_conf() == [PROVIDER.v4]
    require_hidden(lab, machine)
    guard.disable()
    require_seen(lab, machine, "provider")


@pytest.mark.usefixtures("server")
def test_raises_the_guard(lab, machine, guard):
    """Nobody has enabled it: the first connection does, and it stays."""
    assert guard.state == "OFF"
    connect(machine)
    require_status(guard, "GUARDED", tun0=True)
    require_hidden(lab, machine, "inside")
    guard.disable()
    require_seen(lab, machine, "inside")  # past the tunnel
    guard.run("enable", check=True)
    machine.nmcli("connection", "down", "vpn")
    wait_for_locked(guard)
    require_hidden(lab, machine)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_server_goes_and_comes_back(lab, machine, guard, server, end):
    """The client keeps its link and reconnects: NetworkManager is not told."""
    guard.configure("mode = both\n")
    guard.run("enable", check=True)
    connect(machine)
    getattr(server, end)()
    require_hidden(lab, machine)
    require_status(guard, "GUARDED", tun0=True)
    server.start()
    netns.wait_until(lambda: look_up(machine) == "inside", "it reconnects", 30)
    require_hidden(lab, machine, "inside")
    assert machine.state_of("vpn") == "activated"
    assert resolvers(guard) == tied("tun0")


def test_server_pushes_something_else(lab, machine, guard, server):
    """OpenVPN makes a new link; Debian's plug-in may not tell NetworkManager
    by then. The link stays bare, the VPN "up", its resolvers in resolv.conf,
    and the route to them is the provider's."""
    guard.configure("mode = both\n")
    guard.run("enable", check=True)
    connect(machine)
    first = index_of(lab, "tun0")
    server.stop()
    server.start("--push", f"dhcp-option DNS {PUBLIC.v4}",
                 "--push", "route 10.99.0.0 255.255.255.0")
    netns.wait_until(lambda: index_of(lab, "tun0") not in (None, first),
                     "a new link", 30)
    assert machine.state_of("vpn") == "activated"
    assert machine.resolv_conf() == [*INSIDE, PROVIDER.v4]
    require_status(guard, "LOCKED", tun0=False)
    require_hidden(lab, machine)
    guard.disable()
    require_seen(lab, machine, "forged")
    guard.run("enable", check=True)
    machine.nmcli("connection", "down", "vpn")
    wait_for_locked(guard)
    wait_gone(lab, "tun0")
    connect(machine)
    assert resolvers(guard) == tied("tun0", (*INSIDE, PUBLIC.v4))
    require_hidden(lab, machine, "inside")


@pytest.mark.usefixtures("server")
def test_client_killed(lab, machine, guard):
    guard.run("enable", check=True)
    connect(machine)
    require_status(guard, "GUARDED", tun0=True)
    machine.kill_openvpn()
    wait_gone(lab, "tun0")
    require_hidden(lab, machine)
    wait_for_locked(guard)
    assert machine.resolv_conf() == [PROVIDER.v4]
    require_hidden(lab, machine)
    connect(machine)
    require_hidden(lab, machine, "inside")


@pytest.mark.usefixtures("server")
def test_networkmanager_killed(lab, machine, guard):
    """Its plug-in ends with it, and nobody is told: the name stays approved,
    its link is gone. The next NetworkManager's first event clears it."""
    guard.run("enable", check=True)
    connect(machine)
    machine.kill()
    wait_gone(lab, "tun0")
    require_status(guard, "LOCKED", tun0=False)
    require_hidden(lab, machine)
    machine.start()
    wait_for_locked(guard)
    assert resolvers(guard) == set()
    wait_for_wan(lab)
    require_hidden(lab, machine)
    connect(machine)
    require_status(guard, "GUARDED", tun0=True)
    require_hidden(lab, machine, "inside")


@pytest.mark.usefixtures("server")
def test_physical_link_goes_and_comes_back(lab, machine, guard):
    """The VPN goes with it; the provider's DHCP server brings its resolver
    again, and that stays closed."""
    guard.run("enable", check=True)
    connect(machine)
    machine.nmcli("connection", "down", "wan")
    wait_for_locked(guard)
    machine.nmcli("connection", "up", "wan")
    wait_for_wan(lab)
    assert machine.resolv_conf() == [PROVIDER.v4]
    require_status(guard, "LOCKED")
    require_hidden(lab, machine)


# --- devices ----------------------------------------------------------------

def test_tun_connection(lab, machine, guard, tun):
    """A device of NetworkManager's, which a VPN's program opens."""
    guard.configure("mode = both\n")
    guard.run("enable", check=True)
    tun(mode=1)
    machine.nmcli("connection", "up", "tun")
    netns.wait_until(lambda: resolvers(guard) == tied("nmtun0"),
                     "its resolvers are approved")
    require_hidden(lab, machine)
    program = OpenVpnTunnel(lab, full=False, link="nmtun0")
    try:
        program.up()
        require_status(guard, "GUARDED", nmtun0=True)
        require_hidden(lab, machine, "inside")
    finally:
        for process in filter(None, (program.client, program.server)):
            netns.stop(process)
    require_hidden(lab, machine)
    machine.nmcli("connection", "down", "tun")
    wait_for_locked(guard)
    require_hidden(lab, machine)


def test_tap_connection(machine, guard, tun):
    """A port for a guest, and no tunnel."""
    guard.run("enable", check=True)
    tun(mode=2)
    machine.nmcli("connection", "up", "tun")
    wait_for_event("up nmtun0 0")
    require_status(guard, "LOCKED")


def test_tun_of_others(lab, machine, guard, make_tunnel):
    """NetworkManager shows what it has not made, and calls it up as well."""
    guard.run("enable", check=True)
    tunnel = make_tunnel("openvpn", full=False, link="tun7").up()
    wait_for_event("up tun7 1")
    require_status(guard, "LOCKED")
    assert dig(lab.host, INSIDE.v4, "+short").answer is None
    require_hidden(lab, machine)
    guard.up("tun7", watch=True)
    tunnel.remove()
    wait_for_event("down tun7 1")
    assert tunnels(guard) == {"tun7": False}, "whoever brought it takes it"


class WireguardServer(WireguardTunnel):
    """The far side alone; the near one is NetworkManager's."""

    def start(self):
        self.server = self._spawn_go(self.lab.vpn, "server", self.far_link)
        self._configure(self.lab.vpn, self.far_link, "server", "client",
                        listen=WIREGUARD_PORT)
        labnet.add_addresses(self.lab.vpn, self.far_link,
                             f"{labnet.TUNNEL_FAR.v4}/24",
                             f"{labnet.TUNNEL_FAR.v6}/64")
        return self

    def connection(self):
        return WIREGUARD.format(private=self.keys["client"][0],
                                public=self.keys["server"][1],
                                port=WIREGUARD_PORT)


@pytest.fixture
def wireguard(lab, machine):
    """A WireGuard server; its client is the connection "wg", not up."""
    # NetworkManager makes the kernel's own or none.
    if lab.host.run(["ip", "link", "add", "nmwg0", "type", "wireguard"],
                    check=False).rc:
        pytest.skip("this kernel has no WireGuard")
    lab.host.ip("link del nmwg0")
    server = WireguardServer(lab, link="nmwg0").start()
    machine.add_connection("wg", server.connection())
    yield server
    machine.nmcli("connection", "delete", "wg")
    netns.stop(server.server)
    wait_gone(lab, "nmwg0")


def test_wireguard_connection(lab, machine, guard, wireguard):
    guard.configure("mode = both\n")
    guard.run("enable", check=True)
    machine.nmcli("connection", "up", "wg")
    netns.wait_until(lambda: resolvers(guard) == tied("nmwg0"),
                     "its resolvers are approved")
    require_status(guard, "GUARDED", nmwg0=True)
    require_hidden(lab, machine, "inside")
    netns.kill(wireguard.server)
    require_hidden(lab, machine)
    machine.kill()
    require_status(guard, "GUARDED", nmwg0=True)
    require_hidden(lab, machine)
    machine.start()
    netns.wait_until(lambda: machine.state_of("wg") == "activated",
                     "NetworkManager finds it again", 20, 0.1)
    assert resolvers(guard) <= tied("nmwg0")
    require_hidden(lab, machine)
    machine.nmcli("connection", "down", "wg")
    wait_for_locked(guard)
    require_hidden(lab, machine)


# --- what the script makes of events ----------------------------------------

UUID = "8a6d0a4e-3b0c-4ad3-9c0b-6d2f4f4c2f8e"
# /sys/class/net/LINK: where it leads, its type, its uevent. As the kernel has
# them (linux/if_arp.h: 1 Ethernet, 512 PPP, 65534 none).
SYSFS = {
    "ppp0": ("virtual/net/ppp0", 512, ""),
    "nm-xfrm-1": ("virtual/net/nm-xfrm-1", 65534, ""),
    "wg1": ("virtual/net/wg1", 65534, "DEVTYPE=wireguard"),
    "wwan0": ("pci0000:00/usb1/net/wwan0", 65534, "DEVTYPE=wwan"),
    "bond0": ("virtual/net/bond0", 1, "DEVTYPE=bond"),
}
IN_SYSFS = """set -eu
mount -t tmpfs tmpfs /sys
mkdir -p /sys/class/net "/sys/devices/$2"
ln -s "/sys/devices/$2" "/sys/class/net/$1"
echo "$3" >"/sys/devices/$2/type"
echo "$4" >"/sys/devices/$2/uevent"
shift 4
exec "$@"
"""


def call(machine, link, action, sysfs=None, **env):
    """The script as the dispatcher calls it: nothing else is in its
    environment; in a /sys that has only this link, if told what it is."""
    words = ["env", "-i", *(f"{key}={value}" for key, value in env.items()),
             HOOK, link, action]
    if sysfs:
        words = ["unshare", "--mount", "sh", "-c", IN_SYSFS, "-", link,
                 *map(str, sysfs), *words]
    return machine.run(words, check=False)


def call_vpn(machine, link, action, below="wan0", **env):
    return call(machine, link, action, CONNECTION_UUID=UUID,
                VPN_IP_IFACE=link, DEVICE_IFACE=below, DEVICE_IP_IFACE=below,
                VPN_IP4_NAMESERVERS=INSIDE.v4, VPN_IP6_NAMESERVERS=INSIDE.v6,
                IP4_NAMESERVERS=PROVIDER.v4, **env)


@pytest.mark.parametrize("link", SYSFS)
def test_kinds_of_a_vpn_link(machine, guard, link):
    wanted = link in ("ppp0", "nm-xfrm-1", "wg1")
    assert call_vpn(machine, link, "vpn-up", sysfs=SYSFS[link]).rc == 0
    assert resolvers(guard) == (tied(link) if wanted else set())
    assert [*tunnels(guard)] == ([link] if wanted else [])
    assert guard.state == ("LOCKED" if wanted else "OFF")


@pytest.mark.parametrize("link", SYSFS)
def test_kinds_of_a_device(machine, guard, link):
    """Of these, WireGuard alone is a tunnel as such."""
    done = call(machine, link, "up", sysfs=SYSFS[link], CONNECTION_UUID=UUID,
                DEVICE_IFACE=link, DEVICE_IP_IFACE=link,
                IP4_NAMESERVERS=" ".join(INSIDE))
    assert done.rc == 0
    assert resolvers(guard) == (tied(link) if link == "wg1" else set())


@pytest.mark.parametrize("link", ["wan0", "lan0", "lo", "gone0"])
@pytest.mark.parametrize("action", ["vpn-up", "up"])
def test_no_tunnel(machine, guard, link, action):
    """Whatever the environment calls a VPN's link."""
    assert call_vpn(machine, link, action, below="eth9").rc == 0
    assert (guard.state, tunnels(guard)) == ("OFF", {})


@pytest.mark.parametrize("link", ["wan0", ""])
def test_vpn_without_a_link(lab, machine, guard, link):
    """IPsec in policy mode: NetworkManager names the link below, or none."""
    guard.run("enable", check=True)
    assert call_vpn(machine, "wan0", "vpn-pre-up").rc == 0
    assert [*tunnels(guard)] == ["ipsec:any"]
    require_hidden(lab, machine)
    call(machine, link, "connectivity-change")
    assert [*tunnels(guard)] == ["ipsec:any"]
    assert call(machine, link, "vpn-down", CONNECTION_UUID=UUID).rc == 0
    assert tunnels(guard) == {}


@pytest.fixture
def tun0(lab):
    lab.host.ip("tuntap add tun0 mode tun")
    yield "tun0"
    lab.host.ip("tuntap del tun0 mode tun")


def test_hostile_values(lab, machine, guard, tun0):
    """What a VPN's server and a connection's name may hold is data."""
    mark = f"{lab.dir}/ran"
    odd = f"* $(touch {mark}) `touch {mark}` ;touch {mark}; -v --help ../x " \
        f"%s%n {INSIDE.v4}\n{INSIDE.v6} ' \" {'9' * 10000}"
    done = call(machine, tun0, "vpn-up", VPN_IP_IFACE=tun0,
                VPN_IP4_NAMESERVERS=odd, CONNECTION_ID=odd,
                CONNECTION_UUID=f"../../{mark}\n*")
    assert done.rc == 0
    assert resolvers(guard) == tied(tun0)
    for link in ("../tun0", "-h", "a b", "*", "$(id)", "a" * 16, "x\ny"):
        call_vpn(machine, link, "vpn-up")
        call(machine, link, "up", DEVICE_IP_IFACE=link)
        call(machine, link, "vpn-down", CONNECTION_UUID=odd)
    assert [*tunnels(guard)] == [tun0]
    assert not os.path.exists(mark)


def test_what_the_dispatcher_runs(machine, guard, tun):
    """Links to scripts that are root's, and that nobody else can write to."""
    places = {"open": ("root", "775"), "others": ("nobody", "755"),
              "link": ("root", "755")}
    for name, (owner, mode) in places.items():
        script = f"/usr/lib/{name}"
        machine.write(script, f"#!/bin/sh\necho {name} >>{EVENTS}\n")
        machine.run(["chown", owner, script])
        machine.run(["chmod", mode, script])
        machine.run(["ln", "-s", script, f"{DISPATCHER}/10-{name}"])
    try:
        tun(mode=2)
        machine.nmcli("connection", "up", "tun")
        wait_for_event("up nmtun0 0")
        with open(EVENTS, encoding="ascii") as file:
            assert places.keys() & set(file.read().split()) == {"link"}
    finally:
        for name in places:
            machine.run(["rm", f"{DISPATCHER}/10-{name}"])
    del guard
