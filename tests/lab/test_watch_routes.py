"""The watcher follows routes: a resolver that has been inside stays inside.

Nobody runs a command here once the guard is up: whatever leads a sticky
resolver's route into a tunnel pins it, and whatever leads it out again (a
rogue DHCP server, a dropped or renamed tunnel, rules, metrics) finds it closed
there. Seen in captures of every link outside; with the guard off it arrives.
"""

import os
import pathlib
import re
import signal

import pytest

import labnet
import netns
import systems
from clients import dig
from probes import Probe, fire
from tools import SOAK, comparable, generation
from tunnels import VethTunnel

INSIDE = labnet.RESOLVERS["inside"]
PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
GATEWAY = labnet.GATEWAY
PATIENCE_S = 20
WG_TABLE = 51820


class BareTunnel(VethTunnel):
    """Up and carrying, but no route of the host leads into it."""

    def _route(self):
        self.lab.vpn.ip(*(
            f"route replace {prefix} via {address} dev {self.far_link}"
            for prefix, address in zip(labnet.LAN_PREFIX, labnet.TUNNEL_HOST,
                                       strict=True)))


@pytest.fixture
def bare_tunnel(lab):
    made = BareTunnel(lab)
    yield made
    made.remove()
    run_lines(lab.host, ["route del {inside}"], force=["-force"])


def probes(ways=("routed",), target="inside"):
    return [Probe(origin, way, family, port, proto, target)
            for origin in ("host", "lan") for way in ways
            for family in (4, 6) for port in (53, 853)
            for proto in ("udp", "tcp")]


def paths(lab, which, tunnel=None):
    return {"wan" if o.seen else "tunnel" if o.tunnelled else None
            for o in fire(lab, which, tunnel)}


def pinned(guard):
    """What the record in the run directory has as pins."""
    text = pathlib.Path(guard.run_dir, "state").read_text(encoding="utf-8")
    section = text.partition("[pinned]\n")[2].partition("[")[0]
    return set(re.findall(r"(?m)^resolver = (\S+)$", section))


def wait_pinned(guard, *addresses):
    netns.wait_until(lambda: pinned(guard) == set(addresses),
                     f"the watcher pins {addresses}", PATIENCE_S)


def tried(guard):
    """(resolver, link) of each route that the watcher names."""
    return {(one["resolver"], one["link"])
            for one in guard.watcher["routes_tried"]}


def wait_tried(guard, address, link):
    netns.wait_until(lambda: (address, link) in tried(guard),
                     f"the watcher names {address} through {link}", PATIENCE_S)


# --- ways into the tunnel and out of it -------------------------------------

# Lines of ip(8), for both families; those of links once. `before` leads
# nowhere yet, `into` leads in, `out` leads out, `again` undoes that.
INTO = "route replace {inside} via {far} dev tun0"
OUT = "route replace {inside} via {gateway} dev wan0"
METRIC_IN = "route add {inside} via {far} dev tun0 metric 100"
HALVES_IN = ("route add {low} via {far} dev tun0",
             "route add {high} via {far} dev tun0")
HALVES_OUT = ("route add {low} via {gateway} dev wan0",
              "route add {high} via {gateway} dev wan0")
WG_RULES = ("rule add pref 100 table main suppress_prefixlength 0",
            f"rule add pref 101 not fwmark {WG_TABLE} table {WG_TABLE}")
WG_OFF = ("rule del pref 100", "rule del pref 101")
WG_ROUTE = f"route add default via {{far}} dev tun0 table {WG_TABLE}"


class Way:
    """Where `out` leads while guarded and without a guard, and by which link
    the watcher sees it lead (None: it does not, "": either)."""

    def __init__(self, into, out, again=None, before=(), after=(),
                 guarded=(None,), free=("wan",), link="wan0"):
        self.before, self.into, self.out = before, into, out
        self.again, self.after = again or into, after
        self.guarded, self.free, self.link = set(guarded), set(free), link


WAYS = {
    "a host route": Way([INTO], [OUT]),
    "a longer prefix outside": Way(
        HALVES_IN, [OUT], ["route del {inside}"]),
    "a metric": Way(
        [METRIC_IN],
        ["route add {inside} via {gateway} dev wan0 metric 50"],
        ["route del {inside} metric 50"]),
    "the default route": Way(
        ["route replace default via {far} dev tun0"],
        ["route replace default via {gateway} dev wan0"],
        after=["route replace default via {gateway} dev wan0"]),
    "wg-quick's rules": Way(WG_RULES, WG_OFF, before=[WG_ROUTE],
                              after=WG_OFF),
    "wg-quick's rules, and halves outside": Way(
        WG_RULES, HALVES_OUT, ["route del {low}", "route del {high}"],
        before=[WG_ROUTE], after=WG_OFF),
    "a rule for the address": Way(
        ["rule add to {inside} lookup 200 pref 200"],
        [f"rule add to {{inside}} lookup {labnet.WAN_TABLE} pref 100"],
        ["rule del pref 100"],
        before=["route add default via {far} dev tun0 table 200"],
        after=["rule del pref 200"]),
    "a rule for the LAN": Way(
        [INTO], ["rule add iif lan0 to {inside} lookup "
                 f"{labnet.WAN_TABLE} pref 100"],
        ["rule del pref 100"], guarded=(None, "tunnel"),
        free=("wan", "tunnel"), link=None),
    "a nexthop object": Way(
        ["nexthop replace id {id} via {far} dev tun0"],
        ["nexthop replace id {id} via {gateway} dev wan0"],
        before=["nexthop add id {id} via {gateway} dev wan0",
                "route add {inside} nhid {id}"],
        after=["nexthop del id {id}"]),
    "a second hop": Way(
        [INTO], ["route replace {inside} nexthop via {far} dev tun0 "
                 "nexthop via {gateway} dev wan0"],
        guarded=(None, "tunnel"), free=("wan", "tunnel"), link=""),
    "a link that takes and loses the name": Way(
        ["link set foo0 name tun0"], ["link set tun0 name foo0"],
        before=["link set tun0 name foo0",
                "route add {inside} via {far} dev foo0"],
        after=["link set foo0 name tun0"], free=("tunnel",), link="foo0"),
    "a link that is up and down": Way(
        ["link set tun0 up", "address replace {host} dev tun0 nodad", INTO],
        ["link set tun0 down"], before=["link set tun0 down"]),
    "a blackhole": Way(
        [METRIC_IN], ["route add blackhole {inside} metric 50"],
        ["route del {inside} metric 50"], free=(None,), link=None),
    "an unreachable route": Way(
        [METRIC_IN], ["route add unreachable {inside} metric 50"],
        ["route del {inside} metric 50"], free=(None,), link=None),
}
FAMILIES = [
    dict(inside=INSIDE.v4, far=labnet.TUNNEL_FAR.v4, gateway=GATEWAY.v4,
         low="0.0.0.0/1", high="128.0.0.0/1", id=4,
         host=f"{labnet.TUNNEL_HOST.v4}/24"),
    dict(inside=INSIDE.v6, far=labnet.TUNNEL_FAR.v6, gateway=GATEWAY.v6,
         low="::/1", high="8000::/1", id=6,
         host=f"{labnet.TUNNEL_HOST.v6}/64"),
]


def run_lines(host, lines, force=()):
    """ip(8) lines for IPv4, then for IPv6, which need not set links again."""
    for option, words in zip(("-4", "-6"), FAMILIES, strict=True):
        text = [line.format(**words) for line in lines
                if option == "-4" or not line.startswith("link")]
        host.run(["ip", option, *force, "-batch", "-"],
                 stdin="\n".join(text) + "\n", check=not force)


@pytest.fixture(params=WAYS)
def way(lab, bare_tunnel, request):
    """One of WAYS, prepared; what it leaves is removed."""
    made = WAYS[request.param]
    # Queries spread over both hops; a nexthop says for itself that it changed.
    lab.host.sysctl(net__ipv4__fib_multipath_hash_policy=1,
                    net__ipv6__fib_multipath_hash_policy=1,
                    net__ipv4__nexthop_compat_mode=0)
    bare_tunnel.up()
    run_lines(lab.host, made.before)
    yield made
    run_lines(lab.host, [*made.again, *made.after], force=["-force"])


def test_pinned_by_itself(lab, guard, bare_tunnel, way):
    """Whatever leads in pins; whatever leads out finds it closed there."""
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE], watch=True)
    assert None not in paths(lab, probes(), bare_tunnel), "the control"
    assert not pinned(guard)
    run_lines(lab.host, way.into)
    wait_pinned(guard, *INSIDE)
    assert not any(address in text for address in INSIDE
                   for text in guard.listings().values())
    assert paths(lab, probes(), bare_tunnel) == {"tunnel"}
    before, looked = comparable(guard.listing()), guard.watcher["looked"]
    run_lines(lab.host, way.out)
    assert paths(lab, probes(), bare_tunnel) == way.guarded
    netns.wait_until(lambda: guard.watcher["looked"] > looked,
                     "the watcher looks", PATIENCE_S)
    assert paths(lab, probes(), bare_tunnel) == way.guarded
    if way.link:
        expected = {(address, way.link) for address in INSIDE}
        netns.wait_until(lambda: tried(guard) == expected,
                         f"the watcher names {expected}", PATIENCE_S)
    assert way.link == "" or bool(tried(guard)) == bool(way.link)
    run_lines(lab.host, way.again)
    assert paths(lab, probes(), bare_tunnel) == {"tunnel"}
    run_lines(lab.host, way.out)
    assert comparable(guard.listing()) == before
    guard.disable()
    assert paths(lab, probes(), bare_tunnel) == way.free, "the control"


def test_one_of_several_hops_pins(lab, guard, bare_tunnel):
    """A route over the tunnel and past it has led some queries inside."""
    several = {f"10.64.1.{number}" for number in range(16)}
    guard.enable(tunnel=bare_tunnel.link, resolver=[*several], watch=True)
    bare_tunnel.up()
    looked = guard.watcher["looked"]
    lab.host.ip(*(f"route add {address} "
                  f"nexthop via {labnet.TUNNEL_FAR.v4} dev tun0 "
                  f"nexthop via {GATEWAY.v4} dev wan0"
                  for address in several))
    try:
        netns.wait_until(lambda: guard.watcher["looked"] > looked,
                         "the watcher looks", PATIENCE_S)
        guard.reload()
        assert pinned(guard) == several
    finally:
        lab.host.ip(*(f"route del {address}" for address in several))


# --- tunnels that come and go -----------------------------------------------

@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_killed_and_made_anew(lab, guard, make_tunnel, kind):
    tunnel = make_tunnel(kind)
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE], watch=True)
    assert paths(lab, probes()) == {"wan"}, "the control"
    tunnel.up()
    wait_pinned(guard, *INSIDE)
    tunnel.kill()
    assert paths(lab, probes()) == {None}
    netns.wait_until(lambda: len(tried(guard)) == 2, "status names both",
                     PATIENCE_S)
    assert guard.state == "LOCKED"
    tunnel.remake()
    netns.wait_until(lambda: paths(lab, probes(), tunnel) == {"tunnel"},
                     "the tunnel made anew carries all", PATIENCE_S)
    assert dig(lab.host, INSIDE.v4, "+short").answer == "inside"
    assert guard.state == "GUARDED"
    tunnel.down()
    assert paths(lab, probes()) == {None}
    guard.disable()
    assert paths(lab, probes()) == {"wan"}, "the control"


class OtherTunnel(BareTunnel):
    """To the same VPN beside the first."""

    link, far_link = "wg1", "wg1far"
    near, far = (labnet.Addresses("10.66.0.2", "fd66::2"),
                 labnet.Addresses("10.66.0.1", "fd66::1"))

    def _addresses(self):
        for where, link, both in ((self.lab.host, self.link, self.near),
                                  (self.lab.vpn, self.far_link, self.far)):
            labnet.add_addresses(where, link, f"{both.v4}/24",
                                 f"{both.v6}/64")

    def up(self, timeout=20):
        self._start()
        for address in self.far:
            netns.wait_until(lambda a=address: self.carries(a),
                             f"{self.link} carries to {address}", timeout)
        return self

    def lead(self):
        """The resolver's route into this tunnel."""
        for number, option in enumerate(("-4", "-6")):
            self.lab.host.run(["ip", option, "route", "replace",
                               INSIDE[number], "via", self.far[number],
                               "dev", self.link])


@pytest.fixture
def other_tunnel(lab):
    made = OtherTunnel(lab)
    yield made.up()
    made.remove()


@pytest.mark.parametrize("both", [True, False])
def test_two_tunnels(lab, guard, bare_tunnel, other_tunnel, both):
    """A pin is to tunnels, whichever; a link that is none is outside."""
    links = [bare_tunnel.link, "wg*"][:1 + both]
    expected = {"tunnel" if both else None}
    guard.enable(tunnel=links, resolver=[*INSIDE], watch=True)
    bare_tunnel.up()
    run_lines(lab.host, [INTO])
    wait_pinned(guard, *INSIDE)
    other_tunnel.lead()
    assert paths(lab, probes(), other_tunnel) == expected
    bare_tunnel.down()
    assert paths(lab, probes(), other_tunnel) == expected
    if not both:
        wait_tried(guard, INSIDE.v6, other_tunnel.link)
    run_lines(lab.host, [OUT])
    assert paths(lab, probes(), other_tunnel) == {None}
    wait_tried(guard, INSIDE.v6, "wan0")
    assert both or (INSIDE.v6, other_tunnel.link) in tried(guard)
    guard.disable()
    assert paths(lab, probes(), other_tunnel) == {"wan"}, "the control"


def test_only_sticky_resolvers_are_pinned(lab, guard, bare_tunnel):
    """"via any" never, "via wan0" is tied, and one that was never inside is
    as it was: approved by any path."""
    guard.enable(tunnel=bare_tunnel.link, watch=True, resolver=[
        *INSIDE, f"{PUBLIC.v4} via any", f"{PUBLIC.v6} via wan0", *APPROVED])
    bare_tunnel.up()
    run_lines(lab.host, HALVES_IN)
    wait_pinned(guard, *INSIDE)
    for_any, tied = ([p for p in probes(("wan",), "public")
                      if p.family == family] for family in (4, 6))
    never_inside = probes(("wan", "routed"), "approved")

    def require_open():
        assert paths(lab, for_any) == {"wan"}
        assert paths(lab, tied) == {"wan"}
        assert paths(lab, never_inside) == {"wan"}
        assert paths(lab, probes(("wan",))) == {None}
        assert pinned(guard) == {*INSIDE}

    require_open()
    routed = [p for p in probes(("routed",), "public")]
    assert paths(lab, routed, bare_tunnel) == {"tunnel"}
    bare_tunnel.kill()
    require_open()
    assert {address for address, _ in tried(guard)} <= {*INSIDE}


# --- it never opens ---------------------------------------------------------

STORMS = 200 if SOAK else 4
STORM = [line for number in range(50) for line in (
    OUT, INTO, f"link set tun0 mtu {1300 + number}")]


def test_a_storm_changes_nothing(lab, guard, bare_tunnel):
    """A pinned resolver goes in and out: not one transaction."""
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE], watch=True)
    bare_tunnel.up()
    before = generation(lab.host)
    run_lines(lab.host, [INTO])
    wait_pinned(guard, *INSIDE)
    assert generation(lab.host) != before, "the control: a pin is one"
    listing, before = comparable(guard.listing()), generation(lab.host)
    for _ in range(STORMS):
        looked = guard.watcher["looked"]
        run_lines(lab.host, [*STORM, OUT])
        assert paths(lab, probes()) == {None}
        netns.wait_until(lambda n=looked: guard.watcher["looked"] > n,
                         "the watcher looks", PATIENCE_S)
        assert paths(lab, probes()) == {None}
    wait_tried(guard, INSIDE.v4, "wan0")
    assert generation(lab.host) == before
    assert comparable(guard.listing()) == listing
    guard.disable()
    assert paths(lab, probes()) == {"wan"}, "the control"


# --- pins last --------------------------------------------------------------

def keeper_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    parent = int(re.search(r"(?m)^PPid:\t(\d+)$", text)[1])
    comm = pathlib.Path(f"/proc/{parent}/comm").read_text(encoding="ascii")
    assert comm == "leakguard\n"
    return parent


def test_pins_outlive_watchers(lab, guard, bare_tunnel):
    """Killed, and with the keeper; not `disable`."""
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE], watch=True)
    bare_tunnel.up()
    run_lines(lab.host, [INTO])
    wait_pinned(guard, *INSIDE)
    first = guard.watcher["pid"]
    os.kill(first, signal.SIGKILL)
    netns.wait_until(lambda: guard.watcher and guard.watcher["pid"] != first,
                     "the keeper starts another", PATIENCE_S)
    run_lines(lab.host, [OUT])
    assert paths(lab, probes()) == {None}
    assert pinned(guard) == {*INSIDE}
    second = guard.watcher["pid"]
    os.kill(keeper_of(second), signal.SIGKILL)
    os.kill(second, signal.SIGKILL)
    netns.wait_until(lambda: guard.watcher is None, "none is left",
                     PATIENCE_S)
    assert paths(lab, probes()) == {None}
    guard.watch("--until-disable")
    netns.wait_until(lambda: guard.watcher and len(tried(guard)) == 2,
                     "another finds the routes", PATIENCE_S)
    assert paths(lab, probes()) == {None}
    assert all(r["pinned"] for r in guard.status()["resolvers"])
    guard.disable()
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE], watch=True)
    assert not pinned(guard)
    assert paths(lab, probes()) == {"wan"}, "the control"


# --- rogue networks ---------------------------------------------------------

@pytest.fixture
def rogue(lab):
    """rogue(resolver, gateway): a network that wants this resolver's queries."""
    made = []

    def make(resolver, gateway="10.9.0.1"):
        made.append(systems.RogueNetwork(lab, gateway, resolver))
        return made[-1]

    yield make
    for network in made:
        network.close()


def ask(lab, network, address):
    """(who answered, name traffic that the rogue network saw)"""
    v4 = [p for p in probes(target=address) if p.family == 4]
    with network.watch() as seen:
        answer = dig(lab.host, address, "+short").answer
        outside = paths(lab, v4)
    assert "wan" not in outside
    return answer, len(seen.name_traffic())


def require_stolen(lab, network, address):
    """The control: every query arrives there, and is answered by another."""
    answer, packets = ask(lab, network, address)
    assert answer == "forged" and packets > 8


def texts(guard, code):
    return [warning["text"] for warning in guard.status()["warnings"]
            if warning["code"] == code]


@pytest.fixture
def watcher_log(lab, guard):
    """Start a watcher in the foreground; what it has logged so far."""
    path = pathlib.Path(lab.dir, "watcher.log")
    started = []

    def start():
        with open(path, "wb") as file:
            started.append(lab.host.popen(guard.command("watch"),
                                          stdout=file, stderr=file))
        netns.wait_until(lambda: guard.watcher, "the watcher answers",
                         PATIENCE_S)
        return path.read_text

    yield start
    for process in started:
        netns.stop(process)


# how the tunnel is routed, and which routes of the DHCP server beat that
VISIONS = {
    "a host route past halves": (HALVES_IN, (), [f"{INSIDE.v4}/32"]),
    "halves past wg-quick": ([WG_ROUTE, *WG_RULES], WG_OFF,
                             ["0.0.0.0/1", "128.0.0.0/1"]),
}


@pytest.mark.parametrize("into, after, routes", VISIONS.values(), ids=VISIONS)
def test_tunnelvision(lab, guard, bare_tunnel, rogue, watcher_log, into,
                      after, routes):
    """CVE-2024-3661: a DHCP server's classless routes beat the tunnel's."""
    network = rogue(INSIDE.v4)
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE])
    log = watcher_log()
    bare_tunnel.up()
    try:
        run_lines(lab.host, into)
        wait_pinned(guard, *INSIDE)
        network.join(*routes)
        assert ask(lab, network, INSIDE.v4) == (None, 0)
        wait_tried(guard, INSIDE.v4, network.link)
        told, = texts(guard, "resolver-outside-tunnel")
        logged, = [line for line in log().splitlines() if "outside" in line]
        for text in (told, logged):
            assert INSIDE.v4 in text and network.link in text
            assert "blocked" in text
        assert ask(lab, network, INSIDE.v4) == (None, 0)
        guard.enable(tunnel=bare_tunnel.link, resolver=f"{INSIDE.v4} via any")
        require_stolen(lab, network, INSIDE.v4)
        guard.disable()
        require_stolen(lab, network, INSIDE.v4)
    finally:
        run_lines(lab.host, after)


def test_status_remembers_the_route(lab, guard, bare_tunnel, rogue):
    """Gone again, as rogue routes are: status tells, and names are found."""
    network = rogue(INSIDE.v4)
    guard.enable(tunnel=bare_tunnel.link, resolver=[*INSIDE], watch=True)
    bare_tunnel.up()
    run_lines(lab.host, HALVES_IN)
    wait_pinned(guard, *INSIDE)
    network.join(f"{INSIDE.v4}/32")
    wait_tried(guard, INSIDE.v4, network.link)
    assert not texts(guard, "route-tried")
    lab.host.ip(f"link set {network.link} down")
    text, = texts(guard, "route-tried")
    assert INSIDE.v4 in text and network.link in text
    assert not texts(guard, "resolver-outside-tunnel")
    assert dig(lab.host, INSIDE.v4, "+short").answer == "inside"


def test_localnet(lab, guard, bare_tunnel, rogue):
    """CVE-2023-36672: a lease of the very network that the resolver is in."""
    network = rogue(PUBLIC.v4, gateway=PUBLIC.v4.rpartition(".")[0] + ".1")
    guard.enable(tunnel=bare_tunnel.link, resolver=[*PUBLIC], watch=True)
    bare_tunnel.up()
    run_lines(lab.host, HALVES_IN)
    wait_pinned(guard, *PUBLIC)
    assert dig(lab.host, PUBLIC.v4, "+short").answer == "public"
    network.join()
    assert ask(lab, network, PUBLIC.v4) == (None, 0)
    wait_tried(guard, PUBLIC.v4, network.link)
    text, = texts(guard, "resolver-outside-tunnel")
    assert PUBLIC.v4 in text and network.link in text and "blocked" in text
    guard.disable()
    require_stolen(lab, network, PUBLIC.v4)
