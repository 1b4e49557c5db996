"""The README's picture of the page, taken with chromium from a running service.

python docs/hooks/screenshot.py http://localhost:8000
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples" / "rocket.jpg"
PICTURE = ROOT / "docs" / "images" / "page.webp"
SIZE = (1100, 830)


def take(url: str) -> None:
    """Drop a photo on the page, wait for its map, and keep what is seen then.

    Args:
        url: Where the service is.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        page.goto(url)
        page.locator("input[type=file]").first.set_input_files(PHOTO)
        page.get_by_text("Quality map").wait_for()
        page.wait_for_timeout(1000)  # until the dial has come to rest
        seen = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    # A fifth of the bytes of a PNG.
    seen.convert("RGB").save(PICTURE, quality=88, method=6)


if __name__ == "__main__":
    take(sys.argv[1])
