"""A kernel that lacks a part: its fallback, or a refusal that names it.

The lack is the kernel's own: tools/lack.c makes parts unknown to it on their
way, and it answers what it answers to whatever it does not know.
"""

import contextlib
import json
import os
import pathlib
import subprocess

import pytest

import labnet
import netns
from clients import dig
from frames import Wire
from guests import bridged, large_udp, wait_frames

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build/tests"


@pytest.fixture(scope="module")
def lack_library():
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / "lack.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o",
                    library, HERE / "tools/lack.c", "-ldl"], check=True)
    return library


@pytest.fixture
def lacking(lack_library):
    """The environment of a kernel without these parts."""
    def make(*expressions):
        return dict(os.environ, LD_PRELOAD=str(lack_library),
                    LACK=",".join(expressions))
    return make


@pytest.mark.parametrize("lack, way", [
    ((), "defrag"),
    (("tproxy",), "conntrack"),
    (("tproxy", "ct"), "drop"),
])
def test_fragments_fall_back(guard, lacking, lack, way):
    done = guard.enable(tunnel="tun0", env=lacking(*lack))
    assert done.rc == 0
    status = guard.status()
    assert status["policy"]["fragments"] == way
    assert status["state"] == "LOCKED"
    codes = [warning["code"] for warning in status["warnings"]]
    assert "ipv6-lacks" not in codes, "this kernel itself lacks nothing"


def test_status_tells_what_ipv6_lacks(guard, lacking):
    env = lacking("tproxy")
    guard.enable(env=env)
    text = guard.run("status", env=env).stdout
    assert "IPv6 is on, but the kernel cannot reassemble" in text


@pytest.mark.parametrize("way, lack", [("defrag", "tproxy"),
                                       ("conntrack", "ct")])
def test_a_way_that_was_asked_for_is_not_replaced(guard, lacking, way, lack):
    guard.enable(resolver="203.0.113.53", fragments="drop")
    before = guard.listing()
    done = guard.enable("--fragments", way, env=lacking(lack), check=False)
    assert done.rc == 1
    assert done.stderr == (f'leakguard: fragments "{way}": this kernel cannot, '
                           "expected auto or drop\n")
    assert guard.listing() == before


@pytest.mark.parametrize("lack, options, named", [
    ("reject", ("--action", "reject"), 'rule "S7 any other name traffic" of chain refuse'),
    ("log", ("--log-group", "5"), 'rule "S7 a sample of what is blocked" of chain verdict'),
    ("objref", (), 'rule "S2 stays on the host" of chain verdict'),
    ("lookup", ("--tunnel", "tun0"), 'rule "S4 through a tunnel" of chain verdict'),
])
@pytest.mark.parametrize("raised", [False, True])
def test_refusal_names_the_rule(guard, lacking, lack, options, named, raised):
    """Nothing changed: neither on an open host nor on a guarded one."""
    if raised:
        guard.enable("--ports", "53", resolver="203.0.113.53")
    before = guard.listing()
    assert bool(before) == raised
    done = guard.enable(*options, env=lacking(lack), check=False)
    assert done.rc == 1
    assert done.stderr == (f"leakguard: nf_tables: {named}: No such file or "
                           "directory; the rules before are in force\n")
    assert guard.listing() == before


def test_dry_run_tells_the_same_refusal(guard, lacking):
    done = guard.enable("--dry-run", "--action", "reject",
                        env=lacking("reject"), check=False)
    assert done.rc == 1
    assert 'rule "S7 any other name traffic" of chain refuse' in done.stderr
    assert guard.state == "OFF"


# --- frames -----------------------------------------------------------------

EGRESS, BRIDGE = "CONFIG_NETFILTER_EGRESS", "CONFIG_NF_TABLES_BRIDGE"
# what the kernel lacks -> the tables there are all the same, what is named
FRAMES = {
    "egress": ({"bridge"}, EGRESS),
    "netdev": ({"bridge"}, EGRESS),
    "bridge": ({"egress"}, BRIDGE),
    "egress,bridge": (set(), EGRESS),
    "rtclassid": ({"egress", "bridge"}, None),
}
lacks = pytest.mark.parametrize("lack", FRAMES)
refused = pytest.mark.parametrize(
    "lack", [lack for lack, (_, named) in FRAMES.items() if named])
FAMILIES = {"bridge": "bridge", "egress": "netdev"}


def tables(namespace):
    """Ours, as the kernel lists them: {family: text}."""
    return {family: found.stdout for family in ("inet", "netdev", "bridge")
            if (found := namespace.run(
                ["nft", "list", "table", family, "leakguard"],
                check=False)).rc == 0}


def status(guard, env):
    return json.loads(guard.run("status", "--json", env=env).stdout)


def warned(found, code):
    return [w["text"] for w in found["warnings"] if w["code"] == code]


@contextlib.contextmanager
def raised(guard, env, watch):
    """The guard up; with a watcher in the foreground, which keeps `env`."""
    if not watch:
        guard.enable(tunnel="tun0", env=env)
        yield
        return
    process = guard.watch("--tunnel", "tun0", env=env)
    try:
        netns.wait_until(lambda: tables(guard.namespace) and guard.watcher,
                         "the watcher has raised the guard")
        yield
    finally:
        netns.stop(process)


@lacks
@pytest.mark.parametrize("watch", [False, True], ids=["alone", "watched"])
def test_frames_fall_back(lab, guard, lacking, lack, watch):
    """What the kernel has is made, the rest is told; the IP stack's queries
    are blocked, and frames where their table is there."""
    env, (has, named) = lacking(lack), FRAMES[lack]
    wire = Wire(lab)
    with lab.watch(lab.host) as seen:
        dig(lab.host, labnet.GATEWAY.v4)
    assert seen.name_traffic() and wire.are_seen("raw", wire.frames())
    with raised(guard, env, watch):
        assert set(tables(lab.host)) == {
            "inet", *(FAMILIES[one] for one in has)}
        found = status(guard, env)
        assert found["state"] == "LOCKED"
        assert found["policy"]["frames"] == "auto"
        assert found["frames"] == {one: one in has for one in FAMILIES}
        texts = warned(found, "frames-lack")
        assert len(texts) == bool(named)
        assert all(named in text for text in texts)
        assert not warned(found, "link-uncovered"), "the kernel, not a link"
        cover = {link["name"]: (link["frames"], link["why"])
                 for link in found["links"]}
        assert cover["wan0"] == (("covered", None) if "egress" in has else
                                 ("uncovered", "the kernel cannot"))
        with lab.watch(lab.host) as seen:
            dig(lab.host, labnet.GATEWAY.v4)
        assert not seen.name_traffic()
        assert wire.are_seen("raw", wire.frames()) == ("egress" not in has)


@refused
@pytest.mark.parametrize("way", ["require", "strict"])
@pytest.mark.parametrize("is_up", [False, True], ids=["open", "guarded"])
def test_frames_required(lab, guard, lacking, lack, way, is_up):
    """One line, and nothing changed: neither rules nor record."""
    if is_up:
        guard.enable(resolver="203.0.113.53", frames="off")
    before = tables(lab.host)
    assert set(before) == ({"inet"} if is_up else set())
    record = pathlib.Path(guard.run_dir, "state")
    text = record.read_text("ascii") if is_up else None
    done = guard.enable("--frames", way, env=lacking(lack), check=False)
    part = {EGRESS: "chains at a link's way out",
            BRIDGE: "tables of family bridge"}[FRAMES[lack][1]]
    assert (done.rc, done.stderr) == (1, (
        f'leakguard: frames "{way}": this kernel lacks {part} '
        f"({FRAMES[lack][1]}), expected auto or off\n"))
    assert tables(lab.host) == before
    assert is_up == record.exists()
    assert not is_up or record.read_text("ascii") == text


@lacks
def test_frames_off_asks_for_nothing(lab, guard, lacking, lack):
    env = lacking(lack)
    guard.enable(tunnel="tun0", frames="off", env=env)
    assert set(tables(lab.host)) == {"inet"}
    found = status(guard, env)
    assert found["state"] == "LOCKED" and not warned(found, "frames-lack")
    assert {link["why"] for link in found["links"]} <= {None, "frames = off"}


@pytest.mark.parametrize("lack", ["egress", "bridge", "rtclassid"])
def test_watcher_has_peace(lab, guard, lacking, lack):
    """What the kernel lacks is not tried again with each link that comes."""
    env = lacking(lack)
    expected = "uncovered" if lack == "egress" else "covered"
    with raised(guard, env, watch=True):
        before = guard.watcher
        lab.host.ip("link add new0 type veth peer name new1")
        try:
            netns.wait_until(
                lambda: guard.watcher["looked"] > before["looked"],
                "it has looked at the new link")
            wait_frames(guard, new0=expected, new1=expected)
            found = status(guard, env)
            assert found["state"] == "LOCKED"
            now = found["watcher"]
            assert (now["pid"], now["refused"], now["undone"]) == (
                before["pid"], 0, 0)
        finally:
            lab.host.ip("link del new0")


@pytest.mark.parametrize("frames, own, packet_sockets", [
    ("auto", 3, True), ("strict", 1, False)])
def test_without_routes_of_frames(lab, guard, lacking, frames, own,
                                  packet_sockets):
    """Then a frame is the host's own if no bridge handed it on: its large
    datagrams arrive, but a packet socket's later fragments as well."""
    guard.enable(tunnel="tun0", frames=frames, env=lacking("rtclassid"))
    wire = Wire(lab)
    later = wire.frames(["later"])
    for address in labnet.GATEWAY:
        assert len(large_udp(lab, lab.host, address)) == own
    assert wire.are_seen("raw", later) == packet_sockets
    assert not wire.are_seen("raw", wire.frames())
    with bridged(lab, 1, 0) as (guest,):
        guard.enable(tunnel="tun0", frames=frames, env=lacking("rtclassid"))
        for address in labnet.GATEWAY:
            assert len(large_udp(lab, guest, address)) == 1
