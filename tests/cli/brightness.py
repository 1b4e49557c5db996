"""The command line with a scorer that takes the brightness of a picture for its quality, and may die over it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from model import images
from model.contract import Contract
from model.picture_source import open_picture
from model.scale import Scale
from model.score import ModelId, QualityScore
from tests.conftest import encode

CONTRACT = Contract(crops=1, scale=Scale(dataset="made-up", min=0.0, max=1.0), grades=(20.0, 40.0, 60.0, 80.0))
MODEL = ModelId(name="brightness", digest="sha256:" + "0" * 64)


class Brightness:
    """Stands in for ``Scorer``.

    Args:
        dies: Called after so many pictures, to end the run in one way or another.
    """

    model = MODEL
    checkpoint = SimpleNamespace(contract=CONTRACT, digest=MODEL.digest)

    def __init__(self, after: int = -1, dies: Callable[[], object] = lambda: None) -> None:
        self._after = after
        self._dies = dies
        self.engine = SimpleNamespace(device="cpu", precision="fp32", calibrated=False)
        self.asked: list[str] = []

    def score_many(self, sources: Iterable[Any], _: object = None) -> Iterator[tuple[Any, QualityScore | Exception]]:
        assert self.engine.calibrated
        for source in sources:
            if len(self.asked) == self._after:
                self._dies()
            self.asked.append(str(source) if isinstance(source, Path) else "bytes")
            try:
                picture = open_picture(source, CONTRACT, images.Limits())
            except (images.ImageError, OSError) as error:
                yield source, error
                continue
            percent = round(float(np.asarray(picture.image).mean()) / 255 * 100, 4)
            width, height = picture.facts.size
            yield source, replace(_TEMPLATE, score=percent, width=width, height=height, format=picture.facts.format)


_TEMPLATE = QualityScore(
    score=0.0,
    raw_score=0.5,
    std=None,
    stderr=None,
    stage_weights=None,
    crops=(),
    width=1,
    height=1,
    format="PNG",
    sha256="",
    warnings=(images.ImageWarning.GRAYSCALE,),
    model=MODEL,
    contract=CONTRACT,
)


def grey(percent: float) -> bytes:
    """A small picture with about this score."""
    return encode(Image.new("L", (48, 32), round(percent * 2.55)), "PNG")


def folder_of(folder: Path, **scores: float) -> Path:
    """Pictures by name and score; two underscores stand for a slash."""
    for name, percent in scores.items():
        file = folder / f"{name.replace('__', '/')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(grey(percent))
    return folder


if __name__ == "__main__":
    from cli.main import main
    from model.inference import autotune
    from model.scorer import Scorer

    after, awaited = int(sys.argv.pop(1)), sys.argv.pop(1)

    def kill() -> None:
        # Files are written beside the scoring.
        while awaited and not list(Path().glob(awaited)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    killed = Brightness(after, kill)
    killed.engine.calibrated = True
    Scorer.load = lambda *_, **__: killed  # type: ignore[method-assign,assignment]
    autotune.autotune = lambda *_, **__: None  # type: ignore[assignment]
    main()
