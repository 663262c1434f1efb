"""openconnect with scripts/hooks/openconnect, against a real ocserv.

The server pushes its resolvers, and routes for everything. vpnc-script does
what it does for anybody: addresses, routes, resolv.conf.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

import labnet
import lookups
import netns
from clients import send_crafted
from hooks import (HOOKS, HookedGuard, ask, assert_open, assert_served,
                   assert_shut)
from resolvers import find_tool, make_certificate

NAME, USER, PASSWORD = "vpn.example.net", "alice", "let me in"
ENDPOINT = labnet.VPN_ENDPOINT.v4
INSIDE = labnet.RESOLVERS["inside"]
GATEWAY, PUBLIC = labnet.GATEWAY, labnet.RESOLVERS["public"]
LINK = "tun0"
BROUGHT = {f"{address} via {LINK}" for address in INSIDE}
CLOSED, UP = ("LOCKED", set(), set()), ("GUARDED", {LINK}, BROUGHT)
RESOLV_CONF = lookups.resolv_conf(labnet.RESOLVERS["provider"].v4)
DEFAULT_ROUTE = f"default via {GATEWAY.v4} dev wan0"
# vpnc-script runs what is in these before its own work.
STEPS = ("connect", "disconnect", "attempt-reconnect", "reconnect")

pytestmark = pytest.mark.skipif(
    not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="no access to /dev/net/tun")


class Server:
    """ocserv in the VPN's namespace, with what it pushes. It leaves groups,
    which only root itself can."""

    def __init__(self, lab, port=443, rekey_s=86400, dns=INSIDE, **settings):
        self.lab, self.port = lab, port
        self.certificate, key = make_certificate(lab.dir, NAME)
        settings = {
            "auth": f'"plain[passwd={lab.dir}/ocserv.passwd]"',
            "listen-host": ENDPOINT, "tcp-port": port, "udp-port": port,
            "run-as-user": "root", "run-as-group": "root",
            "socket-file": f"{lab.dir}/ocserv.socket",
            "pid-file": f"{lab.dir}/ocserv.pid",
            "server-cert": self.certificate, "server-key": key,
            "isolate-workers": "false", "use-occtl": "false",
            "device": "oc", "predictable-ips": "true",
            "ipv4-network": "10.65.0.0", "ipv4-netmask": "255.255.255.0",
            "ipv6-network": "fd65::/64", "max-clients": 8,
            "max-same-clients": 8, "dpd": 3, "cookie-timeout": 30,
            "rekey-time": rekey_s, "rekey-method": "ssl",
            "cisco-client-compat": "true", "dtls-legacy": "true",
            "rate-limit-ms": 0, "max-ban-score": 0,
            **{key.replace("_", "-"): value
               for key, value in settings.items()}}
        self.config = pathlib.Path(lab.dir, "ocserv.conf")
        self.config.write_text("\n".join(
            [f"{key} = {value}" for key, value in settings.items()]
            + [f"dns = {address}" for address in dns]) + "\n",
            encoding="ascii")
        hashed = subprocess.run(
            ["openssl", "passwd", "-5", "-stdin"], input=PASSWORD, text=True,
            check=True, capture_output=True, timeout=10).stdout.strip()
        pathlib.Path(lab.dir, "ocserv.passwd").write_text(
            f"{USER}:*:{hashed}\n", encoding="ascii")
        self.process = None
        self.start()

    def start(self):
        with open(f"{self.lab.dir}/ocserv.log", "ab") as log:
            # A group of its own: a server has workers, which shall die too.
            self.process = self.lab.vpn.popen(
                [find_tool("ocserv"), "-f", "-c", self.config], stdout=log,
                stderr=log, start_new_session=True)
        netns.wait_until(
            lambda: self.process.poll() is None
            and self._accepts(),
            "ocserv listens")

    def _accepts(self):
        with self.lab.vpn.inside(), socket.socket() as sock:
            return sock.connect_ex((ENDPOINT, self.port)) == 0

    def kill(self):
        """All of it at once: nobody is left to say goodbye."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)

    def stop(self):
        if self.process.poll() is None:
            self.kill()


class Client:
    """README's line, with what a test needs besides: who, and to whom."""

    def __init__(self, guard, server, *options):
        self.guard, self.lab = guard, guard.lab
        self.log = pathlib.Path(self.lab.dir, "openconnect.log")
        line = guard.readme("openconnect").replace(
            "203.0.113.7", ENDPOINT).replace(
            f"https://{NAME}", f"https://{NAME}:{server.port}")
        options = ["--passwd-on-stdin", "--user", USER, "--cafile",
                   server.certificate, *options]
        line = re.sub("^openconnect ", f"exec openconnect {' '.join(options)} ",
                      line)
        with open(self.log, "wb") as log:
            self.process = self.lab.host.popen(
                ["sh", "-c", line], stdin=subprocess.PIPE, stdout=log,
                stderr=log, env=guard.env)
        self.process.stdin.write(f"{PASSWORD}\n".encode())
        self.process.stdin.close()

    def says(self, text):
        return text in self.log.read_text(errors="replace")

    def is_connected(self):
        if self.process.poll() is not None:
            raise netns.CommandError(self.log.read_text(errors="replace"))
        # The last that vpnc-script does.
        return "VPNC_GENERATED" in host_state(self.lab)[1]

    def connected(self):
        netns.wait_until(self.is_connected, "openconnect connects", 20)
        return self

    def stop(self):
        """As Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def make_server(lab):
    """make_server(port=..., rekey_s=...); gone afterwards."""
    made = []

    def make(**settings):
        made.append(Server(lab, **settings))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def connect(lab, guard):
    """connect(server): a client on its way; gone afterwards, and the host's
    own network as it was."""
    made = []
    lab.host.set_resolv_conf(RESOLV_CONF)

    def make(server, *options):
        made.append(Client(guard, server, *options))
        return made[-1]

    yield make
    for client in made:
        client.stop()
    lab.host.ip(f"route replace {DEFAULT_ROUTE}")
    lab.host.set_resolv_conf("")


@pytest.fixture
def steps(guard):
    """What vpnc-script was run for, and what leakguard said just then."""
    path = pathlib.Path(guard.lab.dir, "steps")
    path.write_text("", encoding="ascii")
    hooks = [pathlib.Path(f"/etc/vpnc/{step}.d/leakguard") for step in STEPS]
    for hook in hooks:
        hook.parent.mkdir(parents=True, exist_ok=True)
        hook.write_text(f'"$LEAKGUARD" status --json | tr -d "\\n" >>{path}\n'
                        f'echo " $reason" >>{path}\n', encoding="ascii")

    def read():
        """[(reason, {tunnels}, {resolvers})]"""
        # A line that is being written is not there yet.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        found = [line.rpartition(" ") for line in whole.splitlines()]
        return [(reason, *told(json.loads(status)))
                for status, _, reason in found]

    yield read
    for hook in hooks:
        hook.unlink()


def told(status):
    return ({tunnel["name"] for tunnel in status["tunnels"]},
            {f"{resolver['address']} via {resolver['link']}"
             for resolver in status["resolvers"]})


def asks_on(lab):
    """One query by each family, without waiting, past the tunnel and along
    the routes, to a public resolver and to one next door."""
    for address in (*PUBLIC, *GATEWAY):
        for link in (None, "wan0"):
            send_crafted("udp", lab.host, address, link)


def host_state(lab):
    """(default route, resolv.conf) of the host."""
    return (lab.host.run(["ip", "route", "show", "default"]).stdout.split(),
            lab.host.run(["cat", "/etc/resolv.conf"]).stdout)


def looked_up(lab):
    return lookups.look_up(lab, "getent").answer


@pytest.mark.root
def test_from_before_to_after(lab, guard, make_server, connect, steps):
    assert_open(lab)
    with lab.watch(lab.host) as seen:
        asks_on(lab)
    assert len(seen.name_traffic()) == 8, "the control of connecting"
    before = host_state(lab)
    server = make_server()
    guard.enable(watch=True)
    assert guard.says() == CLOSED
    assert_shut(lab)

    with lab.watch(lab.host) as seen:
        client = connect(server)
        while not client.is_connected():
            asks_on(lab)
    assert not seen.name_traffic()
    assert steps() == [("connect", {LINK}, BROUGHT)], "before vpnc-script"
    assert guard.says() == UP
    assert_served(lab)
    assert looked_up(lab) == "inside", "by resolv.conf"

    with lab.watch(lab.host) as seen:
        client.stop()
    assert not seen.name_traffic()
    assert steps()[1:] == [("disconnect", set(), set())], "before vpnc-script"
    assert guard.says() == CLOSED
    assert host_state(lab) == before, "vpnc-script found its own files again"
    assert_shut(lab)
    assert looked_up(lab) is None, "by resolv.conf"
    guard.disable()
    assert_open(lab)


@pytest.mark.root
def test_without_a_guard_before(lab, guard, make_server, connect):
    """The hook raises it; the end of the VPN does not lower it."""
    client = connect(make_server()).connected()
    assert guard.says() == UP
    assert_served(lab)
    client.stop()
    assert guard.says() == CLOSED
    assert_shut(lab)


@pytest.mark.root
def test_reconnects(lab, guard, make_server, connect, steps):
    """By itself, for new keys, and when it is told to: the device stays."""
    guard.enable(watch=True)
    server = make_server(rekey_s=2, rekey_method="new-tunnel")
    with lab.watch(lab.host) as seen:
        client = connect(server).connected()

        def has(reason, times):
            asks_on(lab)
            return [step[0] for step in steps()].count(reason) >= times

        netns.wait_until(lambda: has("reconnect", 1), "new keys", 60)
        client.process.send_signal(signal.SIGUSR2)
        netns.wait_until(lambda: has("reconnect", 2), "a reconnection", 20)
    assert client.says("rekey due") and client.says("User requested reconnect")
    assert not seen.name_traffic()
    assert all(step[1:] == ({LINK}, BROUGHT) for step in steps())
    assert guard.says() == UP
    assert_served(lab)


@pytest.mark.root
def test_server_is_killed(lab, guard, make_server, connect):
    guard.enable(watch=True)
    server = make_server()
    client = connect(server).connected()
    assert_served(lab)
    server.kill()
    netns.wait_until(lambda: client.says("Failed to reconnect"),
                     "openconnect notices", 20)
    assert guard.says() == UP, "the device is there"
    assert_shut(lab)
    # The new server does not know the session: openconnect gives up.
    with lab.watch(lab.host) as seen:
        server.start()
        while client.process.poll() is None:
            asks_on(lab)
    assert not seen.name_traffic()
    assert guard.says() == CLOSED
    assert_shut(lab)
    connect(server).connected()
    assert guard.says() == UP
    assert_served(lab)


@pytest.mark.root
def test_client_is_killed(lab, guard, make_server, connect):
    guard.enable(watch=True)
    server = make_server()
    client = connect(server).connected()
    assert_served(lab)
    with lab.watch(lab.host) as seen:
        netns.kill(client.process)
        asks_on(lab)
        # A DHCP client, or NetworkManager, would do it.
        lab.host.ip(f"route replace {DEFAULT_ROUTE}")
        asks_on(lab)
    assert not seen.name_traffic()
    assert looked_up(lab) is None, "by resolv.conf, which is the VPN's"
    lab.host.set_resolv_conf(RESOLV_CONF)
    # No script ran: what it brought is known still, and tied to the device.
    assert guard.says() == ("LOCKED", set(), BROUGHT)
    assert_shut(lab)
    assert looked_up(lab) is None
    connect(server).connected()
    assert guard.says() == UP
    assert_served(lab)


@pytest.mark.root
def test_carrier_on_a_guarded_port(lab, guard, make_server, connect):
    """TLS and DTLS on 53; the configuration lets them through, nobody else."""
    server = make_server(port=53)
    guard.enable(watch=True)
    blocked = guard.status()["counters"]["S7"]["packets"]
    with lab.watch(lab.host) as seen:
        client = connect(server)
        netns.wait_until(lambda: guard.status()["counters"]["S7"]["packets"]
                         > blocked, "the control: no endpoint")
    assert not seen.name_traffic()
    client.stop()
    guard.configure(f"endpoint = {ENDPOINT}:53/tcp\n"
                    f"endpoint = {ENDPOINT}:53/udp\n")
    guard.reload()
    client = connect(server).connected()
    # The one where the tunnel's set-up was quicker, the other where DTLS was.
    netns.wait_until(lambda: client.says("DTLS connected")
                     or client.says("DTLS established"), "DTLS", 30)
    assert guard.says() == UP
    out, answers = ask(lab, answered=True)
    assert answers == {"inside"}
    assert out and all(f" > {ENDPOINT}:53 " in packet for packet in out)


@pytest.mark.root
def test_leakguard_fails(lab, guard, make_server, connect):
    """The tunnel carries nothing then: vpnc-script has not run."""
    guard.configure("nonsense\n")
    before = host_state(lab)
    client = connect(make_server())
    netns.wait_until(lambda: client.says("returned error 2"),
                     "openconnect is told")
    assert host_state(lab) == before
    addresses = lab.host.run(["ip", "address", "show", LINK]).stdout
    assert "inet" not in addresses
    assert guard.state == "OFF"


HOSTILE = ["10.64.0.1", "$(touch /run/lab/owned)", "`touch /run/lab/owned`",
           ";touch", "/run/lab/owned", "*", "-h", "--resolver", "1.2.3", "\n",
           "10.64.0.1@53;", "x" * 10000, "fd64::1"]


def run_hook(guard, reason, *script, **values):
    """The hook alone, as a VPN client runs it."""
    return guard.namespace.run(
        [HOOKS / "openconnect", *script], check=False,
        env={**guard.env, "reason": reason, "TUNDEV": LINK, **values})


def test_hostile_values(guard):
    """What a server says is an address, or it is left out."""
    result = run_hook(guard, "connect", "/bin/true",
                      INTERNAL_IP4_DNS=" ".join(HOSTILE),
                      CISCO_BANNER="$(touch /run/lab/owned)",
                      CISCO_SPLIT_DNS="*", CISCO_DEF_DOMAIN="`reboot`")
    assert result.rc == 0 and "left out" in result.stderr
    assert guard.says()[2] == BROUGHT
    assert not os.path.exists("/run/lab/owned")


def test_what_the_real_script_gets(guard):
    """The environment as it came, the same parent, its own arguments; and not
    at all where leakguard fails at connect."""
    banner = "two\nlines; $HOME"
    show = ["/bin/sh", "-c", 'printf "%s|" "$CISCO_BANNER" "$PATH" "$LC_ALL" '
            '"$PPID" "$1"; exit 7', "sh", "own argument"]
    for reason in ("pre-init", "connect", "reconnect", "attempt-reconnect",
                   "disconnect"):
        result = run_hook(guard, reason, *show, CISCO_BANNER=banner,
                          PATH="/opt/bin:/usr/bin:/bin", LC_ALL="C.UTF-8")
        # What comes before is what leakguard says.
        assert result.stdout.endswith(
            f"{banner}|/opt/bin:/usr/bin:/bin|C.UTF-8|{os.getpid()}|"
            "own argument|"), result
        assert result.rc == 7, reason
    guard.configure("nonsense\n")
    guard.disable()
    assert run_hook(guard, "connect", *show).stdout == ""
    assert run_hook(guard, "connect", *show).rc == 2
    assert run_hook(guard, "disconnect", *show).rc == 7
    assert run_hook(guard, "connect", *show, TUNDEV="../x").stdout == ""
