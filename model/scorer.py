"""The offline scorer: scores pictures in this process, without the service."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from model import checkpoint, crop_rounds, images
from model.crop_rounds import Crops, Rounds
from model.inference.engine import Engine
from model.maps import map_crops as spotting
from model.maps import overlay
from model.maps.activations import StageEngine, read_stage
from model.maps.map_crops import ScoreMap, Spots
from model.options import DEFAULT_CHECKPOINT, DeviceName, Precision
from model.score import ModelId, QualityScore, aggregate
from model.sources import Source, open_picture

S = TypeVar("S", bound=Source)

GROUP = 8
"""Pictures that ``score_many`` packs into common batches."""


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
        folder: Path | str = DEFAULT_CHECKPOINT,
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
