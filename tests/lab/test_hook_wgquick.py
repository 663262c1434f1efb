"""wg-quick, the real one, with the lines that scripts/hooks/README.md gives."""

import os
import pathlib
import signal

import pytest

import labnet
import netns
from clients import dig
from hooks import (HOOKS, HookedGuard, WireguardClient, ask,
                   asked_all_the_while, assert_open, assert_served,
                   assert_shut, openresolv)
from lookups import look_up
from tunnels import WIREGUARD_PORT

SECTION = "WireGuard (wg-quick)"
ENDPOINT = labnet.VPN_ENDPOINT.v4
NAME = "gate.vpn.example"
INSIDE = labnet.RESOLVERS["inside"]
BROUGHT = {f"{address} via wg0" for address in INSIDE}
MARK = 51820  # wg-quick's own, where nothing else has it


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


class WgQuick(WireguardClient):
    """Brought up by wg-quick from /etc/wireguard/wg0.conf."""

    def __init__(self, lab, guard, *lines, port=WIREGUARD_PORT,
                 endpoint=ENDPOINT, dns=", ".join(INSIDE)):
        super().__init__(lab, guard, port=port)
        self.path = "/etc/wireguard/wg0.conf"
        self.bin = openresolv(lab.dir)
        self.configure(f"DNS = {dns}", *lines, endpoint=endpoint)

    def configure(self, *lines, endpoint=ENDPOINT):
        os.makedirs("/etc/wireguard", mode=0o700, exist_ok=True)
        pathlib.Path(self.path).write_text("\n".join([
            "[Interface]", f"PrivateKey = {self.keys['client'][0]}",
            f"Address = {labnet.TUNNEL_HOST.v4}/24,{labnet.TUNNEL_HOST.v6}/64",
            *lines, "", "[Peer]", f"PublicKey = {self.keys['server'][1]}",
            f"Endpoint = {endpoint}:{self.carrier_port}",
            "AllowedIPs = 0.0.0.0/0, ::/0", "PersistentKeepalive = 1", ""]),
            encoding="ascii")

    @property
    def env(self):
        return dict(self.guard.env, PATH=f"{self.bin}:{os.environ['PATH']}",
                    WG_ENDPOINT_RESOLUTION_RETRIES="1")

    def quick(self, verb, check=True):
        return self.lab.host.run(["wg-quick", verb, self.path], check=check,
                                 env=self.env, timeout=60)

    def remove(self):
        if self.exists():
            self.quick("down", check=False)
        super().remove()
        self.forget_rules()

    def forget_rules(self):
        """What a wg-quick that died leaves behind."""
        host = self.lab.host
        for family in ("-4", "-6"):
            for rule in (("not", "fwmark", MARK, "table", MARK),
                         ("table", "main", "suppress_prefixlength", 0)):
                while host.run(["ip", family, "rule", "delete", *rule],
                               check=False).rc == 0:
                    pass
        for family in ("ip", "ip6"):
            host.run(["nft", "delete", "table", family, "wg-quick-wg0"],
                     check=False)
        host.set_resolv_conf("")


@pytest.fixture
def make_client(lab, guard):
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    made = []

    def make(*lines, **options):
        made.append(WgQuick(lab, guard, *lines, **options))
        return made[-1]

    yield make
    for client in made:
        client.remove()


@pytest.fixture
def hook_lines(guard):
    return guard.readme(SECTION, 0).splitlines()


@pytest.fixture
def pre_up(guard):
    return guard.readme(SECTION, 1).strip()


def test_each_step(lab, guard, make_client, hook_lines):
    """Guarded from before the tunnel to after it."""
    assert_open(lab)
    client = make_client(*hook_lines)
    guard.enable(watch=True)
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)

    client.quick("up")                              # connecting: no server yet
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    assert_shut(lab)

    client.start_server()
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert_served(lab)
    assert look_up(lab, "getent").answer == "inside"

    before = guard.says()                           # a new session
    client.kill_server()
    assert_shut(lab)
    assert guard.says() == before
    client.start_server()
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "a new session", 30)
    assert_served(lab)

    client.kill_client()
    assert_shut(lab)
    netns.wait_until(lambda: guard.says() == ("LOCKED", set(), BROUGHT),
                     "status has seen it")

    client.forget_rules()
    client.quick("up")
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert_served(lab)
    client.quick("down")
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)
    guard.disable()
    assert_open(lab)


def test_nothing_gets_out_between_the_steps(lab, guard, make_client,
                                            hook_lines):
    def steps():
        client.quick("up")
        netns.wait_until(client.handshakes, "a handshake", 20)
        client.kill_client()
        client.forget_rules()
        client.quick("up")
        client.quick("down")

    client = make_client(*hook_lines)
    client.start_server()
    guard.enable(watch=True)
    with asked_all_the_while(lab) as seen:
        steps()
    assert not seen.out
    guard.disable()
    client.configure(f"DNS = {', '.join(INSIDE)}")
    with asked_all_the_while(lab) as seen:
        steps()
    assert seen.out, "the control: without a guard"


def test_killed_client_leaks_without_a_guard(lab, make_client):
    """The control of the above: resolv.conf and routes are as they were."""
    client = make_client()
    client.start_server()
    client.quick("up")
    netns.wait_until(client.handshakes, "a handshake", 20)
    client.kill_client()
    assert ask(lab, answered=True)[1] == {"forged"}
    assert look_up(lab, "getent").answer == "forged"


def test_hook_raises_the_guard(lab, guard, make_client, hook_lines):
    client = make_client(*hook_lines)
    client.start_server()
    client.quick("up")
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    assert_served(lab)
    client.quick("down")
    assert guard.says() == ("LOCKED", set(), set())
    assert_shut(lab)


def test_pre_up_raises_it_before(lab, guard, make_client, hook_lines, pre_up):
    """What a later PreUp line finds is a host that is shut."""
    listing = f"{lab.dir}/at-pre-up"
    client = make_client(pre_up, f"PreUp = nft list tables >{listing}",
                         *hook_lines)
    client.start_server()
    client.quick("up")
    assert "leakguard" in pathlib.Path(listing).read_text()
    assert guard.state == "GUARDED"
    client.quick("down")
    client.quick("up")
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert_served(lab)


def test_failing_hook_takes_the_tunnel_down(lab, guard, make_client,
                                            hook_lines):
    client = make_client(*hook_lines)
    guard.enable(watch=True)
    guard.configure("no such key\n")
    pathlib.Path(guard.wrapper).write_text("#!/bin/sh\nexit 1\n")
    done = client.quick("up", check=False)
    assert done.rc == 1, done
    assert "leakguard: wg-quick: " in done.stderr
    assert not client.exists()
    assert_shut(lab)


def test_carrier_on_a_guarded_port(lab, guard, make_client, hook_lines):
    """Its mark tells it from a query to the same address and port."""
    client = make_client(*hook_lines, port=53)
    guard.enable(watch=True)
    client.start_server()
    client.quick("up")
    assert guard.status()["policy"]["endpoints"] == [
        f"{ENDPOINT}:53/udp,mark={MARK:#x}"]
    netns.wait_until(client.handshakes, "a handshake", 30)
    netns.wait_until(lambda: client.carries(labnet.TUNNEL_FAR.v4),
                     "the tunnel carries", 10)
    assert dig(lab.host, INSIDE.v4).answer == "inside"
    with lab.watch(lab.host) as seen:
        label = dig(lab.host, ENDPOINT, bind=labnet.HOST_WAN.v4).label
    assert seen.name_traffic(), "the control: the carrier itself is"
    assert not seen.name_traffic(label)
    client.quick("down")
    assert not guard.status()["policy"]["endpoints"]
    assert_shut(lab)


def test_carriers_of_all_peers(lab, guard, make_client, hook_lines):
    """Over IPv6 too; of those on other ports nothing need be known."""
    client = make_client(*hook_lines)
    with open(client.path, "a", encoding="ascii") as file:
        for number, endpoint in enumerate((
                "[2001:db8:64::9]:853", "100.64.0.9:53", "100.64.0.8:5353",
                None)):
            key = WireguardClient(lab, guard).keys["server"][1]
            file.write(f"[Peer]\nPublicKey = {key}\n"
                       f"AllowedIPs = 10.66.0.{number}/32\n")
            file.write(f"Endpoint = {endpoint}\n" if endpoint else "")
    client.quick("up")
    mark = f"udp,mark={MARK:#x}"
    assert {f"100.64.0.9:53/{mark}", f"[2001:db8:64::9]:853/{mark}"} == {
        endpoint for endpoint in guard.status()["policy"]["endpoints"]
        if ":53/" in endpoint or ":853/" in endpoint}


def test_only_its_resolvers_in_mode_both(lab, guard, make_client, hook_lines):
    public = labnet.RESOLVERS["public"].v4
    client = make_client(*hook_lines)
    client.start_server()
    for mode, answer in (("either", "public"), ("both", None)):
        guard.configure(f"mode = {mode}\n")
        guard.enable(watch=True)
        client.quick("up")
        netns.wait_until(client.handshakes, "a handshake", 20)
        assert_served(lab)
        assert dig(lab.host, public).answer == answer
        client.quick("down")


def test_configuration_elsewhere(lab, guard, make_client, hook_lines):
    """Named behind %i; the file of that name in /etc/wireguard is not read."""
    client = make_client(dns="192.0.2.9")
    client.path = f"{lab.dir}/wg0.conf"
    client.configure(f"DNS = {', '.join(INSIDE)}",
                     *(line.replace("%i", f"%i {client.path}")
                       for line in hook_lines))
    client.quick("up")
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    client.quick("down")
    assert guard.says() == ("LOCKED", set(), set())


# --- an endpoint that is a name ---

def named(guard, make_client, *lines):
    client = make_client(*lines, endpoint=NAME)
    client.start_server()
    client.lab.host.set_resolv_conf(
        f"nameserver {labnet.RESOLVERS['provider'].v4}\n"
        "options timeout:1 attempts:1\n")
    return client


@pytest.fixture
def name_at_provider(lab):
    """The provider's resolver knows the VPN's name, as the world's do."""
    path = pathlib.Path(lab.dir, "unbound-provider.conf")
    before = path.read_text()
    path.write_text(before + f"  local-zone: {NAME}. redirect\n"
                    f"  local-data: '{NAME}. A {ENDPOINT}'\n")
    os.kill(lab.resolvers["provider"].process.pid, signal.SIGHUP)
    netns.wait_until(lambda: ENDPOINT in lab.host.run(
        ["dig", "+short", "+time=1", f"@{labnet.RESOLVERS['provider'].v4}",
         NAME], check=False).stdout, "the name is known")
    yield
    path.write_text(before)
    os.kill(lab.resolvers["provider"].process.pid, signal.SIGHUP)


@pytest.mark.usefixtures("name_at_provider")
def test_name_cannot_be_looked_up_behind_the_guard(lab, guard, make_client,
                                                   hook_lines):
    client = named(guard, make_client, *hook_lines)
    client.quick("up")                              # the control: without
    client.quick("down")
    with lab.watch(lab.host) as seen:
        done = client.quick("up", check=False)
    assert done.rc != 0 and not client.exists(), done
    assert not seen.name_traffic()


@pytest.mark.usefixtures("name_at_provider")
def test_name_in_the_hosts_file(lab, guard, make_client, hook_lines):
    hosts = pathlib.Path("/etc/hosts")
    before = hosts.read_text()
    hosts.write_text(f"{before}\n{ENDPOINT} {NAME}\n")
    try:
        client = named(guard, make_client, *hook_lines)
        guard.enable(watch=True)
        with lab.watch(lab.host) as seen:
            client.quick("up")
        assert not seen.name_traffic()
    finally:
        hosts.write_text(before)
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert_served(lab)


@pytest.mark.usefixtures("name_at_provider")
def test_name_looked_up_in_a_pause(lab, guard, make_client, hook_lines):
    client = named(guard, make_client,
                   *guard.readme(SECTION, 2).splitlines(), *hook_lines)
    guard.enable(watch=True)
    with lab.watch(lab.host) as seen:
        client.quick("up")
    assert seen.name_traffic("gate"), "the control: by a query as any"
    netns.wait_until(client.handshakes, "a handshake", 20)
    assert guard.status()["pause_left_ms"] == 0
    assert_served(lab)


# --- the DNS of a configuration ---

ODD = [
    " dns=10.64.0.1#comment", "DNS = 192.0.2.1 # a comment",
    "#DNS = 192.0.2.2", "MTU = 1400",
    "dNs\t=\t fd64::1,lab.example , 10.64.0.3,,search",
    "Dns = 1.2.3.4 5.6.7.8\r", "DNS = $(id) `id` * \"10.9.9.9\"", "DNS =", "DNS",
    "[interface] # again", "DNS=10.64.0.9"]
REFUSED = ["DNS = 1.2.3, 1.2.3.4.5, ::::, fe80::1%wg0;id, :$(id),:`id`",
           f"DNS = {'1' * 999}, a:{'b' * 999}"]


class Recorder:
    """In resolvconf's place: what wg-quick itself takes for DNS servers."""

    def __init__(self, directory):
        self.bin = pathlib.Path(directory, "recorder")
        self.bin.mkdir(exist_ok=True)
        self.said = self.bin / "said"
        program = self.bin / "resolvconf"
        program.write_text(f'#!/bin/sh\n[ "$1" = -d ] || cat >{self.said}\n')
        program.chmod(0o755)

    def servers(self):
        return {line.split()[1] for line in self.said.read_text().splitlines()
                if line.startswith("nameserver ")}


def test_dns_is_read_as_wg_quick_does(lab, guard, make_client, hook_lines):
    client = make_client(*hook_lines, *ODD)
    recorder = Recorder(lab.dir)
    client.bin = recorder.bin
    client.quick("up")
    assert len(recorder.servers()) == 7
    _, _, brought = guard.says()
    assert brought == {f"{server} via wg0" for server in recorder.servers()}


def test_what_is_no_address_is_left_out(lab, guard, make_client, hook_lines):
    client = make_client(*hook_lines, *REFUSED)
    client.bin = Recorder(lab.dir).bin
    done = client.quick("up")
    assert done.stderr.count("no resolver, left out") == 8, done
    assert guard.says() == ("GUARDED", {"wg0"}, BROUGHT)
    assert not [line for line in done.stderr.splitlines()
                if line.startswith("leakguard:") and len(line) > 200]


@pytest.mark.parametrize("arguments, rc", [
    ((), 2), (("help",), 2), (("up",), 1), (("up", "a b"), 1),
    (("up", "../../tmp/x"), 1), (("up", "nofile"), 1), (("up", "wg9", "/"), 1),
    (("down",), 0), (("down", "a\nb"), 0), (("down", "a" * 99), 0)])
def test_odd_arguments_touch_nothing(lab, guard, arguments, rc):
    done = lab.host.run([HOOKS / "wg-quick", *arguments], check=False,
                        env=guard.env)
    assert done.rc == rc, done
    assert not done.stdout and "leakguard: wg-quick: " in done.stderr
    assert guard.state == "OFF"
