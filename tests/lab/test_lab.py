"""The lab itself: what the other tests take for granted."""

import os
import pathlib
import socket
import subprocess
import threading
import time

import pytest

import clients
import labnet
import netns
from probes import Probe, fire, make_query
from resolvers import ANSWERS, SlowResolver

LAB = pathlib.Path(__file__).resolve().parent


@pytest.mark.parametrize("outer", [None, netns.current()])
def test_refuses_the_outer_namespace(outer):
    env = {k: v for k, v in os.environ.items() if k != "OUTER_NETNS"}
    if outer:
        env["OUTER_NETNS"] = outer
    done = subprocess.run(["/usr/bin/python3", "-c", "import netns"], env=env,
                          cwd=LAB, capture_output=True, timeout=10,
                          check=False)
    assert done.returncode == netns.EXIT_SKIPPED
    assert b"refusing to run" in done.stderr


def test_kill_leaves_nothing():
    """kill -9 of the wrapper ends what runs inside it."""
    with subprocess.Popen([LAB / "run", "--", "sh", "-c",
                           "echo ready; exec sleep 600"],
                          stdout=subprocess.PIPE) as wrapper:
        assert wrapper.stdout.readline() == b"ready\n"
        children = pathlib.Path(
            f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text()
        wrapper.kill()
    child, = children.split()
    netns.wait_until(lambda: has_ended(child), "the process inside has ended")


def has_ended(pid):
    """Gone, or dead and waiting for somebody to ask."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_resolvers_are_told_apart(lab):
    for tag, addresses in labnet.RESOLVERS.items():
        expected = "forged" if tag == "inside" else tag
        for address in addresses:
            for program in ("dig", "dig +tcp", "kdig +tls"):
                for namespace in (lab.host, lab.lan):
                    asked = clients.run_program(namespace, program, address)
                    assert asked.answer == expected, asked


@pytest.mark.parametrize("kind", ["veth", "openvpn", "wireguard"])
def test_tunnel_carries(lab, make_tunnel, kind):
    """Up, ended and killed: who answers on the tunnel resolver's address."""
    tunnel = make_tunnel(kind)
    probes = [Probe(origin, "routed", family, 53, "udp", "inside")
              for origin in ("host", "lan") for family in (4, 6)]

    def answers():
        volley = fire(lab, probes, tunnel if tunnel.exists() else None,
                      lambda _: True)
        return {outcome.answer for outcome in volley}

    for end in (tunnel.down, tunnel.kill, tunnel.remove):
        assert answers() == {"forged"}
        tunnel.remake()
        assert answers() == {"inside"}
        end()
    assert answers() == {"forged"}


@pytest.mark.root
def test_capture_is_complete(lab):
    """Every packet of a burst from two threads, without any waiting."""
    count, each = 2, 3000

    def burst(sock):
        for _ in range(each):
            sock.send(make_query("burst"))

    with lab.host.inside():
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                   for _ in range(count)]
    for sock in sockets:
        sock.connect((labnet.VPN_ENDPOINT.v4, 853))  # nobody answers there
    lab.isp.ip(f"route add blackhole {labnet.VPN_ENDPOINT.v4}")
    try:
        with lab.watch(lab.host) as seen:
            threads = [threading.Thread(target=burst, args=(sock,))
                       for sock in sockets]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(seen.name_traffic("burst")) == count * each
    finally:
        lab.isp.ip(f"route del blackhole {labnet.VPN_ENDPOINT.v4}")
        for sock in sockets:
            sock.close()


def test_capture_leaves_other_traffic_out(lab):
    """Bulk traffic must not overflow a capture; odd packets must be in it."""
    with lab.watch(lab.host) as seen, \
         lab.watch(lab.host, everything=True) as every:
        labnet.can_reach(lab.host, labnet.GATEWAY.v4, port=8080)
        clients.send_crafted("fragments", lab.host, labnet.GATEWAY.v4)
    assert not [p for p in seen.packets if p.dport == 8080]
    assert [p for p in every.packets if p.dport == 8080]
    assert len(seen.name_traffic()) == 3


def test_slow_resolver_loses_to_the_second(lab, veth_tunnel):
    """The classic leak: glibc asks the next server when the first is slow."""
    slow = SlowResolver(lab.vpn, labnet.TUNNEL_FAR.v4, delay_s=3)
    lab.host.set_resolv_conf(
        f"nameserver {labnet.TUNNEL_FAR.v4}\n"
        f"nameserver {labnet.RESOLVERS['gateway'].v4}\n"
        "options timeout:1 attempts:1\n")
    try:
        started = time.monotonic()
        asked = clients.dig(lab.host, labnet.TUNNEL_FAR.v4, "+short",
                            "+time=5")
        assert asked.answer == "slow" and time.monotonic() - started > 2.9
        with lab.watch(lab.host) as seen:
            found = lab.host.run(["getent", "ahostsv4", "slow.lab.example"])
        assert ANSWERS["gateway"] in found.stdout
        assert seen.name_traffic("slow")
    finally:
        slow.stop()
        lab.host.set_resolv_conf("")
    assert veth_tunnel.exists()
