"""Fixtures of the lab. See README.md."""

import os

import netns  # first: ends the process outside a private namespace
import pytest

from guard import Guard, find_program
from labnet import Lab
from tunnels import KINDS


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "soak: takes long; runs in full with LAB_SOAK=1")
    netns.require_private()


def pytest_collection_modifyitems(items):
    if os.environ.get("LAB_SOAK") == "1":
        return
    skip = pytest.mark.skip(reason="a soak: set LAB_SOAK=1")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


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
def make_tunnel(lab):
    """make_tunnel("openvpn", port=...): a tunnel, not up; gone afterwards."""
    made = []

    def make(kind, **options):
        made.append(KINDS[kind](lab, **options))
        return made[-1]

    yield make
    for tunnel in made:
        tunnel.remove()


@pytest.fixture
def veth_tunnel(make_tunnel):
    """A tunnel that costs nothing, up."""
    return make_tunnel("veth").up()
