"""Name servers for the lab: real ones, and a slow one.

Each answers every name below lab.example with an address that tells which
server it was, so that a client's answer names the path its query took.
"""

import os
import pathlib
import shutil
import socket
import subprocess

import netns

ZONE = "lab.example"
BIG_ZONE = "big.example"  # answers of more than 2,000 bytes
TOOLS = pathlib.Path(__file__).resolve().parents[2] / "build/tools/usr/sbin"

# What `A` of any name in ZONE is, by server (benchmarking range, RFC 2544).
# "forged" is the provider answering on the tunnel resolver's own address.
ANSWERS = {
    "provider": "198.18.0.1",
    "gateway": "198.18.0.2",
    "public": "198.18.0.3",
    "approved": "198.18.0.4",
    "inside": "198.18.0.5",
    "forged": "198.18.0.6",
    "slow": "198.18.0.7",
    "stub": "198.18.0.8",
}
TAGS = {address: tag for tag, address in ANSWERS.items()}


def find_tool(name):
    """A daemon unpacked by scripts/setup, or the system's own."""
    unpacked = TOOLS / name
    found = str(unpacked) if unpacked.exists() else shutil.which(
        name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise FileNotFoundError(f"{name}: run scripts/setup test first")
    return found


def make_certificate(directory, name):
    """A self-signed certificate; returns the paths (certificate, key)."""
    certificate = f"{directory}/{name}.crt"
    key = f"{directory}/{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-pkeyopt",
         "ec_paramgen_curve:P-256", "-days", "2", "-subj", f"/CN={name}",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=30)
    return certificate, key


class Resolver:
    """unbound on UDP and TCP 53 and, as DNS over TLS, on TCP 853."""

    def __init__(self, namespace, tag, addresses, certificate, directory):
        self.tag, self.addresses = tag, addresses
        config = f"{directory}/unbound-{tag}.conf"
        with open(config, "w", encoding="ascii") as file:
            file.write(self._configuration(certificate, directory))
        self.process = namespace.popen(
            [find_tool("unbound"), "-d", "-c", config],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.namespace = namespace

    def _configuration(self, certificate, directory):
        lines = [f"  interface: {address}@{port}"
                 for address in self.addresses for port in (53, 853)]
        big = [f"  local-data: '{BIG_ZONE}. TXT \"{number:0200}\"'"
               for number in range(12)]
        return "\n".join([
            "server:", *lines,
            "  tls-port: 853",
            f"  tls-service-pem: {certificate[0]}",
            f"  tls-service-key: {certificate[1]}",
            f"  directory: {directory}",
            '  chroot: ""', '  username: ""', '  pidfile: ""',
            "  use-syslog: no", "  verbosity: 0", "  do-daemonize: no",
            "  module-config: iterator",
            "  access-control: 0.0.0.0/0 allow",
            "  access-control: ::/0 allow",
            "  edns-buffer-size: 4096", "  max-udp-size: 4096",
            "  msg-cache-size: 256k", "  rrset-cache-size: 256k",
            f"  local-zone: {ZONE}. redirect",
            f"  local-data: '{ZONE}. A {ANSWERS[self.tag]}'",
            f"  local-data: '{ZONE}. AAAA 2001:db8:a::1'",
            f"  local-data: '{ZONE}. TXT {self.tag}'",
            f"  local-zone: {BIG_ZONE}. redirect", *big, ""])

    def wait(self):
        """Until it listens on each of its addresses."""
        for address in self.addresses:
            for port in (53, 853):
                netns.wait_until(
                    lambda a=address, p=port: self._accepts(a, p),
                    f"{self.tag} listens on {address} port {port}")

    def _accepts(self, address, port):
        if self.process.poll() is not None:
            raise netns.CommandError(f"unbound {self.tag} ended early")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.namespace.inside(), socket.socket(family) as sock:
            return sock.connect_ex((address, port)) == 0

    def stop(self):
        netns.stop(self.process)


class SlowResolver:
    """Answers over UDP after `delay_s`: the classic cause of a fallback.
    With `answer` every name has that address."""

    def __init__(self, namespace, address, delay_s, tag="slow", answer=None):
        script = pathlib.Path(__file__).with_name("slow_resolver.py")
        self.process = namespace.popen(
            ["/usr/bin/python3", script, address, delay_s,
             answer or ANSWERS[tag]],
            stdout=subprocess.PIPE)
        ready = self.process.stdout.readline()
        if ready != b"ready\n":
            raise netns.CommandError("slow resolver did not start")

    def stop(self):
        netns.stop(self.process)
        self.process.stdout.close()
