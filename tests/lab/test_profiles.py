"""rules/*.nft: each is what its command installs, and guards as it says.

Loaded by hand the files leave names the same ways as the command does. Where
nothing is loaded, every probe is seen to get out: the control.
"""

import pytest

import labnet
import profiles
from probes import Probe, all_probes, fire
from test_matrix import State, path_of

# profile -> the tunnel it names, and what it opens outside: (target, port).
OPEN = {
    "laptop-wireguard": ("wg0", set()),
    "lan-resolver": ("tun0", {("gateway", 53), ("gateway", 853)}),
    "router": ("wg0", {("approved", 53), ("approved", 853)}),
    "local-resolver": (None, {("approved", 853)}),
}
UNGUARDED = State("without rules", False, True, None)
LOADED = State("loaded, tunnel up", True, True, None)
LOCKED = State("loaded, no tunnel", True, False, None)


def test_every_profile_is_here():
    assert sorted(OPEN) == profiles.NAMES


@pytest.mark.parametrize("name", profiles.NAMES)
def test_command_installs_the_file(lab, guard, name):
    """enable, `nft -f` of the file, and the file's own words: all the same."""
    guard.enable(*profiles.options(name))
    installed = "".join(guard.listings().values())
    guard.disable()
    lab.host.nft(profiles.path(name).read_text())
    loaded = "".join(guard.listings().values())
    profiles.delete_table(lab.host)
    text = profiles.path(name).read_text()
    assert installed.count("type filter hook egress device") >= 2
    assert (profiles.normalise(profiles.without_links(installed))
            == profiles.normalise(loaded) == profiles.normalise(text))


@pytest.mark.parametrize("name", profiles.NAMES)
def test_enable_finds_nothing_to_do(lab, guard, name):
    """Loaded and hooked by hand it is what enable wants: no rule, set or
    chain is made anew."""
    links = [link["name"] for link in enabled_links(guard, name)
             if link["frames"] == "covered"]
    assert "wan0" in links
    lab.host.nft(profiles.path(name).read_text())
    profiles.hook(lab.host, *links)
    before = with_handles(guard)
    assert before.count("type filter hook egress device") == len(links)
    guard.enable(*profiles.options(name))
    assert with_handles(guard) == before
    guard.disable()


def enabled_links(guard, name):
    """What status says of links under this profile; the guard is off again."""
    guard.enable(*profiles.options(name))
    links = guard.status()["links"]
    guard.disable()
    return links


def with_handles(guard):
    """Everything has a number, and gets another when it is made again."""
    return profiles.normalise("".join(guard.listings("-a").values()))


def is_open(name, probe):
    return (probe.target, probe.port) in OPEN[name][1]


def wrong(name, volley, state):
    """Outcomes that are not as the profile promises."""
    found = [f"[{state.name}] stray {packet}" for packet in volley.strays]
    for outcome in volley:
        path = path_of(outcome.probe, state)
        allowed = (not state.guarded or path == "tunnel"
                   or is_open(name, outcome.probe))
        expected = (allowed and path == "wan", allowed and path == "tunnel")
        if (outcome.seen, outcome.tunnelled) != expected:
            found.append(f"[{state.name}] {outcome}; allowed: {allowed}")
    return found


def fire_all(lab, name, state, tunnel):
    return fire(lab, all_probes(), tunnel if state.tunnel else None,
                lambda probe: not state.guarded
                or path_of(probe, state) == "tunnel" or is_open(name, probe))


@pytest.mark.parametrize("name", profiles.NAMES)
def test_file_guards(lab, make_tunnel, name):
    """Loaded by `nft -f`, without the program: the whole matrix of probes."""
    link = OPEN[name][0]
    tunnel = make_tunnel("veth")
    tunnel.link = link or "tun0"
    states = (LOADED, LOCKED) if link else (LOCKED,)
    if link:
        tunnel.up()
    found = wrong(name, fire_all(lab, name, control(link), tunnel),
                  control(link))
    lab.host.nft(profiles.path(name).read_text())
    try:
        for state in states:
            if not state.tunnel:
                tunnel.remove()
            found += wrong(name, fire_all(lab, name, state, tunnel), state)
    finally:
        profiles.delete_table(lab.host)
    assert not found, f"{len(found)} wrong:\n" + "\n".join(found[:40])


def control(link):
    return UNGUARDED._replace(tunnel=link is not None)


def test_file_lets_the_carrier_out(lab):
    """S3: to the VPN's server on port 53 by UDP, and by nothing else."""
    server = labnet.VPN_ENDPOINT.v4
    probes = [Probe("host", "wan", 4, port, proto, server)
              for port in (53, 853) for proto in ("udp", "tcp")]
    volley = fire(lab, probes)
    assert all(o.seen for o in volley), "control"
    lab.host.nft(profiles.path("laptop-wireguard").read_text())
    try:
        volley = fire(lab, probes)
    finally:
        profiles.delete_table(lab.host)
    assert [o.seen for o in volley] == [True, False, False, False]
