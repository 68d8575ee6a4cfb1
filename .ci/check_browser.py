"""Open every page of the built book in headless Chromium: python .ci/check_browser.py _build/html [folder for pictures]

Prints one line a fault and exits 1 where there is any: an error on the console, an uncaught exception, a request that
fails or leaves the book, or a page wider than the window, at 1280 and at 390 pixels. With a folder, a picture of every
page at both widths goes there. Speaks the DevTools protocol over one web socket; needs no driver. Exits 3 without a browser.
"""

import base64
import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import yaml
from check_book import REPOSITORY, pages

WIDTHS_PX = (1280, 390)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDEST = """(() => {
  const room = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > room + 1);
  const inner = wide.filter(e => !e.closest('.cell_output, .pst-scrollable-table-container, pre'));
  return JSON.stringify({over_px: document.documentElement.scrollWidth - room,
    first: inner.length ? inner[0].outerHTML.slice(0, 100) : ''});
})()"""


class Browser:
    """A headless Chromium and one tab in it; `call` sends one command and keeps the events that arrive meanwhile."""

    def __init__(self, program: str):
        import websocket

        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", "--remote-allow-origins=*", "--remote-debugging-port=0", f"--user-data-dir={self.profile.name}"]
        self.process = subprocess.Popen([program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = Path(self.profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (port_file.is_file() and port_file.read_text().strip()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        targets = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        tab = next(target for target in targets if target["type"] == "page")
        self.socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
        self.number, self.events = 0, []

    def call(self, method: str, **parameters) -> dict:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, event: str, limit_s: float = 30):
        deadline = time.monotonic() + limit_s
        while not any(message.get("method") == event for message in self.events):
            if time.monotonic() > deadline:
                raise RuntimeError(f"no {event} within {limit_s:g} s")
            self.events.append(json.loads(self.socket.recv()))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=20)
        self.profile.cleanup()


def event_fault(message: dict, origin: str) -> str | None:
    """What an event of the tab says is wrong, in one line, or nothing."""
    parameters = message.get("params", {})
    match message.get("method"):
        case "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            return "exception: " + details.get("exception", {}).get("description", details["text"]).splitlines()[0]
        case "Runtime.consoleAPICalled" if parameters["type"] == "error":
            return "console: " + " ".join(str(argument.get("value", argument.get("description", ""))) for argument in parameters["args"])
        case "Log.entryAdded" if parameters["entry"]["level"] == "error":
            return f"console: {parameters['entry']['text']} {parameters['entry'].get('url', '')}"
        case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith((origin, "data:", "blob:", "about:")):
            return f"asks the network for {parameters['request']['url']}"
    return None


def visit(browser: Browser, url: str, width_px: int, origin: str, picture: Path | None) -> list[str]:
    """Faults of one page at one width."""
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width_px, height=900, deviceScaleFactor=1, mobile=width_px < 600)
    browser.call("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired")
    time.sleep(0.7)  # tables and plots that scripts draw after the page is loaded
    width = json.loads(browser.call("Runtime.evaluate", expression=WIDEST)["result"]["value"])
    if picture:
        still = "document.head.insertAdjacentHTML('beforeend', '<style>*{transition:none!important}</style>')"
        browser.call("Runtime.evaluate", expression=still)  # the picture's height is a resize, at which the side bar slides
        height = min(12_000, int(browser.call("Page.getLayoutMetrics")["cssContentSize"]["height"]))
        clip = {"x": 0, "y": 0, "width": width_px, "height": height, "scale": 1}
        data = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        picture.write_bytes(base64.b64decode(data))
    faults = [fault for fault in (event_fault(message, origin) for message in browser.events) if fault]
    if width["over_px"] > 1:
        faults.append(f"is {width['over_px']} px wider than the window of {width_px} px: {width['first']}")
    return list(dict.fromkeys(faults))


def main(arguments: list[str]) -> int:
    html = Path(arguments[0]) if arguments else REPOSITORY / "_build" / "html"
    pictures = Path(arguments[1]) if len(arguments) > 1 else None
    program = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if program is None:
        print(f"no browser to check the pages with (looked for {', '.join(BROWSERS)})", file=sys.stderr)
        return 3
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    names = pages(yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8")))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}/"
    browser, faults = Browser(program), []
    try:
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        for name in names:
            for width_px in WIDTHS_PX:
                picture = pictures / f"{name.replace('/', '-')}-{width_px}.png" if pictures else None
                faults += [f"{name} at {width_px} px: {fault}" for fault in visit(browser, f"{origin}{name}.html", width_px, origin, picture)]
    finally:
        browser.close()
        server.shutdown()
    for fault in faults:
        print(fault)
    print(f"{len(names)} pages opened at {' and '.join(map(str, WIDTHS_PX))} px, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
