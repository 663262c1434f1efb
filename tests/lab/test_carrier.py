"""S3: the VPN's carrier on a guarded port, by address, by mark and by name."""

import re

import pytest

import labnet
from clients import dig
from lookups import resolv_conf
from resolvers import SlowResolver

NAME = "gate.vpn.example"
ENDPOINT = labnet.VPN_ENDPOINT.v4
OTHER_ENDPOINT = "100.64.0.9"
NAME_SERVER = "198.51.100.54"
MARK = 0x51


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab() as made:
        labnet.add_addresses(made.isp, "lo", NAME_SERVER)
        yield made


@pytest.fixture
def name_server(lab):
    """The provider's, which knows the VPN's endpoint by name."""
    server = SlowResolver(lab.isp, NAME_SERVER, 0, answer=ENDPOINT)
    lab.host.set_resolv_conf(resolv_conf(NAME_SERVER,
                                         options="timeout:1 attempts:1"))
    yield server
    lab.host.set_resolv_conf("")
    server.stop()


@pytest.fixture
def wireguard(make_tunnel):
    """On port 53, where networks that block VPNs let packets through."""
    return make_tunnel("wireguard", port=53, fwmark=MARK)


def endpoints(guard):
    return guard.status()["policy"]["endpoints"]


def rules(guard):
    """The kernel's listing without what the counters have counted."""
    return re.sub(r"packets \d+ bytes \d+", "", guard.listing())


def query_is_seen(lab):
    """A name query to the carrier's own address and port."""
    with lab.watch(lab.host) as seen:
        asked = dig(lab.host, ENDPOINT)
    return bool(seen.name_traffic(asked.label))


def test_mark_tells_the_carrier_from_a_query(lab, guard, wireguard):
    """Address, port and protocol are the same for both."""
    guard.enable(tunnel=wireguard.link, endpoint=f"{ENDPOINT}:53/udp")
    wireguard.up()
    assert query_is_seen(lab), "the control: without the mark"
    guard.enable(tunnel=wireguard.link,
                 endpoint=f"{ENDPOINT}:53/udp,mark={MARK:#x}")
    assert not query_is_seen(lab)
    wireguard.kill()
    wireguard.remake()
    assert not query_is_seen(lab)
    before = guard.status()["counters"]["S3"]["packets"]
    assert wireguard.carries(labnet.TUNNEL_FAR.v4)
    assert guard.status()["counters"]["S3"]["packets"] > before


def test_nothing_comes_up_without_the_endpoint(lab, guard, wireguard):
    """The control of all above: the guard does stop this carrier."""
    guard.enable(tunnel=wireguard.link)
    with pytest.raises(TimeoutError):
        wireguard.up(timeout=1)
    wireguard.remove()
    with lab.watch(lab.host) as seen:
        with pytest.raises(TimeoutError):
            wireguard.up(timeout=1)
    assert not seen.name_traffic()


@pytest.mark.usefixtures("name_server")
@pytest.mark.parametrize("mark", ["", f",mark={MARK:#x}"])
def test_name_is_looked_up_before_the_guard_rises(lab, guard, wireguard, mark):
    """And kept: with the guard up nobody could look it up again."""
    found = [f"{ENDPOINT}:53/udp{mark}"]
    with lab.watch(lab.host) as seen:
        guard.enable(tunnel=wireguard.link, endpoint=f"{NAME}:53/udp{mark}")
    assert seen.name_traffic("gate"), "the control: it is a query as any"
    assert endpoints(guard) == found
    for change in (guard.reload, lambda: guard.enable(
            tunnel=wireguard.link, endpoint=f"{NAME}:53/udp{mark}")):
        with lab.watch(lab.host) as seen:
            done = change()
        assert not seen.name_traffic()
        assert endpoints(guard) == found
        assert NAME in done.stderr and "keeping" in done.stderr
    wireguard.up()
    wireguard.remake()


def test_unknown_name_raises_nothing(lab, guard):
    """No name server answers: nothing is touched, and the name is told."""
    done = guard.enable(tunnel="wg0", endpoint=f"{NAME}:53/udp", check=False)
    assert done.rc == 1 and NAME in done.stderr
    assert guard.state == "OFF"
    guard.enable(tunnel="tun7")
    before = rules(guard)
    done = guard.enable(tunnel="wg0", endpoint=f"{NAME}:53/udp", check=False)
    assert done.rc == 1 and NAME in done.stderr
    assert rules(guard) == before
    del lab


def test_name_is_looked_up_anew_through_the_tunnel(lab, guard, name_server,
                                                   make_tunnel):
    """Where the guard lets the query pass, reload takes the new address."""
    tunnel = make_tunnel("veth")
    guard.enable(tunnel=tunnel.link, endpoint=f"{NAME}:53/udp")
    assert endpoints(guard) == [f"{ENDPOINT}:53/udp"]
    tunnel.up()
    server = SlowResolver(lab.vpn, labnet.TUNNEL_FAR.v4, 0,
                          answer=OTHER_ENDPOINT)
    lab.host.set_resolv_conf(resolv_conf(labnet.TUNNEL_FAR.v4))
    try:
        with lab.watch(lab.host) as seen:
            guard.reload()
        assert not seen.name_traffic()
        assert endpoints(guard) == [f"{OTHER_ENDPOINT}:53/udp"]
    finally:
        server.stop()
    del name_server
