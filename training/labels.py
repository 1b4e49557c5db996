"""Labels of one's own for some photos: scores, thumbs or pairs, from a CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from model.files import encoding

Kind = Literal["scores", "thumbs", "pairs"]

LEAST, MOST = 20, 500
"""Labels that are needed, and that are taken."""
SCALES = ((0.0, 1.0), (1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
"""Ranges of labels that are known, the smallest first."""
LARGEST = 1e6
"""Largest score."""
THUMBS = {"up": 1.0, "good": 1.0, "yes": 1.0, "1": 1.0, "down": 0.0, "bad": 0.0, "no": 0.0, "0": 0.0}


class LabelError(ValueError):
    """Labels cannot be used. The text says why."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What somebody thinks of some photos.

    Attributes:
        kind: ``scores``, ``thumbs`` or ``pairs``.
        photos: Their paths, each once.
        values: Of scores, and thumbs (0 or 1): the label of each photo.
        pairs: Of pairs: places of the better and of the worse photo.
        scale: Of scores: the ends of their scale.
    """

    kind: Kind
    photos: tuple[str, ...]
    values: tuple[float, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    scale: tuple[float, float] = (0.0, 1.0)

    def __len__(self) -> int:
        return len(self.pairs) if self.kind == "pairs" else len(self.photos)


def read(file: Path, scale: tuple[float, float] | None = None) -> Labels:
    """Read labels: a CSV with columns ``path,score``, ``path,thumb`` or ``better,worse``.

    Args:
        file: The file.
        scale: Ends of the scale of scores; if None, the smallest of ``SCALES`` that holds them.

    Raises:
        LabelError: They cannot be used.
        OSError: The file cannot be read.
    """
    columns, lines = _lines(file)
    kind: Kind | None = next((kind for kind, names in _COLUMNS.items() if {*names} <= {*columns}), None)
    if kind is None:
        raise LabelError(f"{file.name}: its columns must be path,score or path,thumb or better,worse")
    if not LEAST <= len(lines) <= MOST:
        raise LabelError(f"{file.name} has {len(lines)} labels; {LEAST} to {MOST} are needed")
    first, second = _COLUMNS[kind]
    wanted = [columns.index(name) for name in (first, second)]
    rows = []
    for number, cells in lines:
        one, other = (cells[at].strip() if at < len(cells) else "" for at in wanted)
        rows.append((number, one, other))
    for number, one, other in rows:
        if not one or not other:
            raise LabelError(f"{file.name}, line {number}: a value is missing")
    if kind == "pairs":
        return _pairs(file.name, rows)
    photos = [photo for _, photo, _ in rows]
    if len({*photos}) < len(photos):
        twice = next(photo for photo in photos if photos.count(photo) > 1)
        raise LabelError(f"{file.name}: {twice} has two labels")
    values = [_value(file.name, number, kind, text) for number, _, text in rows]
    if len({*values}) < 2:
        raise LabelError(f"{file.name}: all labels are {rows[0][2]}; there must be photos of both kinds")
    least, most = min(values), max(values)
    known = scale or next((ends for ends in SCALES if ends[0] <= least and most <= ends[1]), (least, most))
    if not np.isfinite(known).all() or max(map(abs, known)) > LARGEST:
        raise LabelError(f"{file.name}: the scale {known[0]:g} to {known[1]:g} is too large")
    if not known[0] <= least <= most <= known[1]:
        raise LabelError(f"{file.name}: scores lie from {least:g} to {most:g}, not within {known[0]:g} to {known[1]:g}")
    return Labels(kind=kind, photos=tuple(photos), values=tuple(values), scale=known)


_COLUMNS: dict[Kind, tuple[str, str]] = {
    "scores": ("path", "score"),
    "thumbs": ("path", "thumb"),
    "pairs": ("better", "worse"),
}


def _lines(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns of a CSV file, in small letters, and its lines with their numbers."""
    try:
        with file.open("rb") as raw:
            found = encoding(raw.read(3))
        with file.open(newline="", encoding=found) as stream:
            reader = csv.reader(stream)
            columns = [name.strip().lower() for name in next(reader, [])]
            return columns, [(reader.line_num, cells) for cells in reader if any(cells)]
    except (csv.Error, UnicodeError) as error:
        raise LabelError(f"{file.name} is no CSV file: {error}") from error


def _pairs(name: str, rows: Sequence[tuple[int, str, str]]) -> Labels:
    wins: dict[frozenset[str], dict[str, int]] = {}
    for number, better, worse in rows:
        if better == worse:
            raise LabelError(f"{name}, line {number}: a photo cannot be better than itself")
        won = wins.setdefault(frozenset((better, worse)), {better: 0, worse: 0})
        won[better] += 1
    # A pair counts once, however often it was judged; judged both ways as often, it says nothing.
    clear = [sorted(won, key=lambda photo: -won[photo]) for won in wins.values() if len({*won.values()}) == 2]
    if len(clear) < LEAST:
        raise LabelError(f"{name} has {len(clear)} different pairs that are clear; {LEAST} to {MOST} are needed")
    photos = tuple(dict.fromkeys(photo for pair in clear for photo in pair))
    places = {photo: place for place, photo in enumerate(photos)}
    return Labels(kind="pairs", photos=photos, pairs=tuple((places[one], places[other]) for one, other in clear))


def _value(name: str, number: int, kind: Kind, text: str) -> float:
    if kind == "thumbs":
        if text.lower() not in THUMBS:
            raise LabelError(f"{name}, line {number}: {text!r} is neither up nor down")
        return THUMBS[text.lower()]
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) <= LARGEST:
        raise LabelError(f"{name}, line {number}: {text!r} is no number")
    return value
