"""monitor: what shows no port is shown, too: later fragments, and frames that
are wrapped or not what they are called."""

import socket

import pytest

import labnet
import netns
from frame_senders import SENDERS
from frames import AUTHENTICATED, LINKS, Wire, hardware_address
from guests import bridged
from labnet import LAN_CLIENT, RESOLVERS
from monitor import LOGGING, Monitor
from test_fragments import cut, send_all

PUBLIC = RESOLVERS["public"]


@pytest.fixture
def logging(guard):
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0", frames="require")
    return guard


def send(wire, frame, sender="raw"):
    SENDERS[sender](wire.lab.host, wire.link, [frame])


@pytest.mark.parametrize("family", [4, 6])
def test_wrapped(lab, logging, family):
    """In whatever it is wrapped, and however it is called: name and user."""
    wire = Wire(lab)
    with Monitor(logging) as monitor:
        for around in LINKS:
            frame = wire.frame(around=around, family=family)
            send(wire, frame)
            one = monitor.wait_name(frame.label)
            assert (one["rule"], one["link"], one["uid"], one["program"]) == \
                ("S11", "wan0", 0, None), around
            assert (one["resolver"], one["port"], one["fragment"]) == \
                (PUBLIC[family == 6], 53, False), around


@pytest.mark.parametrize("around", ["ethernet", "802.1Q says IP",
                                    "says nothing known"])
def test_past_the_queue(lab, logging, around):
    """Its link header is not set, and no rule can read it."""
    wire = Wire(lab)
    frame = wire.frame(around=around)
    with Monitor(logging) as monitor:
        send(wire, frame, "bypass")
        assert monitor.wait_name(frame.label)["rule"] == "S11"


def wait_fragment(monitor, dest, proto="udp"):
    one = monitor.wait(lambda one: one["resolver"] == dest, "a fragment")
    assert one["fragment"] and one["protocol"] == proto
    assert (one["link"], one["uid"], one["program"]) == ("wan0", 0, None)
    assert (one["source_port"], one["port"]) == (None, None)
    assert (one["name"], one["type"], one["encrypted"]) == (None, None, False)
    return one["rule"]


@pytest.mark.parametrize("around", ["ethernet", "802.1Q"])
@pytest.mark.parametrize("inside, family, proto", [
    ("later", 4, "udp"), ("later", 6, "udp"),
    ("later, options first", 6, None)])
def test_fragment_of_a_frame(lab, logging, inside, family, proto, around):
    wire = Wire(lab)
    with Monitor(logging) as monitor:
        send(wire, wire.frame(inside, around, family))
        assert wait_fragment(monitor, PUBLIC[family == 6], proto) == "S11"


def test_fragment(lab, logging):
    """One that its sender kept from being put together: S9. For people, too."""
    piece = cut(labnet.HOST_WAN.v4, PUBLIC.v4)[-1]
    with Monitor(logging) as monitor:
        send_all(lab.host, PUBLIC.v4, [piece], nodefrag=True)
        assert wait_fragment(monitor, PUBLIC.v4) == "S9"
        events, _ = monitor.finish()
    assert not [one for one in events if one["event"] == "not_shown"]
    with Monitor(logging, json_too=False) as monitor:
        send_all(lab.host, PUBLIC.v4, [piece], nodefrag=True)
        line = netns.wait_until(monitor.text, "a line")
    assert f" (fragment) to {PUBLIC.v4} udp by wan0 from " in line
    assert " S9 " in line and " unknown root " in line


@pytest.mark.parametrize("family", [4, 6])
def test_authenticated(lab, guard, family):
    """frames = strict: what hides behind an authentication header."""
    wire = Wire(lab)
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0", frames="strict")
    with Monitor(guard) as monitor:
        send(wire, wire.frame(AUTHENTICATED, family=family))
        one = monitor.wait(lambda one: one["resolver"] == PUBLIC[family == 6],
                           "it is shown")
        assert (one["rule"], one["link"]) == ("S11", "wan0")
        assert not one["fragment"]


def test_bridged(lab, guard):
    """What a bridge hands on: whose it is, and by which port."""
    guard.configure(LOGGING)
    with bridged(lab) as (guest,):
        guard.enable(tunnel="tun0", frames="require")
        wire = Wire(lab)
        mac = hardware_address(guest, "eth0")
        wire.addresses = wire.addresses[:6] + mac
        with Monitor(guard) as monitor:
            for inside, around in (("plain", "PPPoE"), ("plain", "8100/8100"),
                                   ("later", "802.1Q")):
                frame = wire.frame(inside, around)
                SENDERS["raw"](guest, "eth0", [frame])
                one = monitor.wait_name(frame.label) if inside == "plain" \
                    else monitor.wait(lambda one: one["fragment"], inside)
                assert (one["rule"], one["link"], one["in_link"]) == \
                    ("S11", "wan0", "vm0")
                assert one["client"]["mac"] == mac.hex(":")
                assert one["resolver"] == PUBLIC.v4
        guard.disable()


def test_lan_client(lab, guard):
    """What is not led to the router's own resolver is refused early."""
    guard.configure(LOGGING)
    guard.enable(tunnel="tun0", lan="lan0", lan_redirect="local")
    with Monitor(guard) as monitor, lab.lan.inside():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            with pytest.raises(ConnectionRefusedError):
                sock.connect((PUBLIC.v4, 853))
        one = monitor.wait(lambda one: one["resolver"] == PUBLIC.v4, "shown")
        assert (one["rule"], one["in_link"], one["port"]) == \
            ("S7", "lan0", 853)
        assert one["client"]["address"] == LAN_CLIENT.v4
        assert one["encrypted"]


