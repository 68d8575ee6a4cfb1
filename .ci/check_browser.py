"""Open every page of the built book in headless Chromium: python .ci/check_browser.py _build/html [folder for pictures]

Prints one line a fault and exits 1 where there is any. On every page of the table of contents, at 390 and at 1280 pixels:
an error on the console, an uncaught exception, a request that fails or leaves the book, a page wider than the window. Then
what a reader does: on a narrow screen the menu and the contents open and close, what is folded unfolds, tables sort and
filter, sound plays, images show, links of the book lead somewhere, the search finds. axe-core looks at every page,
light and dark: what it calls serious or critical is a fault, but for `ALLOWED`. With a folder, a picture of every page at both
widths goes there. Playwright drives the Chromium that is installed and downloads none. Exits 3 without a browser.
"""

import contextlib
import functools
import http.server
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from check_book import REPOSITORY, pages

NARROW_PX, WIDE_PX = WIDTHS_PX = (390, 1280)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LIMIT_MS = 5_000  # for something to appear
ASKED = "AdaLoRA"  # what is searched for: a word of many pages

SERIOUS = ("serious", "critical")
RULES = {NARROW_PX: ("scrollable-region-focusable",), WIDE_PX: (), "dark": ("color-contrast",)}  # of axe; none: all. Others do not depend on it
ROWS = 6  # of a table that axe looks at: the others are like them
ALLOWED = {  # (rule, text of the element's HTML): what axe finds in HTML of Sphinx or the theme, and why it stays
    ("aria-required-children", 'class="citation-list"'): "Sphinx marks up a bibliography so; its entries' role no longer counts as a list's item",
}

STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"  # else what unfolds is faint for a while
DRAWN = "() => !document.querySelector('table[id^=itables_]:not(.dataTable)')"
WIDEST = """() => {
  const room = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > room + 1);
  const inner = wide.filter(e => !e.closest('.cell_output, .pst-scrollable-table-container, pre'));
  return {over_px: document.documentElement.scrollWidth - room, first: inner.length ? inner[0].outerHTML.slice(0, 100) : ''};
}"""
SIDEBARS = {"primary": "menu", "secondary": "contents"}  # the theme's name: the reader's
IN_VIEW = """link => {
  const box = link.getBoundingClientRect();
  return link.checkVisibility({visibilityProperty: true}) && box.width > 0 && box.left >= 0 && box.right <= innerWidth;
}"""
FOLDED = ".admonition.toggle-hidden, details:not([open])"
STILL_FOLDED = "fold => fold.matches('.toggle-hidden, details:not([open])') || !fold.lastElementChild.getClientRects().length"
BROKEN_IMAGES = """async () => {
  const images = [...document.images];
  images.forEach(image => image.loading = 'eager');
  await Promise.all(images.map(image => image.decode().catch(() => 0)));
  return images.filter(image => !image.naturalWidth).map(image => (image.currentSrc || image.outerHTML).slice(0, 100));
}"""
SILENT = """async () => {
  const silent = [];
  for (const sound of document.querySelectorAll('audio')) {
    sound.play().catch(() => 0);
    for (let wait = 0; wait < 50 && !sound.currentTime; wait++) await new Promise(done => setTimeout(done, 60));
    if (!sound.currentTime) silent.push((sound.currentSrc || sound.outerHTML).slice(0, 100));
    sound.pause();
  }
  return silent;
}"""


@contextlib.contextmanager
def served(html: Path):
    """The address at which the folder `html` is served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def opened(program: str, origin: str):
    """A page of the browser `program`, and the list to which its complaints about the book at `origin` go."""
    from playwright.sync_api import sync_playwright

    complaints = []

    def said(message):
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def asked(request):
        if not request.url.startswith((origin, "data:", "blob:", "about:")):
            complaints.append(f"asks the network for {request.url}")

    def failed(request):
        if request.resource_type != "media" or "ERR_ABORTED" not in (request.failure or ""):  # of a sound a browser reads as much as it needs
            complaints.append(f"request failed: {request.url} {request.failure}")

    def answered(response):
        if response.status >= 400:
            complaints.append(f"status {response.status}: {response.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--autoplay-policy=no-user-gesture-required"])
        page = browser.new_page(has_touch=True)
        page.set_default_timeout(LIMIT_MS)
        page.set_default_navigation_timeout(12 * LIMIT_MS)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"exception: {str(error).splitlines()[0]}"))
        page.on("request", asked)
        page.on("requestfailed", failed)
        page.on("response", answered)
        yield page, complaints
        browser.close()


def appears(locator) -> bool:
    """Whether an element becomes visible within the limit."""
    from playwright.sync_api import TimeoutError as TooLate

    try:
        locator.first.wait_for()
    except TooLate:
        return False
    return True


def width_faults(page) -> list[str]:
    """A page that scrolls sideways, with the first element that is too wide."""
    width = page.evaluate(WIDEST)
    return [f"is {width['over_px']} px wider than the window: {width['first']}"] if width["over_px"] > 1 else []


def sidebar_faults(page) -> list[str]:
    """On a narrow screen: a menu or contents that a tap on its button does not show, or a tap beside it does not close."""
    faults = []
    for kind, name in SIDEBARS.items():
        link = page.locator(f".bd-sidebar-{kind} a[href]").first
        if not link.count():
            continue
        button = page.locator(f".{kind}-toggle:visible").first
        if not button.count():
            faults.append(f"has no button for its {name}")
            continue
        button.tap()
        if not link.evaluate(IN_VIEW):
            faults.append(f"does not show its {name} by a tap on the button")
            continue
        box = page.locator(f".bd-sidebar-{kind}").first.bounding_box()
        beside = box["x"] / 2 if box["x"] > 1 else (box["x"] + box["width"] + page.viewport_size["width"]) / 2
        page.touchscreen.tap(beside, page.viewport_size["height"] / 2)
        if link.evaluate(IN_VIEW):
            faults.append(f"does not close its {name} by a tap beside it")
            page.keyboard.press("Escape")
    return faults


def fold_faults(page) -> list[str]:
    """What is folded and does not unfold by a click on its title. Afterwards all is unfolded, so that axe sees it too."""
    faults = []
    for fold in page.query_selector_all(FOLDED):
        title = fold.query_selector(".admonition-title, summary")
        if title is not None and title.is_visible():  # else it is folded within something that has not unfolded
            title.click()
            if fold.evaluate(STILL_FOLDED):
                faults.append(f"does not unfold: {title.inner_text()[:60]!r}")
    return faults


def table_faults(page) -> list[str]:
    """Interactive tables that do not sort by a click on a header, or do not filter by a word."""
    faults = []
    for number, table in enumerate(page.locator(".dt-container").all(), start=1):
        body = table.locator("tbody tr")
        before = body.all_inner_texts()
        columns = list(zip(*(row.split("\t") for row in before), strict=False))
        varied = next((column for column, values in enumerate(columns) if len(set(values)) > 1), None)
        if varied is None:
            faults.append(f"interactive table {number} has nothing to sort: {len(before)} rows")
            continue
        header, orders = table.locator("thead th").nth(varied), []
        for order in ("ascending", "descending"):
            header.click()
            appears(table.locator(f"th[aria-sort={order}]"))
            orders.append(body.all_inner_texts())
        if orders[0] == orders[1] or not sorted(orders[0]) == sorted(orders[1]) == sorted(before):
            faults.append(f"interactive table {number} does not sort by {header.inner_text()!r}")
        counts = Counter(word for row in before for word in set(re.findall(r"\w+", row)))
        word = min(counts, key=lambda word: (counts[word], -len(word), word))
        table.locator("input[type=search]").fill(word)
        left = body.all_inner_texts()
        if not 0 < len(left) < len(before) or not all(word.lower() in row.lower() for row in left):
            faults.append(f"interactive table {number} shows {len(left)} of {len(before)} rows for {word!r}")
        table.locator("input[type=search]").fill("")
    return faults


def media_faults(page) -> list[str]:
    """Images without pixels and sound that stands still."""
    silent = [f"sound does not play: {sound}" for sound in page.evaluate(SILENT)]
    return silent + [f"image does not show: {image}" for image in page.evaluate(BROKEN_IMAGES)]


def link_faults(page, origin: str, html: Path) -> list[str]:
    """Links of the book to files that are not there, links that scripts have written among them."""
    faults = []
    addresses = page.evaluate("() => [...document.links].map(link => link.href)")
    for address in dict.fromkeys(address.split("#")[0] for address in addresses if address.startswith(origin)):
        path = html / unquote(urlsplit(address).path).lstrip("/")
        if not (path.is_file() or (path / "index.html").is_file()):
            faults.append(f"link leads nowhere: {address.removeprefix(origin)}")
    return faults


def axe_faults(page, rules: Sequence[str] = (), excused: set | None = None) -> list[str]:
    """What axe-core calls serious or critical, a line a rule with its first element.

    `rules` are looked at instead of all. `excused` collects the entries of `ALLOWED` that were needed.
    """
    from axe_playwright_python.sync_playwright import Axe

    # without preload, for which axe asks for style sheets at addresses that do not exist
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": list(rules)} if rules else {})
    context = {"exclude": [[f"tbody tr:nth-child(n+{ROWS + 1})"]]}
    faults = []
    for violation in Axe().run(page, context, options).response["violations"]:
        stay = []
        for node in violation["nodes"]:
            entry = next((entry for entry in ALLOWED if entry[0] == violation["id"] and entry[1] in node["html"]), None)
            if entry is None:
                stay.append(node)
            elif excused is not None:
                excused.add(entry)
        if stay and violation["impact"] in SERIOUS:
            reasons = stay[0]["any"] + stay[0]["all"] + stay[0]["none"]
            why = reasons[0]["message"] if reasons else violation["help"]
            faults.append(f"axe {violation['id']}, {len(stay)} times: {stay[0]['html'][:160]} ({why})")
    return faults


def search_faults(page, origin: str) -> list[str]:
    """A search that lists nothing for a word of the book, or a page without the word."""
    page.goto(f"{origin}search.html?q={ASKED}")
    found = page.locator("#search-results li a").first
    if not appears(found):
        return [f"finds nothing for {ASKED!r}"]
    page.wait_for_load_state("networkidle")  # it reads the pages that it found; a click before would break that off
    found.click()
    page.wait_for_load_state()
    return [] if ASKED in page.locator("article").inner_text() else [f"{page.url.removeprefix(origin)} was found for {ASKED!r} and does not say it"]


def visit(page, address: str, width_px: int, picture: Path | None) -> None:
    """Opens a page at a width, waits until it is drawn, and takes its picture."""
    page.set_viewport_size({"width": width_px, "height": 900})
    page.goto(address)
    page.wait_for_function(DRAWN)
    page.add_style_tag(content=STILL)
    if picture:
        height_px = min(12_000, page.evaluate("() => document.documentElement.scrollHeight"))
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": width_px, "height": height_px})


def check(html: Path, names: Sequence[str], program: str, pictures: Path | None = None, excused: set | None = None) -> list[str]:
    """All faults of the built book in `html` with the pages `names`, as the browser `program` shows it."""
    faults = []

    def note(where, found):
        faults.extend(f"{where}: {fault}" for fault in dict.fromkeys([*found, *complaints]))
        complaints.clear()

    with served(html) as origin, opened(program, origin) as (page, complaints):
        for name in names:
            for width_px in WIDTHS_PX:
                visit(page, f"{origin}{name}.html", width_px, pictures / f"{name.replace('/', '-')}-{width_px}.png" if pictures else None)
                found = width_faults(page)
                if width_px == NARROW_PX:
                    found += sidebar_faults(page)
                found += fold_faults(page)
                if width_px == WIDE_PX:
                    found += table_faults(page) + media_faults(page) + link_faults(page, origin, html)
                note(f"{name} at {width_px} px", found + axe_faults(page, RULES[width_px], excused))
            page.evaluate("() => document.documentElement.dataset.theme = 'dark'")
            note(f"{name} in the dark", axe_faults(page, RULES["dark"], excused))
        note("search", search_faults(page, origin))
    return faults


def installed() -> str | None:
    """The path of a Chromium, or nothing."""
    return next((found for found in map(shutil.which, BROWSERS) if found), None)


def main(arguments: list[str]) -> int:
    html = Path(arguments[0]) if arguments else REPOSITORY / "_build" / "html"
    pictures = Path(arguments[1]) if len(arguments) > 1 else None
    program = installed()
    if program is None:
        print(f"no browser to check the pages with (looked for {', '.join(BROWSERS)})", file=sys.stderr)
        return 3
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
    names = pages(yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8")))
    started, excused = time.monotonic(), set()
    faults = check(html, names, program, pictures, excused)
    faults += [f"axe {rule} of {mark} is gone: take it out of ALLOWED" for rule, mark in ALLOWED if (rule, mark) not in excused]
    for fault in faults:
        print(fault)
    sizes, took_s = " and ".join(map(str, WIDTHS_PX)), time.monotonic() - started
    print(f"{len(names)} pages opened at {sizes} px in {took_s:.0f} s, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
