"""strongSwan, the real one, with the lines that scripts/hooks/README.md gives.

ESP is in user space here, so the tunnel is a link; what the kernel's own does
is in tests/kernels/suites. In mode both a query is answered only where the
resolver that the server handed out has reached the guard: that is how these
tests see that it has.
"""

import pathlib
import subprocess

import pytest

import labnet
import netns
import strongswan
from hooks import (HOOKS, HookedGuard, asked_all_the_while, assert_open,
                   assert_served, assert_shut)

SECTION = "strongSwan"
UPDOWN, DNS_HANDLER = range(2)  # the section's pieces
LINK = strongswan.LINK
INSIDE = labnet.RESOLVERS["inside"]
RECORD = pathlib.Path("/run/leakguard-strongswan")
BROUGHT = {f"{address} via {LINK}" for address in INSIDE}

UP = ("GUARDED", {LINK}, BROUGHT)
DOWN = ("LOCKED", set(), set())


class Vpn:
    """A gateway at the VPN and a client on the host, both charon."""

    def __init__(self, lab, guard):
        self.lab, self.guard = lab, guard
        self.gateway = strongswan.Daemon(lab, lab.vpn)
        self.charon = strongswan.Daemon(lab, lab.host)

    def start(self, dns=INSIDE, settings="", handler=True, **of_client):
        """Both daemons; nothing is connected yet."""
        self.gateway.stop()
        self.gateway.start(strongswan.server(dns))
        self.charon.start(
            self.connections(**of_client), settings,
            self.guard.readme(SECTION, DNS_HANDLER) if handler else "")

    def connections(self, **of_client):
        # charon hands its own environment to no script.
        line = self.guard.readme(SECTION, UPDOWN).replace(
            "updown = ", f"updown = LEAKGUARD={self.guard.wrapper} ")
        return strongswan.client(line, **of_client)

    def connect(self, child="net", check=True):
        self.charon.swanctl("--initiate", "--child", child, check=check)

    def rekey(self, *what):
        self.charon.swanctl("--rekey", *what)

    def disconnect(self):
        self.charon.swanctl("--terminate", "--ike", "vpn")

    def sas(self):
        return self.charon.swanctl("--list-sas").stdout

    def ups(self):
        """How often the hook was run for `up`, as charon tells."""
        return self.charon.log.count("updown: guarded")

    def wait(self, says, timeout=20):
        try:
            netns.wait_until(lambda: self.guard.says() == says,
                             f"status says {says}", timeout)
        except TimeoutError as error:
            raise AssertionError(
                f"{error}, but {self.guard.says()}\n"
                f"{self.charon.log}") from error

    def close(self):
        for daemon in (self.charon, self.gateway):
            daemon.stop()
        # What one that was killed leaves behind.
        self.lab.host.run(["ip", "rule", "del", "pref", "220"], check=False)
        self.lab.host.run(["ip", "-6", "rule", "del", "pref", "220"],
                          check=False)
        RECORD.unlink(missing_ok=True)


@pytest.fixture
def guard(lab):
    made = HookedGuard(lab)
    yield made
    made.disable(check=False)


@pytest.fixture
def vpn(lab, guard):
    made = Vpn(lab, guard)
    yield made
    made.close()


def test_it_starts_without_a_guard(lab, guard, vpn):
    """The control, and `up` that raises the guard by its configuration."""
    guard.configure("mode = both\ntunnel = vpn9\n")
    vpn.start()
    assert_open(lab)
    vpn.connect()
    vpn.wait(UP)
    assert_served(lab)


def test_from_before_to_down(lab, guard, vpn):
    """Each step; that the ways out are open, the test before has shown."""
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start()
    vpn.wait(DOWN)  # its link is there, and is nothing yet
    assert_shut(lab)

    with asked_all_the_while(lab) as seen:
        vpn.connect()
    assert not seen.out
    vpn.wait(UP)
    assert_served(lab)

    with asked_all_the_while(lab) as seen:
        vpn.rekey("--child", "net")
        vpn.rekey("--ike", "vpn")
    assert not seen.out
    vpn.wait(UP)
    assert vpn.ups() == 2  # one for each family; rekeying runs no hook
    assert_served(lab)

    with asked_all_the_while(lab) as seen:
        vpn.disconnect()
    assert not seen.out
    vpn.wait(DOWN)
    assert_shut(lab)

    vpn.connect()
    vpn.wait(UP)
    assert_served(lab)
    vpn.charon.stop()
    vpn.wait(DOWN)
    assert_shut(lab)


@pytest.mark.parametrize("first", ["no", "yes"])
def test_reauthentication(lab, guard, vpn, first):
    """make_before_break: the old one goes down after the new one is up."""
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start(settings=f"make_before_break = {first}")
    vpn.connect()
    vpn.wait(UP)
    vpn.rekey("--ike", "vpn")  # the IKE_SA that goes down is not the one that came
    assert vpn.ups() == 2
    with asked_all_the_while(lab) as seen:
        vpn.rekey("--ike", "vpn", "--reauth")
        netns.wait_until(lambda: vpn.ups() == 4, "it is up again")
        netns.wait_until(lambda: vpn.sas().count("ESTABLISHED") == 1,
                         "the old one is gone")
    assert not seen.out
    vpn.wait(UP)
    assert_served(lab)
    vpn.disconnect()
    vpn.wait(DOWN)
    assert_shut(lab)


def test_the_gateway_is_killed(lab, guard, vpn):
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start()
    vpn.connect()
    vpn.wait(UP)
    with asked_all_the_while(lab) as seen:
        vpn.gateway.kill()
        vpn.wait(DOWN)  # charon notices
    assert not seen.out
    assert_shut(lab)
    vpn.gateway.start(strongswan.server(INSIDE))
    vpn.connect()
    vpn.wait(UP)
    assert_served(lab)


def test_charon_is_killed(lab, guard, vpn):
    """Nobody says `down`; what it left is tied to a link that is gone."""
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start()
    vpn.connect()
    vpn.wait(UP)
    with asked_all_the_while(lab) as seen:
        vpn.charon.kill()
        vpn.wait(("LOCKED", set(), BROUGHT))
    assert not seen.out
    assert_shut(lab)

    vpn.start()  # with other numbers, and what the other left does not count
    vpn.connect()
    vpn.wait(UP)
    assert_served(lab)
    vpn.disconnect()
    vpn.wait(DOWN)


CHILDREN = dict(zip(("four", "six"), strongswan.NETWORKS, strict=True))


def test_several_children_on_one_link(lab, guard, vpn):
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start(children=CHILDREN)
    for child in CHILDREN:
        vpn.connect(child)
    vpn.wait(UP)
    assert_served(lab)
    vpn.charon.swanctl("--terminate", "--child", "four")
    vpn.wait(UP)
    vpn.charon.swanctl("--terminate", "--child", "six")
    vpn.wait(DOWN)
    assert_shut(lab)


def test_a_guard_that_was_lowered_stays_down(lab, guard, vpn):
    """Only what comes raises it, not what goes."""
    guard.configure("tunnel = vpn9\n")
    vpn.start(children=CHILDREN)
    for child in CHILDREN:
        vpn.connect(child)
    netns.wait_until(lambda: vpn.ups() == 2, "both are up")
    guard.disable()
    for left, child in ((1, "four"), (0, "six")):
        vpn.charon.swanctl("--terminate", "--child", child)
        netns.wait_until(
            lambda n=left: len(RECORD.read_text().split()) // 5 == n,
            "the hook has been called")
    assert guard.state == "OFF"
    assert_open(lab)


def test_resolve_keeps_the_resolvers(lab, guard, vpn):
    """What README says of that plug-in, and the way round it."""
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start(handler=False)
    vpn.connect()
    vpn.wait(("GUARDED", {LINK}, set()))
    assert_shut(lab)
    guard.configure("mode = both\ntunnel = vpn9\n" + "".join(
        f"resolver = {address} via tunnel\n" for address in INSIDE))
    guard.reload()
    assert_served(lab)


def test_mode_either_needs_no_resolvers(lab, guard, vpn):
    guard.configure("tunnel = vpn9\n")
    guard.enable(watch=True)
    vpn.start(handler=False)
    vpn.connect()
    vpn.wait(("GUARDED", {LINK}, set()))
    assert_served(lab)


# --- without charon: what it could say ---

def call(lab, guard, verb, parent=None, **variables):
    """The hook as charon runs it: by a shell, with these variables alone."""
    env = {"PATH": "/usr/bin:/bin", "LEAKGUARD": guard.wrapper,
           "PLUTO_VERB": verb, "PLUTO_PROTO": "esp", **variables}
    return lab.host.run(["sh", "-c", f"2>&1 {HOOKS}/strongswan; exit $?"],
                        env=env, check=False)


@pytest.fixture
def bare(lab, guard):
    guard.configure("mode = both\ntunnel = vpn9\n")
    guard.enable()
    yield guard
    RECORD.unlink(missing_ok=True)


def tunnels(guard):
    return {tunnel["name"] for tunnel in guard.status()["tunnels"]}


def test_policy_mode(lab, bare):
    """No link of its own: the tunnel is the policy's number."""
    done = call(lab, bare, "up-client", PLUTO_REQID="7",
                PLUTO_DNS4_1=INSIDE.v4, PLUTO_DNS6_1=INSIDE.v6)
    assert done.rc == 0, done
    assert "ipsec:7" in tunnels(bare)
    call(lab, bare, "up-client", PLUTO_REQID="8", PLUTO_DNS4_1=INSIDE.v4)
    assert tunnels(bare) >= {"ipsec:7", "ipsec:8"}
    call(lab, bare, "down-client", PLUTO_REQID="7")
    assert "ipsec:7" not in tunnels(bare)
    call(lab, bare, "down-client", PLUTO_REQID="8")
    assert tunnels(bare) == {"vpn9"}


@pytest.mark.parametrize("reqid", ["", "0", "07", "x", "7 8", "7\n8", "-1",
                                   "1234567890", "any", "$(id)", "9" * 10000])
@pytest.mark.parametrize("verb", ["up-client", "down-client"])
def test_bad_numbers(lab, bare, verb, reqid):
    before = bare.status()["tunnels"]
    assert call(lab, bare, verb, PLUTO_REQID=reqid).rc == 1
    assert bare.status()["tunnels"] == before
    assert not RECORD.exists() or not RECORD.read_text()


@pytest.mark.parametrize("value", [
    "10.0.0.1\n1 7 vpn9 10.0.0.2", "10.0.0.1 10.0.0.2", "$(touch /run/lab/bad)",
    "`touch /run/lab/bad`", "*", "-h", "10.0.0.1;id", "1" * 10000, "fe80::1%\n"])
def test_hostile_resolvers(lab, bare, value):
    done = call(lab, bare, "up-client", PLUTO_REQID="7", PLUTO_DNS4_1=value,
                PLUTO_DNS4_2="192.0.2.77", PLUTO_XAUTH_ID=value,
                PLUTO_PEER_ID=value, PLUTO_CONNECTION=value)
    assert done.rc == 0, done
    assert "left out" in done.stdout
    # A policy is no link: what is tied to one is open through any tunnel.
    assert [r["address"] for r in bare.status()["resolvers"]] == ["192.0.2.77"]
    assert len(RECORD.read_text().splitlines()) == 1
    assert not pathlib.Path("/run/lab/bad").exists()


def test_other_calls(lab, bare):
    before = bare.status()["tunnels"]
    assert call(lab, bare, "prepare-client", PLUTO_REQID="7").rc == 1
    done = call(lab, bare, "up-client", PLUTO_REQID="7", PLUTO_PROTO="ah")
    assert "no encryption" in done.stdout
    assert call(lab, bare, "down-client", PLUTO_REQID="7").rc == 0
    assert bare.status()["tunnels"] == before


def test_many_at_once(lab, bare):
    """charon runs hooks of several IKE_SAs in parallel."""
    def start(verb, reqid):
        return lab.host.popen(
            ["sh", "-c", f"2>&1 {HOOKS}/strongswan; exit $?"],
            env={"PATH": "/usr/bin:/bin", "LEAKGUARD": bare.wrapper,
                 "PLUTO_VERB": verb, "PLUTO_PROTO": "esp",
                 "PLUTO_REQID": str(reqid), "PLUTO_DNS4_1": INSIDE.v4},
            stdout=subprocess.DEVNULL)

    for verb, expected in (("up-client", {f"ipsec:{n}" for n in range(1, 9)}),
                           ("down-client", set())):
        running = [start(verb, n) for n in range(1, 9)]
        assert [process.wait(60) for process in running] == [0] * 8
        assert tunnels(bare) == expected | {"vpn9"}
