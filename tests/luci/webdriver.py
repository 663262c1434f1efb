"""A headless Chromium in a namespace, by ChromeDriver's WebDriver protocol.

https://www.w3.org/TR/webdriver2/ over plain HTTP; only what the tests need.
"""

import base64
import http.client
import json
import os
import shutil

import netns

PORT = 9515
TAB = "\ue004"  # the protocol's name of the key
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's key of a reference
PROGRAMS = ("chromium", "chromedriver")
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--no-proxy-server",
             # No lookups and no calls home of its own.
             "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb")


def missing():
    """The programs that are not there."""
    return [name for name in PROGRAMS if not shutil.which(name)]


class WebDriverError(Exception):
    """What the driver refused, in its words."""


class Browser:
    """One window. A context manager; gone with all its processes afterwards."""

    def __init__(self, namespace, directory, size=(1180, 900)):
        self.namespace = namespace
        self.directory = f"{directory}/browser"
        os.makedirs(self.directory, exist_ok=True)
        self.session = None
        log = f"{self.directory}/chromedriver.log"
        self.driver = namespace.popen(
            ["chromedriver", f"--port={PORT}", f"--log-path={log}"],
            env={**os.environ, "HOME": self.directory, "LC_ALL": "C.UTF-8"})
        netns.wait_until(self._is_ready, "chromedriver answers", 20)
        options = {"binary": shutil.which("chromium"), "args": [
            *ARGUMENTS, f"--user-data-dir={self.directory}/profile",
            f"--window-size={size[0]},{size[1]}"]}
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}}}}, timeout=60)
        self.session = made["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            if self.session:
                self._call("DELETE", f"/session/{self.session}")
        finally:
            netns.stop(self.driver)

    def _is_ready(self):
        try:
            return self._call("GET", "/status")["ready"]
        except OSError:
            return False

    def _call(self, method, path, body=None, timeout=30):
        with self.namespace.inside():
            connection = http.client.HTTPConnection("127.0.0.1", PORT,
                                                    timeout=timeout)
            connection.connect()
        try:
            connection.request(method, path,
                               None if body is None else json.dumps(body))
            answer = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(answer, dict) and answer.get("error"):
            raise WebDriverError(f"{path}: {answer['error']}: "
                                 f"{answer['message']}")
        return answer

    def _in_session(self, method, path, body=None):
        return self._call(method, f"/session/{self.session}{path}", body)

    def _element(self, selector):
        found = netns.wait_until(
            lambda: self._in_session("POST", "/elements", {
                "using": "css selector", "value": selector}),
            f"{selector} is on the page")
        return f"/element/{found[0][ELEMENT]}"

    def open(self, url):
        self._in_session("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a function's body in the page: return ..."""
        return self._in_session("POST", "/execute/sync", {
            "script": script, "args": arguments})

    def text(self, selector):
        """What is to be read in the first of these, or None without one."""
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return e && e.innerText;", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])]"
                        ".map(e => e.innerText);", selector)

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length;",
                        selector)

    def wait_for_text(self, selector, *parts, timeout=15):
        """The text once it has all of parts in it."""
        def found():
            text = self.text(selector)
            return text if text and all(p in text for p in parts) else None
        try:
            return netns.wait_until(found, "", timeout, interval=0.1)
        except TimeoutError:
            raise AssertionError(f"{selector} has not {parts}: "
                                 f"{self.text(selector)}") from None

    def click(self, selector):
        """As a user does: it has to be in sight, and nothing above it."""
        self.run("document.querySelector(arguments[0])"
                 "?.scrollIntoView({block: 'center'});", selector)
        self._in_session("POST", f"{self._element(selector)}/click", {})

    def type(self, selector, text):
        """In place of what is there; then on to the next field, so that what
        follows from it is on the page."""
        element = self._element(selector)
        self._in_session("POST", f"{element}/clear", {})
        self._in_session("POST", f"{element}/value", {"text": text + TAB})

    def errors(self):
        """What the page's console has of errors since the last call."""
        return [entry["message"] for entry in self._in_session(
            "POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def choose(self, selector, value):
        """One of a select's options."""
        self.click(f"{selector} option[value='{value}']")

    def is_shown(self, selector):
        """Whether it takes room on the page."""
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return !!e && e.getClientRects().length > 0;", selector)

    def screenshot(self, path, width=1180):
        """All of the page, not only what the window shows."""
        height = 400
        for _ in range(2):  # the height for this width, then both
            self._cdp("Emulation.setDeviceMetricsOverride", width=width,
                      height=height, deviceScaleFactor=1, mobile=False)
            height = self.run("return document.documentElement.scrollHeight;")
        png = self._in_session("GET", "/screenshot")
        self._cdp("Emulation.clearDeviceMetricsOverride")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(png))

    def _cdp(self, command, **parameters):
        self._in_session("POST", "/goog/cdp/execute",
                         {"cmd": command, "params": parameters})
