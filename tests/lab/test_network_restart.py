"""Links that all go and come back at once, under the same names or others:
`network restart`, `wifi reload`, a WAN that is called otherwise, one PPP
session after the other. The router and its clients ask all the while.
"""

import contextlib
import socket
import threading

import pytest

import labnet
import netns
from capture import Capture, send_sentinels
from guests import NONE, TAP_FAR, WAYS, Device, ask, frame, wait_frames
from labnet import add_addresses
from lan_router import BRIDGES, CLIENTS, DELEGATED, PRIVATE, Router
from probes import make_query

PUBLIC = labnet.RESOLVERS["public"]
APPROVED = labnet.RESOLVERS["approved"]
ANYWHERE = ("0.0.0.0/0", "::/0")
WHO = {"host-asks", "phone-asks", "visitor-asks", "frame-asks"}
TIMES = 3


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab() as made:
        yield made


@pytest.fixture(scope="module")
def router(lab):
    made = Router(lab)
    yield made
    made.close()


# --- those who ask ---

class Asker(threading.Thread):
    """Queries without a pause by sockets that are kept, whatever becomes of
    the links: to a public resolver, or as frames by a packet socket."""

    def __init__(self, namespace, label):
        super().__init__(name=label, daemon=True)
        self.namespace, self.asked = namespace, 0
        self._ending = threading.Event()

    def run(self):
        query, kinds = make_query(self.name), (socket.AF_INET, socket.AF_INET6)
        with self.namespace.inside():
            udp = [socket.socket(kind, socket.SOCK_DGRAM) for kind in kinds]
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        places = [(sock, (address, port)) for port in (53, 853)
                  for sock, address in zip(udp, PUBLIC, strict=True)]
        sent = [(sock, query, place) for sock, place in places]
        if self.name == "frame-asks":
            sent = [(raw, frame(family, "udp", port, query), ("wan0", kind))
                    for port in (53, 853)
                    for family, kind in ((4, 0x0800), (6, 0x86dd))]
        while not self._ending.wait(0.0005):
            for sock, data, place in sent:
                with contextlib.suppress(OSError):  # refused, or no link
                    sock.sendto(data, place)
            self.asked += 1
        for sock in (*udp, raw):
            sock.close()

    def wait(self):
        more = self.asked + 50
        netns.wait_until(lambda: self.asked > more, f"{self.name} asks")

    def stop(self):
        self._ending.set()
        self.join(5)


@contextlib.contextmanager
def asked(lab, router):
    """A set, with those in it when the block is over of whom anything got
    out: all have asked from before it to behind it. By any link of isp."""
    seen = set()
    askers = [Asker(namespace, name) for name, namespace in zip(
        sorted(WHO), (lab.host, lab.host, router.phone, router.visitor),
        strict=True)]
    with Capture(lab.isp, None) as capture:
        try:
            for asker in askers:
                asker.start()
                asker.wait()
            yield seen
            for asker in askers:
                asker.wait()
        finally:
            for asker in askers:
                asker.stop()
        capture.wait_for([
            token for origin in (lab.host, router.phone, router.visitor)
            for address in labnet.GATEWAY
            for token in send_sentinels(origin, address)])
        seen |= {who for who in WHO if capture.name_traffic(who)}


# --- what becomes of the links ---

def lead(lab, link):
    """The host's addresses and routes at the provider, by this link."""
    lab.host.ip(f"link set {link} up",
                f"address replace {labnet.HOST_WAN.v4}/24 dev {link}",
                f"address replace {labnet.HOST_WAN.v6}/64 dev {link} nodad", *(
        f"route replace {prefix} via {labnet.GATEWAY[':' in prefix]} dev {link}"
        for prefix in (*ANYWHERE, *APPROVED)))


def join(lab, router, *names):
    """Clients' links, which are ports of bridges; all of them at once."""
    ports = [CLIENTS[name] for name in names]
    netns.ip(*(f"link add {one.port} netns host type veth peer name eth0 "
               f"address {one.mac} netns {name}"
               for name, one in zip(names, ports, strict=True)))
    lab.host.ip(*(f"link set {one.port} master {one.bridge} up"
                  for one in ports))
    for name, one in zip(names, ports, strict=True):
        client = getattr(router, name)
        add_addresses(client, "eth0", f"{one.addresses.v4}/24",
                      f"{one.addresses.v6}/64")
        client.ip(*(f"route add {prefix} via {gateway}" for prefix, gateway in
                    zip(ANYWHERE, BRIDGES[one.bridge], strict=True)))


def restart_network(lab, router):
    ports = [one.port for one in CLIENTS.values()]
    lab.host.ip(*(f"link del {link}" for link in ("wan0", *BRIDGES, *ports)))
    netns.ip("link add wan0 netns host type veth peer name cust0 netns isp")
    lab.host.ip(*(f"link add {name} address 02:00:5e:00:01:0{len(name)} "
                  "type bridge" for name in BRIDGES))
    add_addresses(lab.isp, "cust0", f"{labnet.GATEWAY.v4}/24",
                  f"{labnet.GATEWAY.v6}/64")
    lead(lab, "wan0")
    lab.isp.ip(*(f"route replace {prefix} via {labnet.HOST_WAN[':' in prefix]}"
                 for prefix in (*labnet.LAN_PREFIX, DELEGATED, PRIVATE)))
    for name, gateway in BRIDGES.items():
        add_addresses(lab.host, name, f"{gateway.v4}/24", f"{gateway.v6}/64")
    join(lab, router, *CLIENTS)


def reload_wifi(lab, router):
    lab.host.ip("link del p1", "link del p3")
    join(lab, router, "phone", "visitor")


def rename_wan(lab, _):
    for before, name in (("wan0", "eth9"), ("eth9", "wan0")):
        lab.host.ip(f"link set {before} down", f"link set {before} name {name}")
        lead(lab, name)


CHANGES = {"network restart": restart_network, "wifi reload": reload_wifi,
           "wan renamed": rename_wan}


def wait_served(lab, router):
    """All is back: who is approved answers to each."""
    for origin in (lab.host, router.phone, router.visitor):
        for address in APPROVED:
            netns.wait_until(lambda o=origin, a=address:
                             labnet.can_reach(o, a), "the network is back")
        assert ask(lab, origin, APPROVED, due=WAYS) == (WAYS, WAYS)


class Pppoe(Device):
    """A session's link, as pppd makes one; far away is the provider."""

    def __init__(self, lab):
        super().__init__(lab, "tun", "pppoe-wan")
        lab.host.ip(*(f"route replace {address} dev {self.link}"
                      for address in (*APPROVED, *PUBLIC)))

    def seen(self):
        """To whom queries have left by it, of all that were asked."""
        for who in (APPROVED, PUBLIC):
            with self.lab.host.inside():
                for family, address in zip((socket.AF_INET, socket.AF_INET6),
                                           who, strict=True):
                    with socket.socket(family, socket.SOCK_DGRAM) as sock, \
                            contextlib.suppress(PermissionError):
                        sock.sendto(make_query("x"), (address, 53))
        self.wait_for([token for address in TAP_FAR
                       for token in send_sentinels(self.lab.host, address)])
        return {packet.dst for packet in self.name_traffic()}


def reached(lab):
    """Who takes a connection by the wire, when there is no session."""
    return {address for address in APPROVED
            if labnet.can_reach(lab.host, address, port=53)}


@pytest.mark.parametrize("watch", [True, False])
def test_sessions_of_a_provider(lab, guard, watch):
    """pppoe-wan goes and comes, each time another link of the same name: what
    is approved by it is approved again, and nothing else gets out."""
    with Pppoe(lab) as session:
        assert session.seen() == {*APPROVED, *PUBLIC}, "the control"
    assert reached(lab) == {*APPROVED}, "the control"
    guard.enable("--tunnel", "tun0", *(
        word for address in APPROVED
        for word in ("--resolver", f"{address} via pppoe-wan")), watch=watch)
    numbers = set()
    for _ in range(TIMES):
        with lab.watch(lab.host) as outside, Pppoe(lab) as session:
            with lab.host.inside():
                numbers.add(socket.if_nametoindex(session.link))
            assert session.seen() == {*APPROVED}
        assert not outside.name_traffic()
        assert not reached(lab)
    assert len(numbers) == TIMES


@pytest.mark.parametrize("change", CHANGES)
def test_asked_all_the_while(lab, guard, router, change):
    with asked(lab, router) as seen:
        CHANGES[change](lab, router)
    assert seen == WHO, "the control"
    guard.enable(tunnel="tun0", resolver=[*APPROVED], watch=True)
    watcher = guard.watcher
    with asked(lab, router) as seen:
        for _ in range(TIMES):
            CHANGES[change](lab, router)
        wait_frames(guard, wan0="covered")
    # A link that is new has frames judged once the watcher has seen it.
    assert not seen - {"frame-asks"}
    wait_served(lab, router)
    with asked(lab, router) as seen:
        assert ask(lab, router.phone, PUBLIC) == (NONE, NONE)
    assert not seen
    now = guard.watcher
    assert now["pid"] == watcher["pid"] and not now["stale"]
    assert now["undone"] == 0
