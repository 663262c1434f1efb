"""The page that shows what is in force, against the real program."""

import clients
import labnet
import netns

PUBLIC = labnet.RESOLVERS["public"].v4
INSIDE = labnet.RESOLVERS["inside"].v4


def cell(browser, place, row, column):
    """The text of a table's cell; a row by its first cell."""
    return browser.run("""
        for (const tr of document.querySelectorAll(arguments[0] + ' tr'))
            if (tr.cells[0].innerText === arguments[1])
                return tr.cells[arguments[2]].innerText;
        return null;""", f"#leakguard-place-{place}", row, column)


def wait_for_cell(browser, place, row, column, condition, timeout=15):
    return netns.wait_until(
        lambda: condition(cell(browser, place, row, column) or ""),
        f"{place}, {row}", timeout, interval=0.1)


def test_off(page, guard):
    assert guard.state == "OFF"
    browser = page("status")
    assert browser.text("#leakguard-state") == "OFF"
    assert "anywhere" in browser.text("#leakguard-place-state")
    assert browser.run("return getComputedStyle(document.querySelector("
                       "'.leakguard-pause')).display;") == "none"


def test_picture(page, guard, tunnel, pictures):
    guard.enable("--resolver", "203.0.113.53 via any", tunnel="tun0", watch=True)
    browser = page("status")
    print(browser.text("#view"))
    browser.screenshot(f"{pictures}/status.png")
    browser = page("settings")
    browser.screenshot(f"{pictures}/settings.png")
    print(page.__name__)
