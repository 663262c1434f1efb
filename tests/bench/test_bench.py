"""Does the benchmark refuse what it is not meant to measure.

    tests/lab/run tests/bench -q
"""

import pytest

import packet
import report
from place import PATHS, PORT, Place
from variants import EMPTY, VARIANTS, Nft, sequential


@pytest.fixture(scope="module")
def place():
    with Place("t") as made:
        yield made


@pytest.fixture
def installed():
    """In force until the test's end."""
    made = []

    def install(variant):
        made.append(variant)
        variant.install()
        return variant

    yield install
    for variant in made:
        variant.remove()


@pytest.mark.parametrize("name", VARIANTS)
def test_each_is_in_force(name):
    with Place("v") as place:
        variant = VARIANTS[name](place)
        if variant.reason():
            pytest.skip(variant.reason())
        variant.install()
        packet.check_in_force(name, variant)
        samples = report.Samples("packet", 1)
        packet.measure_udp(name, variant, samples, 0)
        assert {one["column"] for one in samples.values} == {
            *PATHS, packet.ALL}


def test_what_guards_nothing_is_refused(place, installed):
    with pytest.raises(packet.NotInForce, match="outside, local4"):
        packet.check_in_force("empty", installed(Nft(place, EMPTY, PATHS)))


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_half_a_guard_is_refused(place, installed, family):
    half = sequential(False).replace("udp dport 53 drop",
                                     f"meta protocol {family} udp dport 53 drop")
    with pytest.raises(packet.NotInForce, match="outside, local"):
        packet.check_in_force(family, installed(Nft(place, half)))


def test_what_is_not_told_to_guard_but_does_is_refused(place, installed):
    with pytest.raises(packet.NotInForce):
        packet.check_in_force(
            "60 rules", installed(Nft(place, sequential(False), guards=[])))


def test_what_drops_other_packets_is_refused(place, installed):
    variant = installed(Nft(place, sequential(False).replace(
        "udp dport 853 drop", f"udp dport {PORT} drop")))
    packet.check_in_force("60 rules", variant)
    with pytest.raises(packet.NotInForce, match="packets that arrived"):
        packet.measure_udp("60 rules", variant, report.Samples("packet", 1), 0)


def test_ratio_of_what_is_added():
    """Paired by round: what a round adds to all is not in the ratio."""
    samples = report.Samples("packet", 9)
    for number in range(9):
        for row, cost in (("nothing", 100), ("empty", 110), ("ours", 115)):
            samples.add(number, row, "local4", "ns", cost + 50 * number)
    found = samples.ratio("ours", "empty", "local4", "ns", "nothing")
    assert found == {"ratio": 1.5, "low": 1.5, "high": 1.5, "rounds": 9}
    assert samples.summary("ours", "local4", "ns")["median"] == 315
    assert samples.summary("theirs", "local4", "ns") is None
    assert samples.ratio("theirs", "empty", "local4", "ns") is None
