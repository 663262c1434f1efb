"""scripts/service/early, as installed, with the very paths of the script: /etc
and /run are the lab's own."""

import pathlib
import shutil
import subprocess

import labnet
import supervisors
from clients import dig
from guard import Guard, find_program

APPROVED = labnet.RESOLVERS["approved"]
CONFIG = pathlib.Path("/etc/leakguard.conf")
RUN = pathlib.Path("/run/leakguard")


class Early:
    def __init__(self, lab):
        self.lab, self.guard = lab, Guard(lab)
        self.guard.run_dir, self.guard.config = str(RUN), str(CONFIG)
        self.guard.program = f"{lab.dir}/leakguard"  # /tmp is not for units
        shutil.copy(find_program(), self.guard.program)
        self.script = supervisors.install("early", lab, self.guard.program)

    @staticmethod
    def forget():
        subprocess.run(["rm", "-rf", CONFIG, RUN], check=True)

    def run(self, check=True):
        return self.lab.host.run([self.script], check=check)

    def set_hosts(self, text):
        """What /etc/hosts says, for all of the lab."""
        pathlib.Path("/etc/hosts").write_text(
            f"127.0.0.1 localhost\n{text}", encoding="ascii")

    def is_approved(self):
        return dig(self.lab.host, APPROVED.v4).answer == "approved"
