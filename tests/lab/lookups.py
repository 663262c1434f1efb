"""Programs that look a name up for their own use.

Through the C library and resolv.conf, as most do; or by a resolver of their
own, with its server built in.
"""

import pathlib
import re
import subprocess

from clients import Asked
from probes import new_label
from resolvers import TAGS, ZONE

HERE = pathlib.Path(__file__).resolve().parent
CLOSED_PORT = 9  # what curl would fetch from, were anybody there
ADDRESS = re.compile(r"198\.18\.0\.\d+")  # resolvers.ANSWERS

# No proxy_dns: the name is looked up before, and beside, the proxy.
PROXYCHAINS = """
strict_chain
tcp_read_time_out 1000
tcp_connect_time_out 1000
[ProxyList]
socks5 127.0.0.1 1080
"""


def _curl(name):
    return ["curl", "-4", "-sv", "--max-time", "8",
            f"http://{name}:{CLOSED_PORT}/"]


def _own(library, name, *server):
    return ["/usr/bin/python3", HERE / "own_resolver.py", library, name,
            *server]


# name -> (lab, query name) -> argv; each reads resolv.conf.
BY_RESOLV_CONF = {
    "getent": lambda _, n: ["getent", "ahostsv4", n],
    "curl": lambda _, n: _curl(n),
    "ping": lambda _, n: ["ping", "-4", "-c", "1", "-W", "1", n],
    "proxychains4": lambda lab, n: ["proxychains4", "-q", "-f",
                                    proxychains_conf(lab), *_curl(n)],
    "musl, static": lambda lab, n: [static_lookup(lab), n],
    "c-ares": lambda _, n: _own("c-ares", n),
    "dnspython": lambda _, n: _own("dnspython", n),
    "busybox nslookup": lambda _, n: ["busybox", "nslookup", n],
}

# name -> (query name, server) -> argv; resolv.conf says something else.
BY_OWN_SERVER = {
    "c-ares": lambda n, s: _own("c-ares", n, s),
    "dnspython": lambda n, s: _own("dnspython", n, s),
    "busybox nslookup": lambda n, s: ["busybox", "nslookup", n, s],
}


def proxychains_conf(lab):
    path = pathlib.Path(lab.dir, "proxychains.conf")
    path.write_text(PROXYCHAINS, encoding="ascii")
    return path


def static_lookup(lab):
    """The program of tools/static_lookup.c; built once a lab."""
    path = pathlib.Path(lab.dir, "static_lookup")
    if not path.exists():
        source = HERE / "tools/static_lookup.c"
        subprocess.run(["musl-gcc", "-static", "-Os", "-o", path, source],
                       check=True, timeout=30)
    return path


def look_up(lab, program):
    """One of BY_RESOLV_CONF looks a new name up, on the host."""
    label = new_label()
    return _run(lab, label, BY_RESOLV_CONF[program](lab, f"{label}.{ZONE}"))


def look_up_at(lab, program, server):
    """One of BY_OWN_SERVER asks its built-in server, on the host."""
    label = new_label()
    return _run(lab, label, BY_OWN_SERVER[program](f"{label}.{ZONE}", server))


def _run(lab, label, args):
    result = lab.host.run(args, check=False)
    tags = {TAGS.get(address) for address in
            ADDRESS.findall(result.stdout + result.stderr)}
    return Asked(label, tags.pop() if tags else None, result)


def resolv_conf(*servers, options="timeout:1 attempts:2"):
    return "".join(f"nameserver {server}\n" for server in servers) \
        + f"options {options}\n"
