"""The program under test, run in the guarded host's namespace."""

import json
import os
import pathlib
import re

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Of each a table, all of one name.
FAMILIES = ("inet", "netdev", "bridge")
TABLES = [f"{family} leakguard" for family in FAMILIES]


def find_program():
    return os.environ.get("LEAKGUARD", str(REPOSITORY / "build/leakguard"))


class Guard:
    """leakguard with a run directory and a configuration file of its own.

    Each verb returns a netns.Result (rc, stdout, stderr). enable, disable,
    up and down must succeed unless check=False.
    """

    def __init__(self, lab, program=None, namespace=None):
        self.namespace = namespace or lab.host
        self.program = program or find_program()
        self.run_dir = f"{lab.dir}/run-{self.namespace.name}"
        self.config = f"{lab.dir}/leakguard-{self.namespace.name}.conf"
        self.configure("")

    def configure(self, text):
        """Write the configuration file; the program is not told."""
        with open(self.config, "w", encoding="ascii") as file:
            file.write(text)

    def command(self, verb, *options):
        return [self.program, "--run-dir", self.run_dir, "-c", self.config,
                verb, *options]

    def run(self, verb, *options, check=False, **kwargs):
        return self.namespace.run(self.command(verb, *options), check=check,
                                  **kwargs)

    def enable(self, *options, check=True, watch=False, **kwargs):
        """enable("--tunnel", "tun0"), or with keywords for options:
        enable(tunnel="tun0", resolver=["192.0.2.1", "2001:db8::1"]).
        With watch=True a watcher is left behind; disable() ends it."""
        named, kwargs = _split(kwargs)
        alone = [] if watch else ["--no-watch"]
        return self.run("enable", *alone, *options, *named, check=check,
                        **kwargs)

    def disable(self, check=True):
        return self.run("disable", check=check)

    def up(self, tunnel, *resolvers, check=True, watch=False):
        alone = [] if watch else ["--no-watch"]
        options = [part for resolver in resolvers
                   for part in ("--resolver", resolver)]
        return self.run("up", *alone, "--tunnel", tunnel, *options,
                        check=check)

    def down(self, tunnel, check=True):
        return self.run("down", "--tunnel", tunnel, check=check)

    def reload(self, check=True):
        return self.run("reload", check=check)

    def pause(self, duration, check=True):
        return self.run("pause", duration, check=check)

    def resume(self, check=True):
        return self.run("resume", check=check)

    def watch(self, *options, env=None):
        """A watcher in the foreground (netns.Namespace.popen), not waited for."""
        return self.namespace.popen(self.command("watch", *options), env=env)

    @property
    def watcher(self):
        """What the watcher tells of itself in status --json, or None."""
        return self.status()["watcher"]

    def status(self):
        """The object that status --json prints."""
        return json.loads(self.run("status", "--json").stdout)

    @property
    def state(self):
        return self.status()["state"]

    def listing(self, family="inet"):
        """The kernel's own view of a table of the guard; empty when off."""
        done = self.namespace.run(
            ["nft", "list", "table", family, "leakguard"], check=False)
        return done.stdout if done.rc == 0 else ""

    def listings(self, *options):
        """All tables of ours that are there at one moment: {table: what nft
        lists}; of whatever name that has ours in it."""
        return split_tables(self.namespace.run(
            ["nft", *options, "list", "ruleset"]).stdout)


def split_tables(text):
    """{table: its part of the text} of ours, by family: nft has them in the
    order they came."""
    found = {tuple(table.split()[1:3]): table for table in
             re.split(r"^(?=table )", text, flags=re.M)
             if table.startswith("table ")}
    return {f"{family} {name}": table for family in FAMILIES
            for (of, name), table in found.items()
            if of == family and name.startswith("leakguard")}


def egress_chain(namespace, link):
    """The name of a link's base chain in table netdev."""
    listing = namespace.run(["nft", "list", "table", *TABLES[1].split()])
    return re.search(r"chain (\w+) {\s+type filter hook egress "
                     rf'device "{re.escape(link)}"', listing.stdout)[1]


RUN_KEYWORDS = ("stdin", "timeout", "env")


def _split(kwargs):
    """Keywords for the program as options, those for run() left as they are."""
    named = []
    for key, value in kwargs.items():
        if key not in RUN_KEYWORDS:
            values = value if isinstance(value, (list, tuple)) else [value]
            for one in values:
                named += [f"--{key.replace('_', '-')}", one]
    return named, {k: v for k, v in kwargs.items() if k in RUN_KEYWORDS}
