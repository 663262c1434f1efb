"""Fixtures of the tests of LuCI's page. They run by tests/luci/run, in the lab's
private namespaces, and use the lab's parts."""

import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))

import netns  # noqa: E402  ends the process outside a private namespace
import pytest  # noqa: E402

import webdriver  # noqa: E402
from guard import Guard, find_program  # noqa: E402
from labnet import HOST_LAN, Lab  # noqa: E402
from plugin import Plugin  # noqa: E402
from luci_server import LuciServer  # noqa: E402
from tunnels import VethTunnel  # noqa: E402
from uci_file import UciFile  # noqa: E402

def pytest_configure():
    netns.require_private()


@pytest.fixture(scope="session")
def lab():
    """One for all tests; the host is the router."""
    missing = webdriver.missing()
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
def guard(lab):
    """leakguard on the router; lowered afterwards."""
    if not os.access(find_program(), os.X_OK):
        pytest.fail(f"{find_program()}: not built (make), or set LEAKGUARD")
    made = Guard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def tunnel(lab):
    """tun0, up; gone afterwards."""
    made = VethTunnel(lab).up()
    yield made
    made.remove()


@pytest.fixture
def plugin(guard):
    """The rpcd script, and the files of UCI."""
    made = Plugin(guard, tempfile.mkdtemp(prefix="luci-", dir="/run/lab"))
    yield made
    made.close()


@pytest.fixture
def router(lab, plugin):
    """The web server that serves the page."""
    uci = UciFile({name: plugin.config(name) for name in ("leakguard", "network")})
    with LuciServer(lab.host, HOST_LAN.v4, plugin.command, uci) as made:
        yield made


@pytest.fixture
def page(browser, router):
    """page("status"): opens it, once it is there; page.browser, page.router."""
    def open_page(name, user="root"):
        browser.open("about:blank")
        browser.errors()
        browser.open(router.page_url(name, user))
        netns.wait_until(lambda: browser.count("#view[data-ready]"),
                         f"{name} is there", 20)
        return browser
    yield open_page
    assert browser.errors() == []


@pytest.fixture(scope="session")
def pictures():
    """Where screenshots go."""
    return f"{os.environ.get('BUILD', str(HERE.parents[1] / 'build'))}/luci"
