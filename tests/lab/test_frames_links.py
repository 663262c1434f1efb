"""Links that come and go, and tunnels made of links: whose frames are covered.

Frames are sent by packet sockets, which no hook of the IP stack sees; a second
provider's capture at the other end of each link tells what got out.
"""

import socket
import time

import pytest

import guests
import labnet
import netns
from capture import Capture
from guests import (NONE, WAYS, ask, bridged, chain_handles, frames_of,
                    shoot, wait_frames, wire)
from tunnels import VethTunnel

PUBLIC = labnet.RESOLVERS["public"]
DEADLINE_S = 5


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture
def isp2():
    with guests.second_provider() as made:
        yield made


def leaks(lab, link, far_namespace, far):
    with Capture(far_namespace, far) as capture:
        return shoot(lab.host, link, capture)


def wait_leaks(expected, *where):
    """What is covered is so at once. What is not may be open a bit later:
    status says what the link is, and the watcher takes its time."""
    if expected == NONE:
        assert leaks(*where) == NONE
    netns.wait_until(lambda: leaks(*where) == expected, "the link is open")


# --- changes of links -------------------------------------------------------

def _away_and_back(lab, wait):
    lab.host.ip("link set eth1 netns lan")
    if wait:
        wait("eth1")
    lab.lan.ip("link set eth1 netns host")
    lab.host.ip("link set eth1 up")


def _remake(lab, wait):
    lab.host.ip("link del eth1")
    if wait:
        wait("eth1")
    wire(lab, "eth1")


def _renumber(lab, _):
    with lab.host.inside():
        index = socket.if_nametoindex("eth1")
    lab.host.ip("link del eth1")
    wire(lab, "eth9", index=index)


RENAME = ("link set eth1 down", "link set eth1 name eth7", "link set eth7 up")
ENSLAVE = ("link add brx type bridge", "link set brx up",
           "link set eth1 master brx")
# name -> (what happens to eth1, eth2; {link: its far end} to look at then).
# A function gets wait(link): until the guard lists that link no more.
CHANGES = {
    "appears": (lambda lab, _: wire(lab, "eth3"), {"eth3": "eth3"}),
    "renamed": (RENAME, {"eth7": "eth1"}),
    "renamed and back": (
        (*RENAME, "link set eth7 down", "link set eth7 name eth1",
         "link set eth1 up"), {"eth1": "eth1"}),
    "renamed while up": (("link set eth1 name eth7",), {"eth7": "eth1"}),
    "swapped": (("link set eth1 down", "link set eth2 down",
                 "link set eth1 name spare", "link set eth2 name eth1",
                 "link set spare name eth2", "link set eth1 up",
                 "link set eth2 up"), {"eth1": "eth2", "eth2": "eth1"}),
    "enslaved": (ENSLAVE, {"eth1": "eth1", "brx": "eth1"}),
    "released": ((*ENSLAVE, "link set eth1 nomaster"), {"eth1": "eth1"}),
    "moved away and back": (_away_and_back, {"eth1": "eth1"}),
    "moved away and back at once": (
        lambda lab, _: _away_and_back(lab, None), {"eth1": "eth1"}),
    "deleted and made again": (_remake, {"eth1": "eth1"}),
    "deleted and made again at once": (
        lambda lab, _: _remake(lab, None), {"eth1": "eth1"}),
    "its number goes to another": (_renumber, {"eth9": "eth9"}),
    "down and up": (("link set eth1 down", "link set eth1 up"),
                    {"eth1": "eth1"}),
}


@pytest.fixture
def wired(lab, isp2):
    """eth1, eth2: control, frames leave by them."""
    for link in ("eth1", "eth2"):
        wire(lab, link)
        assert leaks(lab, link, isp2, link) == WAYS
    yield isp2
    lab.host.run(["ip", "link", "del", "brx"], check=False)


@pytest.mark.parametrize("change", CHANGES)
def test_change(lab, guard, wired, change, record_property):
    what, expected = CHANGES[change]
    guard.enable(tunnel="tun0", watch=True)
    wait_frames(guard, eth1="covered", eth2="covered", wan0="covered")
    before = chain_handles(lab.host)

    def wait_gone(link):
        netns.wait_until(lambda: link not in frames_of(guard),
                         f"{link} has gone")

    started = time.monotonic()
    make(lab, what, wait_gone)
    wait_frames(guard, **{link: "covered" for link in expected})
    took = time.monotonic() - started
    record_property("ms", round(took * 1000))
    assert took < DEADLINE_S
    for link, far in expected.items():
        assert leaks(lab, link, wired, far) == NONE
    # brx is looked at in its own time.
    netns.wait_until(lambda: set(chain_handles(lab.host)) == {
        link for link, what in frames_of(guard).items() if what == "covered"},
        "those that are covered have a chain, and no others")
    after = chain_handles(lab.host)
    others = before.keys() - {"eth1", "eth2"}
    assert {"wan0", "lan0"} <= others
    assert all(before[link] == after[link] for link in others)
    watcher = guard.watcher
    assert watcher["undone"] == 0 and not watcher["stale"]
    assert leaks(lab, "wan0", lab.isp, "cust0") == NONE


def make(lab, what, wait=None):
    if callable(what):
        what(lab, wait)
    else:
        lab.host.ip(*what)


@pytest.mark.parametrize("change", CHANGES)
def test_change_without_a_watcher(lab, guard, wired, change):
    """Nobody hooks anew: status says what the kernel does, whatever it is;
    the next enable puts it right."""
    what, expected = CHANGES[change]
    guard.enable(tunnel="tun0")
    make(lab, what)
    found = frames_of(guard)
    for link in expected.keys() - {"brx"}:  # what leaves brx leaves eth1
        far = expected[link]
        out = {"covered": NONE, "uncovered": WAYS}[found[link]]
        assert leaks(lab, link, wired, far) == out
    guard.enable(tunnel="tun0")
    for link, far in expected.items():
        assert frames_of(guard)[link] == "covered"
        assert leaks(lab, link, wired, far) == NONE


def test_a_tunnel_that_loses_its_name(lab, guard, veth_tunnel):
    """By another name it is a link like others; and back again."""
    guard.enable(tunnel="tun0", watch=True)
    wait_frames(guard, tun0="tunnel")
    assert leaks(lab, "tun0", lab.vpn, veth_tunnel.far_link) == WAYS
    rename = ("link set {0} down", "link set {0} name {1}", "link set {1} up")
    for names, expected, out in ((("tun0", "plain0"), "covered", NONE),
                                 (("plain0", "tun0"), "tunnel", WAYS)):
        lab.host.ip(*(line.format(*names) for line in rename))
        wait_frames(guard, **{names[1]: expected})
        wait_leaks(out, lab, names[1], lab.vpn, veth_tunnel.far_link)


@pytest.mark.parametrize("watch", [True, False])
def test_up_and_down(lab, guard, wired, watch):
    """By the time that a command has ended, links are what it says."""
    def frames_by_eth1():
        return leaks(lab, "eth1", wired, "eth1")

    guard.configure("tunnel = tun0\n")
    guard.enable(watch=watch)
    for _ in range(3):
        guard.up("eth1", watch=watch)
        assert (frames_of(guard)["eth1"], frames_by_eth1()) == ("tunnel", WAYS)
        guard.down("eth1")
        assert (frames_of(guard)["eth1"], frames_by_eth1()) == ("covered",
                                                                NONE)
    guard.configure("tunnel = eth1\n")
    guard.reload()
    assert (frames_of(guard)["eth1"], frames_by_eth1()) == ("tunnel", WAYS)
    guard.enable(inside="eth1", tunnel="tun0", watch=watch)
    assert (frames_of(guard)["eth1"], frames_by_eth1()) == ("inside", WAYS)
    guard.enable(tunnel="tun0", watch=watch)
    assert frames_by_eth1() == NONE
    guard.disable()
    assert frames_by_eth1() == WAYS


def test_no_watcher_no_new_hooks(lab, guard, isp2):
    """What a guest sends meets the bridge table in the new port as well."""
    def add_port():
        wire(lab, "eth1")
        lab.host.ip("link set eth1 master br0")

    def seen_of(namespace, link):
        with Capture(isp2, "eth1") as capture:
            return shoot(namespace, link, capture)

    with bridged(lab) as (guest,):
        add_port()
        assert seen_of(guest, "eth0") == WAYS
        lab.host.ip("link del eth1")
        guard.enable(tunnel="tun0")
        add_port()
        assert seen_of(guest, "eth0") == NONE
        assert frames_of(guard)["eth1"] == "uncovered"
        status = guard.status()
        assert "link-uncovered" in {w["code"] for w in status["warnings"]}
        assert status["guarded"]
        assert seen_of(lab.host, "eth1") == WAYS  # the limit
        guard.enable(tunnel="tun0")
        assert frames_of(guard)["eth1"] == "covered"
        assert seen_of(lab.host, "eth1") == NONE


# --- tunnels made of links --------------------------------------------------

class MadeOfPorts(VethTunnel):
    """A bridge, bond or team whose port leads to the VPN."""

    link, port = "vpn0", "vpnport0"

    def __init__(self, lab, kind):
        super().__init__(lab)
        self.kind = kind

    def _start(self):
        netns.ip(f"link add {self.port} netns host type veth "
                 f"peer name {self.far_link} netns vpn")
        self.lab.host.ip(f"link add {self.link} type {self.kind}",
                         f"link set {self.port} master {self.link}",
                         f"link set {self.port} up")
        self._addresses()

    def _stop(self):
        self.lab.host.ip(f"link del {self.port}", f"link del {self.link}")


@pytest.mark.parametrize("kind", ["bridge", "bond", "team"])
def test_a_tunnel_made_of_ports(lab, guard, isp2, kind):
    if kind != "bridge" and not guests.has_kind(kind):
        pytest.skip(f"no {kind} in this kernel")
    tunnel = MadeOfPorts(lab, kind).up()
    try:
        def carries():
            return (leaks(lab, tunnel.link, lab.vpn, tunnel.far_link),
                    leaks(lab, tunnel.port, lab.vpn, tunnel.far_link),
                    guests.reaches(lab, lab.lan, PUBLIC))

        assert carries() == (WAYS, WAYS, True)
        guard.enable(tunnel="tun9", watch=True)
        assert carries() == (NONE, NONE, False)
        guard.enable(tunnel=tunnel.link)
        assert carries() == (WAYS, WAYS, True)
        found = frames_of(guard)
        assert (found[tunnel.link], found[tunnel.port]) == ("tunnel",
                                                            "carrier")
        # A port that joins later carries it too, and is a link again when
        # it has left.
        wire(lab, "eth1")
        wait_frames(guard, eth1="covered")
        lab.host.ip("link set eth1 down",
                    f"link set eth1 master {tunnel.link}",
                    "link set eth1 up")
        wait_frames(guard, eth1="carrier")
        lab.host.ip("link set eth1 nomaster")
        wait_frames(guard, eth1="covered")
        assert leaks(lab, "eth1", isp2, "eth1") == NONE
    finally:
        tunnel.remove()


@pytest.fixture
def macvlan(lab):
    """mv0, a child of wan0, with a way to the provider of its own."""
    lab.host.ip("link add link wan0 name mv0 type macvlan mode bridge")
    labnet.add_addresses(lab.host, "mv0", "192.0.2.3/24", "2001:db8:2::3/64")
    for address in labnet.GATEWAY:
        prefix = "::/0" if ":" in address else "0.0.0.0/0"
        lab.host.ip(f"route add {prefix} via {address} dev mv0 metric 5000")
        netns.wait_until(lambda a=address: labnet.can_reach(
            lab.host, a, "mv0"), "mv0 carries")
    yield "mv0"
    lab.host.ip("link del mv0")


def test_a_tunnel_that_is_a_macvlan(lab, guard, macvlan):
    """Its frames leave by wan0, which therefore is left to the inet table."""
    def seen():
        return (ask(lab, lab.host, PUBLIC, macvlan).seen,
                ask(lab, lab.host, PUBLIC, "wan0").seen,
                leaks(lab, "wan0", lab.isp, "cust0"))

    assert seen() == (WAYS, WAYS, WAYS)
    guard.enable(tunnel="tun0")
    assert seen() == (NONE, NONE, NONE)
    guard.enable(tunnel=macvlan, watch=True)
    assert seen() == (WAYS, NONE, WAYS)  # the last: the limit
    found = frames_of(guard)
    assert (found[macvlan], found["wan0"]) == ("tunnel", "carrier")
    for names, role, out in (((macvlan, "mv9"), "covered", NONE),
                             (("mv9", macvlan), "carrier", WAYS)):
        lab.host.ip("link set {} name {}".format(*names))
        wait_frames(guard, wan0=role)
        wait_leaks(out, lab, "wan0", lab.isp, "cust0")
