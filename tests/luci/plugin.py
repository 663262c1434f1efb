"""A router's root: the real rpcd script and program, in a stand-in of OpenWrt.

The machine's own root with the files of tests/openwrt/standin/root over it, by
overlayfs, so that scripts find their absolute paths in a chroot.
"""

import os
import pathlib
import shutil
import subprocess

from luci_server import OPENWRT

HERE = pathlib.Path(__file__).resolve().parent
STANDIN = HERE.parent / "openwrt/standin/root"
FILES = OPENWRT / "leakguard/files"
PLACES = {
    "leakguard.rpcd": "usr/libexec/rpcd/leakguard",
    "leakguard.init": "etc/init.d/leakguard",
    "leakguard.config": "etc/config/leakguard",
    "uci.sh": "usr/lib/leakguard/uci.sh",
}
NETWORK = """
config interface 'loopback'
	option device 'lo'

config interface 'lan'
	option device 'lan0'
	option proto 'static'

config interface 'vpn'
	option device 'tun0'
	option proto 'none'
"""


class Plugin:
    """`command` runs the rpcd script; config("leakguard") is a file of UCI's."""

    def __init__(self, guard, directory):
        self.root, over = f"{directory}/root", f"{directory}/over"
        for folder in (self.root, f"{over}/up", f"{over}/work"):
            os.makedirs(folder)
        mount("-t", "overlay", "overlay", "-o",
              f"lowerdir=/,upperdir={over}/up,workdir={over}/work", self.root)
        self.mounted = [self.root]
        for name in ("proc", "dev", "run"):
            mount("--bind", f"/{name}", f"{self.root}/{name}")
            self.mounted.append(f"{self.root}/{name}")
        shutil.copytree(STANDIN, self.root, dirs_exist_ok=True)
        for name, place in PLACES.items():
            os.makedirs(os.path.dirname(f"{self.root}/{place}"), exist_ok=True)
            shutil.copy(FILES / name, f"{self.root}/{place}")
            os.chmod(f"{self.root}/{place}", 0o755)
        self._write("usr/sbin/leakguard", f"""#!/bin/sh
exec {guard.program} --run-dir {guard.run_dir} "$@"
""", 0o755)
        self._write("etc/config/network", NETWORK)
        os.makedirs(f"{self.root}/tmp/log")
        self.syslog("")
        # /sys tells of the network namespace that it was mounted in: by then, that
        # of `ip netns exec`, in a mount namespace of its own.
        self.command = ["sh", "-c", 'mount --rbind /sys "$0/sys" && exec chroot "$0" "$@"',
                        self.root, "/usr/libexec/rpcd/leakguard"]

    def close(self):
        for place in reversed(self.mounted):
            subprocess.run(["umount", "-l", place], check=True)

    def config(self, name):
        return f"{self.root}/etc/config/{name}"

    def syslog(self, text):
        """What logread searches."""
        self._write("tmp/log/messages", text)

    def _write(self, name, text, mode=0o644):
        path = f"{self.root}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)


def mount(*args):
    subprocess.run(["mount", *args], check=True)
