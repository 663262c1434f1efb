"""rpcd's object: what /usr/libexec/rpcd/leakguard answers, as README.md of the
package has it, and that its access list names all of it."""

import json

import pytest

import labnet
from guard import REPOSITORY
from router import is_open

APPROVED = labnet.RESOLVERS["approved"]
RESOLVER = f"list resolver '{APPROVED.v4}'"
METHODS = {"status", "links", "log", "attempts", "check", "enable", "disable",
           "pause", "resume"}


@pytest.fixture
def ask(router):
    def ask(method, **arguments):
        done = router.rpcd("call", method, stdin=json.dumps(arguments) + "\n")
        return json.loads(done.stdout)
    return ask


@pytest.fixture
def guarded(router):
    router.configure(RESOLVER)
    router.boot()
    return router


def test_list(router):
    assert json.loads(router.rpcd("list").stdout).keys() == METHODS


def test_access(router):
    """Each method is for reading or for writing, and all are documented."""
    path = router.root / "usr/share/rpcd/acl.d/leakguard.json"
    group = json.loads(path.read_text())["leakguard"]
    reading, writing = (set(group[of]["ubus"]["leakguard"])
                        for of in ("read", "write"))
    assert reading == {"status", "links", "log", "attempts", "check"}
    assert reading | writing == METHODS and not reading & writing
    readme = (REPOSITORY / "scripts/packaging/openwrt/README.md").read_text()
    assert all(f"`{method}`" in readme for method in METHODS)


def test_status(guarded, ask):
    answer = ask("status")
    assert answer["state"] == "LOCKED" and answer["version"] == 1
    assert answer.keys() == guarded.guard.status().keys()


def test_status_off(router, ask):
    router.boot()
    assert ask("status")["state"] == "OFF"


def test_links(lab, guarded, ask):
    lab.host.ip('link add name odd"\\x type veth peer name odd1')
    try:
        links = ask("links")["links"]
    finally:
        lab.host.ip('link del odd1')
    assert {"lo", "lan0", "wan0", 'odd"\\x'} <= set(links)


def test_enable_and_disable(lab, router, ask):
    router.configure(RESOLVER, enabled="0")
    router.boot()
    assert is_open(lab)
    answer = ask("enable")
    assert answer["ok"] and answer["text"].startswith("guarded")
    assert not is_open(lab)
    assert ask("disable")["ok"]
    assert is_open(lab)


def test_pause(lab, guarded, ask):
    for duration in ("", "soon", "-1", "--help", "$(id)", "9h"):
        answer = ask("pause", duration=duration)
        assert not answer["ok"] and answer["error"], duration
    assert not ask("pause")["ok"]
    assert not is_open(lab)
    assert ask("pause", duration="60s")["ok"]
    assert is_open(lab)
    assert 0 < ask("status")["pause_left_ms"] <= 60000
    assert ask("resume")["ok"]
    assert not is_open(lab)


def test_failure(router, ask):
    router.boot()
    answer = ask("pause", duration="60s")
    assert answer == {"ok": False, "error": answer["error"]}
    assert "the guard is not up" in answer["error"]


def test_check(guarded, ask):
    """Of a text, and of UCI's file; nothing in force changes, nothing is left."""
    before = guarded.guard.listings("-s")
    assert ask("check") == {"ok": True}
    assert ask("check", config="tunnel = tun*\n") == {"ok": True}
    wrong = ask("check", config='# "first"\ntunnel = a b\n')
    assert not wrong["ok"]
    assert wrong["error"].startswith('line 2: tunnel "a b": expected')
    guarded.configure("option mode 'sideways'")
    assert 'mode "sideways"' in ask("check")["error"]
    guarded.configure("option watch_quiet 'soon'")
    assert "watch_quiet=soon" in ask("check")["error"]
    guarded.configure(RESOLVER, "list tunnel 'x\ny'")
    assert "line break" in ask("check")["error"]
    assert guarded.guard.listings("-s").keys() == before.keys()
    assert not list(guarded.root.glob("tmp/leakguard.*"))


def test_log(guarded, ask):
    assert ask("log") == {"lines": []}
    with open(guarded.root / "tmp/log/messages", "w", encoding="latin1") as file:
        file.writelines(f'leakguard: "{n}" \\ \t\x01 $(id)\n' for n in range(80))
        file.write("dnsmasq: something else\n")
    assert len(ask("log")["lines"]) == 50
    lines = ask("log", lines=3)["lines"]
    assert lines == [f'leakguard: "{n}" \\ \t\x01 $(id)' for n in (77, 78, 79)]
    assert len(ask("log", lines="x")["lines"]) == 50
