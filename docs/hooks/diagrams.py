"""Diagrams of the pages: drawn beforehand, so that no page has to fetch a program that draws them.

The pages hold Mermaid's text, which code hosts draw by themselves. For the site each text has a drawing beside it,
named after its hash. After a change of a diagram, with chromium and with mermaid from npm:

    python docs/hooks/diagrams.py node_modules/mermaid/dist/mermaid.min.js
"""

import hashlib
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parents[1]
FOLDER = "images/diagrams"
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FINER_THAN_PIXELS = re.compile(r"(\d\.\d)\d+| data-points=\"[^\"]*\"")
LOG = logging.getLogger("mkdocs.hooks.diagrams")

PAGE = "<!doctype html><meta charset=utf-8><body></body>"
DRAW = """async text => {
  mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false, fontFamily: "sans-serif"});
  return (await mermaid.render("diagram", text)).svg;
}"""


def name(text: str) -> str:
    """File name of the drawing of a Mermaid text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12] + ".svg"


def on_page_markdown(markdown: str, *, page: "Page", **_: object) -> str:
    """Put drawings in the place of Mermaid's text; called by mkdocs."""

    def drawing(match: "re.Match[str]") -> str:
        file = f"{FOLDER}/{name(match[1])}"
        if not (DOCS / file).is_file():
            LOG.warning("%s: a diagram has changed and is not drawn yet: see docs/hooks/diagrams.py", page.file.src_uri)
        return f"![What goes where]({file})"

    return FENCE.sub(drawing, markdown)


def draw(library: Path) -> None:
    """Draw what has no drawing, and remove drawings whose text is gone.

    Args:
        library: Mermaid, as one script.
    """
    from playwright.sync_api import sync_playwright

    texts = [text for file in sorted(DOCS.glob("*.md")) for text in FENCE.findall(file.read_text(encoding="utf-8"))]
    folder = DOCS / FOLDER
    for file in folder.glob("*.svg"):
        if file.name not in map(name, texts):
            file.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(PAGE)
        page.add_script_tag(path=library)
        for text in texts:
            if not (folder / name(text)).is_file():
                svg = FINER_THAN_PIXELS.sub(r"\1", page.evaluate(DRAW, text))
                (folder / name(text)).write_text(svg + "\n", encoding="utf-8")
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
