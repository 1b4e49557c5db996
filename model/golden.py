"""Golden pictures: the proof at start-up that this machine gives the scores that the checkpoint was shipped with.

A wrong file, precision, driver or preprocessing step shows here, before a request can meet it. The pictures are drawn
by this module, so that any checkpoint can carry them.
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
"""Points of 100: room for another processor's order of summation, none for another preprocessing."""


class GoldenMismatch(RuntimeError):
    """Scores differ from the golden ones; the message lists them."""


@dataclass(frozen=True, kw_only=True)
class GoldenScore:
    """One golden picture: its file name, the score it must get, and the one it got."""

    file: str
    expected: float
    actual: float


def write(scorer: Scorer) -> None:
    """Draw the golden pictures into the scorer's checkpoint folder and record their scores, computed in fp32."""
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
    """Score the golden pictures of the scorer's checkpoint and compare.

    Raises:
        GoldenMismatch: There are none, they cannot be read, or a score is off by more than the tolerance.
    """
    folder = scorer.checkpoint.folder
    try:
        golden = json.loads((folder / FILE).read_text(encoding="utf-8"))
        # The file may ask for more exactness, never for less.
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
    # Written so that a score that is not a number counts as off.
    off = [result for result in results if not abs(result.actual - result.expected) <= tolerance]
    if off or not results:
        listed = ", ".join(f"{result.file} {result.actual} instead of {result.expected}" for result in off)
        raise GoldenMismatch(f"{folder}: golden scores differ by more than {tolerance}: {listed or 'there are none'}")
    return results


def _drawings() -> list[tuple[str, Image.Image, dict[str, Any]]]:
    """Three small pictures that take different ways through decode and contract: exact size, resized, enlarged."""
    y, x = np.mgrid[0:384, 0:512].astype(np.float64)
    waves = np.stack([np.sin(x / 9 + y / 31), np.cos(x / 23 - y / 7), np.sin((x + y) / 17)], axis=-1)
    noise = np.random.default_rng(7).normal(0, 0.25, waves.shape)
    smooth, rough = (Image.fromarray(np.uint8(127.5 + 100 * np.clip(field, -1, 1))) for field in (waves, waves + noise))
    return [
        ("waves.png", smooth, {}),
        ("noise.jpg", rough.resize((768, 576), Image.Resampling.BICUBIC), {"quality": 85}),
        ("small.webp", rough.resize((200, 160), Image.Resampling.BICUBIC), {"quality": 60}),
    ]
