"""Many links at once, and others' changes: all are covered in the end (S11).

See test_frames_links.py for what a single link can do.
"""

import contextlib
import random
import socket
import threading
import time

import pytest

import guests
import labnet
import netns
from guard import Guard
from guests import (NONE, WAYS, ask, bridged, chain_handles, frames_of,
                    links_of, shoot, wait_frames, wire)
from test_frames_links import PUBLIC, leaks
from tools import SOAK, comparable

APPROVED = labnet.RESOLVERS["approved"]
ROUNDS = 400 if SOAK else 40
TABLES = ("inet", "netdev", "bridge")


@pytest.fixture(scope="module")
def lab():
    """Without NAT: a flush of all rules takes nothing that the lab needs."""
    with labnet.Lab(masquerade=False) as made:
        yield made


@pytest.fixture
def isp2():
    with guests.second_provider() as made:
        yield made


# --- many at once -----------------------------------------------------------

@contextlib.contextmanager
def busy(work):
    """work() in a loop meanwhile, ROUNDS times at most."""
    over, failed = threading.Event(), []

    def loop():
        try:
            for number in range(ROUNDS):
                if over.is_set():
                    break
                work(number)
        except Exception as error:  # told when the block is left
            failed.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield thread
    finally:
        over.set()
        thread.join()
    assert not failed


def _churn(lab, number):
    """A link comes, gets another name, a bridge, and mostly goes again."""
    name = f"c{number}"
    netns.ip(f"link add {name} netns host type veth peer name {name} "
             "netns isp2")
    lab.host.ip(f"link set {name} up", f"link set {name} name {name}x",
                f"link set {name}x master brx", f"link set {name}x nomaster",
                f"link set {name}x name {name}",
                *([f"link del {name}"] if number % 10 else []))


def test_churn(lab, guard, isp2, record_property):
    lab.host.ip("link add brx type bridge")
    guard.enable(tunnel="tun0", watch=True)
    rounds = 0
    try:
        with busy(lambda number: _churn(lab, number)) as at_work, \
             lab.capture() as capture:
            while at_work.is_alive():
                rounds += 1
                capture.clear()
                assert shoot(lab.host, "wan0", capture) == NONE
                assert ask(lab, lab.host, PUBLIC, "wan0") == (NONE, NONE)
        left = [f"c{number}" for number in range(0, ROUNDS, 10)]
        wait_frames(guard, **dict.fromkeys((*left, "wan0", "brx"), "covered"))
        found = frames_of(guard)
        assert set(found) == links_of(lab.host)
        for link in left:
            netns.ip(f"link set {link} up", namespace="isp2")
            assert leaks(lab, link, isp2, link) == NONE
        watcher = guard.watcher
        record_property("watcher", watcher)
        assert not watcher["stale"] and not watcher["fighting"]
        assert watcher["undone"] == 0 and watcher["last_undone"] is None
        assert rounds > 2
        guard.disable()
        for link in left:
            assert leaks(lab, link, isp2, link) == WAYS, "control"
    finally:
        lab.host.ip("link del brx")


class Links:
    """Links to isp2, to which anything happens that may happen to a link."""

    roles = {"e": "covered", "t": "tunnel", "i": "inside"}

    def __init__(self, lab, seed):
        self.lab, self.random = lab, random.Random(seed)
        self.far = {}  # {link: its other end}
        self.made, self.done = 0, []

    def new_name(self):
        self.made += 1
        return self.random.choice(("e", "e", "tun", "in")) + str(self.made)

    def add(self, *_):
        if len(self.far) < 12:
            link = self.new_name()
            wire(self.lab, link, f"far{self.made}")
            self.far[link] = f"far{self.made}"

    def rename(self, link):
        name = self.new_name()
        self.lab.host.ip(f"link set {link} name {name}")
        self.far[name] = self.far.pop(link)

    def swap(self, link):
        other = self.random.choice(sorted(self.far))
        if other != link:
            self.lab.host.ip(f"link set {link} name spare",
                             f"link set {other} name {link}",
                             f"link set spare name {other}")
            self.far[link], self.far[other] = self.far[other], self.far[link]

    def enslave(self, link):
        self.lab.host.ip(f"link set {link} master brx")

    def release(self, link):
        self.lab.host.ip(f"link set {link} nomaster")

    def away_and_back(self, link):
        self.lab.host.ip(f"link set {link} netns lan")
        self.lab.lan.ip(f"link set {link} netns host")
        self.lab.host.ip(f"link set {link} up")

    def delete(self, link):
        self.lab.host.ip(f"link del {link}")
        return self.far.pop(link)

    def make_anew(self, link):
        far = self.delete(link)
        wire(self.lab, link, far)
        self.far[link] = far

    def give_its_number_away(self, link):
        with self.lab.host.inside():
            index = socket.if_nametoindex(link)
        far, name = self.delete(link), self.new_name()
        wire(self.lab, name, far, index)
        self.far[name] = far

    CHANGES = (add, add, rename, rename, swap, enslave, release, away_and_back,
               delete, make_anew, give_its_number_away)

    def change(self):
        what = self.random.choice(self.CHANGES) if self.far else Links.add
        link = self.random.choice(sorted(self.far)) if self.far else None
        self.done.append((what.__name__, link))
        what(self, link)


@pytest.mark.parametrize("seed", range(20 if SOAK else 1))
def test_any_changes(lab, guard, isp2, seed):
    """However they come, links are in the end what their names say."""
    links = Links(lab, seed)
    lab.host.ip("link add brx type bridge", "link set brx up")
    guard.enable(tunnel="tun*", inside="in*", watch=True)
    try:
        for _ in range(60 if SOAK else 12):
            for _ in range(links.random.randint(1, 6)):
                links.change()
            wanted = {link: Links.roles[link[0]] for link in links.far}
            wait_frames(guard, wan0="covered", brx="covered", **wanted)
            netns.wait_until(lambda: set(chain_handles(lab.host)) == {
                link for link, what in frames_of(guard).items()
                if what == "covered"}, "each has its chain, and no other")
            for link, far in links.far.items():
                out = NONE if wanted[link] == "covered" else WAYS
                assert leaks(lab, link, isp2, far) == out, (link, links.done)
        watcher = guard.watcher
        assert watcher["undone"] == 0 and not watcher["stale"]
    finally:
        lab.host.ip("link del brx")


@pytest.fixture
def many(lab):
    """A namespace with a guard of its own."""
    made = guests.new_namespace("many")
    own = Guard(lab, namespace=made)
    yield own
    own.disable(check=False)
    made.delete()


def test_200_links(many, record_property):
    many.namespace.ip(*(f"link add a{n} type veth peer name b{n}"
                        for n in range(100)))
    started = time.monotonic()
    many.enable(tunnel="b7", watch=True)
    record_property("enable_ms", round((time.monotonic() - started) * 1000))
    found = frames_of(many)
    assert set(found) == links_of(many.namespace) and len(found) == 201
    assert (found.pop("lo"), found.pop("b7")) == ("loopback", "tunnel")
    assert set(found.values()) == {"covered"}
    before = chain_handles(many.namespace)
    assert len(before) == 199
    many.namespace.ip("link add a100 type veth peer name b100",
                      "link del a0")
    wait_frames(many, a100="covered", b100="covered")
    assert {"a0", "b0"}.isdisjoint(frames_of(many))
    after = chain_handles(many.namespace)
    assert len(after) == 199 and len(after.items() & before.items()) == 197


@pytest.mark.parametrize("anew", [True, False])
def test_links_vanish_while_enable_runs(many, anew):
    """It takes the links that are there; never fails for one that is not."""
    def come_and_go(_):
        many.namespace.ip(*(
            line for n in range(20) for line in (
                f"link add a{n} type veth peer name b{n}",
                f"link del b{n}")))

    with busy(come_and_go) as at_work:
        runs = 0
        while at_work.is_alive() and runs < (1000 if SOAK else 40):
            many.enable(tunnel=["tun0", f"tun{runs % 2}"])
            if anew:
                many.disable()
            runs += 1
    assert runs > 2
    many.enable(tunnel="tun0")
    assert set(frames_of(many)) == links_of(many.namespace) == {"lo"}


# --- others' changes --------------------------------------------------------

def listings(lab):
    """{family: what is in force}; a table that is not there is not."""
    found = {}
    for family in TABLES:
        done = lab.host.run(["nft", "list", "table", family, "leakguard"],
                            check=False)
        if done.rc == 0:
            found[family] = comparable(done.stdout)
    return found


FOREIGN = {
    "flush ruleset": "flush ruleset",
    "netdev table deleted": "delete table netdev leakguard",
    "bridge table deleted": "delete table bridge leakguard",
    "netdev rules flushed": "flush table netdev leakguard",
    "bridge rules flushed": "flush table bridge leakguard",
}


@pytest.mark.parametrize("change", FOREIGN)
def test_undone(lab, guard, change):
    """Where nothing forbids it, it does not stand."""
    assert leaks(lab, "wan0", lab.isp, "cust0") == WAYS
    guard.enable(tunnel="tun0", resolver=[*APPROVED], watch=True,
                 ownership="off")
    before = listings(lab)
    assert set(before) == set(TABLES)
    lab.host.nft(FOREIGN[change])
    netns.wait_until(lambda: listings(lab) == before, "all is back")
    assert leaks(lab, "wan0", lab.isp, "cust0") == NONE
    with bridged(lab) as (guest,):
        wait_frames(guard, vm0="covered", wan0="covered")
        assert ask(lab, guest, PUBLIC) == (NONE, NONE)
    watcher = netns.wait_until(
        lambda: guard.watcher["undone"] and guard.watcher, "it is said")
    assert watcher["undone"] == 1 and watcher["last_undone"]
