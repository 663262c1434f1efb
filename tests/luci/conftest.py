"""Fixtures of the tests of LuCI's page. They run by tests/luci/run, in the lab's
private namespaces, and use the lab's parts."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lab"), str(HERE.parent / "openwrt")]

import netns  # noqa: E402  ends the process outside a private namespace
import pytest  # noqa: E402

import webdriver  # noqa: E402
from labnet import HOST_LAN, Lab  # noqa: E402
from luci_server import LuciServer  # noqa: E402
from router import BUSYBOX, make_router  # noqa: E402
from tunnels import VethTunnel  # noqa: E402


def pytest_configure():
    netns.require_private()


@pytest.fixture(scope="session")
def lab():
    """One for all tests; the host is the router."""
    missing = webdriver.missing() + [
        "busybox-static"] * (not os.access(BUSYBOX, os.X_OK))
    if missing:
        pytest.skip(f"no {', '.join(missing)}: scripts/setup luci")
    with Lab() as made:
        yield made


@pytest.fixture(scope="session")
def browser(lab):
    """Somebody on the LAN."""
    with webdriver.Browser(lab.lan, lab.dir) as made:
        yield made


@pytest.fixture
def tunnel(lab):
    """tun0, up; gone afterwards."""
    made = VethTunnel(lab).up()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def made_router(lab):
    return make_router(lab)


@pytest.fixture
def router(made_router):
    """OpenWrt's stand-in with the package (tests/openwrt), switched off."""
    with made_router.as_shipped() as made:
        yield made


@pytest.fixture
def guard(router):
    """The program on it."""
    return router.guard


@pytest.fixture
def server(lab, router):
    """The web server that serves the page."""
    with LuciServer(router, HOST_LAN.v4) as made:
        yield made


@pytest.fixture
def page(browser, server):
    """page("status"): the browser that has opened it."""
    def open_page(name, user="root"):
        browser.open("about:blank")
        browser.errors()
        browser.open(server.page_url(name, user))
        netns.wait_until(lambda: browser.count("#view[data-ready]"),
                         f"{name} is there", 20)
        return browser
    yield open_page
    assert browser.errors() == []


@pytest.fixture(scope="session")
def pictures():
    """Where screenshots go."""
    return f"{os.environ.get('BUILD', str(HERE.parents[1] / 'build'))}/luci"
