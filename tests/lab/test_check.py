"""`check`: what it says got out is what a capture on the far side saw."""

import contextlib
import json
import os
import pathlib
import pty
import shutil

import pytest

import labnet
import netns
import profiles
from capture import TCP
from clients import dig
from guard import egress_chain
from lookups import resolv_conf

GATEWAY, PROVIDER = labnet.GATEWAY, labnet.RESOLVERS["provider"]
INSIDE, APPROVED = labnet.RESOLVERS["inside"], labnet.RESOLVERS["approved"]
WAYS = {"plain", "bound", "raw", "frame"}
PIECES = {"fragments", "frame-fragments"}
LEAK, UNSURE, CLOSED = 4, 1, 0
RUN = pathlib.Path("/run")
FLAGS, SYN, RST, ACK = 13, 0x02, 0x04, 0x10  # RFC 9293, 3.1: a byte, its bits


class Report:
    """What check --json said, beside what the provider saw meanwhile."""

    def __init__(self, done, seen):
        assert done.rc in (LEAK, UNSURE, CLOSED), done
        assert not done.stderr, done
        self.rc, self.told = done.rc, json.loads(done.stdout)
        self.rows, self.packets = self.told["rows"], seen.packets

    def find(self, verdict=None, **values):
        return [row for row in self.rows if verdict in (None, row["verdict"])
                and all(row[key] == value for key, value in values.items())]

    def of(self, **values):
        """The verdicts of such rows; there have to be some."""
        rows = self.find(**values)
        assert rows, values
        return {row["verdict"] for row in rows}

    def was_seen(self, row, part=None):
        """By the capture: a datagram or its later fragment by its label, a SYN
        by its ports. (A reset is the host's answer to who heard an earlier run
        of the same ports, and still answers that.)"""
        part = part or row
        label = part["label"].encode()
        return any(
            p.dst == row["address"] and
            (label in p.payload if row["protocol"] == "udp" else
             (p.proto, p.sport, p.dport) ==
             (TCP, part["source_port"], part["port"])
             and p.payload[FLAGS] & (SYN | RST | ACK) == SYN)
            for p in self.packets)

    def assert_true(self, link="wan0"):
        """What left by the link, by check's word, is what was seen there; and
        what it calls stopped has a control that was seen."""
        for row in self.rows:
            assert (link in row["left_by"]) == self.was_seen(row), row
            if row["verdict"] == "stopped" and row["link"] == link:
                assert self.was_seen(row, row["control"]), row
        return self


@pytest.fixture(autouse=True)
def resolvers(lab):
    """The host asks the provider's resolver, and one inside the VPN."""
    lab.host.set_resolv_conf(resolv_conf(PROVIDER.v4, INSIDE.v6))
    yield
    lab.host.set_resolv_conf("")


def check(lab, guard, *options, truth=True):
    with lab.watch(lab.host) as seen:
        done = guard.run("check", "--json", *options)
    report = Report(done, seen)
    return report.assert_true() if truth else report


# --- without a guard, and with one --------------------------------------------

def test_open(lab, guard):
    """Everything leaks, and it says so: by each way, family, protocol, port."""
    report = check(lab, guard)
    assert report.rc == LEAK and report.told["result"] == "leak"
    assert report.told["state"] == "OFF"
    for target in ("gateway", "nobody"):
        for family in (4, 6):
            for way in WAYS:
                for protocol in ("udp", "tcp"):
                    for port in (53, 853):
                        assert report.of(
                            link=None if way == "plain" else "wan0", way=way,
                            target=target, family=family, port=port,
                            protocol=protocol) == {"leak"}
        for way in PIECES:
            assert report.of(way=way, link="wan0", target=target) == {"leak"}
    assert {row["address"] for row in report.find("leak")} >= {
        *GATEWAY, PROVIDER.v4, INSIDE.v6}
    assert report.told["counts"]["leak"] == len(report.find("leak"))


def test_guarded(lab, guard):
    """Nothing gets out, and the numbers of who stopped it are right."""
    guard.enable(tunnel="tun0")
    report = check(lab, guard)
    assert report.rc == CLOSED and report.told["result"] == "closed"
    assert report.of(link=None) == {"stopped"}
    assert report.of(link="wan0") == {"stopped"}
    assert {row["stopped_by"] for row in report.find("stopped")
            if "frame" not in row["way"]} == {"S7"}
    for way in ("frame", "frame-fragments"):
        assert {row["stopped_by"] for row in report.find(way=way)} == {"S11"}
    # What is on the other side of a LAN has no way there but as a frame.
    assert report.of(link="lan0", way="raw") == {"no-route"}
    assert report.of(link="lan0", way="frame") == {"stopped"}


def test_changes_nothing(lab, guard):
    guard.enable(tunnel="tun0")

    def everything():
        return [lab.host.run(["ip", *words]).stdout for words in (
            ["-d", "link"], ["address"], ["rule"],
            ["route", "show", "table", "all"])], [
                rule[2:] for listing in guard.listings().values()
                for rule in profiles.read_rules(listing)]
    before, files = everything(), sorted(os.listdir(guard.run_dir))
    assert before[1], "rules"
    check(lab, guard)
    assert everything() == before
    assert sorted(os.listdir(guard.run_dir)) == files


@pytest.mark.parametrize("action", ["drop", "reject"])
def test_with_a_watcher(lab, guard, action):
    guard.enable(tunnel="tun0", action=action, watch=True)
    report = check(lab, guard)
    assert report.rc == CLOSED
    assert report.of(link="wan0") == {"stopped"}


def test_frames_off(lab, guard):
    guard.enable(tunnel="tun0", frames="off")
    report = check(lab, guard)
    assert report.rc == LEAK
    for way in ("frame", "frame-fragments"):
        assert report.of(way=way, link="wan0") == {"leak"}
    for way in (WAYS | PIECES) - {"frame", "frame-fragments"}:
        assert "leak" not in report.of(way=way)
    lines = guard.run("check", "-q").stdout.splitlines()
    assert all("set frames = auto" in line for line in lines
               if line.startswith("leak: ")) and lines


def test_one_link_lost_its_chain(lab, guard):
    """A hole at one device is found there and nowhere else."""
    guard.enable(tunnel="tun0")
    chain = egress_chain(lab.host, "wan0")
    lab.host.nft(f"flush chain netdev leakguard {chain}\n")
    report = check(lab, guard)
    assert report.rc == LEAK and report.told["state"] == "ALTERED"
    assert report.of(way="frame", link="wan0") == {"leak"}
    assert report.of(way="frame", link="lan0") == {"stopped"}
    lines = guard.run("check", "-q").stdout.splitlines()
    assert [line for line in lines if "leakguard reload" in line] == lines[:1]
    assert lines[1].endswith("left through wan0")
    guard.reload()
    assert check(lab, guard).rc == CLOSED


def test_other_ports(lab, guard):
    """The policy's ports are tried, and those of the configuration without it."""
    guard.configure("ports = 53, 9953\n")
    assert {row["port"] for row in check(lab, guard, truth=False).rows} == {
        53, 9953}
    guard.configure("")
    guard.enable(tunnel="tun0", ports="9,53")
    done = guard.run("check", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert done.rc == CLOSED
    assert {row["port"] for row in rows} == {9, 53}
    assert {row["control"]["port"] for row in rows}.isdisjoint({9, 53})


# --- what may leave -------------------------------------------------------------

def test_tunnel_up(lab, guard, veth_tunnel):
    guard.enable(tunnel=veth_tunnel.link)
    with veth_tunnel.capture() as tunnelled:
        report = check(lab, guard)
        veth_tunnel.barrier(tunnelled)
    assert report.rc == CLOSED and report.told["state"] == "GUARDED"
    inside = report.find("inside")
    assert {row["way"] for row in inside} == {"plain"}
    for row in inside:
        assert row["left_by"] == [veth_tunnel.link]
        if row["protocol"] == "udp":
            assert any(row["label"].encode() in p.payload
                       for p in tunnelled.packets), row
    assert report.of(target="gateway", way="plain") == {"stopped"}
    assert report.of(link="wan0") == {"stopped"}
    assert not report.find(link=veth_tunnel.link)


def test_wireguard_without_a_policy(lab, guard, make_tunnel):
    """Nobody had to name the tunnel yet: its kind does."""
    make_tunnel("wireguard").up()
    report = check(lab, guard)
    assert report.rc == LEAK
    assert report.of(way="plain", target="nobody") == {"inside"}
    assert not report.find(link="wg0")


def test_paused(lab, guard):
    guard.enable(tunnel="tun0")
    assert check(lab, guard).rc == CLOSED, "the control"
    guard.pause("60")
    report = check(lab, guard)
    assert report.rc == CLOSED and report.told["paused"]
    rows = report.find("approved")
    assert {row["approved_by"] for row in rows} == {"pause"}
    assert {row["way"] for row in rows} == WAYS | PIECES
    guard.resume()


@pytest.mark.parametrize("path, verdict", [
    ("", "approved"), (" via wan0", "approved"), (" via any", "approved"),
    (" via tunnel", "stopped"), (" via lan0", "stopped")])
def test_approved_resolver(lab, guard, path, verdict):
    """It leaves where it is approved, which is no leak; others do not."""
    guard.enable(tunnel="tun0", resolver=PROVIDER.v4 + path)
    report = check(lab, guard)
    assert report.rc == CLOSED
    for way in ("bound", "raw", "frame"):
        assert report.of(address=PROVIDER.v4, link="wan0", way=way) == {verdict}
    assert report.of(address=PROVIDER.v4, link=None) == {verdict}
    assert report.of(target="nobody", link="wan0") == {"stopped"}
    if verdict == "approved":
        assert {row["approved_by"] for row in report.find("approved")} == {
            "resolver"}


def test_approved_port(lab, guard):
    guard.enable(tunnel="tun0", resolver=f"{PROVIDER.v4}@853")
    report = check(lab, guard)
    assert report.rc == CLOSED
    for port, verdict in ((53, "stopped"), (853, "approved")):
        assert report.of(address=PROVIDER.v4, link="wan0", port=port) == {
            verdict}


def test_carrier(lab, guard):
    """The VPN's server is asked as well where it is also a name server."""
    guard.enable(tunnel="tun0", endpoint=f"{PROVIDER.v4}:53/udp")
    report = check(lab, guard)
    assert report.rc == CLOSED
    rows = report.find("approved")
    assert {(row["protocol"], row["port"], row["approved_by"])
            for row in rows} == {("udp", 53, "carrier")}


def test_pinned_resolver(lab, guard, veth_tunnel):
    """Once inside the tunnel it is a leak outside: rules without the pin."""
    guard.enable(tunnel=veth_tunnel.link, resolver=INSIDE.v6)
    assert check(lab, guard).rc == CLOSED
    lab.host.nft("".join(
        f"add set {family} leakguard pinless {{ type ipv6_addr; elements = "
        f"{{ {INSIDE.v6} }}; }}\n"
        f"insert rule {family} leakguard verdict "
        f"{match} @pinless accept\n"
        for family, match in (("inet", "ip6 daddr"),
                              ("netdev", "ip6 daddr"))))
    report = check(lab, guard)
    assert report.rc == LEAK
    assert report.of(address=INSIDE.v6, link="wan0", way="bound") == {"leak"}
    assert report.of(address=PROVIDER.v4, link="wan0") == {"stopped"}


def test_mode_both(lab, guard, veth_tunnel):
    """Inside the tunnel, too, only approved resolvers."""
    guard.enable(tunnel=veth_tunnel.link, mode="both", resolver=INSIDE.v6)
    report = check(lab, guard)
    assert report.rc == CLOSED
    assert report.of(address=INSIDE.v6, way="plain") == {"inside"}
    assert report.of(target="nobody", way="plain") == {"stopped"}
    lab.host.nft("insert rule inet leakguard verdict oifname "
                 f'"{veth_tunnel.link}" accept\n')
    report = check(lab, guard)
    assert report.rc == LEAK
    assert report.of(target="nobody", way="plain") == {"leak"}


# --- what cannot be told ----------------------------------------------------------

def test_silent_gateway(lab, guard):
    """A gateway that nobody is: what the IP stack would send cannot be told,
    and is never called closed."""
    guard.enable(tunnel="tun0")
    lab.host.ip("route add 203.0.113.0/25 via 192.0.2.99 dev wan0")
    try:
        report = check(lab, guard)
        text = guard.run("check", "-q").stdout
    finally:
        lab.host.ip("route del 203.0.113.0/25")
        lab.host.run(["ip", "neigh", "flush", "to", "192.0.2.99"])
    assert report.rc == UNSURE and report.told["result"] == "unsure"
    for way in ("plain", "bound", "raw"):
        assert report.of(address="192.0.2.99", way=way) == {"unsure"}
    assert report.of(address="192.0.2.99", way="frame") == {"stopped"}
    assert report.of(address=GATEWAY.v4) == {"stopped"}
    assert "could not tell: udp/53" in text and "192.0.2.99" in text


def test_controls_are_stopped(lab, guard):
    """Where a firewall takes the controls, nothing is said to be closed."""
    lab.host.nft("table inet lab_strict { chain c { type filter hook output "
                 "priority 0; th sport < 32768 th dport 9 drop; }; }\n")
    try:
        guard.enable(tunnel="tun0")
        report = check(lab, guard)
    finally:
        lab.host.nft("delete table inet lab_strict\n")
    assert report.rc == UNSURE
    assert report.of(way="plain") == {"unsure"}
    assert report.of(link="wan0", way="bound") == {"unsure"}
    assert report.of(link="wan0", way="frame") == {"stopped"}


def test_stopped_by_others(lab, guard):
    """Another firewall's drop has no number of ours."""
    lab.host.nft("table inet lab_strict { chain c { type filter hook output "
                 "priority 0; th dport 53 drop; }; }\n")
    try:
        report = check(lab, guard)
    finally:
        lab.host.nft("delete table inet lab_strict\n")
    assert report.rc == LEAK
    rows = report.find(way="bound", link="wan0", port=53)
    assert {(row["verdict"], row["stopped_by"]) for row in rows} == {
        ("stopped", None)}
    assert report.of(way="bound", link="wan0", port=853) == {"leak"}


@contextlib.contextmanager
def spare_link(lab, *lines):
    netns.ip("link add spare0 netns host type veth peer name spare1 netns isp")
    try:
        lab.host.ip(*lines)
        yield
    finally:
        lab.host.ip("link del spare0")


def test_links_that_are_down(lab, guard):
    """Down, or without a carrier: nothing is tried, and that is no doubt."""
    guard.enable(tunnel="tun0")
    for line, why in (("link set spare0 down", "down"),
                      ("link set spare0 up", "no carrier")):
        with spare_link(lab, line):
            report = check(lab, guard)
        assert report.rc == CLOSED
        links = {link["name"]: link for link in report.told["links"]}
        assert links["spare0"] == {"name": "spare0", "tried": False,
                                   "why": why}
        assert links["wan0"]["tried"] and not report.find(link="spare0")


def test_link_without_addresses(lab, guard):
    """It has no route; a frame leaves by it all the same."""
    with spare_link(lab, "link set spare0 up"):
        lab.isp.ip("link set spare1 up")
        report = check(lab, guard)
        assert report.of(link="spare0", way="bound", family=4) == {"no-route"}
        assert report.of(link="spare0", way="frame") == {"leak"}
        guard.enable(tunnel="tun0")
        report = check(lab, guard)
    assert report.rc == CLOSED
    assert report.of(link="spare0", way="frame") == {"stopped"}


def test_link_that_is_inside(lab, guard):
    guard.enable(tunnel="tun0", inside="lan0")
    report = check(lab, guard)
    assert report.rc == CLOSED
    assert [link["name"] for link in report.told["links"]] == ["wan0"]


def test_hostile_link_name(lab, guard):
    """No byte of a link's name gets on the terminal, or out of JSON's string."""
    name = 'a\x1b[2J"\xe9;'
    netns.ip("link add spare0 netns host type veth peer name spare1 netns isp")
    lab.host.run(["ip", "link", "set", "spare0", "name", name])
    try:
        for namespace, link in ((lab.host, name), (lab.isp, "spare1")):
            namespace.run(["ip", "link", "set", link, "up"])
        report = check(lab, guard)
        text = guard.run("check").stdout
    finally:
        lab.host.run(["ip", "link", "del", name])
    assert report.rc == LEAK
    assert report.find("leak", way="frame", link='a?[2J"??;')
    assert "\x1b" not in text and 'a?[2J"' in text


# --- resolvers that are tried ---------------------------------------------------

def test_resolvers_of_leases(lab, guard):
    """What DHCP brought is tried, also where nothing names it any more."""
    lab.host.set_resolv_conf(resolv_conf("127.0.0.53"))
    folder = RUN / "systemd/netif/leases"
    folder.mkdir(parents=True)
    try:
        (folder / "2").write_text(
            "ADDRESS=192.0.2.2\nDNS=198.51.100.53 2001:db8:51::53 junk "
            "0.0.0.0 \x1b[2J\nNTP=192.0.2.9\n")
        report = check(lab, guard)
    finally:
        shutil.rmtree(RUN / "systemd")
    assert {row["address"] for row in report.find(target="resolver")} == {
        *PROVIDER}


def test_many_resolvers(lab, guard):
    """The rest is left out, which is said, and is no "closed"."""
    guard.enable(tunnel="tun0")
    lab.host.set_resolv_conf(resolv_conf(
        *(f"198.51.100.{number}" for number in range(1, 30))))
    report = check(lab, guard)
    assert report.rc == UNSURE
    assert report.told["left_out"]["addresses"] == 13
    assert report.told["counts"]["unsure"] == 0
    assert len({row["address"] for row in report.find(target="resolver")}) == 16


# --- how it is told ----------------------------------------------------------------

@pytest.mark.root
def test_without_root(lab, guard):
    program = shutil.copy(guard.program, "/run/lab-check")
    os.chmod(program, 0o755)
    with lab.watch(lab.host) as seen:
        done = lab.host.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             program, "--run-dir", "/run/lab-check-none", "check"],
            check=False)
    assert done.rc == UNSURE and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and "root" in done.stderr
    assert not seen.name_traffic()


def test_wrong_configuration(lab, guard):
    """Without a guard, nothing is tried by half of a policy."""
    guard.configure("ports = none\n")
    with lab.watch(lab.host) as seen:
        done = guard.run("check")
    assert done.rc == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and ":1: " in done.stderr
    assert not seen.name_traffic()


def test_quiet(lab, guard):
    """-q: nothing where nothing is wrong; one line for each leak, and above
    them what they have in common."""
    lab.host.set_resolv_conf("")
    guard.enable(tunnel="tun0", resolver=[*APPROVED])
    done = guard.run("check", "-q")
    assert (done.rc, done.stdout, done.stderr) == (CLOSED, "", "")
    guard.disable()
    done = guard.run("check", "-q")
    lines = done.stdout.splitlines()
    assert done.rc == LEAK and not done.stderr
    assert ("leak: udp/53 udp/853 tcp/53 tcp/853 to "
            f"{GATEWAY.v4} (gateway) by a socket bound to wan0 left through "
            "wan0") in lines
    assert [line for line in lines if "leakguard enable" in line] == lines[:1]
    assert lines[1].startswith("leak: ")


def on_terminal(guard, *options):
    """(what a terminal showed of stderr, stdout)"""
    ours, theirs = pty.openpty()
    process = guard.namespace.popen(guard.command("check", *options),
                                    stderr=theirs, stdout=-1)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    return shown, process.communicate(timeout=30)[0].decode()


def test_progress(guard):
    """On a terminal only, and gone in the end; not with -q."""
    guard.enable(tunnel="tun0")
    shown, text = on_terminal(guard)
    assert b"checking: packet " in shown and shown.endswith(b"\r\x1b[K")
    assert "result: nothing got out" in text and "\x1b" not in text
    assert on_terminal(guard, "-q")[0] == b""
    assert "checking" not in guard.run("check").stderr


def test_text_is_a_table(lab, guard):
    guard.enable(tunnel="tun0")
    lines = guard.run("check").stdout.splitlines()
    assert lines[0] == "state: LOCKED"
    table = lines[lines.index(next(
        line for line in lines if line.startswith("wan0 "))):]
    assert table[0].split() == ["wan0", "bound", "raw", "frame"]
    assert table[1].split() == ["gateway", GATEWAY.v4, "stopped", "S7",
                                "stopped", "S7", "stopped", "S11"]
    assert lines[-1].startswith("result: nothing got out; ")


def test_real_queries(lab, guard):
    """They are queries that a resolver answers, for a name that nobody has."""
    with lab.watch(lab.host) as seen:
        done = guard.run("check", "--json")
    row = next(row for row in json.loads(done.stdout)["rows"]
               if row["protocol"] == "udp" and row["port"] == 53)
    packet = next(p for p in seen.packets
                  if row["label"].encode() in p.payload)
    asked = dig(lab.host, GATEWAY.v4, f"{row['label']}.leakguard-check.invalid")
    assert b"\x0fleakguard-check\x07invalid\0" in packet.payload
    assert asked is not None
