"""A stand-in for what LuCI talks to on a router: uhttpd, its /ubus, sessions.

The ubus object `leakguard` is the real rpcd script with the real program, in
tests/openwrt's stand-in for the rest of a router; `uci` is uci_file.py. Pages are found by the package's menu file, and a call is let
through as its ACL file says, for a session that may write (`root`) or only
read (`viewer`).
"""

import html
import http.server
import json
import pathlib
import threading

from uci_file import UciError, UciFile

HERE = pathlib.Path(__file__).resolve().parent
OPENWRT = HERE.parents[1] / "scripts/packaging/openwrt"
APP = OPENWRT / "luci-app-leakguard"
MENU = APP / "root/usr/share/luci/menu.d/luci-app-leakguard.json"
ACL = APP / "root/usr/share/rpcd/acl.d/luci-app-leakguard.json"
RESOURCES = "/luci-static/resources/"
LUCI = "/cgi-bin/luci/"
SESSIONS = {"root": "a" * 32, "viewer": "b" * 32}
TYPES = {".js": "text/javascript", ".css": "text/css"}

INVALID_ARGUMENT, METHOD_NOT_FOUND, PERMISSION_DENIED = 2, 3, 6  # ubusmsg.h
ACCESS_DENIED = -32002  # uhttpd's code for JSON-RPC

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title} - LuCI (stand-in)</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/luci-static/resources/standin.css"></head>
<body><header><b>OpenWrt</b> <span>a stand-in of LuCI, for tests</span></header>
<div id="maincontent" class="container">
<ul class="tabs">{tabs}</ul><div id="messages"></div>
<div id="view"><div class="spinning">Loading view…</div></div></div>
<script src="/luci-static/resources/luci.js"></script>
<script>L.boot({env});</script></body></html>
"""


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


class Acl:
    """What the package's ACL file gives to a session."""

    def __init__(self, path=ACL):
        self.groups = load(path)

    def allows(self, user, kind, name, method=None):
        """kind "ubus" with object and method, or "uci" with a config and
        "read" or "write"."""
        for group in self.groups.values():
            for access in ("read", "write") if user == "root" else ("read",):
                given = group.get(access, {}).get(kind, {})
                if kind == "uci":
                    if name in given and method == access:
                        return True
                elif method in given.get(name, ()):
                    return True
        return False

    def allows_ubus(self, user, name, method, config):
        if name != "uci":
            return self.allows(user, "ubus", name, method)
        if method == "confirm":
            return True
        access = "read" if method in ("get", "changes") else "write"
        if method == "apply":
            config = "leakguard"
        return self.allows(user, "uci", config, access)


class LuciServer:
    """The web server of tests/openwrt's Router. A context manager."""

    def __init__(self, router, address):
        self.router = router
        self.uci = UciFile({name: router.config.parent / name
                            for name in ("leakguard", "network")}, router.reload)
        self.url = f"http://{address}"
        self.acl = Acl()
        self.calls = []
        self.answers = {}  # of leakguard's methods, in place of the real ones
        whose = self

        class Handler(_Handler):
            """With the server it belongs to."""
            owner = whose

        with router.host.inside():
            self.server = http.server.ThreadingHTTPServer((address, 80), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)

    def page_url(self, name, user="root"):
        return f"{self.url}/login/{user}/admin/services/leakguard/{name}"

    def leakguard(self, method, args):
        """(ubus status, answer) of the rpcd script, as rpcd runs it: what it
        prints counts, not how it ends."""
        if method in self.answers:
            return 0, self.answers[method]
        done = self.router.rpcd("call", method, stdin=json.dumps(args), check=False)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            return INVALID_ARGUMENT, None
        return 0, answer

    def ubus(self, user, name, method, args):
        self.calls.append((name, method, args))
        if not self.acl.allows_ubus(user, name, method, args.get("config")):
            return PERMISSION_DENIED, None
        if name == "leakguard":
            return self.leakguard(method, args)
        if name == "uci":
            try:
                return 0, self.uci.call(method, args)
            except UciError as error:
                return error.code, None
        return METHOD_NOT_FOUND, None

    def render(self, path, user):
        """The page at a place of the menu, or None."""
        menu = load(MENU)
        node = menu.get(path)
        if node and node["action"]["type"] == "firstchild":
            children = sorted((n.get("order", 0), p) for p, n in menu.items()
                              if p.rpartition("/")[0] == path)
            path, node = children[0][1], menu[children[0][1]]
        if not node:
            return None
        tabs = "".join(
            f'<li class="{"active" if p == path else ""}">'
            f'<a href="{LUCI}{p}">{html.escape(n["title"])}</a></li>'
            for p, n in menu.items()
            if p.rpartition("/")[0] == path.rpartition("/")[0]
            and n["action"]["type"] == "view")
        env = {"sessionid": SESSIONS[user], "ubuspath": "/ubus/", "pollinterval": 1,
               "resource": RESOURCES.rstrip("/"), "requestpath": path.split("/"),
               "view": node["action"]["path"],
               "readonly": not any("write" in group and user == "root"
                                   for group in self.acl.groups.values())}
        return PAGE.format(title=html.escape(node["title"]), tabs=tabs,
                           env=json.dumps(env).replace("<", "\\u003c"))


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    owner = None

    def log_message(self, *_):
        pass

    def _user(self):
        wanted = (self.headers.get("Cookie") or "").partition("sysauth_http=")[2]
        return next((user for user, sid in SESSIONS.items()
                     if wanted.startswith(sid)), None)

    def _send(self, code, kind, body, **headers):
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/login/"):
            user, _, place = path[len("/login/"):].partition("/")
            return self._send(302, "text/plain", b"", Location=LUCI + place,
                              Set_Cookie=f"sysauth_http={SESSIONS[user]}; path=/")
        if path.startswith(RESOURCES):
            return self._send_resource(path[len(RESOURCES):])
        user, page = self._user(), None
        if user and path.startswith(LUCI):
            page = self.owner.render(path[len(LUCI):], user)
        if page is None:
            return self._send(404, "text/plain", b"no such page")
        return self._send(200, "text/html", page.encode())

    def _send_resource(self, name):
        for folder in (APP / "htdocs/luci-static/resources", HERE / "standin"):
            file = (folder / name).resolve()
            if file.is_relative_to(folder) and file.is_file():
                return self._send(200, TYPES[file.suffix], file.read_bytes())
        return self._send(404, "text/plain", b"no such file")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        requests = json.loads(self.rfile.read(length))
        answers = [self._answer(one) for one in
                   (requests if isinstance(requests, list) else [requests])]
        body = answers if isinstance(requests, list) else answers[0]
        self._send(200, "application/json", json.dumps(body).encode())

    def _answer(self, request):
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        session, name, method, args = request["params"]
        user = next((u for u, sid in SESSIONS.items() if sid == session), None)
        if self._user() != user or user is None:
            answer["error"] = {"code": ACCESS_DENIED, "message": "Access denied"}
            return answer
        status, value = self.owner.ubus(user, name, method, args)
        if status == PERMISSION_DENIED:
            answer["error"] = {"code": ACCESS_DENIED, "message": "Access denied"}
        else:
            answer["result"] = [status] if value is None else [status, value]
        return answer
