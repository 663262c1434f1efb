"""Fixtures of the package's tests. They run by tests/package/run, in the lab's
private namespaces, and use the lab's parts."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))

import netns  # noqa: E402  ends the process outside a private namespace
import pytest  # noqa: E402

from debs import Debs  # noqa: E402
from machine import Machine  # noqa: E402

netns.require_private()


@pytest.fixture(scope="session")
def build():
    """The build directory, as tests/package/run left it."""
    return pathlib.Path(os.environ["BUILD"]).resolve()


@pytest.fixture(scope="session")
def debs(build, tmp_path_factory):
    return Debs(build, tmp_path_factory.mktemp("debs"))


@pytest.fixture(scope="module")
def wired(build):
    """A Debian machine with a provider, for all tests of a file."""
    with Machine(build / "package/tree") as made:
        yield made


@pytest.fixture
def machine(wired):
    """The same as new: nothing of leakguard is or was there."""
    wired.renew()
    yield wired
    wired.end_watchers()
    wired.open()
