"""The package as `make deb` left it, and others made of it."""

import re
import shutil
import subprocess

CONTROL_PROGRAM = "usr/sbin/leakguard"


class Debs:
    """deb: the package. make(): one like it, of another version."""

    def __init__(self, build, work):
        self.work = work
        self.deb = self._only(build / "deb", "leakguard_*.deb")
        self.orig = self._only(build / "deb", "leakguard_*.orig.tar.gz")
        # The same program, but for what its commands say to a watcher.
        self.other_program = build / "package/other/leakguard"

    @staticmethod
    def _only(directory, pattern):
        found = list(directory.glob(pattern))
        assert len(found) == 1, f"{directory}: expected one {pattern}"
        return found[0]

    def field(self, name, deb=None):
        return run("dpkg-deb", "-f", deb or self.deb, name).strip()

    def unpack(self, directory):
        run("dpkg-deb", "-R", self.deb, directory)
        return directory

    def make(self, version, program=None, **scripts):
        """Of that version; with a program and maintainer scripts instead."""
        deb = self.work / f"{version}{'-'.join(scripts)}.deb"
        if deb.exists():
            return deb
        tree = self.unpack(self.work / f"{deb.stem}.tree")
        control = tree / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {version}",
                                  control.read_text()))
        if program:
            shutil.copy(program, tree / CONTROL_PROGRAM)
        for name, text in scripts.items():
            (tree / "DEBIAN" / name).write_text(text)
            (tree / "DEBIAN" / name).chmod(0o755)
        run("dpkg-deb", "--root-owner-group", "-b", tree, deb)
        return deb


def run(*args):
    return subprocess.run([*map(str, args)], check=True, text=True,
                          capture_output=True, timeout=60).stdout
