"""Missed focus and noise in pictures of 12 megapixels: ``python -m benchmarks.missed_focus``.

    python -m benchmarks.missed_focus --data BIQ2021 --checkpoint runs/heads

Each picture is stitched from 48 photos that the checkpoint was not trained on, the best by their labels, so that it has
detail down to its pixels; nothing is enlarged. Blur and noise are added in those pixels. It prints a table and writes
``benchmarks/results/missed_focus.json``.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from training import datasets, defects, evaluator
from training.datasets import Sample

RESULTS = Path(__file__).parent / "results" / "missed_focus.json"
PICTURES = 8
COLUMNS, ROWS, SIDE = 8, 6, 500
"""Photos across and down, and what is left of each, in pixels: 4000x3000."""
QUALITY = 92
FLAGGED = 0.5
"""Severity from which a defect counts as found."""
STEPS = (("defocus", 1.0), ("defocus", 1.5), ("defocus", 2.0), ("defocus", 3.0), ("noise", 8.0), ("noise", 16.0))
"""Defects, and their strengths in units of ``defects.STRENGTHS``."""


def main() -> None:
    """Stitch, score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set the checkpoint learned on")
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--left-out", action="append", default=[], help="source whose labels say little of quality")
    arguments = parser.parse_args()
    scorer = Scorer.load(arguments.checkpoint)
    loaded = scorer.checkpoint
    if not loaded.contract.defects:
        parser.error(f"{arguments.checkpoint} finds no defects")
    name = datasets.recognise(arguments.data) or "csv"
    data = datasets.read(name, arguments.data, datasets.learned_column(loaded.contract.scale, name))
    _, samples = evaluator.choose(loaded, data, "auto", None)
    best = sorted(
        (sample for sample in samples if sample.source not in arguments.left_out), key=lambda sample: -sample.mos
    )
    pictures = list(stitched(best))
    rows = []
    for defect, strength in (("", 0.0), *STEPS):
        found = []
        for place, pixels_HWC in enumerate(track(pictures, f"{defect or 'untouched'} {strength or ''}")):
            added = {defect: defects.severity(defect, strength)} if defect else {}
            degraded_HWC = defects.add(pixels_HWC, added, np.random.default_rng(place))
            file = io.BytesIO()
            Image.fromarray(degraded_HWC).save(file, "JPEG", quality=QUALITY)
            found.append(scorer.score(file.getvalue()))
        for looked_for in (defect,) if defect else ("defocus", "noise"):
            severities = [score.defects[looked_for].severity for score in found]
            rows.append(
                {
                    "added": f"{defect} {strength:g}".strip() if defect else "nothing",
                    "looked for": looked_for,
                    "pictures": len(found),
                    "flagged": float(np.mean(np.array(severities) >= FLAGGED)),
                    "severity": round(float(np.mean(severities)), 3),
                    "probability": round(float(np.mean([score.defects[looked_for].probability for score in found])), 3),
                    "score": round(float(np.mean([score.score for score in found])), 1),
                }
            )
    RESULTS.write_text(json.dumps({"checkpoint": loaded.digest, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def stitched(samples: Sequence[Sample]) -> Iterator[NDArray[np.uint8]]:
    """Pictures (3000, 4000, 3) of photos that are at least ``SIDE`` pixels wide and high."""
    squares = []
    for sample in samples:
        image = Image.open(sample.path).convert("RGB")
        if min(image.size) >= SIDE:
            squares.append(np.asarray(image)[:SIDE, :SIDE])
        if len(squares) == PICTURES * COLUMNS * ROWS:
            break
    for start in range(0, len(squares) - COLUMNS * ROWS + 1, COLUMNS * ROWS):
        own = squares[start : start + COLUMNS * ROWS]
        yield np.concatenate([np.concatenate(own[row * COLUMNS : (row + 1) * COLUMNS], axis=1) for row in range(ROWS)])


if __name__ == "__main__":
    main()
