"""Print the built book into one PDF: python .ci/book_pdf.py _build/html _build/pdf/book.pdf

Every page of the table of contents in its order, printed by the installed Chromium as it shows on paper, with an outline by part and
page. The pages are served under the address where the book is published, so that a link in the PDF leads there. Exits 3
without a browser.
"""

import io
import mimetypes
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from check_book import REPOSITORY, pages
from check_browser import BROWSERS

LIMIT_MS = 60_000
PAPER = {"format": "A4", "scale": 0.72, "print_background": True, "margin": {"top": "15mm", "bottom": "15mm", "left": "14mm", "right": "14mm"}}
ON_PAPER = """
  .bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, .prev-next-footer, .bd-footer-content, .bd-header { display: none !important; }
  .bd-article-container, .bd-main, .bd-content { max-width: none !important; }
  .asum-scroll, .cell_output, .output, div.dt-scroll-body, .pst-scrollable-table-container {
    overflow: visible !important; max-height: none !important; }
  table { font-size: 0.8rem; } th, td { white-space: normal !important; }
  img, svg, tr { break-inside: avoid; } h1, h2, h3 { break-after: avoid; }
  audio, .dt-search, .dt-paging, .dt-length { display: none !important; }
"""


def parts(toc: dict) -> list[tuple[str, list[str]]]:
    """(caption, its pages) of a `_toc.yml`, the root first under the book's title."""
    found = [("", pages({"root": toc["root"]}))]
    return found + [(part["caption"], pages({"chapters": part["chapters"]})) for part in toc["parts"]]


def main(arguments: list[str]) -> int:
    html, out = Path(arguments[0]), Path(arguments[1])
    program = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if program is None:
        print(f"no browser to print the pages with (looked for {', '.join(BROWSERS)})", file=sys.stderr)
        return 3
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    site = yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8"))["html"]["baseurl"].rstrip("/")
    toc = yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8"))

    def serve(route):
        path = html / unquote(urlsplit(route.request.url).path.removeprefix(urlsplit(site).path).lstrip("/"))
        if not route.request.url.startswith(site) or not path.is_file():
            return route.abort()
        return route.fulfill(body=path.read_bytes(), content_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    book = PdfWriter()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(LIMIT_MS)
        page.route("**/*", serve)
        for caption, names in parts(toc):
            part = None
            for name in names:
                page.goto(f"{site}/{name}.html", wait_until="load")
                page.evaluate("document.documentElement.dataset.theme = 'light'")
                page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
                page.add_style_tag(content=ON_PAPER)
                title, first = page.title().split(" — ")[0], len(book.pages)
                book.append(PdfReader(io.BytesIO(page.pdf(**PAPER))), import_outline=False)
                if caption and part is None:
                    part = book.add_outline_item(caption, first)
                book.add_outline_item(title, first, parent=part)
        browser.close()
    book.add_metadata({"/Title": yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8"))["title"]})
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        book.write(file)
    print(f"{out}: {len(book.pages)} pages", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
