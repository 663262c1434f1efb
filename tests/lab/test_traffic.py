"""S1: what is no name traffic is left alone, by real programs and bulk.

test_untouched.py has single packets to other ports. In each test here the
same traffic flows before the guard, and then with it in each policy.
"""

import contextlib
import itertools
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import labnet
import packets
from clients import send_raw, source_of

PUBLIC = labnet.RESOLVERS["public"]
BULK_BYTES = 100 << 20
CHUNK = bytes(1 << 16)
POLICIES = {
    "drop": {}, "reject": {"action": "reject"}, "both": {"mode": "both"},
    "conntrack": {"fragments": "conntrack"},
    "fragments": {"fragments": "drop"},
}


@pytest.fixture(params=["no guard", *POLICIES])
def policy(request, guard):
    """The control, and then the guard in one policy after the other."""
    if request.param != "no guard":
        guard.enable(tunnel="tun0", **POLICIES[request.param])


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextlib.contextmanager
def server(namespace, address, port, serve):
    """serve(connection) in a thread of its own, for one connection."""
    with namespace.inside():
        listener = socket.socket(family_of(address))
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        listener.settimeout(30)

        def accept():
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(60)
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join(90)
        assert not thread.is_alive()


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("origin, address", [
    ("host", PUBLIC.v4), ("lan", PUBLIC.v6)])
def test_download(lab, origin, address):
    """100 MB by curl."""
    def serve(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n"
                           % BULK_BYTES)
        for _ in range(BULK_BYTES // len(CHUNK)):
            connection.sendall(CHUNK)

    host = f"[{address}]" if ":" in address else address
    with server(lab.isp, address, 8080, serve):
        done = getattr(lab, origin).run(
            ["curl", "-sS", "-g", "-o", "/dev/null", "-w", "%{size_download}",
             f"http://{host}:8080/"], timeout=90)
    assert int(done.stdout) == BULK_BYTES


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("origin, address", [
    ("host", PUBLIC.v6), ("lan", PUBLIC.v4)])
def test_upload(lab, origin, address):
    """100 MB the other way: all of it passes the verdict's chain."""
    received = []

    def serve(connection):
        buffer, total = bytearray(1 << 20), 0
        while count := connection.recv_into(buffer):
            total += count
        received.append(total)

    with server(lab.isp, address, 8080, serve):
        with getattr(lab, origin).inside():
            sock = socket.socket(family_of(address))
        with sock:
            sock.settimeout(60)
            sock.connect((address, 8080))
            for _ in range(BULK_BYTES // len(CHUNK)):
                sock.sendall(CHUNK)
    assert received == [BULK_BYTES]


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("origin, source_ports", [
    # Not 53 from the LAN: the answer, forwarded there, would be to port 53.
    ("host", (123, 53)), ("lan", (123, 4123))])
def test_time(lab, origin, source_ports):
    """An exchange as SNTP has it (RFC 4330)."""
    for address, source_port in itertools.product(PUBLIC, source_ports):
        with lab.isp.inside():
            remote = socket.socket(family_of(address), socket.SOCK_DGRAM)
        with getattr(lab, origin).inside():
            local = socket.socket(family_of(address), socket.SOCK_DGRAM)
        with remote, local:
            remote.bind((address, 123))
            remote.settimeout(5)
            local.settimeout(5)
            local.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            local.bind(("", source_port))
            local.sendto(b"\x1b" + bytes(47), (address, 123))
            request, client = remote.recvfrom(100)
            remote.sendto(b"\x1c" + request[1:], client)
            assert local.recv(100) == b"\x1c" + bytes(47)


# mDNS (RFC 6762) and LLMNR (RFC 4795): (group, port)
LOCAL_NAMES = (("224.0.0.251", 5353), ("ff02::fb", 5353),
               ("224.0.0.252", 5355), ("ff02::1:3", 5355))


@pytest.mark.usefixtures("policy")
def test_names_on_the_link(lab):
    """Multicast names are asked of neighbours, on ports of their own."""
    lab.host.ip("route replace multicast 224.0.0.0/24 dev wan0")

    def ask(group, port):
        zone = "%wan0" if ":" in group else ""
        lab.host.run(["kdig", "+retry=0", "+timeout=1", "-p", port,
                      f"@{group}{zone}", "printer.local"], check=False)

    with lab.watch(lab.host, ports=(5353, 5355)) as seen, \
         ThreadPoolExecutor(len(LOCAL_NAMES)) as threads:
        for group, port in LOCAL_NAMES:
            threads.submit(ask, group, port)
    assert {(p.dst, p.dport) for p in seen.name_traffic("printer")} \
        == set(LOCAL_NAMES)


# Bytes 2 and 3 of each of these would be a port, were it UDP or TCP.
PROTOCOLS = {"GRE": 47, "ESP": 50, "OSPF": 89, "SCTP": 132, "UDP-Lite": 136}


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("origin", ["host", "lan"])
def test_other_protocols(lab, origin, protocol):
    """What looks like port 53 or 853 there means something else."""
    lab.host.run(["nft", "delete", "table", "inet", "lab_nat"], check=False)
    namespace, number = getattr(lab, origin), PROTOCOLS[protocol]
    try:
        for address, port in itertools.product(PUBLIC, (53, 853)):
            build = packets.ipv6 if ":" in address else packets.ipv4
            payload = struct.pack("!HHI", 0, port, 1) + b"tunnelled" * 9
            with lab.watch(everything=True) as seen, namespace.inside():
                send_raw(address, None, build(source_of(namespace, address),
                                              address, number, payload))
            assert [p.payload for p in seen.packets
                    if p.proto == number] == [payload]
    finally:
        lab.host.nft(labnet.HOST_MASQUERADE)


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("pattern", ["0035", "0355"])
def test_ping_full_of_ports(lab, pattern):
    """Both ways and forwarded, small and in pieces."""
    for namespace, addresses in ((lab.host, PUBLIC), (lab.lan, PUBLIC),
                                 (lab.isp, labnet.HOST_WAN),
                                 (lab.isp, labnet.LAN_CLIENT)):
        for address, size in itertools.product(addresses, (56, 4000)):
            namespace.run(["ping", "-c", "1", "-W", "3", "-s", size, "-p",
                           pattern, address])
