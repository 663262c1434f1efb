"""Fixtures of the lab. See README.md."""

import os

import netns  # first: ends the process outside a private namespace
import pytest

from early import Early
from guard import Guard, find_program
from labnet import Lab
from target import TARGET, Target
from tools import Counter
from tunnels import KINDS


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "soak: takes long; runs in full with LAB_SOAK=1")
    config.addinivalue_line(
        "markers", "root: more than a user namespace allows")
    netns.require_private()


def has_root():
    """Root itself, not the root of a user namespace."""
    identity_map = "0 0 4294967295"
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return " ".join(file.read().split()) == identity_map


def pytest_collection_modifyitems(items):
    left_out = {}
    if os.environ.get("LAB_SOAK") != "1":
        left_out["soak"] = pytest.mark.skip(reason="a soak: set LAB_SOAK=1")
    if not has_root():
        left_out["root"] = pytest.mark.skip(reason="needs root")
    for item in items:
        for keyword in left_out.keys() & set(item.keywords):
            item.add_marker(left_out[keyword])


@pytest.fixture(scope="module")
def lab():
    """A lab without guard or tunnel, one for all tests of a file."""
    with Lab() as made:
        yield made


@pytest.fixture
def guard(lab):
    """leakguard on the host; lowered afterwards."""
    if not os.access(find_program(), os.X_OK):
        pytest.fail(f"{find_program()}: not built (make), or set LEAKGUARD")
    made = Guard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def target(lab):
    """What nobody may reach, shown to be open."""
    with Counter(lab.isp, "cust0", *TARGET) as counter:
        made = Target(lab, counter)
        assert made.is_open(), "the control"
        yield made


@pytest.fixture
def early(lab):
    """The script before the network, as after a boot."""
    made = Early(lab)
    made.forget()
    yield made
    made.guard.disable(check=False)
    made.forget()


@pytest.fixture
def make_tunnel(lab):
    """make_tunnel("openvpn", port=...): a tunnel, not up; gone afterwards."""
    made = []

    def make(kind, **options):
        if kind != "veth" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("no access to /dev/net/tun")
        made.append(KINDS[kind](lab, **options))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.remove()


@pytest.fixture
def veth_tunnel(make_tunnel):
    """A tunnel that costs nothing, up."""
    return make_tunnel("veth").up()
