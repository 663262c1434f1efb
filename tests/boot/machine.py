"""Emulated machines, each with a provider of its own on the other end of its
link, and what was seen there from the first packet on."""

import collections
import os
import pathlib
import re
import shutil
import struct
import subprocess

import netns
from capture import parse

MAC = bytes.fromhex("525400000002")
PROVIDER = ("192.0.2.1", "2001:db8:2::1")
PUBLIC = ("203.0.113.8", "2001:db8:113::8")
LIMIT_S = int(os.environ.get("LIMIT_S", "600"))  # a boot
SWAP_BYTES = 768 << 20
# What costs an emulated processor time, and nobody here looks at.
QUICK = ("quiet mitigations=off audit=0 apparmor=0 nokaslr random.trust_cpu=on "
         "systemd.show_status=no")
LABEL_STAGES = range(9, 30)  # the thousands of a volley's source port


class Machine:
    """Of one disk so many boots in a row, each of which ends by itself."""

    def __init__(self, directory, image, name, kernel, words="", boots=1,
                 initrd="initrd"):
        self.name = name
        self.directory = pathlib.Path(directory, name)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.image, self.kernel = pathlib.Path(image), kernel
        self.words, self.boots, self.initrd = words, boots, initrd
        self.has_swap = "resume=" in words

    def run(self):
        """To its end; TimeoutExpired if that does not come."""
        disk = self.image / "disk"
        if self.boots > 1:
            disk = self.directory / "disk"
            subprocess.run(["cp", "--sparse=always", self.image / "disk",
                            disk], check=True)
        if self.has_swap:
            with open(self.directory / "swap", "wb") as file:
                file.truncate(SWAP_BYTES)
        provider = netns.Namespace(self.name)
        try:
            self._make_link(provider)
            self._serve(provider)
            for number in range(self.boots):
                provider.popen(self._qemu(number, disk)).wait(LIMIT_S)
        finally:
            provider.delete()
        return self

    def _files(self, what):
        return [self.directory / f"{what}{number}"
                for number in range(self.boots)]

    @staticmethod
    def _make_link(provider):
        provider.ip("tuntap add dev tap0 mode tap", "link set tap0 up",
                    f"address add {PROVIDER[0]}/24 dev tap0",
                    f"address add {PROVIDER[1]}/64 dev tap0 nodad",
                    f"address add {PUBLIC[0]} dev lo",
                    f"address add {PUBLIC[1]} dev lo")

    def _serve(self, provider):
        """Addresses, routes, and answers to every query."""
        with open(self.directory / "dnsmasq", "wb") as log:
            provider.popen([
                "dnsmasq", "--no-daemon", "--conf-file=/dev/null",
                "--no-resolv", "--no-hosts", "--interface=tap0", "--user=",
                f"--dhcp-leasefile={self.directory}/leases",
                "--dhcp-range=192.0.2.100,192.0.2.150", "--enable-ra",
                "--dhcp-range=2001:db8:2::,ra-only", "--dhcp-authoritative",
                f"--dhcp-option=option6:dns-server,[{PROVIDER[1]}]",
                "--address=/#/198.18.0.1"], stdout=log, stderr=log)

    def _qemu(self, number, disk):
        """TCG; each frame is written down before the tap has it."""
        serial, pcap = (self._files(what)[number] for what in
                        ("serial", "pcap"))
        snapshot = "off" if self.boots > 1 else "on"
        drives = [f"file={disk},format=raw,if=virtio,snapshot={snapshot}"]
        if self.has_swap:
            drives.append(f"file={self.directory}/swap,format=raw,if=virtio")
        files = self.image / self.kernel
        return [
            "qemu-system-x86_64", "-accel", "tcg", "-smp", "1", "-m", "512",
            "-display", "none", "-monitor", "none",
            "-no-reboot", "-serial", f"file:{serial}",
            "-kernel", files / "vmlinuz", "-initrd", files / self.initrd,
            "-append", f"console=ttyS0 root=/dev/vda net.ifnames=0 {QUICK} "
                       f"{self.words}",
            *(word for drive in drives for word in ("-drive", drive)),
            "-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no,"
                       "vnet_hdr=off",
            "-device", f"virtio-net-pci,netdev=net,mac={MAC.hex(':')}",
            "-object", f"filter-dump,id=dump,netdev=net,file={pcap}"]

    # --- what it said ---

    @property
    def text(self):
        return "".join(path.read_text(encoding="utf-8", errors="replace")
                       for path in self._files("serial") if path.exists())

    def rows(self, word):
        """Of a boot's rows "row STAGE WORD KEY=VALUE ...": dicts."""
        return [dict(part.partition("=")[::2] for part in line.split())
                for line in re.findall(rf"^row \d+ {word} (.*)$",
                                       self.text.replace("\r", ""), re.M)]

    def row(self, word):
        found = self.rows(word)
        assert len(found) == 1, (word, found, self.text[-2000:])
        return found[0]

    # --- what was seen ---

    def frames(self):
        """What the machine sent, in order (pcap-savefile(5))."""
        for path in self._files("pcap"):
            data, at = path.read_bytes(), 24
            while at + 16 <= len(data):
                size = struct.unpack_from("=I", data, at + 8)[0]
                frame = data[at + 16:at + 16 + size]
                at += 16 + size
                if frame[6:12] == MAC:
                    yield frame

    def seen(self):
        """{stage: Stage}; what has no label belongs where the last label did."""
        stages = collections.defaultdict(Stage)
        now = 0
        for frame in self.frames():
            packet = parse(frame[14:])
            if not packet:
                continue
            if packet.sport and packet.sport // 1000 in LABEL_STAGES:
                now = packet.sport // 1000
            stages[now].add(packet)
        return stages


class Stage:
    """What was seen of one: `marks`, families that had a way out; `volleys`,
    (address, port) of name traffic by the prober; `lookups`, by others."""

    def __init__(self):
        self.marks, self.volleys = set(), set()
        self.lookups = []

    def add(self, packet):
        is_label = packet.sport and packet.sport // 1000 in LABEL_STAGES
        if packet.is_name_traffic():
            if is_label:
                self.volleys.add((packet.dst, packet.dport))
            else:
                self.lookups.append(str(packet))
        elif is_label and packet.dport == 9:
            self.marks.add(packet.dst)

    @property
    def names(self):
        return sorted(map(str, self.volleys)) + self.lookups

    def __repr__(self):
        return f"<marks {self.marks} names {self.names[:8]}>"


def newest_kernel(image, series):
    """The name of the one that starts with it."""
    found = sorted(path.name for path in pathlib.Path(image).glob(f"{series}.*")
                   if (path / "vmlinuz").exists())
    return found[-1] if found else None
