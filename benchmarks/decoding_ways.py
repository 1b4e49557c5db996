"""Ways from a picture's bytes to the size that crops are cut from: ours, and alternatives with other libraries."""

import importlib
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.contract import SCALED_MARGIN, Contract

JPEG = b"\xff\xd8"
OURS = "ours, full"
BILINEAR = Image.Resampling.BILINEAR

Pixels = NDArray[np.uint8]
Way = Callable[[bytes, Contract], Pixels]
"""Gives RGB (H, W, 3) of the contract's size."""


def ours(data: bytes, contract: Contract) -> Pixels:
    """The service's own way."""
    return np.asarray(contract.resized(contract.decode(data)))


def ours_scaled(data: bytes, contract: Contract) -> Pixels:
    """The same with a contract that asks for scaled decoding."""
    return ours(data, replace(contract, decoding="scaled"))


def pillow(data: bytes, contract: Contract, *, draft: bool = False, gap: float | None = None) -> Pixels:
    """Pillow alone, in the shortest form."""
    image = Image.open(io.BytesIO(data))
    target = contract.target_size(*image.size)
    if draft:
        image.draft("RGB", (SCALED_MARGIN * target[0], SCALED_MARGIN * target[1]))
    return np.asarray(image.convert("RGB").resize(target, BILINEAR, reducing_gap=gap))


def takes(way: str, data: bytes) -> bool:
    """Whether a way is one for this picture's format."""
    return data.startswith(JPEG) or way not in JPEG_ONLY


def ways() -> tuple[dict[str, Way], list[str]]:
    """All ways that can be tried here, and the peers that are missing."""
    found: dict[str, Way] = {
        OURS: ours,
        "ours, scaled": ours_scaled,
        "Pillow, full": pillow,
        "Pillow, draft": lambda data, contract: pillow(data, contract, draft=True),
        "Pillow, reducing_gap": lambda data, contract: pillow(data, contract, gap=SCALED_MARGIN),
    }
    missing = []
    for name, make in PEERS.items():
        try:
            found |= make(importlib.import_module(name))
        except ImportError:
            missing.append(name)
    return found, missing


def opencv_ways(cv2: Any) -> dict[str, Way]:
    """OpenCV's decoders and its averaging resize; one thread, as a decoder thread of the service would have."""
    cv2.setNumThreads(1)
    scales = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

    def decode(data: bytes, contract: Contract, *, reduced: bool) -> Pixels:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        target = contract.target_size(width, height)
        most = min(width // target[0], height // target[1]) // SCALED_MARGIN if reduced else 1
        flag = next((flag for scale, flag in scales.items() if most >= scale), cv2.IMREAD_COLOR)
        pixels_HWC = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        resized: Pixels = cv2.cvtColor(cv2.resize(pixels_HWC, target, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        return resized

    return {
        "OpenCV, full": lambda data, contract: decode(data, contract, reduced=False),
        "OpenCV, reduced": lambda data, contract: decode(data, contract, reduced=True),
    }


PEERS: dict[str, Callable[[Any], dict[str, Way]]] = {"cv2": opencv_ways}
JPEG_ONLY = ("ours, scaled", "Pillow, draft", "OpenCV, reduced")
