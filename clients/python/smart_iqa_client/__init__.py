"""Client of smart-iqa, a service that scores the perceptual quality of photos."""

from smart_iqa_client.answers import (
    Attention,
    CropScore,
    ImageFacts,
    Model,
    ModelId,
    RawScale,
    Scale,
    Score,
    ScoreMap,
    Timing,
)
from smart_iqa_client.asynchronous import AsyncClient
from smart_iqa_client.calls import Options, ScoreOptions, Source
from smart_iqa_client.client import Client
from smart_iqa_client.common import Outcome, __version__
from smart_iqa_client.errors import (
    BadAnswer,
    DeadlineExceeded,
    KeyRefused,
    NotSupported,
    Overloaded,
    PictureProblem,
    Problem,
    RequestProblem,
    ServiceProblem,
    SmartIQAError,
    TimedOut,
    Unavailable,
    UnknownModel,
    Unreachable,
)
from smart_iqa_client.retries import PATIENT, PROMPT, Retries

__all__ = [
    "PATIENT",
    "PROMPT",
    "AsyncClient",
    "Attention",
    "BadAnswer",
    "Client",
    "CropScore",
    "DeadlineExceeded",
    "ImageFacts",
    "KeyRefused",
    "Model",
    "ModelId",
    "NotSupported",
    "Options",
    "Outcome",
    "Overloaded",
    "PictureProblem",
    "Problem",
    "RawScale",
    "RequestProblem",
    "Retries",
    "Scale",
    "Score",
    "ScoreMap",
    "ScoreOptions",
    "ServiceProblem",
    "SmartIQAError",
    "Source",
    "TimedOut",
    "Timing",
    "Unavailable",
    "UnknownModel",
    "Unreachable",
    "__version__",
]
