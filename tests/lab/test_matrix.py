"""The matrix: what gets out in each state of guard and tunnel.

{no guard, guard before tunnel, tunnel up, down, killed, made anew, disabled} x
{host, LAN client} x {v4, v6} x {53, 853} x {UDP, TCP} x {resolver}, each along
the routing table and past the tunnel. Where nothing guards, every probe must be
seen to get out: the control of all that is not seen later.
"""

import collections
import time

import pytest

import labnet
from probes import Probe, all_probes, fire
from resolvers import ANSWERS
from tunnels import KINDS

APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
# On-link, or with a route of its own: not drawn into the tunnel.
OUTSIDE_TARGETS = ("gateway", "approved")

State = collections.namedtuple("State", "name guarded tunnel enter")


def _raise_guard(guard, tunnel, options):
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED], **options)


def _connect(guard, tunnel, _):
    tunnel.up()
    guard.up(tunnel.link, *INSIDE)


def _disconnect(guard, tunnel, _):
    tunnel.down()
    guard.down(tunnel.link)


def _reconnect_and_kill(guard, tunnel, options):
    _connect(guard, tunnel, options)
    tunnel.kill()


# In this order; what happened before a state is part of it. The tunnel made
# anew has no up hook: it is known by its name (S4).
STATES = (
    State("no guard", False, False, lambda *_: None),
    State("no guard, tunnel up", False, True, lambda g, t, _: t.up()),
    State("tunnel down, no guard", False, False, lambda g, t, _: t.down()),
    State("guard before tunnel", True, False, _raise_guard),
    State("tunnel up", True, True, _connect),
    State("tunnel down", True, False, _disconnect),
    State("tunnel killed", True, False, _reconnect_and_kill),
    State("tunnel made anew", True, True, lambda g, t, _: t.remake()),
    State("tunnel killed again", True, False, lambda g, t, _: t.kill()),
    State("disabled", False, False, lambda g, t, _: g.disable()),
)


def path_of(probe, state):
    """Where the routing table, or the probe's own will, sends it."""
    into_tunnel = (state.tunnel and probe.way == "routed"
                   and probe.target not in OUTSIDE_TARGETS)
    return "tunnel" if into_tunnel else "wan"


def allowed_path(probe, state, mode="either"):
    """The path if the promises S4, S5 and S7 let the probe take it."""
    path = path_of(probe, state)
    if not state.guarded:
        return path
    if mode == "both":  # through the tunnel and to a resolver approved there
        is_allowed = path == "tunnel" and probe.target == "inside"
    else:
        is_allowed = path == "tunnel" or probe.target == "approved"
    return path if is_allowed else None


def expected_answer(probe, path, action):
    if path is None:
        return "rejected" if is_rejected(probe, action) else None
    if (probe.proto, probe.port) == ("tcp", 853):
        return "open"
    if probe.target == "inside" and path == "wan":
        return "forged"
    return probe.target


def is_rejected(probe, action):
    """Must the sender be told? Not the LAN's datagrams, this many being over
    the kernel's limit of ICMP errors; and not local programs that ask a
    resolver which is approved on some path: its packet may yet be re-routed
    when the output chain sees it, and is dropped later if it was not."""
    if probe.origin == "host":
        told = probe.target not in ("inside", "approved")
    else:
        told = probe.proto == "tcp"
    return action == "reject" and told


def got_answer(outcome, action):
    refused = outcome.answer == "refused" or outcome.error
    if action == "reject" and refused:
        return "rejected" if is_rejected(outcome.probe, action) else None
    return outcome.answer


def wrong(outcomes, state, mode, action):
    """Descriptions of all outcomes that are not as promised."""
    found = []
    for outcome in outcomes:
        path = allowed_path(outcome.probe, state, mode)
        answer = expected_answer(outcome.probe, path, action)
        if (outcome.seen, outcome.tunnelled, got_answer(outcome, action)) != (
                path == "wan", path == "tunnel", answer):
            found.append(f"[{state.name}] {outcome}; allowed: {path}, "
                         f"answer: {answer}")
    return found


def run_states(lab, guard, tunnel, mode="either", action="drop", **options):
    """Walk through the states; returns what was wrong in any of them."""
    probes, found = all_probes(), []
    options.update(mode=mode, action=action)
    for state in STATES:
        state.enter(guard, tunnel, options)
        volley = fire(
            lab, probes, tunnel if state.tunnel else None,
            lambda probe, s=state: expected_answer(
                probe, allowed_path(probe, s, mode), action) is not None)
        found += wrong(volley, state, mode, action)
        found += [f"[{state.name}] stray {packet}" for packet in volley.strays
                  if not is_carrier(packet, tunnel)]
    return found


def is_carrier(packet, tunnel):
    return (packet.dst == labnet.VPN_ENDPOINT.v4
            and packet.dport == tunnel.carrier_port)


def report(found):
    return f"{len(found)} not as promised:\n" + "\n".join(found[:40])


def test_answers_are_told_apart():
    assert len(set(ANSWERS.values())) == len(ANSWERS)


@pytest.mark.parametrize("kind", KINDS)
def test_matrix(lab, guard, make_tunnel, kind):
    found = run_states(lab, guard, make_tunnel(kind))
    assert not found, report(found)


@pytest.mark.parametrize("action", ["drop", "reject"])
@pytest.mark.parametrize("mode", ["either", "both"])
def test_matrix_by_policy(lab, guard, make_tunnel, mode, action):
    found = run_states(lab, guard, make_tunnel("veth"), mode=mode,
                       action=action)
    assert not found, report(found)


def test_carrier_on_port_53(lab, guard, make_tunnel):
    """S3: WireGuard on UDP 53 cannot connect until its endpoint is allowed;
    allowed, it opens nothing else."""
    tunnel = make_tunnel("wireguard", port=53)
    guard.enable(tunnel=tunnel.link, resolver=[*APPROVED])
    with pytest.raises(TimeoutError):
        tunnel.up(timeout=1)
    tunnel.down()
    guard.disable()
    found = run_states(lab, guard, tunnel, endpoint=tunnel.endpoint)
    assert not found, report(found)


@pytest.mark.parametrize("mark, is_allowed", [(0x51, True), (0x52, False)])
def test_carrier_by_mark(lab, guard, make_tunnel, mark, is_allowed):
    """S3: with mark=N only packets that carry WireGuard's mark."""
    tunnel = make_tunnel("wireguard", port=53, fwmark=0x51)
    guard.enable(tunnel=tunnel.link,
                 endpoint=f"{tunnel.endpoint},mark={mark}")
    if is_allowed:
        tunnel.up(timeout=5)
    else:
        with pytest.raises(TimeoutError):
            tunnel.up(timeout=1)
    volley = fire(lab, endpoint_probes(("udp",), (53,)))
    assert not any(o.seen for o in volley), "without the mark"


def endpoint_probes(protos=("udp", "tcp"), ports=(53, 853)):
    return [Probe(origin, way, family, port, proto, address)
            for origin in ("host", "lan") for way in ("routed", "wan")
            for family, address in zip((4, 6), labnet.VPN_ENDPOINT)
            for proto in protos for port in ports]


def test_endpoint_is_exact(lab, guard):
    """S3: that address, protocol and port; not the other of any of them."""
    volley = fire(lab, endpoint_probes())
    assert all(o.seen for o in volley), "control"
    v4, v6 = labnet.VPN_ENDPOINT
    guard.enable(tunnel="tun0", endpoint=[f"{v4}:53/udp", f"[{v6}]:853/tcp"])
    volley = fire(lab, endpoint_probes())
    got_out = {(o.probe.family, o.probe.proto, o.probe.port)
               for o in volley if o.seen}
    assert got_out == {(4, "udp", 53), (6, "tcp", 853)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("origin", ["host", "lan"])
@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_reject_tells_the_sender(lab, guard, origin, family, proto):
    """action = reject: local programs and LAN clients learn it at once."""
    guard.enable(resolver=[*APPROVED], action="reject")
    probe = Probe(origin, "routed", family, 53, proto, "public")
    started = time.monotonic()
    outcome, = fire(lab, [probe], None, lambda _: True)
    assert not outcome.seen
    assert outcome.error or outcome.answer == "refused", str(outcome)
    assert time.monotonic() - started < 2
