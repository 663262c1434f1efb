"""The lab's modules, and its refusal to work outside namespaces of its own."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))


def pytest_configure(config):
    config.addinivalue_line("markers", "machine(name): whose boots it is about")
