"""`tunnel = ipsec:N`, as far as a kernel without ESP can tell.

Policies are real here, and nothing passes them: there is no state that could
transform a packet. What passes as ESP is in tests/kernels/suites/ipsec.sh.
"""

import json

import pytest

import labnet
import netns
import profiles
from probes import Probe, fire

PUBLIC = labnet.RESOLVERS["public"]
INSIDE = labnet.RESOLVERS["inside"]
HERE = labnet.HOST_WAN
TO_PUBLIC = [Probe("host", "wan", family, port, proto, "public")
             for family in (4, 6) for port in (53, 853)
             for proto in ("udp", "tcp")]


def policy(reqid=7, direction="out", words=(), template=(), there=PUBLIC):
    """Command lines for ip(8), one by each family."""
    return [f"xfrm policy add src {any_} dst {dst} dir {direction} "
            + " ".join(words) + f" tmpl src {src} dst {dst} proto esp "
            f"reqid {reqid} mode transport " + " ".join(template)
            for any_, src, dst in zip(("0.0.0.0/0", "::/0"), HERE, there,
                                      strict=True)]


@pytest.fixture
def xfrm(lab):
    """Outgoing policies of the host; gone afterwards."""
    try:
        lab.host.ip("xfrm policy list")
    except netns.CommandError:
        pytest.skip("no IPsec policies in this kernel")
    yield lab.host.ip
    lab.host.ip("xfrm policy flush")


def seen(lab):
    return {o.probe for o in fire(lab, TO_PUBLIC) if o.seen}


def says(guard):
    """(state, {tunnel: links that are there})"""
    status = guard.status()
    return status["state"], {
        tunnel["name"]: [link["name"] for link in tunnel["links"]]
        for tunnel in status["tunnels"]}


# --- what is installed ---

OPTIONS = {
    "reqid": {"tunnel": "ipsec:7"},
    "any": {"tunnel": "ipsec:any"},
    "beside links": {"tunnel": ["wg0", "ipsec:7", "ipsec:8", "tun*"],
                     "resolver": ["10.64.0.1 via ipsec:7", "192.0.2.9"]},
    "kinds": {"tunnel": ["ipsec0", "ipsec:999999999"],
              "tunnel_kind": "strict"},
    "reject": {"tunnel": "ipsec:7", "action": "reject"},
    "both": {"tunnel": ["ipsec:7", "wg0"], "mode": "both", "action": "reject",
             "resolver": ["10.64.0.1 via tunnel", "fd64::1@853 via tunnel"]},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rules_says_what_enable_installs(lab, guard, options):
    guard.enable(**options)
    installed = "".join(guard.listings().values())
    assert "ipsec out reqid" in installed or "rt ipsec exists" in installed
    guard.disable()
    words = [part for key, values in options.items()
             for value in ([values] if isinstance(values, str) else values)
             for part in (f"--{key.replace('_', '-')}", value)]
    lab.host.nft(guard.run("rules", *words, check=True).stdout)
    loaded = "".join(guard.listings().values())
    profiles.delete_table(lab.host)
    assert (profiles.normalise(profiles.without_links(installed))
            == profiles.normalise(profiles.without_links(loaded)))


def test_any_covers_each(guard):
    guard.enable(tunnel=["ipsec:any", "ipsec:7", "ipsec:8", "wg0"])
    assert set(says(guard)[1]) == {"ipsec:any", "wg0"}
    assert "reqid" not in guard.listing()


def test_a_prefix_has_links_only(guard, xfrm):
    """ipsec* is any link of such a name, and no policy."""
    xfrm(*policy())
    guard.enable(tunnel="ipsec*")
    assert says(guard) == ("LOCKED", {"ipsec*": []})
    assert "rt ipsec" not in guard.listing()


BAD = ["ipsec:", "ipsec:0", "ipsec:x", "ipsec:-1", "ipsec:7x", "ipsec:7*",
       "ipsec:*", "ipsec:0x7", "ipsec:7.0", "ipsec:1000000000",
       "ipsec:1234567890", "ipsec:ANY", "IPSEC:7", "ipsec:any:7",
       "ipsec:7,8", "ipsec: 7", "x:7"]


@pytest.mark.parametrize("value", BAD)
def test_bad_values(guard, value):
    """Named, refused, and nothing is touched: by option, file, up and down."""
    guard.enable(tunnel="ipsec:7")
    before = guard.listing("inet")
    for command in (("enable", "--no-watch", "--tunnel", value),
                    ("up", "--no-watch", "--tunnel", value),
                    ("down", "--tunnel", value)):
        done = guard.run(*command)
        assert done.rc == 2, done
        assert f'"{value}"' in done.stderr
        assert guard.listing("inet") == before
    guard.configure(f"tunnel = {value}\n")
    done = guard.reload(check=False)
    assert done.rc == 2, done
    assert f'"{value}"' in done.stderr
    assert guard.listing("inet") == before


@pytest.mark.parametrize("value", [value for value in BAD if "*" not in value])
def test_bad_paths(guard, value):
    done = guard.enable("--resolver", f"10.64.0.1 via {value}", tunnel="wg0",
                        check=False)
    assert done.rc == 2, done
    assert guard.state == "OFF"


@pytest.mark.parametrize("words", [
    ("--inside", "ipsec:7"), ("--inside", "ipsec:any"),
    ("--endpoint", "ipsec:7")])
def test_no_tunnel_elsewhere(guard, words):
    assert guard.enable(*words, check=False).rc == 2
    assert guard.state == "OFF"


# --- what is said of it ---

def test_status_knows_policies(lab, guard, xfrm):
    guard.enable(tunnel="ipsec:7")
    assert says(guard) == ("LOCKED", {"ipsec:7": []})
    xfrm(*policy(reqid=8))
    assert says(guard) == ("LOCKED", {"ipsec:7": []})
    xfrm(*policy(there=INSIDE))
    assert says(guard) == ("GUARDED", {"ipsec:7": ["ipsec:7"]})
    guard.enable(tunnel="ipsec:any")
    assert says(guard) == ("GUARDED", {"ipsec:any": ["ipsec:7", "ipsec:8"]})
    lab.host.ip("xfrm policy flush")
    assert says(guard) == ("LOCKED", {"ipsec:any": []})
    assert "no-tunnel-link" in [
        warning["code"] for warning in guard.status()["warnings"]]


@pytest.mark.parametrize("of_no_use", [
    {"template": ("level", "use")}, {"direction": "in"}, {"direction": "fwd"},
    {"words": ("action", "block")}], ids=lambda words: str(words))
def test_policies_that_protect_nothing(guard, xfrm, of_no_use):
    guard.enable(tunnel="ipsec:any")
    xfrm(*policy(**of_no_use))
    assert says(guard) == ("LOCKED", {"ipsec:any": []})


def test_many_policies(guard, xfrm):
    """More than one answer of the kernel holds."""
    xfrm(*(f"xfrm policy add src 0.0.0.0/0 dst 10.{n // 250}.{n % 250}.0/24 "
           f"dir out tmpl src {HERE.v4} dst {PUBLIC.v4} proto esp "
           f"reqid {n + 1} mode tunnel" for n in range(2000)))
    guard.enable(tunnel="ipsec:1999")
    assert says(guard) == ("GUARDED", {"ipsec:1999": ["ipsec:1999"]})
    guard.enable(tunnel="ipsec:2001")
    assert says(guard) == ("LOCKED", {"ipsec:2001": []})
    guard.enable(tunnel="ipsec:any")
    assert guard.state == "GUARDED"


def test_the_watcher_stays(guard, xfrm):
    """A policy that comes and goes is no reason to change a rule."""
    guard.enable(tunnel="ipsec:7", watch=True)
    before = guard.watcher["applied"]
    for _ in range(3):
        xfrm(*policy())
        assert guard.state == "GUARDED"
        xfrm("xfrm policy flush")
        assert guard.state == "LOCKED"
    assert guard.watcher["applied"] == before


# --- up, down, reload ---

@pytest.mark.parametrize("watch", [False, True])
def test_up_and_down(guard, xfrm, watch):
    guard.configure("tunnel = wg0\nmode = both\n")
    guard.enable(watch=watch)
    plain = guard.listing()
    xfrm(*policy())
    guard.up("ipsec:7", *INSIDE, watch=watch)
    assert says(guard) == ("GUARDED", {"wg0": [], "ipsec:7": ["ipsec:7"]})
    assert {r["address"] for r in guard.status()["resolvers"]} == set(INSIDE)
    guard.up("ipsec:8", INSIDE.v4, watch=watch)
    guard.reload()
    assert set(says(guard)[1]) == {"wg0", "ipsec:7", "ipsec:8"}
    guard.down("ipsec:7")
    assert {r["address"] for r in guard.status()["resolvers"]} == {INSIDE.v4}
    guard.down("ipsec:8")
    assert says(guard) == ("LOCKED", {"wg0": []})
    # Where the verdict falls stays; all else is as before.
    assert guard.listing() == plain.replace("srcnat - 1", "srcnat + 1")


def test_up_of_any(guard, xfrm):
    xfrm(*policy())
    guard.up("ipsec:any", INSIDE.v4)
    assert says(guard) == ("GUARDED", {"ipsec:any": ["ipsec:7"]})
    guard.down("ipsec:any")
    assert says(guard) == ("LOCKED", {})


def test_one_number_has_one_name(guard):
    """ipsec:07 is ipsec:7."""
    guard.up("ipsec:07")
    assert set(says(guard)[1]) == {"ipsec:7"}
    guard.down("ipsec:7")
    assert says(guard)[1] == {}


# --- what gets out ---

@pytest.mark.parametrize("tunnel", ["ipsec:any", "ipsec:7"])
@pytest.mark.parametrize("frames", ["auto", "off"])
def test_without_a_policy(lab, guard, tunnel, frames):
    assert seen(lab) == set(TO_PUBLIC)  # the control
    guard.enable(tunnel=tunnel, frames=frames)
    assert not seen(lab)


@pytest.mark.parametrize("tunnel", ["ipsec:any", "ipsec:7"])
@pytest.mark.parametrize("frames", ["auto", "off"])
def test_an_optional_policy(lab, guard, xfrm, tunnel, frames):
    """`level use`: with no state the packet goes as it is."""
    xfrm(*policy(template=("level", "use")))
    assert seen(lab) == set(TO_PUBLIC)  # the control
    guard.enable(tunnel=tunnel, frames=frames)
    assert not seen(lab)


def test_a_policy_without_a_state(lab, guard, xfrm):
    """The kernel itself keeps it; nothing here lets it go."""
    xfrm(*policy())
    guard.enable(tunnel="ipsec:any")
    assert not seen(lab)


def test_json_is_what_it_was(guard, xfrm):
    """A policy is told like a link, with a kind of its own."""
    xfrm(*policy())
    guard.enable(tunnel="ipsec:7")
    status = json.loads(guard.run("status", "--json").stdout)
    assert status["tunnels"] == [{"name": "ipsec:7", "links": [
        {"name": "ipsec:7", "kind": "xfrm", "up": True}]}]
