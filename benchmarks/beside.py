"""Pictures a second of two checkpoints, by turns: ``python -m benchmarks.beside --other FOLDER``.

    git archive 50ac8cb checkpoints/default | tar -x -C /tmp
    python -m benchmarks.beside --other /tmp/checkpoints/default

Photos of 512x512 and of 12 megapixels, as JPEG, go from bytes to scores as ``smart-iqa score`` sends them. They are
made of ``examples/``, of 12 megapixels by laying photos side by side: nothing is enlarged. Each turn scores the same
pictures by both checkpoints; the ratio is the median of the turns. The multiply-accumulates of a picture are counted as
well. It prints a table and writes ``benchmarks/results/beside.json``.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from training import complexity

RESULTS = Path(__file__).parent / "results" / "beside.json"
EXAMPLES = Path(__file__).parents[1] / "examples"
SIZES = {"512x512": (512, 512), "4000x3000": (4000, 3000)}
TURNS = 9
"""Turns of both checkpoints; the first is not counted."""
SECONDS = 3.0
"""About how long a checkpoint's part of a turn takes."""


def main() -> None:
    """Make pictures, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT)
    parser.add_argument("--other", type=Path, required=True, help="the checkpoint that it is compared with")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    scorers = [Scorer.load(folder) for folder in (arguments.checkpoint, arguments.other)]
    rows = []
    for name, size in SIZES.items():
        pictures = list(made(*size))
        seconds = [rate(scorer, pictures) for scorer in scorers]
        repeats = [max(round(SECONDS / (one * len(pictures))), 1) for one in seconds]
        found = []
        for _ in track(range(arguments.turns), name):
            pairs = zip(scorers, repeats, strict=True)
            found.append([1 / rate(scorer, pictures * repeat) for scorer, repeat in pairs])
        own, other = (statistics.median(turn[place] for turn in found[1:]) for place in (0, 1))
        rows.append(
            {
                "pictures": name,
                "GMACs": [round(gmacs(scorer, pictures[0]), 2) for scorer in scorers],
                "pictures a second": [round(own, 2), round(other, 2)],
                "times as many": round(statistics.median(turn[0] / turn[1] for turn in found[1:]), 2),
                "from": round(min(turn[0] / turn[1] for turn in found[1:]), 2),
                "to": round(max(turn[0] / turn[1] for turn in found[1:]), 2),
            }
        )
    checkpoints = [scorer.checkpoint.digest for scorer in scorers]
    RESULTS.write_text(json.dumps({"checkpoints": checkpoints, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def made(width: int, height: int) -> Iterator[bytes]:
    """JPEGs of a size, one from each example and its neighbours: photos side by side, cut off at the edges."""
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(EXAMPLES.glob("*.jpg"))]
    tall = min(len(photo) for photo in photos)
    for first in range(len(photos)):
        strip = np.concatenate([photo[:tall] for photo in photos[first:] + photos[:first]], axis=1)
        sheet = np.tile(strip, (-(-height // tall), -(-width // strip.shape[1]), 1))[:height, :width]
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=92)
        yield file.getvalue()


def rate(scorer: Scorer, pictures: list[bytes]) -> float:
    """Seconds a picture."""
    started = time.perf_counter()
    for _, result in scorer.score_many(pictures):
        if isinstance(result, Exception):
            raise result
    return (time.perf_counter() - started) / len(pictures)


def gmacs(scorer: Scorer, picture: bytes) -> float:
    """Billions of multiplications and additions that the network does for a picture."""
    contract = scorer.checkpoint.contract
    views = contract.views(contract.decode(picture))
    items = [*views.items, *(() if views.details is None else views.details)]
    return sum(complexity.gmacs(scorer.checkpoint.network, *item.shape[:2]) for item in items)


if __name__ == "__main__":
    main()
