"""`suggest` with real VPNs, stubs and leases: its output is a configuration
that guards, opens no way to the provider, and parses whatever it was shown.
`enable --tunnel auto`: the same tunnels, found at the command."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import stat

import pytest

import labnet
import netns
import systems
from clients import dig
from lookups import resolv_conf
from tunnels import OpenVpnTunnel

PROVIDER = labnet.RESOLVERS["provider"]
PUBLIC = labnet.RESOLVERS["public"]
INSIDE = labnet.RESOLVERS["inside"]
MARK = 0x51
RUN = pathlib.Path("/run")
RESOLV_CONF = pathlib.Path("/etc/netns/host/resolv.conf")
OTHER = "tun7"


@pytest.fixture(autouse=True)
def clean(lab):
    """No file of one test is found by the next."""
    yield
    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
        RESOLV_CONF.unlink()
    if RESOLV_CONF.is_dir():
        RESOLV_CONF.rmdir()
    lab.host.set_resolv_conf("")
    for name in ("systemd", "resolvconf", "NetworkManager", "dnsmasq"):
        shutil.rmtree(RUN / name, ignore_errors=True)


@pytest.fixture
def bare_tunnel(lab):
    """bare_tunnel(name): a tun device without a program, up."""
    names = []

    def make(name=OTHER, *routes):
        # Any byte but NUL, "/", ":" and white space may be in a link's name.
        words = [["tuntap", "add", "dev", name, "mode", "tun"],
                 ["link", "set", "dev", name, "up"],
                 *(["route", "add", route, "dev", name] for route in routes)]
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("no access to /dev/net/tun")
        for word in words:
            lab.host.run(["ip", *word])
            names[:] = {*names, name}
        return name

    yield make
    for name in names:
        lab.host.run(["ip", "link", "del", "dev", name])


def suggest(guard, run_dir=None, timeout=30):
    """Its output, which has to be a configuration of clean text."""
    done = guard.run("suggest", "--run-dir", run_dir or guard.run_dir,
                     timeout=timeout)
    assert done.rc == 0, done
    assert re.fullmatch(r"[ -~\n]*", done.stdout)
    guard.configure(done.stdout)
    assert guard.run("rules").rc == 0
    found = re.search(r"^tunnel = ", done.stdout, re.M)
    assert ("no tunnel found" in done.stderr) == (not found)
    return done.stdout


def lines(text):
    """The lines that count, and the commented ones that would."""
    return [line for line in text.splitlines()
            if re.match(r"#?[a-z-]+ = ", line)]


def reason(text, line):
    """The comment above a line."""
    above = text.split(f"\n{line}\n")[0].rsplit("\n\n", 1)[-1].splitlines()
    block = []
    while above and above[-1].startswith("# "):
        block.insert(0, above.pop()[2:])
    return " ".join(block)


def answer(lab, address):
    """(who answered, what the provider saw)"""
    with lab.watch() as seen:
        asked = dig(lab.host, address, "+short")
    return asked.answer, seen.name_traffic(asked.label)


# --- VPNs -------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["wireguard", "openvpn"])
def test_guards_with_what_it_says(lab, guard, make_tunnel, kind):
    """From the VPN's connection to a guarded host, by its output alone."""
    tunnel = make_tunnel(kind).up()
    lab.host.set_resolv_conf(resolv_conf(*INSIDE, PROVIDER.v4))
    via = f"route add {PROVIDER.v4} via {labnet.GATEWAY.v4}"
    lab.host.ip(via)
    try:
        assert answer(lab, PROVIDER.v4)[1], "the control"
        text = suggest(guard)
        assert lines(text) == [
            f"tunnel = {tunnel.link}", "tunnel-kind = strict",
            *(f"resolver = {address} via tunnel" for address in INSIDE),
            f"#resolver = {PROVIDER.v4} via wan0", "frames = auto",
            "#log-group = 53"]
        assert "0.0.0.0/1, 128.0.0.0/1" in reason(
            text, f"tunnel = {tunnel.link}")
        assert "outside of the tunnels" in reason(
            text, f"#resolver = {PROVIDER.v4} via wan0")
        guard.enable()
        assert guard.state == "GUARDED"
        assert answer(lab, INSIDE.v4) == ("inside", [])
        assert answer(lab, PROVIDER.v4) == (None, [])
        tunnel.kill()
        assert answer(lab, INSIDE.v4) == (None, [])
        tunnel.remake()
        assert answer(lab, INSIDE.v4) == ("inside", [])
    finally:
        lab.host.ip(via.replace(" add ", " del "))


@pytest.mark.parametrize("mark", [0, MARK])
def test_endpoint_of_wireguard(lab, guard, make_tunnel, mark):
    """On a guarded port: with the line it connects anew, without it cannot."""
    tunnel = make_tunnel("wireguard", port=53, fwmark=mark).up()
    text = suggest(guard)
    line = f"endpoint = {tunnel.endpoint}" + (f",mark={mark:#x}" if mark
                                              else "")
    assert line in lines(text)
    assert "wg0 says" in reason(text, line)
    guard.enable()
    tunnel.kill()
    tunnel.remake()
    guard.configure(text.replace(line, ""))
    guard.enable()
    tunnel.remove()
    with pytest.raises(TimeoutError):
        tunnel.up(timeout=1)
    del lab


def test_endpoint_that_needs_no_line(guard, make_tunnel):
    make_tunnel("wireguard").up()
    text = suggest(guard)
    assert "endpoint" not in "".join(lines(text))
    assert "wg0 sends its packets to 100.64.0.2:51820/udp" in text


def test_openvpn_does_not_say_where_it_sends(guard, make_tunnel):
    """Its UDP socket is not connected; which process it is can be told."""
    tunnel = make_tunnel("openvpn").up()
    text = suggest(guard)
    pid = tunnel.client.pid
    assert re.search(rf"tun0: where openvpn \(process {pid}\) sends", text)


class OpenVpnOnPort53(OpenVpnTunnel):
    """Over TCP; the VPN's resolver owns that port there (see tunnels.py)."""

    REDIRECT = """
    table ip lab_carrier {
        chain prerouting {
            type nat hook prerouting priority dstnat
            iifname "wan0" tcp dport 53 redirect to :1194
        }
    }
    """

    def _arguments(self, role, peer):
        args = super()._arguments(role, peer)
        return args if role == "server" else [*args[:-1], 53]


def test_socket_of_openvpn(lab, guard):
    """The process that makes the tunnel is connected there: likely the VPN's
    server, but it may be a name server that the process asks."""
    lab.vpn.nft(OpenVpnOnPort53.REDIRECT)
    tunnel = OpenVpnOnPort53(lab, proto="tcp")
    try:
        tunnel.up()
        text = suggest(guard)
        line = f"#endpoint = {labnet.VPN_ENDPOINT.v4}:53/tcp"
        assert (f"openvpn (process {tunnel.client.pid}), which makes tun0"
                in reason(text, line))
        guard.enable()
        assert not tunnel.carries(labnet.TUNNEL_FAR.v4), "it is closed"
        guard.configure(text.replace(line, line[1:]))
        guard.enable()
        netns.wait_until(lambda: tunnel.carries(labnet.TUNNEL_FAR.v4),
                         "the line lets it through")
    finally:
        tunnel.remove()
        lab.vpn.nft("delete table ip lab_carrier")


def test_policy_routing_as_wg_quick_has_it(lab, guard, make_tunnel):
    """A default route in a table of its own."""
    tunnel = make_tunnel("wireguard", full=False).up()
    assert lines(suggest(guard))[0] == "#tunnel = wg0", "the control"
    lab.host.ip("route add default dev wg0 table 51820")
    text = suggest(guard)
    assert "0.0.0.0/0 of table 51820" in reason(text, "tunnel = wg0")
    del tunnel


def test_split_tunnel_is_found_by_its_resolver(lab, guard, make_tunnel):
    make_tunnel("wireguard", full=False).up()
    lab.host.set_resolv_conf(resolv_conf(INSIDE.v4))
    text = suggest(guard)
    assert {"tunnel = wg0", f"resolver = {INSIDE.v4} via tunnel"} <= {
        *lines(text)}
    assert "A name server is reached through it" in reason(
        text, "tunnel = wg0")


def test_ipsec_policies(lab, guard):
    """Outgoing ones that take in everything, or a name server."""
    add = ("xfrm policy add src 0.0.0.0/0 dst {} dir out tmpl src 192.0.2.2 "
           "dst 100.64.0.2 proto esp reqid {} mode tunnel")
    lab.host.set_resolv_conf(resolv_conf("10.9.0.1", PROVIDER.v4))
    try:
        lab.host.ip(add.format("10.9.0.0/16", 7), add.format("10.8.0.0/16", 8),
                    add.format("0.0.0.0/0 proto udp", 9))
    except netns.CommandError as error:
        pytest.skip(f"no IPsec in this kernel: {error}")
    try:
        found = lines(suggest(guard))
        assert found[:2] == ["tunnel = ipsec:7", "tunnel-kind = strict"]
        assert "resolver = 10.9.0.1 via tunnel" in found
        assert f"#resolver = {PROVIDER.v4} via wan0" in found
    finally:
        lab.host.ip("xfrm policy flush")


def test_sockets_stay_comments(lab, guard, make_tunnel):
    """A connection to a guarded port is a name query, for all that is known."""
    make_tunnel("wireguard", full=False).up()
    with lab.host.inside(), socket.create_connection((PUBLIC.v4, 853), 5):
        text = suggest(guard)
    line = f"#endpoint = {PUBLIC.v4}:853/tcp"
    assert line in lines(text)
    name = pathlib.Path("/proc/self/comm").read_text(encoding="ascii").strip()
    assert f"{name} (process {os.getpid()})" in reason(text, line)
    assert not any(line.startswith("endpoint") for line in lines(text))


# --- resolvers --------------------------------------------------------------

@pytest.mark.root
def test_stub_of_systemd_resolved(lab, guard, make_tunnel):
    """The stub needs no line; whom it asks does."""
    if not systems.find_resolved():
        pytest.skip("no systemd-resolved under build/tools")
    make_tunnel("wireguard").up()
    lab.host.set_resolv_conf(resolv_conf(systems.STUB))
    with systems.resolved(lab, [INSIDE.v4, "192.0.2.1"]):
        netns.wait_until((RUN / "systemd/resolve/resolv.conf").exists,
                         "systemd-resolved's list")
        text = suggest(guard)
        assert f"{systems.STUB} (/etc/resolv.conf): on this host" in text
        assert {f"resolver = {INSIDE.v4} via tunnel",
                "#resolver = 192.0.2.1 via wan0"} <= {*lines(text)}
        guard.enable()
        assert answer(lab, systems.STUB) == ("inside", [])


def test_link_of_systemd_resolved(lab, guard, make_tunnel):
    """What is asked through a link alone goes there, whatever routes say."""
    make_tunnel("wireguard").up()
    lab.host.set_resolv_conf(resolv_conf(systems.STUB))
    folder = RUN / "systemd/resolve/netif"
    folder.mkdir(parents=True)
    with lab.host.inside():
        wan, tunnel = map(socket.if_nametoindex, ("wan0", "wg0"))
    (folder / str(wan)).write_text(f"SERVERS={PUBLIC.v4} fe80::7%wan0\n")
    (folder / str(tunnel)).write_text(
        f"LLMNR=no\nSERVERS={INSIDE.v4}:853#name {INSIDE.v6}\n")
    assert [line for line in lines(suggest(guard)) if "resolver" in line] == [
        f"#resolver = {PUBLIC.v4} via wan0", "#resolver = fe80::7 via wan0",
        f"resolver = {INSIDE.v4} via tunnel",
        f"resolver = {INSIDE.v6} via tunnel"]


@pytest.mark.parametrize("path", [
    "NetworkManager/no-stub-resolv.conf", "dnsmasq/resolv.conf",
    "resolvconf/interface/wg0.inet", "resolvconf/interfaces/wg0"])
def test_lists_of_stubs(lab, guard, make_tunnel, path):
    make_tunnel("wireguard").up()
    lab.host.set_resolv_conf(resolv_conf("127.0.0.1"))
    file = RUN / path
    file.parent.mkdir(parents=True)
    file.write_text(f"search x\nnameserver {INSIDE.v4}\n", encoding="ascii")
    text = suggest(guard)
    line = f"resolver = {INSIDE.v4} via tunnel"
    assert line in lines(text) and str(file) in reason(text, line)


def test_name_server_of_a_lease(lab, guard, make_tunnel):
    """What DHCP brought is the provider's, and a leak once asked."""
    make_tunnel("openvpn", full=False).up()
    gateway = labnet.GATEWAY.v4
    with systems.dnsmasq(
            lab, lab.isp, "--port=0", "--interface=cust0",
            "--dhcp-range=192.0.2.100,192.0.2.150,2m", "--no-ping",
            "--dhcp-authoritative", f"--dhcp-option=6,{gateway},{INSIDE.v4}",
            f"--dhcp-leasefile={lab.dir}/leases-suggest"):
        client = systems.DhcpClient(lab)
        try:
            _, _, servers = client.wait_for("bound")
        finally:
            client.stop()
    assert servers == [gateway, INSIDE.v4]
    lab.host.set_resolv_conf(resolv_conf(*servers))
    assert [line for line in lines(suggest(guard)) if "resolver" in line] == [
        f"#resolver = {gateway} via wan0",
        f"resolver = {INSIDE.v4} via tunnel"]


# --- nothing, or nothing good -------------------------------------------------

def test_no_tunnel(lab, guard):
    """A configuration all the same: it closes everything."""
    lab.host.set_resolv_conf(resolv_conf(PROVIDER.v4))
    who, seen = answer(lab, PROVIDER.v4)
    assert who == "provider" and seen, "the control"
    text = suggest(guard)
    assert lines(text) == ["#tunnel = wg0",
                           f"#resolver = {PROVIDER.v4} via wan0",
                           "frames = auto", "#log-group = 53"]
    guard.enable()
    assert answer(lab, PROVIDER.v4) == (None, [])


def test_a_name_alone_is_no_tunnel(guard, veth_tunnel):
    """A veth that is called tun0 leads anywhere."""
    assert not any(line.startswith("tunnel") for line in lines(suggest(guard)))
    assert guard.enable("--tunnel", "auto", check=False).rc == 1
    del veth_tunnel


def test_changes_nothing(lab, guard, make_tunnel):
    make_tunnel("wireguard", port=53).up()

    def everything():
        return [lab.host.run(words).stdout for words in (
            ["nft", "list", "ruleset"], ["ip", "-d", "link"], ["ip", "rule"],
            ["ip", "route", "show", "table", "all"], ["wg", "showconf", "wg0"])]
    before, run_dir = everything(), f"{lab.dir}/untouched"
    suggest(guard, run_dir=run_dir)
    assert everything() == before
    assert not os.path.exists(run_dir)


@pytest.mark.root
def test_without_root(lab, guard, make_tunnel):
    """Less is seen, and it is said so."""
    make_tunnel("wireguard", port=53).up()
    lab.host.set_resolv_conf(resolv_conf(INSIDE.v4))
    program = shutil.copy(guard.program, "/run/lab-suggest")
    os.chmod(program, 0o755)
    done = lab.host.run(["setpriv", "--reuid=65534", "--regid=65534",
                         "--clear-groups", program, "suggest"])
    assert {"tunnel = wg0", f"resolver = {INSIDE.v4} via tunnel"} <= {
        *lines(done.stdout)}
    assert "endpoint = " not in "".join(lines(done.stdout))
    assert "Not run as root" in done.stdout
    assert "Not run as root" not in suggest(guard)


def write(data):
    return lambda path: path.write_bytes(data)


def zeros(path):
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


HOSTILE = {
    "fifo": os.mkfifo,
    "directory": os.mkdir,
    "device": zeros,
    "symlink out": lambda path: path.symlink_to("/etc/shadow"),
    "symlink to itself": lambda path: path.symlink_to(path),
    "10,000 servers": write(b"".join(
        b"nameserver 203.0.%d.%d\n" % (i >> 8 & 255, i & 255)
        for i in range(10000))),
    "10,000 lines of junk": write(b"nameserver \x1b]0;x\x07; rm\n" * 10000),
    "a line of 3 MB": write(b"nameserver " + b"1" * 3_000_000),
    "NULs": write(b"\0" * 5_000_000),
    "values": write(
        b"nameserver 10.64.0.1\ntunnel = *\n"
        b"nameserver 10.64.0.1%wg0;tunnel=*\n"
        b"nameserver 10.64.0.1 via any\nnameserver 10.64.0.1,1.1.1.1\n"
        b"nameserver fe80::1%any\nnameserver fe80::2%\nnameserver fe80::3\n"
        b"nameserver fe80::4%\x1b[31m\nnameserver fe80::5%../../x\n"
        b"nameserver ::ffff:10.64.0.1\nnameserver 0.0.0.0\n"
        b"nameserver 255.255.255.255\nnameserver ff02::1\nnameserver ::\n"
        b"nameserver\nnameserver \t\r\n NAMESERVER 1.1.1.1\n"
        b"nameserver1.1.1.1\n#nameserver 1.1.1.1\n"),
}


PLACES = {"etc": RESOLV_CONF, "list": RUN / "systemd/resolve/resolv.conf",
          "folder": RUN / "resolvconf/interface/x\x1b[2J\ny"}
NO_MOUNT = {("etc", "directory"), ("etc", "symlink to itself")}


@pytest.mark.parametrize("place, what", [
    pytest.param(place, what,
                 marks=[pytest.mark.root] if what == "device" else [])
    for place in PLACES for what in HOSTILE if (place, what) not in NO_MOUNT])
def test_hostile_files(lab, guard, make_tunnel, place, what):
    """Whatever is in them: clean text that parses, and opens nothing."""
    place = PLACES[place]
    make_tunnel("wireguard").up()
    lab.host.set_resolv_conf(resolv_conf("127.0.0.1"))
    place.parent.mkdir(parents=True, exist_ok=True)
    if place == RESOLV_CONF:
        place.unlink()
    HOSTILE[what](place)
    text = suggest(guard, timeout=10)
    for line in lines(text):
        assert re.fullmatch(
            r"tunnel = wg0|tunnel-kind = strict|frames = auto"
            r"|resolver = [0-9a-f:.]+ via tunnel|#resolver = .*"
            r"|#log-group = 53", line)


@pytest.mark.parametrize("name", [
    "tun;x", "tun*", "wg#x", 'a"b', "auto", "t\x1b[2Jx", "\\", "é",
    "tun\x9bx", "$(id)", "`id`", "-x", "=", "any", "tunnel"])
def test_hostile_link_names(guard, bare_tunnel, name):
    """Left out where the file could not say it, or would say more by it."""
    bare_tunnel(name, "64.0.0.0/2")
    text = suggest(guard)
    good = re.fullmatch(r"[$()`\w=-]+", name, re.ASCII) and name != "auto"
    assert (f"tunnel = {name}" in lines(text)) == bool(good)
    assert len([line for line in lines(text) if "tunnel = " in line
                and line != "#tunnel = wg0"]) == bool(good)
    done = guard.run("rules", "--tunnel", "auto")
    assert done.rc == (0 if good else 1), done


# --- --tunnel auto -------------------------------------------------------------

def tunnels(guard):
    return [tunnel["name"] for tunnel in guard.status()["tunnels"]]


def test_auto_is_the_tunnel_that_was_found(lab, guard, make_tunnel):
    """Its name is recorded: reload keeps to it while the VPN is down."""
    tunnel = make_tunnel("wireguard").up()
    done = guard.enable("--tunnel", "auto", "--resolver",
                        f"{INSIDE.v4} via tunnel")
    assert "--tunnel auto: wg0, of kind tun" in done.stderr
    assert guard.state == "GUARDED" and tunnels(guard) == ["wg0"]
    assert answer(lab, INSIDE.v4) == ("inside", [])
    tunnel.kill()
    guard.reload()
    assert guard.state == "LOCKED" and tunnels(guard) == ["wg0"]
    assert answer(lab, INSIDE.v4) == (None, [])
    before = guard.listing()
    done = guard.enable("--tunnel", "auto", check=False)
    assert done.rc == 1 and len(done.stderr.splitlines()) == 1
    assert guard.listing() == before, "nothing changed"
    tunnel.remake()
    guard.reload()
    assert answer(lab, INSIDE.v4) == ("inside", [])


def test_auto_takes_all_that_a_wide_route_leads_through(
        guard, make_tunnel, bare_tunnel):
    make_tunnel("wireguard").up()
    bare_tunnel(OTHER, "64.0.0.0/2")
    bare_tunnel("tun8", "10.77.0.0/16")
    done = guard.enable("--tunnel", "auto", "--tunnel", "extra0")
    assert sorted(tunnels(guard)) == ["extra0", OTHER, "wg0"]
    assert len(done.stderr.splitlines()) == 2


def test_auto_without_a_tunnel(guard, bare_tunnel):
    bare_tunnel(OTHER)
    for verb in ("enable", "rules"):
        done = guard.run(verb, "--tunnel", "auto")
        assert done.rc == 1 and not done.stdout
        assert len(done.stderr.splitlines()) == 1
    assert guard.state == "OFF"


def test_auto_is_refused_elsewhere(guard, bare_tunnel):
    """At boot there is no tunnel yet; a hook knows its own."""
    bare_tunnel(OTHER, "64.0.0.0/2")
    for verb in ("watch", "up", "down"):
        done = guard.run(verb, "--tunnel", "auto")
        assert done.rc == 2 and "only enable and rules" in done.stderr
    guard.configure("tunnel = auto\n")
    done = guard.run("enable")
    assert done.rc == 2 and ":1: tunnel \"auto\"" in done.stderr
    assert guard.state == "OFF"
