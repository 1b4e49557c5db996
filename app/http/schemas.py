"""The JSON that the service answers with."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http.problems import ProblemBody
from model.contract import GRADES
from model.defects import DEFECTS
from model.images import FORMATS, ImageWarning
from model.policies import Outcome

Grade = Annotated[str, Field(json_schema_extra={"enum": [*GRADES]})]
Format = Annotated[str, Field(json_schema_extra={"enum": [*FORMATS]})]
Warned = Annotated[str, Field(json_schema_extra={"enum": [*ImageWarning]})]
DefectName = Annotated[str, Field(json_schema_extra={"enum": [*DEFECTS]})]


class Scale(BaseModel):
    """Ends and direction of the public scale."""

    min: float = Field(examples=[0])
    max: float = Field(examples=[100])
    higher_is_better: bool = Field(examples=[True])


class RawScale(Scale):
    """The scale of the labels that the model was trained on."""

    dataset: str = Field(examples=["biq2021"])


class ModelId(BaseModel):
    """Which checkpoint answered."""

    name: str = Field(examples=["smart-lite-biq2021"])
    digest: str = Field(examples=["sha256:5c59b923a824..."])
    contract: str = Field(
        description="Id of the scoring contract, and after a `+` that of the calibration, if one corrected the score.",
        examples=["crops-v1-5c59b923a824"],
    )


class ImageFacts(BaseModel):
    """The picture as it was decoded, upright."""

    width: int = Field(examples=[512])
    height: int = Field(examples=[384])
    format: Format = Field(examples=["JPEG"])
    sha256: str = Field(description="Hash of the uploaded bytes.")


class TimingMs(BaseModel):
    """Where the time went, in milliseconds."""

    decode_wait: float = Field(description="Waiting for a decoder thread, and for room in memory.", examples=[0.2])
    decode: float = Field(description="Decoding, resizing and cutting the crops, without the wait.", examples=[3.1])
    queue: float = Field(description="Waiting for the device.", examples=[0.4])
    compute: float = Field(description="On the device.", examples=[41.0])


class CropAnswer(BaseModel):
    """One crop's part in the answer."""

    box: tuple[int, int, int, int] = Field(
        description="Left, top, right, bottom in pixels of the upright picture.", examples=[[0, 0, 224, 224]]
    )
    score: float = Field(examples=[69.2])
    stage_weights: tuple[float, ...] | None = Field(None, examples=[[0.1, 0.2, 0.4, 0.3]])


class IntervalAnswer(BaseModel):
    """Where people's mean opinion of the picture lies."""

    low: float = Field(description="Lower end, in points.", examples=[62.4])
    high: float = Field(description="Upper end, in points.", examples=[84.1])
    coverage: float = Field(description="Share of photos whose mean opinion lies within.", examples=[0.9])


class DefectAnswer(BaseModel):
    """One defect of a picture."""

    severity: float = Field(description="0 (none) to 1 (ruins the picture); 0.5 is plain to see.", examples=[0.62])
    probability: float = Field(description="Probability that the picture has it at all.", examples=[0.97])
    close: bool = Field(description="Whether it shows in a close look more than in the whole view.", examples=[True])


class MapAnswer(BaseModel):
    """Where a picture is good and where it is bad: local scores in cells of equal size, over all of the picture."""

    rows: int = Field(description="Cells from top to bottom.", examples=[2], ge=1)
    columns: int = Field(description="Cells from left to right; the longer side has 32.", examples=[3], ge=1)
    scores: list[list[float]] = Field(
        description="0 (worst) to 100 (best), row by row from the top left. They come from closer crops than the "
        "picture's score does, and need not average to it.",
        examples=[[[71.2, 72.9, 74.1], [44.8, 58.3, 73.6]]],
    )
    defects: dict[str, list[list[float]]] | None = Field(
        None,
        description="Severity of each defect that one part of a picture may have and another not, 0 to 1, row by row; "
        "absent where the model finds no defects.",
        examples=[{"noise": [[0.1, 0.0, 0.2], [0.6, 0.7, 0.5]]}],
    )


class ReasonAnswer(BaseModel):
    """A rule of a policy that the picture met."""

    code: str = Field(description="The rule's code, for programs.", examples=["motion_blur"])
    field: str = Field(description="What the rule asks about.", examples=["motion_blur.severity"])
    operator: str = Field(description="How it compares: the picture met this.", examples=[">="])
    value: float | str = Field(description="What the picture has there.", examples=[0.72])
    threshold: float | str = Field(description="What that is compared with.", examples=[0.6])
    severity: float | None = Field(
        description="Severity of the defect, 0 to 1; null if the rule asks about something else.", examples=[0.72]
    )
    message: str = Field(description="What is wrong, for people.", examples=["The photo is blurred by movement."])


class DecisionAnswer(BaseModel):
    """What a policy decides."""

    outcome: Outcome = Field(examples=["reject"])
    reasons: list[ReasonAnswer] = Field(description="The rules with this outcome that the picture met, in order.")
    policy: str = Field(examples=["marketplace"])
    version: str = Field(description="Hash of the policy.", examples=["sha256:f90bf5ce64f2..."])


class ScoreAnswer(BaseModel):
    """The quality of a picture."""

    score: float = Field(description="0 (worst) to 100 (best).", examples=[71.34])
    scale: Scale
    grade: Grade | None = Field(description="Null where the model has no grades.", examples=["good"])
    percentile: float | None = Field(
        description="How many of 100 training photos score lower; null where that is not known.", examples=[83.5]
    )
    raw_score: float = Field(description="On the scale of the training labels.", examples=[0.7134])
    raw_scale: RawScale
    interval: IntervalAnswer | None = Field(
        None, description="Where people's mean opinion lies; absent where the model does not say."
    )
    defects: dict[str, DefectAnswer] | None = Field(
        None,
        description="What may be wrong, by name; absent where the model finds no defects.",
        examples=[{"noise": {"severity": 0.62, "probability": 0.97, "close": True}}],
    )
    std: float | None = Field(
        description="Standard deviation over crops in points; null for one crop or a whole view.", examples=[4.1]
    )
    stderr: float | None = Field(
        description="Standard error of the mean in points; null for one crop or a whole view.", examples=[0.82]
    )
    crops: int = Field(description="Crops that were scored.", examples=[8])
    model: ModelId
    image: ImageFacts
    warnings: list[Warned] = Field(description="What was done to the picture on its way.", examples=[["exif_rotated"]])
    timing_ms: TimingMs
    crop_scores: list[CropAnswer] | None = Field(None, description="With `detail=crops` and `detail=map`.")
    map: MapAnswer | None = Field(None, description="With `detail=map`.")
    decision: DecisionAnswer | None = Field(None, description="With `policy`, or for a key that a policy is bound to.")


class AttentionAnswer(ScoreAnswer):
    """The quality of a picture, and what the model looked at."""

    stage_weights: tuple[float, ...] = Field(
        description="Mean over the crops; they sum to 1.", examples=[[0.12, 0.2, 0.41, 0.27]]
    )
    stages: list[str] = Field(examples=[["stage1", "stage2", "stage3", "stage4"]])


class BatchItem(BaseModel):
    """What became of one of several pictures."""

    index: int = Field(description="Its place in the request, from 0.", examples=[0])
    status: int = Field(description="The status that `/score` would answer with.", examples=[200])
    result: ScoreAnswer | None = Field(None, description="With status 200.")
    problem: ProblemBody | None = Field(None, description="With every other status.")


class BatchAnswer(BaseModel):
    """What became of several pictures, in the order of the request."""

    results: list[BatchItem]


class DifferenceAnswer(BaseModel):
    """A defect in which two pictures differ."""

    defect: DefectName = Field(examples=["noise"])
    first: float = Field(description="Its severity in the first picture.", examples=[0.1])
    second: float = Field(description="Its severity in the second one.", examples=[0.7])


class PairAnswer(BaseModel):
    """Two pictures compared."""

    first: int = Field(description="Place of the first one in the request, from 0.", examples=[0])
    second: int = Field(description="Place of the second one.", examples=[1])
    preferred: float = Field(
        description="Probability that people's mean opinion of the first one is the higher one.", examples=[0.83]
    )
    duplicate: bool = Field(description="Whether both are the same file.", examples=[False])
    because: list[DifferenceAnswer] = Field(description="The defects in which they differ, the greatest first.")


class ComparisonAnswer(BatchAnswer):
    """Several pictures compared."""

    order: list[int] = Field(description="Places of the pictures that have scores, the best first.", examples=[[1, 0]])
    pairs: list[PairAnswer] = Field(description="Each of those with each.")


class WorseAnswer(BaseModel):
    """A defect that a picture has more of than the best of its group."""

    defect: DefectName = Field(examples=["motion_blur"])
    by: float = Field(description="By how much more severe it is.", examples=[0.45])


class MemberAnswer(BaseModel):
    """A picture of a group."""

    index: int = Field(description="Its place in the request, from 0.", examples=[2])
    preferred: float | None = Field(
        description="Probability that people prefer the winner to it; null for the winner, and in a sequence.",
        examples=[0.93],
    )
    worse: list[WorseAnswer] = Field(description="What it has more of than the winner, the greatest difference first.")
    same_file_as: int | None = Field(description="Place of an earlier picture of the same bytes.", examples=[0])


class GroupAnswer(BaseModel):
    """Pictures of one scene."""

    kind: Literal["alike", "single", "bracket", "focus_stack", "panorama"] = Field(
        description="`alike`: nearly equal pictures. `single`: a picture like no other. The others are sequences, "
        "which belong together and are kept whole.",
        examples=["alike"],
    )
    winner: int | None = Field(description="Place of the best picture; null in a sequence.", examples=[0])
    runner_up: int | None = Field(description="Place of the second best that is not the same file.", examples=[2])
    reasons: list[str] = Field(
        description="Codes of what speaks for the winner. `eyes_not_judged`: there are faces, and nobody looked at "
        "their eyes.",
        examples=[["sharpest_in_group", "least_noise"]],
    )
    members: list[MemberAnswer] = Field(description="The best first; of a sequence, in the order of taking.")


class PickAnswer(BatchAnswer):
    """The best of each group of nearly equal pictures."""

    groups: list[GroupAnswer] = Field(description="The groups of the pictures that have scores, by their first one.")


class ModelList(BaseModel):
    """Loaded models; the first is the default."""

    models: list["ModelFacts"]


class ModelFacts(BaseModel):
    """A loaded checkpoint."""

    name: str
    digest: str
    contract: dict[str, object]
    network: dict[str, object]
    parameters: int
    stage_attention: bool
    picks: bool = Field(description="Whether `/pick` works with it.")
    trained_on: str
    licence: str
    figures: dict[str, dict[str, float]]
    devices: list[str]
    precision: str
    batch_shapes: list[int]
    reproducible: bool = Field(description="Whether scores do not depend on batch company, to the last bit.")


class PolicyRule(BaseModel):
    """A rule of a policy."""

    code: str = Field(examples=["motion_blur"])
    outcome: Outcome = Field(examples=["reject"])
    rule: str = Field(examples=["reject when motion_blur.severity >= 0.6"])


class PolicyFacts(BaseModel):
    """A policy."""

    name: str = Field(examples=["marketplace"])
    about: str = Field(description="What it is for.", examples=["Photos of things for sale."])
    version: str = Field(description="Hash of the policy.", examples=["sha256:f90bf5ce64f2..."])
    otherwise: Outcome = Field(description="The outcome where no rule holds.", examples=["accept"])
    rules: list[PolicyRule] = Field(description="In order: the first that holds decides.")
    languages: list[str] = Field(description="Languages beside English that it has messages in.", examples=[["de"]])
    calibration: str | None = Field(
        description="Id of the calibration that corrects the scores; null for none.", examples=["cal-5c59b923a824"]
    )


class PolicyList(BaseModel):
    """The policies that the service knows."""

    policies: list[PolicyFacts]


class Health(BaseModel):
    """State of the service."""

    status: str = Field(examples=["ok"])


class Drain(BaseModel):
    """Whether new work is refused."""

    draining: bool


class Reload(BaseModel):
    """Checkpoints to load."""

    model_config = ConfigDict(extra="forbid")

    checkpoints: tuple[Path, ...] = Field(
        min_length=1,
        description="Configured folders, or folders below the parent of one; the first is the default model.",
        examples=[["checkpoints/default"]],
    )


class Reloaded(BaseModel):
    """Digests of the models by name, before and after."""

    old: dict[str, str] = Field(examples=[{"smart-lite-biq2021": "sha256:43db696da5f5..."}])
    new: dict[str, str] = Field(examples=[{"smart-lite-biq2021": "sha256:5c59b923a824..."}])
