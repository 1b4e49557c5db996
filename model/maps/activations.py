"""Activity maps: where the stages of a backbone respond to a picture.

Source: SMART-IQA, long paper, Eq. 18: the mean over channels of the features' magnitudes, scaled to 0..1 per stage.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import Checkpoint
from model.images import Picture
from model.inference.engine import Engine, mean_std, normalise
from model.maps import map_crops
from model.views import Items

Shapes = tuple[tuple[int, int], ...]
"""Height and width of the activity maps of each stage."""
CAP = 4
"""Crops per batch: few, because the feature maps of all stages are held in memory."""


class StageEngine:
    """An engine whose rows are activity maps of the stages of a network, in place of scores.

    The batcher uses it like any other engine. It shares weights, device and stream with the engine that it is made
    from, so only one thread at a time may call either.

    Args:
        engine: A warmed engine of a network with stages.

    Attributes:
        cap: Crops per batch; every batch is padded to it.
        device: Name of the device.
        shapes: Height and width of the activity maps of each stage.
    """

    def __init__(self, engine: Engine) -> None:
        self.cap = CAP
        self.device = engine.device
        self._engine = engine
        side = engine.contract.crop_size
        probed = engine.stages(engine.contract.probe(CAP, (side, side, 3)))
        self.shapes: Shapes = tuple((maps.shape[1], maps.shape[2]) for maps in probed)

    @classmethod
    def of(cls, engine: Engine) -> "StageEngine | None":
        """Make and warm the stage engine of an engine; None if its network has no stages."""
        return cls(engine) if engine.has_stages else None

    def run(self, parts: Sequence[Items]) -> NDArray[np.float32]:
        """Compute the activity maps of a batch.

        Args:
            parts: Crops, each (n, side, side, 3) uint8; together at most ``cap``.

        Returns:
            (N, D) rows: the flattened maps of all stages, one after the other; ``read_stage`` takes them apart.

        Raises:
            RuntimeError: This batch failed; another may succeed.
            DeviceBroken: The device cannot compute any more in this process.
        """
        crops_NHWC = np.concatenate(list(parts))
        count = len(crops_NHWC)
        padded = np.concatenate([crops_NHWC, np.zeros((self.cap - count, *crops_NHWC.shape[1:]), np.uint8)])
        maps = [stage_NHW.reshape(self.cap, -1) for stage_NHW in self._engine.stages(padded)]
        return np.concatenate(maps, axis=1)[:count]


def read_stage(rows_ND: NDArray[np.float32], shapes: Shapes, stage: int) -> NDArray[np.float32]:
    """Extract the activity maps (N, H, W) of one stage, counted from 1, from rows of a stage engine."""
    sizes = [height * width for height, width in shapes]
    begin = sum(sizes[: stage - 1])
    return rows_ND[:, begin : begin + sizes[stage - 1]].reshape(-1, *shapes[stage - 1])


@torch.inference_mode()
def stage_activations(checkpoint: Checkpoint, picture: Picture) -> tuple[Image.Image, list[NDArray[np.float32]]]:
    """Map the activity of the four stages over a whole picture, in the training form of the network.

    Args:
        checkpoint: A checkpoint of a network with stages.
        picture: A picture from ``Contract.decode``.

    Returns:
        The resized picture that the crops were cut from, and for each stage a map (H, W) of its size, from 0 to 1.

    Raises:
        ValueError: The network has no stages.
    """
    contract, network = checkpoint.contract, checkpoint.network
    if contract.view == "tokens":
        raise ValueError(f"{checkpoint.config.name} has no stages to map")
    copy = map_crops.resized(picture, contract)
    cut = map_crops.cut(np.asarray(copy), picture.facts.size, contract)
    device = next(network.parameters()).device
    statistics = mean_std(contract, str(device))
    chunks = []
    for start in range(0, cut.count, CAP):
        crops_NHWC = torch.from_numpy(cut.items[start : start + CAP]).to(device)
        maps = network.activity(normalise(crops_NHWC, statistics))
        if maps is None:
            raise ValueError(f"{checkpoint.config.name} has no stages to map")
        chunks.append([stage_NHW.cpu().numpy() for stage_NHW in maps])
    return copy, [cut.activity_map(np.concatenate(stage)) for stage in zip(*chunks, strict=True)]
