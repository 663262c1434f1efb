"""Fixtures for the OpenWrt package. See README.md."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import netns  # noqa: E402  first: ends the process outside a private namespace
from labnet import Lab  # noqa: E402
from router import make_router  # noqa: E402


def pytest_configure():
    netns.require_private()


@pytest.fixture(scope="module")
def lab():
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def made_router(lab):
    return make_router(lab)


@pytest.fixture
def router(made_router):
    with made_router.as_shipped() as made:
        yield made
