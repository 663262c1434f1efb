"""Status tells of each link what becomes of frames that leave by it."""

import contextlib

import pytest

import labnet
from guests import has_kind, wait_frames
from lookups import resolv_conf
from test_status import codes, texts

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]


def link_of(guard, name):
    return next(link for link in guard.status()["links"]
                if link["name"] == name)


@contextlib.contextmanager
def new_links(lab, count=1):
    """veths new0, new1, ... and far ends of theirs in the LAN."""
    try:
        for number in range(count):
            lab.host.ip(f"link add new{number} type veth peer name far{number}"
                        " netns lan")
        yield
    finally:
        for number in range(count):
            lab.host.ip(f"link del new{number}")


# options -> why the new link is not covered, and whether status warns of it
UNCOVERED = {
    "auto": ("no watcher hooks new links", True),
    "strict": ("no watcher hooks new links", True),
    "off": ("frames = off", False),
}


@pytest.mark.parametrize("frames", UNCOVERED)
def test_warns_of_a_new_link(lab, guard, frames):
    """It is not ALTERED: nobody changed the rules. Gone, it is forgotten."""
    why, is_warned = UNCOVERED[frames]
    guard.enable(resolver=[*APPROVED], frames=frames)
    assert codes(guard) == set()
    with new_links(lab):
        found = link_of(guard, "new0")
        assert (found["frames"], found["why"]) == ("uncovered", why)
        assert f"frames not covered: {why}" in guard.run("status").stdout
        assert codes(guard) == ({"link-uncovered"} if is_warned else set())
        assert all("new0" in text and why in text
                   for text in texts(guard, "link-uncovered"))
        assert guard.state == "LOCKED"
        if is_warned:
            guard.reload()
            assert link_of(guard, "new0")["frames"] == "covered"
            assert codes(guard) == set()
    assert guard.state == "LOCKED" and codes(guard) == set()


def test_a_watcher_covers_a_new_link(lab, guard):
    guard.enable(resolver=[*APPROVED], watch=True)
    with new_links(lab):
        wait_frames(guard, new0="covered")
        assert codes(guard) == set() and guard.state == "LOCKED"


@pytest.mark.skipif(not has_kind("bridge"), reason="no bridge in this kernel")
def test_a_link_that_carries_a_tunnel(lab, guard):
    """A bridge of the tunnel's name: its packets pass its port."""
    with new_links(lab):
        lab.host.ip("link add tun0 type bridge", "link set new0 master tun0")
        try:
            guard.enable(tunnel="tun0")
            assert link_of(guard, "new0")["frames"] == "carrier"
            assert link_of(guard, "tun0")["frames"] == "tunnel"
            line = next(line for line in guard.run("status").stdout.split("\n")
                        if line.split()[:2] == ["link", "new0"])
            assert "carries a tunnel" in line
            assert not texts(guard, "link-uncovered")
        finally:
            lab.host.ip("link del tun0")


def test_many_links(lab, guard):
    """On one screen: those that are not covered, and how many there are."""
    with new_links(lab, 40):
        guard.enable(resolver=[*APPROVED])
        found = guard.status()
        assert [link["frames"] for link in found["links"]].count(
            "covered") == 42
        lines = guard.run("status").stdout.splitlines()
        assert [line.split()[1:] for line in lines
                if line.startswith("link")] == [
                    ["lo", "loopback"], ["and", "42", "more"]]
        guard.enable(resolver=[*APPROVED], inside="new3*")
        lines = guard.run("status").stdout.splitlines()
        shown = [line.split() for line in lines if line.startswith("link")]
        assert sum(line[2:] == ["inside"] for line in shown) == 11


def test_many_uncovered_links_hide_nothing(lab, guard):
    guard.enable(resolver=[*APPROVED])
    lab.host.set_resolv_conf(resolv_conf(*PUBLIC))
    try:
        with new_links(lab, 40):
            assert codes(guard) == {"link-uncovered", "resolv-conf"}
    finally:
        lab.host.set_resolv_conf("")
