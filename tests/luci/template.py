#!/usr/bin/python3
"""The template for translations, of the page's own _('...').

    tests/luci/template.py > scripts/packaging/openwrt/luci-app-leakguard/po/templates/leakguard.pot
"""

import pathlib
import re

APP = (pathlib.Path(__file__).resolve().parents[2]
       / "scripts/packaging/openwrt/luci-app-leakguard")
VIEWS = APP / "htdocs/luci-static/resources/view/leakguard"
MENU = APP / "root/usr/share/luci/menu.d/luci-app-leakguard.json"
STRING = re.compile(r"\b_\('((?:[^'\\\n]|\\.)*)'\)")
TITLE = re.compile(r'"title": "([^"]*)"')
HEAD = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n'


def messages():
    """{text: [file]}, in the order of where they come first."""
    found = {}
    sources = [(path, STRING) for path in sorted(VIEWS.glob("*.js"))]
    for path, pattern in [(MENU, TITLE), *sources]:
        text = path.read_text(encoding="utf-8")
        for string in pattern.findall(text):
            places = found.setdefault(re.sub(r"\\(.)", r"\1", string), [])
            if path.relative_to(APP) not in places:
                places.append(path.relative_to(APP))
    return found


def template():
    parts = [HEAD]
    for text, places in messages().items():
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        parts.append("".join(f"#: {place}\n" for place in places)
                     + f'msgid "{quoted}"\nmsgstr ""\n')
    return "\n".join(parts)


if __name__ == "__main__":
    print(template(), end="")
