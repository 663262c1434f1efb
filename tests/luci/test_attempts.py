"""The list of last attempts on the status page, from the setting to the table.
What keeps it, and its bounds: tests/openwrt/test_attempts.py."""

import json

import clients
import labnet
import netns
import pytest
from monitor import listener
from test_settings import Form, main

PUBLIC = labnet.RESOLVERS["public"]
TUNNEL = "list tunnel 'tun0'"
KEEP = "option attempts '1'"
# Columns.
TIME, WHO, NAME, TYPE, ASKED, LINK, COUNT = range(7)


def table(browser):
    """Its rows, without the titles."""
    return browser.run("""
        return [...document.querySelectorAll('#leakguard-place-attempts tr')]
            .slice(1).map(tr => [...tr.cells].map(td => td.innerText));""")


def wait_for(browser, label):
    return netns.wait_until(
        lambda: next((row for row in table(browser) if label in row[NAME]), None),
        f"the page shows {label}", 20, interval=0.1)


def wait_until_kept(router):
    netns.wait_until(lambda: listener(router.host, 53) and json.loads(router.rpcd(
        "call", "attempts", stdin="{}\n").stdout)["state"] == "kept",
                     "it is kept", 20)


def attempt(name, **changed):
    """As leakguard(8) has it; test_kept holds it against the program's."""
    return {"event": "blocked", "time": "2026-01-02T03:04:05.678Z", "rule": "S7",
            "program": "dig", "pid": 7, "uid": 0, "user": "root", "client": None,
            "link": "wan0", "in_link": None, "source": "192.0.2.2",
            "source_port": 4711, "resolver": PUBLIC.v4, "port": 53,
            "protocol": "udp", "name": name, "type": "A", "encrypted": False,
            "fragment": False, **changed}


def shown(page, server, attempts, state="kept", not_shown=0):
    server.answers["attempts"] = {"state": state, "not_shown": not_shown,
                                  "attempts": attempts}
    browser = page("status")
    return browser, table(browser)


def test_kept(page, router, server, lab, guard):
    """From the box that is ticked to what a client asked for."""
    router.configure(TUNNEL)
    router.boot()
    browser = page("status")
    browser.wait_for_text("#leakguard-place-attempts", "No list is kept")
    form = Form(page)
    form.check("attempts")
    form.apply()
    assert main(router)["attempts"] == "1"
    wait_until_kept(router)
    browser = page("status")
    browser.wait_for_text("#leakguard-place-attempts", "Nothing was blocked")
    own = clients.dig(lab.host, PUBLIC.v4)
    assert own.answer is None
    row = wait_for(browser, own.label)
    assert row[WHO] == "this router: dig (user 0)"  # it has no passwd
    assert row[NAME:COUNT] == [f"{own.label}.lab.example", "A",
                               f"{PUBLIC.v4}@53/udp", "wan0"]
    phone = clients.dig(lab.lan, PUBLIC.v6, "-t", "AAAA")
    row = wait_for(browser, phone.label)
    assert row[WHO] == labnet.LAN_CLIENT.v6
    assert row[NAME:COUNT] == [f"{phone.label}.lab.example", "AAAA",
                               f"[{PUBLIC.v6}]@53/udp", "wan0"]
    assert phone.label in table(browser)[0][NAME], "the newest first"
    one = server.leakguard("attempts", {})[1]["attempts"][0]
    assert one.keys() == attempt("x").keys()

    form = Form(page)
    form.check("attempts")
    form.apply()
    assert "attempts" not in main(router)
    browser = page("status")
    browser.wait_for_text("#leakguard-place-attempts", "No list is kept")
    assert own.label not in browser.text("#maincontent")


def test_rows(page, router, server):
    """Who, what and whom, where some of it is not known; the same again is
    counted; the newest first, by the browser's own clock."""
    router.configure(TUNNEL)
    router.boot()
    phone = {"address": "192.168.7.9", "mac": "02:00:00:00:00:09", "name": "phone"}
    _, rows = shown(page, server, [
        attempt("old.example", time="2026-01-01T00:00:00.000Z"),
        attempt("a.example", pid=1, source_port=1),
        attempt("b.example", client=phone, program=None, uid=None, user=None),
        attempt("a.example", client={**phone, "name": None}),
        attempt(None, client={**phone, "name": None, "address": None},
                rule="S11", type=None),
        attempt(None, encrypted=True, port=853, protocol="tcp", type=None),
        attempt(None, fragment=True, rule="S9", port=None, type=None),
        attempt("c.example", program=None, user=None, uid=1000),
        attempt("c.example", program=None, user=None, uid=None, resolver=None,
                protocol=None),
        attempt("a.example", time="2026-01-02T03:04:09.000Z"),
    ])
    assert [row[WHO] for row in rows] == [
        "this router: dig (root)", "this router: unknown",
        "this router: unknown (user 1000)", "this router: dig (root)",
        "this router: dig (root)", "02:00:00:00:00:09", "192.168.7.9",
        "phone (192.168.7.9)", "this router: dig (root)"]
    assert [row[NAME] for row in rows] == [
        "a.example", "c.example", "c.example", "fragment", "encrypted",
        "unknown", "a.example", "b.example", "old.example"]
    assert [row[COUNT] for row in rows] == ["2"] + ["1"] * 8
    assert rows[3][TYPE:LINK] == ["", f"{PUBLIC.v4}/udp"]
    assert rows[4][TYPE:LINK] == ["", f"{PUBLIC.v4}@853/tcp"]
    assert rows[1][ASKED] == ""
    times = page("status").run("""
        return ['2026-01-02T03:04:09Z', '2026-01-01T00:00:00Z']
            .map(t => new Date(t).toLocaleString());""")
    assert [rows[0][TIME], rows[-1][TIME]] == times


@pytest.mark.parametrize("state, told", [
    ("off", "Keep a list of last attempts"), ("unable", "leakguard-mini"),
    ("ended", "last messages"), ("kept", "Nothing was blocked"),
    ("something new", "did not tell")])
def test_empty(page, router, server, state, told):
    """One line of what to do."""
    router.configure(TUNNEL)
    router.boot()
    browser, rows = shown(page, server, [], state)
    assert not rows and told in browser.text("#leakguard-place-attempts")
    assert not browser.count("#leakguard-not-shown")


def test_what_was_kept_before_it_ended(page, router, server):
    router.configure(TUNNEL)
    router.boot()
    browser, rows = shown(page, server, [attempt("a.example")], "ended")
    assert len(rows) == 1
    assert "last messages" in browser.text("#leakguard-place-attempts")


def test_guard_is_down(page, router):
    router.configure(TUNNEL, KEEP, enabled="0")
    router.boot()
    page("status").wait_for_text("#leakguard-place-attempts", "guard is down")


def test_no_such_method(page, router, server):
    """A service that is older than the page: the rest of it is as it was."""
    router.configure(TUNNEL)
    router.boot()
    server.answers["attempts"] = None
    browser = page("status")
    assert browser.text("#leakguard-state") == "LOCKED"
    assert "did not tell" in browser.text("#leakguard-place-attempts")


def test_many(page, router, server, pictures):
    router.configure(TUNNEL)
    router.boot()
    browser, rows = shown(page, server, [
        attempt(f"n{n}.{'x' * 60}.example") for n in range(100)], not_shown=12345)
    assert len(rows) == 100 and rows[0][NAME].startswith("n99.")
    assert "12345 more" in browser.text("#leakguard-not-shown")
    assert browser.run("return document.querySelector('#leakguard-place-attempts')"
                       ".offsetHeight < 700;")
    browser.screenshot(f"{pictures}/attempts-many.png")
    # Whoever reads further down stays there.
    place = "document.querySelector('#leakguard-place-attempts')"
    browser.run(f"{place}.scrollTop = 300; {place}.firstChild.id = 'old';")
    netns.wait_until(lambda: not browser.count("#old"), "it is asked again", 20)
    assert browser.run(f"return {place}.scrollTop;") == 300


MARKUP = '<script>window.owned=1</script><img src=x onerror="window.owned=1">'


def test_hostile_names(page, router, server, lab):
    """As such, by a real query for one and in each field."""
    router.configure(TUNNEL, KEEP)
    router.boot()
    wait_until_kept(router)
    name = "<script>owned=1</script>.<img src=x>.%s&amp;.example"
    lab.host.run(["/usr/bin/python3", "-c", f"""
import socket
name = b"".join(bytes([len(part)]) + part.encode() for part in {name!r}.split("."))
query = bytes.fromhex("123401000001000000000000") + name + b"\\0\\0\\1\\0\\1"
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(query, ({PUBLIC.v4!r}, 53))
except PermissionError:
    pass
"""])
    browser = page("status")
    row = wait_for(browser, "<script>owned=1</script>")
    assert "<img" in row[NAME] and "%s&amp" in row[NAME]
    assert browser.run("return window.owned ?? null;") is None
    assert not browser.count("#maincontent img, #maincontent script")

    everywhere = {key: MARKUP if isinstance(value, str) or value is None else value
                  for key, value in attempt("x", user=None).items()}
    browser, rows = shown(page, server, [
        everywhere, {**everywhere, "client": {"address": MARKUP, "mac": MARKUP,
                                              "name": MARKUP}},
        attempt("x", client={"address": None, "mac": MARKUP, "name": None})],
        state=MARKUP)
    assert len(rows) == 3
    assert all(MARKUP in cell for cell in rows[1][:COUNT])
    assert browser.run("return window.owned ?? null;") is None
    assert not browser.count("#maincontent img, #maincontent script")


def test_what_is_no_list(page, router, server):
    """Whatever is answered, the page goes on."""
    router.configure(TUNNEL)
    router.boot()
    for attempts in ("text", 7, None, {"a": 1}):
        browser, rows = shown(page, server, attempts, not_shown="many")
        assert not rows
        assert browser.text("#leakguard-state") == "LOCKED"


def test_picture(page, router, lab, pictures):
    """For somebody to look at."""
    router.configure(TUNNEL, KEEP, "option log_rate '10000'")
    router.boot()
    wait_until_kept(router)
    for client in (lab.host, lab.lan):
        for address in PUBLIC:
            for _ in range(2):
                clients.dig(client, address)
    clients.run_program(lab.lan, "kdig +tls", PUBLIC.v4)
    last = clients.dig(lab.lan, PUBLIC.v4, "-t", "HTTPS")
    browser = page("status")
    wait_for(browser, last.label)
    browser.run("document.querySelector('#leakguard-place-attempts')"
                ".parentNode.previousSibling.scrollIntoView();")
    browser.screenshot(f"{pictures}/attempts.png")
    browser.screenshot(f"{pictures}/attempts-phone.png", width=400)
