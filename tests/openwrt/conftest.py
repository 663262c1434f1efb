"""Fixtures for the OpenWrt package. See README.md."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import netns  # noqa: E402  first: ends the process outside a private namespace
from guard import find_program  # noqa: E402
from labnet import Lab  # noqa: E402
from router import BUSYBOX, NETWORK, Router  # noqa: E402


def pytest_configure():
    netns.require_private()


@pytest.fixture(scope="module")
def lab():
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def made_router(lab):
    if not os.access(BUSYBOX, os.X_OK):
        pytest.skip("no busybox-static: scripts/setup kernels")
    if not os.access(find_program(), os.X_OK):
        pytest.fail(f"{find_program()}: not built (make), or set LEAKGUARD")
    return Router(lab)


@pytest.fixture
def router(made_router):
    """Off, with the configuration that is shipped."""
    made_router.power_off()
    made_router.config.write_text(made_router.shipped)
    (made_router.root / "etc/config/network").write_text(NETWORK)
    yield made_router
    made_router.power_off()
