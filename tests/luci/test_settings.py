"""The page that sets leakguard up: what it writes, and what becomes of it."""

import netns
import uci_file

GENERAL, CLIENTS, ADVANCED = "general", "clients", "advanced"
APPLY = ".cbi-page-actions .cbi-button-apply"


def selector(option, rest, section="main"):
    return f'[id="widget.cbid.leakguard.{section}.{option}"]{rest}'


class Form:
    """The page as somebody fills it in."""

    def __init__(self, page, user="root"):
        self.browser = page("settings", user)

    def tab(self, name):
        self.browser.click(f'.cbi-tabmenu [data-tab="{name}"]')

    def check(self, option, section="main"):
        self.browser.click(selector(option, "", section))

    def choose(self, option, value):
        self.browser.choose(selector(option, ""), value)

    def type(self, option, value, section="main"):
        self.browser.type(selector(option, "", section), value)

    def add(self, option, value):
        """One more entry of a list."""
        self.type(option, value)
        self.browser.click(selector(option, " ~ .cbi-button-add"))

    def items(self, option):
        return self.browser.texts(f'[data-name="{option}"] .item span')

    def remove(self, option):
        """A list's first entry."""
        self.browser.click(f'[data-name="{option}"] .item')

    def apply(self):
        self.browser.run("document.body.removeAttribute('data-applied');")
        self.browser.click(APPLY)
        netns.wait_until(lambda: self.browser.count("body[data-applied]"),
                         "it is applied", 20)


def sections(router):
    """[(name, type, options)] of the file."""
    return uci_file.parse(router.config.read_text())


def main(router):
    return next(options for name, _, options in sections(router) if name == "main")


def networks(router):
    return [options for _, kind, options in sections(router) if kind == "network"]


def test_fill_in_save_and_be_guarded(page, router, guard, tunnel, pictures):
    """From what is shipped to a guarded router, in the browser alone."""
    router.boot()
    assert guard.state == "OFF"
    shipped = main(router)
    form = Form(page)
    form.check("enabled")
    form.add("tunnel", "tun0")
    form.add("tunnel", "wg*")
    form.add("resolver", "10.64.0.1 via tunnel")
    form.add("resolver", "[2001:db8:113::53]@853 via any")
    form.type("endpoint", "203.0.113.7:53/udp")  # typed, not added: it counts
    form.choose("mode", "either")
    form.choose("action", "drop")
    form.browser.screenshot(f"{pictures}/settings.png")
    form.tab(CLIENTS)
    form.add("lan_redirect", "local")
    form.add("lan_exempt", "192.168.7.10")
    form.add("lan_exempt", "02:00:00:00:00:01")
    form.browser.screenshot(f"{pictures}/settings-clients.png")
    form.tab(ADVANCED)
    form.type("ports", "53,853,784")
    form.choose("frames", "require")
    form.add("inside", "docker0")
    form.add("tunnel_kind", "any")
    form.type("pause_max", "10m")
    form.browser.screenshot(f"{pictures}/settings-advanced.png")
    form.apply()

    assert main(router) == {
        **shipped, "enabled": "1", "tunnel": ["tun0", "wg*"],
        "resolver": ["10.64.0.1 via tunnel", "[2001:db8:113::53]@853 via any"],
        "endpoint": ["203.0.113.7:53/udp"], "mode": "either", "action": "drop",
        "lan_redirect": ["local"],
        "lan_exempt": ["192.168.7.10", "02:00:00:00:00:01"],
        "ports": "53,853,784", "frames": "require", "inside": ["docker0"],
        "tunnel_kind": ["any"], "pause_max": "10m"}
    assert networks(router) == [{"name": "lan", "redirect": "1"}]
    status = guard.status()
    assert status["state"] == "GUARDED"
    assert sorted(status["policy"]["ports"]) == [53, 784, 853]
    assert status["policy"]["endpoints"] == ["203.0.113.7:53/udp"]
    assert status["policy"]["lan"]["links"] == ["lan0"]
    assert status["policy"]["lan"]["redirect"] == ["local"]


def test_change_and_switch_off(page, router, guard):
    router.configure("list tunnel 'tun0'", "list tunnel 'wg0'", "option mode 'either'",
                     "option pause_max '2m'", "option hand_made 'kept'",
                     network="config network\n\toption name 'lan'\n\n"
                             "config other 'theirs'\n\tlist x 'it'\"'\"'s'\n")
    router.boot()
    form = Form(page)
    assert form.items("tunnel") == ["tun0", "wg0"]
    form.remove("tunnel")
    form.choose("mode", "")
    form.tab(ADVANCED)
    form.type("pause_max", "")
    form.tab(GENERAL)
    form.check("enabled")
    # "hand_made" is no key: the program would not take the file, and says so.
    form.apply()
    assert main(router) == {"enabled": "0", "tunnel": ["wg0"], "hand_made": "kept"}
    assert sections(router)[-1] == ("theirs", "other", {"x": ["it's"]})
    assert guard.state == "OFF"


def test_networks(page, router, guard):
    router.boot()
    form = Form(page)
    form.check("enabled")
    form.browser.click(".cbi-section-create .cbi-button-add")
    form.type("name", "vpn", "new1")
    form.check("tunnel", "new1")
    form.apply()
    assert networks(router) == [{"name": "lan", "redirect": "1"},
                                {"name": "vpn", "tunnel": "1"}]
    assert [t["name"] for t in guard.status()["tunnels"]] == ["tun0"]
    form.browser.click(".cbi-section-actions .cbi-button-remove")
    form.apply()
    assert networks(router) == [{"name": "vpn", "tunnel": "1"}]
    assert main(router)["enabled"] == "1"


def test_what_the_program_would_not_take(page, router, guard):
    router.configure("list tunnel 'tun0'")
    router.boot()
    before = router.config.read_text()
    form = Form(page)
    form.add("resolver", "10.0.0")
    form.browser.click(APPLY)
    told = form.browser.wait_for_text("#leakguard-refused", 'resolver "10.0.0"')
    assert "expected an IPv4 or IPv6 address" in told
    form.browser.click("#leakguard-back")
    assert not form.browser.count("#modal_overlay")
    assert form.items("resolver") == ["10.0.0"]
    assert router.config.read_text() == before

    form.browser.click(APPLY)
    form.browser.wait_for_text("#leakguard-refused", "10.0.0")
    form.browser.click("#leakguard-anyway")
    netns.wait_until(lambda: form.browser.count("body[data-applied]"), "applied")
    assert main(router)["resolver"] == ["10.0.0"]
    assert guard.state == "LOCKED"  # what was in force still is
    form = Form(page)
    assert 'resolver "10.0.0"' in form.browser.text(".alert-message.warning")


def test_lists_and_options_that_need_each_other(page, router):
    """No field is wrong by itself; all of them together are."""
    router.boot()
    form = Form(page)
    form.add("resolver", "9.9.9.9 via any")
    form.choose("mode", "both")
    form.browser.click(APPLY)
    form.browser.wait_for_text("#leakguard-refused", "9.9.9.9", "both")
    form.browser.click("#leakguard-back")


def test_what_would_be_read_as_a_comment(page, router):
    router.boot()
    before = router.config.read_text()
    form = Form(page)
    form.type("tunnel", "wg0 # mine")
    form.browser.click(APPLY)
    form.browser.wait_for_text('[data-name="tunnel"]', "comment")
    form.browser.wait_for_text("#leakguard-refused, #modal_overlay", "")
    assert router.config.read_text() == before


def test_it_is_not_saved_before_the_program_was_asked(page, router, server):
    router.configure("option action 'reject'", enabled="0")
    router.boot()
    form = Form(page)
    form.add("tunnel", "tun0")
    server.calls.clear()
    form.apply()
    asked = [(name, method) for name, method, _ in server.calls]
    assert asked.index(("leakguard", "check")) < asked.index(("uci", "set"))
    text = next(args["config"] for name, method, args in server.calls
                if method == "check")
    assert text == "tunnel = tun0\naction = reject\n"


def test_a_file_without_the_section(page, router):
    router.boot()
    router.config.write_text("")
    form = Form(page)
    form.add("tunnel", "tun0")
    form.apply()
    assert sections(router) == [("main", "leakguard", {"enabled": "0",
                                                       "tunnel": ["tun0"]})]


def test_who_may_only_read(page, router, server):
    router.configure("list tunnel 'tun0'")
    router.boot()
    form = Form(page, user="viewer")
    assert form.items("tunnel") == ["tun0"]
    assert not form.browser.count(APPLY)
    assert not form.browser.count("#maincontent input:not([type=hidden]):enabled")
    for method, args in (("set", {"section": "main", "values": {"enabled": "0"}}),
                         ("apply", {})):
        assert server.ubus("viewer", "uci", method,
                           {"config": "leakguard", **args})[0] == 6
    # The rights to leakguard are none to the network's configuration.
    assert server.ubus("root", "uci", "set", {
        "config": "network", "section": "lan", "values": {"x": "1"}})[0] == 6


MARKUP = '<img src=x onerror="window.owned=1"><b>bold</b>'


def test_what_others_wrote_is_text(page, router, server, lab):
    lab.host.ip("link add <b>wan type veth peer name plain0")
    try:
        router.configure(f"list tunnel '{MARKUP}'", f"option ports '{MARKUP}'",
                         network=f"config network\n\toption name '{MARKUP}'\n")
        router.boot()
        server.answers["check"] = {"ok": False, "error": MARKUP}
        form = Form(page)
        assert form.items("tunnel") == [MARKUP]
        assert MARKUP in form.browser.text(".alert-message.warning")
        offered = form.browser.run("return [...document.querySelectorAll("
                                   "'[data-name=tunnel] datalist option')]"
                                   ".map(o => o.value);")
        assert "plain0" in offered and "lo" not in offered
        assert not [name for name in offered if "<" in name]
        row = form.browser.run("return document.querySelector('[data-sid]').dataset.sid;")
        form.type("name", "lan", row)
        form.browser.click(APPLY)
        form.browser.wait_for_text("#leakguard-refused", MARKUP)
        form.browser.click("#leakguard-anyway")
        netns.wait_until(lambda: form.browser.count("body[data-applied]"), "applied")
        assert main(router)["tunnel"] == [MARKUP]
        assert form.browser.run("return window.owned ?? null;") is None
        assert form.browser.count("img, #maincontent b, .modal b") == 0
    finally:
        lab.host.ip("link del <b>wan")
