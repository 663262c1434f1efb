"""Does the benchmark refuse what it is not meant to measure.

    tests/lab/run tests/bench -q
"""

import pytest

import packet
import publish
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


def test_what_stays_comes_last(place, monkeypatch):
    met = []
    monkeypatch.setattr(packet, "check_in_force",
                        lambda name, variant: met.append(name))
    for part in ("udp", "dns", "tcp"):
        monkeypatch.setattr(packet, f"measure_{part}", lambda *_: None)
    samples = report.Samples("packet", 9)
    names = [name for name in VARIANTS
             if name.startswith("iptables") or name == "nothing"]
    for number in range(3):
        packet.measure_round(place, names, samples, number)
    assert met[2::3] == ["iptables-legacy"] * 3


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


def test_published_figures_are_checked(tmp_path, monkeypatch):
    shown = {"leakguard inet": 1.5, "60 rules": 9.25}
    lines = [{"row": row, "column": column, "ratio": ratio, "low": ratio,
              "high": ratio} for row, ratio in
             {"nothing again": 0.02, "empty chain": 1.0, **shown}.items()
             for column in (*PATHS, packet.ALL)]
    monkeypatch.setattr(publish, "TOP", tmp_path)
    monkeypatch.setattr(publish, "OUT", tmp_path)
    monkeypatch.setattr(publish, "README", tmp_path / "README.md")
    monkeypatch.setattr(publish, "SVG", tmp_path / "plot.svg")
    samples = report.Samples("packet", 3)
    report.write(tmp_path, samples, {"ratio": lines}, report.machine())
    packet.draw(tmp_path, {"ratio": lines})
    start, end = publish.MARKS
    publish.README.write_text(f"# Figures\n{start}\nold\n{end}\nrest\n")
    publish.publish()
    publish.check()
    text = publish.README.read_text()
    assert "old" not in text and text.endswith(f"{end}\nrest\n")
    assert "| 60 rules | 9.25 | 9.25 | 9.25 | 9.25 | 9.25 |" in text
    publish.README.write_text(text.replace("9.25", "9.26"))
    with pytest.raises(SystemExit, match="9.26"):
        publish.check()
