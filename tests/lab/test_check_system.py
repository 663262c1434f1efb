"""What `check` says of the system's own settings: real routes, links and
systemd-resolved; files of others in the lab's own /etc and /run. Machines that
are made up of files alone are in tests/unit/test_check_system.c."""

import contextlib
import json
import pathlib
import shutil

import pytest

import labnet
import netns
import systems
from lookups import resolv_conf
from test_hook_networkd import NETWORKD, NETWORKS, Networkd

PROVIDER = labnet.RESOLVERS["provider"]
INSIDE = labnet.RESOLVERS["inside"]
GATEWAY = labnet.GATEWAY
ETC, RUN = pathlib.Path("/etc"), pathlib.Path("/run")
FOLDERS = (RUN / "systemd", RUN / "NetworkManager", ETC / "firefox",
           ETC / "systemd/resolved.conf.d")


@pytest.fixture(autouse=True)
def clean(lab):
    """No file of one test is found by the next."""
    lab.host.set_resolv_conf(resolv_conf(INSIDE.v4))
    yield
    lab.host.set_resolv_conf("")
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        (ETC / "systemd/resolved.conf").unlink()


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def index(lab, link):
    return json.loads(lab.host.run(
        ["ip", "-j", "link", "show", "dev", link]).stdout)[0]["ifindex"]


class System:
    """The findings of one run."""

    def __init__(self, guard, *ignored):
        done = guard.run("check", "--json")
        self.found = [f for f in json.loads(done.stdout)["system"]
                      if f["topic"] not in ignored]
        for finding in self.found:
            assert finding["text"] and finding["advice"] and finding["subject"]
            assert all(" " <= c <= "~" for part in ("text", "advice", "subject")
                       for c in finding[part]), finding

    def subjects(self, topic, risk=True):
        return {f["subject"] for f in self.found
                if f["topic"] == topic and f["risk"] == risk}

    def text(self, topic):
        return "\n".join(f["text"] for f in self.found if f["topic"] == topic)


def test_nothing(lab, guard, veth_tunnel):
    """A tunnel that carries both families and a resolver inside: no finding."""
    guard.enable(tunnel=veth_tunnel.link)
    assert not System(guard).found


def test_resolvers(lab, guard, veth_tunnel):
    """The route decides: past the tunnel is told of, through it is not."""
    guard.enable(tunnel=veth_tunnel.link)
    lab.host.set_resolv_conf(resolv_conf(PROVIDER.v4, INSIDE.v4))
    lab.host.ip(f"route add {PROVIDER.v4}/32 via {GATEWAY.v4} dev wan0")
    try:
        system = System(guard)
    finally:
        lab.host.ip(f"route del {PROVIDER.v4}/32 via {GATEWAY.v4} dev wan0")
    assert system.subjects("resolver") == {"wan0"}
    assert f"asks {PROVIDER.v4} through wan0" in system.text("resolver")
    assert INSIDE.v4 not in system.text("resolver")
    # Approved, it is nobody's business.
    guard.enable(tunnel=veth_tunnel.link, resolver=f"{PROVIDER.v4} via any")
    assert not System(guard).subjects("resolver")


def test_rogue_route(lab, guard, veth_tunnel):
    guard.enable(tunnel=veth_tunnel.link, resolver=INSIDE.v4)
    assert not System(guard).subjects("route")
    lab.host.ip(f"route add {INSIDE.v4}/32 via {GATEWAY.v4} dev wan0")
    try:
        system = System(guard)
        guard.enable(tunnel=veth_tunnel.link, resolver=f"{INSIDE.v4} via any")
        wanted = System(guard)
    finally:
        lab.host.ip(f"route del {INSIDE.v4}/32 via {GATEWAY.v4} dev wan0")
    assert system.subjects("route") == {"wan0"}
    assert not wanted.subjects("route")


def test_ipv6(lab, guard, veth_tunnel):
    guard.enable(tunnel=veth_tunnel.link)
    assert not System(guard).subjects("ipv6")
    lab.host.run(["ip", "-6", "address", "flush", "dev", veth_tunnel.link])
    assert "wan0" in System(guard).subjects("ipv6")


def test_resolved(lab, guard, veth_tunnel):
    """The real one, as it writes its files."""
    if not systems.find_resolved():
        pytest.skip("no systemd-resolved")
    guard.enable(tunnel=veth_tunnel.link)
    with systems.resolved(lab, [INSIDE.v4]):
        assert not System(guard).found, "off: FallbackDNS, LLMNR, MulticastDNS"
    with systems.resolved(lab, [INSIDE.v4], "LLMNR=yes", "MulticastDNS=resolve",
                          f"FallbackDNS={PROVIDER.v4}"):
        system = System(guard)
        put(ETC / "systemd/resolved.conf.d/quiet.conf",
            "[Resolve]\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
        quiet = System(guard)
    assert system.subjects("fallback") == {"systemd-resolved"}
    assert PROVIDER.v4 in system.text("fallback")
    assert system.subjects("llmnr") == system.subjects("mdns") == {
        "systemd-resolved"}
    assert "wan0" in system.text("llmnr")
    assert veth_tunnel.link not in system.text("llmnr")
    assert not quiet.found


def test_files(lab, guard, veth_tunnel):
    """By the numbers and names of real links."""
    guard.enable(tunnel=veth_tunnel.link)
    wan = index(lab, "wan0")
    put(RUN / f"systemd/resolve/netif/{wan}", "DOMAINS=~.\n")
    put(RUN / "systemd/resolve/resolv.conf", f"nameserver {INSIDE.v4}\n")
    put(ETC / "systemd/resolved.conf",
        "[Resolve]\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
    put(RUN / f"systemd/netif/leases/{wan}",
        "CLASSLESS_ROUTES=0.0.0.0/1,192.0.2.1 128.0.0.0/1,192.0.2.1\n")
    put(RUN / f"NetworkManager/devices/{index(lab, 'lan0')}",
        "[dhcp4]\ndhcp4.rfc3442_classless_static_routes=192.168.77.0/24 10.0.0.1\n")
    put(ETC / "firefox/policies/policies.json", json.dumps(
        {"policies": {"DNSOverHTTPS": {
            "Enabled": True, "ProviderURL": "https://\x1b[31m\u202e.example/"}}}))
    lab.host.ip("link add docker0 type bridge")
    try:
        lab.host.ip("link set docker0 up")
        system = System(guard)
    finally:
        lab.host.ip("link del docker0")
    assert system.subjects("domains") == {"wan0"}
    assert system.subjects("dhcp-routes") == {"wan0", "several"}
    assert system.subjects("dhcp-routes", risk=False) == {"lan0"}
    assert "0.0.0.0/1 128.0.0.0/1" in system.text("dhcp-routes")
    assert system.subjects("guests", risk=False) == {"docker0"}
    assert system.subjects("doh") == {"/etc/firefox/policies/policies.json"}
    assert "https://?[31m" in system.text("doh")


@contextlib.contextmanager
def leased(lab, *options):
    """wan1 with a lease that the real systemd-networkd took; its text."""
    daemon = Networkd(lab)
    put(pathlib.Path(NETWORKS, "10-dhcp.network"),
        "[Match]\nName=wan1\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n")
    lab.host.ip("link add wan1 type veth peer name far1 netns isp")
    lab.isp.ip("addr add 198.18.1.1/24 dev far1", "link set far1 up")
    lease = RUN / f"systemd/netif/leases/{index(lab, 'wan1')}"
    try:
        with systems.dnsmasq(
                lab, lab.isp, "--port=0", "--interface=far1",
                "--dhcp-range=198.18.1.100,198.18.1.150,1h", "--no-ping",
                f"--dhcp-leasefile={lab.dir}/leases", *options):
            process = lab.host.popen([
                "unshare", "--mount", "sh", "-c",
                f"mount -o remount,bind,ro /sys && exec {NETWORKD}"],
                env=daemon.env)
            try:
                netns.wait_until(lease.exists, "a lease", 20)
                yield lease.read_text()
            finally:
                netns.stop(process)
    finally:
        lab.host.ip("link del wan1")
        shutil.rmtree(NETWORKS, ignore_errors=True)
        shutil.rmtree(daemon.hooks, ignore_errors=True)


@pytest.mark.root
@pytest.mark.parametrize("routes", [(), ("8.8.8.0/24", "0.0.0.0/1")])
def test_lease(lab, guard, veth_tunnel, routes):
    """As the real client writes it."""
    guard.enable(tunnel=veth_tunnel.link)
    words = ",".join(f"{route},198.18.1.1" for route in routes)
    with leased(lab, *([f"--dhcp-option=121,{words}"] if routes else [])) as text:
        system = System(guard)
    assert ("CLASSLESS_ROUTES" in text) == bool(routes), text
    assert system.subjects("dhcp-routes") == ({"wan1"} if routes else set())
    for route in routes:
        assert route in system.text("dhcp-routes")


def test_text(lab, guard, veth_tunnel):
    """As people read it: a risk is one without --json, too, and -q keeps it."""
    guard.enable(tunnel=veth_tunnel.link)
    put(RUN / f"systemd/netif/leases/{index(lab, 'wan0')}",
        b"\x1b]0;\x07\xff\nCLASSLESS_ROUTES=8.8.8.8/32,192.0.2.1\n")
    for options in ((), ("-q",)):
        told = guard.run("check", *options).stdout
        assert "wan0 pushes routes past the tunnel" in told, told
        assert "\x1b" not in told
