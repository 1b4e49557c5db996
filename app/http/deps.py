"""FastAPI dependencies of the routes: the service, and a typed ``ScoreRequest`` built from the parameters.

Parameters that several routes share are declared here, once.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query as QueryParameter
from pydantic import Field

from app.batching.submission import Priority
from app.http.problems import Problem, unknown
from app.observability.access import RequestRecord
from app.scoring.request import Detail, ScoreRequest
from app.scoring.service import Service
from model.contract import MAX_CROPS
from model.crop_rounds import TOLERANCE
from model.maps import map_crops
from model.policies import ENGLISH, language_of

ModelQuery = Annotated[str | None, Query(description="Name of a loaded model; the default one if left out.")]
CropsQuery = Annotated[
    Annotated[int, Field(ge=1, le=MAX_CROPS)] | Literal["auto"] | None,
    Query(
        description="Crops to score; the model's own count if left out. `auto` scores as many of those as it needs "
        f"for a standard error of {TOLERANCE:g} points."
    ),
]
DetailQuery = Annotated[
    Detail | None,
    Query(
        description="`crops` adds each crop's box, score and stage weights; `map` also where the picture is good and "
        f"where it is bad, for up to {map_crops.MAX_CROPS} crops more, which have no part in the score."
    ),
]
PolicyQuery = Annotated[
    str | None,
    Query(description="Policy that decides about the picture; that of the key, if it has one, if left out."),
]
LanguageHeader = Annotated[
    str,
    Header(
        alias="Accept-Language",
        description="Language of a decision's reasons, where the policy has messages in it; else English.",
    ),
]
PriorityHeader = Annotated[
    Literal["interactive", "bulk"], Header(alias="X-Priority", description="`bulk` waits behind interactive requests.")
]
IfNoneMatchHeader = Annotated[
    str | None,
    Header(alias="If-None-Match", description="`ETag` of an earlier answer: 304 if it would be the same again."),
]
DeadlineHeader = Annotated[
    int | None,
    Header(
        alias="X-Deadline-Ms",
        ge=1,
        description="Milliseconds after which the answer is of no use any more; never longer than the service's own.",
    ),
]
BatchPriorityHeader = Annotated[
    Literal["interactive", "bulk"],
    Header(alias="X-Priority", description="`bulk`, the default here, waits behind interactive requests."),
]
StageQuery = Annotated[
    int | None,
    Query(
        ge=1,
        le=4,
        description="Colours the picture by how active that stage is there, whatever its weight: from dark blue by red "
        "to light yellow.",
    ),
]


def get_service(http: Request) -> Service:
    """The service of this application."""
    service: Service = http.app.state.service
    return service


async def known_parameters(http: Request) -> None:
    """Refuse query parameters that the route does not have."""
    if http.query_params:
        parameters = get_flat_params(http.scope["route"].dependant)
        known = [each.alias for each in parameters if isinstance(each.field_info, QueryParameter)]
        for name in http.query_params:
            if name not in known:
                raise unknown(name, known, "among the query parameters here")


ServiceDep = Annotated[Service, Depends(get_service)]


@dataclass(frozen=True)
class Parameters:
    """Parameters of every route that takes pictures; FastAPI fills it in."""

    http: Request
    service: ServiceDep
    model: ModelQuery = None
    crops: CropsQuery = None
    detail: DetailQuery = None
    policy: PolicyQuery = None
    language: LanguageHeader = ""
    deadline_ms: DeadlineHeader = None

    def request(
        self, priority: str, *, overlay: bool = False, stage: int | None = None, pick: bool = False
    ) -> ScoreRequest:
        """Build the ``ScoreRequest`` of a route.

        Args:
            priority: Name of a ``Priority``, in lower case.
            overlay: Whether the answer is the picture, tinted by the stage weights.
            stage: The stage whose activity is drawn; None for a score.
            pick: Whether the best of the pictures is to be named.

        Raises:
            NotReady, UnknownModel: The named model, or any model, is not loaded.
            UnknownPolicy: The named policy is not there.
            Problem: The model does not support the request, or the queue can never hold its crops.
        """
        settings = self.service.settings
        model = self.service.model(self.model)
        name = model.config.name
        record: RequestRecord = self.http.state.record
        record.model = name
        if stage is not None and not model.stage_shapes:
            raise Problem("stages_not_supported", f"the network of {name} has no stages")
        seconds = settings.deadline_seconds
        if self.deadline_ms is not None:
            # Compared in milliseconds: some of these integers are too large for a float.
            seconds = min(self.deadline_ms, seconds * 1000) / 1000
        owner = getattr(self.http.state, "key", "")
        policies = self.service.policies
        policy = policies.for_key(owner) if self.policy is None else policies[self.policy]
        if overlay or stage is not None:
            # The answer is a picture, which has no room for a decision.
            policy = None
        lacking = policy.lacking(model.config.contract, model.digest) if policy is not None else None
        if policy is not None and lacking is not None:
            raise Problem("policy_not_supported", f"{policy.name} asks for {lacking}, which {name} does not tell")
        request = ScoreRequest(
            model=model,
            crops=self.crops if stage is None else None,
            detail=self.detail,
            overlay=overlay,
            stage=stage,
            pick=pick,
            priority=Priority[priority.upper()],
            owner=owner,
            policy=policy,
            language=language_of(self.language, policy.languages) if policy is not None else ENGLISH,
            seconds=seconds,
            record=record,
        )
        if request.needs_map and model.config.contract.view == "tokens":
            raise Problem("map_not_supported", f"{name} sees whole pictures, so it has no local scores")
        if request.max_crops > settings.max_queue_crops:
            # Not 429, with which the client would retry for ever.
            raise Problem(
                "invalid_parameter",
                f"crops: the queue never has room for {request.max_crops}, those of the map included",
            )
        return request


@dataclass(frozen=True)
class View:
    """What had ``/attention`` answer as ``/attention/overlay`` does, which is deprecated; FastAPI fills it in.

    Not in the OpenAPI document: an operation has one media type there.
    """

    overlay: Annotated[Literal["png"] | None, Query(include_in_schema=False)] = None
    stage: Annotated[int | None, Query(ge=1, le=4, include_in_schema=False)] = None


async def _if_none_match(_: IfNoneMatchHeader = None) -> None:
    """Declare the header for OpenAPI; ``upload.py`` reads it from the request."""


ParametersDep = Annotated[Parameters, Depends()]
IfNoneMatch = Annotated[None, Depends(_if_none_match)]


async def _score_request(
    parameters: ParametersDep, _: IfNoneMatch, priority: PriorityHeader = "interactive"
) -> ScoreRequest:
    return parameters.request(priority)


async def _batch_request(parameters: ParametersDep, priority: BatchPriorityHeader = "bulk") -> ScoreRequest:
    return parameters.request(priority)


async def _attention_request(
    parameters: ParametersDep,
    view: Annotated[View, Depends()],
    _: IfNoneMatch,
    priority: PriorityHeader = "interactive",
) -> ScoreRequest:
    return _of_stages(parameters, priority, overlay=view.overlay is not None, stage=view.stage)


async def _overlay_request(
    http: Request,
    service: ServiceDep,
    _: IfNoneMatch,
    model: ModelQuery = None,
    crops: CropsQuery = None,
    stage: StageQuery = None,
    deadline_ms: DeadlineHeader = None,
    priority: PriorityHeader = "interactive",
) -> ScoreRequest:
    parameters = Parameters(http=http, service=service, model=model, crops=crops, deadline_ms=deadline_ms)
    return _of_stages(parameters, priority, overlay=True, stage=stage)


def _of_stages(parameters: Parameters, priority: str, *, overlay: bool, stage: int | None) -> ScoreRequest:
    model = parameters.service.model(parameters.model)
    if stage is None and not model.stage_attention:
        raise Problem("attention_not_supported", f"{model.config.name} does not weigh its stages")
    return parameters.request(priority, overlay=overlay, stage=stage)


async def _compare_request(parameters: ParametersDep, priority: PriorityHeader = "interactive") -> ScoreRequest:
    request = parameters.request(priority)
    if request.model.config.contract.interval is None:
        name = request.model.config.name
        raise Problem("comparison_not_supported", f"{name} gives no intervals, from which probabilities follow")
    return request


async def _pick_request(parameters: ParametersDep, priority: PriorityHeader = "interactive") -> ScoreRequest:
    request = parameters.request(priority, pick=True)
    if request.model.cannot_pick:
        raise Problem("picking_not_supported", request.model.cannot_pick)
    return request


ScoreRequestDep = Annotated[ScoreRequest, Depends(_score_request)]
BatchRequestDep = Annotated[ScoreRequest, Depends(_batch_request)]
CompareRequestDep = Annotated[ScoreRequest, Depends(_compare_request)]
PickRequestDep = Annotated[ScoreRequest, Depends(_pick_request)]
AttentionRequestDep = Annotated[ScoreRequest, Depends(_attention_request)]
OverlayRequestDep = Annotated[ScoreRequest, Depends(_overlay_request)]
