"""What the tests of VPN hooks share: leakguard as hooks call it, the lines of
scripts/hooks/README.md, and the queries that each step is judged by."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import threading

import labnet
import netns
from guard import REPOSITORY, Guard
from probes import Probe, fire, make_query, new_label
from resolvers import TOOLS
from tunnels import WIREGUARD_PORT, WireguardTunnel

HOOKS = REPOSITORY / "scripts/hooks"
INSTALLED = "/usr/lib/leakguard"
PROGRAM = "/usr/sbin/leakguard"

INSIDE = [Probe("host", "routed", family, 53, proto, "inside")
          for family in (4, 6) for proto in ("udp", "tcp")]
PAST = [Probe("host", "wan", family, port, proto, target)
        for family in (4, 6) for port in (53, 853) for proto in ("udp", "tcp")
        for target in ("public", "inside")]


class HookedGuard(Guard):
    """What hooks find under the program's name: `wrapper`, which adds the run
    directory and the configuration file, and leaves a watcher behind."""

    def __init__(self, lab, program=None):
        super().__init__(lab, program)
        self.lab, self.wrapper = lab, f"{lab.dir}/leakguard"
        with open(self.wrapper, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\nexec {self.program} --run-dir '
                       f'{self.run_dir} -c {self.config} "$@"\n')
        os.chmod(self.wrapper, 0o755)
        # Where a client without privileges can run them; the tree may be root's.
        self.hooks = pathlib.Path("/run/lab/hooks")
        shutil.copytree(HOOKS, self.hooks, dirs_exist_ok=True)

    @property
    def env(self):
        return dict(os.environ, LEAKGUARD=self.wrapper)

    def readme(self, section, number=0, hooks=None):
        """One of a section's indented pieces, for this machine."""
        text = (HOOKS / "README.md").read_text(encoding="utf-8")
        part = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text,
                         re.M | re.S)[1]
        piece = re.findall(r"(?:^    .*\n|(?<=\n)\n(?=    ))+", part,
                           re.M)[number]
        return re.sub("^    ", "", piece.strip("\n"), flags=re.M).replace(
            INSTALLED, str(hooks or self.hooks)).replace(PROGRAM, self.wrapper)

    def says(self):
        """(state, {tunnels that are there}, {resolvers with their link})"""
        status = self.status()
        return (status["state"],
                {link["name"] for tunnel in status["tunnels"]
                 for link in tunnel["links"]},
                {f"{resolver['address']} via {resolver['link']}"
                 for resolver in status["resolvers"] if resolver["link"]})


def ask(lab, answered=False):
    """Queries to the VPN's resolver and past it. (what got out to the
    provider, who answered those to the VPN's)"""
    volley = fire(lab, INSIDE + PAST,
                  answer_due=lambda probe: answered and probe in INSIDE)
    out = [str(o) for o in volley if o.seen] + [str(p) for p in volley.strays]
    return out, {o.answer for o in volley if o.probe in INSIDE}


def assert_open(lab):
    """The control: with no guard each query of PAST is seen."""
    out, _ = ask(lab)
    assert len([o for o in out if " wan " in o]) == len(PAST), out


def assert_shut(lab):
    """Nothing gets out, and nobody answers."""
    out, answers = ask(lab)
    assert not out
    assert answers <= {None, "refused"}


def assert_served(lab):
    """The VPN's resolver answers, and nothing gets out."""
    out, answers = ask(lab, answered=True)
    assert not out
    assert answers == {"inside"}


class Asker(threading.Thread):
    """Asks the VPN's resolver without a pause, whatever becomes of it."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.asked, self._ending = lab, 0, threading.Event()

    def run(self):
        with self.lab.host.inside(), \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as v4, \
                socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as v6:
            inside = labnet.RESOLVERS["inside"]
            while not self._ending.wait(0.001):
                for sock, address in zip((v4, v6), inside, strict=True):
                    self.asked += 1
                    with contextlib.suppress(OSError):  # the guard's refusal
                        sock.sendto(make_query(new_label()), (address, 53))

    def stop(self):
        self._ending.set()
        self.join(5)


@contextlib.contextmanager
def asked_all_the_while(lab):
    """Queries to the VPN's resolver all through the block. What is yielded
    then has, as `out`, those that the provider saw."""
    asker = Asker(lab)
    with lab.watch(lab.host) as seen:
        asker.start()
        yield seen
        netns.wait_until(lambda: asker.asked > 100, "queries are sent")
        asker.stop()
    seen.out = seen.name_traffic()


class WireguardClient(WireguardTunnel):
    """The lab's server, and a client that somebody else brings up as wg0."""

    def __init__(self, lab, guard, port=WIREGUARD_PORT):
        super().__init__(lab, port=port)
        self.guard = guard

    def start_server(self):
        self.server = self._spawn_go(self.lab.vpn, "server", self.far_link)
        self._configure(self.lab.vpn, self.far_link, "server", "client",
                        listen=WIREGUARD_PORT)
        labnet.add_addresses(self.lab.vpn, self.far_link,
                             f"{labnet.TUNNEL_FAR.v4}/24",
                             f"{labnet.TUNNEL_FAR.v6}/64")

    def kill_server(self):
        netns.kill(self.server)

    def handshakes(self):
        """When the last one was, in seconds; 0 for never."""
        text = self.lab.host.run(["wg", "show", "wg0", "latest-handshakes"])
        return int(text.stdout.split()[1]) if text.stdout else 0

    def kill_client(self):
        """kill -9; where the kernel itself is the client its link goes."""
        pid = _client_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        else:
            self.lab.host.ip("link del wg0")
        self._wait_gone()

    def remove(self):
        if self.exists():
            self.kill_client()
        if self.server:
            netns.stop(self.server)


def _client_pid():
    """wireguard-go of the host: it stands on its own."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[1:2] == [b"wg0"] and \
                    (path.parent / "comm").read_text() == "wireguard-go\n":
                return int(path.parent.name)
    return None


def openresolv(directory):
    """The directory of Debian's resolvconf(8), a copy that can do without the
    places it is installed to."""
    for name in ("sbin/resolvconf", "lib/resolvconf/libc"):
        text = (TOOLS.parents[1] / name).read_text(encoding="utf-8")
        path = pathlib.Path(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(
            "/lib/resolvconf", f"{directory}/lib/resolvconf").replace(
            "/sbin/resolvconf", f"{directory}/sbin/resolvconf"),
            encoding="utf-8")
        path.chmod(0o755)
    return f"{directory}/sbin"
