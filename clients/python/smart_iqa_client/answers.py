"""What the service answers with, as frozen dataclasses.

Fields that this version does not know are left in ``json``, the answer as it came.
"""

import dataclasses
import functools
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from smart_iqa_client.errors import BadAnswer, Problem, problem_class

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Ends and direction of the public scale."""

    min: float
    max: float
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class RawScale(Scale):
    """The scale of the labels that the model was trained on."""

    dataset: str


@dataclass(frozen=True, kw_only=True)
class ModelId:
    """Which checkpoint answered."""

    name: str
    digest: str
    contract: str


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """The picture as it was decoded, upright; sides in pixels."""

    width: int
    height: int
    format: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the service's time went, in milliseconds.

    Attributes:
        decode: Decoding and cutting crops, without the wait if ``decode_wait`` is there.
        queue: Waiting for the device.
        compute: On the device.
        decode_wait: Waiting to be decoded; None from services that count it in ``decode``.
    """

    decode: float
    queue: float
    compute: float
    decode_wait: float | None = None


@dataclass(frozen=True, kw_only=True)
class CropScore:
    """One crop's part in a score.

    Attributes:
        box: Left, top, right, bottom in pixels of the upright picture.
        score: 0 to 100.
        stage_weights: Weights of the four stages; None where the model has none.
    """

    box: tuple[int, int, int, int]
    score: float
    stage_weights: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where people's mean opinion of a picture lies.

    Attributes:
        low: Lower end, in points.
        high: Upper end, in points.
        coverage: Share of photos whose mean opinion lies within.
    """

    low: float
    high: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One defect of a picture.

    Attributes:
        severity: 0 (none) to 1 (ruins the picture); 0.5 is plain to see.
        probability: Probability that the picture has it at all.
        close: Whether it shows in a close look more than in the whole view.
    """

    severity: float
    probability: float
    close: bool


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Local scores (0 to 100) over the whole upright picture, at the centres of evenly spaced cells.

    Attributes:
        rows: Cells from top to bottom.
        columns: Cells from left to right.
        scores: A tuple of columns for each row.
        defects: Severities (0 to 1) of local defects by name, as ``scores``; None where the model finds none.
    """

    rows: int
    columns: int
    scores: tuple[tuple[float, ...], ...]
    defects: Mapping[str, tuple[tuple[float, ...], ...]] | None = None


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A rule of a policy that the picture met.

    Attributes:
        code: The rule's code, for programs.
        field: What the rule asks about.
        operator: How it compares: the picture met this.
        value: What the picture has there.
        threshold: What that is compared with.
        severity: Severity of the defect, 0 to 1; None if the rule asks about something else.
        message: What is wrong, for people.
    """

    code: str
    field: str
    operator: str
    value: float | str
    threshold: float | str
    severity: float | None = None
    message: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a policy decides.

    Attributes:
        outcome: ``accept``, ``review`` or ``reject``.
        reasons: The rules with this outcome that the picture met, in order.
        policy: Name of the policy.
        version: Its hash.
    """

    outcome: str
    reasons: tuple[Reason, ...]
    policy: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Score:
    """The quality of a picture.

    Attributes:
        score: 0 (worst) to 100 (best).
        scale: Of ``score``.
        grade: ``bad``, ``poor``, ``fair``, ``good`` or ``excellent``; None where the model has no grades.
        percentile: How many of 100 training photos score lower; None where that is not known.
        raw_score: On the scale of the training labels.
        raw_scale: That scale.
        interval: Where people's mean opinion lies; None where the model does not say.
        defects: What may be wrong, by name; None where the model finds no defects.
        std: Standard deviation over the crops in points; None for one crop or a whole view.
        stderr: Standard error of the mean in points; None for one crop.
        crops: Crops that were scored.
        model: Which checkpoint answered.
        image: The picture as it was decoded.
        warnings: What was done to the picture on its way.
        timing_ms: Where the service's time went.
        crop_scores: Each crop, with ``detail="crops"`` or ``detail="map"``.
        map: With ``detail="map"``.
        decision: With ``policy``, or for a key that a policy is bound to.
        json: The answer as it came.
    """

    score: float
    scale: Scale
    grade: str | None = None
    percentile: float | None = None
    raw_score: float
    raw_scale: RawScale
    interval: Interval | None = None
    defects: Mapping[str, Defect] | None = None
    std: float | None = None
    stderr: float | None = None
    crops: int
    model: ModelId
    image: ImageFacts
    warnings: tuple[str, ...] = ()
    timing_ms: Timing
    crop_scores: tuple[CropScore, ...] | None = None
    map: ScoreMap | None = None
    decision: Decision | None = None
    json: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Attention(Score):
    """The quality of a picture, and what the model looked at.

    Attributes:
        stage_weights: Mean over the crops, from fine detail (first) to content (last); they sum to 1.
        stages: Their names.
    """

    stage_weights: tuple[float, ...]
    stages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A defect in which two pictures differ.

    Attributes:
        defect: Its name.
        first: Its severity in the first picture.
        second: Its severity in the second one.
    """

    defect: str
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures compared.

    Attributes:
        first: Place of the first one, from 0.
        second: Place of the second one.
        preferred: Probability that people's mean opinion of the first one is the higher one.
        duplicate: Whether both are the same file.
        because: The defects in which they differ, the greatest difference first.
    """

    first: int
    second: int
    preferred: float
    duplicate: bool
    because: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several pictures compared.

    Attributes:
        order: Places of the pictures that have scores, the best first.
        pairs: Each of those with each.
        results: For each picture its score, or its problem.
        json: The answer as it came.
    """

    order: tuple[int, ...]
    pairs: tuple[Pair, ...]
    results: tuple[Score | Problem, ...] = ()
    json: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded checkpoint.

    Attributes:
        name: For the option ``model``.
        digest: Of its files.
        contract: How pictures are prepared for it.
        network: What it is built of.
        parameters: How many it has.
        stage_attention: Whether ``attention`` works with it.
        trained_on: Its data set.
        licence: Terms of its weights.
        figures: How good it is: measures by test set.
        devices: Where it runs.
        precision: In which it computes.
        batch_shapes: Sizes of its batches.
        reproducible: Whether scores do not depend on batch company, to the last bit.
        json: The answer as it came.
    """

    name: str
    digest: str
    contract: Mapping[str, Any]
    network: Mapping[str, Any]
    parameters: int
    stage_attention: bool
    trained_on: str
    licence: str
    figures: Mapping[str, Mapping[str, float]]
    devices: tuple[str, ...]
    precision: str
    batch_shapes: tuple[int, ...]
    reproducible: bool
    json: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a policy.

    Attributes:
        code: Names its reason.
        outcome: What it decides.
        rule: It, as it is written.
    """

    code: str
    outcome: str
    rule: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy of the service.

    Attributes:
        name: For the option ``policy``.
        about: What it is for.
        version: Its hash.
        otherwise: The outcome where no rule holds.
        rules: In order: the first that holds decides.
        languages: Languages beside English that it has messages in.
        json: The answer as it came.
    """

    name: str
    about: str
    version: str
    otherwise: str
    rules: tuple[Rule, ...]
    languages: tuple[str, ...]
    json: Mapping[str, Any] = field(repr=False, compare=False)


def parse(kind: type[T], data: object) -> T:
    """Read an answer.

    Args:
        kind: One of the classes above.
        data: Decoded JSON.

    Raises:
        BadAnswer: A field is missing or of another type.
    """
    made: T = _read(kind, data, kind.__name__)
    return made


def parse_comparison(data: object) -> Comparison:
    """Read the answer of ``/compare``.

    Raises:
        BadAnswer: A field is missing or of another type.
    """
    told = dict(_expect(dict, data, "Comparison"))
    items = _expect(list, told.pop("results", None), "Comparison.results")
    made = parse(Comparison, told)
    results = tuple(_result(item, f"Comparison.results.{place}") for place, item in enumerate(items))
    return dataclasses.replace(made, results=results, json=_expect(dict, data, "Comparison"))


def _result(item: Any, place: str) -> Score | Problem:
    if "result" in _expect(dict, item, place):
        return parse(Score, item["result"])
    told = _expect(dict, item.get("problem"), place)
    status, code, title = int(told.get("status", 0)), str(told.get("code", "")), str(told.get("title", ""))
    detail, request_id = str(told.get("detail", "")), str(told.get("request_id", ""))
    return problem_class(status, code)(status, code, title, detail, request_id)


def _read(kind: Any, data: Any, place: str) -> Any:
    """Bring a JSON value into the form that a type hint asks for."""
    if dataclasses.is_dataclass(kind):
        return _read_object(kind, _expect(dict, data, place), place)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):  # all here are "X | None" or "float | str"
        first, other = get_args(kind)
        if data is None and other is type(None):
            return None
        return _read(other if other is not type(None) and isinstance(data, other) else first, data, place)
    if origin is tuple:
        first, *rest = get_args(kind)
        items = _expect(list, data, place)
        if Ellipsis not in rest and len(items) != 1 + len(rest):
            raise BadAnswer(f"{place} is not of {1 + len(rest)} items")
        return tuple(_read(first, item, place) for item in items)
    if origin is Mapping and get_args(kind)[1] is not Any:
        entries = _expect(dict, data, place)
        return {name: _read(get_args(kind)[1], one, f"{place}.{name}") for name, one in entries.items()}
    if kind is float:
        return float(_expect((int, float), data, place))
    return _expect(origin or kind, data, place)


def _read_object(kind: Any, data: Mapping[str, Any], place: str) -> Any:
    values: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        if one.name == "json":
            values["json"] = data
        elif one.name in data:
            values[one.name] = _read(_hints(kind)[one.name], data[one.name], f"{place}.{one.name}")
        elif one.default is dataclasses.MISSING:
            raise BadAnswer(f"{place}.{one.name} is missing")
    return kind(**values)


def _expect(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise BadAnswer(f"{place} is of another type")
    return data


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
