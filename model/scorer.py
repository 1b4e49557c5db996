"""The offline scorer, and the arithmetic from crop scores to the answer that every route gives."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model import checkpoint, crop_rounds, images
from model.contract import Box, Contract
from model.crop_rounds import Crops, Rounds
from model.inference.engine import DeviceName, Engine, Precision
from model.maps import map_crops as spotting
from model.maps import overlay
from model.maps.activations import StageEngine, read_stage
from model.maps.map_crops import ScoreMap, Spots
from model.sources import Source, open_picture

S = TypeVar("S", bound=Source)

GROUP = 8
"""Pictures that ``score_many`` packs into common batches."""


@dataclass(frozen=True, kw_only=True)
class CropScore:
    """One crop's part in a score.

    Attributes:
        box: Left, top, right, bottom in pixels of the upright picture.
        score: 0 to 100.
        stage_weights: Weights of the four stages, or None.
    """

    box: Box
    score: float
    stage_weights: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class QualityScore:
    """The quality of one picture.

    Attributes:
        score: 0 (worst) to 100 (best), rounded to four decimals.
        raw_score: The mean over crops on the scale of the network's training labels, rounded to six decimals.
        std: Standard deviation over the crops in points of 100; None for a single crop.
        stderr: Standard error of the mean in points of 100; None for a single crop.
        stage_weights: Mean weights of the four stages, or None where the network has none.
        crops: The crops behind it.
        width: Of the upright picture, in pixels.
        height: Of the upright picture, in pixels.
        format: Format name.
        sha256: Hash of the bytes that were scored, hexadecimal.
        warnings: What was done to the picture.
        model: Name, digest and contract id of the checkpoint.
        contract: The contract, with the raw scale.
    """

    score: float
    raw_score: float
    std: float | None
    stderr: float | None
    stage_weights: tuple[float, ...] | None
    crops: tuple[CropScore, ...]
    width: int
    height: int
    format: str
    sha256: str
    warnings: tuple[images.ImageWarning, ...]
    model: "ModelId"
    contract: Contract = field(repr=False)

    @property
    def grade(self) -> str | None:
        """The contract's word for the score, or None."""
        return self.contract.grade(self.score)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON holds it, the same from the service, the command line and Python."""
        scale = self.contract.scale
        return {
            "score": self.score,
            "scale": {"min": 0, "max": 100, "higher_is_better": True},
            "grade": self.grade,
            "percentile": self.contract.percentile(self.score),
            "raw_score": self.raw_score,
            "raw_scale": {
                "dataset": scale.dataset,
                "min": scale.min,
                "max": scale.max,
                "higher_is_better": scale.higher_is_better,
            },
            "std": self.std,
            "stderr": self.stderr,
            "crops": len(self.crops),
            "model": {"name": self.model.name, "digest": self.model.digest, "contract": self.contract.id},
            "image": {"width": self.width, "height": self.height, "format": self.format, "sha256": self.sha256},
            "warnings": [str(warning) for warning in self.warnings],
        }


@dataclass(frozen=True, kw_only=True)
class ModelId:
    """Which checkpoint answered."""

    name: str
    digest: str


def aggregate(rounds: Rounds, facts: images.Facts, contract: Contract, model: ModelId) -> QualityScore:
    """Put the rows of a picture's crops together.

    Args:
        rounds: The crops, scored.
        facts: What there is to tell of the picture.
        contract: The contract they were made by.
        model: Which checkpoint the rows come from.
    """
    scale = contract.scale
    rows_ND, boxes = rounds.scored()
    # float64 from here on: the order of crops is fixed, so the sum is too.
    raw_N = contract.raw(rows_ND[:, 0].astype(np.float64))
    weights_N4 = rows_ND[:, 1:].astype(np.float64)
    raw = float(raw_N.mean())
    std = scale.spread_to_percent(float(raw_N.std(ddof=1))) if len(raw_N) > 1 else None
    return QualityScore(
        score=round(scale.to_percent(raw), 4),
        raw_score=round(raw, 6),
        std=None if std is None else round(std, 4),
        stderr=None if std is None else round(std / math.sqrt(len(raw_N)), 4),
        stage_weights=_rounded(weights_N4.mean(axis=0)),
        crops=tuple(
            CropScore(box=box, score=round(scale.to_percent(float(raw_crop)), 4), stage_weights=_rounded(weights))
            for box, raw_crop, weights in zip(boxes, raw_N, weights_N4, strict=True)
        ),
        width=facts.width,
        height=facts.height,
        format=facts.format,
        sha256=facts.sha256,
        warnings=tuple(sorted({*facts.warnings, *rounds.warnings})),
        model=model,
        contract=contract,
    )


def _rounded(weights: NDArray[np.float64]) -> tuple[float, ...] | None:
    return tuple(round(float(weight), 6) for weight in weights) or None


class Scorer:
    """Scores pictures in this process, with the decode, contract, engine and arithmetic of the service.

    Not thread-safe: one thread at a time may ask it.

    Args:
        loaded: A checkpoint.
        engine: Its warmed engine.
        limits: Dimensions to accept.
    """

    def __init__(self, loaded: checkpoint.Checkpoint, engine: Engine, limits: images.Limits | None = None) -> None:
        self.checkpoint = loaded
        self.engine = engine
        self.limits = limits or images.Limits()
        self.model = ModelId(name=loaded.config.name, digest=loaded.digest)

    @classmethod
    def load(
        cls,
        folder: Path | str = checkpoint.DEFAULT,
        *,
        device: DeviceName = "auto",
        precision: Precision = "auto",
        limits: images.Limits | None = None,
    ) -> "Scorer":
        """Load a checkpoint folder, by default the one that comes with the project.

        Raises:
            CheckpointError: The folder is not a usable checkpoint.
            ValueError: The device is not there.
        """
        loaded = checkpoint.load(folder)
        return cls(loaded, Engine.of(loaded, device=device, precision=precision), limits)

    def score(self, source: Source, crops: Crops | None = None) -> QualityScore:
        """Score one picture.

        Args:
            source: A path, encoded bytes, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor
                (H, W, 3) or (3, H, W).
            crops: How many crops, 1 to 64; the contract's count if None. ``"auto"`` takes as many of those as it needs
                for a standard error of ``crop_rounds.TOLERANCE``.

        Raises:
            ImageError: The picture cannot be scored.
            OSError: The path cannot be read.
            ValueError: ``crops`` is out of range, or the array or tensor is not a picture.
        """
        return self._score(open_picture(source, self.checkpoint.contract, self.limits), crops)

    def score_many(
        self, sources: Iterable[S], crops: Crops | None = None, *, decoders: int = 2
    ) -> Iterator[tuple[S, QualityScore | images.ImageError | OSError]]:
        """Score many pictures, decoding ahead in threads.

        Args:
            sources: As for ``score``; consumed as the results are.
            crops: As for ``score``.
            decoders: Threads that decode.

        Yields:
            Each source with its score, or with the error that it met, in order.
        """
        with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
            ahead: deque[tuple[S, Future[tuple[images.Facts, Rounds]]]] = deque()
            try:
                for source in sources:
                    ahead.append((source, pool.submit(self._prepare, source, crops)))
                    if len(ahead) >= 2 * GROUP + decoders:
                        yield from self._score_group([ahead.popleft() for _ in range(GROUP)])
                while ahead:
                    yield from self._score_group([ahead.popleft() for _ in range(min(GROUP, len(ahead)))])
            finally:
                for _, future in ahead:
                    future.cancel()

    def _score_group(
        self, group: list[tuple[S, Future[tuple[images.Facts, Rounds]]]]
    ) -> Iterator[tuple[S, QualityScore | images.ImageError | OSError]]:
        """Score a few pictures with their crops packed into full batches."""
        errors: dict[int, images.ImageError | OSError] = {}
        prepared: dict[int, tuple[images.Facts, Rounds]] = {}
        for place, (_, future) in enumerate(group):
            try:
                prepared[place] = future.result()
            except (images.ImageError, OSError) as error:
                errors[place] = error
        scores = dict(zip(prepared, self.score_prepared(list(prepared.values())), strict=True))
        for place, (source, _) in enumerate(group):
            yield source, errors[place] if place in errors else scores[place]

    def score_prepared(self, prepared: Sequence[tuple[images.Facts, Rounds]]) -> list[QualityScore]:
        """Score pictures that were decoded and cut already, with their crops packed into full batches.

        Args:
            prepared: What there is to tell of each, and its work items by this checkpoint's contract.
        """
        while waiting := [(one, one.items) for _, one in prepared if one.items is not None]:
            rows = self.engine.predict_all([items for _, items in waiting])
            for (one, _), rows_ND in zip(waiting, rows, strict=True):
                one.add(rows_ND)
        return [aggregate(rounds, facts, self.checkpoint.contract, self.model) for facts, rounds in prepared]

    def map(self, source: Source) -> ScoreMap:
        """Map where a picture is good and where it is bad.

        Args:
            source: As for ``score``.

        Raises:
            ImageError: The picture cannot be scored.
            OSError: The path cannot be read.
            ValueError: The network sees whole pictures only, or the array or tensor is not a picture.
        """
        _, spots = self._spots(source)
        return spots.score_map(self.engine.predict(spots.items), self.checkpoint.contract)

    def overlay(self, source: Source, stage: int | None = None) -> bytes:
        """Draw over a picture which stages of the network decided where, or where one of them is active.

        Args:
            source: As for ``score``.
            stage: 1 to 4; None tints by the weights of all.

        Returns:
            A freshly encoded PNG, 1024 pixels on its longer side at most, without metadata.

        Raises:
            ImageError: The picture cannot be scored.
            OSError: The path cannot be read.
            ValueError: The network has no stages, or no weights for them, ``stage`` is out of range, or the array or
                tensor is not a picture.
        """
        if stage is None:
            if not self.checkpoint.network.weighs_stages:
                raise ValueError(f"{self.model.name} does not weigh its stages")
            picture = open_picture(source, self.checkpoint.contract, self.limits)
            return overlay.render(overlay.shrink(picture.image), self._score(picture, None))
        stages = self._stages
        if stages is None:
            raise ValueError(f"the network of {self.model.name} has no stages")
        if not 1 <= stage <= len(stages.shapes):
            raise ValueError(f"stage must be 1 to {len(stages.shapes)}, not {stage}")
        picture, spots = self._spots(source)
        chunks = [spots.items[start : start + stages.cap] for start in range(0, spots.count, stages.cap)]
        rows_ND = np.concatenate([stages.run([chunk]) for chunk in chunks])
        return overlay.render_activity(
            overlay.shrink(picture.image), spots.activity_map(read_stage(rows_ND, stages.shapes, stage))
        )

    @cached_property
    def _stages(self) -> StageEngine | None:
        return StageEngine.of(self.engine)

    def _spots(self, source: Source) -> tuple[images.Picture, Spots]:
        contract = self.checkpoint.contract
        if contract.view != "crops":
            raise ValueError(f"{self.model.name} sees whole pictures, so it has no local scores")
        picture = open_picture(source, contract, self.limits)
        return picture, spotting.cut(np.asarray(spotting.resized(picture, contract)), picture.facts.size, contract)

    def _prepare(self, source: Source, crops: Crops | None) -> tuple[images.Facts, Rounds]:
        picture = open_picture(source, self.checkpoint.contract, self.limits)
        return picture.facts, self._rounds(picture, crops)

    def _rounds(self, picture: images.Picture, crops: Crops | None) -> Rounds:
        contract = self.checkpoint.contract
        return Rounds(contract.views(picture, crop_rounds.most(crops, contract)), contract, crops)

    def _score(self, picture: images.Picture, crops: Crops | None) -> QualityScore:
        rounds = self._rounds(picture, crops)
        while (items := rounds.items) is not None:
            rounds.add(self.engine.predict(items))
        return aggregate(rounds, picture.facts, self.checkpoint.contract, self.model)
