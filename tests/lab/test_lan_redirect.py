"""lan-redirect: what LAN clients ask others is led to our resolver.

Clients are strict: an answer that comes from another address than they asked is
none (their sockets are connected; dig says "reply from unexpected source").
"""

import threading

import pytest

import clients
import labnet
import netns
from guests import NONE, WAYS, ask
from lan_router import BRIDGES, CLIENTS, Flow, Router, own_resolver
from resolvers import Resolver

PUBLIC = labnet.RESOLVERS["public"]
PROVIDER = labnet.RESOLVERS["provider"]
APPROVED = labnet.RESOLVERS["approved"]
INSIDE = labnet.RESOLVERS["inside"]
BOTH = {"lan": "br-lan", "lan_redirect": [*APPROVED]}
LOCAL = {"lan": "br-lan", "lan_redirect": "local"}

families = pytest.mark.parametrize("family", [4, 6])
protos = pytest.mark.parametrize("proto", ["udp", "tcp"])


@pytest.fixture(scope="module")
def router(lab):
    made = Router(lab)
    yield made
    made.close()


@pytest.fixture
def raise_guard(guard):
    """raise_guard(lan=..., ...): with the approved resolvers."""
    def enable(**options):
        options.setdefault("resolver", [*APPROVED])
        options.setdefault("tunnel", "tun0")
        return guard.enable(**options)
    return enable


def of(addresses, family):
    return addresses[family == 6]


def tag_of(client, address, *options):
    """Who answers dig there, or None."""
    return clients.dig(client, address, "+short", *options).answer


def tags_of(client):
    """Who answers it at a public address: UDP and TCP, both families."""
    return {tag_of(client, address, option) for address in PUBLIC
            for option in ("+tcp", "+notcp")}


def asked_of(seen):
    """Who was asked, as the provider's side saw it."""
    return {packet.dst for packet in seen.name_traffic()}


# --- to the approved resolver -----------------------------------------------

@families
@protos
def test_answers(lab, router, raise_guard, family, proto):
    """Who has the address 8.8.8.8 or its like built in is answered by the
    approved resolver, as from there."""
    option = "+tcp" if proto == "tcp" else "+notcp"
    for target in (PUBLIC, PROVIDER):
        address = of(target, family)
        raise_guard()
        with lab.watch(router.phone) as seen:
            assert tag_of(router.phone, address, option) is None
        assert not seen.name_traffic()  # without the redirection: silence
        raise_guard(**BOTH)
        with lab.watch(router.phone) as seen:
            assert tag_of(router.phone, address, option) == "approved"
        assert asked_of(seen) == {of(APPROVED, family)}


def test_approved_are_asked_directly(lab, router, raise_guard):
    """They are, by all ports that they have, from wherever."""
    raise_guard(lan="br-lan", lan_redirect=[*PROVIDER],
                resolver=[*APPROVED, *PROVIDER])
    assert tag_of(router.phone, PUBLIC.v4) == "provider"
    for address in APPROVED:
        with lab.watch(router.phone) as seen:
            assert tag_of(router.phone, address) == "approved"
            assert tag_of(router.phone, address, "+tls") == "approved"
        assert asked_of(seen) == {address}


@families
def test_one_family(lab, router, raise_guard, family):
    """The other one is refused at once, so that clients ask by this one."""
    raise_guard(lan="br-lan", lan_redirect=of(APPROVED, family))
    other = 10 - family
    assert tag_of(router.phone, of(PUBLIC, family)) == "approved"
    with lab.watch(router.phone) as seen:
        for proto in ("udp", "tcp"):
            assert refusal(router.phone, of(PUBLIC, other), proto,
                           53) == "refused"
    assert not seen.name_traffic()


def test_unapproved_target(lab, router, raise_guard):
    """It allows nothing."""
    raise_guard(lan="br-lan", lan_redirect=[*PROVIDER])
    with lab.watch(router.phone) as seen:
        for address in PUBLIC:
            assert tag_of(router.phone, address) is None
    assert not seen.name_traffic()


def test_through_tunnel(lab, router, guard, make_tunnel):
    tunnel = make_tunnel("veth").up()
    guard.enable(tunnel=tunnel.link, resolver=[*INSIDE], lan="br-lan",
                 lan_redirect=[*INSIDE])
    with lab.watch(router.phone) as seen:
        for address in PUBLIC:
            for option in ("+tcp", "+notcp"):
                assert tag_of(router.phone, address, option) == "inside"
    assert not seen.name_traffic()
    tunnel.down()
    with lab.watch(router.phone) as seen:
        for address in PUBLIC:
            assert tag_of(router.phone, address) is None
    assert not seen.name_traffic()


# --- to the router's own ----------------------------------------------------

def test_local(lab, router, raise_guard):
    """Its own dnsmasq answers, by upstream queries to the approved one."""
    listen = BRIDGES["br-lan"]
    with own_resolver(lab, listen, APPROVED):
        raise_guard(**LOCAL)
        for address in (*PUBLIC, *listen):
            for option in ("+tcp", "+notcp"):
                with lab.watch(router.phone) as seen:
                    assert tag_of(router.phone, address, option) == "approved"
                assert asked_of(seen) <= set(APPROVED)


def test_local_with_stray_upstream(lab, router, raise_guard):
    """What it asks others is guarded as output."""
    with own_resolver(lab, BRIDGES["br-lan"], PROVIDER):
        assert tag_of(router.phone, BRIDGES["br-lan"].v4) == "provider"
        raise_guard(**LOCAL)
        with lab.watch(router.phone) as seen:
            for address in PUBLIC:
                assert tag_of(router.phone, address) is None
        assert not seen.name_traffic()


def test_local_without_a_resolver(lab, router, raise_guard):
    """Nobody listens: refused, and nothing gets out."""
    raise_guard(**LOCAL)
    with lab.watch(router.phone) as seen:
        for address in PUBLIC:
            for proto in ("udp", "tcp"):
                assert refusal(router.phone, address, proto, 53) == "refused"
    assert not seen.name_traffic()


# --- other ports --------------------------------------------------------------

def refusal(client, address, proto, port):
    """What a query or a connection meets: "refused", "open" or None."""
    try:
        flow = Flow(client, address, proto, port)
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return None
    try:
        return "open" if proto == "tcp" else flow.ask(timeout=1)
    finally:
        flow.close()


@families
def test_853_is_refused_at_once(lab, router, raise_guard, family):
    """A reset; to UDP, an ICMP error."""
    address = of(PUBLIC, family)
    assert refusal(router.phone, address, "tcp", 853) == "open"
    raise_guard()
    assert refusal(router.phone, address, "udp", 853) is None
    raise_guard(**BOTH)
    with lab.watch(router.phone) as seen:
        assert refusal(router.phone, address, "tcp", 853) == "refused"
        assert refusal(router.phone, address, "udp", 853) == "refused"
    assert not seen.name_traffic()


# --- who is left alone --------------------------------------------------------

@pytest.mark.parametrize("how", ["address", "mac"])
def test_exempt_client(lab, router, raise_guard, how):
    """Not redirected, and guarded like before: its neighbour is redirected."""
    shelf = CLIENTS["shelf"]
    exempt = [*shelf.addresses] if how == "address" else shelf.mac
    raise_guard(**BOTH, lan_exempt=exempt)
    assert ask(lab, router.shelf, PUBLIC) == (NONE, NONE)
    assert ask(lab, router.shelf, APPROVED, due=WAYS) == (WAYS, WAYS)
    assert tags_of(router.phone) == {"approved"}
    # Nor refused early: it meets the verdict, which is silent.
    assert refusal(router.shelf, PUBLIC.v4, "udp", 853) is None


def test_other_network(lab, router, raise_guard):
    """One that is not in `lan` is not redirected; a prefix takes in both."""
    raise_guard(**BOTH)
    assert ask(lab, router.visitor, PUBLIC) == (NONE, NONE)
    assert tags_of(router.phone) == {"approved"}
    raise_guard(**{**BOTH, "lan": "br-*"})
    assert tags_of(router.visitor) == {"approved"}
    raise_guard(**{**BOTH, "lan": ["br-lan", "br-guest"]})
    assert tags_of(router.visitor) == {"approved"}


@pytest.mark.parametrize("options", [BOTH, LOCAL], ids=["address", "local"])
def test_outside_is_not_served(lab, router, raise_guard, options):
    """No resolver that is open to the provider's side: what comes from there
    through the router, or to it, is not led anywhere."""
    phone = CLIENTS["phone"].addresses
    listen = [*BRIDGES["br-lan"], *labnet.HOST_WAN]
    with own_resolver(lab, listen, APPROVED):
        raise_guard(**{**options, "lan": ["br-lan", "wan0"]})
        assert outside_tags(lab, phone) == {"approved"}  # man: "never"
        raise_guard(**options)
        assert tag_of(router.phone, PUBLIC.v4) == "approved"
        assert outside_tags(lab, phone) == {None}


def outside_tags(lab, addresses):
    return {tag_of(lab.vpn, address, option) for address in addresses
            for option in ("+tcp", "+notcp")}


def test_the_router_itself(lab, router, raise_guard):
    """Its own programs are not redirected."""
    raise_guard(**{**BOTH, "lan": "br-*"})
    for address in PUBLIC:
        with lab.watch() as seen:
            assert tag_of(lab.host, address) is None
        assert not seen.name_traffic()


def test_pause(lab, router, raise_guard, guard):
    raise_guard(**BOTH)
    assert tag_of(router.phone, PUBLIC.v4) == "approved"
    guard.pause("60s")
    for address in PUBLIC:
        assert tag_of(router.phone, address) == "public"
        assert tag_of(router.phone, address, "+tls") == "public"
    guard.resume()
    for address in PUBLIC:
        assert tag_of(router.phone, address) == "approved"


# --- the target is a neighbour -------------------------------------------------

@pytest.mark.parametrize("asker", ["phone", "visitor"])
def test_hairpin(lab, router, raise_guard, asker):
    """Answers of a resolver in the same LAN come from the address asked."""
    shelf = CLIENTS["shelf"].addresses
    server = Resolver(router.shelf, "stub", shelf, lab.certificate, lab.dir)
    try:
        server.wait()
        raise_guard(lan="br-*", lan_redirect=[*shelf], resolver=[*shelf],
                    lan_exempt=[*shelf])
        for address in PUBLIC:
            for option in ("+tcp", "+notcp"):
                with lab.watch(router.phone) as seen:
                    client = getattr(router, asker)
                    assert tag_of(client, address, option) == "stub"
                assert not seen.name_traffic()
    finally:
        server.stop()


# --- flows that are there already ----------------------------------------------

@families
@protos
def test_flow_from_before(lab, router, raise_guard, guard, family, proto):
    """It ends, or goes to the approved resolver: never on as it was."""
    address = of(PUBLIC, family)
    flow = Flow(router.phone, address, proto)
    assert flow.ask() == "public" and flow.ask() == "public"
    raise_guard(**BOTH)
    with lab.watch(router.phone) as seen:
        answer = flow.ask()
    assert asked_of(seen) <= {of(APPROVED, family)}
    assert answer == "approved" if proto == "udp" else answer != "public"
    flow.close()
    # And back: from lan-redirect to none, and to the open host.
    flow = Flow(router.phone, address, proto)
    assert flow.ask() == "approved"
    raise_guard()
    with lab.watch(router.phone) as seen:
        assert flow.ask(timeout=1) != "public"
    assert not seen.name_traffic()
    flow.close()
    guard.disable()
    flow = Flow(router.phone, address, proto)
    assert flow.ask() == "public"
    flow.close()


@families
def test_flow_between_targets(lab, router, raise_guard, family):
    """Another target: the flow goes there."""
    raise_guard(**BOTH)
    flow = Flow(router.phone, of(PUBLIC, family))
    assert flow.ask() == "approved"
    raise_guard(lan="br-lan", lan_redirect=[*PROVIDER],
                resolver=[*PROVIDER])
    with lab.watch(router.phone) as seen:
        assert flow.ask() == "provider"
    assert asked_of(seen) == {of(PROVIDER, family)}
    flow.close()


def test_flow_from_a_pause(lab, router, raise_guard, guard):
    raise_guard(**BOTH)
    guard.pause("60s")
    flows = [Flow(router.phone, address) for address in PUBLIC]
    assert [flow.ask() for flow in flows] == ["public"] * 2
    guard.resume()
    with lab.watch(router.phone) as seen:
        assert [flow.ask() for flow in flows] == ["approved"] * 2
    assert asked_of(seen) == {*APPROVED}


def test_flow_from_a_pause_that_ends(lab, router, raise_guard, guard):
    """By the kernel's clock, and where a watcher runs."""
    raise_guard(**BOTH, watch=True)
    guard.pause("1s")
    flows = [Flow(router.phone, address) for address in PUBLIC]
    assert [flow.ask() for flow in flows] == ["public"] * 2
    netns.wait_until(lambda: "expires" not in guard.listing(), "its end")
    for flow in flows:
        netns.wait_until(lambda f=flow: f.ask(timeout=1) == "approved",
                         "it is redirected")
    with lab.watch(router.phone) as seen:
        assert [flow.ask() for flow in flows] == ["approved"] * 2
    assert asked_of(seen) == {*APPROVED}


# --- on and off, all the while -------------------------------------------------

def test_on_and_off(lab, router, raise_guard):
    """From kept sockets and new ones: nothing gets out but to the approved."""
    raise_guard()
    ended, asked = threading.Event(), []

    def keep_asking(address):
        kept = Flow(router.phone, address)
        while not ended.is_set():
            fresh = Flow(router.phone, address)
            asked.append((kept.ask(timeout=0.05), fresh.ask(timeout=0.05)))
            fresh.close()
        kept.close()

    askers = [threading.Thread(target=keep_asking, args=(address,))
              for address in PUBLIC]
    with lab.watch(router.phone) as seen:
        for asker in askers:
            asker.start()
        for _ in range(15):
            raise_guard(**BOTH)
            raise_guard()
        raise_guard(**BOTH)
        count = len(asked)
        netns.wait_until(lambda: len(asked) > count + 10, "further queries")
        ended.set()
        for asker in askers:
            asker.join()
    answers = {answer for pair in asked for answer in pair}
    assert "approved" in answers and "public" not in answers
    assert asked_of(seen) == {*APPROVED}
