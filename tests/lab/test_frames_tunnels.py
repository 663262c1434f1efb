"""Tunnels carry what they always did, at full speed, with frames judged.

Their own packets pass every link's chain and are no name traffic, unless the
VPN uses a guarded port: then S3 knows them.
"""

import selectors
import socket

import pytest

import labnet

FAR = labnet.TUNNEL_FAR[0]
PORT = 5053  # guarded, and nobody's in the lab
BULK = 16 << 20
PIECE = bytes(1 << 16)


def push(lab, count):
    """Bytes that came out of COUNT pushed through one TCP connection."""
    with lab.vpn.inside():
        server = socket.create_server((FAR, PORT))
    with lab.host.inside():
        sender = socket.create_connection((FAR, PORT), timeout=10)
    taker, _ = server.accept()
    server.close()
    arrived = sent = 0
    with sender, taker, selectors.DefaultSelector() as selector:
        sender.setblocking(False)
        taker.setblocking(False)
        selector.register(sender, selectors.EVENT_WRITE)
        selector.register(taker, selectors.EVENT_READ)
        while arrived < count:
            ready = selector.select(timeout=10)
            assert ready, f"stands still: {sent} sent, {arrived} arrived"
            for key, _ in ready:
                if key.fileobj is taker:
                    arrived += len(taker.recv(1 << 20))
                elif sent < count:
                    sent += sender.send(PIECE[:count - sent])
                else:
                    selector.unregister(sender)
    return arrived


@pytest.mark.parametrize("kind, carrier, guarded", [
    ("veth", None, False),
    ("openvpn", 1194, False), ("openvpn", 1194, True),
    ("wireguard", 51820, False), ("wireguard", 51820, True)])
def test_bulk(lab, guard, make_tunnel, kind, carrier, guarded):
    tunnel = make_tunnel(kind, **({"port": carrier} if carrier else {}))
    options = {"endpoint": tunnel.endpoint} if guarded else {}
    ports = f"53,853,{PORT}" + (f",{carrier}" if guarded else "")
    guard.enable(tunnel=tunnel.link, ports=ports, frames="require", **options)
    tunnel.up()
    with lab.watch(lab.host, ports=(PORT,)) as seen:
        assert push(lab, BULK) == BULK
    assert not [p for p in seen.packets if p.dport == PORT], "in clear"
    counters = guard.status()["counters"]
    blocked = {name: counters[name]["packets"] for name in ("S9", "S11")}
    assert not any(blocked.values()), blocked
