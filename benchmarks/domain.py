"""Rate of ``out_of_domain`` warnings: on photos that the checkpoint was not trained on, and on other pictures.

The photos are those of the checkpoint's split that it was not trained on. Everything else is drawn here, by seed: blank
pictures, noise, screenshots of made-up windows, drawings and charts; as they are, and as JPEG files of quality 85. It
prints a table and writes ``benchmarks/results/domain.json``; ``--out FOLDER`` keeps the pictures, to be looked at.
"""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model import checkpoint
from model.contract import Contract
from model.images import ImageWarning
from model.options import DEFAULT_CHECKPOINT
from training import datasets, distortions, evaluator

RESULTS = Path(__file__).parent / "results" / "domain.json"
DRAWN = 40
"""Pictures of each kind."""
JPEG_QUALITY = 85
TEXT = """the open settings of a new window save as report page total user name sign in help view edit file cancel
search menu price date list of 12 2026 error message not found ok next back home account number"""
WORDS = TEXT.split()

Rng = np.random.Generator


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set the checkpoint learned on")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--out", type=Path, help="folder to keep the drawn pictures in")
    arguments = parser.parse_args()
    loaded = checkpoint.load(arguments.checkpoint)
    if loaded.contract.domain is None:
        parser.error(f"{arguments.checkpoint} does not say what its training photos are like")
    name = datasets.recognise(arguments.data) or "csv"
    data = datasets.read(name, arguments.data, datasets.learned_column(loaded.contract.scale, name))
    part, samples = evaluator.choose(loaded, data, "auto", None)
    warned = [is_outside(loaded.contract, sample.path.read_bytes()) for sample in track(samples, "photos")]
    rows = [{"kind": f"photos, {name} {part}", "pictures": len(warned), "warned": float(np.mean(warned))}]
    for kind, draw in KINDS.items():
        pictures = [draw(np.random.default_rng((number, len(kind)))) for number in range(DRAWN)]
        if arguments.out is not None:
            keep(arguments.out, kind, pictures)
        for form in ("PNG", "JPEG"):
            outside = [is_outside(loaded.contract, encoded(picture, form)) for picture in pictures]
            rows.append({"kind": f"{kind}, {form}", "pictures": DRAWN, "warned": float(np.mean(outside))})
    RESULTS.write_text(json.dumps({"checkpoint": loaded.digest, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    table = Table("pictures", "how many", "warned of")
    for row in rows:
        table.add_row(str(row["kind"]), str(row["pictures"]), f"{row['warned']:.1%}")
    Console().print(table)


def is_outside(contract: Contract, data: bytes) -> bool:
    """Whether a file gets the warning."""
    return ImageWarning.OUT_OF_DOMAIN in contract.views(contract.decode(data), 1).warnings


def encoded(picture: Image.Image, form: str) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, form, quality=JPEG_QUALITY)
    return file.getvalue()


def keep(folder: Path, kind: str, pictures: list[Image.Image]) -> None:
    """Write pictures to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{kind.replace(' ', '-')}-{number:02}.png")


def screenshot(rng: Rng) -> Image.Image:
    """A window with a bar, text, buttons and boxes, light or dark."""
    width, height = [(1280, 800), (800, 600), (390, 844), (1920, 1080)][rng.integers(4)]
    dark = rng.random() < 0.3
    paper, ink = ((30, 31, 34), (222, 222, 222)) if dark else ((255, 255, 255), (32, 33, 36))
    picture = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(picture)
    accent = tuple(int(value) for value in rng.integers(30, 220, 3))
    pen.rectangle((0, 0, width, int(rng.integers(24, 70))), fill=accent)
    margin, line = int(rng.integers(16, 80)), int(rng.integers(12, 22))
    font = ImageFont.load_default(line)
    for y in range(90, height - line, int(line * rng.uniform(1.3, 2))):
        if rng.random() < 0.75:
            pen.text((margin, y), " ".join(rng.choice(WORDS, rng.integers(2, 1 + width // 80))), ink, font)
    for _ in range(rng.integers(1, 6)):
        left, top = int(rng.integers(width - 130)), int(rng.integers(80, height - 60))
        box = (left, top, left + int(rng.integers(60, 130)), top + int(rng.integers(24, 60)))
        pen.rounded_rectangle(box, 6, fill=accent if rng.random() < 0.5 else paper, outline=ink)
    return picture


def drawing(rng: Rng) -> Image.Image:
    """Coloured shapes with outlines, smooth at their edges."""
    side = 1024
    colours = [tuple(int(value) for value in rng.integers(0, 256, 3)) for _ in range(6)]
    picture = Image.new("RGB", (side, side), colours[0] if rng.random() < 0.5 else "white")
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(4, 20)):
        points = [(float(x), float(y)) for x, y in rng.uniform(0, side, (rng.integers(2, 6), 2))]
        fill, outline = colours[rng.integers(1, 6)], "black" if rng.random() < 0.7 else None
        stroke = int(rng.integers(2, 12))
        if len(points) == 2:
            (left, right), (top, bottom) = (sorted(axis) for axis in zip(*points, strict=True))
            pen.ellipse((left, top, right, bottom), fill=fill, outline=outline, width=stroke)
        elif rng.random() < 0.3:
            pen.line(points, fill=fill, width=stroke, joint="curve")
        else:
            pen.polygon(points, fill=fill, outline=outline, width=stroke)
    return picture.resize((512, 512), Image.Resampling.LANCZOS)


def chart(rng: Rng) -> Image.Image:
    """Lines, bars, dots or a pie, as matplotlib draws them."""
    figure = Figure(figsize=(6.4, 4.8), dpi=float(rng.choice([80, 100, 150])))
    axes = figure.subplots()
    values = rng.normal(0, 1, (3, 30)).cumsum(axis=1)
    kind = rng.integers(4)
    if kind == 0:
        axes.plot(values.T)
    elif kind == 1:
        axes.bar(range(12), np.abs(values[0, :12]), color=rng.random(3))
    elif kind == 2:
        axes.scatter(values[0], values[1], c=values[2])
    else:
        axes.pie(np.abs(values[0, :5]) + 0.1, labels=list(rng.choice(WORDS, 5)))
    axes.set_title(" ".join(rng.choice(WORDS, 4)))
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file).convert("RGB")


def blank(rng: Rng) -> Image.Image:
    """One colour or two that change into each other."""
    kind = rng.choice([kind for kind in get_args(distortions.Blank) if "noise" not in kind])
    return Image.fromarray(distortions.blank(384, 512, kind, rng))


def noise(rng: Rng) -> Image.Image:
    """Noise, coloured or grey."""
    kind = rng.choice([kind for kind in get_args(distortions.Blank) if "noise" in kind])
    return Image.fromarray(distortions.blank(384, 512, kind, rng))


KINDS: dict[str, Callable[[Rng], Image.Image]] = {
    "blank": blank,
    "noise": noise,
    "screenshots": screenshot,
    "drawings": drawing,
    "charts": chart,
}


if __name__ == "__main__":
    main()
