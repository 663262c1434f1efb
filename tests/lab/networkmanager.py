"""The guarded host as a desktop has it: NetworkManager brings its links.

NetworkManager, its dispatcher and its OpenVPN plug-in are Debian's, unpacked
by scripts/setup. They know each other by their places in /usr, /etc and
/var/lib, so they run in a mount namespace where these are private, with the
unpacked files laid over /usr. The network namespace is the host's: no link of
the machine is in reach, and nothing of the machine is written to.
"""

import os
import re
import signal
import subprocess

import labnet
import netns
from guard import Guard, find_program
from hooks import HOOKS
from resolvers import TOOLS, find_tool, make_certificate

TREE = TOOLS.parent  # build/tools/usr
CONNECTIONS = "/etc/NetworkManager/system-connections"
READY_S = 30

# Arguments: a new directory, the unpacked tree. The user is the one that the
# plug-in's package makes. With /sys read-only NetworkManager takes it that
# there is no udev to wait for.
ENTER = """set -eu
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir usr usr.work etc etc.work
mount -t overlay overlay /usr \\
    -o "lowerdir=$2:/usr,upperdir=$1/usr,workdir=$1/usr.work"
while umount /etc/resolv.conf 2>/dev/null; do :; done
mount -t overlay overlay /etc \\
    -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/etc.work"
mount -t tmpfs tmpfs /var/lib
mount -o remount,ro /sys
rm -rf /etc/NetworkManager
mkdir -p -m 755 /etc/NetworkManager/dispatcher.d/pre-up.d \\
    /etc/NetworkManager/dispatcher.d/pre-down.d \\
    /etc/NetworkManager/dispatcher.d/no-wait.d \\
    /etc/NetworkManager/system-connections \\
    /var/lib/NetworkManager /var/lib/openvpn/chroot /run/dbus
echo nm-openvpn:x:986:986::/var/lib/openvpn/chroot:/usr/sbin/nologin \\
    >>/etc/passwd
echo nm-openvpn:x:986: >>/etc/group
echo ready
exec sleep infinity
"""

CONFIG = """[main]
plugins=keyfile
no-auto-default=*
rc-manager=file
hostname-mode=none
auth-polkit=false
[keyfile]
unmanaged-devices=interface-name:lan0
"""

# The rules of a system's message bus, and NetworkManager's own.
BUS = """<!DOCTYPE busconfig PUBLIC
 "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <servicedir>{services}</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <includedir>/usr/share/dbus-1/system.d</includedir>
</busconfig>
"""


def missing():
    """Why there is no NetworkManager to test with, or None."""
    for path in (TOOLS / "NetworkManager", TREE / "lib/NetworkManager/VPN"):
        if not path.exists():
            return f"no {path.name} under build/tools"
    return None


class Machine:
    """The host with its NetworkManager. A context manager.

    run() and popen() are those of a namespace, in this machine's files.
    """

    name = "host"

    def __init__(self, lab):
        self.lab, self.host = lab, lab.host
        self.dir = f"{lab.dir}/machine"
        self.log = f"{lab.dir}/networkmanager.log"
        os.chmod(lab.dir, 0o755)  # certificates are read by a user
        os.makedirs(self.dir)
        self.holder = lab.host.popen(
            ["unshare", "--mount", "--uts", "--propagation", "private", "sh",
             "-c", ENTER, "-", self.dir, TREE], stdout=subprocess.PIPE,
            text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise netns.CommandError("no private /usr, /etc and /var/lib")
        self.daemon = None
        self._install()
        self.bus = self._spawn("dbus-daemon", "--nofork", "--nopidfile",
                               f"--config-file={self.dir}/bus.conf")
        netns.wait_until(
            lambda: os.path.exists("/run/dbus/system_bus_socket"), "the bus")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        netns.stop(self.bus)
        netns.stop(self.holder)
        self.holder.stdout.close()

    def command(self, args):
        return ["nsenter", f"--target={self.holder.pid}", "--mount", "--uts",
                "--", *args]

    def run(self, args, **options):
        return self.host.run(self.command(args), **options)

    def popen(self, args, **options):
        return self.host.popen(self.command(args), **options)

    def write(self, path, text, mode=0o644):
        """A file of this machine's, of root's whoever unpacked the tree."""
        self.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat >"$1" && '
                  'chmod "$2" "$1"', "-", path, f"{mode:o}"], stdin=text)

    def read(self, path):
        return self.run(["cat", path]).stdout

    def _spawn(self, *args):
        with open(self.log, "ab") as log:
            return self.popen(args, stdout=log, stderr=log)

    def _install(self):
        """leakguard and its hooks, as `make install PREFIX=/usr` has them."""
        self.run(["install", "-D", "-m", "755", find_program(),
                  "/usr/sbin/leakguard"])
        for hook, mode in (("hook.sh", "644"), ("networkmanager", "755")):
            self.run(["install", "-D", "-m", mode, HOOKS / hook,
                      f"/usr/lib/leakguard/{hook}"])
        self.write("/etc/NetworkManager/NetworkManager.conf", CONFIG)
        # One service: what else the machine's own bus would start stays off.
        service = "org.freedesktop.nm_dispatcher.service"
        services = f"{self.dir}/services"
        self.write(f"{services}/{service}", (
            TREE / "share/dbus-1/system-services" / service).read_text(
                encoding="ascii"))
        self.write(f"{self.dir}/bus.conf", BUS.format(services=services))

    def start(self):
        self.daemon = self._spawn("NetworkManager", "--no-daemon",
                                  "--log-level=INFO")
        netns.wait_until(lambda: self.nmcli(
            "general", "status", check=False).rc == 0,
                         f"NetworkManager runs ({self.log})", READY_S, 0.1)

    def stop(self):
        """What it started ends with it; its dispatcher by the bus."""
        netns.stop(self.daemon, READY_S)

    def kill(self):
        netns.kill(self.daemon)

    def nmcli(self, *words, **options):
        return self.run(["nmcli", "--wait", str(READY_S), *words],
                        timeout=READY_S + 10, **options)

    def add_connection(self, name, text):
        """A connection's profile, by its file."""
        path = f"{CONNECTIONS}/{name}.nmconnection"
        self.write(path, f"[connection]\nid={name}\n{text}", 0o600)
        self.nmcli("connection", "load", path)

    def state_of(self, connection):
        """activated, activating... or "" where it is not up."""
        return self.nmcli("-g", "GENERAL.STATE", "connection", "show",
                          connection, check=False).stdout.strip()

    def resolv_conf(self):
        """The servers that NetworkManager wrote down, in order."""
        return re.findall(r"^nameserver (\S+)",
                          self.read("/etc/resolv.conf"), re.M)

    def openvpn_client(self):
        """The process that the plug-in started, or None."""
        def pgrep(*options):
            return self.run(["pgrep", "--delimiter", ",", *options],
                            check=False).stdout.strip()
        plugins = pgrep("-x", "nm-openvpn-serv")  # the kernel keeps 15 bytes
        pid = plugins and pgrep("--parent", plugins, "-x", "openvpn")
        return int(pid) if pid else None

    def kill_openvpn(self):
        os.kill(self.openvpn_client(), signal.SIGKILL)


class InstalledGuard(Guard):
    """leakguard as installed: its own run directory and configuration."""

    def __init__(self, machine):
        self.machine = machine
        super().__init__(machine.lab, "/usr/sbin/leakguard", machine)
        self.run_dir = "/run/leakguard"

    def configure(self, text):
        self.machine.write("/etc/leakguard.conf", text)

    def command(self, verb, *options):
        return [self.program, verb, *options]


class OpenVpnServer:
    """A VPN that pushes its resolvers; the address of its far end is
    labnet.TUNNEL_FAR. A context manager."""

    link = "tunfar"
    RESOLVERS = labnet.RESOLVERS["inside"]

    def __init__(self, lab):
        self.lab = lab
        self.client, self.own = (make_certificate(lab.dir, f"nm-{name}")
                                 for name in ("client", "server"))
        os.chmod(self.client[1], 0o644)
        self.process = None

    def start(self, *more):
        pushes = [part for address in self.RESOLVERS
                  for part in ("--push", f"dhcp-option DNS {address}")]
        with open(f"{self.lab.dir}/nm-server.log", "ab") as log:
            self.process = self.lab.vpn.popen(
                [find_tool("openvpn"), "--mode", "server", "--tls-server",
                 "--dev-type", "tun", "--dev", self.link, "--proto", "udp4",
                 "--server", "10.65.0.0", "255.255.255.0", "--server-ipv6",
                 "fd65::/64", "--topology", "subnet", "--lport", "1194",
                 "--ca", self.client[0], "--cert", self.own[0], "--key",
                 self.own[1], "--dh", "none", "--keepalive", "1", "4",
                 *pushes, *more], stdout=log, stderr=log)
        return self

    def stop(self):
        netns.stop(self.process)

    def kill(self):
        netns.kill(self.process)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def connection(self, **more):
        """The profile of a client, for Machine.add_connection()."""
        settings = "".join(f"{key}={value}\n" for key, value in more.items())
        return f"""type=vpn
autoconnect=false
[vpn]
service-type=org.freedesktop.NetworkManager.openvpn
connection-type=tls
remote={labnet.VPN_ENDPOINT.v4}
ca={self.own[0]}
cert={self.client[0]}
key={self.client[1]}
cert-pass-flags=4
{settings}[ipv4]
method=auto
[ipv6]
method=auto
"""
