"""The offline scorer: scores pictures in this process, without the service."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from model import checkpoint, crop_rounds, images
from model.crop_rounds import CropRounds, Crops
from model.inference import forked
from model.inference.engine import Engine
from model.maps import map_crops, overlay
from model.maps.activations import StageEngine, read_stage
from model.maps.map_crops import MapCrops, ScoreMap
from model.options import DEFAULT_CHECKPOINT, DeviceName, Precision
from model.picking.look import Look
from model.picking.photo import Photo
from model.picture_source import PictureSource, open_picture
from model.score import ModelId, QualityScore, aggregate

S = TypeVar("S", bound=PictureSource)

GROUP = 8
"""Pictures whose crops ``score_many`` packs into common batches."""


class _Prepared(NamedTuple):
    """A picture that is ready for the engine, and what else of it is needed."""

    facts: images.Facts
    rounds: CropRounds
    look: Look | None = None


class Scorer:
    """Scores pictures in this process, with the same decoding, contract, engine and arithmetic as the service.

    Not thread-safe: only one thread at a time may call it. In a process that was forked after scoring, ``load`` and
    scoring raise ``RuntimeError``.

    Args:
        loaded: A checkpoint.
        engine: The warmed engine of that checkpoint.
        limits: Sizes of pictures to accept; the defaults of ``images.Limits`` if None.
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
            ValueError: The device does not exist.
        """
        forked.check()
        loaded = checkpoint.load(folder)
        return cls(loaded, Engine.of(loaded, device=device, precision=precision), limits)

    def score(self, source: PictureSource, crops: Crops | None = None) -> QualityScore:
        """Score one picture.

        Args:
            source: A path, encoded bytes, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor
                (H, W, 3) or (3, H, W).
            crops: How many crops, 1 to 64; the contract's count if None. ``"auto"`` takes as many of those as the score
                needs for a standard error of at most ``crop_rounds.TOLERANCE``.

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
            sources: As for ``score``; consumed as the results are read.
            crops: As for ``score``.
            decoders: Number of threads that decode.

        Yields:
            Each source with its score, or with the error that prevented it, in order.
        """
        for source, outcome in self._many(sources, lambda source: self._prepare(source, crops), decoders):
            yield source, outcome if isinstance(outcome, Exception) else outcome[1]

    def photos(
        self, sources: Iterable[S], crops: Crops | None = None, *, decoders: int = 2
    ) -> Iterator[tuple[S, Photo | images.ImageError | OSError]]:
        """Score many photos, and keep what ``model.picking`` needs of each.

        Args:
            sources: As for ``score``; consumed as the results are read.
            crops: As for ``score``.
            decoders: Number of threads that decode.

        Yields:
            Each source with its photo, named after it if it is a path, or with the error that prevented it, in order.

        Raises:
            ValueError: The network finds no defects, or describes no pictures.
        """
        for source, outcome in self.score_and_look(sources, crops, decoders=decoders):
            name = str(source) if isinstance(source, (str, Path)) else ""
            yield source, outcome if isinstance(outcome, Exception) else Photo.of(name, *outcome)

    def score_and_look(
        self, sources: Iterable[S], crops: Crops | None = None, *, decoders: int = 2
    ) -> Iterator[tuple[S, tuple[QualityScore, Look] | images.ImageError | OSError]]:
        """As ``photos``, but yields scores and looks."""
        for source, outcome in self._many(sources, lambda source: self._prepare_photo(source, crops), decoders):
            if isinstance(outcome, Exception):
                yield source, outcome
                continue
            prepared, score = outcome
            assert prepared.look is not None
            yield source, (score, prepared.look)

    def _many(
        self, sources: Iterable[S], prepare: Callable[[S], _Prepared], decoders: int
    ) -> Iterator[tuple[S, tuple[_Prepared, QualityScore] | images.ImageError | OSError]]:
        """Score many pictures, decoding ahead in threads, with their crops packed into full batches."""
        with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
            ahead: deque[tuple[S, Future[_Prepared]]] = deque()
            try:
                for source in sources:
                    ahead.append((source, pool.submit(prepare, source)))
                    if len(ahead) >= 2 * GROUP + decoders:
                        yield from self._score_group([ahead.popleft() for _ in range(GROUP)])
                while ahead:
                    yield from self._score_group([ahead.popleft() for _ in range(min(GROUP, len(ahead)))])
            finally:
                for _, future in ahead:
                    future.cancel()

    def _score_group(
        self, group: list[tuple[S, Future[_Prepared]]]
    ) -> Iterator[tuple[S, tuple[_Prepared, QualityScore] | images.ImageError | OSError]]:
        """Score a few pictures with their crops packed into full batches."""
        errors: dict[int, images.ImageError | OSError] = {}
        prepared: dict[int, _Prepared] = {}
        for place, (_, future) in enumerate(group):
            try:
                prepared[place] = future.result()
            except (images.ImageError, OSError) as error:
                errors[place] = error
        found = self.score_prepared([(one.facts, one.rounds) for one in prepared.values()])
        scores = dict(zip(prepared, found, strict=True))
        for place, (source, _) in enumerate(group):
            yield source, errors[place] if place in errors else (prepared[place], scores[place])

    def score_prepared(self, prepared: Sequence[tuple[images.Facts, CropRounds]]) -> list[QualityScore]:
        """Score pictures that are already decoded and cut, with their crops packed into full batches.

        Args:
            prepared: Facts and work items of each picture, cut by the contract of this checkpoint.
        """
        while unfinished := [(rounds, rounds.items) for _, rounds in prepared if rounds.items is not None]:
            rows = self.engine.predict_all([items for _, items in unfinished])
            for (rounds, _), rows_ND in zip(unfinished, rows, strict=True):
                rounds.add(rows_ND)
        return [aggregate(rounds, facts, self.checkpoint.contract, self.model) for facts, rounds in prepared]

    def map(self, source: PictureSource) -> ScoreMap:
        """Map the quality over a picture.

        Args:
            source: As for ``score``.

        Raises:
            ImageError: The picture cannot be scored.
            OSError: The path cannot be read.
            ValueError: The network sees whole pictures only, or the array or tensor is not a picture.
        """
        _, crops = self._map_crops(source)
        return crops.score_map(self.engine.predict(crops.items), self.checkpoint.contract)

    def overlay(self, source: PictureSource, stage: int | None = None) -> bytes:
        """Draw over a picture which stages of the network decided where, or where one stage is active.

        Args:
            source: As for ``score``.
            stage: The stage to draw, 1 to 4; None tints the picture by the weights of all stages.

        Returns:
            A PNG with at most 1024 pixels on its longer side, without metadata.

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
        picture, crops = self._map_crops(source)
        chunks = [crops.items[start : start + stages.cap] for start in range(0, crops.count, stages.cap)]
        rows_ND = np.concatenate([stages.run([chunk]) for chunk in chunks])
        activity_HW = crops.activity_map(read_stage(rows_ND, stages.shapes, stage))
        return overlay.render_activity(overlay.shrink(picture.image), activity_HW)

    @cached_property
    def _stages(self) -> StageEngine | None:
        return StageEngine.of(self.engine)

    def _map_crops(self, source: PictureSource) -> tuple[images.Picture, MapCrops]:
        contract = self.checkpoint.contract
        if contract.view == "tokens":
            raise ValueError(f"{self.model.name} sees whole pictures, so it has no local scores")
        picture = open_picture(source, contract, self.limits)
        copy = map_crops.resized(picture, contract)
        return picture, map_crops.cut(np.asarray(copy), picture.facts.size, contract)

    def _prepare(self, source: PictureSource, crops: Crops | None) -> _Prepared:
        picture = open_picture(source, self.checkpoint.contract, self.limits)
        return _Prepared(picture.facts, self._rounds(picture, crops))

    def _prepare_photo(self, source: PictureSource, crops: Crops | None) -> _Prepared:
        encoded = Path(source).read_bytes() if isinstance(source, (str, Path)) else source
        picture = open_picture(encoded, self.checkpoint.contract, self.limits)
        look = Look.at(picture, encoded if isinstance(encoded, bytes) else b"")
        return _Prepared(picture.facts, self._rounds(picture, crops), look)

    def _rounds(self, picture: images.Picture, crops: Crops | None) -> CropRounds:
        contract = self.checkpoint.contract
        return CropRounds(contract.views(picture, crop_rounds.max_crops(crops, contract)), contract, crops)

    def _score(self, picture: images.Picture, crops: Crops | None) -> QualityScore:
        rounds = self._rounds(picture, crops)
        while (items := rounds.items) is not None:
            rounds.add(self.engine.predict(items))
        return aggregate(rounds, picture.facts, self.checkpoint.contract, self.model)
