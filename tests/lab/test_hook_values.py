"""Hostile values in everything that a hook reads: data, or left out; never run.

Each hook runs in a folder whose files have names that a pattern would turn
into (BAIT), with commands as values that would leave a file there (TRACE). In
the program's place stands a recorder, which notes each argument byte by byte
and runs the real program.
"""

import collections
import ipaddress
import itertools
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import labnet
from guard import Guard
from hooks import HOOKS

LINK = "tun0"
TRACE, BAIT = "X", "10.66.66.66"
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"],
          "bash": ["bash", "--posix"]}
RUN_S = 20

HOSTILE = [os.fsencode(value) for value in (
    f"$(touch {TRACE})", f"`touch {TRACE}`", f"; touch {TRACE};",
    f"| touch {TRACE}", f"& touch {TRACE} &", f"'; touch {TRACE}; '",
    f'"; touch {TRACE}; "', f"\n touch {TRACE}\n", f"\\$(touch {TRACE})",
    f"x[$(touch {TRACE})]", f"10.8.0.9\n$(touch {TRACE})",
    f"fe80::1%$(touch {TRACE})", f"${{IFS}}$(touch {TRACE})", f"$(>{TRACE})",
    "10.8.0.9\n--tunnel\nevil0", "10.8.0.9 --tunnel evil0", "--tunnel=evil0",
    "-x", "--", "--help", "-c/etc/passwd", "*", "1*", "[1-9]*", "?????????*",
    "", " ", "\t", "\n", "%s%n%d", "\\n", "$HOME", "~root", "..", "/", "%",
    "053", "+53", "0x35", "65536", "53/udp,mark=1", "fe80::1%tun0 ", "::::",
    "10.8.0", "10.8.0.256", "224.0.0.1", "10.8.0.9/32", "[::1]", "evil0:1",
    "x" * 10000, "1" * 10000, "10.8.0.9 " * 1100)] + [
        b"\xff\xfe\x80", b"10.8.0.9\xa0", b"tun\xc3\xa4", b"\x01\x1b[31m\x7f"]
# Those that come in all forms and places, where all would take too long.
WORST = HOSTILE[:16]

# What becomes of a proper value: replaced, behind it, in place of each address.
FORMS = ["all", "behind", "inside"]
ADDRESSES = re.compile(rb"10\.8\.0\.1|fd00::1|203\.0\.113\.7|2001:db8::7")

# args, env and files are attacked; `fixed` arguments and `kept` files are not.
# What steers the hook (`steers`) is not attacked along with the rest.
Call = collections.namedtuple(
    "Call", "script args env link resolvers steers files kept fixed",
    defaults=[LINK, (), (), {}, {}, ()])

RESOLVERS = ("10.8.0.1", "fd00::1")
OPENVPN = {
    "dev": LINK, "trusted_ip": "203.0.113.7", "trusted_port": "53",
    "trusted_ip6": "2001:db8::7", "remote_1": "203.0.113.7",
    "remote_port_1": "53", "proto_1": "udp4",
    "script_context": "init", "X509_0_CN": "server",
}
OPENVPN_ARGS = [LINK, "1500", "0", "10.8.0.2", "255.255.255.0", "init"]

# In the place of wg(8): it shows what is in two files.
WG = """#!/bin/sh
[ "$1" = show ] && cat "/run/lab/values-$3"
"""
# The library alone, told all it takes.
LIBRARY = """#!/bin/sh
set -u
. "${0%/*}/hook.sh"
hook_name library
hook_link "$1" || exit 1
hook_resolver "$2"
hook_resolver "$3" "$4"
hook_endpoint "$5" "$6" "$7"
hook_endpoint "$5" "$6" "$7" "$8"
hook_up
"""

WG_QUICK = "/run/lab/values-wg-quick.conf"
WG_FWMARK, WG_ENDPOINTS = "/run/lab/values-fwmark", "/run/lab/values-endpoints"
WG_SHOWS = {WG_FWMARK: "0xca6c\n",
            WG_ENDPOINTS: "cGVlcg==\t203.0.113.7:53\ncGVlcg==\t(none)\n"
                          "cGVlcg==\t[2001:db8::7]:53\n"}
NM_STATE = "/run/leakguard-networkmanager"
STRONGSWAN_STATE = "/run/leakguard-strongswan"
PPP = "/etc/ppp/ip-up.d/leakguard", "/etc/ppp/ip-down.d/leakguard"
NETWORKD = {"AdministrativeState": "configured", "OperationalState": "routable",
            "IFACE": LINK, "ADDR": "10.8.0.2", "ESSID": "", "IP_ADDRS": "",
            "json": '{"Name": "tun0", "DNS": ["10.8.0.1", "fd00::1"], "A": []}'}
NETWORKMANAGER = {
    "CONNECTION_UUID": "0d7b5a1e", "CONNECTION_ID": "vpn",
    "DEVICE_IFACE": "wan0", "DEVICE_IP_IFACE": "wan0", "VPN_IP_IFACE": LINK,
    "IP4_NAMESERVERS": "10.8.0.1", "IP6_NAMESERVERS": "fd00::1",
    "VPN_IP4_NAMESERVERS": "10.8.0.1", "VPN_IP6_NAMESERVERS": "fd00::1"}
STRONGSWAN = {
    "PLUTO_REQID": "7", "PLUTO_PROTO": "esp", "PLUTO_IF_ID_OUT": "5",
    "PLUTO_DNS4_1": "10.8.0.1", "PLUTO_DNS6_1": "fd00::1",
    "PLUTO_PEER": "203.0.113.7", "PLUTO_CONNECTION": "home"}

# What each hook is told when all is well: every part of it is attacked.
CALLS = {
    "library": Call("library", [LINK, "10.8.0.1", "fd00::1", "853",
                                "203.0.113.7", "53", "udp", "0xca6c"], {},
                    resolvers=("10.8.0.1", "[fd00::1]@853")),
    "openvpn up": Call("openvpn", OPENVPN_ARGS, {
        **OPENVPN, "script_type": "up",
        "foreign_option_1": "dhcp-option DOMAIN lab.example",
        "foreign_option_2": "dhcp-option DNS 10.8.0.1",
        "foreign_option_3": "dhcp-option DNS6 fd00::1"},
        resolvers=RESOLVERS, steers=["script_type"]),
    "openvpn up, dns": Call("openvpn", OPENVPN_ARGS, {
        **OPENVPN, "script_type": "up",
        "dns_server_1_address_1": "10.8.0.1",
        "dns_server_1_port_1": "53",
        "dns_server_2_address_1": "fd00::1",
        "dns_server_2_port_1": "853"},
        resolvers=("10.8.0.1@53", "[fd00::1]@853"), steers=["script_type"]),
    "openvpn down": Call("openvpn", OPENVPN_ARGS, {
        **OPENVPN, "script_type": "down", "signal": "sigterm"},
        steers=["script_type"]),
    "wg-quick up": Call(
        "wg-quick", ["up", LINK, WG_QUICK], {}, resolvers=RESOLVERS,
        steers=[0, 2], files={
            WG_QUICK: "[Interface]\nDNS = 10.8.0.1, fd00::1, lab.example\n",
            **WG_SHOWS}),
    "wg-quick down": Call("wg-quick", ["down", LINK], {}, steers=[0]),
    "ifupdown start": Call("ifupdown", [], {
        "MODE": "start", "IFACE": LINK,
        "IF_DNS_NAMESERVERS": "10.8.0.1 fd00::1"},
        resolvers=RESOLVERS, steers=["MODE"], files=WG_SHOWS),
    "ifupdown stop": Call("ifupdown", [], {"MODE": "stop", "IFACE": LINK},
                          steers=["MODE"]),
    "networkd up": Call("networkd", [], {**NETWORKD, "STATE": "routable"},
                        resolvers=RESOLVERS, files=WG_SHOWS,
                        steers=["STATE", "AdministrativeState"]),
    "networkd down": Call("networkd", [], {**NETWORKD, "STATE": "off"},
                          steers=["STATE", "AdministrativeState"]),
    "networkmanager pre-up": Call(
        "networkmanager", [LINK, "pre-up"], NETWORKMANAGER,
        resolvers=RESOLVERS, steers=[1]),
    "networkmanager vpn-up": Call(
        "networkmanager", [LINK, "vpn-up"], NETWORKMANAGER,
        resolvers=RESOLVERS, steers=[1, "VPN_IP_IFACE"]),
    "networkmanager down": Call(
        "networkmanager", [LINK, "vpn-down"], NETWORKMANAGER, steers=[1],
        kept={f"{NM_STATE}/{LINK}": "0d7b5a1e\n"}),
    "strongswan up": Call(
        "strongswan", [], {**STRONGSWAN, "PLUTO_VERB": "up-client"},
        link="ipsec:7", resolvers=RESOLVERS, steers=["PLUTO_VERB",
        "PLUTO_REQID", "PLUTO_PROTO"], kept={STRONGSWAN_STATE: ""}),
    "strongswan down": Call(
        "strongswan", [], {**STRONGSWAN, "PLUTO_VERB": "down-client"},
        link="ipsec:7", steers=["PLUTO_VERB", "PLUTO_REQID"],
        kept={STRONGSWAN_STATE: ""}),
    "openconnect connect": Call("openconnect", [], {
        "reason": "connect", "TUNDEV": LINK, "INTERNAL_IP4_DNS": "10.8.0.1",
        "INTERNAL_IP6_DNS": "fd00::1", "VPNGATEWAY": "203.0.113.7",
        "CISCO_DEF_DOMAIN": "lab.example"},
        resolvers=RESOLVERS, steers=["reason"], fixed=["true"]),
    "openconnect disconnect": Call("openconnect", [], {
        "reason": "disconnect", "TUNDEV": LINK}, steers=["reason"],
        fixed=["true"]),
    "ppp up": Call(PPP[0], [LINK, "/dev/pts/1", "0", "10.8.0.2", "10.8.0.3",
                            "ipparam"], {
        "LINKNAME": "leakguard-vpn", "DNS1": "10.8.0.1", "DNS2": "fd00::1",
        "IPLOCAL": "10.8.0.2", "PPPLOGNAME": "root"},
        resolvers=RESOLVERS, steers=["LINKNAME"]),
    "ppp down": Call(PPP[1], [LINK, "/dev/pts/1", "0", "10.8.0.2", "10.8.0.3",
                              "ipparam"], {"LINKNAME": "leakguard-vpn"},
                     steers=["LINKNAME"]),
}


# `ip netns exec` has made a mount namespace for it.
WITH_WG = '"$0" --bind "$1" "$2" && shift 2 && exec "$@"'


class Scene:
    """A folder with bait, the hooks as `make install` would place them, and
    the recorder where they look for the program."""

    def __init__(self, lab, guard):
        self.lab = lab
        self.root = pathlib.Path(lab.dir, "values")
        self.folder = self.root / "folder"
        self.hooks = self.root / "hooks"
        self.recorder = self.root / "leakguard"
        self.record = self.root / "record"
        shutil.copytree(HOOKS, self.hooks)
        library = self.hooks / "hook.sh"
        library.write_text(library.read_text(encoding="utf-8").replace(
            "/usr/sbin/leakguard", str(self.recorder)), encoding="utf-8")
        self.add("library", LIBRARY)
        self.add("wg", WG)
        for path in map(pathlib.Path, PPP):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(self.hooks / "ppp")
        self.recorder.write_text(
            "#!/bin/sh\n"
            f"printf '%s\\0' $# \"$@\" >>{self.record}\n"
            f"exec {guard.program} --run-dir {guard.run_dir} "
            f"-c {guard.config} \"$@\"\n", encoding="utf-8")
        self.recorder.chmod(0o755)
        self.clear()

    def add(self, name, text):
        """One more script beside the hooks."""
        script = self.hooks / name
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)

    def clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name in (BAIT, "-x", "tun0", "evil0"):
            (self.folder / name).touch()
        self.bait = sorted(os.listdir(self.folder))
        self.record.write_bytes(b"")

    def run(self, call, shell=()):
        """What the hook did: (exit status, stderr, calls of the program)."""
        self.record.write_bytes(b"")
        shutil.rmtree(NM_STATE, ignore_errors=True)
        for path, text in {**call.kept, **call.files}.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pathlib.Path(path).write_bytes(os.fsencode(text))
        env = {os.fsencode(k): os.fsencode(v) for k, v in call.env.items()}
        with_wg = ([shutil.which("sh"), "-c", WITH_WG, shutil.which("mount"),
                    self.hooks / "wg", shutil.which("wg")] if call.files else [])
        argv = ["netns", "exec", self.lab.host.name, *with_wg, *shell,
                self.hooks / call.script, *call.fixed, *call.args]
        done = subprocess.run(
            [shutil.which("ip"), *map(os.fsencode, argv)],
            cwd=self.folder, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=RUN_S, check=False)
        return done.returncode, done.stderr, self.calls()

    def calls(self):
        """Every call's arguments, as bytes."""
        words = iter(self.record.read_bytes().split(b"\0")[:-1])
        return [list(itertools.islice(words, int(count))) for count in words]

    def traces(self):
        """Files that were not there: something was run."""
        return sorted(set(os.listdir(self.folder)) - set(self.bait))


@pytest.fixture(scope="module")
def lab():
    with labnet.Lab() as made:
        yield made


@pytest.fixture(scope="module")
def scene(lab):
    """With the guard up, so that no hook raises it."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/net/tun")
    guard = Guard(lab)
    guard.enable(tunnel="wg9")
    lab.host.ip(f"tuntap add {LINK} mode tun")
    made = Scene(lab, guard)
    made.guard = guard
    yield made
    guard.disable(check=False)


@pytest.fixture(autouse=True)
def fresh(scene):
    scene.clear()


def is_address(text, with_port=r"([0-9.:a-fA-F]+)|\[?([0-9.:a-fA-F]+?)\]?@\d+"):
    match = re.fullmatch(with_port, text)
    try:
        return bool(match and ipaddress.ip_address(match[1] or match[2]))
    except ValueError:
        return False


def is_endpoint(text):
    return is_address(text, r"(?:([0-9.]+)|\[([0-9a-fA-F:.]+)\]):\d+/(?:udp|tcp)"
                            r"(?:,mark=(?:\d+|0x[0-9a-f]+))?")


def is_link(name):
    """A link's name that needs no quotes anywhere, as bytes."""
    return (0 < len(name) < 16 and not name.startswith(b"-")
            and name not in (b".", b"..")
            and not re.search(rb"[\x00-\x20\x7f/:\"'`\\*%@,;#{}\[\]]", name))


def faults(calls, links):
    """Calls of the program that no hook should make."""
    return [call for call in calls if not is_proper(call, links)]


def is_proper(call, links):
    if call[:3] == [b"-c", b"/dev/null", b"rules"]:
        # The question whether it is one: it need only look so.
        return len(call) == 5 and bool(re.fullmatch(
            rb"[\]\[0-9a-fA-F:.]{1,47}(@\d+)? via tunnel"
            rb"|[\]\[0-9a-fA-F:.]{1,47}:\d+/(udp|tcp)(,mark=\w+)?", call[4]))
    verb, *words = call
    options = list(zip(words[::2], map(os.fsdecode, words[1::2])))
    return (verb in (b"up", b"down") and len(words) % 2 == 0
            and words[0] == b"--tunnel" and words[1] in links
            and (verb == b"up" or len(options) == 1)
            and all(option == b"--resolver" and is_address(value)
                    or option == b"--endpoint" and is_endpoint(value)
                    for option, value in options[1:]))


def told(calls, verb="up"):
    """The calls that matter, as text."""
    return [[os.fsdecode(word) for word in call] for call in calls
            if call[0] == os.fsencode(verb)]


def attack(call, places, value, form):
    """The call with a hostile value in these places."""
    changed = {kind: getattr(call, kind).copy()
               for kind in ("env", "args", "files")}
    for kind, place in places:
        proper = os.fsencode(changed[kind][place])
        if form == "inside" and ADDRESSES.search(proper):
            hostile = ADDRESSES.sub(lambda _: value, proper)
        else:
            hostile = proper + value if form == "behind" else value
        changed[kind][place] = hostile
    return call._replace(**changed)


def attacks(call, soak=os.environ.get("LAB_SOAK") == "1"):
    """(places, value, form): what names the link, the rest at once; and each
    place alone, with one value after the other."""
    places = [("env", name) for name in call.env] + [
        ("args", number) for number in range(len(call.args))] + [
        ("files", name) for name in call.files]
    links = [(kind, place) for kind, place in places
             if getattr(call, kind)[place] == call.link]
    rest = [place for place in places
            if place not in links[:1] and place[1] not in call.steers]
    for value in HOSTILE if soak or call.resolvers else WORST:
        for link in links[:1]:
            yield [link], value, "all"
        for form in FORMS if soak or value in WORST else ["inside"]:
            yield rest, value, form
    turns = itertools.cycle(
        itertools.product(HOSTILE if soak else WORST, FORMS))
    for place in places:
        for value, form in itertools.islice(turns, 20 if soak else 2):
            yield [place], value, form


def check(scene, call, places=(), shell=()):
    """Run it; nothing else than data came of it. (exit status, calls)"""
    status, stderr, calls = scene.run(call, shell)
    given = [os.fsencode(getattr(call, kind)[place]) for kind, place in places]
    links = {os.fsencode(call.link), *filter(is_link, given),
             *(b"ipsec:" + text for text in given
               if re.fullmatch(rb"[1-9]\d{0,8}", text))}
    if call.script == "networkmanager":
        links.add(b"ipsec:any")  # what it has for a VPN without a link
    assert not scene.traces(), (places, given)
    assert not faults(calls, links), (places, given)
    assert BAIT not in str(calls), (places, given)
    assert all(re.fullmatch(rb"[ -~]{0,400}", line)
               for line in stderr.splitlines()), (places, given, stderr)
    return status, calls


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", CALLS)
def test_proper_values(scene, name, shell):
    """The control: all of it arrives, in whatever shell."""
    call = CALLS[name]
    status, stderr, calls = scene.run(call, SHELLS[shell])
    verb = "up" if call.resolvers else "down"
    assert (status, stderr) == (0, b"")
    assert not faults(calls, {os.fsencode(call.link)})
    [last] = told(calls, verb)
    assert last[:3] == [verb, "--tunnel", call.link]
    assert [value for option, value in zip(last[3::2], last[4::2])
            if option == "--resolver"] == list(call.resolvers)
    knows_carrier = call.files or call.script in ("openvpn", "library")
    assert ("--endpoint" in last) == bool(knows_carrier and call.resolvers)


@pytest.mark.parametrize("name,shell", [
    *((name, "") for name in CALLS), ("library", "busybox")])
def test_hostile_values(scene, name, shell):
    call = CALLS[name]
    for places, value, form in attacks(call):
        check(scene, attack(call, places, value, form), places,
              SHELLS.get(shell, ()))
    assert scene.guard.state in ("LOCKED", "GUARDED")


# Of the library's functions, what passes and as what.
TAKEN = {
    "hook_link wg0": "--tunnel wg0",
    "hook_link tun-a.1_b": "--tunnel tun-a.1_b",
    "hook_link t\u00e4st": "--tunnel t\u00e4st",
    "hook_link abcdefghijklmno": "--tunnel abcdefghijklmno",
    "hook_link ipsec:any": "--tunnel ipsec:any",
    "hook_link ipsec:999999999": "--tunnel ipsec:999999999",
    "hook_resolver 10.8.0.1": "--resolver 10.8.0.1",
    "hook_resolver FD00::1": "--resolver FD00::1",
    "hook_resolver ::ffff:10.8.0.1": "--resolver ::ffff:10.8.0.1",
    "hook_resolver fe80::1%tun0": "--resolver fe80::1",
    "hook_resolver 10.8.0.1 853": "--resolver 10.8.0.1@853",
    "hook_resolver fe80::1%tun0 53": "--resolver [fe80::1]@53",
    "hook_endpoint 203.0.113.7 65535 tcp": "--endpoint 203.0.113.7:65535/tcp",
    "hook_endpoint 2001:db8::7 53 udp": "--endpoint [2001:db8::7]:53/udp",
    "hook_endpoint 203.0.113.7 53 udp 0x51": "--endpoint "
                                             "203.0.113.7:53/udp,mark=0x51",
}
REFUSED = [f"hook_link {value}" for value in (
    "''", "abcdefghijklmnop", ".", "..", "-x", "a/b", "a:b", "'a b'", "a,b",
    "tun*", "'a\"b'", '"a\'b"', "'a\\b'", "ipsec:", "ipsec:0", "ipsec:01",
    "ipsec:1000000000", "ipsec:x", "ipsec:1x")] + [
        f"hook_resolver {value}" for value in (
            "''", "10.8.0", "10.8.0.1.1", "256.1.1.1", "0.0.0.0", "224.0.0.1",
            "ff02::1", "::", "1::2::3", "abcd", "10.8.0.1%tun0", "fd00::1%tun0",
            "fe80::1%", "'fe80::1%a b'", "[::1]", "10.8.0.1@53", "10.8.0.1 0",
            "10.8.0.1 65536", "10.8.0.1 053", "10.8.0.1 -1", "one.example")] + [
        f"hook_endpoint {value}" for value in (
            "'' 53 udp", "vpn.example 53 udp", "203.0.113.7 '' udp",
            "203.0.113.7 0 udp", "203.0.113.7 53 udp4", "203.0.113.7 53 ''",
            "203.0.113.7 53 udp 0", "203.0.113.7 53 udp x", "[::1] 53 udp")]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_the_library_takes(scene, shell):
    for line, taken in [*TAKEN.items(), *((line, None) for line in REFUSED)]:
        link = "" if line.startswith("hook_link") else f"hook_link {LINK}"
        scene.add("one", f'#!/bin/sh\nset -u\n. "${{0%/*}}/hook.sh"\n'
                         f'hook_name one\n{link}\n{line}\nhook_up\n')
        status, stderr, calls = scene.run(Call("one", [], {}), SHELLS[shell])
        [words] = told(calls) or [[]]
        if taken:
            assert " ".join(words).endswith(taken), (line, stderr)
            assert (status, stderr) == (0, b""), line
        else:
            assert words == (["up", "--tunnel", LINK] if link else []), line
            assert stderr.count(b"\n") == 1, (line, stderr)
            assert stderr.startswith(b"leakguard: one: "), (line, stderr)


def test_whose_program(scene):
    """A hook runs the program by its full path, wherever it is called."""
    call = CALLS["library"]
    pathlib.Path(scene.folder, "leakguard").write_text("#!/bin/sh\ntouch X\n")
    pathlib.Path(scene.folder, "leakguard").chmod(0o755)
    scene.bait = sorted(os.listdir(scene.folder))
    for value in ("leakguard", "./leakguard", "", "x/leakguard"):
        env = {"LEAKGUARD": value, "PATH": str(scene.folder), "IFS": "0",
               "ENV": str(scene.folder / "leakguard")}
        _, calls = check(scene, call._replace(env=env))
        assert len(told(calls)) == 1
    env = {"LEAKGUARD": str(scene.folder / "leakguard")}  # the control
    _, _, calls = scene.run(call._replace(env=env))
    assert not calls
    assert scene.traces()


NAIVE = {
    "eval": 'eval "server=$foreign_option_2"',
    "a pattern": 'leakguard up --tunnel "$dev" --resolver $foreign_option_2',
    "words": 'leakguard up --tunnel $dev',
    "arithmetic": 'exec bash -c \'[[ $trusted_port -le 65535 ]]\'',
}


@pytest.mark.parametrize("fault", NAIVE)
def test_a_hook_that_runs_values_is_found(scene, fault):
    """The control of all that is not found."""
    scene.add("naive", f'#!/bin/sh\nleakguard() {{ {scene.recorder} "$@"; }}\n'
                       f'{NAIVE[fault]}\n')
    call = CALLS["openvpn up"]._replace(script="naive")
    with pytest.raises(AssertionError):
        for places, value, form in attacks(call):
            check(scene, attack(call, places, value, form), places)


def test_many_foreign_options(scene):
    """The resolvers are the last of 1,000, and more than are taken."""
    env = {**OPENVPN, "script_type": "up"}
    for number in range(1, 1001):
        env[f"foreign_option_{number}"] = (
            f"dhcp-option DOMAIN d{number}.example" if number <= 900
            else f"dhcp-option DNS 10.8.{number - 900}.1")
    status, stderr, calls = scene.run(Call("openvpn", OPENVPN_ARGS, env))
    assert status == 0
    assert stderr == (b"leakguard: openvpn: more than 64 resolvers, "
                      b"the rest is left out\n")
    [up] = told(calls)
    assert [word for word in up if word.startswith("10.8.")] == [
        f"10.8.{number}.1" for number in range(1, 65)]


def test_many_hostile_options(scene):
    env = {**OPENVPN, "script_type": "up"}
    for number in range(1, 1001):
        env[f"foreign_option_{number}"] = (
            f"dhcp-option DNS $(touch {TRACE}) {number} * 10.66.66.66")
    status, calls = check(scene, Call("openvpn", OPENVPN_ARGS, env))
    assert status == 0
    assert told(calls) == [["up", "--tunnel", LINK, "--endpoint",
                            "203.0.113.7:53/udp"]]
