"""What the package's README tells people to do, done."""

import json
import re

import labnet
import netns
from capture import send_sentinels
from clients import dig
from guard import REPOSITORY
from router import is_open

README = (REPOSITORY / "scripts/packaging/openwrt/README.md").read_text()
APPROVED = labnet.RESOLVERS["approved"]


def piece(starts):
    """The indented piece whose first line starts so, without the indent."""
    for found in re.findall(r"(?:^    .*\n|(?<=\n)\n(?=    ))+", README, re.M):
        text = re.sub("^    ", "", found.strip("\n"), flags=re.M)
        if text.startswith(starts):
            return text + "\n"
    raise AssertionError(f"no example that starts with {starts}")


def test_configuration(lab, router):
    router.config.write_text(piece("config leakguard"))
    router.boot()
    assert not router.log()
    assert not is_open(lab)
    assert [t["name"] for t in router.guard.status()["tunnels"]] == ["tun0"]
    assert "\nlan = lan0\n" in router.conf()


def test_template(lab, router):
    """As netjsonconfig renders it: a section of type config_name, named
    config_value, with the rest as options and lists."""
    text = ""
    for block in json.loads(piece('{"leakguard"'))["leakguard"]:
        text += (f"config {block.pop('config_name')} "
                 f"'{block.pop('config_value')}'\n")
        for name, value in block.items():
            text += "".join(
                f"\t{'list' if isinstance(value, list) else 'option'} "
                f"{name} '{one}'\n"
                for one in (value if isinstance(value, list) else [value]))
    router.config.write_text(text)
    router.boot()
    assert not router.log()
    assert not is_open(lab)
    assert [t["name"] for t in router.guard.status()["tunnels"]] == ["tun0"]


def test_metric(router):
    line = piece("* * * * *").split(" ", 5)[5]
    (router.root / "tmp/prometheus").mkdir()
    says = []
    for enabled in ("0", "1"):
        router.configure(enabled=enabled)
        router.boot()
        router.run("sh", "-c", line)
        text = (router.root / "tmp/prometheus/leakguard.prom").read_text()
        says.append(re.search("^leakguard_guarded (.*)$", text, re.M)[1])
    assert says == ["0", "1"]


def test_shipped_configuration(lab, router):
    """With the comments taken off, it is one that is taken."""
    text = re.sub(r"^#(?=\t|config)", "", router.shipped, flags=re.M)
    assert text.count("\n\t") > router.shipped.count("\n\t")
    router.config.write_text(text.replace("enabled '0'", "enabled '1'"))
    router.boot()
    assert not router.log()
    assert not is_open(lab)
    status = router.guard.status()
    assert {t["name"] for t in status["tunnels"]} == {"wg0", "tun*"}


def test_links_come_and_go(lab, router):
    """`network restart`, and a WAN that is called otherwise: no script of ours
    is called, and nothing gets out."""
    router.configure(f"list resolver '{APPROVED.v4} via tunnel'")
    router.boot()
    assert not is_open(lab)
    addresses = [("192.0.2.2/24", "192.0.2.1", "default"),
                 ("2001:db8:2::2/64", "2001:db8:2::1", "::/0")]
    for name, before in (("eth9", "wan0"), ("wan0", "eth9")):
        lab.host.ip(f"link set {before} down", f"link set {before} name {name}",
                    f"link set {name} up")
        for address, gateway, to in addresses:
            nodad = "nodad" if ":" in address else ""
            lab.host.ip(f"address replace {address} dev {name} {nodad}",
                        f"route replace {to} via {gateway}")
        netns.wait_until(lambda name=name: {
            link["frames"] for link in router.guard.status()["links"]
            if link["name"] == name} <= {"covered", "uncovered"}, "it is seen")
        assert not asked_out(lab)
        if name == "eth9":              # the control: the way is there
            router.init("open")
            assert asked_out(lab)
            router.run("leakguard", "enable", "--no-watch")
    assert not is_open(lab)


def asked_out(lab):
    """What leaves of two queries, whatever the link's name is."""
    with lab.capture() as seen:
        for address in labnet.RESOLVERS["public"]:
            dig(lab.host, address)
        tokens = [token for gateway in labnet.GATEWAY
                  for token in send_sentinels(lab.host, gateway)]
        seen.wait_for(tokens)
    return seen.name_traffic()
