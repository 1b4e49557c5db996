"""What the service answers with, as frozen dataclasses.

Fields that this version does not know are left in ``json``, the answer as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
class Model:
    """A loaded checkpoint.

    Attributes:
        name: For the option ``model``.
        digest: Of its files.
        contract: How pictures are prepared for it.
        network: What it is built of.
        parameters: How many it has.
        stage_attention: Whether ``attention`` works with it.
        picks: Whether ``pick`` works with it.
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
    picks: bool = False
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
        calibration: Id of the calibration that corrects the scores; None for none.
        json: The answer as it came.
    """

    name: str
    about: str
    version: str
    otherwise: str
    rules: tuple[Rule, ...]
    languages: tuple[str, ...]
    calibration: str | None = None
    json: Mapping[str, Any] = field(repr=False, compare=False)
