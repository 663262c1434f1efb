"""Networks of /etc/config/network: their links before netifd runs, and what
netifd alone knows of a VPN, by hotplug."""

import pathlib
import re

import pytest

import labnet
from clients import dig
from hooks import assert_served
from router import NETWORK, has_key, is_open

INSIDE = labnet.RESOLVERS["inside"]
PUBLIC = labnet.RESOLVERS["public"]
VPN = "config network\n\toption name 'vpn'\n\toption tunnel '1'\n"
NETWORKS = """
config device
\toption name 'br-lan'
\toption type 'bridge'
\tlist ports 'eth0.1'

config interface lan
\toption device 'br-lan'
\toption proto static

config interface guest
\toption device 'br-lan.3'
\toption proto 'static'

config interface 'old'
\toption type 'bridge'
\toption ifname 'eth0 eth1'
\toption proto 'static'

config interface 'plain'
\toption ifname 'eth2'
\toption proto 'dhcp'

config interface 'alias'
\toption device '@lan'
\toption proto 'static'

config interface 'loop1'
\toption device '@loop2'
\toption proto 'static'

config interface 'loop2'
\toption device '@loop1'
\toption proto 'static'

config interface 'wan'
\toption device 'eth1'
\toption proto 'pppoe'

config interface 'wg'
\toption proto 'wireguard'

config interface 'oc'
\toption proto 'openconnect'

config interface 'ds'
\toption proto 'dslite'

config interface 'six'
\toption proto '6rd'

config interface 'modem'
\toption proto 'qmi'

config interface 'two'
\toption ifname 'eth0 eth1'
\toption proto 'static'
"""
LINKS = {
    "lan": "br-lan", "guest": "br-lan.3", "old": "br-old", "plain": "eth2",
    "alias": "br-lan", "wan": "pppoe-wan", "wg": "wg", "oc": "vpn-oc",
    "ds": "ds-ds", "six": "6rd-six", "modem": None, "loop1": None,
    "absent": None, "lan.proto": None, "$(id)": None, "": None,
}


@pytest.mark.parametrize("network", LINKS)
def test_link(router, network):
    router.networks.write_text(NETWORKS)
    done = router.ash('lg_link "$1"', network, check=False)
    assert done.stdout == (f"{LINKS[network]}\n" if LINKS[network] else "")
    assert bool(done.rc) == (LINKS[network] is None)


def test_link_that_netifd_knows(router):
    """A modem's, once it is there; without netifd a line and no more."""
    router.networks.write_text(NETWORKS)
    router.configure(network=VPN.replace("vpn", "modem"))
    router.boot()
    assert "tunnel" not in router.conf()
    assert "network modem: no link is known yet" in router.log()
    assert router.settle()["trigger"] == [
        "interface.*", "modem", "/etc/init.d/leakguard", "reload"]
    router.netifd("modem", up=1, device="wwan0")
    router.reload()
    assert "\ntunnel = wwan0\n" in router.conf()
    assert [t["name"] for t in router.guard.status()["tunnels"]] == ["wwan0"]


def sections(**flags):
    return "\n".join(f"config network\n\toption name '{name}'\n"
                     f"\toption redirect '{flag}'\n"
                     for name, flag in flags.items())


def translated(router):
    """The lines of the program's configuration, whatever the program says."""
    return router.ash("lg_translate; printf %s \"$lg_text\"",
                      check=False).stdout.splitlines()


def test_redirect_lines(router):
    """One `lan` line a network that is on, and only where there is somewhere
    to redirect to."""
    router.networks.write_text(NETWORKS)
    switched = sections(lan=1, guest=0, old=1, wan=0)
    router.configure(network=switched)
    assert translated(router) == []
    router.configure("list lan_redirect 'local'",
                     "list lan_exempt '02:00:00:00:00:01'",
                     "option flow_offload 'prevent'", network=switched)
    assert translated(router) == [
        "lan-redirect = local", "lan-exempt = 02:00:00:00:00:01",
        "flow-offload = prevent", "lan = br-lan", "lan = br-old"]


@pytest.mark.skipif(not has_key("lan-redirect"),
                    reason="the program has no --lan-redirect yet")
def test_redirect(router):
    router.networks.write_text(NETWORK)
    router.configure("list lan_redirect 'local'",
                     "option flow_offload 'prevent'",
                     network=sections(lan=1, vpn=0))
    router.boot()
    assert not router.log()
    assert "lan0" in router.guard.listing() + router.host.run(
        ["nft", "list", "ruleset"]).stdout


def test_two_links_are_none(lab, router):
    """An old network that is no bridge has one link; the program refuses."""
    router.networks.write_text(NETWORKS)
    router.configure(network=VPN.replace("vpn", "two"))
    router.boot()
    assert not is_open(lab)
    assert 'tunnel "eth0 eth1"' in router.log()


# --- a VPN that netifd brings up ---

@pytest.fixture
def veth_tunnel(lab):
    from tunnels import KINDS
    made = KINDS["veth"](lab).up()
    yield made
    made.remove()


def brought(router):
    return {f"{r['address']} via {r['link']}"
            for r in router.guard.status()["resolvers"]}


def test_each_step(lab, router, veth_tunnel):
    link = veth_tunnel.link
    router.networks.write_text(NETWORK.replace("tun0", link))
    router.configure(network=VPN)
    router.boot()
    assert not brought(router)
    router.netifd("vpn", up=1, device=link, dns=" ".join(INSIDE))
    done = router.hotplug("ifup", "vpn", link)
    assert not done.stderr
    assert brought(router) == {f"{a} via {link}" for a in INSIDE}
    assert_served(lab)

    router.netifd("vpn", up=1, device=link, dns=INSIDE.v4)   # a new session
    router.hotplug("ifupdate", "vpn", link)
    assert brought(router) == {f"{INSIDE.v4} via {link}"}
    router.reload()                                          # of whatever
    assert brought(router) == {f"{INSIDE.v4} via {link}"}

    (router.root / "tmp/netifd/vpn").unlink()
    router.hotplug("ifdown", "vpn")                          # it names no link
    assert not brought(router)
    router.hotplug("ifdown", "vpn")
    assert not router.log()
    assert not list((router.root / "tmp/run/leakguard.networks").iterdir())


def test_up_before_the_guard(lab, router, veth_tunnel):
    """`enabled` is set while the VPN runs: its resolvers come with it."""
    link = veth_tunnel.link
    router.networks.write_text(NETWORK.replace("tun0", link))
    router.configure(enabled="0", network=VPN)
    router.boot()
    router.netifd("vpn", up=1, device=link, dns=" ".join(INSIDE))
    router.hotplug("ifup", "vpn", link)
    assert router.guard.state == "OFF", "a hook raised it"
    router.configure(network=VPN)
    router.reload()
    assert brought(router) == {f"{a} via {link}" for a in INSIDE}
    assert_served(lab)


def test_lowered_stays_so(lab, router):
    router.configure(network=VPN)
    router.boot()
    router.init("open")
    router.netifd("vpn", up=1, device="tun0", dns=INSIDE.v4)
    router.hotplug("ifup", "vpn", "tun0")
    router.hotplug("ifdown", "vpn")
    assert is_open(lab)


@pytest.mark.parametrize("network", ["lan", "wan", "loopback", "unknown"])
def test_others_bring_nothing(router, network):
    """A provider's resolvers are not approved because DHCP brought them."""
    router.configure(network=VPN)
    router.boot()
    router.netifd(network, up=1, device="wan0", dns=PUBLIC.v4)
    router.hotplug("ifup", network, "wan0")
    assert not brought(router)
    assert not router.log()


HOSTILE = ["$(touch /tmp/pwned)", "`touch /tmp/pwned`", "';touch /tmp/pwned;'",
           "10.64.0.1 via any", "* ? [a-z]", "-- --action", "%n%s", "::",
           "10.64.0.1@53 --resolver 203.0.113.8", "a" * 5000]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_resolvers(lab, router, value):
    """Each is left out with a line, and the good one beside it taken."""
    router.configure(network=VPN)
    router.boot()
    router.netifd("vpn", up=1, device="tun0", dns=f"{value} {INSIDE.v4}")
    router.hotplug("ifup", "vpn", "tun0")
    assert not (router.root / "tmp/pwned").exists()
    assert f"{INSIDE.v4} via tun0" in brought(router)
    assert all(b.endswith(" via tun0") for b in brought(router))
    assert not is_open(lab)


@pytest.mark.parametrize("interface, device", [
    ("vpn", "$(touch /tmp/pwned)"), ("vpn", "../x"), ("vpn", "tun0 --run-dir /"),
    ("$(touch /tmp/pwned)", "tun0"), ("../vpn", "tun0"), ("", "tun0"),
    ("vpn", "a" * 16)])
def test_hostile_names(lab, router, interface, device):
    router.configure(network=VPN)
    router.boot()
    router.netifd("vpn", up=1, device=device, dns=INSIDE.v4)
    router.hotplug("ifup", interface, device)
    router.hotplug("ifdown", interface, device)
    assert not (router.root / "tmp/pwned").exists()
    assert not brought(router) and not is_open(lab)


def test_hostile_network(lab, router):
    """OpenWrt's functions evaluate a network's name: they do not get it."""
    router.boot()
    router.run("leakguard", "enable", "--no-watch")
    for name in ("x;touch /tmp/pwned", "$(touch /tmp/pwned)", "`touch /tmp/pwned`"):
        router.configure(network=VPN.replace("vpn", name))
        router.reload()
        router.hotplug("ifup", name, "tun0")
        assert not (router.root / "tmp/pwned").exists()
        assert "expected a name" in router.log()
        assert not is_open(lab)


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_options(lab, router, value):
    """UCI's values reach the program as they are, or not at all."""
    quoted = value.replace("'", "'\\''")
    router.configure(f"list resolver '{quoted}'", f"option mode '{quoted}'",
                     f"list inside '{quoted}'")
    router.boot()
    router.reload()
    assert not (router.root / "tmp/pwned").exists()
    assert not is_open(lab)
    assert not router.guard.status()["resolvers"]
    assert dig(lab.host, INSIDE.v4).answer is None


def test_every_key_is_validated(router):
    """What the program takes, the init script lets uci_validate_section see."""
    done = router.run("leakguard", "rules", "-h")
    keys = set(re.findall(r"^  --([a-z-]+) [^ ]", done.stdout, re.M))
    assert len(keys) > 15
    script = pathlib.Path(router.root, "usr/lib/leakguard/uci.sh").read_text()
    known = set(re.findall(r"^\t\t'([a-z_]+):", script, re.M))
    assert {key.replace("-", "_") for key in keys - {"config", "run-dir"}} <= known
