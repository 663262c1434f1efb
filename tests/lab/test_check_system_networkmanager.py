"""What `check` says of a lease that a real NetworkManager took."""

import json

import pytest

import labnet
import networkmanager
import systems

pytestmark = pytest.mark.root

PROVIDER = labnet.RESOLVERS["provider"]
WAN = """[connection]
id=wan
type=ethernet
interface-name=wan0
autoconnect=false
[ipv4]
method=auto
[ipv6]
method=disabled
"""


@pytest.fixture
def lab():
    """One for each test: a NetworkManager leaves its marks."""
    with labnet.Lab() as made:
        yield made


@pytest.fixture
def connected(lab):
    """connected(option...): the findings on a host with such a lease."""
    if networkmanager.missing():
        pytest.skip(networkmanager.missing())

    def find(*options):
        with systems.dnsmasq(
                lab, lab.isp, "--port=0", "--interface=cust0",
                "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--no-ping",
                "--dhcp-authoritative", f"--dhcp-leasefile={lab.dir}/leases",
                f"--dhcp-option=option:dns-server,{PROVIDER.v4}", *options), \
                networkmanager.Machine(lab) as machine:
            machine.add_connection("wan", WAN)
            machine.nmcli("connection", "up", "wan")
            done = machine.run([
                networkmanager.find_program(), "check", "--json",
                "--run-dir", f"{lab.dir}/run", "-c", "/dev/null"], check=False)
        return json.loads(done.stdout)["system"]

    return find


@pytest.mark.parametrize("routes", [(), ("8.8.8.0/24", "0.0.0.0/1")])
def test_lease(connected, routes):
    words = ",".join(f"{route},192.0.2.1" for route in routes)
    found = connected(*([f"--dhcp-option=121,{words}"] if routes else []))
    resolvers = [f for f in found if f["topic"] == "resolver"]
    pushed = [f for f in found if f["topic"] == "dhcp-routes"]
    assert [f["subject"] for f in resolvers] == ["wan0"]
    assert PROVIDER.v4 in resolvers[0]["text"]
    assert [f["subject"] for f in pushed] == ["wan0"] * bool(routes)
    for route in routes:
        assert route in pushed[0]["text"] and pushed[0]["risk"]
