"""Golden pictures: a check at start-up that this machine computes the scores that were recorded with the checkpoint.

It finds wrong files, precisions, drivers and preprocessing before any request is answered. The pictures are drawn by
this module, so every checkpoint can include them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from model.scorer import Scorer

FILE = "golden.json"
PICTURES = "golden"
TOLERANCE = {"fp32": 0.01, "bf16": 1.0, "int8": 3.0}
"""In points of 100. Tolerates floating-point reordering; catches changed preprocessing."""


class GoldenMismatch(RuntimeError):
    """Scores differ from the recorded ones; the message lists them."""


@dataclass(frozen=True, kw_only=True)
class GoldenScore:
    """One golden picture: its file name, its recorded score, and its score on this machine."""

    file: str
    expected: float
    actual: float


def write(scorer: Scorer) -> None:
    """Draw the golden pictures into the checkpoint folder of an fp32 scorer and record their scores."""
    assert scorer.engine.precision == "fp32"
    folder = scorer.checkpoint.folder
    (folder / PICTURES).mkdir(exist_ok=True)
    entries = []
    for name, image, options in _drawings():
        file = folder / PICTURES / name
        image.save(file, **options)
        entries.append({"file": name, "score": scorer.score(file).score})
    text = json.dumps({"tolerance": TOLERANCE, "pictures": entries}, indent=2)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def verify(scorer: Scorer) -> list[GoldenScore]:
    """Score the golden pictures of the scorer's checkpoint and compare with the recorded scores.

    Raises:
        GoldenMismatch: A score is off by more than the tolerance, or the pictures are missing or cannot be read.
    """
    folder = scorer.checkpoint.folder
    try:
        golden = json.loads((folder / FILE).read_text(encoding="utf-8"))
        # The file may narrow the tolerance, never widen it.
        own = TOLERANCE[scorer.engine.precision]
        tolerance = min(float(golden["tolerance"].get(scorer.engine.precision, own)), own)
        results = [
            GoldenScore(
                file=entry["file"],
                expected=float(entry["score"]),
                actual=scorer.score(folder / PICTURES / Path(entry["file"]).name).score,
            )
            for entry in golden["pictures"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GoldenMismatch(f"{folder / FILE}: the golden pictures cannot be scored: {error}") from error
    # Negated so that NaN counts as off.
    off = [result for result in results if not abs(result.actual - result.expected) <= tolerance]
    if off or not results:
        listed = ", ".join(f"{result.file} {result.actual} instead of {result.expected}" for result in off)
        raise GoldenMismatch(f"{folder}: golden scores differ by more than {tolerance}: {listed or 'there are none'}")
    return results


def _drawings() -> list[tuple[str, Image.Image, dict[str, Any]]]:
    """Three small pictures for three paths through the contract: exact size, resized, enlarged."""
    y, x = np.mgrid[0:384, 0:512].astype(np.float64)
    waves = np.stack([np.sin(x / 9 + y / 31), np.cos(x / 23 - y / 7), np.sin((x + y) / 17)], axis=-1)
    noise = np.random.default_rng(7).normal(0, 0.25, waves.shape)
    smooth, rough = (Image.fromarray(np.uint8(127.5 + 100 * np.clip(field, -1, 1))) for field in (waves, waves + noise))
    return [
        ("waves.png", smooth, {}),
        ("noise.jpg", rough.resize((768, 576), Image.Resampling.BICUBIC), {"quality": 85}),
        ("small.webp", rough.resize((200, 160), Image.Resampling.BICUBIC), {"quality": 60}),
    ]
