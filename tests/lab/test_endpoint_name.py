"""A VPN client that connects by name while the guard is up: the three ways of
leakguard(8), each as it is written there, and none without them."""

import pathlib
import re

import pytest

import labnet
import netns
from clients import dig
from lookups import resolv_conf
from resolvers import SlowResolver
from tunnels import OpenVpnTunnel

NAME = "vpn.example.net"
SERVER = labnet.VPN_ENDPOINT.v4
NAME_SERVER = "198.51.100.54"
INSIDE = labnet.RESOLVERS["inside"].v4
HOSTS = pathlib.Path("/etc/netns/host/hosts")
ENDPOINT = f"{NAME}:1194/udp"


class OpenVpnByName(OpenVpnTunnel):
    """Its configuration has the server's name, as most providers' have."""

    def _arguments(self, role, peer):
        args = super()._arguments(role, peer)
        # The name alone, once: a try that fails is soon over.
        return args if role == "server" else [
            *(NAME if word == SERVER else word for word in args),
            "--resolv-retry", "0"]


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab() as made:
        labnet.add_addresses(made.isp, "lo", NAME_SERVER)
        yield made


@pytest.fixture(autouse=True)
def name_server(lab):
    """The provider's, which knows the VPN's server."""
    server = SlowResolver(lab.isp, NAME_SERVER, 0, answer=SERVER)
    lab.host.set_resolv_conf(resolv_conf(NAME_SERVER,
                                         options="timeout:1 attempts:1"))
    yield
    HOSTS.unlink(missing_ok=True)
    lab.host.set_resolv_conf("")
    server.stop()


@pytest.fixture
def client(lab):
    tunnel = OpenVpnByName(lab)
    yield tunnel
    tunnel.remove()


def connects(tunnel):
    """Comes up, and carries."""
    try:
        tunnel.up()
    except netns.CommandError as error:  # the client has ended
        assert "Cannot resolve host address: " + NAME in str(error)
        tunnel.remove()
        return False
    return True


def is_closed(lab):
    """Any other name, asked of the same server."""
    with lab.watch(lab.host) as seen:
        label = dig(lab.host, NAME_SERVER).label
    return not seen.name_traffic(label)


def test_without_a_guard(lab, client):
    """The control: it asks by name, and connects."""
    with lab.watch(lab.host) as seen:
        assert connects(client)
    assert seen.name_traffic()


def test_with_none_of_the_ways(lab, guard, client):
    """The other control: closed is closed, for the client as well."""
    done = guard.enable(tunnel=client.link)
    assert NAME not in done.stdout, "nothing was looked up, nothing is said"
    with lab.watch(lab.host) as seen:
        assert not connects(client)
    assert not seen.name_traffic()


def test_by_hosts(lab, guard, client):
    """The line that enable prints, put into /etc/hosts as it is."""
    done = guard.enable(tunnel=client.link, endpoint=ENDPOINT)
    line = re.search(r"in /etc/hosts: (\S+ \S+)$", done.stdout, re.M)[1]
    assert line == f"{SERVER} {NAME}"
    assert f"{NAME} is {SERVER};" in done.stdout
    assert is_closed(lab)
    HOSTS.write_text(line + "\n", encoding="ascii")
    with lab.watch(lab.host) as seen:
        assert connects(client)
        client.kill()
        client.remake()
    assert not seen.name_traffic()
    assert dig(lab.host, INSIDE).answer == "inside"


def test_by_an_approved_resolver(lab, guard, client):
    """On one link; it may be asked for other names, too, as the page warns."""
    guard.enable(tunnel=client.link, resolver=f"{NAME_SERVER} via wan0")
    assert not is_closed(lab)
    with lab.watch(lab.host) as seen:
        assert connects(client)
    packets = seen.name_traffic()
    assert packets and {packet.dst for packet in packets} == {NAME_SERVER}
    client.kill()
    assert connects(client)
    assert is_closed(lab), "here routes lead to it through the tunnel now"


def test_by_a_pause(lab, guard, client):
    guard.enable(tunnel=client.link)
    guard.pause("30s")
    with lab.watch(lab.host) as seen:
        assert connects(client)
    assert seen.name_traffic()
    guard.resume()
    assert is_closed(lab)
    assert dig(lab.host, INSIDE).answer == "inside"
    # It is over: the next connection has to be by another way.
    client.kill()
    with lab.watch(lab.host) as seen:
        assert not connects(client)
    assert not seen.name_traffic()


def test_one_line_for_a_host(guard):
    """Also where it is given for several ports, and where it was kept."""
    for _ in range(2):
        done = guard.enable(tunnel="tun0", endpoint=[
            ENDPOINT, f"{NAME}:53/udp", f"{NAME}:443/tcp"])
        assert len(re.findall(NAME, done.stdout)) == 2
        assert len(done.stdout.splitlines()) == 2
