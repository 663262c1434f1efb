"""A stand-in for UCI: configuration files, and changes that are staged.

The syntax and the answers are those of OpenWrt's documentation of UCI and of
the ubus object `uci`. Sections by name, or unnamed ones by number; no locks, no
rollback, no delta files on a disk.
"""

import shlex


class UciError(Exception):
    """By the number that ubus has for it."""

    INVALID, NOT_FOUND, NO_DATA = 2, 4, 5  # ubusmsg.h

    def __init__(self, code):
        super().__init__(f"ubus code {code}")
        self.code = code


def parse(text):
    """[(name or None, type, {option: value or list})], in order."""
    sections = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "config":
            sections.append((words[2] if len(words) > 2 else None, words[1], {}))
        elif words[0] == "option":
            sections[-1][2][words[1]] = words[2]
        elif words[0] == "list":
            sections[-1][2].setdefault(words[1], []).append(words[2])
        elif words[0] != "package":
            raise ValueError(f"not UCI: {line}")
    return sections


def quote(value):
    return "'" + value.replace("'", "'\\''") + "'"


def format_sections(sections):
    lines = []
    for name, kind, options in sections:
        lines.append(f"\nconfig {kind}" + (f" {quote(name)}" if name else ""))
        for option, value in options.items():
            if isinstance(value, list):
                lines += [f"\tlist {option} {quote(v)}" for v in value]
            else:
                lines.append(f"\toption {option} {quote(value)}")
    return "\n".join(lines) + "\n"


class UciFile:
    """The ubus methods, for paths {config: file}. applied() is called once files
    were written, as procd tells services."""

    def __init__(self, paths, applied):
        self.paths, self.applied, self.staged = paths, applied, {}

    def _now(self, config):
        if config in self.staged:
            return self.staged[config]
        with open(self.paths[config], encoding="utf-8") as file:
            return parse(file.read())

    def _stage(self, config):
        return self.staged.setdefault(config, self._now(config))

    @staticmethod
    def _id(index, section):
        return section[0] or f"cfg{index:02x}{sum(map(ord, section[1])):04x}"

    def _find(self, sections, wanted):
        for index, section in enumerate(sections):
            if self._id(index, section) == wanted:
                return index, section
        raise UciError(UciError.NOT_FOUND)

    def call(self, method, args):
        config = args.get("config")
        if config is not None and config not in self.paths:
            raise UciError(UciError.NOT_FOUND)
        return getattr(self, f"_{method}")(config, args)

    def _get(self, config, _):
        values = {}
        for index, section in enumerate(self._now(config)):
            name = self._id(index, section)
            values[name] = {".anonymous": section[0] is None, ".type": section[1],
                            ".name": name, ".index": index, **section[2]}
        return {"values": values}

    def _set(self, config, args):
        _, section = self._find(self._stage(config), args["section"])
        for option, value in args["values"].items():
            if not isinstance(value, (str, list)):
                raise UciError(UciError.INVALID)
            section[2][option] = value
        return {}

    def _add(self, config, args):
        sections = self._stage(config)
        sections.append((args.get("name"), args["type"], {}))
        name = self._id(len(sections) - 1, sections[-1])
        self._set(config, {"section": name, "values": args.get("values", {})})
        return {"section": name}

    def _delete(self, config, args):
        sections = self._stage(config)
        index, section = self._find(sections, args["section"])
        if "options" not in args:
            del sections[index]
        for option in args.get("options", ()):
            section[2].pop(option, None)
        return {}

    def _apply(self, *_):
        if not self.staged:
            raise UciError(UciError.NO_DATA)
        for config, sections in self.staged.items():
            with open(self.paths[config], "w", encoding="utf-8") as file:
                file.write(format_sections(sections))
        self.staged = {}
        self.applied()
        return {}

    def _confirm(self, *_):
        return {}
