"""The lab's modules, for the tests of the benchmark."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

import netns  # noqa: E402


def pytest_configure():
    netns.require_private()
