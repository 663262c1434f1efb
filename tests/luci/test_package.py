"""The package's files, held against each other; no browser."""

import json
import re

import template
from luci_server import ACL, APP, MENU, OPENWRT, Acl, load

VIEWS = sorted((APP / "htdocs/luci-static/resources/view/leakguard").glob("*.js"))
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in VIEWS}
CALL = re.compile(r"object: 'leakguard', method: '(\w+)'")
# What of it changes something.
WRITES = {"pause", "resume"}


def test_menu():
    """Each page is there, and shown to those whom the ACL file lets in."""
    menu = load(MENU)
    pages = {node["action"]["path"] for node in menu.values()
             if node["action"]["type"] == "view"}
    assert pages == {f"leakguard/{name}" for name in SOURCES}
    top = menu["admin/services/leakguard"]
    assert top["depends"]["acl"] == list(load(ACL))
    assert "leakguard" in top["depends"]["uci"]


def test_rights_are_those_that_are_used():
    acl, (group,) = Acl(), load(ACL).values()
    called = {method for text in SOURCES.values() for method in CALL.findall(text)}
    given = {access: set(group[access]["ubus"]["leakguard"])
             for access in ("read", "write")}
    assert given == {"read": called - WRITES, "write": called & WRITES}
    assert group["read"]["uci"] == ["leakguard", "network"]
    assert group["write"]["uci"] == ["leakguard"]
    assert not acl.allows("viewer", "ubus", "leakguard", "pause")
    assert acl.allows("root", "ubus", "leakguard", "pause")


def test_methods_are_those_of_rpcd():
    script = (OPENWRT / "leakguard/files/leakguard.rpcd").read_text("utf-8")
    listed = json.loads(re.search(r"^\s*printf '%s\\n' '(\{.*\})'$", script,
                                  re.M)[1])
    for text in SOURCES.values():
        assert set(CALL.findall(text)) <= set(listed)


def test_nothing_is_taken_as_markup():
    for name, text in SOURCES.items():
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "rawhtml",
                     "document.write", "eval(", "new Function"):
            assert word not in text, f"{name}: {word}"
        # E('p', {}, text) would be: children stand in an array.
        calls = re.findall(r"\bE\((?:'\w+'|\w+), \{[^{}]*\}(?:,\s*(.)|\))", text)
        assert len(calls) >= 5 and set(calls) <= {"[", ""}, name


def test_all_options_of_the_configuration():
    """What init validates is what the page sets, but for what is no setting."""
    shell = (OPENWRT / "leakguard/files/uci.sh").read_text("utf-8")
    main = re.search(r"^lg_validate_main\(\) \{.*?^\}", shell, re.M | re.S)[0]
    known = set(re.findall(r"^\t\t'(\w+):", main, re.M))
    text = SOURCES["settings"]
    shown = set(re.findall(r"form\.\w+, '(\w+)',", text))
    shown |= set(re.findall(r"\b(?:text|choice|list)\('(\w+)',", text))
    assert shown - {"main", "network", "name", "redirect"} == known


def test_makefile():
    """The idiom of LuCI's feed, which makes the package of these directories."""
    makefile = (APP / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^LUCI_DEPENDS:=.*\+luci-base.*\+leakguard$", makefile, re.M)
    assert re.search(r"^include \$\(TOPDIR\)/feeds/luci/luci\.mk$", makefile, re.M)
    assert "call BuildPackage" in makefile


def test_template():
    """tests/luci/template.py says how it is made."""
    there = (APP / "po/templates/leakguard.pot").read_text(encoding="utf-8")
    assert there == template.template()
