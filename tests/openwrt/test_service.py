"""The init script: closed from the boot on, whatever is wrong with UCI's file;
a bad change is none; opened by nothing but a word that says so."""

import os
import signal

import pytest

import labnet
import netns
from clients import dig
from guard import TABLES
from router import is_open

APPROVED = labnet.RESOLVERS["approved"]
PUBLIC = labnet.RESOLVERS["public"]
RESOLVER = f"list resolver '{APPROVED.v4}'"
OTHER = f"list resolver '{APPROVED.v4}@853'"


def is_approved(lab):
    return dig(lab.host, APPROVED.v4).answer == "approved"


def test_installed(lab, router):
    """As shipped it does nothing, and hears when it is to do something."""
    router.boot()
    assert is_open(lab)
    written = router.settle()
    assert not router.instances
    assert written["reload"] == ["leakguard", "network", "firewall"]
    assert router.guard.state == "OFF"
    router.reload()
    router.init("restart")
    assert is_open(lab) and not router.log()
    # By hand it is what the file says, which is nothing yet.
    router.run("leakguard", "enable", "--no-watch")
    assert not is_open(lab)
    router.reload()
    assert not is_open(lab), "lowered what somebody else raised"


def test_boot(lab, router):
    """Closed when the script returns, before there is a process."""
    assert is_open(lab)
    router.configure(RESOLVER, "option action 'reject'")
    router.boot(settle=False)
    status = router.guard.status()
    assert status["state"] == "LOCKED" and not status["watcher"]
    assert status["policy"]["action"] == "reject"
    assert [*router.guard.listings()] == TABLES
    assert not is_open(lab) and is_approved(lab)
    written = router.settle()
    assert written["command"] == ["/usr/sbin/leakguard", "watch"]
    assert written["respawn"][-1] == "0"
    assert router.guard.watcher["held"]
    assert not router.log()
    assert router.init("status").stdout.startswith("state     LOCKED")


BROKEN = {
    "no-uci": "config leakguard 'main'\n\toption enabled '1'\n\tlist tunnel 'x\n",
    "no-uci-enabled": "config leakguard 'main'\n\toption 'enabled\n",
    "no-section": "config leakguard\n\toption enabled '1'\n",
    "other-section": "config leakguard 'main'\n\toption enabled '1'\n"
                     "config guard 'x'\n",
    "no-bool": "config leakguard 'main'\n\toption enabled 'maybe'\n",
    "no-number": "config leakguard 'main'\n\toption enabled '1'\n"
                 "\toption watch_quiet 'soon'\n",
    "unknown-key": "config leakguard 'main'\n\toption enabled '1'\n"
                   "\tlist tunnle 'tun0'\n",
    "wrong-value": "config leakguard 'main'\n\toption enabled '1'\n"
                   f"\tlist resolver '{APPROVED.v4} by air'\n",
    "second-line": "config leakguard 'main'\n\toption enabled '1'\n"
                   f"\tlist tunnel 'tun0\nresolver = {PUBLIC.v4}'\n",
    "comment": "config leakguard 'main'\n\toption enabled '1'\n"
               f"\tlist resolver '{PUBLIC.v4} #via tunnel'\n",
    "network": "config leakguard 'main'\n\toption enabled '1'\n"
               "config network\n\toption name 'lan'\n\toption tunnel 'perhaps'\n",
    "network-option": "config leakguard 'main'\n\toption enabled '1'\n"
                      "config network\n\toption name 'lan'\n\toption zone 'x'\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_at_boot(lab, router, how):
    """Closed, with a line; what is repaired is taken by the next reload."""
    if how == "no-section":                     # nobody has said `enabled 1`
        router.configure(RESOLVER)
        router.boot()
        router.power_off()
    router.config.write_text(BROKEN[how])
    assert is_open(lab)
    router.boot()
    assert not is_open(lab)
    assert router.guard.state == "LOCKED"
    assert not router.guard.status()["resolvers"]
    assert router.guard.watcher
    log = router.log()
    assert "daemon.err leakguard: " in log
    assert "/etc/config/leakguard" in log or "/etc/leakguard.conf:" in log
    router.reload()
    assert not is_open(lab)

    router.configure(RESOLVER)
    router.reload()
    assert is_approved(lab) and not is_open(lab)


@pytest.mark.parametrize("how", BROKEN)
def test_broken_at_reload(lab, router, how):
    """What was in force stays, and so does its file."""
    router.configure(RESOLVER)
    router.boot()
    before, conf = router.guard.listings("-s"), router.conf()
    router.config.write_text(BROKEN[how])
    router.reload()
    assert is_approved(lab) and not is_open(lab)
    assert router.guard.listings("-s").keys() == before.keys()
    assert router.conf() == conf
    assert "the rules in force stay" in router.log()
    assert router.guard.watcher, "the watcher ended"
    router.init("restart")
    router.settle()
    assert is_approved(lab) and not is_open(lab)
    assert sorted(os.listdir(router.root / "tmp/etc")) == ["leakguard.conf"]


def test_lost_file(lab, router):
    """A file that is gone has not said `enabled 0`."""
    router.configure(RESOLVER)
    router.boot()
    router.config.unlink()
    router.reload()
    assert is_approved(lab) and not is_open(lab)
    assert "no more there" in router.log()
    router.configure(RESOLVER, enabled=None)
    router.reload()
    assert not is_open(lab)
    router.configure(RESOLVER, enabled="0")
    router.reload()
    assert is_open(lab) and router.guard.watcher is None


def test_change(lab, router):
    """A change goes through the watcher that runs, in one transaction."""
    router.configure(RESOLVER)
    router.boot()
    watcher = router.guard.watcher["pid"]
    assert not is_open(lab) and is_approved(lab)
    with lab.watch(lab.host) as seen:
        router.configure(OTHER)
        router.reload()
        dig(lab.host, APPROVED.v4)
    assert not seen.name_traffic()
    router.configure(RESOLVER, "option mode 'either'")
    router.reload()
    assert is_approved(lab)
    assert router.guard.watcher["pid"] == watcher
    assert not router.log()


def test_off_and_on(lab, router):
    router.configure(RESOLVER)
    router.boot()
    assert not is_open(lab)
    router.configure(RESOLVER, enabled="0")
    router.reload()
    assert is_open(lab) and router.watcher is None
    router.configure(RESOLVER)
    router.reload()
    assert not is_open(lab) and is_approved(lab)
    assert router.guard.watcher
    router.configure(RESOLVER, enabled="0")
    router.reload()
    assert is_open(lab)
    # On again, with what the program does not take: asked for, so closed.
    router.configure("list tunnle 'x'")
    router.reload()
    assert not is_open(lab) and not is_approved(lab)
    router.configure(RESOLVER)
    router.reload()
    assert is_approved(lab)


def test_disabled_by_hand(lab, router):
    """Nobody raises it behind the user's back; a boot does, or `enabled`."""
    router.configure(RESOLVER)
    router.boot()
    router.init("open")
    assert is_open(lab)
    router.reload()
    router.init("restart")
    router.settle()
    assert is_open(lab)
    assert "until 'leakguard enable' or a reboot" in router.log()
    router.configure(RESOLVER, enabled="0")
    router.reload()
    router.configure(RESOLVER)
    router.reload()
    assert not is_open(lab)
    router.run("leakguard", "disable")
    router.power_off()
    router.boot()
    assert not is_open(lab) and is_approved(lab)


def test_stop(lab, router):
    """Stop, restart and kill -9 leave the rules, and stop says how to open."""
    router.configure(RESOLVER)
    router.boot()
    said = router.init("stop")
    router.settle()
    assert "/etc/init.d/leakguard open" in said.stderr
    assert router.guard.watcher is None
    assert not is_open(lab) and is_approved(lab)
    router.init("start")
    router.settle()
    assert router.guard.watcher
    os.kill(router.watcher.pid, signal.SIGKILL)
    os.kill(router.guard.watcher["pid"], signal.SIGKILL)
    assert not is_open(lab)
    router.watcher.wait(5)
    router.settle()
    assert router.guard.watcher and not is_open(lab)


def test_nothing_is_made_yet(lab, router):
    """Before /etc/init.d/boot has made /var/run and the rest."""
    router.configure(RESOLVER)
    assert not list((router.root / "tmp").iterdir())
    router.init("boot", script="/etc/rc.d/S14leakguard")
    assert not is_open(lab) and is_approved(lab)


def test_two_at_once(lab, router):
    """Two starts, and a reload beside them."""
    router.configure(RESOLVER)
    for name in ("run", "lock", "log"):
        (router.root / "tmp" / name).mkdir(exist_ok=True)
    both = [router.popen("/etc/init.d/leakguard", verb)
            for verb in ("boot", "start", "reload", "boot")]
    assert [process.wait(30) for process in both] == [0] * 4
    router.settle()
    assert not is_open(lab) and is_approved(lab)
    assert router.guard.watcher
    assert not router.log()


def test_stray_watcher(lab, router):
    """What `leakguard enable` left behind makes room for procd's."""
    router.boot()
    router.run("leakguard", "enable")
    stray = router.guard.watcher["pid"]
    router.configure(RESOLVER)
    with lab.watch(lab.host) as seen:
        router.reload()
    assert router.watcher.poll() is None
    assert router.guard.watcher["pid"] != stray
    assert not is_open(lab) and is_approved(lab)
    assert not seen.name_traffic()


def flush(router):
    """What `fw4 flush` does: each table by its name."""
    for line in router.host.run(["nft", "list", "tables"]).stdout.splitlines():
        router.host.run(["nft", "delete", *line.split()], check=False)


def test_firewall_flush(lab, router):
    """With a watcher a flush is undone or refused, without one by the trigger."""
    router.configure(RESOLVER)
    router.boot()
    lab_nat = router.host.run(["nft", "list", "table", "inet", "lab_nat"])
    try:
        flush(router)
        netns.wait_until(lambda: [*router.guard.listings()] == TABLES,
                         "the tables are back")
        assert is_approved(lab)

        router.init("stop")
        router.settle()
        flush(router)
        assert router.guard.state == "OFF"
        router.init("reload")
        assert [*router.guard.listings()] == TABLES
    finally:
        router.host.nft(lab_nat.stdout)
    assert not is_open(lab) and is_approved(lab)


def test_read_only_root(lab, router):
    """All that is written is in memory."""
    router.configure(RESOLVER)
    root = str(router.root)
    done = router.host.run(
        ["sh", "-c", 'mount --rbind "$1" "$1" && mount -o remount,bind,ro "$1"'
         ' && mkdir -p "$1/tmp/run" "$1/tmp/lock" && ! touch "$1/x" 2>/dev/null'
         ' && exec chroot "$1" /etc/rc.d/S14leakguard boot', "-", root])
    assert not done.stderr
    assert not is_open(lab) and is_approved(lab)


def test_configuration_cannot_be_written(lab, router):
    """Closed all the same, with nothing approved."""
    router.configure(RESOLVER)
    (router.root / "tmp/etc").write_text("somebody's file")
    router.boot()
    assert not is_open(lab) and not is_approved(lab)
    assert "cannot write" in router.log()
