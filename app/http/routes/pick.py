"""``POST /pick``: the best of each group of nearly equal pictures."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from PIL import Image

from app.http import openapi, problems
from app.http.deps import PickRequestDep, ServiceDep
from app.http.problems import Problem
from app.http.schemas import PickAnswer
from app.http.several import Count, UntilAnswered, item, outcomes
from app.http.upload import while_connected
from model.picking.photo import Photo

if TYPE_CHECKING:
    from model.picking.picking import Group

router = APIRouter(tags=["scores"])

LEAST, MOST = 2, 32
"""Pictures that are picked from at a time, at least and at most."""


@router.post(
    "/pick",
    response_model=PickAnswer,
    response_model_exclude_unset=True,
    responses={**openapi.PICTURE_PROBLEMS, **problems.responses("picking_not_supported", "too_few_files")},
    openapi_extra=openapi.pictures_body(f"{LEAST} to {MOST}"),
    summary="Name the best of nearly equal pictures",
)
async def pick(http: Request, service: ServiceDep, stack: UntilAnswered, request: PickRequestDep) -> dict[str, Any]:
    """Group two to thirty-two pictures by what they show, and name the best of each group.

    Exposure brackets, focus stacks and panoramas are told, and kept whole. A picture that cannot be scored has a
    problem of its own, and the others are picked from.
    """
    tasks = await outcomes(http, service, stack, request, Count(LEAST, MOST))
    done = await while_connected(http, asyncio.gather(*tasks))
    photos: dict[int, Photo] = {}
    previews: dict[int, Image.Image] = {}
    for index, outcome in enumerate(done):
        if not isinstance(outcome, Problem):
            assert outcome.look is not None
            assert outcome.preview is not None
            photos[index] = Photo.of("", outcome.score, outcome.look)
            previews[index] = outcome.preview
    found = await while_connected(http, asyncio.to_thread(_pick, [*photos.values()], [*previews.values()]))
    groups = [_placed(group.to_dict(), [*photos]) for group in found]
    results = [item(http, index, outcome, request) for index, outcome in enumerate(done)]
    return {"groups": groups, "results": results}


def _pick(photos: Sequence[Photo], previews: Sequence[Image.Image]) -> "list[Group]":
    """Group and rank photos, and look for faces in the best of each group; takes tens of milliseconds a photo."""
    from model.picking import faces, picking

    return faces.told(picking.pick(photos), lambda member: faces.found(previews[member.place]))


def _placed(group: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """A group whose pictures are numbered as in the request, those that could not be scored included."""

    def at(place: int | None) -> int | None:
        return None if place is None else places[place]

    members = [
        {**member, "index": at(member["index"]), "same_file_as": at(member["same_file_as"])}
        for member in group["members"]
    ]
    return {**group, "winner": at(group["winner"]), "runner_up": at(group["runner_up"]), "members": members}
