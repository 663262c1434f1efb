"""A kernel that lacks a part: its fallback, or a refusal that names it.

The lack is the kernel's own: tools/lack.c renames expressions on their way
into it, and it answers what it answers to any name it does not know.
"""

import os
import pathlib
import subprocess

import pytest

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
    """The environment of a kernel without these expressions."""
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
    guard.enable(resolver="203.0.113.53")
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
