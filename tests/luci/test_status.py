"""The page that shows what is in force, against the real program."""

import copy

import clients
import labnet
import netns

PUBLIC = labnet.RESOLVERS["public"].v4
INSIDE = labnet.RESOLVERS["inside"].v4
TUNNEL = "list tunnel 'tun0'"


def rows(browser, place):
    """A table as a list of its rows' texts, by the first cell; the titles, too."""
    found = browser.run("""
        return [...document.querySelectorAll(`#leakguard-place-${arguments[0]} tr`)]
            .map(tr => [...tr.cells].map(td => td.innerText));""", place)
    return {row[0]: row[1:] for row in found}


def packets(browser, name):
    return int(rows(browser, "counters")[name][1])


def test_off(page, router, guard):
    router.boot()
    assert guard.state == "OFF"
    browser = page("status")
    assert browser.text("#leakguard-state") == "OFF"
    assert "anywhere" in browser.text("#leakguard-place-state")
    assert "danger" in browser.run("return document.querySelector("
                                   "'#leakguard-state').parentNode.className;")
    assert not browser.is_shown("#leakguard-pause")
    assert "down" in browser.text("#leakguard-place-counters")


def test_locked_and_what_it_blocks(page, router, lab, guard):
    with lab.watch(lab.host) as seen:
        control = clients.dig(lab.host, PUBLIC)
    assert seen.name_traffic(control.label)
    router.configure(TUNNEL, "list resolver '10.64.0.1 via tunnel'", enabled="1")
    router.boot()
    browser = page("status")
    assert guard.state == "LOCKED"
    assert browser.text("#leakguard-state") == "LOCKED"
    for warning in guard.status()["warnings"]:
        browser.wait_for_text("#leakguard-warnings", warning["text"])
    assert rows(browser, "tunnels")["tun0"] == ["", "", "absent"]
    assert rows(browser, "resolvers")[INSIDE][0] == "tunnels only"

    before = packets(browser, "S7")
    with lab.watch() as seen:
        clients.dig(lab.host, PUBLIC)
        clients.dig(lab.lan, PUBLIC)
    assert not seen.name_traffic()
    netns.wait_until(lambda: packets(browser, "S7") >= before + 2,
                     "the page counts what was blocked", 15, interval=0.1)
    assert packets(browser, "S7") == guard.status()["counters"]["S7"]["packets"]
    browser.wait_for_text("#leakguard-blocked", "packets")
    netns.wait_until(lambda: rows(browser, "blocked").get("wan0", ["", "0"])[:2]
                     == ["53", str(guard.status()["blocked"][0]["packets"])],
                     "the page tells what was blocked where", 15, interval=0.1)


def test_a_tunnel_comes_and_goes_while_it_is_looked_at(page, router, lab, tunnel):
    router.configure(TUNNEL, f"list resolver '{INSIDE}'")
    router.boot()
    browser = page("status")
    browser.wait_for_text("#leakguard-state", "GUARDED")
    assert rows(browser, "tunnels")["tun0"] == ["tun0", "veth", "up"]
    assert rows(browser, "resolvers")[INSIDE] == [
        "any, until a route leads it through a tunnel", "yes", "tun0, a tunnel"]
    links = rows(browser, "links")
    assert (links["wan0"][1], links["tun0"][1]) == ("judged", "let go: a tunnel")
    assert clients.dig(lab.host, INSIDE).answer == "inside"
    netns.wait_until(lambda: packets(browser, "S4") > 0, "S4 is counted", 15)
    assert rows(browser, "policy")["Action"] == ["drop"]
    tunnel.kill()
    browser.wait_for_text("#leakguard-state", "LOCKED")
    assert rows(browser, "tunnels")["tun0"][2] == "down"


def test_pause_and_resume_by_button(page, router, lab, guard):
    router.configure(TUNNEL)
    router.boot()
    browser = page("status")
    assert not browser.is_shown("#leakguard-resume")
    browser.choose("#leakguard-duration", "1m")
    browser.click("#leakguard-pause")
    browser.wait_for_text("#leakguard-paused", "0m", "every name query")
    assert 0 < guard.status()["pause_left_ms"] <= 60_000
    with lab.watch(lab.host) as seen:
        asked = clients.dig(lab.host, PUBLIC)
    assert seen.name_traffic(asked.label)
    netns.wait_until(lambda: packets(browser, "S6") > 0, "S6 is counted", 15)

    browser.click("#leakguard-resume")
    netns.wait_until(lambda: not browser.count("#leakguard-paused"), "no pause")
    assert guard.status()["pause_left_ms"] == 0
    with lab.watch() as seen:
        clients.dig(lab.host, PUBLIC)
    assert not seen.name_traffic()


def test_a_pause_that_is_refused(page, router, guard):
    router.configure(TUNNEL, "option pause_max '2m'")
    router.boot()
    browser = page("status")
    browser.choose("#leakguard-duration", "1h")
    browser.click("#leakguard-pause")
    told = browser.wait_for_text(".alert-message.danger", "pause-max")
    assert "2" in told
    assert guard.status()["pause_left_ms"] == 0


def test_somebody_changed_the_rules(page, router, lab, guard):
    router.boot()
    router.run("leakguard", "enable", "--no-watch", "--tunnel", "tun0")
    lab.host.run(["nft", "insert", "rule", "inet", "leakguard", "postrouting",
                  "accept"])
    assert guard.state == "ALTERED"
    browser = page("status")
    assert browser.text("#leakguard-state") == "ALTERED"
    assert "Do not rely" in browser.text("#leakguard-place-state")


def test_who_changed_them(page, router, lab, guard):
    router.configure(TUNNEL, "option ownership 'off'")
    router.boot()
    lab.host.run(["nft", "flush", "table", "inet", "leakguard"])
    netns.wait_until(lambda: guard.watcher["undone"], "it is undone")
    policy = rows(page("status"), "policy")
    assert int(policy["Changes of others undone"][0]) > 0
    assert policy["The last of them"][0].startswith("nft (")
    assert "anybody" not in policy["Rules owned by"][0]


def test_stale_and_a_newer_version(page, server, router, guard):
    """What the program says seldom: its own words, with these changed."""
    router.configure(TUNNEL)
    router.boot()
    status = guard.status()
    server.answers["status"] = {**status, "state": "STALE", "version": 2,
                                "counters": {"S7": {"packets": 3, "bytes": 3000},
                                             "S99": {"packets": 1, "bytes": 1}}}
    browser = page("status")
    assert browser.text("#leakguard-state") == "STALE"
    assert "version 2" in browser.text("#leakguard-warnings")
    assert rows(browser, "counters")["S7"] == ["queries blocked", "3", "2.93 KB"]
    assert rows(browser, "counters")["S99"] == ["", "1", "1.00 B"]
    assert "3 packets" in browser.text("#leakguard-blocked")


def test_it_cannot_be_asked(page, router):
    """Nothing that was seen before stays on the page."""
    router.configure(TUNNEL)
    router.boot()
    browser = page("status")
    assert browser.text("#leakguard-state") == "LOCKED"
    program = router.root / "usr/sbin/leakguard"
    program.rename(f"{program}.away")
    try:
        browser.wait_for_text("#leakguard-place-failed", "cannot be asked")
        assert not browser.count("#leakguard-state")
        assert not browser.is_shown("#leakguard-pause")
        assert not browser.is_shown("#leakguard-place-counters")
    finally:
        program.with_name("leakguard.away").rename(program)
    browser.wait_for_text("#leakguard-state", "LOCKED")
    assert browser.text("#leakguard-place-failed") == ""


def test_messages(page, router, server):
    """The newest first. What rpcd's script makes of the log: tests/openwrt."""
    router.configure(TUNNEL)
    router.boot()
    server.answers["log"] = {"lines": ["first line", "second line"]}
    assert page("status").text("#leakguard-log") == "second line\nfirst line"
    assert ("leakguard", "log", {"lines": 20}) in server.calls


def test_a_configuration_that_is_not_taken(page, router):
    router.configure(TUNNEL)
    router.boot()
    router.configure(TUNNEL, "list resolver '10.0.0'")
    browser = page("status")
    browser.wait_for_text("#leakguard-warnings", 'resolver "10.0.0"')
    assert browser.text("#leakguard-state") == "LOCKED"


def test_who_may_only_read(page, router, server, guard):
    router.configure(TUNNEL)
    router.boot()
    browser = page("status", user="viewer")
    assert browser.text("#leakguard-state") == "LOCKED"
    assert browser.run("return ['pause', 'resume', 'duration'].map(n => document."
                       "querySelector(`#leakguard-${n}`).disabled);") == [True] * 3
    # Nor by other ways: rpcd's answer, by the ACL file.
    assert server.ubus("viewer", "leakguard", "pause", {"duration": "1m"})[0] == 6
    assert server.ubus("root", "leakguard", "disable", {})[0] == 6
    assert guard.status()["pause_left_ms"] == 0


# --- what others chose is text ----------------------------------------------

MARKUP = '<img src=x onerror="window.owned=1"><b>bold</b>&amp;'


def assert_text_alone(browser):
    assert browser.run("return window.owned ?? null;") is None
    assert browser.count("#maincontent img, #maincontent b, body > img") == 0


def test_names_of_links(page, router, lab):
    """As the kernel takes them: no space, no slash, 15 bytes."""
    lab.host.ip("link add <b>wan type veth peer name <u>peer")
    try:
        router.configure("list tunnel '<b>wan'", "list inside '<u>*'")
        router.boot()
        browser = page("status")
        assert browser.text("#leakguard-state") == "LOCKED"
        assert rows(browser, "tunnels")["<b>wan"][:2] == ["<b>wan", "veth"]
        assert {"<b>wan", "<u>peer"} <= rows(browser, "links").keys()
        assert rows(browser, "policy")["Inside"] == ["<u>*"]
        assert_text_alone(browser)
    finally:
        lab.host.ip("link del <b>wan")


def hostile(value, keep=()):
    """The same with markup for each string in it."""
    if isinstance(value, dict):
        return {k: v if k in keep else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return MARKUP if isinstance(value, str) else value


def test_all_of_the_answers(page, router, server, lab, guard, tunnel):
    """Whatever field, message or error it is."""
    router.configure(TUNNEL, f"list resolver '{INSIDE}'",
                     "list endpoint '203.0.113.7:53/udp'", "list inside 'br0'",
                     "option ownership 'off'")
    router.boot()
    lab.host.run(["nft", "flush", "table", "inet", "leakguard"])
    netns.wait_until(lambda: guard.watcher["undone"], "somebody is named")
    status = guard.status()
    assert status["watcher"]["last_undone"] and status["warnings"]
    status["watcher"]["routes_tried"] = [{"resolver": "", "link": "", "ago_ms": 1}]
    status["links"][0].update(frames="uncovered", why="")
    status["counters"][MARKUP] = {"packets": 1, "bytes": 1}
    status["blocked"] = [{"link": "", "port": 53, "packets": 1, "bytes": 1}]
    plain = copy.deepcopy(status)
    for keep in ((), ("state",)):
        server.answers = {"status": hostile(plain, keep),
                          "log": {"lines": [MARKUP, MARKUP]},
                          "check": {"ok": False, "error": MARKUP},
                          "pause": {"ok": False, "error": MARKUP}}
        browser = page("status")
        assert MARKUP in browser.text("#leakguard-warnings")
        browser.click("#leakguard-pause")
        browser.wait_for_text("#messages", MARKUP)
        for place in ("tunnels", "resolvers", "links", "policy", "counters", "blocked",
                      "log"):
            assert MARKUP in browser.text(f"#leakguard-place-{place}"), place
        assert_text_alone(browser)
        assert browser.text("#leakguard-state") == (
            plain["state"] if keep else MARKUP)


def test_picture(page, router, lab, tunnel, pictures):
    """For somebody to look at."""
    router.configure(TUNNEL, "list resolver '10.64.0.1'",
                     "list resolver '[2001:db8:113::53]@853 via any'",
                     "option action 'reject'", "list lan_redirect 'local'",
                     network="config network\n\toption name 'lan'\n"
                             "\toption redirect '1'\n")
    router.boot()
    for _ in range(3):
        clients.dig(lab.host, INSIDE)
        clients.dig(lab.host, labnet.GATEWAY.v4)
    browser = page("status")
    assert browser.text("#leakguard-state") == "GUARDED"
    browser.screenshot(f"{pictures}/status.png")
    browser.screenshot(f"{pictures}/status-phone.png", width=400)
    browser.click("#leakguard-pause")
    browser.wait_for_text("#leakguard-paused", "Paused")
    browser.screenshot(f"{pictures}/paused.png")
