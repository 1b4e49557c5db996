"""From the bytes of a picture to its score, without the service: ``from model import QualityScore, Scorer``.

A picture passes these modules in this order:

    images           decodes bytes to upright sRGB pixels
    contract         resizes pixels and cuts work items (crops, tokens, a whole view and a close look); converts outputs
                     to scores of 0 to 100. grid (where crops lie), details (where to look closely), tokens,
                     token_shapes, domain (like the training photos?), scale, interval are parts of it, views its types
    crop_rounds      the items of a picture in rounds; ``crops="auto"``: as few crops as a sure score needs
    inference/       the engine: runs a network on a device in batches
    networks/        the networks, in training form
    score            from the outputs of a picture's items to its ``QualityScore``; defects has the defects' names

Around them:

    checkpoint       the folder with weights, contract and figures
    scorer           all of the above in one call; picture_source lists what it accepts as a picture
    golden           checks at start-up that a checkpoint gives its recorded scores
    maps/            quality maps and overlays
    comparison       which of several pictures people prefer, and how sure that is
    policies/        rules that decide about a score: accept, review or reject, with reasons
    options          device, precision, the default checkpoint's folder

Nothing here imports ``app``, ``training`` or ``cli``; they may import all of it. ``networks`` imports nothing of the
others but ``token_shapes``, ``defects`` and ``interval``. Settings, decoders and results do without torch, so it must
not be imported by ``options``, ``images``, ``contract``, ``crop_rounds``, ``score``, ``policies``, ``maps.map_crops``,
``maps.overlay``, ``inference.allocator`` and ``inference.processors``.
"""

from typing import TYPE_CHECKING, Any

from model.score import QualityScore

if TYPE_CHECKING:
    from model.scorer import Scorer

__all__ = ["QualityScore", "Scorer"]


def __getattr__(name: str) -> Any:
    if name == "Scorer":
        from model.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
